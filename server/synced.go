package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
)

// unsyncedViews are the views that a sync should have filled and, as far as is known, has not. While a view is among them its rows cannot
// be told from rows that are not there, so it is not answered for. A view of which a sync is still to carry more versions is answered for as it
// is now, but not as it was.
type unsyncedViews struct {
	store *online.Store
	all   []*feature.View
	// known is what the last look at the store has told.
	known atomic.Pointer[knownSyncs]

	mu sync.Mutex
	// brought are the views that came with a reload, or whose rows it keeps in another place, and that have not been synced since. The server is ready without them: one new view must
	// not take the others out of service.
	brought map[string]bool

	looks looks
}

// knownSyncs is what is known of the views at one moment.
type knownSyncs struct {
	// states has the views that are not online.Synced.
	states map[string]online.SyncState
	// generations has the generation to read of each view with mode SNAPSHOT that is synced.
	generations map[string]uint64
	// version is another whenever the store was emptied, or a view synced, in between; empty where the store was not asked yet.
	version string
	// at is from before the store was asked; the zero time where it was not yet.
	at time.Time
}

// newUnsyncedViews goes on from what is known of the views of previous, nil for none. Every other view that is synced is taken for
// unsynced, until the store is asked.
func newUnsyncedViews(registry *feature.Registry, store *online.Store, previous *unsyncedViews) *unsyncedViews {
	u := &unsyncedViews{store: store, brought: map[string]bool{}}
	for _, view := range registry.Views() {
		if view.IsSynced() {
			u.all = append(u.all, view)
		}
	}
	before := map[string]online.SyncState{} // of each view of previous that has its rows where they are now
	known := &knownSyncs{}
	if previous != nil {
		previous.mu.Lock()
		defer previous.mu.Unlock()
		known = previous.known.Load()
		for _, view := range u.all {
			at := slices.IndexFunc(previous.all, func(old *feature.View) bool { return online.SameRows(old, view) && old.Sync.Mode == view.Sync.Mode })
			if at < 0 {
				continue
			}
			state, ok := known.states[view.Name]
			switch {
			case ok:
				before[view.Name] = state
			case previous.all[at].HistoryVersions < view.HistoryVersions:
				before[view.Name] = online.SyncedShallow
			default:
				before[view.Name] = online.Synced
			}
		}
	}
	states := make([]online.SyncState, len(u.all))
	for i, view := range u.all {
		state, ok := before[view.Name]
		states[i] = state // Unsynced where it is not known
		if previous != nil && (!ok || previous.brought[view.Name]) {
			u.brought[view.Name] = true
		}
	}
	u.set(states, &knownSyncs{generations: known.generations, at: known.at})
	return u
}

// set takes down the state of each of all views, completing what is known, and returns the names of those that are unsynced.
func (u *unsyncedViews) set(states []online.SyncState, known *knownSyncs) (unsynced []string) {
	known.states = map[string]online.SyncState{}
	for i, view := range u.all {
		if states[i] != online.Synced {
			known.states[view.Name] = states[i]
		}
		if states[i] == online.Unsynced {
			unsynced = append(unsynced, view.Name)
		}
	}
	for {
		before := u.known.Load()
		if before != nil && before.at.After(known.at) {
			return unsynced // a look that began later was quicker
		}
		if u.known.CompareAndSwap(before, known) {
			return unsynced
		}
	}
}

// load asks the store which views are not synced, and which generations are to be read.
func (u *unsyncedViews) load(ctx context.Context) ([]string, error) {
	known := &knownSyncs{generations: map[string]uint64{}, at: time.Now()}
	states, generations, version, err := u.store.LiveStates(ctx, u.all)
	if err != nil {
		return nil, err
	}
	known.version = version
	for i, view := range u.all {
		if generations[i] != 0 {
			known.generations[view.Name] = generations[i]
		}
	}
	return u.set(states, known), nil
}

// maxKnownAge is how old what is known of generations may be: those that were replaced earlier may be removed.
const maxKnownAge = 30 * time.Second

// generations returns the generation to read of each of a selection's views, nil where all is 0. What is known is as of the version that is returned with it.
func (u *unsyncedViews) generations(ctx context.Context, selection *onlineSelection) (generations []uint64, version string, err error) {
	known := u.known.Load()
	if !selection.snapshots {
		return nil, known.version, nil
	}
	if time.Since(known.at) > maxKnownAge {
		if _, err := u.load(ctx); err != nil {
			return nil, "", err
		}
		known = u.known.Load()
	}
	generations = make([]uint64, len(selection.Views))
	for i, view := range selection.Views {
		generations[i] = known.generations[view.View.Name]
	}
	return generations, known.version, nil
}

// refresh asks the store. The error says which views are not synced, without those that a reload brought.
func (u *unsyncedViews) refresh(ctx context.Context) error {
	views, _, err := u.split(ctx)
	if err == nil && len(views) > 0 {
		err = fmt.Errorf("not synced yet: %s", strings.Join(views, ", "))
	}
	return err
}

// split asks the store which views are not synced: those that should be, and those that came with a reload and have not been since.
func (u *unsyncedViews) split(ctx context.Context) (missing, brought []string, err error) {
	views, err := u.load(ctx)
	if err != nil {
		return nil, nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for name := range u.brought {
		if !slices.Contains(views, name) {
			delete(u.brought, name)
		}
	}
	for _, name := range views {
		if u.brought[name] {
			brought = append(brought, name)
		} else {
			missing = append(missing, name)
		}
	}
	return missing, brought, nil
}

// faults returns why rows of a selection's views are not known, as they are now or, for a read of the past, as they were: one error a view, nil
// where they are, and nil where all are. The store is asked again first, so that a view is answered for as soon as it was synced. Unless a
// partial answer will do, the first is the error of the whole.
func (u *unsyncedViews) faults(ctx context.Context, selection *onlineSelection, o online.ReadOptions) ([]error, error) {
	if !u.concern(selection, o.Past) {
		return nil, nil
	}
	if _, err := u.load(ctx); err != nil {
		return nil, err
	}
	states := u.known.Load().states
	var faults []error
	for i, view := range selection.Views {
		state, ok := states[view.View.Name]
		if !ok || !isUnknown(state, o.Past) {
			continue
		}
		err := unsyncedFault(view.View, state)
		if !o.AllowPartial {
			return nil, err
		}
		if faults == nil {
			faults = make([]error, len(selection.Views))
		}
		faults[i] = err
	}
	return faults, nil
}

// isUnknown reports whether rows of a view in this state are not known.
func isUnknown(state online.SyncState, past bool) bool {
	return state == online.Unsynced || (past && state == online.SyncedShallow)
}

func unsyncedFault(view *feature.View, state online.SyncState) error {
	if state == online.SyncedShallow {
		return fault.New(fault.Unavailable, "feature view %q has not been synced since its history_versions were raised to %d, so what was true earlier (as_of_micros) is not known yet; "+
			"run `twofold sync`, or leave out as_of_micros", view.Name, view.HistoryVersions)
	}
	return fault.New(fault.Unavailable, "feature view %q has not been synced into the online store yet, or the store has lost its data, so who is in it is not known; "+
		"run `twofold sync`, or define the view with sync.enabled: false if its rows come by PushFeatures alone", view.Name)
}

// concern reports whether rows of one of the selection's views are not known, as far as is known.
func (u *unsyncedViews) concern(selection *onlineSelection, past bool) bool {
	states := u.known.Load().states
	if len(states) == 0 {
		return false
	}
	return slices.ContainsFunc(selection.Views, func(view feature.SelectedView) bool {
		state, ok := states[view.View.Name]
		return ok && isUnknown(state, past)
	})
}
