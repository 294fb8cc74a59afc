package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/spf13/cobra"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

const clientUse = "client"

func clientCommand() *cobra.Command {
	return childCommand(clientUse, "Ask for a training set and read it to the last value", func(ctx context.Context, o order) (func() (*tally, error), func(), error) {
		c, err := client.Dial(o.Target)
		if err != nil {
			return nil, nil, err
		}
		return func() (*tally, error) { return askHistorical(ctx, c, o) }, func() { _ = c.Close() }, nil // nothing is left to lose
	})
}

// askHistorical sends the entity rows of a Parquet file as an Arrow stream and reads the Arrow stream that comes back while it comes.
func askHistorical(ctx context.Context, c *client.Client, o order) (*tally, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rows, send := io.Pipe()
	go func() { _ = send.CloseWithError(sendEntities(send, o.Entities)) }() // never fails
	defer rows.Close()
	answer, out := io.Pipe()
	type result struct {
		tally *tally
		err   error
	}
	read := make(chan result, 1)
	go func() {
		t, err := readAnswer(answer)
		_ = answer.CloseWithError(errors.Join(err, io.ErrClosedPipe)) // wakes a writer; never fails
		read <- result{t, err}
	}()
	_, err := c.HistoricalArrow(ctx, &twofoldv1.HistoricalHeader{Features: o.Features}, rows, out, nil)
	_ = out.CloseWithError(err) // io.EOF where err is nil; never fails
	r := <-read
	if err != nil {
		return nil, err
	}
	return r.tally, r.err
}

// sendEntities writes the rows of a Parquet file, all of whose columns are 64-bit numbers and times without nulls, as an Arrow stream.
func sendEntities(out io.Writer, path string) error {
	reader, err := file.OpenParquetFile(path, false)
	if err != nil {
		return fmt.Errorf("open the entity rows: %w", err)
	}
	defer reader.Close()
	schema := entitySchema()
	writer := ipc.NewWriter(out, ipc.WithSchema(schema))
	for g := range reader.NumRowGroups() {
		if err := sendGroup(writer, schema, reader.RowGroup(g)); err != nil {
			return fmt.Errorf("%s, row group %d: %w", path, g, err)
		}
	}
	return writer.Close()
}

// chunkRows are sent at once.
const chunkRows = 1 << 15

// sendGroup sends a row group, a batch at a time.
func sendGroup(out *ipc.Writer, schema *arrow.Schema, group *file.RowGroupReader) error {
	columns := make([]*file.Int64ColumnChunkReader, schema.NumFields())
	for i := range columns {
		c, err := group.Column(i)
		if err != nil {
			return err
		}
		var ok bool
		if columns[i], ok = c.(*file.Int64ColumnChunkReader); !ok {
			return fmt.Errorf("column %d is a %T", i, c)
		}
	}
	levels := make([]int16, chunkRows)
	for left := group.NumRows(); left > 0; left -= chunkRows {
		n := min(left, chunkRows)
		arrays := make([]arrow.Array, len(columns))
		for i, c := range columns {
			values := make([]int64, n)
			if err := readAll(c, values, levels); err != nil {
				return fmt.Errorf("column %d: %w", i, err)
			}
			buffers := []*memory.Buffer{nil, memory.NewBufferBytes(arrow.Int64Traits.CastToBytes(values))}
			arrays[i] = array.MakeFromData(array.NewData(schema.Field(i).Type, int(n), buffers, nil, 0, 0))
		}
		if err := out.Write(array.NewRecordBatch(schema, arrays, n)); err != nil {
			return err
		}
	}
	return nil
}

// readAll fills values from a column without nulls.
func readAll(c *file.Int64ColumnChunkReader, values []int64, levels []int16) error {
	for len(values) > 0 {
		total, n, err := c.ReadBatch(int64(len(values)), values, levels, nil)
		switch {
		case err != nil:
			return err
		case int64(n) != total:
			return errors.New("has nulls")
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		values = values[n:]
	}
	return nil
}

// readAnswer reads an Arrow stream to the last value.
func readAnswer(in io.Reader) (*tally, error) {
	reader, err := ipc.NewReader(in)
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	defer reader.Release()
	t := &tally{}
	for _, f := range reader.Schema().Fields() {
		t.Columns = append(t.Columns, columnTally{Name: f.Name})
	}
	for reader.Next() {
		if err := addRecord(t, reader.RecordBatch()); err != nil {
			return nil, err
		}
	}
	return t, reader.Err()
}

// addRecord reads all values of a batch.
func addRecord(t *tally, record arrow.RecordBatch) error {
	t.start(int(record.NumRows()))
	for i, column := range record.Columns() {
		valid := validity{bits: column.NullBitmapBytes(), offset: column.Data().Offset()}
		switch c := column.(type) {
		case *array.Int64:
			t.int64s(i, c.Int64Values(), valid)
		case *array.Timestamp:
			t.int64s(i, arrow.Int64Traits.CastFromBytes(arrow.TimestampTraits.CastToBytes(c.TimestampValues())), valid)
		case *array.Float64:
			t.doubles(i, c.Float64Values(), valid)
		case *array.String:
			t.strings(i, c.Value, valid)
		default:
			return fmt.Errorf("column %s of the answer is %v, which is not expected", t.Columns[i].Name, column.DataType())
		}
	}
	t.finish()
	return nil
}
