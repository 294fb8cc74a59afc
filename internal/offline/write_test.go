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
