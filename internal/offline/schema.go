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
	// Differences are what other files have otherwise than File.
	Differences []SchemaDifference
}

// SchemaColumn is one column.
type SchemaColumn struct {
	// Name as definitions write it; nested columns have dots ("a.b").
	Name string
	// Type that the column has by itself; 0 where it cannot be read, or has to be declared.
	Type feature.Type
	// Reason says why Type is 0, and how to mend it.
	Reason string
	// Nullable reports whether rows may be null.
	Nullable bool
	// Partition reports whether the value is in the names of folders. Its type is inferred: INT64, TIMESTAMP or STRING.
	Partition bool
	// Stored says how the values are stored, in Parquet's words.
	Stored string

	column     column
	partitions []partition
}

// CanRead says why a column cannot be read as a type and how to mend it, or gives nil.
func (c SchemaColumn) CanRead(t feature.Type) error {
	if c.Partition {
		for _, p := range c.partitions {
			if _, err := p.column(t); err != nil {
				return fault.New(fault.Precondition, "partition column %q: %w", c.Name, err)
			}
		}
		return nil
	}
	if err := c.column.canRead(t); err != nil {
		return fault.New(fault.Precondition, "column %q is %s, not %v: %w", c.Name, c.column.found(), t, err)
	}
	return nil
}

// SchemaDifference is one column that a file has otherwise than the schema's File.
type SchemaDifference struct {
	// URL of the other file.
	URL string
	// Column that differs.
	Column string
	// Text says how, for example "is INT32 here".
	Text string
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
	sources, err := s.sources(ctx, path)
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
	schema := &Schema{Path: path, File: fileOf(newest.object), Files: len(sources)}
	for _, c := range newest.footer.columns {
		schema.add(c)
	}
	for _, s := range sources {
		schema.Rows += s.footer.rows
		if s != newest {
			schema.compare(s)
		}
	}
	schema.addPartitions(sources)
	return schema
}

func (s *Schema) add(c column) {
	s.Columns = append(s.Columns, SchemaColumn{
		Name: c.name, Type: c.natural, Reason: c.reason, Nullable: c.nullable, Stored: listPrefix(c) + describe(c.descr), column: c,
	})
}

// compare notes how the columns of another file differ.
func (s *Schema) compare(other *source) {
	url := other.object.at.String()
	for _, c := range other.footer.columns {
		mine, ok := s.Column(c.name)
		switch {
		case !ok:
			s.add(c)
			s.Differences = append(s.Differences, SchemaDifference{s.File.URL, c.name, "is not here, but in " + url})
		case mine.Type != c.natural || mine.Reason != c.reason:
			s.Differences = append(s.Differences, SchemaDifference{url, c.name, "is " + c.found() + " here"})
		}
	}
	for _, mine := range s.Columns {
		if _, ok := findColumn(other.footer.columns, mine.Name); !ok {
			s.Differences = append(s.Differences, SchemaDifference{url, mine.Name, "is not here"})
		}
	}
}

// addPartitions adds the columns of the folders. A partition hides a stored column of its name.
func (s *Schema) addPartitions(sources []*source) {
	var names []string
	values := map[string][]partition{}
	for _, source := range sources {
		for _, p := range source.partitions {
			if _, ok := values[p.name]; !ok {
				names = append(names, p.name)
			}
			values[p.name] = append(values[p.name], p)
		}
	}
	for _, name := range names {
		s.Columns = slices.DeleteFunc(s.Columns, func(c SchemaColumn) bool { return c.Name == name })
		nullable := len(values[name]) < len(sources) || slices.ContainsFunc(values[name], func(p partition) bool { return p.null })
		s.Columns = append(s.Columns, SchemaColumn{
			Name: name, Type: inferType(values[name]), Nullable: nullable, Partition: true, Stored: "folders " + name + "=…", partitions: values[name],
		})
	}
}

// Rows are the rows of Parquet files that belong to no view, for example the entity rows of a training set.
type Rows struct {
	schema  *Schema
	sources []*source
}

// OpenRows finds the files of a path, as in a view's source, and reads their footers.
func (s *Store) OpenRows(ctx context.Context, path string) (*Rows, error) {
	sources, err := s.sources(ctx, path)
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
	f, err := readFooter(ctx, d, o)
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
		batch[i] = feature.NewColumn(w.t, int(min(batchRows, r.NumRows())))
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
