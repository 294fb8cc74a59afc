package offline

import (
	"fmt"
	"math"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/twofold-ml/twofold/internal/feature"
)

// arrowTypes are how each type is written.
var arrowTypes = map[feature.Type]arrow.DataType{
	feature.Bool: arrow.FixedWidthTypes.Boolean, feature.Int32: arrow.PrimitiveTypes.Int32, feature.Int64: arrow.PrimitiveTypes.Int64,
	feature.Float: arrow.PrimitiveTypes.Float32, feature.Double: arrow.PrimitiveTypes.Float64, feature.String: arrow.BinaryTypes.String,
	feature.Bytes: arrow.BinaryTypes.Binary, feature.Timestamp: timestampUTC,
}

func arrowType(t feature.Type) arrow.DataType {
	if t.IsList() {
		return arrow.ListOf(arrowTypes[t.Elem()])
	}
	return arrowTypes[t]
}

// appendArrow appends a value, as ValueAt gives it, to a builder.
func appendArrow(b array.Builder, v any) {
	if v == nil {
		b.AppendNull()
		return
	}
	switch b := b.(type) {
	case *array.BooleanBuilder:
		b.Append(v.(bool))
	case *array.Int32Builder:
		b.Append(v.(int32))
	case *array.Int64Builder:
		b.Append(v.(int64))
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(v.(int64)))
	case *array.Float32Builder:
		b.Append(v.(float32))
	case *array.Float64Builder:
		b.Append(v.(float64))
	case *array.StringBuilder:
		b.Append(v.(string))
	case *array.BinaryBuilder:
		b.Append(v.([]byte))
	case *array.ListBuilder:
		b.Append(true)
		for _, e := range v.([]any) {
			appendArrow(b.ValueBuilder(), e)
		}
	}
}

func arrowArray(t feature.Type, values []any) arrow.Array {
	b := array.NewBuilder(memory.DefaultAllocator, arrowType(t))
	defer b.Release()
	for _, v := range values {
		appendArrow(b, v)
	}
	return b.NewArray()
}

// drawValue draws a value of a type that is not a list.
func drawValue(t *rapid.T, typ feature.Type) any {
	switch typ {
	case feature.Bool:
		return rapid.Bool().Draw(t, "v")
	case feature.Int32:
		return rapid.Int32().Draw(t, "v")
	case feature.Int64:
		return rapid.Int64().Draw(t, "v")
	case feature.Timestamp:
		return rapid.Int64Range(math.MinInt64/2, math.MaxInt64/2).Draw(t, "v")
	case feature.Float:
		return rapid.Float32().Draw(t, "v")
	case feature.Double:
		return rapid.Float64().Draw(t, "v")
	case feature.String:
		return rapid.StringN(0, 6, -1).Draw(t, "v")
	default:
		return rapid.SliceOfN(rapid.Byte(), 0, 6).Draw(t, "v")
	}
}

func drawColumn(t *rapid.T, typ feature.Type, rows int, nulls bool) []any {
	// Few distinct values make dictionaries; nulls come in runs or alone.
	pool := make([]any, rapid.IntRange(1, 5).Draw(t, "distinct"))
	for i := range pool {
		if !typ.IsList() {
			pool[i] = drawValue(t, typ)
			continue
		}
		list := make([]any, rapid.IntRange(0, 4).Draw(t, "elements"))
		for k := range list {
			list[k] = drawValue(t, typ.Elem())
		}
		pool[i] = list
	}
	if nulls {
		pool = append(pool, nil)
	}
	values := make([]any, 0, rows)
	for len(values) < rows {
		v := rapid.SampledFrom(pool).Draw(t, "value")
		for range rapid.IntRange(1, max(1, rows/4)).Draw(t, "run") {
			if len(values) < rows {
				values = append(values, v)
			}
		}
	}
	return values
}

// TestRandomTables writes tables of every type with pqarrow, in several files, row groups, pages, encodings and compressions, some columns
// missing in some files and some narrower, and reads them back whole and in part.
func TestRandomTables(t *testing.T) {
	p := filePlace(t)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		folder := fmt.Sprintf("run%d", run)
		var features []feature.Feature
		for i := range rapid.IntRange(1, 5).Draw(rt, "features") {
			typ := feature.Type(rapid.IntRange(int(feature.Bool), int(feature.TimestampList)).Draw(rt, "type"))
			features = append(features, feature.Feature{Name: fmt.Sprintf("f%d", i), Type: typ})
		}
		keyType := rapid.SampledFrom([]feature.Type{feature.Int32, feature.Int64, feature.String, feature.Bytes}).Draw(rt, "key type")
		v := view(folder, keyType, features...)
		want := make([][]any, 2+len(features))
		for n := range rapid.IntRange(1, 3).Draw(rt, "files") {
			rows := rapid.IntRange(1, 60).Draw(rt, "rows")
			fields := []arrow.Field{field("id", arrowType(keyType)), field("ts", timestampUTC)}
			columns := [][]any{drawColumn(rt, keyType, rows, true), drawColumn(rt, feature.Timestamp, rows, true)}
			arrays := []arrow.Array{arrowArray(keyType, columns[0]), arrowArray(feature.Timestamp, columns[1])}
			for _, f := range features {
				if n > 0 && rapid.IntRange(0, 4).Draw(rt, "missing") == 0 {
					columns = append(columns, make([]any, rows))
					continue
				}
				values := drawColumn(rt, f.Type, rows, true)
				columns = append(columns, values)
				stored, storedValues := narrowed(rt, f.Type, values)
				if stored != f.Type {
					columns[len(columns)-1] = widened(f.Type, storedValues)
				}
				fields = append(fields, field(f.Name, arrowType(stored)))
				arrays = append(arrays, arrowArray(stored, storedValues))
			}
			p.put(t, fmt.Sprintf("%s/%d.parquet", folder, n), writeArrow(t, rapid.Int64Range(1, 40).Draw(rt, "group rows"), fields, arrays, drawProperties(rt)...))
			for i, c := range columns {
				want[i] = append(want[i], c...)
			}
		}
		table := p.store.Table(v)
		h, err := readTable(t.Context(), table, feature.AllTime())
		require.NoError(rt, err)
		for i, c := range h.columns {
			require.True(rt, c.Equal(columnOf(c.Type, want[i])), "column %d: want %v, got %v", i, want[i], valuesOf(c))
		}
		checkGatherParts(rt, t, table, want)
	})
}

// narrowed sometimes stores a column as a type that widens to its own.
func narrowed(t *rapid.T, typ feature.Type, values []any) (feature.Type, []any) {
	from := map[feature.Type]feature.Type{feature.Int64: feature.Int32, feature.Double: feature.Float}
	narrow, ok := from[typ]
	if !ok || !rapid.Bool().Draw(t, "narrow") {
		return typ, values
	}
	out := make([]any, len(values))
	for i, v := range values {
		switch v := v.(type) {
		case int64:
			out[i] = int32(v)
		case float64:
			out[i] = float32(v)
		}
	}
	return narrow, out
}

func widened(typ feature.Type, values []any) []any {
	out := make([]any, len(values))
	for i, v := range values {
		switch v := v.(type) {
		case int32:
			out[i] = int64(v)
		case float32:
			out[i] = float64(v)
		}
	}
	return out
}

func drawProperties(t *rapid.T) []parquet.WriterProperty {
	codecs := []compress.Compression{compress.Codecs.Uncompressed, compress.Codecs.Snappy, compress.Codecs.Zstd, compress.Codecs.Gzip,
		compress.Codecs.Brotli, compress.Codecs.Lz4Raw}
	return []parquet.WriterProperty{
		parquet.WithCompression(rapid.SampledFrom(codecs).Draw(t, "codec")),
		parquet.WithDictionaryDefault(rapid.Bool().Draw(t, "dictionary")),
		parquet.WithPageIndexEnabled(rapid.Bool().Draw(t, "page index")),
		parquet.WithDataPageSize(rapid.Int64Range(1, 200).Draw(t, "page bytes")),
		parquet.WithBatchSize(rapid.Int64Range(1, 20).Draw(t, "batch")),
		parquet.WithDataPageVersion(rapid.SampledFrom([]parquet.DataPageVersion{parquet.DataPageV1, parquet.DataPageV2}).Draw(t, "page version")),
		parquet.WithVersion(rapid.SampledFrom([]parquet.Version{parquet.V1_0, parquet.V2_LATEST}).Draw(t, "version")),
	}
}

// columnOf makes a column of Go values.
func columnOf(t feature.Type, values []any) *feature.Column {
	c := feature.NewColumn(t, len(values))
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			c.AppendMissing(feature.Null)
		case bool:
			c.AppendBool(v)
		case int32:
			c.AppendInt32(v)
		case int64:
			c.AppendInt64(v)
		case float32:
			c.AppendFloat(v)
		case float64:
			c.AppendDouble(v)
		case string:
			c.AppendString(v)
		case []byte:
			c.AppendBytes(v)
		case []any:
			elems := columnOf(t.Elem(), v)
			c.AppendList(func(elem *feature.Column) {
				for i := range v {
					elem.Status = nil
					elem.AppendFrom(elems, i)
				}
			})
		}
	}
	return c
}

// gatherBatches gathers rows of a feature in batches of random sizes.
func gatherBatches(rt *rapid.T, t *testing.T, f *Fragment, rows []int64, column int, columnType feature.Type) *feature.Column {
	got := feature.NewColumn(columnType, 0)
	g, err := f.GatherBatches(t.Context(), rows, []int{column})
	require.NoError(rt, err)
	defer g.Close()
	for left := len(rows); left > 0; {
		n := rapid.IntRange(1, left).Draw(rt, "batch")
		require.NoError(rt, g.Next(n, []*feature.Column{got}))
		left -= n
	}
	return got
}

// checkGatherParts gathers some rows of every fragment.
func checkGatherParts(rt *rapid.T, t *testing.T, table *Table, want [][]any) {
	fragments, _, err := table.Fragments(t.Context(), feature.AllTime())
	require.NoError(rt, err)
	start := int64(0)
	for _, f := range fragments {
		var rows []int64
		for row := range f.NumRows() {
			if rapid.IntRange(0, 3).Draw(rt, "take") == 0 {
				rows = append(rows, row)
			}
		}
		for i, feat := range table.view.Features {
			got := feature.NewColumn(feat.Type, 0)
			require.NoError(rt, f.Gather(t.Context(), rows, []int{i}, []*feature.Column{got}))
			var values []any
			for _, row := range rows {
				values = append(values, want[table.keyColumns()+i][start+row])
			}
			require.True(rt, got.Equal(columnOf(feat.Type, values)), "feature %d rows %v: want %v, got %v", i, rows, values, valuesOf(got))
			require.True(rt, gatherBatches(rt, t, f, rows, i, feat.Type).Equal(got), "feature %d rows %v in batches", i, rows)
		}
		start += f.NumRows()
	}
}
