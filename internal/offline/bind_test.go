package offline

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// TestTwoColumnsOfOneName: of two columns of one name neither is taken without a word; where nobody wants them they do no harm.
func TestTwoColumnsOfOneName(t *testing.T) {
	p := filePlace(t)
	double := func(name string) arrow.Field { return field(name, arrow.PrimitiveTypes.Float64) }
	data := writeArrow(t, 2, []arrow.Field{field("id", arrow.PrimitiveTypes.Int64), field("ts", timestampUTC), double("x"), double("y"), double("y")},
		[]arrow.Array{int64s(1, 2), times(1, 2), doubles(1, 2), doubles(3, 4), doubles(5, 6)})
	p.put(t, "twice.parquet", data)
	_, _, err := p.store.Table(view("twice.parquet", feature.Int64, xFeature)).Fragments(t.Context(), feature.AllTime())
	require.NoError(t, err)

	const want = `twice.parquet has two columns "y", and nothing says which of them is the `
	_, _, err = p.store.Table(view("twice.parquet", feature.Int64, feature.Feature{Name: "y", Column: "y", Type: feature.Double})).Fragments(t.Context(), feature.AllTime())
	require.ErrorContains(t, err, want+"feature column; rename one")
	require.Equal(t, fault.Precondition, fault.KindOf(err), err)

	rows, err := p.store.OpenRows(t.Context(), "twice.parquet")
	require.NoError(t, err)
	err = rows.Read(t.Context(), rows.Readable(), func([]*feature.Column) error { return nil })
	require.ErrorContains(t, err, want)
}
