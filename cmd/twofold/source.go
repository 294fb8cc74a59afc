package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/twofold-ml/twofold/internal/definition"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/online"
)

// publishedDefinitions is the name under which the online store keeps the definitions that `twofold apply` published.
const publishedDefinitions = "definitions"

// content is definitions as they stand where they are kept.
type content struct {
	files []definition.File
	// published is what `twofold apply` published, where there are no files.
	published []byte
}

// sum is another for any other content.
func (c content) sum() [sha256.Size]byte {
	h := sha256.New()
	add := func(b []byte) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		h.Write(b)
	}
	add(c.published)
	for _, f := range c.files {
		add([]byte(f.Name))
		add(f.Data)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// parse reads and checks the definitions.
func (c content) parse(defaults definition.Defaults) (*definition.Set, error) {
	if c.published != nil {
		return definition.Unmarshal(c.published, defaults)
	}
	return definition.Parse(c.files, defaults)
}

// definitionSource is where a process has its definitions from.
type definitionSource struct {
	// path is a file, a folder or an s3:// URL; empty for the definitions that were published.
	path    string
	offline *offline.Store
	online  *online.Store
	// onlineName says where the online store is.
	onlineName string

	// listed are the objects that were read last, and read their texts: they are read again only when they are others.
	listed []offline.FileInfo
	read   []definition.File
}

// String says where the definitions come from.
func (d *definitionSource) String() string {
	if d.path == "" {
		return "published in the online store"
	}
	return d.path
}

// content returns the definitions as they stand now. That there are none is an error of kind Precondition.
func (d *definitionSource) content(ctx context.Context) (content, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	switch {
	case d.path == "":
		return d.published(ctx)
	case isObject(d.path):
		files, err := d.objects(ctx)
		return content{files: files}, err
	default:
		files, err := definition.ReadFiles(d.path)
		return content{files: files}, err
	}
}

func (d *definitionSource) published(ctx context.Context) (content, error) {
	values, err := d.online.GetMeta(ctx, []string{publishedDefinitions})
	if err != nil {
		return content{}, err
	}
	if values[0] == nil {
		return content{}, fault.New(fault.Precondition, "there are no definitions: none are published in the online store (%s); "+
			"publish some with `twofold apply --definitions FOLDER`, or name files with --definitions", d.onlineName)
	}
	return content{published: values[0]}, nil
}

// isObject reports whether definitions are an object or prefix of S3.
func isObject(path string) bool { return strings.HasPrefix(path, "s3://") }

// objects reads definitions from S3.
func (d *definitionSource) objects(ctx context.Context) ([]definition.File, error) {
	listed, err := d.offline.ListFiles(ctx, d.path, ".yaml", ".yml")
	if err != nil {
		return nil, fmt.Errorf("definitions: %w", err)
	}
	if d.read != nil && slices.Equal(listed, d.listed) {
		return d.read, nil
	}
	files := make([]definition.File, len(listed))
	for i, f := range listed {
		data, err := d.offline.ReadFile(ctx, f, definition.MaxFileBytes)
		if err != nil {
			return nil, fmt.Errorf("definitions: %w", err)
		}
		files[i] = definition.File{Name: f.URL, Data: data}
	}
	d.listed, d.read = listed, files
	return files, nil
}
