// Package entityfile reads files of entity rows as Arrow records: CSV, Parquet and Arrow, local and in S3. One batch is the most that is in
// memory, and files are taken for hostile: what is damaged or cannot be meant is an error that says where.
package entityfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

// Format is how a file is written.
type Format string

// The formats.
const (
	// CSV is comma-separated text in UTF-8, whose first line names the columns.
	CSV Format = "csv"
	// Parquet is one file, or the *.parquet files of a folder or a pattern.
	Parquet Format = "parquet"
	// Arrow is an IPC file, or an IPC stream.
	Arrow Format = "arrow"
)

// ParseFormat gives the format of a name or of the ending of a file's name, without its dot.
func ParseFormat(name string) (Format, bool) {
	switch name = strings.ToLower(name); name {
	case "csv", "parquet", "arrow":
		return Format(name), true
	case "pq":
		return Parquet, true
	case "arrows", "ipc", "feather":
		return Arrow, true
	default:
		return "", false
	}
}

// Options say how a file is read.
type Options struct {
	// Format is how it is written. Defaults to what its name ends in, else what its first bytes are; a folder or pattern is Parquet.
	Format Format
	// Types are the types of some columns in CSV and Parquet. Those of the others are the file's own. In CSV they are INT64, DOUBLE or BOOL where that
	// keeps every digit of all cells, else STRING.
	Types map[string]feature.Type
	// TimeColumn is a column that must hold times, none of them null, where the file has it. Defaults to none.
	TimeColumn string
	// MaxBatchBytes bounds a record of an Arrow file. Defaults to 256 MiB.
	MaxBatchBytes int
	// Warn is told of columns that are left out because they cannot be read. Defaults to nobody; then such a column is an error.
	Warn func(text string)
}

// Reader reads the rows of a file, or of several Parquet files.
type Reader struct {
	name       string
	schema     *arrow.Schema
	rows       int64
	files      []offline.File
	timeColumn string
	// each is Each without what all formats have in common.
	each func(ctx context.Context, yield func(arrow.RecordBatch) error) error
	// unchanged gives an error where the file has changed since it was opened; nil where reading tells.
	unchanged func() error
	close     func() error
}

// Open finds a file and reads its schema; CSV it reads whole, to know the types and the number of rows. A path is one of a source's in the store, and
// also of a file of any name. Errors name the path.
func Open(ctx context.Context, store *offline.Store, path string, o Options) (*Reader, error) {
	r, err := open(ctx, store, path, o)
	if err != nil {
		return nil, fmt.Errorf("entity rows %s: %w", path, err)
	}
	return r.finish(path, o)
}

// OpenLocal is Open for a file that is open already, for example a copy of standard input, which messages call by a name. Parquet is read into memory.
// The file stays the caller's, to be closed after the Reader.
func OpenLocal(ctx context.Context, name string, file *os.File, o Options) (*Reader, error) {
	r, err := openLocal(ctx, name, file, o)
	if err != nil {
		return nil, fmt.Errorf("entity rows %s: %w", name, err)
	}
	return r.finish(name, o)
}

func open(ctx context.Context, store *offline.Store, name string, o Options) (*Reader, error) {
	format := o.Format
	if format == "" {
		format, _ = ParseFormat(strings.TrimPrefix(path.Ext(name), "."))
	}
	if format == Parquet {
		return openParquetPath(ctx, store, name, o)
	}
	info, err := store.StatFile(ctx, name)
	if format == "" && errors.Is(err, fs.ErrNotExist) {
		return openParquetPath(ctx, store, name, o)
	}
	if err != nil {
		return nil, err
	}
	file, err := store.OpenFile(ctx, info)
	if err != nil {
		return nil, err
	}
	if format == "" {
		if format = formatByMagic(file.Bytes(ctx)); format == Parquet {
			return closing(file, func() (*Reader, error) { return openParquetPath(ctx, store, name, o) })
		}
	}
	r, err := openBytes(ctx, file, format, o)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	r.files, r.unchanged, r.close = []offline.File{info.File()}, file.Unchanged, file.Close
	return r, nil
}

// closing closes what is not needed any more after another step.
func closing(c io.Closer, step func() (*Reader, error)) (*Reader, error) {
	r, err := step()
	return r, errors.Join(err, c.Close())
}

func openLocal(ctx context.Context, name string, file *os.File, o Options) (*Reader, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	local := localBytes{file, info.Size()}
	if o.Format == "" {
		o.Format = formatByMagic(local.Bytes(ctx))
	}
	if o.Format == Parquet {
		return openParquetBytes(ctx, name, local, o)
	}
	r, err := openBytes(ctx, local, o.Format, o)
	if err != nil {
		return nil, err
	}
	r.close = func() error { return nil }
	return r, nil
}

// source is a file that is read from its start, more than once.
type source interface {
	Bytes(ctx context.Context) *io.SectionReader
	// Unchanged gives an error where the bytes have changed since it was opened.
	Unchanged() error
}

// localBytes is a source that nobody else knows.
type localBytes struct {
	file *os.File
	size int64
}

func (l localBytes) Bytes(context.Context) *io.SectionReader {
	return io.NewSectionReader(l.file, 0, l.size)
}
func (localBytes) Unchanged() error { return nil }

func openBytes(ctx context.Context, from source, format Format, o Options) (*Reader, error) {
	switch format {
	case CSV:
		return openCSV(ctx, from, o)
	case Arrow:
		return openArrow(ctx, from, o)
	default:
		return nil, fault.New(fault.Invalid, "the format %q is not known; it is csv, parquet or arrow", format)
	}
}

// The first bytes of files that are not CSV.
const (
	parquetMagic     = "PAR1"
	arrowMagic       = "ARROW1"
	arrowStreamMagic = "\xff\xff\xff\xff"
)

// formatByMagic tells the format of a file from its first bytes: no CSV begins like Parquet or Arrow.
func formatByMagic(file io.ReaderAt) Format {
	start := make([]byte, len(arrowMagic))
	n, _ := file.ReadAt(start, 0) // what cannot be read now fails again when it is read
	start = start[:n]
	switch {
	case bytes.HasPrefix(start, []byte(parquetMagic)):
		return Parquet
	case bytes.HasPrefix(start, []byte(arrowMagic)), bytes.HasPrefix(start, []byte(arrowStreamMagic)):
		return Arrow
	default:
		return CSV
	}
}

// finish checks what is the same in all formats.
func (r *Reader) finish(name string, o Options) (*Reader, error) {
	r.name, r.timeColumn = name, o.TimeColumn
	err := r.check()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("entity rows %s: %w", name, err), r.Close())
	}
	return r, nil
}

func (r *Reader) check() error {
	seen := make(map[string]bool, r.schema.NumFields())
	for _, f := range r.schema.Fields() {
		if seen[f.Name] {
			return fault.New(fault.Invalid, "two columns are named %q", f.Name)
		}
		seen[f.Name] = true
		if f.Name == r.timeColumn {
			if t, err := arrowwire.TypeOf(f.Type); err != nil || t != feature.Timestamp {
				return fault.New(fault.Invalid, "column %q is %v, where each row's time must be; write it as a timestamp", f.Name, f.Type)
			}
		}
	}
	return nil
}

// Schema gives the columns.
func (r *Reader) Schema() *arrow.Schema { return r.schema }

// NumRows is the number of rows, −1 where it is not known before the end.
func (r *Reader) NumRows() int64 { return r.rows }

// Files gives the versions of the files that are read; none for OpenLocal.
func (r *Reader) Files() []offline.File { return r.files }

// Close lets go of the file.
func (r *Reader) Close() error { return r.close() }

// Each calls yield with all rows in their order, a record at a time, which is valid until yield returns. An error of yield ends it and is returned as it is;
// others name the path. It may be called again.
func (r *Reader) Each(ctx context.Context, yield func(arrow.RecordBatch) error) error {
	var yielded error
	var rows int64
	err := r.each(ctx, func(record arrow.RecordBatch) error {
		if err := r.checkTimes(record, rows); err != nil {
			return err
		}
		rows += record.NumRows()
		yielded = yield(record)
		return yielded
	})
	if yielded != nil {
		return err
	}
	// Where it has changed, that is what an error comes from.
	if r.unchanged != nil && ctx.Err() == nil {
		if changed := r.unchanged(); changed != nil {
			err = changed
		}
	}
	if err != nil {
		return fmt.Errorf("entity rows %s: %w", r.name, err)
	}
	return nil
}

// checkTimes refuses rows without a time; first is the place of the record's first row.
func (r *Reader) checkTimes(record arrow.RecordBatch, first int64) error {
	for i, f := range record.Schema().Fields() {
		if f.Name != r.timeColumn || record.Column(i).NullN() == 0 {
			continue
		}
		for row := range record.Column(i).Len() {
			if record.Column(i).IsNull(row) {
				return fault.New(fault.Invalid, "row %d (counted from 0): column %q: %w", first+int64(row), f.Name, errNullTime)
			}
		}
	}
	return nil
}

var errNullTime = errors.New("the time is null; give every row its time, or leave the row out")

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
