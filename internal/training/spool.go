package training

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/twofold-ml/twofold/internal/fault"
)

// A segment is closed once it has so many rows or bytes, so that a few rows a record do not cost a record's overhead each.
const (
	segmentRows  = 8192
	pieceRows    = 4 * segmentRows
	segmentBytes = 1 << 20
	// mergeRecords is how many records of one segment are made one.
	mergeRecords = 4
)

// spool keeps Arrow records of one schema in their order: in memory up to a bound, the others in a temporary file that has no name, so that nothing is
// left of it however the process ends. One goroutine appends; after finish, several may read.
type spool struct {
	schema *arrow.Schema
	// memoryBytes is the most that records in memory may take, dir the folder of the file; "" is the system's.
	memoryBytes int64
	dir         string

	segments []segment
	rows     int64
	// inMemory and bytes are the size of the records in memory, and of all.
	inMemory, bytes int64
	file            *os.File
	fileEnd         int64
	// pending are the records of the segment that is being filled.
	pending      []arrow.RecordBatch
	pendingRows  int64
	pendingBytes int64
}

// segment is some neighbouring records: in memory, or where records is nil, an Arrow stream in the file.
type segment struct {
	first, rows    int64
	records        []arrow.RecordBatch
	offset, length int64
}

func newSpool(schema *arrow.Schema, memoryBytes int64, dir string) *spool {
	return &spool{schema: schema, memoryBytes: memoryBytes, dir: dir}
}

// append adds a record, which it retains, in pieces: each is read from the file as a whole.
func (s *spool) append(record arrow.RecordBatch) error {
	bytes, rows := RecordBytes(record), record.NumRows()
	for from := int64(0); from < rows; from += pieceRows {
		to := min(from+pieceRows, rows)
		if err := s.appendPiece(record.NewSlice(from, to), bytes*(to-from)/rows); err != nil {
			return err
		}
	}
	return nil
}

// appendPiece adds a record, which it takes over.
func (s *spool) appendPiece(record arrow.RecordBatch, bytes int64) error {
	s.pending = append(s.pending, record)
	s.pendingRows += record.NumRows()
	s.pendingBytes += bytes
	if s.pendingRows < segmentRows && s.pendingBytes < segmentBytes {
		return nil
	}
	return s.seal()
}

// finish is called after the last record.
func (s *spool) finish() error { return s.seal() }

// seal makes a segment of the pending records.
func (s *spool) seal() error {
	if len(s.pending) == 0 {
		return nil
	}
	if len(s.pending) > mergeRecords {
		merged, err := copied(s.schema, s.pending)
		if err != nil {
			return err
		}
		releaseRecords(s.pending)
		s.pending, s.pendingBytes = []arrow.RecordBatch{merged}, RecordBytes(merged)
	}
	next := segment{first: s.rows, rows: s.pendingRows}
	s.bytes += s.pendingBytes
	if s.file == nil && s.inMemory+s.pendingBytes <= s.memoryBytes {
		next.records = s.pending
		s.inMemory += s.pendingBytes
	} else {
		if err := s.write(&next); err != nil {
			return err
		}
		releaseRecords(s.pending)
	}
	s.segments = append(s.segments, next)
	s.rows += s.pendingRows
	s.pending, s.pendingRows, s.pendingBytes = nil, 0, 0
	return nil
}

// write puts the pending records into the file.
func (s *spool) write(to *segment) error {
	if s.file == nil {
		file, err := os.CreateTemp(s.dir, "twofold-entities-*")
		if err != nil {
			return spoolFault(err)
		}
		s.file = file
		if err := os.Remove(file.Name()); err != nil {
			return spoolFault(err)
		}
	}
	counter := &countingWriter{w: s.file}
	out := ipc.NewWriter(counter, ipc.WithSchema(s.schema))
	for _, record := range s.pending {
		if err := out.Write(record); err != nil {
			return spoolFault(err)
		}
	}
	if err := out.Close(); err != nil {
		return spoolFault(err)
	}
	to.offset, to.length = s.fileEnd, counter.n
	s.fileEnd += counter.n
	return nil
}

func spoolFault(err error) error {
	return fault.New(fault.Unavailable, "entity rows cannot be kept in a temporary file: %w; give the server room in its folder for temporary files (TMPDIR), or more memory", err)
}

type countingWriter struct {
	w io.Writer
	n int64
}

// Write implements io.Writer.
func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// each calls yield with the rows from from up to but without to, as records of any size; a record is valid until yield returns.
func (s *spool) each(ctx context.Context, from, to int64, yield func(arrow.RecordBatch) error) error {
	if from >= to {
		return nil
	}
	after, _ := slices.BinarySearchFunc(s.segments, from+1, func(s segment, row int64) int { return int(min(1, max(-1, s.first-row))) })
	for i := after - 1; i < len(s.segments) && s.segments[i].first < to; i++ {
		at := s.segments[i].first
		err := s.read(&s.segments[i], func(record arrow.RecordBatch) error {
			start := at
			at += record.NumRows()
			if at <= from || start >= to {
				return nil
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			part := record.NewSlice(max(from, start)-start, min(to, at)-start)
			defer part.Release()
			return yield(part)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// read calls yield with the records of a segment.
func (s *spool) read(from *segment, yield func(arrow.RecordBatch) error) error {
	if from.records != nil {
		for _, record := range from.records {
			if err := yield(record); err != nil {
				return err
			}
		}
		return nil
	}
	r, err := ipc.NewReader(io.NewSectionReader(s.file, from.offset, from.length))
	if err != nil {
		return spoolFault(err)
	}
	defer r.Release()
	for r.Next() {
		if err := yield(r.RecordBatch()); err != nil {
			return err
		}
	}
	if err := r.Err(); err != nil {
		return spoolFault(err)
	}
	return nil
}

// arrays returns rows as one array a column, which the caller releases.
func (s *spool) arrays(ctx context.Context, from, to int64) ([]arrow.Array, error) {
	parts := make([][]arrow.Array, s.schema.NumFields())
	defer func() {
		for _, p := range parts {
			releaseArrays(p)
		}
	}()
	err := s.each(ctx, from, to, func(record arrow.RecordBatch) error {
		for i, column := range record.Columns() {
			column.Retain()
			parts[i] = append(parts[i], column)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make([]arrow.Array, 0, len(parts))
	for i, p := range parts {
		a, err := joined(s.schema.Field(i).Type, p)
		if err != nil {
			releaseArrays(out)
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

// joined returns neighbouring arrays as one.
func joined(t arrow.DataType, parts []arrow.Array) (arrow.Array, error) {
	switch len(parts) {
	case 0:
		return array.MakeArrayOfNull(memory.DefaultAllocator, t, 0), nil
	case 1:
		parts[0].Retain()
		return parts[0], nil
	}
	return concatenate(t, parts)
}

// concatenate copies neighbouring arrays into one.
func concatenate(t arrow.DataType, parts []arrow.Array) (arrow.Array, error) {
	a, err := array.Concatenate(parts, memory.DefaultAllocator)
	if err != nil {
		return nil, fmt.Errorf("join arrays of %v: %w", t, err)
	}
	return a, nil
}

// copied copies neighbouring records into one.
func copied(schema *arrow.Schema, records []arrow.RecordBatch) (arrow.RecordBatch, error) {
	rows := int64(0)
	for _, r := range records {
		rows += r.NumRows()
	}
	columns := make([]arrow.Array, 0, schema.NumFields())
	defer func() { releaseArrays(columns) }()
	for i := range schema.NumFields() {
		parts := make([]arrow.Array, len(records))
		for k, r := range records {
			parts[k] = r.Column(i)
		}
		a, err := concatenate(schema.Field(i).Type, parts)
		if err != nil {
			return nil, err
		}
		columns = append(columns, a)
	}
	return array.NewRecordBatch(schema, columns, rows), nil
}

// Copy returns a record in memory of its own, which the caller releases.
func Copy(record arrow.RecordBatch) (arrow.RecordBatch, error) {
	return copied(record.Schema(), []arrow.RecordBatch{record})
}

// close frees everything.
func (s *spool) close() error {
	releaseRecords(s.pending)
	s.pending = nil
	for i := range s.segments {
		releaseRecords(s.segments[i].records)
	}
	s.segments = nil
	if s.file == nil {
		return nil
	}
	file := s.file
	s.file = nil
	return file.Close()
}

func releaseRecords(records []arrow.RecordBatch) {
	for _, r := range records {
		r.Release()
	}
}

func releaseArrays(arrays []arrow.Array) {
	for _, a := range arrays {
		a.Release()
	}
}

// RecordBytes is the memory of a record's buffers; of a slice, that of the whole that it keeps alive.
func RecordBytes(record arrow.RecordBatch) (bytes int64) {
	for _, column := range record.Columns() {
		bytes += arrayBytes(column.Data())
	}
	return bytes
}

func arrayBytes(data arrow.ArrayData) (bytes int64) {
	for _, buffer := range data.Buffers() {
		if buffer != nil {
			bytes += int64(buffer.Len())
		}
	}
	for _, child := range data.Children() {
		bytes += arrayBytes(child)
	}
	if data.DataType().ID() == arrow.DICTIONARY {
		bytes += arrayBytes(data.Dictionary())
	}
	return bytes
}
