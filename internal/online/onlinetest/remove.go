package onlinetest

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/online/driver"
)

func testRemove(t *testing.T, h Harness) {
	for name, test := range map[string]func(t *testing.T, d driver.Driver){
		"rows":                    testRemoveRows,
		"versions":                testRemoveVersions,
		"keys that would collide": testRemoveColliding,
		"expiry":                  testRemoveExpiry,
		"large batches":           testRemoveMany,
		"old rows":                testRemoveOld,
		"old versions":            testRemoveOldVersions,
		"old among large batches": testRemoveManyOld,
	} {
		t.Run(name, func(t *testing.T) { test(t, h.open(t)) })
	}
	t.Run("races", func(t *testing.T) { testRemoveRaces(t, h.openTwo(t)) })
}

// remove removes rows in one call and returns how many there were.
func remove(t *testing.T, d driver.Driver, rows ...driver.Removal) int {
	t.Helper()
	removed, err := d.Remove(t.Context(), rows)
	require.NoError(t, err)
	return removed
}

func removal(key, view string) driver.Removal { return driver.Removal{Entity: entity(key), View: view} }

func testRemoveRows(t *testing.T, d driver.Driver) {
	require.Zero(t, remove(t, d))
	require.Zero(t, remove(t, d, removal("a", "v"), removal("a", "w")))
	write(t, d, row("a", "v", value(5, 0, "av")), row("a", "w", value(5, 0, "aw")), row("b", "v", tombstone(5, 0)))
	require.Equal(t, [][]byte{value(5, 0, "av"), value(5, 0, "aw")}, read(t, d, "a", "v", "w"))
	require.Equal(t, 2, remove(t, d, removal("a", "v"), removal("nobody", "v"), removal("b", "v"), removal("a", "v")), "a deletion is a row too, and one that goes twice counts once")
	require.Equal(t, [][]byte{nil, value(5, 0, "aw")}, read(t, d, "a", "v", "w"))
	require.Equal(t, [][]byte{nil}, read(t, d, "b", "v"))
	require.Equal(t, 1, remove(t, d, removal("a", "w"), removal("a", "v")))
	require.Equal(t, [][]byte{nil, nil}, read(t, d, "a", "v", "w"))
	require.Equal(t, []driver.Outcome{driver.Written, driver.Written}, write(t, d, row("a", "v", value(1, 0, "old")), row("b", "v", value(5, 0, "x"))), "nothing remembers what was removed")
	require.Equal(t, [][]byte{value(1, 0, "old"), nil}, read(t, d, "a", "v", "w"))
}

func testRemoveVersions(t *testing.T, d driver.Driver) {
	history := removal("a", "v")
	history.History = true
	for range 2 {
		write(t, d, row("a", "v", value(5, 0, "latest")))
		for event := range int64(4) {
			write(t, d, version("a", 2, value(10*event, 0, "")), version("b", 2, value(10*event, 0, "")))
		}
		requireAsOf(t, d, "a", map[int64]any{19: "dropped", 20: value(20, 0, ""), newest: value(30, 0, "")})
		require.Equal(t, 1, remove(t, d, removal("a", "v")))
		requireAsOf(t, d, "a", map[int64]any{19: "dropped", newest: value(30, 0, "")})
		write(t, d, row("a", "v", value(5, 0, "latest")))
		require.Equal(t, 1, remove(t, d, history, history), "all versions are one")
		requireAsOf(t, d, "a", map[int64]any{19: nil, newest: nil})
		requireAsOf(t, d, "b", map[int64]any{19: "dropped", newest: value(30, 0, "")})
		require.Equal(t, [][]byte{value(5, 0, "latest")}, read(t, d, "a", "v"))
		require.Zero(t, remove(t, d, history))
	}
	write(t, d, version("a", 2, value(1, 0, "old")))
	requireAsOf(t, d, "a", map[int64]any{0: nil, 1: value(1, 0, "old"), newest: value(1, 0, "old")})
}

// testRemoveColliding removes rows one by one of entities and views that are easily taken for each other.
func testRemoveColliding(t *testing.T, d driver.Driver) {
	var rows []driver.Row
	for _, e := range collidingEntities {
		for _, view := range collidingViews {
			for n := range 2 { // a row, and a history
				rows = append(rows, driver.Row{Entity: e, View: view, Value: value(1, 0, fmt.Sprint(e, view, n)), Versions: n})
			}
		}
	}
	write(t, d, rows...)
	want, reads := make([][]byte, len(rows)), make([]driver.Read, len(rows))
	for i, r := range rows {
		want[i], reads[i] = r.Value, driver.Read{Entity: r.Entity, Views: []string{r.View}, History: r.Versions > 0, AsOfMicros: newest}
	}
	for i, r := range rows {
		require.Equal(t, 1, remove(t, d, driver.Removal{Entity: r.Entity, View: r.View, History: r.Versions > 0}))
		want[i] = nil
		got, err := d.Read(t.Context(), reads)
		require.NoError(t, err)
		require.Equal(t, want, got, "without entity %q view %q", r.Entity, r.View)
	}
}

// testRemoveExpiry: what is removed takes no other row with it, and leaves no row behind that would have gone.
func testRemoveExpiry(t *testing.T, d driver.Driver) {
	soon, later := time.Now().Add(300*time.Millisecond).UnixMilli(), time.Now().Add(time.Hour).UnixMilli()
	at := func(r driver.Row, expire int64) driver.Row {
		r.ExpireAtMillis = expire
		return r
	}
	write(t, d, at(row("a", "v", value(1, 0, "v")), later), at(row("a", "w", value(1, 0, "w")), later))
	write(t, d, at(row("b", "v", value(1, 0, "v")), soon), at(row("b", "w", value(1, 0, "w")), soon))
	past := at(row("c", "v", value(1, 0, "v")), soon-int64(time.Hour/time.Millisecond))
	past.Versions = 1
	write(t, d, past, at(row("c", "v", value(1, 0, "v")), past.ExpireAtMillis))
	require.Zero(t, remove(t, d, removal("c", "v"), driver.Removal{Entity: past.Entity, View: "v", History: true}), "what may be dropped is not there")
	require.Equal(t, 1, remove(t, d, removal("a", "v")))
	remove(t, d, removal("b", "v"))
	await(t, soon+1)
	require.Equal(t, [][]byte{nil, value(1, 0, "w")}, read(t, d, "a", "v", "w"))
	write(t, d, at(row("a", "v", value(1, 0, "again")), later))
	require.Equal(t, [][]byte{value(1, 0, "again"), value(1, 0, "w")}, read(t, d, "a", "v", "w"))
}

func testRemoveMany(t *testing.T, d driver.Driver) {
	const n = 3000
	var rows []driver.Row
	var removals []driver.Removal
	for i := range n {
		r := row(fmt.Sprint("many", i), "v", value(1, 0, ""))
		r.Versions = i % 2
		rows = append(rows, r)
		removals = append(removals, driver.Removal{Entity: r.Entity, View: r.View, History: r.Versions > 0})
	}
	write(t, d, rows...)
	require.Equal(t, n-10, remove(t, d, removals[10:]...))
	require.Equal(t, 10, remove(t, d, removals...))
	for _, outcome := range write(t, d, rows...) {
		require.Equal(t, driver.Written, outcome)
	}
}

// testRemoveRaces lets many write one row and remove it at once: it comes as often as it goes, but for the last time.
func testRemoveRaces(t *testing.T, drivers []driver.Driver) {
	const racers, rounds, keys = 8, 40, 3
	for versions, name := range map[int]string{0: "rows", 2: "versions"} {
		t.Run(name, func(t *testing.T) {
			var rows []driver.Row
			var removals []driver.Removal
			for i := range keys {
				r := row(fmt.Sprint("race", i), "v", value(1, 0, ""))
				r.Versions = versions
				rows = append(rows, r)
				removals = append(removals, driver.Removal{Entity: r.Entity, View: r.View, History: versions > 0})
			}
			came, went, errs := make([]int, racers), make([]int, racers), make([]error, racers)
			var wg sync.WaitGroup
			for i := range racers {
				wg.Go(func() {
					for range rounds {
						n, err := comeOrGo(t.Context(), drivers[i%len(drivers)], i%2 == 0, rows, removals)
						if errs[i] = err; err != nil {
							return
						}
						came[i] += max(n, 0)
						went[i] += max(-n, 0)
					}
				})
			}
			wg.Wait()
			there := 0
			for i := range racers {
				require.NoError(t, errs[i])
				there += came[i] - went[i]
			}
			require.Equal(t, there, remove(t, drivers[0], removals...))
		})
	}
}

// comeOrGo writes the rows and returns how many were not there, or removes them and returns minus how many were.
func comeOrGo(ctx context.Context, d driver.Driver, come bool, rows []driver.Row, removals []driver.Removal) (n int, err error) {
	if !come {
		n, err = d.Remove(ctx, removals)
		return -n, err
	}
	outcomes, err := d.Write(ctx, rows)
	for _, o := range outcomes {
		if o == driver.Written {
			n++
		}
	}
	return n, err
}

// before makes a removal spare what is not from before a moment.
func before(r driver.Removal, micros int64) driver.Removal {
	r.EventBefore = &micros
	return r
}

// eventTimes are moments that differ in parts of their 64 bits only, in order.
var eventTimes = []int64{math.MinInt64, -1 << 60, -1<<53 - 1, -1<<32 - 1, -1 << 32, -2, -1, 0, 1, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1<<53 + 1, 1 << 60, math.MaxInt64 - 1, math.MaxInt64}

func testRemoveOld(t *testing.T, d driver.Driver) {
	require.Zero(t, remove(t, d, before(removal("nobody", "v"), newest)))
	for _, event := range eventTimes {
		for _, moment := range eventTimes {
			write(t, d, row("a", "v", value(event, 0, "v")), row("a", "w", value(event, 0, "w")))
			old := event < moment
			removed, left := 0, value(event, 0, "v")
			if old {
				removed, left = 1, nil
			}
			require.Equal(t, removed, remove(t, d, before(removal("a", "v"), moment)), "a row of %d, before %d", event, moment)
			require.Equal(t, [][]byte{left, value(event, 0, "w")}, read(t, d, "a", "v", "w"))
			remove(t, d, removal("a", "v"), removal("a", "w"))
		}
	}
	write(t, d, row("a", "v", tombstone(5, 9)), row("c", "v", value(5, 9, "")), row("d", "v", value(6, 0, "")))
	require.Equal(t, 3, remove(t, d, before(removal("a", "v"), 6), before(removal("c", "v"), 6), before(removal("d", "v"), 6), removal("d", "v")))
	require.Equal(t, [][]byte{nil}, read(t, d, "d", "v"))
}

func testRemoveOldVersions(t *testing.T, d driver.Driver) {
	history := removal("a", "v")
	history.History = true
	require.Zero(t, remove(t, d, before(history, newest)))
	for _, event := range eventTimes[2:] {
		for _, moment := range eventTimes {
			for _, older := range []int64{0, 2, 1} {
				write(t, d, version("a", 2, value(max(event-older, math.MinInt64), 0, "")))
			}
			removed := 0
			if event < moment {
				removed = 1
			}
			require.Equal(t, removed, remove(t, d, before(history, moment)), "the newest version of %d, before %d", event, moment)
			require.Equal(t, 1-removed, remove(t, d, history))
			requireAsOf(t, d, "a", map[int64]any{newest: nil})
		}
	}
	write(t, d, version("a", 2, value(1, 0, "")), row("a", "v", value(1, 0, "latest")))
	require.Equal(t, 1, remove(t, d, before(history, 2)))
	require.Equal(t, [][]byte{value(1, 0, "latest")}, read(t, d, "a", "v"), "a row of the other layout is not touched")
}

// testRemoveManyOld removes every third row, with others that go in any case among them.
func testRemoveManyOld(t *testing.T, d driver.Driver) {
	const n = 3000
	var rows []driver.Row
	var removals []driver.Removal
	for i := range n {
		r := row(fmt.Sprint("many", i), "v", value(int64(i%3), 0, ""))
		r.Versions = i % 2
		rows = append(rows, r)
		removal := before(driver.Removal{Entity: r.Entity, View: r.View, History: r.Versions > 0}, 1)
		if i < 30 {
			removal.EventBefore = nil
		}
		removals = append(removals, removal)
	}
	write(t, d, rows...)
	require.Equal(t, n/3+20, remove(t, d, removals...))
	require.Zero(t, remove(t, d, removals...))
	kept := 0
	for _, outcome := range write(t, d, rows...) {
		if outcome == driver.Unchanged {
			kept++
		}
	}
	require.Equal(t, 2*n/3-20, kept)
}
