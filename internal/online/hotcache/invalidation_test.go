package hotcache

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

// TestWriteDropsRows writes through the cache, with and without success.
func TestWriteDropsRows(t *testing.T) {
	s := newSpy()
	c := cached(t, s)
	write := func(key, view, value string) error {
		_, err := c.Write(t.Context(), []driver.Row{{Entity: entity(key), View: view, Value: []byte(value)}})
		return err
	}
	require.NoError(t, write("a", "never read", "0"))
	s.put("b", "v", "b")
	s.put("a", "w", "w")
	require.Equal(t, []string{"-", "w", "b"}, get(t, c, ask("a", "v", "w"), ask("b", "v")))
	require.NoError(t, write("a", "not read either", "0"))
	require.Equal(t, []string{"-", "w", "b"}, get(t, c, ask("a", "v", "w"), ask("b", "v")))
	require.Equal(t, 1, s.calls())
	require.NoError(t, write("a", "v", "1"))
	require.Equal(t, []string{"1", "w", "b"}, get(t, c, ask("a", "v", "w"), ask("b", "v")))
	require.Equal(t, [][]driver.Read{{ask("a", "v", "w"), ask("b", "v")}, {ask("a", "v", "w")}}, s.asked, "only the entity that was written is dropped")

	s.writeErr = errStore // and the row is stored all the same
	require.ErrorIs(t, write("a", "v", "2"), errStore)
	require.Equal(t, []string{"2"}, get(t, c, ask("a", "v")))
	require.EqualValues(t, 2, c.counters.written.Load())

	s.writeErr = nil
	var rows []driver.Row
	for _, e := range []driver.Entity{entity("a"), entity("a"), entity("b"), {Name: "other", Key: []byte("b")}} {
		rows = append(rows, driver.Row{Entity: e, View: "v", Value: []byte("3")})
	}
	other := driver.Read{Entity: rows[3].Entity, Views: []string{"v"}}
	require.Equal(t, []string{"2", "b", "-"}, get(t, c, ask("a", "v"), ask("b", "v"), other))
	_, err := c.Write(t.Context(), rows)
	require.NoError(t, err)
	require.Equal(t, []string{"3", "3", "3"}, get(t, c, ask("a", "v"), ask("b", "v"), other))
	require.EqualValues(t, 5, c.counters.written.Load())
}

// TestWriteWhileRowIsFetched writes a row after a fetch has taken the old one and before it returns: who waited has the old one, who comes
// after the write has the new one, and the old one does not come back.
func TestWriteWhileRowIsFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, first, second := newSpy(), make(gate), make(gate)
		s.after = func(ctx context.Context, call int) error { return []gate{first, second}[call].wait(ctx) }
		c := cached(t, s)
		s.put("a", "v", "old")
		s.put("b", "v", "b")
		var readers sync.WaitGroup
		readers.Go(func() { require.Equal(t, []string{"old", "b"}, get(t, c, ask("a", "v"), ask("b", "v"))) })
		synctest.Wait()
		_, err := c.Write(t.Context(), []driver.Row{{Entity: entity("a"), View: "v", Value: []byte("new")}})
		require.NoError(t, err)
		readers.Go(func() { require.Equal(t, []string{"new"}, get(t, c, ask("a", "v"))) })
		synctest.Wait()
		require.Equal(t, []driver.Read{ask("a", "v")}, s.asked[1], "a read after the write asks anew")
		close(second)
		synctest.Wait()
		require.Equal(t, []string{"new"}, get(t, c, ask("a", "v")))
		close(first)
		readers.Wait()
		require.Equal(t, []string{"new", "b"}, get(t, c, ask("a", "v"), ask("b", "v")))
		require.Equal(t, 2, s.calls())
	})
}

// TestRemoveDropsRows removes through the cache, with and without success.
func TestRemoveDropsRows(t *testing.T) {
	s := newSpy()
	c := cached(t, s)
	for _, err := range []error{nil, errStore} {
		s.put("a", "v", "a")
		s.put("b", "v", "b")
		c.invalidate(1, func(int) (driver.Entity, string) { return entity("a"), "v" })
		require.Equal(t, []string{"a", "b"}, get(t, c, ask("a", "v"), ask("b", "v")))
		s.writeErr = err // and the row is removed all the same
		removed, err := c.Remove(t.Context(), []driver.Removal{{Entity: entity("a"), View: "v"}, {Entity: entity("c"), View: "v"}})
		require.ErrorIs(t, err, s.writeErr)
		require.Equal(t, 1, removed)
		require.Equal(t, []string{"-", "b"}, get(t, c, ask("a", "v"), ask("b", "v")))
	}
}

// TestMarkers changes markers in all the ways in which they change.
func TestMarkers(t *testing.T) {
	s := newSpy()
	c := cached(t, s)
	store := online.NewStore(c, online.Options{})
	moment := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	version := 0
	// dropped reports whether the rows of the views v and w have been dropped by f.
	dropped := func(f func()) [2]bool {
		t.Helper()
		version++
		now := fmt.Sprint(version)
		get(t, c, ask("a", "v", "w"))
		s.put("a", "v", now)
		s.put("a", "w", now)
		f()
		got := get(t, c, ask("a", "v", "w"))
		return [2]bool{got[0] == now, got[1] == now}
	}
	poll := func() {
		_, err := store.Unsynced(t.Context(), []string{"v", "w"})
		require.NoError(t, err)
	}
	poll()
	none, v, both := [2]bool{}, [2]bool{true, false}, [2]bool{true, true}
	require.Equal(t, none, dropped(poll), "none is what it was")
	require.Equal(t, v, dropped(func() { s.putMeta("synced/v", "1"); poll() }), "synced by another process")
	require.Equal(t, none, dropped(poll))
	require.Equal(t, none, dropped(func() { s.putMeta("synced/v", "2") }), "not seen yet")
	require.Equal(t, v, dropped(poll))
	require.Equal(t, v, dropped(func() { require.NoError(t, store.MarkSynced(t.Context(), "v", moment)) }), "synced by this process")
	require.Equal(t, none, dropped(poll))
	require.Equal(t, none, dropped(func() { require.NoError(t, store.PutMeta(t.Context(), "definitions", []byte("x"))) }))
	require.Equal(t, v, dropped(func() { s.putMeta("synced/v", ""); poll() }), "the store was emptied")
	require.Equal(t, both, dropped(func() { s.putMeta("synced/v", "3"); s.putMeta("synced/w", "3"); poll() }))
	swap := func(old, value string) {
		_, err := store.SwapMeta(t.Context(), "synced/v", []byte(old), []byte(value))
		require.ErrorIs(t, err, s.writeErr)
	}
	require.Equal(t, v, dropped(func() { swap("3", "4") }), "swapped by this process")
	require.Equal(t, none, dropped(func() { swap("3", "5") }), "not swapped")
	require.Equal(t, none, dropped(poll))
	s.writeErr = errStore
	require.Equal(t, v, dropped(func() { swap("4", "5") }), "a marker that may have been swapped")
	require.Equal(t, v, dropped(func() { require.Error(t, store.MarkSynced(t.Context(), "v", moment)) }), "a marker that may have been stored")
	require.EqualValues(t, 7, c.counters.generations.Load())
}

// TestGenerations: the rows of a view's generations are rows of that view where its marker changes, and of themselves where they are written; and the names of
// generations that nobody reads any more are forgotten.
func TestGenerations(t *testing.T) {
	s := newSpy()
	c := cached(t, s)
	names := []string{"v", "v@1", "v@2", "vv", "vv@1"}
	ask := driver.Read{Entity: entity("a"), Views: names}
	store := func(value string) {
		for _, name := range names {
			s.put("a", name, value)
		}
	}
	store("old")
	require.Equal(t, []string{"old", "old", "old", "old", "old"}, get(t, c, ask))
	require.NoError(t, c.PutMeta(t.Context(), "synced/v", []byte("1")))
	store("new")
	require.Equal(t, []string{"new", "new", "new", "old", "old"}, get(t, c, ask))
	s.writeErr = errStore
	require.Error(t, c.PutMeta(t.Context(), "synced/v", []byte("2")))
	s.writeErr = nil
	store("newer")
	require.Equal(t, []string{"newer", "newer", "newer", "old", "old"}, get(t, c, ask))
	_, err := c.Write(t.Context(), []driver.Row{{Entity: entity("a"), View: "v@1", Value: []byte("written")}})
	require.NoError(t, err)
	require.Equal(t, []string{"newer", "written", "newer", "newer", "newer"}, get(t, c, ask))

	for generation := range 100 {
		name := fmt.Sprint("v@", 3+generation)
		s.put("a", name, name)
		for range 2 {
			require.Equal(t, []string{name}, get(t, c, driver.Read{Entity: entity("a"), Views: []string{name}}))
		}
	}
	require.Len(t, *c.views.byName.Load(), keptNames+2)
	require.NotNil(t, c.views.lookup("v"))
	require.NotNil(t, c.views.lookup("v@102"))
	require.Equal(t, []string{"newer"}, get(t, c, driver.Read{Entity: entity("a"), Views: []string{"v"}}))
	s.put("a", "v@1", "meanwhile")
	require.Equal(t, []string{"meanwhile"}, get(t, c, driver.Read{Entity: entity("a"), Views: []string{"v@1"}}), "a name that was forgotten has no rows in memory")
}

// TestMarkerChangesWhileRowIsFetched changes a marker between the taking of a row and its arrival.
func TestMarkerChangesWhileRowIsFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, first := newSpy(), make(gate)
		s.after = func(ctx context.Context, call int) error {
			if call == 0 {
				return first.wait(ctx)
			}
			return nil
		}
		c := cached(t, s)
		s.put("a", "v", "old")
		var readers sync.WaitGroup
		readers.Go(func() { require.Equal(t, []string{"old"}, get(t, c, ask("a", "v"))) })
		synctest.Wait()
		s.put("a", "v", "new")
		require.NoError(t, c.PutMeta(t.Context(), "synced/v", nil))
		require.Equal(t, []string{"new"}, get(t, c, ask("a", "v")))
		close(first)
		readers.Wait()
		require.Equal(t, []string{"new"}, get(t, c, ask("a", "v")))
		require.Equal(t, 2, s.calls())
	})
}
