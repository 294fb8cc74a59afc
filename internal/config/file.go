package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// maxFileBytes bounds a configuration file.
const maxFileBytes = 1 << 20

// fileValue is one scalar of a configuration file.
type fileValue struct {
	text string
	line int
}

// readFile reads the configuration file that in names and sets l.File.
func (l *Loaded) readFile(in Input) (map[string]fileValue, error) {
	path, named := in.File, in.File != ""
	if text, ok := l.env[fileEnv]; ok {
		path, named = text, true
	}
	if in.Flags != nil {
		if flag := in.Flags.Lookup(fileFlag); flag != nil && flag.Changed {
			path, named = flag.Value.String(), true
		}
	}
	if path == "" {
		path = DefaultFile
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil, nil
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "configuration file: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err != nil {
		return nil, fault.New(fault.Invalid, "configuration file: %w", err)
	}
	if len(data) > maxFileBytes {
		return nil, fault.New(fault.Invalid, "configuration file %s is larger than %v; is it the right file?", path, Bytes(maxFileBytes))
	}
	l.File = path
	return parseFile(path, data)
}

// parseFile returns the scalars of a YAML configuration file by key. It refuses keys that Config does not have.
func parseFile(path string, data []byte) (map[string]fileValue, error) {
	var document yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, fault.New(fault.Invalid, "configuration file %s: %w", path, err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fault.New(fault.Invalid, "configuration file %s: it must hold one YAML document", path)
	}
	p := fileParser{path: path, values: map[string]fileValue{}}
	p.walk(document.Content[0], "")
	if len(p.errs) > 0 {
		return nil, &fault.Error{Kind: fault.Invalid, Err: errors.Join(p.errs...)}
	}
	return p.values, nil
}

type fileParser struct {
	path   string
	values map[string]fileValue
	errs   []error
}

func (p *fileParser) fail(n *yaml.Node, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s:%d:%d: %s", p.path, n.Line, n.Column, fmt.Sprintf(format, args...)))
}

// walk collects the mapping n, whose keys stand below prefix ("" or "s3.").
func (p *fileParser) walk(n *yaml.Node, prefix string) {
	if n.Kind != yaml.MappingNode {
		where := "the file"
		if prefix != "" {
			where = strings.TrimSuffix(prefix, ".")
		}
		if n.Tag != "!!null" {
			p.fail(n, "%s must hold keys with values", where)
		}
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		key := prefix + name.Value
		switch {
		case seen[key]:
			p.fail(name, "%s is set twice", key)
		case isKey(key):
			p.scalar(key, value)
		case isPrefix(key):
			p.walk(value, key+".")
		default:
			p.fail(name, "unknown setting %q%s", key, didYouMean(key))
		}
		seen[key] = true
	}
}

func (p *fileParser) scalar(key string, value *yaml.Node) {
	switch {
	case value.Kind == yaml.SequenceNode && isList(key):
		p.values[key] = fileValue{p.items(key, value), value.Line}
	case value.Kind != yaml.ScalarNode:
		p.fail(value, "%s must be one value", key)
	case value.Tag != "!!null":
		p.values[key] = fileValue{value.Value, value.Line}
	}
}

func isKey(key string) bool {
	return slices.ContainsFunc(Fields(), func(f Field) bool { return f.Key == key })
}

// items returns the elements of a list with commas between.
func (p *fileParser) items(key string, list *yaml.Node) string {
	var items []string
	for _, n := range list.Content {
		if n.Kind != yaml.ScalarNode || strings.Contains(n.Value, ",") {
			p.fail(n, "an element of %s must be one text without a comma", key)
			continue
		}
		items = append(items, n.Value)
	}
	return strings.Join(items, ",")
}

func isList(key string) bool {
	return slices.ContainsFunc(Fields(), func(f Field) bool {
		_, ok := f.value(&Config{}).Interface().(List)
		return ok && f.Key == key
	})
}

func isPrefix(key string) bool {
	return slices.ContainsFunc(Fields(), func(f Field) bool { return strings.HasPrefix(f.Key, key+".") })
}

// didYouMean names the known key that is nearest to an unknown one, if one is near.
func didYouMean(unknown string) string {
	var keys []string
	for _, f := range Fields() {
		// The flag's spelling, and the flat one of the environment.
		if strings.EqualFold(strings.ReplaceAll(unknown, "_", "-"), f.Flag) {
			return fmt.Sprintf("; did you mean %q?", f.Key)
		}
		keys = append(keys, f.Key)
	}
	return orList(feature.DidYouMean(unknown, keys))
}

// orList is a suggestion, else how to find one.
func orList(suggestion string) string {
	if suggestion == "" {
		return "; `twofold config` lists all settings"
	}
	return suggestion
}
