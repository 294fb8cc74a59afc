package onlinetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
)

// putGeneration writes one row for each of the users, whose feature x is the value.
func putGeneration(t *testing.T, s *online.Store, v *feature.View, generation uint64, value int64, users ...int64) {
	t.Helper()
	spans := make([]time.Duration, len(users))
	rows := online.Rows{View: v, Generation: generation, Keys: []*feature.Column{int64s(users...)}, EventTimes: ago(spans...)}
	rows.Features = []*feature.Column{int64s(slices.Repeat([]int64{value}, len(users))...)}
	require.Equal(t, online.WriteStats{Written: len(users)}, put(t, s, rows))
}

// valuesOf reads generations of the plan's views and returns the values of each column, nil for what is not there.
func valuesOf(t *testing.T, s *online.Store, p *online.Plan, generations []uint64, keys ...*feature.Column) [][]any {
	t.Helper()
	r, err := s.Read(t.Context(), p, keys, online.ReadOptions{AsOf: feature.AsOf(now.UnixMicro()), Generations: generations})
	require.NoError(t, err)
	defer r.Release()
	values := make([][]any, len(r.Columns))
	for i, c := range r.Columns {
		for row := range c.Len() {
			values[i] = append(values[i], c.ValueAt(row))
		}
	}
	return values
}

func testGenerations(t *testing.T, s *online.Store) {
	snapshot, other, history := view("w", user, 0, live("x", feature.Int64)), view("o", user, 0, live("x", feature.Int64)), view("h", user, 0, live("x", feature.Int64))
	history.HistoryVersions = 3
	for generation := range uint64(3) {
		putGeneration(t, s, snapshot, generation, 100+int64(generation), 1, 2)
	}
	putGeneration(t, s, snapshot, 2, 1002, 3)
	putGeneration(t, s, other, 0, 7, 1, 3)
	putGeneration(t, s, history, 0, 9, 1)
	r := define([]*feature.Entity{user}, snapshot, other, history)
	p, users := plan(t, r, "o:x", "w:x", "h:x"), int64s(1, 2, 3)
	o, h := []any{int64(7), nil, int64(7)}, []any{int64(9), nil, nil}
	for range 2 {
		require.Equal(t, [][]any{o, {int64(100), int64(100), nil}, h}, valuesOf(t, s, p, nil, users))
		require.Equal(t, [][]any{o, {int64(100), int64(100), nil}, h}, valuesOf(t, s, p, []uint64{0, 0, 0}, users))
		require.Equal(t, [][]any{o, {int64(101), int64(101), nil}, h}, valuesOf(t, s, p, []uint64{0, 1, 0}, users))
		require.Equal(t, [][]any{o, {int64(102), int64(102), int64(1002)}, h}, valuesOf(t, s, p, []uint64{0, 2, 0}, users))
		require.Equal(t, [][]any{o, {nil, nil, nil}, h}, valuesOf(t, s, p, []uint64{0, 3, 0}, users))
		require.Equal(t, [][]any{{nil, nil, nil}, {int64(101), int64(101), nil}, h}, valuesOf(t, s, p, []uint64{1, 1, 0}, users))
	}

	_, err := s.Read(t.Context(), p, []*feature.Column{users}, online.ReadOptions{Generations: []uint64{0, 0, 1}})
	require.Equal(t, fault.Invalid, fault.KindOf(err), "%v", err)
	require.ErrorContains(t, err, `"h"`)
	_, err = s.Read(t.Context(), p, []*feature.Column{users}, online.ReadOptions{Generations: []uint64{1}})
	require.Equal(t, fault.Internal, fault.KindOf(err), "%v", err)
	_, err = s.Write(t.Context(), online.Rows{View: history, Generation: 1, Keys: []*feature.Column{int64s(1)}, EventTimes: ago(0), Features: []*feature.Column{int64s(1)}})
	require.Equal(t, fault.Invalid, fault.KindOf(err), "%v", err)

	// A generation that was written under an earlier definition is read by its schema, which is stored for the view and not for the generation.
	wider := view("w", user, 0, live("y", feature.Int64), live("x", feature.Int64))
	p = plan(t, define([]*feature.Entity{user}, wider), "w:y", "w:x")
	require.Equal(t, [][]any{{nil}, {int64(101)}}, valuesOf(t, s, p, []uint64{1}, int64s(1)))
}

func testStoreRemove(t *testing.T, s *online.Store) {
	v, h := view("w", user, 0, live("x", feature.Int64)), view("h", user, 0, live("x", feature.Int64))
	h.HistoryVersions = 3
	const n = 250 // more than one batch
	all := make([]int64, n)
	for i := range all {
		all[i] = int64(i)
	}
	putGeneration(t, s, v, 0, 5, all...)
	putGeneration(t, s, v, 4, 6, all...)
	putGeneration(t, s, h, 0, 7, all...)
	remove := func(v *feature.View, generation uint64, users ...int64) int {
		t.Helper()
		removed, err := s.Remove(t.Context(), v, generation, []*feature.Column{int64s(users...)})
		require.NoError(t, err)
		return removed
	}
	require.Zero(t, remove(v, 4))
	require.Zero(t, remove(v, 3, all...))
	require.Equal(t, n-2, remove(v, 4, append(all[2:], n, n+1)...))
	p := plan(t, define([]*feature.Entity{user}, v, h), "w:x", "h:x")
	require.Equal(t, [][]any{{int64(6), int64(6), nil}, {int64(7), int64(7), int64(7)}}, valuesOf(t, s, p, []uint64{4, 0}, int64s(0, 1, 2)))
	require.Equal(t, 1, remove(h, 0, 1))
	require.Equal(t, [][]any{{int64(5), int64(5), int64(5)}, {int64(7), nil, int64(7)}}, valuesOf(t, s, p, nil, int64s(0, 1, 2)))

	null := int64s(0)
	null.AppendMissing(feature.Null)
	for name, c := range map[string]struct {
		view       *feature.View
		generation uint64
		keys       []*feature.Column
		part       string
	}{
		"null key":              {v, 4, []*feature.Column{null}, "row 1"},
		"key of a type":         {v, 4, []*feature.Column{texts("0")}, "INT64"},
		"no keys":               {v, 4, nil, "0 key columns"},
		"no column":             {v, 4, []*feature.Column{nil}, "INT64"},
		"generation of history": {h, 1, []*feature.Column{int64s(0)}, "HISTORY"},
	} {
		_, err := s.Remove(t.Context(), c.view, c.generation, c.keys)
		require.Equal(t, fault.Invalid, fault.KindOf(err), name)
		require.ErrorContains(t, err, c.part, name)
	}
	require.Equal(t, [][]any{{int64(6)}, {int64(7)}}, valuesOf(t, s, p, []uint64{4, 0}, int64s(0)), "nothing was removed")
}

func testStoreRemoveAll(t *testing.T, s *online.Store) {
	v := view("w", user, 0, live("x", feature.Int64))
	all := make([]int64, 3000)
	for i := range all {
		all[i] = int64(i)
	}
	putGeneration(t, s, v, 1, 5, all...)
	putGeneration(t, s, v, 11, 6, all[:10]...)
	putGeneration(t, s, v, 0, 7, all[:10]...)
	enough, told := errors.New("enough"), 0
	removed, err := s.RemoveAll(t.Context(), v, 1, func(removed int) error {
		told = removed
		return enough
	})
	require.Equal(t, enough, err)
	require.Equal(t, told, removed)
	rest, err := s.RemoveAll(t.Context(), v, 1, nil)
	require.NoError(t, err)
	require.Equal(t, len(all), removed+rest)
	again, err := s.RemoveAll(t.Context(), v, 1, nil)
	require.NoError(t, err)
	require.Zero(t, again)
	p := plan(t, define([]*feature.Entity{user}, v), "w:x")
	require.Equal(t, [][]any{{nil}}, valuesOf(t, s, p, []uint64{1}, int64s(3)))
	require.Equal(t, [][]any{{int64(6)}}, valuesOf(t, s, p, []uint64{11}, int64s(3)))
	require.Equal(t, [][]any{{int64(7)}}, valuesOf(t, s, p, nil, int64s(3)))

	h := view("h", user, 0, live("x", feature.Int64))
	h.HistoryVersions = 5
	for range 2 {
		for i := range 4 {
			span := time.Duration(i) * time.Second
			put(t, s, online.Rows{View: h, Keys: []*feature.Column{int64s(1, 2)}, EventTimes: ago(span, span), Features: []*feature.Column{int64s(1, 2)}})
		}
		removed, err = s.RemoveAll(t.Context(), h, 0, nil)
		require.NoError(t, err)
		require.Equal(t, 2, removed, "all versions of an entity are one")
	}
	_, err = s.RemoveAll(t.Context(), h, 1, nil)
	require.Equal(t, fault.Invalid, fault.KindOf(err))
}

// scanRows returns what a Store's scan finds, one text a row, sorted and each once; and the errors of those that cannot be read, by their key.
func scanRows(t *testing.T, s *online.Store, v *feature.View, generation uint64) (rows []string, unreadable map[string]error) {
	t.Helper()
	found, unreadable := map[string]bool{}, map[string]error{}
	require.NoError(t, s.Scan(t.Context(), v, generation, func(some *online.Scanned) error {
		n := len(some.Tombstones)
		for _, c := range slices.Concat(some.Keys, some.Features, []*feature.Column{some.EventTimes, some.CreatedTimes}) {
			require.Equal(t, n, c.Len())
			require.Len(t, c.Status, n)
		}
		for row := range n {
			text := ""
			for _, c := range some.Keys {
				text += fmt.Sprint(c.ValueAt(row), " ")
			}
			text += fmt.Sprintf("%v ago, created %v, deleted %v:", now.Sub(time.UnixMicro(some.EventTimes.Int64s[row])), some.CreatedTimes.ValueAt(row), some.Tombstones[row])
			for _, c := range some.Features {
				text += fmt.Sprintf(" %v(%v)", c.ValueAt(row), c.Status[row])
			}
			found[text] = true
		}
		for _, u := range some.Unreadable {
			unreadable[string(u.Key)] = u.Err
		}
		return nil
	}))
	return slices.Sorted(maps.Keys(found)), unreadable
}

func testStoreScan(t *testing.T, s *online.Store) {
	old := view("v", route, time.Minute, live("a", feature.Int32), live("gone", feature.String))
	v := view("v", route, time.Minute, live("b", feature.String), live("a", feature.Int64), feature.Feature{Name: "offline", Type: feature.String})
	rows, unreadable := scanRows(t, s, v, 0)
	require.Empty(t, rows)
	require.Empty(t, unreadable)
	narrow := feature.NewColumn(feature.Int32, 1)
	narrow.AppendInt32(-5)
	put(t, s, online.Rows{View: old, Keys: []*feature.Column{texts("a"), texts("1")}, EventTimes: ago(30 * time.Minute), Features: []*feature.Column{narrow, texts("x")}})
	created := feature.NewColumn(feature.Timestamp, 4)
	created.AppendInt64(8)
	created.AppendMissing(feature.Null)
	created.AppendInt64(9)
	created.AppendInt64(-1)
	values := int64s(1, 2, 3)
	values.AppendMissing(feature.Null)
	put(t, s, online.Rows{
		View: v, Keys: []*feature.Column{texts("", "1:", "c", "d"), texts("2", "3", "", "東京")}, EventTimes: ago(0, 10*time.Minute, time.Second, -time.Hour),
		CreatedTimes: created, Features: []*feature.Column{texts("p", "q", "r", "s"), values}, Tombstones: []bool{false, false, true, false},
	})
	put(t, s, online.Rows{View: v, Generation: 3, Keys: []*feature.Column{texts("a"), texts("3")}, EventTimes: ago(0), Features: []*feature.Column{texts("third"), int64s(3)}})
	rows, unreadable = scanRows(t, s, v, 0)
	require.Empty(t, unreadable)
	require.Equal(t, []string{
		" 2 0s ago, created 8, deleted false: p(PRESENT) 1(PRESENT)",
		"1: 3 10m0s ago, created <nil>, deleted false: q(PRESENT) 2(PRESENT)",
		"a 1 30m0s ago, created <nil>, deleted false: <nil>(NOT_FOUND) -5(PRESENT)",
		"c  1s ago, created 9, deleted true: <nil>(NOT_FOUND) <nil>(NOT_FOUND)",
		"d 東京 -1h0m0s ago, created -1, deleted false: s(PRESENT) <nil>(NULL)",
	}, rows)
	rows, unreadable = scanRows(t, s, v, 3)
	require.Empty(t, unreadable)
	require.Equal(t, []string{"a 3 0s ago, created <nil>, deleted false: third(PRESENT) 3(PRESENT)"}, rows)

	enough := errors.New("enough")
	require.Equal(t, enough, s.Scan(t.Context(), v, 0, func(*online.Scanned) error { return enough }))
}

// testStoreScanOfDamage: a row that cannot be read is told, with its key and why, and costs no other.
func testStoreScanOfDamage(t *testing.T, s *online.Store) {
	number, text := view("v", user, 0, live("x", feature.Int64)), view("v", user, 0, live("x", feature.String))
	named := &feature.Entity{Name: "user", Keys: []feature.Key{{Name: "user_id", Type: feature.String}}}
	putGeneration(t, s, number, 0, 7, 1, 2)
	put(t, s, online.Rows{View: text, Keys: []*feature.Column{int64s(3)}, EventTimes: ago(0), Features: []*feature.Column{texts("seven")}})
	put(t, s, online.Rows{View: view("v", named, 0, live("x", feature.Int64)), Keys: []*feature.Column{texts("no number")}, EventTimes: ago(0), Features: []*feature.Column{int64s(1)}})
	lost := view("v", user, 0, live("lost", feature.Int64))
	put(t, s, online.Rows{View: lost, Keys: []*feature.Column{int64s(4, 5)}, EventTimes: ago(0, 0), Features: []*feature.Column{int64s(1, 2)}})
	require.NoError(t, s.PutMeta(t.Context(), storedSchemaName(lost), []byte("damaged")))

	rows, unreadable := scanRows(t, s, number, 0)
	require.Equal(t, []string{"1 0s ago, created <nil>, deleted false: 7(PRESENT)", "2 0s ago, created <nil>, deleted false: 7(PRESENT)"}, rows)
	kinds := map[string]fault.Kind{}
	for key, err := range unreadable {
		kinds[key] = fault.KindOf(err)
		require.ErrorContains(t, err, fmt.Sprintf("view %q, entity user %q", "v", key))
	}
	require.Equal(t, map[string]fault.Kind{"3": fault.Precondition, "4": fault.Corrupt, "5": fault.Corrupt, "no number": fault.Corrupt}, kinds)
	removed, err := s.RemoveAll(t.Context(), number, 0, nil)
	require.NoError(t, err)
	require.Equal(t, 6, removed, "readable or not")
}

func testStoreScanOfVersions(t *testing.T, s *online.Store) {
	h := view("h", user, 0, live("x", feature.Int64))
	h.HistoryVersions = 2
	put(t, s, online.Rows{
		View: h, Keys: []*feature.Column{int64s(1, 1, 1, 2)}, EventTimes: ago(3*time.Hour, 2*time.Hour, time.Hour, 0), Features: []*feature.Column{int64s(3, 2, 1, 0)},
		Tombstones: []bool{false, true, false, false},
	})
	rows, unreadable := scanRows(t, s, h, 0)
	require.Empty(t, unreadable)
	require.Equal(t, []string{
		"1 1h0m0s ago, created <nil>, deleted false: 1(PRESENT)",
		"1 2h0m0s ago, created <nil>, deleted true: <nil>(NOT_FOUND)",
		"2 0s ago, created <nil>, deleted false: 0(PRESENT)",
	}, rows)
	require.Equal(t, fault.Invalid, fault.KindOf(s.Scan(t.Context(), h, 2, func(*online.Scanned) error { return nil })))
}
