package offline_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"

	"github.com/twofold-ml/twofold/internal/offline"
)

// TestWrittenRowGroups: wide rows end a row group before it takes much memory.
func TestWrittenRowGroups(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "text", Type: arrow.BinaryTypes.Binary}}, nil)
	r := rand.New(rand.NewPCG(1, 2))
	var out bytes.Buffer
	w, err := offline.NewParquetWriter(&out, schema)
	if err != nil {
		t.Fatal(err)
	}
	const records, rows, width = 20, 80, 128 << 10 // 10 MB a record that cannot be compressed
	for range records {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		for range rows {
			value := make([]byte, width)
			for i := range value {
				value[i] = byte(r.Uint32())
			}
			b.Field(0).(*array.BinaryBuilder).Append(value)
		}
		if err := w.Write(b.NewRecordBatch()); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	in, err := file.NewParquetReader(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if groups := in.NumRowGroups(); groups < 3 || groups > 5 || in.NumRows() != records*rows {
		t.Errorf("%d row groups of %d rows; each should have some 64 to 75 MB", groups, in.NumRows())
	}
}

// TestWrittenBytesRepeat: the same records make the same file, though several columns have pages of two encodings and the library's maps an order of
// their own each time.
func TestWrittenBytesRepeat(t *testing.T) {
	const columns, rows = 4, 200_000 // more values than a dictionary takes
	fields := make([]arrow.Field, columns)
	for i := range fields {
		fields[i] = arrow.Field{Name: string(rune('a' + i)), Type: arrow.PrimitiveTypes.Int64}
	}
	schema := arrow.NewSchema(fields, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	for i := range fields {
		for row := range rows {
			b.Field(i).(*array.Int64Builder).Append(int64(row * (i + 1)))
		}
	}
	record := b.NewRecordBatch()
	defer record.Release()
	write := func() []byte {
		var out bytes.Buffer
		w, err := offline.NewParquetWriter(&out, schema)
		if err == nil {
			err = w.Write(record)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	first := write()
	for range 12 {
		if !bytes.Equal(first, write()) {
			t.Fatal("the same record made another file")
		}
	}
	in, err := file.NewParquetReader(bytes.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	chunk, err := in.MetaData().RowGroup(0).ColumnChunk(0)
	if err != nil {
		t.Fatal(err)
	}
	if stats := chunk.EncodingStats(); in.NumRows() != rows || len(stats) != 3 {
		t.Errorf("%d rows, encodings %v; want a dictionary and pages of two encodings", in.NumRows(), stats)
	}
}
