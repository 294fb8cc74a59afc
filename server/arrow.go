package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/wire"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

// arrowTable holds entity rows that came as an Arrow IPC stream, spread over any number of chunks. The stream is decoded
// in a goroutine of its own while chunks come in; only that goroutine touches the fields below until finish returns.
type arrowTable struct {
	call *historicalCall
	in   *io.PipeWriter
	// done gives the goroutine's result once.
	done    chan error
	arrow   *arrow.Schema
	records []arrow.RecordBatch
	// starts[i] is the number of rows before records[i].
	starts []int
	rows   int
}

func newArrowTable(call *historicalCall) *arrowTable {
	out, in := io.Pipe()
	t := &arrowTable{call: call, in: in, done: make(chan error, 1)}
	go func() {
		err := t.decode(out)
		_ = out.CloseWithError(errors.Join(err, io.ErrClosedPipe)) // wakes a writer; never fails
		t.done <- err
	}()
	return t
}

// decode reads the whole stream. Arrow's reader may panic on bytes that are not Arrow.
func (t *arrowTable) decode(in io.Reader) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.InvalidField("entity_rows.arrow_ipc", "not a valid Arrow IPC stream: %v", p)
		}
	}()
	reader, err := arrowwire.NewReader(in, arrowwire.Limits{})
	if err != nil {
		return fault.InvalidField("entity_rows.arrow_ipc", "not an Arrow IPC stream: %w", err)
	}
	defer reader.Release()
	t.arrow = reader.Schema()
	names := make([]string, t.arrow.NumFields())
	for i, field := range t.arrow.Fields() {
		names[i] = field.Name
	}
	if err := t.call.checkNames(names); err != nil {
		return err
	}
	for reader.Next() {
		if err := t.addRecord(names, reader.RecordBatch()); err != nil {
			return err
		}
	}
	if err := reader.Err(); err != nil {
		return fault.InvalidField("entity_rows.arrow_ipc", "the Arrow IPC stream breaks off or is damaged after row %d: %w", t.rows, err)
	}
	_, err = io.Copy(io.Discard, in)
	return err
}

// addRecord keeps a record and converts the columns that the join needs.
func (t *arrowTable) addRecord(names []string, record arrow.RecordBatch) error {
	needed := map[string]bool{orDefault(t.call.header.GetTimeColumn(), defaultTimeColumn): true}
	for _, key := range t.call.selection.KeyNames {
		needed[key.Name] = true
	}
	columns := wire.Columns{Rows: int(record.NumRows())}
	for i, name := range names {
		if !needed[name] {
			continue
		}
		c, err := arrowwire.FromArray(record.Column(i))
		if err != nil {
			return fault.InvalidField("entity_rows.arrow_ipc", "column %q: %w", name, err)
		}
		columns.Names = append(columns.Names, name)
		columns.Columns = append(columns.Columns, c)
	}
	if err := t.call.feed(columns); err != nil {
		return err
	}
	record.Retain()
	t.records = append(t.records, record)
	t.starts = append(t.starts, t.rows)
	t.rows += columns.Rows
	return nil
}

func (t *arrowTable) add(chunk *twofoldv1.EntityRows) error {
	if _, ok := chunk.GetRows().(*twofoldv1.EntityRows_ArrowIpc); !ok {
		return fault.InvalidField("entity_rows.rows", "the first chunk was arrow_ipc, this one is not; all chunks of a stream use the same field")
	}
	if _, err := t.in.Write(chunk.GetArrowIpc()); err != nil {
		return t.finish()
	}
	return nil
}

func (t *arrowTable) finish() error {
	_ = t.in.Close() // never fails
	err := <-t.done
	t.done <- err // for whoever asks again
	return err
}

// close ends the goroutine, which waits for more where the call ended early.
func (t *arrowTable) close() {
	_ = t.in.CloseWithError(io.ErrUnexpectedEOF) // never fails
	_ = t.finish()                               // the call has this error already
	for _, record := range t.records {
		record.Release()
	}
}

func (t *arrowTable) schema() ([]string, []feature.Type, error) {
	var names []string
	var types []feature.Type
	for _, field := range t.arrow.Fields() {
		kind, err := arrowwire.TypeOf(field.Type)
		if err != nil {
			return nil, nil, fault.InvalidField("header.format", "column %q cannot be sent as a typed column (%w); ask for HISTORICAL_FORMAT_ARROW_IPC or leave it out", field.Name, err)
		}
		names, types = append(names, field.Name), append(types, kind)
	}
	return names, types, nil
}

func (t *arrowTable) arrowFields() []arrow.Field { return t.arrow.Fields() }

func (t *arrowTable) columns(from, to int) ([]*twofoldv1.Column, error) {
	arrays, err := t.arrays(memory.DefaultAllocator, from, to)
	if err != nil {
		return nil, err
	}
	defer releaseAll(arrays)
	columns := make([]*twofoldv1.Column, len(arrays))
	for i, a := range arrays {
		c, err := arrowwire.FromArray(a)
		if err != nil {
			return nil, fault.InvalidField("entity_rows.arrow_ipc", "column %q: %w", t.arrow.Field(i).Name, err)
		}
		if columns[i], err = wire.ColumnToProto(t.arrow.Field(i).Name, c, 0, to-from); err != nil {
			return nil, err
		}
	}
	return columns, nil
}

func (t *arrowTable) arrays(mem memory.Allocator, from, to int) ([]arrow.Array, error) {
	arrays := make([]arrow.Array, 0, t.arrow.NumFields())
	for i := range t.arrow.NumFields() {
		a, err := t.slice(mem, i, from, to)
		if err != nil {
			releaseAll(arrays)
			return nil, err
		}
		arrays = append(arrays, a)
	}
	return arrays, nil
}

// bytesPerRow is an average: a slice of a record does not know its own size.
func (t *arrowTable) bytesPerRow() int {
	bytes := 0
	for _, record := range t.records {
		for _, column := range record.Columns() {
			bytes += arrayBytes(column.Data())
		}
	}
	return bytes / max(1, t.rows)
}

// arrayBytes is the size of an array's buffers, those of its children included. Of a slice it is that of the whole.
func arrayBytes(data arrow.ArrayData) int {
	bytes := 0
	for _, buffer := range data.Buffers() {
		if buffer != nil {
			bytes += buffer.Len()
		}
	}
	for _, child := range data.Children() {
		bytes += arrayBytes(child)
	}
	return bytes
}

// slice returns rows of one column, which may span several records.
func (t *arrowTable) slice(mem memory.Allocator, column, from, to int) (arrow.Array, error) {
	var parts []arrow.Array
	defer func() { releaseAll(parts) }()
	after, _ := slices.BinarySearch(t.starts, from+1) // the record before it holds row from
	for r := after - 1; r < len(t.records) && t.starts[r] < to; r++ {
		record, start := t.records[r], t.starts[r]
		end := start + int(record.NumRows())
		parts = append(parts, array.NewSlice(record.Column(column), int64(max(from, start)-start), int64(min(to, end)-start)))
	}
	if len(parts) == 1 {
		parts[0].Retain()
		return parts[0], nil
	}
	return array.Concatenate(parts, mem)
}

// arrowEncoder sends one Arrow IPC stream, spread over schema, batches and manifest.
type arrowEncoder struct {
	call   *historicalCall
	out    bytes.Buffer
	writer *ipc.Writer
	arrow  *arrow.Schema
	// head is the start of the stream, sent with the schema; the writer writes it again before its first batch.
	head   []byte
	record arrow.RecordBatch
	// entityRowBytes is the average size of an entity row.
	entityRowBytes int
}

func newArrowEncoder(call *historicalCall) *arrowEncoder {
	fields := append([]arrow.Field(nil), call.entities.arrowFields()...)
	names, types := call.featureSchema()
	for i, name := range names {
		fields = append(fields, arrowwire.Field(name, types[i]))
	}
	e := &arrowEncoder{call: call, arrow: arrow.NewSchema(fields, nil), entityRowBytes: call.entities.bytesPerRow()}
	e.writer = ipc.NewWriter(&e.out, ipc.WithSchema(e.arrow))
	return e
}

// endOfStream is how an Arrow IPC stream ends: a continuation marker and a length of 0.
var endOfStream = []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}

func (e *arrowEncoder) schema() (*twofoldv1.HistoricalSchema, error) {
	var empty bytes.Buffer
	if err := ipc.NewWriter(&empty, ipc.WithSchema(e.arrow)).Close(); err != nil {
		return nil, fmt.Errorf("arrow schema: %w", err)
	}
	head, ok := bytes.CutSuffix(empty.Bytes(), endOfStream)
	if !ok {
		return nil, errors.New("arrow schema: an empty stream does not end as the format says")
	}
	e.head = head
	schema := &twofoldv1.HistoricalSchema{ArrowIpc: head}
	for _, field := range e.arrow.Fields() {
		kind, err := arrowwire.TypeOf(field.Type)
		if err != nil {
			kind = 0 // a passed-through type that the contract has no name for
		}
		schema.Columns = append(schema.Columns, wire.ColumnSchema(field.Name, kind))
	}
	return schema, nil
}

func (e *arrowEncoder) prepare(from, to int) (int, error) {
	e.release()
	mem := memory.DefaultAllocator
	arrays, err := e.call.entities.arrays(mem, from, to)
	if err != nil {
		return 0, err
	}
	defer func() { releaseAll(arrays) }()
	bytes := e.entityRowBytes * (to - from)
	for _, c := range e.call.features(from, to) {
		a, err := arrowwire.ToArray(c, 0, to-from)
		if err != nil {
			return 0, err
		}
		arrays = append(arrays, a)
		bytes += arrayBytes(a.Data())
	}
	e.record = array.NewRecordBatch(e.arrow, arrays, int64(to-from))
	return bytes, nil
}

func (e *arrowEncoder) release() {
	if e.record != nil {
		e.record.Release()
		e.record = nil
	}
}

func (e *arrowEncoder) take() (*twofoldv1.HistoricalBatch, error) {
	defer e.release()
	if err := e.writer.Write(e.record); err != nil {
		return nil, fmt.Errorf("arrow batch: %w", err)
	}
	return &twofoldv1.HistoricalBatch{ArrowIpc: e.drain()}, nil
}

func (e *arrowEncoder) end() ([]byte, error) {
	if err := e.writer.Close(); err != nil {
		return nil, fmt.Errorf("arrow stream: %w", err)
	}
	return e.drain(), nil
}

// drain returns what the writer has written since the last call, without the head that was sent with the schema.
func (e *arrowEncoder) drain() []byte {
	written := bytes.Clone(e.out.Bytes())
	e.out.Reset()
	if e.head != nil {
		written = bytes.TrimPrefix(written, e.head)
		e.head = nil
	}
	return written
}
