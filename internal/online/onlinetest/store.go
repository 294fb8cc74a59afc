package onlinetest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

// now is the logical time of the Store's tests: long past, so that a store that mixes it up with the wall clock drops every row.
var now = time.Date(2013, 6, 1, 12, 0, 0, 0, time.UTC)

func testStore(t *testing.T, h Harness) {
	for name, test := range map[string]func(t *testing.T, s *online.Store){
		"values of every type":       testEveryType,
		"several views and entities": testSeveralViews,
		"freshness":                  testFreshness,
		"deletions":                  testDeletions,
		"batches":                    testBatches,
		"invalid rows":               testInvalidRows,
		"invalid keys":               testInvalidKeys,
		"changed definitions":        testChangedDefinitions,
		"unknown schema":             testUnknownSchema,
		"generations":                testGenerations,
		"removals":                   testStoreRemove,
		"removing a whole view":      testStoreRemoveAll,
		"scans":                      testStoreScan,
		"scans of damage":            testStoreScanOfDamage,
		"scans of versions":          testStoreScanOfVersions,
		"last good rows":             testStoreLastGood,
		"last good versions":         testStoreLastGoodVersions,
		"look-ups":                   testStoreLookup,
		"look-ups of versions":       testStoreLookupOfVersions,
		"cancelled":                  testStoreCancelled,
	} {
		t.Run(name, func(t *testing.T) {
			s := online.NewStore(h.Open(t), online.Options{Now: func() time.Time { return now }, BatchSize: 100})
			t.Cleanup(func() { require.NoError(t, s.Close()) })
			test(t, s)
		})
	}
}

// define returns a registry of views; each view's entity is the one of that name.
func define(entities []*feature.Entity, views ...*feature.View) *feature.Registry {
	return feature.NewRegistry(entities, views, nil, "")
}

var (
	user  = &feature.Entity{Name: "user", Keys: []feature.Key{{Name: "user_id", Type: feature.Int64}}}
	route = &feature.Entity{Name: "route", Keys: []feature.Key{{Name: "origin", Type: feature.String}, {Name: "dest", Type: feature.String}}}
)

func view(name string, entity *feature.Entity, ttl time.Duration, features ...feature.Feature) *feature.View {
	return &feature.View{Name: name, Entity: entity, TTL: feature.TTLOf(ttl), ExpiredRetention: time.Hour, Features: features}
}

func live(name string, t feature.Type) feature.Feature {
	return feature.Feature{Name: name, Type: t, Column: name, Online: true}
}

func int64s(values ...int64) *feature.Column {
	c := feature.NewColumn(feature.Int64, len(values))
	for _, v := range values {
		c.AppendInt64(v)
	}
	return c
}

func texts(values ...string) *feature.Column {
	c := feature.NewColumn(feature.String, len(values))
	for _, v := range values {
		c.AppendString(v)
	}
	return c
}

// ago returns event times that far before now.
func ago(spans ...time.Duration) *feature.Column {
	c := feature.NewColumn(feature.Timestamp, len(spans))
	for _, s := range spans {
		c.AppendInt64(now.Add(-s).UnixMicro())
	}
	return c
}

func put(t *testing.T, s *online.Store, rows online.Rows) online.WriteStats {
	t.Helper()
	stats, err := s.Write(t.Context(), rows)
	require.NoError(t, err)
	return stats
}

func plan(t *testing.T, r *feature.Registry, features ...string) *online.Plan {
	t.Helper()
	selection, err := r.Select(feature.SelectionQuery{Features: features, OnlineOnly: true})
	require.NoError(t, err)
	p, err := online.NewPlan(selection)
	require.NoError(t, err)
	return p
}

func get(t *testing.T, s *online.Store, p *online.Plan, maxStaleness time.Duration, keys ...*feature.Column) *online.Result {
	t.Helper()
	r, err := s.Read(t.Context(), p, keys, online.ReadOptions{AsOf: feature.AsOf(now.UnixMicro()), MaxStaleness: feature.TTLOf(maxStaleness)})
	require.NoError(t, err)
	return r
}

func testEveryType(t *testing.T, s *online.Store) {
	var features []feature.Feature
	var cols []*feature.Column
	for ty := feature.Bool; ty <= feature.TimestampList; ty++ {
		features = append(features, live(fmt.Sprintf("f%d", ty), ty))
		c := feature.NewColumn(ty, 3)
		appendSpecial(c, 0)
		c.AppendMissing(feature.Null)
		appendSpecial(c, 1)
		cols = append(cols, c)
	}
	v := view("all", user, 0, features...)
	r := define([]*feature.Entity{user}, v)
	stats := put(t, s, online.Rows{View: v, Keys: []*feature.Column{int64s(1, 2, 3)}, EventTimes: ago(0, 0, 0), Features: cols})
	require.Equal(t, online.WriteStats{Written: 3}, stats)
	got := get(t, s, plan(t, r, "all:*"), 0, int64s(1, 2, 3))
	for i := range cols {
		require.True(t, cols[i].Equal(got.Columns[i]), "%v: %v", cols[i].Type, got.Columns[i])
	}
}

// appendSpecial appends one of two values that are easily damaged.
func appendSpecial(c *feature.Column, which int) {
	switch c.Type {
	case feature.Bool:
		c.AppendBool(which == 0)
	case feature.Int32:
		c.AppendInt32([]int32{math.MinInt32, math.MaxInt32}[which])
	case feature.Int64, feature.Timestamp:
		c.AppendInt64([]int64{math.MinInt64, 1<<53 + 1}[which])
	case feature.Float:
		c.AppendFloat([]float32{math.Float32frombits(0x7fc12345), float32(math.Inf(-1))}[which])
	case feature.Double:
		c.AppendDouble([]float64{math.Float64frombits(0x7ff8_0000_dead_beef), math.Copysign(0, -1)}[which])
	case feature.String, feature.Bytes:
		c.AppendBytes([]([]byte){nil, []byte("東京 \x00\xff{}:\r\n")}[which])
	default:
		c.AppendList(func(elem *feature.Column) {
			for i := range 1536 * which { // an empty list and an embedding
				appendSpecial(elem, i%2)
			}
		})
	}
}

func testSeveralViews(t *testing.T, s *online.Store) {
	a := view("a", user, 0, live("x", feature.Int64), feature.Feature{Name: "offline", Type: feature.String}, live("y", feature.Int64))
	b := view("b", user, 0, live("x", feature.Int64))
	c := view("c", route, 0, live("delay", feature.Int64))
	r := define([]*feature.Entity{user, route}, a, b, c)
	put(t, s, online.Rows{View: a, Keys: []*feature.Column{int64s(1, 2)}, EventTimes: ago(time.Hour, 2*time.Hour), Features: []*feature.Column{int64s(11, 12), int64s(21, 22)}})
	put(t, s, online.Rows{View: b, Keys: []*feature.Column{int64s(1)}, EventTimes: ago(3 * time.Hour), Features: []*feature.Column{int64s(31)}})
	put(t, s, online.Rows{View: c, Keys: []*feature.Column{texts("ab", "a"), texts("c", "bc")}, EventTimes: ago(0, 0), Features: []*feature.Column{int64s(1, 2)}})

	users := int64s(2, 1, 9)
	users.AppendMissing(feature.Null)
	users.AppendInt64(1)
	users.AppendInt64(2)
	origins, dests := texts("a", "ab", "ab", "a", "a"), texts("bc", "c", "bc", "bc", "bc")
	origins.AppendMissing(feature.Null)
	dests.AppendString("c")
	got := get(t, s, plan(t, r, "a:y", "c:delay", "b:x", "a:x"), 0, users, origins, dests)
	var values [][]any
	for _, col := range got.Columns {
		var column []any
		for i := range col.Len() {
			column = append(column, col.ValueAt(i))
			if !col.IsPresent(i) {
				require.Equal(t, feature.NotFound, col.Status[i])
			}
		}
		values = append(values, column)
	}
	require.Equal(t, [][]any{
		{int64(22), int64(21), nil, nil, int64(21), int64(22)},
		{int64(2), int64(1), nil, int64(2), int64(2), nil},
		{nil, int64(31), nil, nil, int64(31), nil},
		{int64(12), int64(11), nil, nil, int64(11), int64(12)},
	}, values)
	h := func(n int) int64 { return now.Add(-time.Duration(n) * time.Hour).UnixMicro() }
	require.Equal(t, [][]int64{{h(2), h(1), 0, 0, h(1), h(2)}, {h(0), h(0), 0, h(0), h(0), 0}, {0, h(3), 0, 0, h(3), 0}}, got.EventTimes)

	empty := get(t, s, plan(t, r, "a:y", "c:delay"), 0, int64s(), texts(), texts())
	require.Zero(t, empty.Columns[1].Len())
}

func testFreshness(t *testing.T, s *online.Store) {
	const day = 24 * time.Hour
	short, ever := view("short", user, day, live("x", feature.Int64)), view("ever", user, 0, live("x", feature.Int64))
	r := define([]*feature.Entity{user}, short, ever)
	users := int64s(1, 2, 3, 4, 5, 6)
	const kept = day + time.Hour // the ttl and the retention
	// Not exactly kept: real time goes on while the logical clock stands, and with it what the store may drop.
	times := ago(0, day, day+time.Microsecond, -time.Hour, kept-time.Minute, kept+time.Microsecond)
	stats := put(t, s, online.Rows{View: short, Keys: []*feature.Column{users}, EventTimes: times, Features: []*feature.Column{users}})
	require.Equal(t, online.WriteStats{Written: 5, Expired: 1}, stats, "a row that has expired is kept for the retention")
	put(t, s, online.Rows{View: ever, Keys: []*feature.Column{users}, EventTimes: times, Features: []*feature.Column{users}})
	p := plan(t, r, "short:x", "ever:x")

	got := get(t, s, p, 0, users)
	require.Equal(t, []feature.Status{feature.Present, feature.Present, feature.Expired, feature.Present, feature.Expired, feature.NotFound}, got.Columns[0].Status, "exactly the ttl is fresh")
	require.Equal(t, slices.Repeat([]feature.Status{feature.Present}, 6), got.Columns[1].Status)
	require.Equal(t, []feature.TTL{feature.TTLOf(day), 0}, got.TTLs)

	later, err := s.Read(t.Context(), p, []*feature.Column{users}, online.ReadOptions{AsOf: feature.AsOf(now.UnixMicro() + 1)})
	require.NoError(t, err)
	require.Equal(t, []feature.Status{feature.Present, feature.Expired, feature.Expired, feature.Present, feature.Expired, feature.NotFound}, later.Columns[0].Status)
	require.Zero(t, later.Columns[0].Int64s[1], "an expired value is not given away")
	require.Equal(t, times.Int64s[1], later.EventTimes[0][1], "its event time is")

	tight := get(t, s, p, time.Hour, users)
	for c := range 2 {
		require.Equal(t, feature.Expired, tight.Columns[c].Status[1])
		require.Equal(t, feature.Present, tight.Columns[c].Status[0])
		require.Equal(t, feature.TTLOf(time.Hour), tight.TTLs[c])
	}
	require.Equal(t, feature.TTLOf(day), get(t, s, p, 48*time.Hour, users).TTLs[0], "a request cannot loosen a ttl")
}

func testDeletions(t *testing.T, s *online.Store) {
	v := view("v", user, 0, live("x", feature.Int64))
	p := plan(t, define([]*feature.Entity{user}, v), "v:x")
	one := func(event time.Duration, dead bool) online.WriteStats {
		return put(t, s, online.Rows{View: v, Keys: []*feature.Column{int64s(1)}, EventTimes: ago(event), Features: []*feature.Column{int64s(5)}, Tombstones: []bool{dead}})
	}
	one(2*time.Hour, false)
	require.Equal(t, online.WriteStats{Written: 1}, one(time.Hour, true))
	got := get(t, s, p, 0, int64s(1))
	require.Equal(t, feature.NotFound, got.Columns[0].Status[0])
	require.Zero(t, got.EventTimes[0][0])
	require.Equal(t, online.WriteStats{Older: 1}, one(2*time.Hour, false), "a late row does not bring the entity back")
	require.Equal(t, online.WriteStats{Unchanged: 1}, one(time.Hour, true))
	one(time.Minute, false)
	require.Equal(t, int64(5), get(t, s, p, 0, int64s(1)).Columns[0].ValueAt(0))
}

func testBatches(t *testing.T, s *online.Store) {
	v := view("v", user, time.Hour, live("x", feature.Int64))
	p := plan(t, define([]*feature.Entity{user}, v), "v:x")
	const n, users = 1234, 400
	keys, values, times, created := int64s(), int64s(), ago(), ago()
	for i := range n {
		keys.AppendInt64(int64(i % users))
		values.AppendInt64(int64(i))
		times.AppendInt64(now.UnixMicro())
		created.AppendInt64(7)
	}
	rows := online.Rows{View: v, Keys: []*feature.Column{keys}, EventTimes: times, CreatedTimes: created, Features: []*feature.Column{values}}
	require.Equal(t, online.WriteStats{Written: n}, put(t, s, rows), "at equal times the later row wins")
	all := int64s()
	for i := range users {
		all.AppendInt64(int64(i))
	}
	got := get(t, s, p, 0, all)
	for i := range users {
		want := i
		for want+users < n {
			want += users
		}
		require.Equal(t, int64(want), got.Columns[0].ValueAt(i))
	}
	require.Equal(t, online.WriteStats{}, put(t, s, online.Rows{View: v, Keys: []*feature.Column{int64s()}, EventTimes: ago(), Features: []*feature.Column{int64s()}}))
}

func testInvalidRows(t *testing.T, s *online.Store) {
	v := view("weather", route, 0, live("x", feature.Int64), live("y", feature.String))
	good := func() online.Rows {
		return online.Rows{View: v, Keys: []*feature.Column{texts("a", "b"), texts("c", "d")}, EventTimes: ago(0, 0), Features: []*feature.Column{int64s(1, 2), texts("", "")}}
	}
	null := func(c *feature.Column, first func(*feature.Column)) *feature.Column {
		c.Reset()
		first(c)
		c.AppendMissing(feature.Null)
		return c
	}
	for name, c := range map[string]struct {
		damage func(*online.Rows)
		parts  []string
	}{
		"null key":          {func(r *online.Rows) { null(r.Keys[1], func(c *feature.Column) { c.AppendString("c") }) }, []string{"row 1", `"dest"`, "null"}},
		"null event time":   {func(r *online.Rows) { null(r.EventTimes, func(c *feature.Column) { c.AppendInt64(1) }) }, []string{"row 1", "event time"}},
		"key missing":       {func(r *online.Rows) { r.Keys = r.Keys[:1] }, []string{"1 key", "2 keys"}},
		"key of a type":     {func(r *online.Rows) { r.Keys[0] = int64s(1, 2) }, []string{`"origin"`, "STRING"}},
		"feature missing":   {func(r *online.Rows) { r.Features = r.Features[:1] }, []string{"too few"}},
		"too many features": {func(r *online.Rows) { r.Features = append(r.Features, int64s(1, 2)) }, []string{"3", "2"}},
		"feature of a type": {func(r *online.Rows) { r.Features[1] = int64s(1, 2) }, []string{`"y"`, "STRING"}},
		"feature too short": {func(r *online.Rows) { r.Features[0] = int64s(1) }, []string{`"x"`, "1 values", "2 rows"}},
		"created too short": {func(r *online.Rows) { r.CreatedTimes = ago(0) }, []string{"created"}},
		"marks too short":   {func(r *online.Rows) { r.Tombstones = []bool{true} }, []string{"tombstone"}},
		"no event times":    {func(r *online.Rows) { r.EventTimes = nil }, []string{"event times"}},
	} {
		t.Run(name, func(t *testing.T) {
			rows := good()
			c.damage(&rows)
			_, err := s.Write(t.Context(), rows)
			require.Equal(t, fault.Invalid, fault.KindOf(err), "%v", err)
			for _, part := range c.parts {
				require.ErrorContains(t, err, part)
			}
		})
	}
	got := get(t, s, plan(t, define([]*feature.Entity{route}, v), "weather:*"), 0, texts("a", "b"), texts("c", "d"))
	require.Equal(t, []feature.Status{feature.NotFound, feature.NotFound}, got.Columns[0].Status, "nothing of an invalid call is written")
}

func testInvalidKeys(t *testing.T, s *online.Store) {
	v := view("v", route, 0, live("x", feature.Int64), feature.Feature{Name: "off", Type: feature.Int64})
	r := define([]*feature.Entity{route}, v)
	p := plan(t, r, "v:x")
	for _, keys := range [][]*feature.Column{nil, {texts("a")}, {texts("a"), int64s(1)}, {texts("a"), texts("b", "c")}} {
		_, err := s.Read(t.Context(), p, keys, online.ReadOptions{})
		require.Equal(t, fault.Invalid, fault.KindOf(err), "%v", err)
	}
	selection, err := r.Select(feature.SelectionQuery{Features: []string{"v:off"}})
	require.NoError(t, err)
	_, err = online.NewPlan(selection)
	require.Equal(t, fault.Precondition, fault.KindOf(err))
}

func testChangedDefinitions(t *testing.T, s *online.Store) {
	old := view("v", user, 0, live("a", feature.Int32), live("b", feature.String), live("gone", feature.Double))
	gone := feature.NewColumn(feature.Double, 1)
	gone.AppendDouble(1)
	a := feature.NewColumn(feature.Int32, 1)
	a.AppendInt32(-7)
	put(t, s, online.Rows{View: old, Keys: []*feature.Column{int64s(1)}, EventTimes: ago(time.Hour), Features: []*feature.Column{a, texts("text"), gone}})

	changed := view("v", user, 0, live("new", feature.Double), live("b", feature.String), live("a", feature.Int64))
	r := define([]*feature.Entity{user}, changed)
	number := feature.NewColumn(feature.Double, 1)
	number.AppendDouble(2.5)
	put(t, s, online.Rows{View: changed, Keys: []*feature.Column{int64s(2)}, EventTimes: ago(time.Hour), Features: []*feature.Column{number, texts("later"), int64s(1 << 40)}})
	p := plan(t, r, "v:*")
	for range 2 { // with the schema loaded, and from memory
		got := get(t, s, p, 0, int64s(1, 2, 1))
		require.Equal(t, []feature.Status{feature.NotFound, feature.Present, feature.NotFound}, got.Columns[0].Status)
		require.Equal(t, []any{nil, 2.5, nil, "text", "later", "text", int64(-7), int64(1 << 40), int64(-7)},
			[]any{got.Columns[0].ValueAt(0), got.Columns[0].ValueAt(1), got.Columns[0].ValueAt(2), got.Columns[1].ValueAt(0), got.Columns[1].ValueAt(1),
				got.Columns[1].ValueAt(2), got.Columns[2].ValueAt(0), got.Columns[2].ValueAt(1), got.Columns[2].ValueAt(2)})
	}

	refused := plan(t, define([]*feature.Entity{user}, view("v", user, 0, live("b", feature.Int64))), "v:b")
	_, err := s.Read(t.Context(), refused, []*feature.Column{int64s(1)}, online.ReadOptions{})
	require.Equal(t, fault.Precondition, fault.KindOf(err))
	for _, part := range []string{`"v:b"`, "STRING", "INT64", `"1"`} {
		require.ErrorContains(t, err, part)
	}
}

func testUnknownSchema(t *testing.T, s *online.Store) {
	old := view("v", user, 0, live("a", feature.Int64))
	put(t, s, online.Rows{View: old, Keys: []*feature.Column{int64s(42)}, EventTimes: ago(time.Hour), Features: []*feature.Column{int64s(1)}})
	schema := storedSchemaName(old)
	require.NoError(t, s.PutMeta(t.Context(), schema, []byte("damaged")))
	p := plan(t, define([]*feature.Entity{user}, view("v", user, 0, live("a", feature.Int64), live("b", feature.Int64))), "v:a")
	_, err := s.Read(t.Context(), p, []*feature.Column{int64s(42)}, online.ReadOptions{})
	require.Equal(t, fault.Corrupt, fault.KindOf(err), "%v", err)
	for _, part := range []string{`"v"`, "user", `"42"`, schema[len(schema)-16:]} {
		require.ErrorContains(t, err, part)
	}
	// Another view's rows are not under a name that this one's are: nothing is stored for view w.
	p = plan(t, define([]*feature.Entity{user}, view("w", user, 0, live("a", feature.Int64))), "w:a")
	require.Equal(t, feature.NotFound, get(t, s, p, 0, int64s(42)).Columns[0].Status[0])
}

func testStoreCancelled(t *testing.T, s *online.Store) {
	v := view("v", user, 0, live("x", feature.Int64))
	p := plan(t, define([]*feature.Entity{user}, v), "v:x")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Read(ctx, p, []*feature.Column{int64s(1)}, online.ReadOptions{})
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.Write(ctx, online.Rows{View: v, Keys: []*feature.Column{int64s(1)}, EventTimes: ago(0), Features: []*feature.Column{int64s(1)}})
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.GetMeta(ctx, []string{"a"})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, s.PutMeta(ctx, "a", nil), context.Canceled)
	require.ErrorIs(t, s.PutMark(ctx, "a", nil), context.Canceled)
	_, err = s.Marks(ctx, "a")
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.Remove(ctx, v, 0, []*feature.Column{int64s(1)})
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.RemoveAll(ctx, v, 0, nil)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, s.Scan(ctx, v, 0, func(*online.Scanned) error { return nil }), context.Canceled)
	_, err = s.SwapMeta(ctx, "a", nil, []byte("x"))
	require.ErrorIs(t, err, context.Canceled)
}

// storedSchemaName is where the Store keeps the schema of the view's rows.
func storedSchemaName(v *feature.View) string {
	return fmt.Sprintf("schema/%s/%016x", v.Name, storedrow.SchemaOf(v).Fingerprint())
}
