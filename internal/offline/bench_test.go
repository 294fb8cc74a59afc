package offline

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
)

const benchRows = 1_000_000

// benchFile is one row group of a million rows, zstd: key, time, ten doubles, some with nulls where nulls is set, and a string of few values.
func benchFile(b *testing.B, nulls bool, options ...parquet.WriterProperty) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	ids, ts := make([]int64, benchRows), make([]int64, benchRows)
	for i := range ids {
		ids[i], ts[i] = random.Int64N(500_000), 1_356_998_400_000_000+int64(i)*1000
	}
	fields := []arrow.Field{field("id", arrow.PrimitiveTypes.Int64), field("ts", timestampUTC)}
	columns := []arrow.Array{int64s(ids...), times(ts...)}
	for i := range 10 {
		values := array.NewFloat64Builder(memory.DefaultAllocator)
		for range benchRows {
			if nulls && random.IntN(10) == 0 {
				values.AppendNull()
			} else {
				values.Append(random.Float64() * 1000)
			}
		}
		fields = append(fields, field(fmt.Sprintf("f%d", i), arrow.PrimitiveTypes.Float64))
		columns = append(columns, values.NewArray())
	}
	texts := array.NewStringBuilder(memory.DefaultAllocator)
	for range benchRows {
		texts.Append(fmt.Sprintf("category-%d", random.IntN(1000)))
	}
	fields, columns = append(fields, field("s", arrow.BinaryTypes.String)), append(columns, texts.NewArray())
	options = append([]parquet.WriterProperty{parquet.WithCompression(compress.Codecs.Zstd), parquet.WithDictionaryDefault(false), parquet.WithDictionaryFor("s", true)}, options...)
	return writeArrow(b, benchRows, fields, columns, options...)
}

func benchFragment(b *testing.B, p place, data []byte) (*Fragment, []int) {
	var features []feature.Feature
	var columns []int
	for i := range 10 {
		features = append(features, feature.Feature{Name: fmt.Sprintf("f%d", i), Type: feature.Double})
		columns = append(columns, i)
	}
	features, columns = append(features, feature.Feature{Name: "s", Type: feature.String}), append(columns, 10)
	p.put(b, "t.parquet", data)
	fragments, _, err := p.store.Table(view("t.parquet", feature.Int64, features...)).Fragments(b.Context(), feature.AllTime())
	require.NoError(b, err)
	return fragments[0], columns
}

// BenchmarkKeys reads key and time of a million rows.
func BenchmarkKeys(b *testing.B) {
	f, _ := benchFragment(b, filePlace(b), benchFile(b, false))
	b.ReportAllocs()
	for b.Loop() {
		rows := 0
		require.NoError(b, f.Keys(b.Context(), feature.AllTime(), func(k feature.KeyBatch) error { rows += k.Len(); return nil }))
		require.EqualValues(b, f.NumRows(), rows)
	}
	b.ReportMetric(float64(f.NumRows())*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
}

// BenchmarkGather fetches ten doubles and a string of rows spread over a million.
func BenchmarkGather(b *testing.B) {
	for _, nulls := range []bool{false, true} {
		f, columns := benchFragment(b, filePlace(b), benchFile(b, nulls))
		for _, perMille := range []int{1, 100, 1000} {
			b.Run(fmt.Sprintf("nulls=%v/%.1f%%", nulls, float64(perMille)/10), func(b *testing.B) { benchmarkGather(b, f, columns, perMille) })
		}
	}
}

func benchmarkGather(b *testing.B, f *Fragment, columns []int, perMille int) {
	random := rand.New(rand.NewPCG(3, 4))
	var rows []int64
	for row := range f.NumRows() {
		if random.IntN(1000) < perMille {
			rows = append(rows, row)
		}
	}
	dst := make([]*feature.Column, len(columns))
	for i, c := range columns {
		dst[i] = feature.NewColumn(f.table.view.Features[c].Type, len(rows))
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, c := range dst {
			c.Reset()
		}
		require.NoError(b, f.Gather(b.Context(), rows, columns, dst))
	}
	b.ReportMetric(float64(len(rows))*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
}

// BenchmarkPlaces reads what a join reads, keys of all rows and values of every tenth, from local files and from S3: four row groups of 250,000 rows.
func BenchmarkPlaces(b *testing.B) {
	data := benchFile(b, false, parquet.WithMaxRowGroupLength(benchRows/4))
	for _, p := range []place{filePlace(b), s3Place(b)} {
		b.Run(p.name, func(b *testing.B) {
			f, columns := benchFragment(b, p, data)
			fragments, _, err := f.table.Fragments(b.Context(), feature.AllTime())
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				for _, f := range fragments {
					var rows []int64
					require.NoError(b, f.Keys(b.Context(), feature.AllTime(), func(k feature.KeyBatch) error {
						for i := range k.Len() {
							if k.Keys[0].Int64s[i]%10 == 0 {
								rows = append(rows, k.First+int64(i))
							}
						}
						return nil
					}))
					dst := make([]*feature.Column, len(columns))
					for i, c := range columns {
						dst[i] = feature.NewColumn(f.table.view.Features[c].Type, len(rows))
					}
					require.NoError(b, f.Gather(b.Context(), rows, columns, dst))
				}
			}
		})
	}
}
