package online_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/pebblestore"
)

// TestSyncedMarkers: a marker counts for the definitions by which the rows are found that it tells of, and for no others.
func TestSyncedMarkers(t *testing.T) {
	d, err := pebblestore.Open(pebblestore.Options{InMemory: true})
	require.NoError(t, err)
	s := &spy{Driver: d}
	store := online.NewStore(s, online.Options{})
	defer store.Close()
	view := func(entity string, versions int, types ...feature.Type) *feature.View {
		e := &feature.Entity{Name: entity}
		for _, keyType := range types {
			e.Keys = append(e.Keys, feature.Key{Name: "k" + keyType.String(), Type: keyType})
		}
		return &feature.View{Name: "v", Entity: e, HistoryVersions: versions}
	}
	base := view("user", 0, feature.Int64, feature.String)
	renamedKey := view("user", 0, feature.Int64, feature.String)
	renamedKey.Entity.Keys[0].Name = "other"
	same := []*feature.View{base, renamedKey}
	elsewhere := []*feature.View{
		view("person", 0, feature.Int64, feature.String), view("user", 0, feature.String, feature.Int64), view("user", 0, feature.Int64),
		view("user", 0, feature.Int64, feature.Bytes), view("user", 2, feature.Int64, feature.String),
	}
	// unsynced says of each of these definitions whether it is unsynced.
	unsynced := func(views ...*feature.View) (states []bool) {
		t.Helper()
		for _, v := range views {
			got, _, err := store.SyncStates(t.Context(), []*feature.View{v})
			require.NoError(t, err)
			require.Len(t, got, 1)
			require.NotEqual(t, online.SyncedShallow, got[0])
			states = append(states, got[0] == online.Unsynced)
		}
		return states
	}
	none := make([]bool, len(elsewhere))
	all := []bool{true, true, true, true, true}

	require.Equal(t, all, unsynced(elsewhere...), "nothing was synced")
	require.NoError(t, store.MarkViewSynced(t.Context(), base, time.Now()))
	require.Equal(t, none[:2], unsynced(same...))
	require.Equal(t, all, unsynced(elsewhere...))
	for _, v := range elsewhere {
		require.False(t, online.SameRows(base, v))
	}
	require.True(t, online.SameRows(base, renamedKey))
	require.False(t, online.SameRows(base, &feature.View{Name: "w", Entity: base.Entity}))
	require.True(t, online.SameRows(view("user", 2), view("user", 3)), "how many versions are kept is no matter")
	names, err := store.Unsynced(t.Context(), []string{"v", "w"})
	require.NoError(t, err)
	require.Equal(t, []string{"w"}, names, "by name alone")

	require.NoError(t, store.MarkSynced(t.Context(), "v", time.Now()))
	require.Equal(t, append(none[:4:4], true), unsynced(elsewhere...), "a marker that does not tell counts for all that keep one row")

	s.fail = func(string) error { return errors.New("away") }
	_, _, err = store.SyncStates(t.Context(), same)
	require.ErrorContains(t, err, "away")
	_, err = store.Unsynced(t.Context(), []string{"v"})
	require.ErrorContains(t, err, "away")
	require.ErrorContains(t, store.MarkViewSynced(t.Context(), base, time.Now()), `mark view "v" as synced`)
	states, _, err := store.SyncStates(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, states)
}

// TestSyncedMarkersOfVersions: a view that was synced with fewer versions than it keeps now is synced, but not for the past.
func TestSyncedMarkersOfVersions(t *testing.T) {
	store, _ := newStore(t)
	view := func(versions int) *feature.View {
		v := aView("v", "x")
		v.HistoryVersions = versions
		return v
	}
	for _, c := range []struct {
		marked int
		want   map[int]online.SyncState
	}{
		{0, map[int]online.SyncState{0: online.Synced, 2: online.Unsynced}},
		{10, map[int]online.SyncState{0: online.Unsynced, 2: online.Synced, 9: online.Synced, 10: online.Synced, 11: online.SyncedShallow}},
		{2, map[int]online.SyncState{0: online.Unsynced, 2: online.Synced, 10: online.SyncedShallow}},
	} {
		require.NoError(t, store.MarkViewSynced(t.Context(), view(c.marked), time.Now()))
		for versions, want := range c.want {
			states, _, err := store.SyncStates(t.Context(), []*feature.View{view(versions)})
			require.NoError(t, err)
			require.Equal(t, []online.SyncState{want}, states, "synced with %d versions, defined with %d", c.marked, versions)
		}
	}
	for _, marker := range []string{"", "x", "x id(INT64) HISTORY", "x user(INT64) HISTORY", "x user(INT64) HISTORY ", "x user(INT64) HISTORY ten", "x user(INT64) HISTORY 10 10"} {
		require.NoError(t, store.PutMeta(t.Context(), "synced/v", []byte(marker)))
		states, _, err := store.SyncStates(t.Context(), []*feature.View{view(10)})
		require.NoError(t, err)
		require.Equal(t, []online.SyncState{online.Unsynced}, states, "marker %q", marker)
	}
}

// TestHaveVersions: any version counts, a deletion too; rows of layout LATEST and of other entities do not.
func TestHaveVersions(t *testing.T) {
	store, spy := newStore(t)
	v := aView("v", "x")
	v.HistoryVersions = 2
	latest := aView("v", "x")
	write := func(view *feature.View, key int64, deleted bool) {
		rows := online.Rows{View: view, Keys: []*feature.Column{feature.NewColumn(feature.Int64, 1)}, EventTimes: feature.NewColumn(feature.Timestamp, 1),
			Features: []*feature.Column{feature.NewColumn(feature.Int64, 1)}, Tombstones: []bool{deleted}}
		rows.Keys[0].AppendInt64(key)
		rows.EventTimes.AppendInt64(time.Now().UnixMicro())
		rows.Features[0].AppendInt64(1)
		_, err := store.Write(t.Context(), rows)
		require.NoError(t, err)
	}
	write(v, 1, false)
	write(v, 2, true)
	write(latest, 3, false)
	keys := feature.NewColumn(feature.Int64, 4)
	for _, key := range []int64{3, 2, 4, 1} {
		keys.AppendInt64(key)
	}
	have, err := store.HaveVersions(t.Context(), v, []*feature.Column{keys})
	require.NoError(t, err)
	require.Equal(t, []bool{false, true, false, true}, have)
	spy.fail = func(string) error { return errors.New("away") }
	_, err = store.HaveVersions(t.Context(), v, []*feature.Column{keys})
	require.ErrorContains(t, err, `look for versions of view "v"`)
}
