package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

// entityRows is a file of entity rows, read as Arrow records.
type entityRows struct {
	schema *arrow.Schema
	// rows is the number of rows, −1 where it is not known before the end.
	rows int64
	// each calls yield with every record, which is valid only until it returns. It can be called once.
	each func(ctx context.Context, yield func(arrow.RecordBatch) error) error
	// close frees everything.
	close func()
}

// entityFile says what is known of a file of entity rows.
type entityFile struct {
	// path is a file, for Parquet also a folder, a glob or an s3:// URL; - is standard input.
	path string
	// format is one of the formats of train; empty for standard input, where it is told from the first bytes.
	format string
	// types are the types of some columns; those of the others are the file's, or inferred.
	types map[string]feature.Type
	// timeColumn holds each row's time.
	timeColumn string
	s3         offline.S3Config
}

// openEntities opens a file of entity rows.
func (a *app) openEntities(ctx context.Context, f entityFile) (*entityRows, error) {
	path := f.path
	rows, err := a.openFormat(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("entity rows %s: %w", path, err)
	}
	each := rows.each
	rows.each = func(ctx context.Context, yield func(arrow.RecordBatch) error) error {
		var yielded error
		err := each(ctx, func(record arrow.RecordBatch) error {
			yielded = yield(record)
			return yielded
		})
		if err != nil && yielded == nil {
			return fmt.Errorf("entity rows %s: %w", path, err)
		}
		return err
	}
	return rows, nil
}

func (a *app) openFormat(ctx context.Context, f entityFile) (*entityRows, error) {
	if f.format == formatParquet && f.path != "-" {
		return a.openParquetPath(ctx, f)
	}
	file, done, err := a.openInput(ctx, f.path)
	if err != nil {
		return nil, err
	}
	if f.format == "" {
		f.format = formatByMagic(file)
	}
	var rows *entityRows
	switch f.format {
	case formatParquet:
		rows, err = a.openParquetInput(ctx, file, f)
	case formatArrow:
		rows, err = openArrow(file)
	default:
		rows, err = openCSV(file, f.types, f.timeColumn)
	}
	if err != nil {
		done()
		return nil, err
	}
	free := rows.close
	rows.close = func() { free(); done() }
	return rows, nil
}

// formatByMagic tells the format of a file from its first bytes: no CSV begins like Parquet or Arrow.
func formatByMagic(file *os.File) string {
	start := make([]byte, 6)
	n, _ := file.ReadAt(start, 0) // what cannot be read now fails again when it is read
	start = start[:n]
	switch {
	case bytes.HasPrefix(start, []byte("PAR1")):
		return formatParquet
	case bytes.HasPrefix(start, []byte("ARROW1")), bytes.HasPrefix(start, []byte("\xff\xff\xff\xff")):
		return formatArrow
	default:
		return formatCSV
	}
}

// openInput opens a file. Standard input is first copied to a temporary file, because some formats are read twice, or from their end.
func (a *app) openInput(ctx context.Context, path string) (*os.File, func(), error) {
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, nil, &fault.Error{Kind: fault.Invalid, Err: errors.Unwrap(err)}
		}
		return file, func() { _ = file.Close() }, nil
	}
	file, err := os.CreateTemp("", "twofold-entities-*")
	if err != nil {
		return nil, nil, err
	}
	done := func() { _ = file.Close(); _ = os.Remove(file.Name()) }
	_, err = io.Copy(file, a.input(ctx))
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		done()
		return nil, nil, fmt.Errorf("copy standard input to a temporary file: %w", err)
	}
	return file, done, nil
}

// input is standard input, whose reads end when ctx is done, even if nothing is written there.
func (a *app) input(ctx context.Context) io.Reader {
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { _ = w.CloseWithError(ctx.Err()) }) // never fails
	go func() {
		_, err := io.Copy(w, a.in)
		_ = w.CloseWithError(err) // never fails
	}()
	return r
}

// openParquetPath opens a Parquet file, a folder or a glob of them, or an s3:// URL.
func (a *app) openParquetPath(ctx context.Context, f entityFile) (*entityRows, error) {
	store, err := offline.Open(ctx, offline.Config{Path: ".", S3: f.s3})
	if err != nil {
		return nil, err
	}
	defer store.Close()
	rows, err := store.OpenRows(ctx, f.path)
	if err != nil {
		return nil, err
	}
	return a.openParquet(rows, f.types)
}

// openParquetInput reads Parquet that came through standard input.
func (a *app) openParquetInput(ctx context.Context, file *os.File, f entityFile) (*entityRows, error) {
	data, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	rows, err := offline.RowsIn(ctx, "standard input", data)
	if err != nil {
		return nil, err
	}
	return a.openParquet(rows, f.types)
}

// openParquet makes records of Parquet rows. Columns that cannot be read are left out, with a warning.
func (a *app) openParquet(rows *offline.Rows, types map[string]feature.Type) (*entityRows, error) {
	var columns []offline.RowColumn
	var fields []arrow.Field
	for _, c := range rows.Schema().Columns {
		t, named := types[c.Name]
		switch {
		case named:
			if err := c.CanRead(t); err != nil {
				return nil, err
			}
		case c.Type == 0:
			a.complain(fmt.Sprintf("warning: column %q is left out: it cannot be read: %s", c.Name, c.Reason))
			continue
		default:
			t = c.Type
		}
		columns = append(columns, offline.RowColumn{Name: c.Name, Type: t})
		fields = append(fields, arrowwire.Field(c.Name, t))
	}
	schema := arrow.NewSchema(fields, nil)
	each := func(ctx context.Context, yield func(arrow.RecordBatch) error) error {
		return rows.Read(ctx, columns, func(batch []*feature.Column) error {
			r, err := newRecord(schema, batch)
			if err != nil {
				return err
			}
			defer r.Release()
			return yield(r)
		})
	}
	return &entityRows{schema: schema, rows: rows.NumRows(), each: each, close: func() {}}, nil
}

// require reports columns that the join needs and the rows lack, before anything is sent.
func (e *entityRows) require(keys []feature.Key, timeColumn string) error {
	var missing []string
	for _, key := range keys {
		if !e.schema.HasField(key.Name) {
			missing = append(missing, key.Name)
		}
	}
	if len(missing) > 0 {
		return fault.New(fault.Invalid, "the entity rows lack the entity key %s; they have %s", strings.Join(missing, ", "), e.columnNames())
	}
	if !e.schema.HasField(timeColumn) {
		return fault.New(fault.Invalid, "the entity rows have no column %q for their time; name it with --time-column; they have %s", timeColumn, e.columnNames())
	}
	return nil
}

func (e *entityRows) columnNames() string {
	var names []string
	for _, f := range e.schema.Fields() {
		names = append(names, f.Name)
	}
	return strings.Join(names, ", ")
}

// stream writes all rows as one Arrow IPC stream.
func (e *entityRows) stream(ctx context.Context, w io.Writer) error {
	out := ipc.NewWriter(w, ipc.WithSchema(e.schema))
	if err := e.each(ctx, out.Write); err != nil {
		return err
	}
	return out.Close()
}

// openArrow reads an Arrow file, or an Arrow stream.
func openArrow(file *os.File) (*entityRows, error) {
	in := bufio.NewReader(file)
	if magic, _ := in.Peek(6); bytes.Equal(magic, []byte("ARROW1")) {
		return openArrowFile(file)
	}
	r, err := ipc.NewReader(in)
	if err != nil {
		return nil, fault.New(fault.Invalid, "it is neither an Arrow file nor an Arrow stream: %w", err)
	}
	each := func(ctx context.Context, yield func(arrow.RecordBatch) error) error {
		for ctx.Err() == nil && r.Next() {
			if err := yield(r.RecordBatch()); err != nil {
				return err
			}
		}
		if err := r.Err(); err != nil {
			return fault.New(fault.Invalid, "the Arrow stream is damaged: %w", err)
		}
		return ctx.Err()
	}
	return &entityRows{schema: r.Schema(), rows: -1, each: each, close: r.Release}, nil
}

func openArrowFile(file *os.File) (*entityRows, error) {
	r, err := ipc.NewFileReader(file)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the Arrow file is damaged: %w", err)
	}
	each := func(ctx context.Context, yield func(arrow.RecordBatch) error) error {
		for i := range r.NumRecords() {
			record, err := r.RecordBatchAt(i)
			if err != nil {
				return fault.New(fault.Invalid, "the Arrow file is damaged in record %d: %w", i, err)
			}
			err = yield(record)
			record.Release()
			if err = errors.Join(err, ctx.Err()); err != nil {
				return err
			}
		}
		return nil
	}
	return &entityRows{schema: r.Schema(), rows: -1, each: each, close: func() { _ = r.Close() }}, nil
}

// newRecord makes a record of columns, whose memory it shares.
func newRecord(schema *arrow.Schema, columns []*feature.Column) (arrow.RecordBatch, error) {
	arrays := make([]arrow.Array, len(columns))
	rows := 0
	for i, c := range columns {
		rows = c.Len()
		var err error
		if arrays[i], err = arrowwire.ToArray(c, 0, rows); err != nil {
			return nil, fmt.Errorf("column %q: %w", schema.Field(i).Name, err)
		}
	}
	return array.NewRecordBatch(schema, arrays, int64(rows)), nil
}

// duplicate returns a name that occurs twice, "" where none does.
func duplicate(names []string) string {
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return name
		}
	}
	return ""
}
