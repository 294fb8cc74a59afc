package entityfile

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

// How CSV is read.
const (
	// csvReadBytes is how much is read at once: a request, in S3.
	csvReadBytes = 4 << 20
	// csvRowBytes bounds a row. What is longer has a quote that is not closed.
	csvRowBytes = 16 << 20
	// csvColumns is the most columns.
	csvColumns = 100_000
	// A record has at most csvBatchRows rows, csvBatchCells cells and, but for its last row, csvBatchBytes of text.
	csvBatchRows  = 8192
	csvBatchCells = 1 << 20
	csvBatchBytes = 16 << 20
)

// csvFile reads a CSV file twice: once to infer the types of columns that nobody named, once for the rows.
type csvFile struct {
	from   source
	names  []string
	types  []feature.Type
	schema *arrow.Schema
	rows   int64
	// timeColumn is the column that must not be null.
	timeColumn string
}

// openCSV opens a CSV file with a header line. An empty cell, in quotes or not, is null; in the time column it is an error that names its line.
func openCSV(ctx context.Context, from source, o Options) (*Reader, error) {
	c := &csvFile{from: from, timeColumn: o.TimeColumn}
	if err := c.infer(ctx, o.Types); err != nil {
		return nil, err
	}
	fields := make([]arrow.Field, len(c.names))
	for i, name := range c.names {
		fields[i] = arrowwire.Field(name, c.types[i])
	}
	c.schema = arrow.NewSchema(fields, nil)
	return &Reader{schema: c.schema, rows: c.rows, each: c.each}, nil
}

// infer sets the names, the types and the number of rows.
func (c *csvFile) infer(ctx context.Context, types map[string]feature.Type) error {
	r, err := newCSVReader(c.from.Bytes(ctx))
	if err != nil {
		return err
	}
	c.names = r.header
	c.types = make([]feature.Type, len(c.names))
	for i, name := range c.names {
		t, ok := types[name]
		if ok && (!t.Valid() || t.IsList()) {
			return fault.New(fault.Invalid, "column %q: CSV holds no %v", name, t)
		}
		c.types[i] = t
	}
	guesses := make([]guess, len(c.names))
	for {
		cells, err := r.next(ctx)
		if err != nil {
			return err
		}
		if cells == nil {
			break
		}
		c.rows++
		for i, text := range cells {
			if c.types[i] == 0 {
				guesses[i].see(text)
			}
		}
	}
	for i := range c.types {
		if c.types[i] == 0 {
			c.types[i] = guesses[i].result()
		}
	}
	return c.from.Unchanged()
}

func (c *csvFile) each(ctx context.Context, yield func(arrow.RecordBatch) error) error {
	r, err := newCSVReader(c.from.Bytes(ctx))
	if err != nil {
		return err
	}
	if !slices.Equal(r.header, c.names) {
		return errNotRepeated
	}
	times := make([]csvTimes, len(c.names))
	for {
		columns, err := c.read(ctx, r, times)
		if err != nil {
			return err
		}
		if columns[0].Len() == 0 {
			return nil
		}
		record, err := newRecord(c.schema, columns)
		if err != nil {
			return err
		}
		err = yield(record)
		record.Release()
		if err != nil {
			return err
		}
	}
}

var errNotRepeated = fault.New(fault.Unavailable, "it was replaced while it was read; try again")

// read reads the next rows; none at the end.
func (c *csvFile) read(ctx context.Context, r *csvReader, times []csvTimes) ([]*feature.Column, error) {
	most := int(max(1, min(csvBatchRows, int64(csvBatchCells/len(c.names)), c.rows)))
	columns := make([]*feature.Column, len(c.names))
	for i, t := range c.types {
		columns[i] = feature.NewColumn(t, most)
	}
	start := r.csv.InputOffset()
	for rows := 0; rows < most && r.csv.InputOffset()-start < csvBatchBytes; rows++ {
		cells, err := r.next(ctx)
		if err != nil {
			return nil, err
		}
		if cells == nil {
			break
		}
		for i, text := range cells {
			if err := c.appendCell(columns[i], i, text, r, &times[i]); err != nil {
				line, column := r.csv.FieldPos(i)
				return nil, fault.New(fault.Invalid, "line %d, character %d: column %q: %w", line, column, c.names[i], err)
			}
		}
	}
	return columns, nil
}

func (c *csvFile) appendCell(to *feature.Column, i int, text string, r *csvReader, times *csvTimes) error {
	switch {
	case text == "" && c.names[i] == c.timeColumn:
		return errNullTime
	case text == "":
		to.AppendMissing(feature.Null)
		return nil
	case to.Type == feature.Timestamp:
		line, _ := r.csv.FieldPos(i)
		return times.append(to, text, line)
	case to.Type == feature.String && !utf8.ValidString(text):
		return fmt.Errorf("%.40q is not UTF-8; save the file as UTF-8, or read the column as BYTES", text)
	default:
		return AppendText(to, text)
	}
}

// csvTimes remembers how the times of a column are written.
type csvTimes struct {
	form int
	// first is the first time with a zone, or the first without one; line is where it is, 0 before there is one.
	first string
	zoned bool
	line  int
}

// append adds a time. Times of which some have a zone and some have none, which would be taken for UTC, cannot be meant.
func (s *csvTimes) append(to *feature.Column, text string, line int) error {
	t, form, err := parseTime(text, s.form)
	if err != nil {
		return err
	}
	s.form = form
	zoned := timeForms[form].zoned
	if s.line == 0 {
		s.first, s.zoned, s.line = strings.Clone(text), zoned, line
	}
	if zoned != s.zoned {
		return fmt.Errorf("%q has %s time zone, but %q on line %d has %s; write all times of a column with one, or all without, which is UTC",
			text, map[bool]string{true: "a", false: "no"}[zoned], s.first, s.line, map[bool]string{true: "one", false: "none"}[s.zoned])
	}
	to.AppendInt64(t.UnixMicro())
	return nil
}

// csvReader reads rows in bounded memory.
type csvReader struct {
	csv    *csv.Reader
	in     *rowInput
	header []string
	// line is that of the last row.
	line int
}

// newCSVReader reads the header.
func newCSVReader(from *io.SectionReader) (*csvReader, error) {
	in := bufio.NewReaderSize(from, int(min(from.Size(), csvReadBytes)))
	start, _ := in.Peek(8) // what cannot be read now fails again below
	for magic, what := range map[string]string{
		"\xff\xfe": "UTF-16 text; save it as UTF-8", "\xfe\xff": "UTF-16 text; save it as UTF-8", "\x1f\x8b": "a gzip file; unpack it", "\x28\xb5\x2f\xfd": "a zstd file; unpack it",
		"PK\x03\x04": "a zip file or a spreadsheet; save it as CSV", parquetMagic + "\x15": "a Parquet file; give that as its format", arrowMagic + "\x00\x00": "an Arrow file; give that as its format",
		arrowStreamMagic: "an Arrow stream; give that as its format",
	} {
		if strings.HasPrefix(string(start), magic) {
			return nil, fault.New(fault.Invalid, "it is not CSV but %s", what)
		}
	}
	if strings.HasPrefix(string(start), "\xef\xbb\xbf") {
		_, _ = in.Discard(3) // was peeked at
	}
	r := &csvReader{in: &rowInput{failingInput: failingInput{in: in}}}
	r.csv = csv.NewReader(bufio.NewReaderSize(r.in, 64<<10))
	r.csv.ReuseRecord = true
	head, err := r.next(context.Background())
	if err != nil {
		return nil, err
	}
	if head == nil {
		return nil, fault.New(fault.Invalid, "it is empty; the first line must name the columns")
	}
	if len(head) > csvColumns {
		return nil, fault.New(fault.Invalid, "its first line names %d columns; at most %d are read", len(head), csvColumns)
	}
	r.header = slices.Clone(head)
	seen := make(map[string]bool, len(head))
	for _, name := range r.header {
		if !utf8.ValidString(name) {
			return nil, fault.New(fault.Invalid, "the column name %q is not UTF-8; save the file as UTF-8", name)
		}
		if seen[name] {
			return nil, fault.New(fault.Invalid, "two columns are named %q", name)
		}
		seen[name] = true
	}
	return r, nil
}

// next gives the cells of the next row, valid until the next call; nil at the end.
func (r *csvReader) next(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r.in.left = csvRowBytes
	cells, err := r.csv.Read()
	switch {
	case r.in.err != nil:
		return nil, r.in.err
	case errors.Is(err, errLongRow):
		return nil, fault.New(fault.Invalid, "the row after line %d is longer than %d MiB; is a quote not closed?", r.line, csvRowBytes>>20)
	case errors.Is(err, io.EOF):
		return nil, nil
	case errors.Is(err, csv.ErrFieldCount):
		return nil, fault.New(fault.Invalid, "%w: it has %d, the first line %d", err, len(cells), len(r.header))
	case err != nil:
		return nil, fault.New(fault.Invalid, "%w", err)
	}
	r.line, _ = r.csv.FieldPos(len(cells) - 1)
	return cells, nil
}

// rowInput ends rows that do not end.
type rowInput struct {
	failingInput
	// left is how many more bytes are read for this row.
	left int
}

var errLongRow = errors.New("the row is too long")

// Read is io.Reader's.
func (r *rowInput) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, errLongRow
	}
	n, err := r.failingInput.Read(p)
	r.left -= n
	return n, err
}

// failingInput remembers why reading failed, because decoders tell only that it did.
type failingInput struct {
	in  io.Reader
	err error
}

// Read is io.Reader's.
func (f *failingInput) Read(p []byte) (int, error) {
	n, err := f.in.Read(p)
	if err != nil && !isEnd(err) {
		f.err = err
	}
	return n, err
}

// isEnd reports whether an error of a reader is its end. One that only wraps io.EOF is not: so does that of a connection that was closed without an answer.
func isEnd(err error) bool {
	return err == io.EOF //nolint:errorlint // see above
}
