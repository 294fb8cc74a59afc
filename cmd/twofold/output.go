package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

// output is a file that appears whole or not at all; or standard output, which cannot be taken back.
type output struct {
	io.Writer
	// file is nil for standard output, and buffer for a file.
	file   *offline.Writer
	buffer *bufio.Writer
}

// createOutput begins a file or an s3:// object; commit makes it appear. "-" is standard output. A local folder must be there: a name that is
// misspelt makes none.
func (a *app) createOutput(ctx context.Context, path string, s3 offline.S3Config, options offline.CreateOptions) (*output, error) {
	if path == "-" {
		buffer := bufio.NewWriterSize(a.out, 1<<16)
		return &output{Writer: buffer, buffer: buffer}, nil
	}
	if !strings.Contains(path, "://") {
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return nil, fmt.Errorf("create %s: %w", path, err)
		}
	}
	store, err := offline.Open(ctx, offline.Config{Path: ".", S3: s3})
	if err != nil {
		return nil, err
	}
	defer store.Close()
	file, err := store.Create(ctx, path, options)
	if err != nil {
		return nil, err
	}
	return &output{Writer: file, file: file}, nil
}

// writeOutput writes a text to where createOutput says.
func (a *app) writeOutput(ctx context.Context, path string, s3 offline.S3Config, options offline.CreateOptions, text []byte) error {
	out, err := a.createOutput(ctx, path, s3, options)
	if err != nil {
		return err
	}
	defer out.abandon()
	if _, err := out.Write(text); err != nil {
		return err
	}
	return out.commit(ctx)
}

// commit makes the file appear under its name.
func (o *output) commit(ctx context.Context) error {
	if o.file == nil {
		return o.buffer.Flush()
	}
	_, err := o.file.Commit(ctx)
	return err
}

// abandon removes a file that was not committed.
func (o *output) abandon() {
	if o.file != nil {
		o.file.Abort()
	}
}

// writeTable writes all records of r in a format. stream says that w cannot be read from its end, so that Arrow is written as a stream.
func writeTable(w io.Writer, format string, stream bool, r *ipc.Reader) error {
	out, err := newTableWriter(w, format, stream, r.Schema())
	if err != nil {
		return err
	}
	for r.Next() {
		if err := out.Write(r.RecordBatch()); err != nil {
			return err
		}
	}
	if err := r.Err(); err != nil {
		return err
	}
	return out.Close()
}

// tableWriter writes records in some format; Close writes what comes last. After an error of Write it need not be closed.
type tableWriter interface {
	Write(arrow.RecordBatch) error
	Close() error
}

func newTableWriter(w io.Writer, format string, stream bool, schema *arrow.Schema) (tableWriter, error) {
	switch {
	case format == formatParquet:
		out, err := offline.NewParquetWriter(w, schema)
		if err != nil {
			return nil, fmt.Errorf("parquet: %w", err)
		}
		return out, nil
	case format == formatCSV:
		return newCSVWriter(w, schema), nil
	case stream:
		return ipc.NewWriter(w, ipc.WithSchema(schema)), nil
	default:
		return ipc.NewFileWriter(w, ipc.WithSchema(schema))
	}
}

// csvWriter writes CSV.
type csvWriter struct {
	out   *csv.Writer
	cells []string
}

func newCSVWriter(w io.Writer, schema *arrow.Schema) *csvWriter {
	c := &csvWriter{csv.NewWriter(w), make([]string, schema.NumFields())}
	for i, f := range schema.Fields() {
		c.cells[i] = f.Name
	}
	_ = c.out.Write(c.cells) // Close has the error
	return c
}

// Write implements tableWriter.
func (c *csvWriter) Write(record arrow.RecordBatch) error {
	columns := make([]func(int) string, len(c.cells))
	for i := range columns {
		columns[i] = cellsOf(record.Column(i))
	}
	for row := range int(record.NumRows()) {
		for i := range c.cells {
			c.cells[i] = columns[i](row)
		}
		_ = c.out.Write(c.cells) // Error has it
	}
	return c.out.Error()
}

// Close implements tableWriter.
func (c *csvWriter) Close() error {
	c.out.Flush()
	return c.out.Error()
}

// cellsOf returns a function that gives a row of an array as text: as get prints it, or in Arrow's own way where the array is of a type that Twofold
// does not have.
func cellsOf(a arrow.Array) func(int) string {
	if c, err := arrowwire.FromArray(a); err == nil {
		return func(row int) string { return c.TextAt(row) }
	}
	return func(row int) string {
		if a.IsNull(row) {
			return ""
		}
		return a.ValueStr(row)
	}
}

// columnsOf converts a record's columns.
func columnsOf(record arrow.RecordBatch) ([]*feature.Column, error) {
	columns := make([]*feature.Column, record.NumCols())
	for i := range columns {
		c, err := arrowwire.FromArray(record.Column(i))
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", record.ColumnName(i), err)
		}
		columns[i] = c
	}
	return columns, nil
}
