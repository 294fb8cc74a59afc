package offline

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/testenv"
)

// place is somewhere to put files for a test, and the store that reads them.
type place struct {
	name  string
	store *Store
	url   string
	put   func(t testing.TB, path string, data []byte)
}

// onEveryPlace runs a test on local files and on S3.
func onEveryPlace(t *testing.T, test func(t *testing.T, p place)) {
	t.Run("file", func(t *testing.T) { test(t, filePlace(t)) })
	t.Run("s3", func(t *testing.T) { test(t, s3Place(t)) })
}

func filePlace(t testing.TB) place {
	dir := t.TempDir()
	store, err := Open(t.Context(), Config{Path: dir})
	require.NoError(t, err)
	return place{"file", store, "file://" + dir, func(t testing.TB, path string, data []byte) {
		full := filepath.Join(dir, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(full), 0o755))
		require.NoError(t, os.WriteFile(full, data, 0o644))
	}}
}

func s3Place(t testing.TB) place {
	server := testenv.S3(t)
	bucket := server.Bucket(t)
	store, err := Open(t.Context(), Config{Path: "s3://" + bucket + "/base", S3: s3Config(server)})
	require.NoError(t, err)
	return place{"s3", store, "s3://" + bucket + "/base", func(t testing.TB, path string, data []byte) {
		server.Put(t, bucket, "base/"+path, data)
	}}
}

func s3Config(server *testenv.S3Server) S3Config {
	return S3Config{Endpoint: server.Endpoint, PathStyle: true, AccessKeyID: server.AccessKey, SecretAccessKey: server.SecretKey}
}

// view makes a view of the key "id" and the time "ts".
func view(path string, keyType feature.Type, features ...feature.Feature) *feature.View {
	for i := range features {
		if features[i].Column == "" {
			features[i].Column = features[i].Name
		}
	}
	entity := &feature.Entity{Name: "e", Keys: []feature.Key{{Name: "id", Type: keyType}}}
	v := &feature.View{Name: "v", Entity: entity, Features: features,
		Source: feature.Source{Path: path, EventTimeColumn: "ts", KeyColumns: []string{"id"}}}
	feature.NewRegistry([]*feature.Entity{entity}, []*feature.View{v}, nil, "")
	return v
}

// writeArrow writes columns with pqarrow, in row groups of groupRows.
func writeArrow(t testing.TB, groupRows int64, fields []arrow.Field, columns []arrow.Array, options ...parquet.WriterProperty) []byte {
	t.Helper()
	data, err := tryWriteArrow(groupRows, fields, columns, options...)
	require.NoError(t, err)
	return data
}

func tryWriteArrow(groupRows int64, fields []arrow.Field, columns []arrow.Array, options ...parquet.WriterProperty) ([]byte, error) {
	schema := arrow.NewSchema(fields, nil)
	record := array.NewRecordBatch(schema, columns, int64(columns[0].Len()))
	defer record.Release()
	var b bytes.Buffer
	properties := parquet.NewWriterProperties(append([]parquet.WriterProperty{parquet.WithMaxRowGroupLength(groupRows)}, options...)...)
	w, err := pqarrow.NewFileWriter(schema, &b, properties, pqarrow.DefaultWriterProps())
	if err != nil {
		return nil, err
	}
	if err := w.WriteBuffered(record); err != nil {
		return nil, err
	}
	err = w.Close()
	return b.Bytes(), err
}

var timestampUTC = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}

func int64s(values ...int64) arrow.Array {
	b := array.NewInt64Builder(memory.DefaultAllocator)
	b.AppendValues(values, nil)
	return b.NewArray()
}

func doubles(values ...float64) arrow.Array {
	b := array.NewFloat64Builder(memory.DefaultAllocator)
	b.AppendValues(values, nil)
	return b.NewArray()
}

func times(values ...int64) arrow.Array {
	b := array.NewTimestampBuilder(memory.DefaultAllocator, timestampUTC)
	for _, v := range values {
		b.Append(arrow.Timestamp(v))
	}
	return b.NewArray()
}

func field(name string, t arrow.DataType) arrow.Field {
	return arrow.Field{Name: name, Type: t, Nullable: true}
}

// history is all rows of a table as Go values: one slice a column, keys and times first.
type history struct {
	columns []*feature.Column
	files   []string
	pruned  int64
}

// readTable reads all keys, times and features of a view, through Keys and Gather.
func readTable(ctx context.Context, table *Table, within feature.TimeRange) (history, error) {
	var h history
	for _, w := range table.wants {
		h.columns = append(h.columns, feature.NewColumn(w.t, 0))
	}
	fragments, pruned, err := table.Fragments(ctx, within)
	h.pruned = pruned
	if err != nil {
		return h, err
	}
	for _, f := range fragments {
		h.files = append(h.files, f.File().URL)
		err := f.Keys(ctx, within, func(b feature.KeyBatch) error {
			for i := range b.Len() {
				for k, key := range b.Keys {
					h.columns[k].AppendFrom(key, i)
				}
				h.columns[len(b.Keys)].AppendFrom(b.EventTimes, i)
				if b.CreatedTimes != nil {
					h.columns[table.created].AppendFrom(b.CreatedTimes, i)
				}
				if b.Deleted != nil {
					h.columns[table.deleted].AppendFrom(b.Deleted, i)
				}
			}
			return nil
		})
		if err != nil {
			return h, err
		}
		rows := make([]int64, f.NumRows())
		for i := range rows {
			rows[i] = int64(i)
		}
		indices := make([]int, len(table.view.Features))
		for i := range indices {
			indices[i] = i
		}
		if err := f.Gather(ctx, rows, indices, h.columns[table.keyColumns():]); err != nil {
			return h, err
		}
	}
	return h, nil
}

// valuesOf gives a column as Go values.
func valuesOf(c *feature.Column) []any {
	out := make([]any, c.Len())
	for i := range out {
		out[i] = c.ValueAt(i)
	}
	return out
}
