package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/offline"
)

// prices is a view of one feature; its type is to be written in.
func prices(featureType string) string {
	return `entities: [{name: user, keys: [{name: id, type: INT64}]}]
feature_views:
  - name: prices
    entity: user
    source: {path: prices, event_time_column: ts}
    features: [{name: price, type: ` + featureType + `}]
`
}

// putParquet writes a file of one row, (1, 1 µs) and further columns.
func putParquet(t *testing.T, path string, columns map[string]arrow.Array) {
	t.Helper()
	ids := array.NewInt64Builder(memory.DefaultAllocator)
	ids.Append(1)
	stamps := array.NewTimestampBuilder(memory.DefaultAllocator, &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"})
	stamps.Append(1)
	all := map[string]arrow.Array{"id": ids.NewArray(), "ts": stamps.NewArray()}
	for name, column := range columns {
		all[name] = column
	}
	var fields []arrow.Field
	var arrays []arrow.Array
	for _, name := range []string{"id", "ts", "price"} {
		if column := all[name]; column != nil {
			fields, arrays = append(fields, arrow.Field{Name: name, Type: column.DataType(), Nullable: true}), append(arrays, column)
		}
	}
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	file, err := os.Create(path)
	require.NoError(t, err)
	w, err := offline.NewParquetWriter(file, arrow.NewSchema(fields, nil))
	require.NoError(t, err)
	require.NoError(t, w.Write(array.NewRecordBatch(arrow.NewSchema(fields, nil), arrays, 1)))
	require.NoError(t, w.Close())
	_ = file.Close() // the writer may have closed it
}

func one(t *testing.T, typ arrow.DataType, text string) arrow.Array {
	t.Helper()
	b := array.NewBuilder(memory.DefaultAllocator, typ)
	require.NoError(t, b.AppendValueFromString(text))
	return b.NewArray()
}

// What lint says of files is what a sync of them does.
func TestLintAndSyncAgree(t *testing.T) {
	ints, texts := one(t, arrow.PrimitiveTypes.Int32, "7"), one(t, arrow.BinaryTypes.String, "seven")
	decimals := one(t, &arrow.Decimal128Type{Precision: 9, Scale: 2}, "7.25")
	nulls := array.NewNull(1)
	for _, tc := range []struct {
		name, typ string
		files     map[string]map[string]arrow.Array
		code      int
		want      string
	}{
		{"decimals as DOUBLE", "DOUBLE", map[string]map[string]arrow.Array{"1.parquet": {"price": decimals}}, exitOK, "all well"},
		{"decimals as INT64", "INT64", map[string]map[string]arrow.Array{"1.parquet": {"price": decimals}}, exitFailure, "declare it DOUBLE"},
		{"nulls only", "STRING", map[string]map[string]arrow.Array{"1.parquet": {"price": nulls}}, exitOK, "all well"},
		{"types differ, old file", "STRING", map[string]map[string]arrow.Array{"1.parquet": {"price": ints}, "2.parquet": {"price": texts}}, exitFailure, "prices/1.parquet, not STRING"},
		{"types differ, new file", "INT32", map[string]map[string]arrow.Array{"1.parquet": {"price": ints}, "2.parquet": {"price": texts}}, exitFailure, "prices/2.parquet, not INT32"},
		{"wider everywhere", "DOUBLE", map[string]map[string]arrow.Array{"1.parquet": {"price": ints}, "2.parquet": {"price": decimals}}, exitOK, "all well"},
		{"key missing", "INT32", map[string]map[string]arrow.Array{"1.parquet": {"id": nil, "price": ints}, "2.parquet": {"price": ints}}, exitFailure, "/prices/1.parquet; write it in every file"},
		{"feature missing", "INT32", map[string]map[string]arrow.Array{"1.parquet": {}, "2.parquet": {"price": ints}}, exitOK, "/prices/1.parquet; its values are null there"},
		{"hidden", "INT32", map[string]map[string]arrow.Array{"price=7/1.parquet": {"price": texts}}, exitOK, "hide the column of that name in file://"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, columns := range tc.files {
				putParquet(t, filepath.Join(dir, "prices", name), columns)
			}
			env := []string{"OFFLINE_STORE_PATH=" + dir, "TWOFOLD_ONLINE_STORE_PATH=" + t.TempDir(), "TWOFOLD_DEFINITIONS=" + writeFile(t, "f.yaml", prices(tc.typ))}
			r := twofold(t, env, "lint")
			require.Equal(t, tc.code, r.code, "%s%s", r.out, r.stderr)
			require.Contains(t, r.out, tc.want)
			synced := twofold(t, env, "sync", "--once")
			require.Equal(t, tc.code, synced.code, "%s%s", synced.out, synced.stderr)
		})
	}
}
