package server

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/wire"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

// receive reads entity rows from the stream until the client closes its side.
func (c *historicalCall) receive() error {
	var rows entityReceiver
	defer func() {
		if rows != nil {
			rows.close()
		}
	}()
	for {
		message, err := c.stream.Recv()
		if errors.Is(err, io.EOF) {
			if rows == nil {
				return fault.InvalidField("entity_rows", "the stream ended without entity rows; send at least one chunk, which may have no rows")
			}
			return rows.finish()
		}
		if err != nil {
			return err
		}
		chunk := message.GetEntityRows()
		if chunk == nil {
			return fault.InvalidField("entity_rows", "after the header, every message must hold entity rows")
		}
		if rows == nil {
			if rows, err = c.newReceiver(chunk); err != nil {
				return err
			}
		}
		if err := rows.add(chunk); err != nil {
			return err
		}
	}
}

// noMoreMessages refuses messages after a header that says where the entity rows are.
func (c *historicalCall) noMoreMessages(field string) error {
	_, err := c.stream.Recv()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	default:
		return fault.InvalidField("header."+field, "the entity rows come from there, so none may be streamed; send the header only and close your side, or leave %s out", field)
	}
}

// entityReceiver takes the chunks of one stream.
type entityReceiver interface {
	// add takes a chunk.
	add(chunk *twofoldv1.EntityRows) error
	// finish is called after the last chunk.
	finish() error
	// close is called last, however the call ended.
	close()
}

func (c *historicalCall) newReceiver(first *twofoldv1.EntityRows) (entityReceiver, error) {
	switch first.GetRows().(type) {
	case *twofoldv1.EntityRows_Columns:
		return &columnReceiver{call: c}, nil
	case *twofoldv1.EntityRows_ArrowIpc:
		return newArrowReceiver(c), nil
	default:
		return nil, fault.InvalidField("entity_rows.rows", "neither columns nor arrow_ipc is set")
	}
}

// startRows begins the entity rows with their columns.
func (c *historicalCall) startRows(schema *arrow.Schema) error {
	if c.typed {
		for _, field := range schema.Fields() {
			if _, err := arrowwire.TypeOf(field.Type); err != nil {
				return fault.InvalidField("header.format", "column %q cannot be sent as a typed column (%w); ask for HISTORICAL_FORMAT_ARROW_IPC or leave it out", field.Name, err)
			}
		}
	}
	if n, limit := schema.NumFields(), c.server.o.MaxFeatures; n > limit {
		return pastLimit("entity_rows.columns", "max_features_per_request", limit, "%d columns are more than this server's limit of %d a request; leave some out and join them to the result", n, limit)
	}
	return c.rows.Start(schema)
}

// append appends entity rows and counts them for whoever looks at the progress.
func (c *historicalCall) append(record arrow.RecordBatch) error {
	err := c.rows.Append(record)
	c.progress.Came(c.rows.Len())
	return err
}

// columnReceiver takes typed columns.
type columnReceiver struct {
	call   *historicalCall
	names  []string
	types  []feature.Type
	schema *arrow.Schema
}

func (r *columnReceiver) add(chunk *twofoldv1.EntityRows) error {
	if chunk.GetColumns() == nil {
		return fault.InvalidField("entity_rows.rows", "the first chunk was columns, this one is not; all chunks of a stream use the same field")
	}
	columns, err := wire.ColumnsFromProto("entity_rows.columns", chunk.GetColumns().GetColumns())
	if err != nil {
		return err
	}
	if r.schema == nil {
		if err := r.start(columns); err != nil {
			return err
		}
	}
	record, err := r.record(columns)
	if err != nil {
		return err
	}
	defer record.Release()
	return r.call.append(record)
}

func (r *columnReceiver) start(columns wire.Columns) error {
	fields := make([]arrow.Field, len(columns.Names))
	for i, c := range columns.Columns {
		fields[i] = arrowwire.Field(columns.Names[i], c.Type)
		r.types = append(r.types, c.Type)
	}
	r.names, r.schema = columns.Names, arrow.NewSchema(fields, nil)
	return r.call.startRows(r.schema)
}

func (r *columnReceiver) record(columns wire.Columns) (arrow.RecordBatch, error) {
	if !slices.Equal(columns.Names, r.names) {
		return nil, fault.InvalidField("entity_rows.columns", "this chunk has the columns %q, the first had %q; all chunks need the same, in the same order", columns.Names, r.names)
	}
	arrays := make([]arrow.Array, len(columns.Columns))
	for i, c := range columns.Columns {
		if c.Type != r.types[i] {
			return nil, fault.InvalidField(fmt.Sprintf("entity_rows.columns[%d]", i), "column %q is %v, in the first chunk it was %v", r.names[i], c.Type, r.types[i])
		}
		var err error
		if arrays[i], err = arrowwire.ToArray(c, 0, columns.Rows); err != nil {
			return nil, err
		}
	}
	return array.NewRecordBatch(r.schema, arrays, int64(columns.Rows)), nil
}

func (r *columnReceiver) finish() error { return nil }

func (r *columnReceiver) close() {}

// arrowReceiver takes an Arrow IPC stream, spread over any number of chunks. The stream is decoded in a goroutine of its own while chunks
// come in; only that goroutine touches the entity rows until finish returns.
type arrowReceiver struct {
	call *historicalCall
	in   *io.PipeWriter
	// done gives the goroutine's result once.
	done chan error
}

func newArrowReceiver(call *historicalCall) *arrowReceiver {
	out, in := io.Pipe()
	r := &arrowReceiver{call: call, in: in, done: make(chan error, 1)}
	go func() {
		err := r.decode(out)
		_ = out.CloseWithError(errors.Join(err, io.ErrClosedPipe)) // wakes a writer; never fails
		r.done <- err
	}()
	return r
}

// decode reads the whole stream. Arrow's reader may panic on bytes that are not Arrow.
func (r *arrowReceiver) decode(in io.Reader) (err error) {
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
	if err := r.call.startRows(reader.Schema()); err != nil {
		return err
	}
	for reader.Next() {
		if err := r.call.append(reader.RecordBatch()); err != nil {
			return err
		}
	}
	if err := reader.Err(); err != nil {
		return fault.InvalidField("entity_rows.arrow_ipc", "the Arrow IPC stream breaks off or is damaged after row %d: %w", r.call.rows.Len(), err)
	}
	var more [1]byte
	switch _, err := io.ReadFull(in, more[:]); {
	case err == nil:
		return fault.InvalidField("entity_rows.arrow_ipc", "the Arrow IPC stream ends after row %d, but more bytes follow, whose rows would be lost; all chunks together are one Arrow IPC stream", r.call.rows.Len())
	case errors.Is(err, io.EOF):
		return nil
	default:
		return err
	}
}

func (r *arrowReceiver) add(chunk *twofoldv1.EntityRows) error {
	if _, ok := chunk.GetRows().(*twofoldv1.EntityRows_ArrowIpc); !ok {
		return fault.InvalidField("entity_rows.rows", "the first chunk was arrow_ipc, this one is not; all chunks of a stream use the same field")
	}
	if _, err := r.in.Write(chunk.GetArrowIpc()); err != nil {
		return r.finish()
	}
	return nil
}

func (r *arrowReceiver) finish() error {
	_ = r.in.Close() // never fails
	err := <-r.done
	r.done <- err // for whoever asks again
	return err
}

// close ends the goroutine, which waits for more where the call ended early.
func (r *arrowReceiver) close() {
	_ = r.in.CloseWithError(io.ErrUnexpectedEOF) // never fails
	_ = r.finish()                               // the call has this error already
}
