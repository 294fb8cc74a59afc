package onlinetest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

// newest is the moment of a read of the newest version.
const newest = math.MaxInt64

// version returns a row of which n versions are kept.
func version(key string, n int, value []byte) driver.Row {
	r := row(key, "v", value)
	r.Versions = n
	return r
}

// historyRead asks for view "v" of one entity.
func historyRead(key string, asOf int64) driver.Read {
	return driver.Read{Entity: entity(key), Views: []string{"v"}, History: true, AsOfMicros: asOf}
}

// requireAsOf checks what is read at each moment; "dropped" is that it is not known any more.
func requireAsOf(t *testing.T, d driver.Driver, key string, want map[int64]any) {
	t.Helper()
	for at, want := range want {
		rows, err := d.Read(t.Context(), []driver.Read{historyRead(key, at)})
		if want == "dropped" {
			requireNotKept(t, err)
			require.Nil(t, rows)
			continue
		}
		require.NoError(t, err, "at %d", at)
		wanted, _ := want.([]byte)
		require.Equal(t, [][]byte{wanted}, rows, "at %d", at)
	}
}

func requireNotKept(t *testing.T, err error) {
	t.Helper()
	require.Equal(t, fault.Precondition, fault.KindOf(err), "%v", err)
	require.ErrorContains(t, err, "older versions than the kept ones have been dropped")
}

func testHistory(t *testing.T, h Harness) {
	for name, test := range map[string]func(t *testing.T, d driver.Driver){
		"moments between versions": testAsOf,
		"the same event time":      testSameEventTime,
		"what is not kept":         testDropped,
		"fewer versions":           testFewerVersions,
		"every moment":             testHistoryMoments,
		"two layouts":              testTwoLayouts,
		"one of many reads":        testPartialReads,
		"keys that would collide":  testCollidingHistories,
		"foreign encodings":        testForeignVersions,
		"large batches":            testManyHistories,
		"expiry":                   testHistoryExpiry,
		"late rows":                testLateVersions,
		"oracle":                   testHistoryOracle,
		"races":                    testHistoryRaces,
	} {
		t.Run(name, func(t *testing.T) { test(t, h.open(t)) })
	}
}

func testAsOf(t *testing.T, d driver.Driver) {
	requireAsOf(t, d, "a", map[int64]any{newest: nil, 0: nil, math.MinInt64: nil})
	rows := []driver.Row{version("a", 3, value(20, 0, "20")), version("a", 3, tombstone(30, 0)), version("a", 3, value(10, 0, "10"))}
	require.Equal(t, []driver.Outcome{driver.Written, driver.Written, driver.Written}, write(t, d, rows...))
	requireAsOf(t, d, "a", map[int64]any{
		math.MinInt64: nil, 9: nil,
		10: value(10, 0, "10"), 11: value(10, 0, "10"), 19: value(10, 0, "10"),
		20: value(20, 0, "20"), 29: value(20, 0, "20"),
		30: tombstone(30, 0), 31: tombstone(30, 0), newest: tombstone(30, 0),
	})
	got, err := d.Read(t.Context(), []driver.Read{historyRead("a", 15), historyRead("nobody", 15), historyRead("a", 25), historyRead("a", 5), historyRead("a", 15)})
	require.NoError(t, err)
	require.Equal(t, [][]byte{value(10, 0, "10"), nil, value(20, 0, "20"), nil, value(10, 0, "10")}, got)
	for i := range got[0] {
		got[0][i] = 0xff // the bytes are the caller's
	}
	requireAsOf(t, d, "a", map[int64]any{15: value(10, 0, "10")})
	require.Equal(t, value(10, 0, "10"), got[4])
}

func testSameEventTime(t *testing.T, d driver.Driver) {
	for name, c := range map[string]struct {
		stored, given []byte
		want          driver.Outcome
	}{
		"created later":       {value(2, 1, "old"), value(2, 2, "new"), driver.Written},
		"created earlier":     {value(2, 2, "old"), value(2, 1, "new"), driver.Older},
		"same times":          {value(2, 2, "old"), value(2, 2, "new"), driver.Written},
		"same bytes":          {value(2, 2, "same"), value(2, 2, "same"), driver.Unchanged},
		"tombstone over row":  {value(2, 2, "old"), tombstone(2, 2), driver.Written},
		"row over tombstone":  {tombstone(2, 2), value(2, 2, "new"), driver.Older},
		"row created later":   {tombstone(2, 2), value(2, 3, "new"), driver.Written},
		"tombstone too early": {value(2, 2, "old"), tombstone(2, 1), driver.Older},
		"tombstone twice":     {tombstone(2, 2), tombstone(2, 2), driver.Unchanged},
	} {
		t.Run(name, func(t *testing.T) {
			final := c.given
			if c.want == driver.Older {
				final = c.stored
			}
			around := []driver.Row{version(name, 3, value(1, 0, "before")), version(name, 3, value(3, 0, "after"))}
			write(t, d, around...)
			require.Equal(t, []driver.Outcome{driver.Written}, write(t, d, version(name, 3, c.stored)))
			require.Equal(t, []driver.Outcome{c.want}, write(t, d, version(name, 3, c.given)))
			want := map[int64]any{0: nil, 1: value(1, 0, "before"), 2: final, 3: value(3, 0, "after")}
			requireAsOf(t, d, name, want) // nothing was dropped, or 0 would not be known

			inOneCall := name + " in one call"
			got := write(t, d, version(inOneCall, 3, value(1, 0, "before")), version(inOneCall, 3, c.stored), version(inOneCall, 3, c.given),
				version(inOneCall, 3, value(3, 0, "after")))
			require.Equal(t, []driver.Outcome{driver.Written, driver.Written, c.want, driver.Written}, got)
			requireAsOf(t, d, inOneCall, want)
		})
	}
}

func testDropped(t *testing.T, d driver.Driver) {
	t.Run("pushed out", func(t *testing.T) {
		write(t, d, version("pushed", 2, value(10, 0, "")), version("pushed", 2, value(20, 0, "")))
		requireAsOf(t, d, "pushed", map[int64]any{9: nil})
		require.Equal(t, []driver.Outcome{driver.Written}, write(t, d, version("pushed", 2, value(30, 0, ""))))
		requireAsOf(t, d, "pushed", map[int64]any{9: "dropped", 10: "dropped", 19: "dropped", 20: value(20, 0, ""), 25: value(20, 0, ""), newest: value(30, 0, "")})
	})
	t.Run("refused", func(t *testing.T) {
		write(t, d, version("refused", 2, value(20, 0, "")), version("refused", 2, value(30, 0, "")))
		require.Equal(t, []driver.Outcome{driver.Older}, write(t, d, version("refused", 2, value(10, 0, ""))))
		requireAsOf(t, d, "refused", map[int64]any{9: "dropped", 15: "dropped", 20: value(20, 0, "")})
		require.Equal(t, []driver.Outcome{driver.Written}, write(t, d, version("refused", 3, value(15, 0, ""))), "there is room now")
		requireAsOf(t, d, "refused", map[int64]any{14: "dropped", 15: value(15, 0, ""), 20: value(20, 0, "")})
	})
	t.Run("an older row of a kept event time drops nothing", func(t *testing.T) {
		write(t, d, version("kept", 2, value(20, 5, "")), version("kept", 2, value(30, 0, "")))
		require.Equal(t, []driver.Outcome{driver.Older}, write(t, d, version("kept", 2, value(20, 4, ""))))
		require.Equal(t, []driver.Outcome{driver.Unchanged}, write(t, d, version("kept", 2, value(30, 0, ""))))
		requireAsOf(t, d, "kept", map[int64]any{19: nil, 20: value(20, 5, "")})
	})
	t.Run("in between", func(t *testing.T) {
		write(t, d, version("between", 2, value(10, 0, "")), version("between", 2, value(30, 0, "")))
		require.Equal(t, []driver.Outcome{driver.Written}, write(t, d, version("between", 2, value(20, 0, ""))))
		requireAsOf(t, d, "between", map[int64]any{10: "dropped", 20: value(20, 0, ""), 30: value(30, 0, "")})
	})
	t.Run("one version", func(t *testing.T) {
		write(t, d, version("one", 1, value(10, 0, "")), version("one", 1, value(20, 0, "")))
		requireAsOf(t, d, "one", map[int64]any{19: "dropped", 20: value(20, 0, "")})
	})
}

func testFewerVersions(t *testing.T, d driver.Driver) {
	for event := range int64(6) {
		write(t, d, version("a", 6, value(event, 0, "")))
		write(t, d, version("b", 6, value(event, 0, "")))
		write(t, d, version("c", 6, value(event, 0, "")))
	}
	requireAsOf(t, d, "a", map[int64]any{-1: nil, 0: value(0, 0, "")})
	require.Equal(t, []driver.Outcome{driver.Written}, write(t, d, version("a", 3, value(6, 0, ""))))
	requireAsOf(t, d, "a", map[int64]any{3: "dropped", 4: value(4, 0, ""), 5: value(5, 0, ""), 6: value(6, 0, "")})
	require.Equal(t, []driver.Outcome{driver.Unchanged}, write(t, d, version("b", 2, value(5, 0, ""))))
	requireAsOf(t, d, "b", map[int64]any{3: "dropped", 4: value(4, 0, ""), 5: value(5, 0, "")})
	require.Equal(t, []driver.Outcome{driver.Older}, write(t, d, version("c", 2, value(3, 0, ""))), "its event time is not kept any more")
	requireAsOf(t, d, "c", map[int64]any{3: "dropped", 4: value(4, 0, ""), 5: value(5, 0, "")})
}

// testHistoryMoments writes versions at every moment, of which some are the same double, in any order, and asks at every moment.
func testHistoryMoments(t *testing.T, d driver.Driver) {
	r := newRand(t)
	shuffled := slices.Clone(moments)
	r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	for _, at := range shuffled {
		require.Equal(t, []driver.Outcome{driver.Written}, write(t, d, version("all", len(moments), value(at, 0, fmt.Sprint(at)))), "at %d", at)
	}
	for _, at := range shuffled {
		require.Equal(t, []driver.Outcome{driver.Unchanged}, write(t, d, version("all", len(moments), value(at, 0, fmt.Sprint(at)))), "at %d", at)
		requireAsOf(t, d, "all", map[int64]any{at: value(at, 0, fmt.Sprint(at))})
	}
	for n := 1; n < len(moments); n++ {
		key := fmt.Sprint("some ", n)
		for _, at := range shuffled {
			write(t, d, version(key, n, value(at, 0, "")))
		}
		oldest := moments[len(moments)-n]
		requireAsOf(t, d, key, map[int64]any{oldest: value(oldest, 0, ""), oldest - 1: "dropped", newest: value(newest, 0, "")})
	}
	for i, at := range moments[:len(moments)-1] {
		key := fmt.Sprint("two ", i)
		write(t, d, version(key, 2, value(moments[i+1], 0, "")), version(key, 2, value(at, 0, "")))
		requireAsOf(t, d, key, map[int64]any{at: value(at, 0, ""), moments[i+1] - 1: value(at, 0, ""), moments[i+1]: value(moments[i+1], 0, "")})
		if at > math.MinInt64 {
			requireAsOf(t, d, key, map[int64]any{at - 1: nil})
		}
	}
}

func testTwoLayouts(t *testing.T, d driver.Driver) {
	both := []driver.Row{row("a", "v", value(5, 0, "latest")), version("a", 2, value(3, 0, "version")), row("a", "v", value(4, 0, "late")), version("a", 2, value(4, 0, "version"))}
	require.Equal(t, []driver.Outcome{driver.Written, driver.Written, driver.Older, driver.Written}, write(t, d, both...))
	require.Equal(t, [][]byte{value(5, 0, "latest")}, read(t, d, "a", "v"))
	requireAsOf(t, d, "a", map[int64]any{newest: value(4, 0, "version"), 3: value(3, 0, "version")})
	write(t, d, version("only versions", 2, value(1, 0, "")), row("only latest", "v", value(1, 0, "")))
	require.Equal(t, [][]byte{nil}, read(t, d, "only versions", "v"))
	requireAsOf(t, d, "only latest", map[int64]any{newest: nil})
	got, err := d.Read(t.Context(), []driver.Read{
		{Entity: entity("a"), Views: []string{"w", "v"}}, historyRead("a", 3), {Entity: entity("only latest"), Views: []string{"v"}}, historyRead("only versions", newest),
	})
	require.NoError(t, err)
	require.Equal(t, [][]byte{nil, value(5, 0, "latest"), value(3, 0, "version"), value(1, 0, ""), value(1, 0, "")}, got)
}

// testPartialReads: what is not known of one entity keeps nothing from the others.
func testPartialReads(t *testing.T, d driver.Driver) {
	for event := range int64(3) {
		for _, view := range []string{"v", "w"} {
			r := version("trimmed", 2, value(event, 0, view))
			r.View = view
			write(t, d, r)
		}
	}
	other := version("trimmed", 2, value(0, 0, "x"))
	other.View = "x"
	write(t, d, other, version("whole", 2, value(0, 0, "")), row("latest", "v", value(7, 0, "")))
	three := driver.Read{Entity: entity("trimmed"), Views: []string{"x", "v", "w"}, History: true}
	reads := []driver.Read{historyRead("whole", 0), three, {Entity: entity("latest"), Views: []string{"v"}}, historyRead("trimmed", 0), historyRead("trimmed", 1), historyRead("whole", -1)}
	rows, err := d.Read(t.Context(), reads)
	partial, ok := errors.AsType[*driver.PartialError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, [][]byte{value(0, 0, ""), nil, nil, nil, value(7, 0, ""), nil, value(1, 0, "v"), nil}, rows)
	require.Len(t, partial.Errs, len(reads))
	for i, err := range partial.Errs {
		if i != 1 && i != 3 {
			require.NoError(t, err, "read %d", i)
			continue
		}
		requireNotKept(t, err)
		require.ErrorContains(t, err, `entity user "trimmed": what view "v" held at 1970-01-01T00:00:00Z is not known`)
	}
	rows, err = d.Read(t.Context(), reads[3:4])
	require.Nil(t, rows)
	requireNotKept(t, err)
	_, ok = errors.AsType[*driver.PartialError](err)
	require.False(t, ok, "nothing could be read")
}

func testCollidingHistories(t *testing.T, d driver.Driver) {
	entities := []driver.Entity{
		{Name: "a", Key: []byte("b:c")}, {Name: "a", Key: []byte("b")}, {Name: "ab", Key: []byte(":c")}, {Name: "a", Key: nil}, {Name: "a", Key: []byte{0xff, 0xff}},
		{Name: "a", Key: []byte("{b}c")}, {Name: "history", Key: []byte("a:v:")}, {Name: "meta", Key: []byte("a")}, {Name: "a", Key: append([]byte("b"), make([]byte, 9)...)},
	}
	views := []string{"v", "vv", "b", "history"}
	var rows []driver.Row
	var reads []driver.Read
	var want [][]byte
	for i, e := range entities {
		reads = append(reads, driver.Read{Entity: e, Views: views, History: true, AsOfMicros: newest}, driver.Read{Entity: e, Views: views})
		for _, layout := range []string{"version", "latest"} {
			for _, view := range views {
				r := driver.Row{Entity: e, View: view, Value: value(int64(i), 0, fmt.Sprint(i, view, layout))}
				if layout == "version" {
					r.Versions = 2
				}
				rows, want = append(rows, r), append(want, r.Value)
			}
		}
	}
	require.Equal(t, slices.Repeat([]driver.Outcome{driver.Written}, len(rows)), write(t, d, rows...))
	got, err := d.Read(t.Context(), reads)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// testForeignVersions: what any protobuf library wrote is a version like any other, and bytes that are no row are refused.
func testForeignVersions(t *testing.T, d driver.Driver) {
	for name, foreign := range foreignRows() {
		require.Equal(t, []driver.Outcome{driver.Written}, write(t, d, version(name, 2, foreign)), name)
		require.Equal(t, []driver.Outcome{driver.Unchanged}, write(t, d, version(name, 2, foreign)), name)
		requireAsOf(t, d, name, map[int64]any{99: nil, 100: foreign, newest: foreign})
		require.Equal(t, []driver.Outcome{driver.Written}, write(t, d, version(name, 2, value(100, 6, ""))), name)
		requireAsOf(t, d, name, map[int64]any{99: nil, newest: value(100, 6, "")})
	}
	_, err := d.Write(t.Context(), []driver.Row{version("bad", 2, []byte("x"))})
	require.Equal(t, fault.Internal, fault.KindOf(err), "%v", err)
	requireAsOf(t, d, "bad", map[int64]any{newest: nil})
}

// testManyHistories writes and reads more than one call of a backend holds.
func testManyHistories(t *testing.T, d driver.Driver) {
	const entities, versions = 700, 4
	var rows []driver.Row
	var reads []driver.Read
	var want [][]byte
	for event := range int64(versions) {
		for e := range entities {
			rows = append(rows, version(fmt.Sprint(e), versions, value(event, 0, fmt.Sprint(e))))
			reads = append(reads, historyRead(fmt.Sprint(e), event))
			want = append(want, rows[len(rows)-1].Value)
		}
	}
	require.Equal(t, slices.Repeat([]driver.Outcome{driver.Written}, len(rows)), write(t, d, rows...))
	got, err := d.Read(t.Context(), reads)
	require.NoError(t, err)
	require.Equal(t, want, got)

	rows = nil
	for event := range int64(1000) {
		rows = append(rows, version("long", 1000, value(event, 0, "")))
	}
	write(t, d, rows...)
	requireAsOf(t, d, "long", map[int64]any{-1: nil, 0: value(0, 0, ""), 500: value(500, 0, ""), newest: value(999, 0, "")})
}

func testHistoryExpiry(t *testing.T, d driver.Driver) {
	past, future := time.Now().Add(-time.Hour).UnixMilli(), time.Now().Add(time.Hour).UnixMilli()
	expiring := func(key string, event, expire int64) driver.Row {
		r := version(key, 3, value(event, 0, ""))
		r.ExpireAtMillis = expire
		return r
	}
	t.Run("all together", func(t *testing.T) {
		soon := time.Now().Add(700 * time.Millisecond).UnixMilli()
		write(t, d, expiring("together", 1, soon-300), expiring("together", 2, soon-200), expiring("together", 3, soon-100), expiring("together", 4, soon))
		write(t, d, expiring("kept", 1, soon-300), expiring("kept", 2, soon), expiring("kept", 3, 0))
		write(t, d, expiring("longer", 1, soon-300), expiring("longer", 2, future))
		rows, err := d.Read(t.Context(), []driver.Read{historyRead("together", 2)})
		if time.Now().UnixMilli() < soon {
			require.NoError(t, err)
			require.Equal(t, [][]byte{value(2, 0, "")}, rows, "it went before its time")
		}
		await(t, soon+1)
		requireAsOf(t, d, "together", map[int64]any{1: nil, 2: nil, newest: nil})
		requireAsOf(t, d, "kept", map[int64]any{1: value(1, 0, ""), 2: value(2, 0, ""), newest: value(3, 0, "")})
		requireAsOf(t, d, "longer", map[int64]any{1: value(1, 0, ""), newest: value(2, 0, "")})
		write(t, d, expiring("together", 0, future)) // as if it had never been there
		requireAsOf(t, d, "together", map[int64]any{-1: nil, 0: value(0, 0, ""), newest: value(0, 0, "")})
	})
	t.Run("past", func(t *testing.T) {
		require.Equal(t, []driver.Outcome{driver.Written}, write(t, d, expiring("past", 1, past)))
		requireAsOf(t, d, "past", map[int64]any{newest: nil})
	})
	t.Run("renewed", func(t *testing.T) {
		soon := time.Now().Add(400 * time.Millisecond).UnixMilli()
		write(t, d, expiring("renewed", 1, soon))
		require.Equal(t, []driver.Outcome{driver.Unchanged}, write(t, d, expiring("renewed", 1, future)))
		write(t, d, expiring("never", 1, soon))
		require.Equal(t, []driver.Outcome{driver.Unchanged}, write(t, d, expiring("never", 1, 0)))
		await(t, soon+1)
		requireAsOf(t, d, "renewed", map[int64]any{newest: value(1, 0, "")})
		requireAsOf(t, d, "never", map[int64]any{newest: value(1, 0, "")})
	})
	t.Run("a single version brings its own", func(t *testing.T) {
		write(t, d, expiring("own", 1, 0))
		r := expiring("own", 1, past)
		r.Value = value(1, 1, "")
		require.Equal(t, []driver.Outcome{driver.Written}, write(t, d, r))
		requireAsOf(t, d, "own", map[int64]any{newest: nil})
	})
}

// testLateVersions: rows that had expired before they came. No answer may depend on one that went while nothing else was there.
func testLateVersions(t *testing.T, d driver.Driver) {
	past, future := time.Now().Add(-time.Hour).UnixMilli(), time.Now().Add(time.Hour).UnixMilli()
	late := func(key string, event int64) driver.Row {
		r := version(key, 5, value(event, 0, ""))
		r.ExpireAtMillis = past
		return r
	}
	fresh := func(key string, event int64) driver.Row {
		r := version(key, 5, value(event, 0, ""))
		r.ExpireAtMillis = future
		return r
	}
	t.Run("older than all", func(t *testing.T) {
		got := write(t, d, late("older", 2), fresh("older", 3), late("older", 1), fresh("older", 4))
		require.Equal(t, []driver.Outcome{driver.Written, driver.Written, driver.Older, driver.Written}, got)
		// At 2 the row of 1 would be the wrong answer.
		requireAsOf(t, d, "older", map[int64]any{1: "dropped", 2: "dropped", 3: value(3, 0, ""), newest: value(4, 0, "")})
	})
	t.Run("between", func(t *testing.T) {
		got := write(t, d, fresh("between", 1), fresh("between", 3), late("between", 2))
		require.Equal(t, []driver.Outcome{driver.Written, driver.Written, driver.Written}, got)
		requireAsOf(t, d, "between", map[int64]any{0: nil, 1: value(1, 0, ""), 2: value(2, 0, ""), newest: value(3, 0, "")})
	})
}
