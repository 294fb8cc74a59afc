package offline

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// texts is a column of text, or of bytes, that need not be UTF-8; nil is null.
func texts(t arrow.BinaryDataType, values ...any) arrow.Array {
	b := array.NewBinaryBuilder(memory.DefaultAllocator, t)
	for _, v := range values {
		if v == nil {
			b.AppendNull()
		} else {
			b.AppendString(v.(string))
		}
	}
	return b.NewArray()
}

// latest reads the newest rows as of a moment, and lists them and what is told of bad ones.
func latest(ctx context.Context, table *Table, scan *Scan, o pit.LatestOptions) (rows, bad []string, err error) {
	var mu sync.Mutex
	o.Bad = func(b pit.BadRows) error {
		mu.Lock()
		defer mu.Unlock()
		file, first := b.Fragment.(feature.FileFragment).Origin()
		for _, row := range b.Rows {
			bad = append(bad, fmt.Sprintf("%s %d %v", file[strings.LastIndexByte(file, '/')+1:], first+row, b.Reason))
		}
		return nil
	}
	winners, err := pit.Latest(ctx, table.view, scan, o)
	if err != nil {
		return nil, nil, err
	}
	features := make([]int, len(table.view.Features))
	for i := range features {
		features[i] = i
	}
	err = winners.Batches(ctx, 0, features, func(b pit.WinnerBatch) error {
		for i := range b.Len() {
			row := fmt.Sprint(b.Keys[0].ValueAt(i), " ", b.EventTimes.ValueAt(i))
			for _, c := range b.Features {
				row += fmt.Sprint(" ", c.ValueAt(i))
			}
			rows = append(rows, row)
		}
		return nil
	})
	slices.Sort(rows)
	slices.Sort(bad)
	return rows, bad, err
}

// TestKeepBadRows: what cannot be carried is told with its place in its file, and what is good beside it is read.
func TestKeepBadRows(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		for _, kind := range []arrow.BinaryDataType{arrow.BinaryTypes.String, arrow.BinaryTypes.Binary} {
			file := func(ids, sky arrow.Array, times arrow.Array) []byte {
				return writeArrow(t, 2, []arrow.Field{field("id", kind), field("ts", timestampUTC), field("sky", kind)}, []arrow.Array{ids, times, sky})
			}
			folder := kind.Name()
			p.put(t, folder+"/1.parquet", file(texts(kind, "a", "\xff", nil, "b", "c"), texts(kind, "x", "x", "x", "\xc3", "x"), times(1, 2, 3, 4, 5)))
			p.put(t, folder+"/2.parquet", file(texts(kind, "d", "b", "e"), texts(kind, "x", "x", "x"), arrowArray(feature.Timestamp, []any{nil, int64(1), int64(99)})))
			table := p.store.Table(view(folder, feature.String, feature.Feature{Name: "sky", Type: feature.String}))

			scan := table.Scan()
			scan.KeepBadRows()
			rows, bad, err := latest(t.Context(), table, scan, pit.LatestOptions{AsOf: 10, MaxEventTime: 20})
			require.NoError(t, err)
			require.Equal(t, []string{"a 1 x", "c 5 x"}, rows)
			require.Equal(t, []string{"1.parquet 1 invalid_text", "1.parquet 2 null_key", "1.parquet 3 invalid_text", "2.parquet 0 null_event_time", "2.parquet 2 future_event_time"}, bad)

			_, _, err = latest(t.Context(), table, table.Scan(), pit.LatestOptions{AsOf: 10})
			require.ErrorContains(t, err, "is not UTF-8")
			require.Equal(t, fault.Corrupt, fault.KindOf(err))
		}
	})
}

// TestKeepRowsWithoutTime: folders without an event time are left unread by others than who wants to be told of bad rows.
func TestKeepRowsWithoutTime(t *testing.T) {
	p := filePlace(t)
	p.put(t, "t/dt=1970-01-01/1.parquet", simple(t, 1))
	p.put(t, "t/dt="+hiveNull+"/2.parquet", simple(t, 2, 3))
	v := view("t", feature.Int64, xFeature)
	v.Source.EventTimeColumn = "dt"
	table := p.store.Table(v)
	for _, keeps := range []bool{false, true} {
		scan := table.Scan()
		if keeps {
			scan.KeepBadRows()
		}
		winners, err := pit.Latest(t.Context(), v, scan, pit.LatestOptions{AsOf: 10})
		require.NoError(t, err)
		want := pit.LatestStats{RowsRead: 1, RowsPruned: 2, Entities: 1, Winners: 1}
		if keeps {
			want.RowsRead, want.RowsPruned = 3, 0
			want.RowsBad[pit.NullEventTime] = 2
		}
		require.Equal(t, want, winners.Stats())
	}
}

// TestPagesWithoutTime: the same of pages, which writers seldom fill with nulls only.
func TestPagesWithoutTime(t *testing.T) {
	rows, err := RowsIn(t.Context(), "test", simple(t, 1, 2))
	require.NoError(t, err)
	times, ok := findColumn(rows.sources[0].footer.columns, "ts")
	require.True(t, ok)
	stored := func(v byte) []byte { return []byte{v, 0, 0, 0, 0, 0, 0, 0} }
	index := columnIndex{nulls: []bool{false, true, false}, mins: [][]byte{stored(1), nil, stored(3)}, maxs: [][]byte{stored(2), nil, stored(4)}}
	locations := []pageLocation{{firstRow: 0}, {firstRow: 10}, {firstRow: 20}}
	for keeps, want := range map[bool][]rowRange{false: {{0, 10}}, true: {{0, 20}}} {
		kept, ok := index.pagesWithin(times, locations, 30, feature.TimeRange{Min: 1, Max: 4}, feature.TimeRange{Min: 0, Max: 2}, keeps)
		require.True(t, ok)
		require.Equal(t, want, kept)
	}
}
