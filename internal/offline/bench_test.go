package offline

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
)

// BenchmarkKeys reads key and time of a million rows; BenchmarkGather fetches one row in a hundred of a column of doubles.
func benchTable(b *testing.B) []*Fragment {
	const rows = 1_000_000
	ids, values := make([]int64, rows), make([]float64, rows)
	for i := range ids {
		ids[i], values[i] = int64(i), float64(i)*1.1
	}
	p := filePlace(b)
	data := writeArrow(b, rows, []arrow.Field{field("id", arrow.PrimitiveTypes.Int64), field("ts", timestampUTC), field("x", arrow.PrimitiveTypes.Float64)},
		[]arrow.Array{int64s(ids...), times(ids...), doubles(values...)})
	p.put(b, "t.parquet", data)
	fragments, _, err := p.store.Table(view("t.parquet", feature.Int64, xFeature)).Fragments(b.Context(), feature.AllTime())
	require.NoError(b, err)
	return fragments
}

func BenchmarkKeys(b *testing.B) {
	fragments := benchTable(b)
	b.ReportAllocs()
	for b.Loop() {
		rows := 0
		require.NoError(b, fragments[0].Keys(b.Context(), feature.AllTime(), func(k feature.KeyBatch) error { rows += k.Len(); return nil }))
		require.EqualValues(b, fragments[0].NumRows(), rows)
	}
	b.ReportMetric(float64(fragments[0].NumRows())*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkGather(b *testing.B) {
	fragments := benchTable(b)
	var rows []int64
	for row := int64(0); row < fragments[0].NumRows(); row += 100 {
		rows = append(rows, row)
	}
	dst := feature.NewColumn(feature.Double, len(rows))
	b.ReportAllocs()
	for b.Loop() {
		dst.Reset()
		require.NoError(b, fragments[0].Gather(b.Context(), rows, []int{0}, []*feature.Column{dst}))
	}
	b.ReportMetric(float64(len(rows))*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
