package offline

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// deletions is a file of rows (id, ts, x, gone) with ts = x = id, in row groups of 2.
func deletions(t testing.TB, gone []any, ids ...int64) []byte {
	values := make([]float64, len(ids))
	for i, id := range ids {
		values[i] = float64(id)
	}
	return writeArrow(t, 2, []arrow.Field{field("id", arrow.PrimitiveTypes.Int64), field("ts", timestampUTC), field("x", arrow.PrimitiveTypes.Float64),
		field("gone", arrow.FixedWidthTypes.Boolean)}, []arrow.Array{int64s(ids...), times(ids...), doubles(values...), arrowArray(feature.Bool, gone)})
}

func TestDeletedColumn(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		p.put(t, "t/1.parquet", deletions(t, []any{false, true, nil}, 1, 2, 3))
		v := view("t", feature.Int64, xFeature)
		v.Source.DeletedColumn = "gone"
		table := p.store.Table(v)
		h, err := readTable(t.Context(), table, feature.AllTime())
		require.NoError(t, err)
		require.Equal(t, []any{false, true, nil}, valuesOf(h.columns[table.deleted]))
		require.Equal(t, []any{1., 2., 3.}, valuesOf(h.columns[table.keyColumns()]))

		joined, _, err := joinAll(t.Context(), table, entityRows(t, []int64{1, 2, 3}, 5))
		require.NoError(t, err)
		x := feature.NewColumn(feature.Double, 0)
		joined.Batch(0, 0, 3, []*feature.Column{x})
		require.Equal(t, []any{1., nil, 3.}, valuesOf(x))
		require.EqualValues(t, 1, joined.Stats(0).Unmatched)

		winners, err := pit.Latest(t.Context(), v, table.Scan(), pit.LatestOptions{AsOf: 5})
		require.NoError(t, err)
		tombstones := map[int64]bool{}
		require.NoError(t, winners.Batches(t.Context(), 0, []int{0}, func(b pit.WinnerBatch) error {
			for i, id := range b.Keys[0].Int64s {
				tombstones[id] = b.Tombstones != nil && b.Tombstones[i]
				require.Equal(t, !tombstones[id], b.Features[0].IsPresent(i))
			}
			return nil
		}))
		require.Equal(t, map[int64]bool{1: false, 2: true, 3: false}, tombstones)

		p.put(t, "both/1.parquet", deletions(t, []any{false, true, nil}, 1, 2, 3))
		p.put(t, "both/2.parquet", simple(t, 4))
		for _, c := range []struct{ path, column, want string }{
			{"both", "gone", `/both/2.parquet has no column "gone", which is the deleted column`},
			{"t", "Gone", `/t/1.parquet has no column "Gone", which is the deleted column; did you mean "gone"?`},
			{"t", "x", `/t/1.parquet: deleted column "x" is DOUBLE (DOUBLE), not BOOL: `},
		} {
			v.Source.Path, v.Source.DeletedColumn = c.path, c.column
			_, _, err := p.store.Table(v).Fragments(t.Context(), feature.AllTime())
			require.ErrorContains(t, err, c.want)
			require.Equal(t, fault.Precondition, fault.KindOf(err))
		}
	})
}

// TestDeletedFolders: that rows are deleted may stand in the names of their folders, and a created time beside it changes nothing.
func TestDeletedFolders(t *testing.T) {
	p := filePlace(t)
	p.put(t, "t/gone=false/1.parquet", simple(t, 1))
	p.put(t, "t/gone=true/2.parquet", simple(t, 2))
	p.put(t, "t/gone="+hiveNull+"/3.parquet", simple(t, 3))
	v := view("t", feature.Int64, xFeature)
	v.Source.DeletedColumn, v.Source.CreatedTimeColumn = "gone", "ts"
	table := p.store.Table(v)
	h, err := readTable(t.Context(), table, feature.AllTime())
	require.NoError(t, err)
	require.Equal(t, []any{int64(3), int64(1), int64(2)}, valuesOf(h.columns[table.created]))
	require.Equal(t, []any{nil, false, true}, valuesOf(h.columns[table.deleted]))
}
