package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
)

// unsyncedViews are the views that a sync should have filled and, as far as is known, has not. While a view is among them its rows cannot
// be told from rows that are not there, so it is not answered for.
type unsyncedViews struct {
	store   *online.Store
	all     []*feature.View
	current atomic.Pointer[map[string]bool]

	mu sync.Mutex
	// brought are the views that came with a reload, or whose rows it keeps in another place, and that have not been synced since. The server is ready without them: one new view must
	// not take the others out of service.
	brought map[string]bool
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
	before := map[string]bool{} // of each view of previous that has its rows where they are now, whether it is unsynced
	if previous != nil {
		previous.mu.Lock()
		defer previous.mu.Unlock()
		known := *previous.current.Load()
		for _, view := range u.all {
			if slices.ContainsFunc(previous.all, func(old *feature.View) bool { return online.SameRows(old, view) }) {
				before[view.Name] = known[view.Name]
			}
		}
	}
	var unsynced []string
	for _, view := range u.all {
		state, ok := before[view.Name]
		if !ok || state {
			unsynced = append(unsynced, view.Name)
		}
		if previous != nil && (!ok || previous.brought[view.Name]) {
			u.brought[view.Name] = true
		}
	}
	u.set(unsynced)
	return u
}

func (u *unsyncedViews) set(views []string) {
	current := make(map[string]bool, len(views))
	for _, view := range views {
		current[view] = true
	}
	u.current.Store(&current)
}

// load asks the store which views are not synced.
func (u *unsyncedViews) load(ctx context.Context) ([]string, error) {
	views, err := u.store.UnsyncedViews(ctx, u.all)
	if err == nil {
		u.set(views)
	}
	return views, err
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

// faults returns why rows of a selection's views are not known: one error a view, nil where they are, and nil where all are. The store
// is asked again first, so that a view is answered for as soon as it was synced. Unless a partial answer will do, the first is the error of the
// whole.
func (u *unsyncedViews) faults(ctx context.Context, selection *onlineSelection, allowPartial bool) ([]error, error) {
	if !u.concern(selection) {
		return nil, nil
	}
	if _, err := u.load(ctx); err != nil {
		return nil, err
	}
	current := *u.current.Load()
	var faults []error
	for i, view := range selection.Views {
		if !current[view.View.Name] {
			continue
		}
		err := fault.New(fault.Unavailable, "feature view %q has not been synced into the online store yet, or the store has lost its data, so who is in it is not known; "+
			"run `twofold sync`, or define the view with sync.enabled: false if its rows come by PushFeatures alone", view.View.Name)
		if !allowPartial {
			return nil, err
		}
		if faults == nil {
			faults = make([]error, len(selection.Views))
		}
		faults[i] = err
	}
	return faults, nil
}

// concern reports whether one of the selection's views is unsynced, as far as is known.
func (u *unsyncedViews) concern(selection *onlineSelection) bool {
	current := *u.current.Load()
	if len(current) == 0 {
		return false
	}
	return slices.ContainsFunc(selection.Views, func(view feature.SelectedView) bool { return current[view.View.Name] })
}
