package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/training"
	"github.com/twofold-ml/twofold/internal/wire"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

// encoder sends the result in one format.
type encoder interface {
	// schema is called first, once.
	schema() (*twofoldv1.HistoricalSchema, error)
	// run joins the rows and sends all batches.
	run(ctx context.Context) error
	// end returns the bytes that end an Arrow stream.
	end() ([]byte, error)
}

func (c *historicalCall) newEncoder() encoder {
	if c.typed {
		return &columnEncoder{call: c}
	}
	return newArrowEncoder(c)
}

// columnSchemas names columns and their types.
func columnSchemas(schema *arrow.Schema) (columns []*twofoldv1.ColumnSchema) {
	for _, field := range schema.Fields() {
		kind, err := arrowwire.TypeOf(field.Type)
		if err != nil {
			kind = 0 // a passed-through type that the contract has no name for
		}
		columns = append(columns, wire.ColumnSchema(field.Name, kind))
	}
	return columns
}

// columnEncoder sends typed columns.
type columnEncoder struct{ call *historicalCall }

func (e *columnEncoder) schema() (*twofoldv1.HistoricalSchema, error) {
	return &twofoldv1.HistoricalSchema{Columns: columnSchemas(e.call.set.Schema())}, nil
}

func (e *columnEncoder) run(ctx context.Context) error {
	return training.Run(ctx, e.call.set, e.encode, e.call.out.send)
}

func (e *columnEncoder) encode(b *training.Batch) (*twofoldv1.GetHistoricalFeaturesResponse, error) {
	fields := e.call.set.Schema().Fields()
	columns := make([]*twofoldv1.Column, 0, len(fields))
	add := func(c *feature.Column) error {
		column, err := wire.ColumnToProto(fields[len(columns)].Name, c, 0, b.Rows)
		columns = append(columns, column)
		return err
	}
	for _, a := range b.Entities {
		c, err := arrowwire.FromArray(a)
		if err != nil {
			return nil, fault.InvalidField("entity_rows", "column %q: %w", fields[len(columns)].Name, err)
		}
		if err := add(c); err != nil {
			return nil, err
		}
	}
	for _, c := range b.Added {
		if err := add(c); err != nil {
			return nil, err
		}
	}
	batch := &twofoldv1.HistoricalBatch{Columns: &twofoldv1.ColumnBatch{Columns: columns}, RowCount: uint32(b.Rows)}
	return &twofoldv1.GetHistoricalFeaturesResponse{Message: &twofoldv1.GetHistoricalFeaturesResponse_Batch{Batch: batch}}, nil
}

func (e *columnEncoder) end() ([]byte, error) { return nil, nil }

// arrowEncoder sends one Arrow IPC stream, spread over schema, batches and manifest. Each batch is written straight into the bytes of its message.
type arrowEncoder struct {
	call   *historicalCall
	out    *messageBuffer
	writer *ipc.Writer
	// headBytes is the length of the start of the stream, which is sent with the schema; the writer writes it again before its first batch.
	headBytes int
}

func newArrowEncoder(call *historicalCall) *arrowEncoder {
	e := &arrowEncoder{call: call, out: &messageBuffer{}}
	e.writer = ipc.NewWriter(e.out, ipc.WithSchema(call.set.Schema()))
	return e
}

// endOfStream is how an Arrow IPC stream ends: a continuation marker and a length of 0.
var endOfStream = []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}

func (e *arrowEncoder) schema() (*twofoldv1.HistoricalSchema, error) {
	var empty bytes.Buffer
	if err := ipc.NewWriter(&empty, ipc.WithSchema(e.call.set.Schema())).Close(); err != nil {
		return nil, fmt.Errorf("arrow schema: %w", err)
	}
	head, ok := bytes.CutSuffix(empty.Bytes(), endOfStream)
	if !ok {
		return nil, errors.New("arrow schema: an empty stream does not end as the format says")
	}
	e.headBytes = len(head)
	return &twofoldv1.HistoricalSchema{Columns: columnSchemas(e.call.set.Schema()), ArrowIpc: head}, nil
}

func (e *arrowEncoder) run(ctx context.Context) error {
	schema := e.call.set.Schema()
	encode := func(b *training.Batch) (arrow.RecordBatch, error) { return b.Record(schema) }
	return training.Run(ctx, e.call.set, encode, e.send)
}

// send writes a record and sends what that makes.
func (e *arrowEncoder) send(record arrow.RecordBatch) error {
	defer record.Release()
	if err := e.write(record); err != nil {
		return err
	}
	return e.call.out.sendEncoded(e.out.message(uint32(record.NumRows())))
}

func (e *arrowEncoder) write(record arrow.RecordBatch) error {
	e.out.skip, e.headBytes = e.headBytes, 0
	e.out.begin(int(training.RecordBytes(record)))
	if err := e.writer.Write(record); err != nil {
		return fmt.Errorf("arrow batch: %w", err)
	}
	return nil
}

func (e *arrowEncoder) end() ([]byte, error) {
	e.out.skip, e.headBytes = e.headBytes, 0
	e.out.begin(0)
	if err := e.writer.Close(); err != nil {
		return nil, fmt.Errorf("arrow stream: %w", err)
	}
	return bytes.Clone(*e.out.bytes), nil
}

// messageBuffer collects the Arrow bytes of one batch.
type messageBuffer struct {
	bytes *[]byte
	// skip is how many bytes are left out at first.
	skip int
}

// begin starts a message of about so many bytes.
func (b *messageBuffer) begin(size int) {
	if b.bytes == nil {
		b.bytes = answerBuffers.Get(size + size/16 + 4096)
	}
	*b.bytes = (*b.bytes)[:0]
}

// Write implements io.Writer.
func (b *messageBuffer) Write(p []byte) (int, error) {
	left := p[min(b.skip, len(p)):]
	b.skip -= len(p) - len(left)
	*b.bytes = append(*b.bytes, left...)
	return len(p), nil
}

// message returns the bytes of a GetHistoricalFeaturesResponse with what was written as its batch, and gives them away.
func (b *messageBuffer) message(rows uint32) encodedMessage {
	const batchField, arrowField, rowsField = 2, 2, 3
	arrowBytes := len(*b.bytes)
	*b.bytes = protowire.AppendTag(*b.bytes, rowsField, protowire.VarintType)
	*b.bytes = protowire.AppendVarint(*b.bytes, uint64(rows))
	arrowHead := protowire.AppendVarint(protowire.AppendTag(nil, arrowField, protowire.BytesType), uint64(arrowBytes))
	head := protowire.AppendTag(make([]byte, 0, 24), batchField, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(len(arrowHead)+len(*b.bytes)))
	head = append(head, arrowHead...)
	body := mem.NewBuffer(b.bytes, answerBuffers)
	b.bytes = nil
	return encodedMessage{mem.BufferSlice{mem.SliceBuffer(head), body}}
}
