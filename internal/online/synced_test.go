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
	// unsynced returns what is unsynced as each of these definitions.
	unsynced := func(views ...*feature.View) (states []bool) {
		t.Helper()
		for _, v := range views {
			names, err := store.UnsyncedViews(t.Context(), []*feature.View{v})
			require.NoError(t, err)
			states = append(states, len(names) == 1 && names[0] == "v")
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
	require.Equal(t, none, unsynced(elsewhere...), "a marker that does not tell counts for all")

	s.fail = func(string) error { return errors.New("away") }
	_, err = store.UnsyncedViews(t.Context(), same)
	require.ErrorContains(t, err, "away")
	require.ErrorContains(t, store.MarkViewSynced(t.Context(), base, time.Now()), `mark view "v" as synced`)
	names, err = store.UnsyncedViews(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, names)
}
