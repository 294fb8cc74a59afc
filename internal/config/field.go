package config

import (
	_ "embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
)

// EnvPrefix starts the environment variable of every setting.
const EnvPrefix = "TWOFOLD_"

// Field is one setting: how it is named in each place where it can be set.
type Field struct {
	// Key is its place in the configuration file, for example "s3.endpoint".
	Key string
	// Flag is its flag without dashes, for example "s3-endpoint".
	Flag string
	// Env is its own environment variable, for example "TWOFOLD_S3_ENDPOINT".
	Env string
	// Aliases are further environment variables that set it, the first of them that is set; Env comes before them.
	Aliases []string
	// Doc is what it means, its unit and its default.
	Doc string

	index []int
}

// value returns the place of the field in c.
func (f Field) value(c *Config) reflect.Value { return reflect.ValueOf(c).Elem().FieldByIndex(f.index) }

// Text returns the field's value in c as it would be written in a file, secrets hidden.
func (f Field) Text(c Config) string { return textOf(f.value(&c)) }

// Fields returns every setting in the order of Config.
var Fields = sync.OnceValue(func() []Field {
	return collect(reflect.TypeFor[Config](), docs(), "", nil)
})

func collect(t reflect.Type, docs map[string]string, prefix string, index []int) []Field {
	var fields []Field
	for i := range t.NumField() {
		sf := t.Field(i)
		key := prefix + sf.Tag.Get("yaml")
		at := append(index[:len(index):len(index)], i)
		if isGroup(sf.Type) {
			fields = append(fields, collect(sf.Type, docs, key+".", at)...)
			continue
		}
		flat := strings.ReplaceAll(key, ".", "_")
		f := Field{
			Key:   key,
			Flag:  strings.ReplaceAll(flat, "_", "-"),
			Env:   EnvPrefix + strings.ToUpper(flat),
			Doc:   docs[t.Name()+"."+sf.Name],
			index: at,
		}
		if aliases := sf.Tag.Get("env"); aliases != "" {
			f.Aliases = strings.Split(aliases, ",")
		}
		fields = append(fields, f)
	}
	return fields
}

// isGroup reports whether a field's type holds further fields.
func isGroup(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[time.Time](), reflect.TypeFor[Secret](), reflect.TypeFor[SecretURL]():
		return false
	}
	return t.Kind() == reflect.Struct
}

//go:embed config.go
var source string

// docs returns the comment of every struct field of config.go, by "Type.Field", on one line.
func docs() map[string]string {
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", source, parser.ParseComments)
	if err != nil {
		panic("config: " + err.Error()) // the compiler has read the same text
	}
	out := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if s, ok := spec.Type.(*ast.StructType); ok {
			for _, field := range s.Fields.List {
				for _, name := range field.Names {
					out[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(field.Doc.Text()), " ")
				}
			}
		}
		return false
	})
	return out
}

// set reads text into v.
func set(v reflect.Value, text string) error {
	switch p := v.Addr().Interface().(type) {
	case *string:
		*p = text
	case *Secret:
		*p = NewSecret(text)
	case *SecretURL:
		*p = NewSecretURL(text)
	case *Toggle:
		*p = Toggle(text)
		return oneOf(text, string(Auto), string(On), string(Off))
	case *LogLevel:
		*p = LogLevel(text)
		return oneOf(text, "debug", "info", "warn", "error")
	case *LogFormat:
		*p = LogFormat(text)
		return oneOf(text, "text", "json")
	case *time.Duration:
		d, err := parseDuration(text)
		*p = d
		return err
	case *Bytes:
		b, err := parseBytes(text)
		*p = b
		return err
	case *Memory:
		m, err := parseMemory(text)
		*p = m
		return err
	case *List:
		*p = List(text)
	case *bool:
		*p = text == "true"
		return oneOf(text, "true", "false")
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		*p = n
	case *time.Time:
		return setTime(p, text)
	default:
		panic(fmt.Sprintf("config: no way to read a %v", v.Type()))
	}
	return nil
}

func setTime(p *time.Time, text string) error {
	if text == "" {
		*p = time.Time{}
		return nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return fmt.Errorf("%q is not an RFC 3339 time; write for example 2013-07-01T12:00:00Z", text)
	}
	*p = t
	return nil
}

// textOf is the reverse of set, secrets hidden.
func textOf(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Time:
		if x.IsZero() {
			return ""
		}
		return x.Format(time.RFC3339Nano)
	case time.Duration:
		return FormatDuration(x)
	default:
		return fmt.Sprint(x)
	}
}

// FormatDuration returns d without zero parts: "5m", not "5m0s".
func FormatDuration(d time.Duration) string {
	text := d.String()
	if rest, ok := strings.CutSuffix(text, "m0s"); ok {
		text = rest + "m"
	}
	if rest, ok := strings.CutSuffix(text, "h0m"); ok {
		text = rest + "h"
	}
	return text
}

// kindOf names a field's type for help.
func kindOf(v reflect.Value) string {
	switch v.Interface().(type) {
	case time.Duration:
		return "duration"
	case time.Time:
		return "time"
	case Bytes:
		return "size"
	case Memory:
		return "size|share"
	case List:
		return "list"
	case bool:
		return "true|false"
	case int:
		return "number"
	case Secret:
		return "secret"
	case SecretURL:
		return "url"
	case Toggle:
		return "auto|true|false"
	case LogLevel:
		return "debug|info|warn|error"
	case LogFormat:
		return "text|json"
	default:
		return "text"
	}
}
