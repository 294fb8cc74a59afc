package offline

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
)

// What pyarrow 26 writes for a row group without rows: a dictionary page, and 0 for the place of the data page that is not there.
//   - pandas_no_rows.parquet is df.iloc[:0].to_parquet(…, index=False) of id int64, ts timestamp[us, UTC], x double, name string;
//   - pyarrow_empty_row_group.parquet has such a row group, of id, ts and x, before one of the rows (1, 1 µs, 1.5) and (2, 2 µs, 2.5).
func putEmpty(t *testing.T, p place, path, name string) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	p.put(t, path, data)
}

func TestRowGroupsWithoutRows(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		putEmpty(t, p, "none/a.parquet", "pandas_no_rows.parquet")
		putEmpty(t, p, "some/a.parquet", "pandas_no_rows.parquet")
		putEmpty(t, p, "some/b.parquet", "pyarrow_empty_row_group.parquet")
		p.put(t, "some/c.parquet", simple(t, 3))

		schema, err := p.store.Schema(t.Context(), "none")
		require.NoError(t, err)
		require.Equal(t, 1, schema.Files)
		require.Zero(t, schema.Rows)
		x, ok := schema.Column("x")
		require.True(t, ok)
		require.Equal(t, feature.Double, x.Type)

		schema, err = p.store.Schema(t.Context(), "some")
		require.NoError(t, err)
		require.Equal(t, 3, schema.Files)
		require.EqualValues(t, 3, schema.Rows)

		for path, want := range map[string][]any{"none": {}, "some": {1.5, 2.5, 3.0}} {
			table := p.store.Table(view(path, feature.Int64, xFeature))
			h, err := readTable(t.Context(), table, feature.AllTime())
			require.NoError(t, err, path)
			require.Equal(t, want, valuesOf(h.columns[2]), path)
			require.Zero(t, h.pruned, path)
			files, err := table.Files(t.Context())
			require.NoError(t, err)
			require.Len(t, files, len(want)/3*2+1)

			rows, err := p.store.OpenRows(t.Context(), path)
			require.NoError(t, err)
			require.EqualValues(t, len(want), rows.NumRows())
			read := []any{}
			require.NoError(t, rows.Read(t.Context(), []RowColumn{{Name: "x"}}, func(columns []*feature.Column) error {
				read = append(read, valuesOf(columns[0])...)
				return nil
			}))
			require.Equal(t, want, read, path)
		}
	})
}
