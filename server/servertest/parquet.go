package servertest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

// Table is named columns of the same length, for a test to write down.
type Table struct {
	Names   []string
	Columns []*feature.Column
}

// Add adds a column and returns the table. A value is nil (null) or the Go value that feature.Column.ValueAt gives for the type; STRING, BOOL, INT32,
// INT64, DOUBLE and TIMESTAMP are known.
func (t *Table) Add(name string, kind feature.Type, values ...any) *Table {
	c := feature.NewColumn(kind, len(values))
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			c.AppendMissing(feature.Null)
		case string:
			c.AppendString(v)
		case bool:
			c.AppendBool(v)
		case int32:
			c.AppendInt32(v)
		case int64:
			c.AppendInt64(v)
		case int:
			c.AppendInt64(int64(v))
		case float64:
			c.AppendDouble(v)
		default:
			panic("servertest: a value of an unknown type")
		}
	}
	t.Names, t.Columns = append(t.Names, name), append(t.Columns, c)
	return t
}

// Record returns the table as an Arrow record.
func (t *Table) Record(tb testing.TB) arrow.RecordBatch {
	tb.Helper()
	var fields []arrow.Field
	var arrays []arrow.Array
	for i, c := range t.Columns {
		a, err := arrowwire.ToArray(c, 0, c.Len())
		if err != nil {
			tb.Fatal(err)
		}
		fields, arrays = append(fields, arrowwire.Field(t.Names[i], c.Type)), append(arrays, a)
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), arrays, int64(t.Columns[0].Len()))
}

// WriteParquet writes the table as a Parquet file.
func (t *Table) WriteParquet(tb testing.TB, path string) {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		tb.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	record := t.Record(tb)
	w, err := offline.NewParquetWriter(f, record.Schema())
	if err != nil {
		tb.Fatal(err)
	}
	if err := w.Write(record); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil { // closes f too
		tb.Fatal(err)
	}
}
