package offline

import (
	"context"
	"fmt"
	"slices"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// Schema is what the files of a path hold.
type Schema struct {
	// Path is the URL or pattern that the files were found by.
	Path string
	// File is the file that the columns are of: the last one in the canonical order, which is the newest where names hold dates.
	File File
	// Files and Rows count all files.
	Files int
	Rows  int64
	// Columns are the columns of File in their order, then those that only other files have, then the Hive partitions.
	Columns []SchemaColumn
}

// SchemaColumn is one column.
type SchemaColumn struct {
	// Name as definitions write it; nested columns have dots ("a.b").
	Name string
	// Type that the column has by itself in File, or, where it cannot be read so in every file, in one whose type can; 0 where it
	// cannot be read, or has to be declared.
	Type feature.Type
	// Reason says why Type is 0, and how to mend it.
	Reason string
	// Nullable reports whether rows may be null.
	Nullable bool
	// Partition reports whether the value is in the names of folders. Its type is inferred: INT64, TIMESTAMP or STRING.
	Partition bool
	// Stored says how the values are stored, in Parquet's words.
	Stored string
	// MissingFiles counts the files that do not have the column; MissingIn is the URL of the first of them.
	MissingFiles int
	MissingIn    string
	// HiddenIn is the URL of the first file that stores a column of this name too, which the partition hides; empty where none does.
	HiddenIn string

	forms      []form
	partitions []partition
}

// form is one way in which files store a column.
type form struct {
	column column
	// in is the first file that stores it so.
	in location
}

// CanRead says why a column cannot be read as a type in every file that has it, and how to mend it, or gives nil. Where files
// differ, the error names one of them.
func (c SchemaColumn) CanRead(t feature.Type) error {
	for _, p := range c.partitions {
		if _, err := p.column(t); err != nil {
			return fault.New(fault.Precondition, "partition column %q: %w", c.Name, err)
		}
	}
	for _, f := range c.forms {
		if err := f.column.canRead(t); err != nil {
			where := ""
			if len(c.forms) > 1 || c.Partition {
				where = " in " + f.in.String()
			}
			return fault.New(fault.Precondition, "column %q is %s%s, not %v: %w", c.Name, f.column.found(), where, t, err)
		}
	}
	return nil
}

// Column gives the column of that exact name.
func (s *Schema) Column(name string) (SchemaColumn, bool) {
	i := slices.IndexFunc(s.Columns, func(c SchemaColumn) bool { return c.Name == name })
	if i < 0 {
		return SchemaColumn{}, false
	}
	return s.Columns[i], true
}

// Schema describes what the files of a source path hold. It reads all footers.
func (s *Store) Schema(ctx context.Context, path string) (*Schema, error) {
	sources, err := s.sources(ctx, path, nil)
	if err != nil {
		return nil, err
	}
	at, err := s.Resolve(path)
	if err != nil {
		return nil, err
	}
	return schemaOf(at, sources), nil
}

func schemaOf(path string, sources []*source) *Schema {
	newest := sources[len(sources)-1]
	b := schemaBuilder{sources: sources, columns: map[string]*SchemaColumn{}, files: map[string]int{}}
	b.add(newest)
	for _, s := range sources[:len(sources)-1] {
		b.add(s)
	}
	schema := &Schema{Path: path, File: fileOf(newest.object), Files: len(sources)}
	for _, s := range sources {
		schema.Rows += s.footer.rows
	}
	for _, partitions := range []bool{false, true} {
		for _, name := range b.names {
			if c := b.columns[name]; c.Partition == partitions {
				b.finish(c)
				schema.Columns = append(schema.Columns, *c)
			}
		}
	}
	return schema
}

// schemaBuilder collects the columns of files.
type schemaBuilder struct {
	sources []*source
	// names are the columns in the order in which they were found.
	names   []string
	columns map[string]*SchemaColumn
	// files counts the files that have a column.
	files map[string]int
}

// add takes in the columns of a file. A partition hides a stored column of its name.
func (b *schemaBuilder) add(s *source) {
	for _, c := range s.footer.columns {
		column := b.column(c.name)
		if _, hidden := findPartition(s.partitions, c.name); hidden {
			if column.HiddenIn == "" {
				column.HiddenIn = s.object.at.String()
			}
			continue
		}
		b.files[c.name]++
		column.Nullable = column.Nullable || c.nullable
		if !slices.ContainsFunc(column.forms, func(f form) bool { return f.column.sameForm(c) }) {
			column.forms = append(column.forms, form{c, s.object.at})
		}
	}
	for _, p := range s.partitions {
		column := b.column(p.name)
		column.Partition = true
		column.Nullable = column.Nullable || p.null
		column.partitions = append(column.partitions, p)
		b.files[p.name]++
	}
}

func (b *schemaBuilder) column(name string) *SchemaColumn {
	c, ok := b.columns[name]
	if !ok {
		c = &SchemaColumn{Name: name}
		b.columns[name] = c
		b.names = append(b.names, name)
	}
	return c
}

// finish sets what only all files together tell about a column.
func (b *schemaBuilder) finish(c *SchemaColumn) {
	if c.Partition {
		c.Type, c.Stored = inferType(c.partitions), "folders "+c.Name+"=…"
		if c.CanRead(c.Type) != nil { // other files store it otherwise
			c.Type = feature.String
		}
	} else {
		first := c.forms[0].column
		c.Type, c.Reason, c.Stored = first.natural, first.reason, listPrefix(first)+describe(first.descr)
		for _, f := range c.forms {
			if t := f.column.natural; t != 0 && c.CanRead(t) == nil {
				c.Type, c.Reason = t, ""
				break
			}
		}
	}
	if c.MissingFiles = len(b.sources) - b.files[c.Name]; c.MissingFiles > 0 {
		c.Nullable = true
		i := slices.IndexFunc(b.sources, func(s *source) bool { return !s.has(c.Name) })
		c.MissingIn = b.sources[i].object.at.String()
	}
}

// has reports whether a file has a column, stored or in the names of its folders.
func (s *source) has(name string) bool {
	_, stored := findColumn(s.footer.columns, name)
	_, partitioned := findPartition(s.partitions, name)
	return stored || partitioned
}

// Rows are the rows of Parquet files that belong to no view, for example the entity rows of a training set.
type Rows struct {
	schema  *Schema
	sources []*source
}

// OpenRows finds the files of a path, as in a view's source, and reads their footers.
func (s *Store) OpenRows(ctx context.Context, path string) (*Rows, error) {
	sources, err := s.sources(ctx, path, nil)
	if err != nil {
		return nil, err
	}
	at, err := s.Resolve(path)
	if err != nil {
		return nil, err
	}
	return &Rows{schemaOf(at, sources), sources}, nil
}

// RowsIn reads the footer of a Parquet file in memory, for example one that came through standard input. name is for messages.
func RowsIn(ctx context.Context, name string, data []byte) (*Rows, error) {
	o := object{at: location{name: name}, size: int64(len(data))}
	d := memoryDriver{data}
	f, err := readFooter(ctx, d, o, new(schemaCache))
	if err != nil {
		return nil, err
	}
	sources := []*source{{driver: d, object: o, footer: f}}
	return &Rows{schemaOf(name, sources), sources}, nil
}

// Schema describes the columns.
func (r *Rows) Schema() *Schema { return r.schema }

// NumRows is the number of rows in all files.
func (r *Rows) NumRows() int64 { return r.schema.Rows }

// RowColumn names a column to read, and the type to read it as. Type 0 is the column's own.
type RowColumn struct {
	Name string
	Type feature.Type
}

// Readable gives the columns that can be read without being declared, in their order, with their own types.
func (r *Rows) Readable() []RowColumn {
	var columns []RowColumn
	for _, c := range r.schema.Columns {
		if c.Type != 0 {
			columns = append(columns, RowColumn{c.Name, c.Type})
		}
	}
	return columns
}

// Read streams the columns in the order of the files and of the rows in them, at most 8,192 rows at once. A batch is valid only until
// yield returns; an error of yield ends the stream and is returned as it is. A column that only some files have is null in the others.
// An unknown column, or one that cannot be read as its type, is an error of kind Precondition.
func (r *Rows) Read(ctx context.Context, columns []RowColumn, yield func([]*feature.Column) error) error {
	wants := make([]wanted, len(columns))
	batch := make([]*feature.Column, len(columns))
	for i, c := range columns {
		t := c.Type
		if t == 0 {
			known, ok := r.schema.Column(c.Name)
			if ok && known.Type == 0 {
				return fault.New(fault.Precondition, "%s: column %q cannot be read: %s", r.schema.Path, c.Name, known.Reason)
			}
			t = known.Type
		}
		wants[i] = wanted{c.Name, t, "wanted", false}
	}
	if err := checkAnywhere(r.schema.Path, r.sources, wants); err != nil {
		return err
	}
	for i, w := range wants {
		batch[i] = newBatchColumn(w.t, r.NumRows())
	}
	for _, s := range r.sources {
		if err := s.readAll(ctx, wants, batch, yield); err != nil {
			return err
		}
	}
	return nil
}

// readAll streams the rows of one file.
func (s *source) readAll(ctx context.Context, wants []wanted, batch []*feature.Column, yield func([]*feature.Column) error) error {
	bindings := make([]binding, len(wants))
	for i, w := range wants {
		var err error
		if bindings[i], err = s.bind(w); err != nil {
			return err
		}
	}
	for i := range s.footer.groups {
		if err := s.readGroup(ctx, i, bindings, batch, yield); err != nil {
			return err
		}
	}
	return nil
}

func (s *source) readGroup(ctx context.Context, index int, bindings []binding, batch []*feature.Column, yield func([]*feature.Column) error) error {
	rows := s.footer.groups[index].rows
	if rows == 0 {
		return nil
	}
	g, err := s.openGroup(ctx, index, bindings)
	if err != nil {
		return err
	}
	defer g.close()
	for rows > 0 {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read %s: %w", s.object.at, err)
		}
		n := int(min(batchRows, rows))
		for _, c := range batch {
			c.Reset()
		}
		if err := g.read(batch, n); err != nil {
			return err
		}
		if err := yield(batch); err != nil {
			return err
		}
		rows -= int64(n)
	}
	return g.finish()
}

// memoryDriver reads one object that is in memory.
type memoryDriver struct{ data []byte }

func (d memoryDriver) list(context.Context, location, func(object) error) error { return nil }

func (d memoryDriver) stat(context.Context, location) (object, error) {
	return object{}, errNoObject
}

func (d memoryDriver) open(context.Context, object) (objectReader, error) { return d, nil }

func (d memoryDriver) readAt(_ context.Context, p []byte, offset int64) error {
	if offset < 0 || offset > int64(len(d.data)-len(p)) {
		return fault.New(fault.Corrupt, "bytes %d to %d are asked for, but there are %d", offset, offset+int64(len(p)), len(d.data))
	}
	copy(p, d.data[offset:])
	return nil
}

func (d memoryDriver) close() error { return nil }
