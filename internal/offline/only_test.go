package offline

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// only begins a reading of some files.
func only(t *testing.T, table *Table, files ...File) *Scan {
	t.Helper()
	scan := table.Scan()
	require.NoError(t, scan.Only(files))
	return scan
}

func TestOnlySomeFiles(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		// All have the same key and time, so that their order alone decides.
		row := func(x float64) []byte {
			return writeArrow(t, 2, []arrow.Field{field("id", arrow.PrimitiveTypes.Int64), field("ts", timestampUTC), field("x", arrow.PrimitiveTypes.Float64)},
				[]arrow.Array{int64s(1), times(1), doubles(x)})
		}
		for i, path := range []string{"t/a-1/f.parquet", "t/a.parquet", "t/a/odd name+%41.parquet", "t/a0.parquet"} {
			p.put(t, path, row(float64(i)))
		}
		for _, path := range []string{"t", "t/**/*.parquet", p.url + "/t"} {
			table := p.store.Table(view(path, feature.Int64, xFeature))
			files, err := table.Files(t.Context())
			require.NoError(t, err)
			for _, c := range []struct {
				chosen []int
				want   string
			}{{[]int{0, 1, 2, 3}, "3"}, {[]int{2, 0, 1}, "2"}, {[]int{1}, "1"}, {[]int{1, 0}, "1"}} {
				var chosen, sorted []File
				for _, i := range c.chosen {
					chosen = append(chosen, files[i])
				}
				for _, i := range slices.Sorted(slices.Values(c.chosen)) {
					sorted = append(sorted, files[i])
				}
				scan := only(t, table, chosen...)
				rows, _, err := latest(t.Context(), table, scan, pit.LatestOptions{AsOf: 10})
				require.NoError(t, err)
				require.Equal(t, []string{"1 1 " + c.want}, rows)
				require.Equal(t, sorted, scan.Files())
			}
			rows, _, err := latest(t.Context(), table, only(t, table), pit.LatestOptions{AsOf: 10})
			require.NoError(t, err)
			require.Empty(t, rows)

			err = table.Scan().Only([]File{files[0], files[1], files[0]})
			require.ErrorContains(t, err, "listed twice")
			require.Equal(t, fault.Invalid, fault.KindOf(err))
		}
		err := p.store.Table(view("t", feature.Int64)).Scan().Only([]File{{URL: "gs://b/x"}})
		require.Equal(t, fault.Invalid, fault.KindOf(err))
	})
}

// TestOnlyFilesAsListed: no other version of a file is read than the one that was chosen.
func TestOnlyFilesAsListed(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		p.put(t, "t/1.parquet", simple(t, 1))
		table := p.store.Table(view("t", feature.Int64, xFeature))
		files, err := table.Files(t.Context())
		require.NoError(t, err)
		read := func(scan *Scan) error {
			_, _, err := latest(t.Context(), table, scan, pit.LatestOptions{AsOf: 10})
			return err
		}
		require.NoError(t, read(only(t, table, files...))) // its footer is remembered from here on
		p.put(t, "t/1.parquet", simple(t, 1, 2))
		err = read(only(t, table, files...))
		require.ErrorContains(t, err, p.url+"/t/1.parquet was replaced or removed")
		require.Equal(t, fault.Unavailable, fault.KindOf(err))
	})
	p := filePlace(t)
	p.put(t, "t/1.parquet", simple(t, 1))
	table := p.store.Table(view("t", feature.Int64, xFeature))
	files, err := table.Files(t.Context())
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(strings.TrimPrefix(p.url, "file://"), "t/1.parquet")))
	_, _, err = only(t, table, files...).Fragments(t.Context(), feature.AllTime())
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
}

// TestOnlyFilesWithoutAColumn: whether a column may be missing does not depend on which files are read.
func TestOnlyFilesWithoutAColumn(t *testing.T) {
	p := filePlace(t)
	p.put(t, "t/1.parquet", simple(t, 1))
	p.put(t, "t/2.parquet", writeArrow(t, 10, []arrow.Field{field("id", arrow.PrimitiveTypes.Int64), field("ts", timestampUTC)}, []arrow.Array{int64s(2), times(2)}))
	table := p.store.Table(view("t", feature.Int64, xFeature))
	files, err := table.Files(t.Context())
	require.NoError(t, err)
	scan := only(t, table, files[1])
	rows, _, err := latest(t.Context(), table, scan, pit.LatestOptions{AsOf: 10})
	require.NoError(t, err)
	require.Equal(t, []string{"2 2 <nil>"}, rows)
	require.Equal(t, files[1:], scan.Files())

	misspelt := p.store.Table(view("t", feature.Int64, feature.Feature{Name: "X", Type: feature.Double}))
	_, _, err = only(t, misspelt, files[1]).Fragments(t.Context(), feature.AllTime())
	require.ErrorContains(t, err, `feature column "X" is in none of the 2 files of `)
	require.Equal(t, fault.Precondition, fault.KindOf(err))
}

// TestDue: each file says when it has something new to give, by what was read of it and by what the footers say of the rest.
func TestDue(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		p.put(t, "t/1.parquet", simple(t, 1, 2, 3))              // nothing is late
		p.put(t, "t/2.parquet", simple(t, 1, 20, 30, 40))        // one row group is both, one all late
		p.put(t, "t/3.parquet", simple(t, 60, 50, 90, 45))       // all late: none is read
		p.put(t, "t/dt=1970-01-02/4.parquet", simple(t, 1, 100)) // the last row is bad where later ones than 99 are
		table := p.store.Table(view("t", feature.Int64, xFeature))
		for _, c := range []struct {
			max    feature.EventTime
			want   map[string]feature.EventTime
			pruned int64
		}{
			{0, map[string]feature.EventTime{"t/2.parquet": 20, "t/3.parquet": 45, "t/dt=1970-01-02/4.parquet": 100}, 6},
			{99, map[string]feature.EventTime{"t/2.parquet": 20, "t/3.parquet": 45}, 0},
		} {
			winners, err := pit.Latest(t.Context(), table.view, table.Scan(), pit.LatestOptions{AsOf: 10, MaxEventTime: c.max})
			require.NoError(t, err)
			due := map[string]feature.EventTime{}
			for url, at := range winners.Due() {
				due[strings.TrimPrefix(url, p.url+"/")] = at
			}
			require.Equal(t, c.want, due)
			require.Equal(t, c.pruned, winners.Stats().RowsPruned)
		}
		v := view("t/dt=*", feature.Int64, xFeature)
		v.Source.EventTimeColumn = "dt"
		winners, err := pit.Latest(t.Context(), v, p.store.Table(v).Scan(), pit.LatestOptions{AsOf: 10})
		require.NoError(t, err)
		require.Equal(t, map[string]feature.EventTime{p.url + "/t/dt=1970-01-02/4.parquet": microsPerDay}, winners.Due())
	})
}

// TestDueInPages: what is late in a row group is told to the row, although pages could be left out for it.
func TestDueInPages(t *testing.T) {
	p := filePlace(t)
	p.put(t, "t.parquet", timeOrdered(t, 20_000))
	table := p.store.Table(xsView("t.parquet"))
	for _, asOf := range []feature.AsOf{-1, 0, 7_777, 19_998, 19_999} {
		winners, err := pit.Latest(t.Context(), table.view, table.Scan(), pit.LatestOptions{AsOf: asOf})
		require.NoError(t, err)
		want := map[string]feature.EventTime{}
		if asOf < 19_999 {
			want[p.url+"/t.parquet"] = feature.EventTime(asOf + 1)
		}
		require.Equal(t, want, winners.Due(), fmt.Sprint(asOf))
	}
}
