package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/syncstate"
)

// Forgetter removes entities from the online store for good, for privacy requests: their rows, in every view and every generation, and what would bring them back. An entity is put into a
// list first, which syncs and pushes go by; see internal/syncstate.
type Forgetter struct {
	// Registry holds the definitions. Required.
	Registry *feature.Registry
	// Online is the store. Required.
	Online *online.Store
	// Settle is the time between the entry in the list and the second removal, when every server goes by the list and what was being pushed has been written. Defaults to DefaultSettle.
	Settle time.Duration
	// LeaseDuration is as in Options.
	LeaseDuration time.Duration
	// Tell is told what takes time, for people. Defaults to nobody.
	Tell func(text string)
}

// DefaultSettle is the default of Forgetter.Settle: longer than the time for which a server goes by a list that it has read.
const DefaultSettle = 5 * time.Second

// ForgetRequest names entities.
type ForgetRequest struct {
	// Entity is what they are.
	Entity *feature.Entity
	// Keys has one column for each key of the entity, in its order, without nulls.
	Keys []*feature.Column
	// Exact leaves entities of other names alone; else every entity that has these keys is meant, and perhaps others: user_item(user_id, item_id) for user_id.
	Exact bool
}

// scope is what the request's entries are listed under, and keys their columns in its order.
func (r ForgetRequest) scope() (scope syncstate.Scope, keys []*feature.Column) {
	for _, key := range r.Entity.Keys {
		scope.Keys = append(scope.Keys, key.Name)
	}
	slices.Sort(scope.Keys)
	for _, name := range scope.Keys {
		keys = append(keys, r.Keys[slices.IndexFunc(r.Entity.Keys, func(k feature.Key) bool { return k.Name == name })])
	}
	if r.Exact {
		scope.Entity = r.Entity.Name
	}
	return scope, keys
}

// Forgetting says what Forget has removed, or would remove.
type Forgetting struct {
	// Hashes are the entries of the entities in the list, in the order of the request; nil for a look where there is no list yet, and for Import.
	Hashes []syncstate.ForgottenHash
	// Listed is how many of them were put into the list, and were not there before; of a look, how many are there.
	Listed int
	// Views are the views whose rows are concerned.
	Views []ForgottenView
}

// IsVerified reports whether nothing was found any more when all was read back.
func (f *Forgetting) IsVerified() bool {
	return !slices.ContainsFunc(f.Views, func(v ForgottenView) bool { return v.Left > 0 || v.Unreadable > 0 })
}

// ForgottenView is one view of a Forgetting, in one place of the store.
type ForgottenView struct {
	// View and Entity are the names of the view and of its entity.
	View, Entity string
	// Source is where its rows come from; nil for a view that is no longer defined.
	Source *feature.View
	// Removed is how many entities had rows that were removed; of a look, how many have some. RemovedAgain is how many had some when that was done a second time.
	Removed, RemovedAgain int
	// Left is how many still had some afterwards.
	Left int
	// Unreadable is how many stored keys cannot be told, so that it is not known whose they are. They were left.
	Unreadable int
}

// target is one place of one view.
type target struct {
	view *feature.View
	told ForgottenView
}

// Look says what Forget would remove. It changes nothing.
func (f *Forgetter) Look(ctx context.Context, r ForgetRequest) (*Forgetting, error) {
	list, err := syncstate.New(f.Online).Forgotten(ctx)
	if err != nil {
		return nil, err
	}
	scope, keys := r.scope()
	some, hashes := list.Only(scope, keys)
	w := f.newWork(some, &r)
	if w.targets, err = f.targets(ctx, some, r.Entity, scope); err != nil {
		return nil, err
	}
	for i := range w.targets {
		if w.targets[i].told.Removed, err = w.pass(ctx, &w.targets[i], false); err != nil {
			return nil, err
		}
	}
	result := w.result()
	if list.Len() > 0 {
		result.Hashes = hashes
	}
	for _, h := range hashes {
		if list.Has(h) {
			result.Listed++
		}
	}
	return result, nil
}

// Forget puts entities into the list and removes their rows, twice: a server may have been at writing one. Whatever it fails or dies at, it may be called again, and must be: a part
// may be done.
func (f *Forgetter) Forget(ctx context.Context, r ForgetRequest) (*Forgetting, error) {
	state := syncstate.New(f.Online)
	scope, keys := r.scope()
	list, err := state.PrepareForget(ctx, scope)
	if err != nil {
		return nil, err
	}
	some, hashes := list.Only(scope, keys)
	listed, err := state.Forget(ctx, some)
	if err != nil {
		return nil, err
	}
	w := f.newWork(some, &r)
	if w.targets, err = f.targets(ctx, some, r.Entity, scope); err != nil {
		return nil, err
	}
	if err := w.remove(ctx); err != nil {
		return nil, err
	}
	result := w.result()
	result.Hashes, result.Listed = hashes, listed
	return result, nil
}

// Import puts the entries of an exported list into the store's own, and removes the rows of all entities that are in it.
func (f *Forgetter) Import(ctx context.Context, list *syncstate.Forgotten) (*Forgetting, error) {
	state := syncstate.New(f.Online)
	listed, err := state.PutForgotten(ctx, list)
	if err != nil {
		return nil, err
	}
	w := f.newWork(list, nil)
	if w.targets, err = f.targets(ctx, list, nil, syncstate.Scope{}); err != nil {
		return nil, err
	}
	if err := w.remove(ctx); err != nil {
		return nil, err
	}
	result := w.result()
	result.Listed = listed
	return result, nil
}

// Allow takes entities off the list, however they got there, and has the next sync of their views carry every file again, so that their rows come back. It returns how many
// entries there were.
func (f *Forgetter) Allow(ctx context.Context, r ForgetRequest) (removed int, err error) {
	state := syncstate.New(f.Online)
	list, err := state.Forgotten(ctx)
	if err != nil || !list.Exists() {
		return 0, err
	}
	wide := r
	wide.Exact = false
	scope, keys := wide.scope()
	for _, entity := range []string{"", r.Entity.Name} {
		scope.Entity = entity
		some, _ := list.Only(scope, keys)
		n, err := state.Allow(ctx, some)
		removed += n
		if err != nil {
			return removed, err
		}
	}
	scope.Entity = ""
	for _, view := range f.Registry.Views() {
		if !view.IsSynced() || !scope.Covers(view.Entity) {
			continue
		}
		err := f.underLease(ctx, view.Name, func(ctx context.Context, lease *syncstate.Lease) error {
			_, err := state.Update(ctx, lease, func(s *twofoldv1.SyncState) { s.DefinitionHash, s.Epoch = "", "" }) // nor does what shards have carried count any more
			return err
		})
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// work is one removal.
type work struct {
	f       *Forgetter
	state   *syncstate.Store
	list    *syncstate.Forgotten // those to be removed
	request *ForgetRequest       // nil where only the list tells
	targets []target
}

func (f *Forgetter) newWork(list *syncstate.Forgotten, r *ForgetRequest) *work {
	return &work{f: f, state: syncstate.New(f.Online), list: list, request: r}
}

// targets finds the places that may have rows of listed entities: of views as they are defined, and of views as they were carried once. It is an error where the entity
// has none.
func (f *Forgetter) targets(ctx context.Context, list *syncstate.Forgotten, entity *feature.Entity, scope syncstate.Scope) ([]target, error) {
	var found []target
	add := func(view, source *feature.View) {
		if list.Matcher(view.Entity) != nil {
			found = append(found, target{view: view, told: ForgottenView{View: view.Name, Entity: view.Entity.Name, Source: source}})
		}
	}
	for _, view := range f.Registry.Views() {
		if len(view.OnlineFeatures()) > 0 {
			add(view, view)
		}
	}
	carried, err := syncstate.New(f.Online).Carried(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range carried {
		for _, place := range c.GetPlaces() {
			view, err := f.Registry.View(c.GetFeatureView())
			if err == nil && syncstate.IsSamePlace(place, syncstate.PlaceOf(view)) && len(view.OnlineFeatures()) > 0 {
				continue
			}
			add(syncstate.ViewAt(c.GetFeatureView(), place), nil)
		}
	}
	if len(found) == 0 && entity != nil {
		return nil, fault.New(fault.Precondition, "no feature view with online features has the keys %q of entity %q, so nothing of it is in the online store", scope.Keys, entity.Name)
	}
	return found, nil
}

func (w *work) result() *Forgetting {
	result := &Forgetting{}
	for _, t := range w.targets {
		result.Views = append(result.Views, t.told)
	}
	return result
}

// remove removes the rows of listed entities, waits until nobody can be writing one any more, removes them again, and reads back.
func (w *work) remove(ctx context.Context) error {
	settle := w.f.Settle
	if settle <= 0 {
		settle = DefaultSettle
	}
	listed := time.Now()
	for i := range w.targets {
		t := &w.targets[i]
		err := w.f.underLease(ctx, t.view.Name, func(ctx context.Context, lease *syncstate.Lease) (err error) {
			state, err := w.state.Update(ctx, lease, func(*twofoldv1.SyncState) {}) // the fence
			if err != nil {
				return err
			}
			if err := w.f.awaitShards(ctx, t.view.Name, state); err != nil {
				return err
			}
			t.told.Removed, err = w.pass(ctx, t, true)
			return err
		})
		if err != nil {
			return err
		}
	}
	w.f.tell("the rows are removed; waiting %v for servers that may be writing one, to remove it too", max(0, settle-time.Since(listed)).Round(100*time.Millisecond))
	select {
	case <-ctx.Done():
		return fault.New(fault.Unavailable, "wait to remove rows a second time: %w", ctx.Err())
	case <-time.After(settle - time.Since(listed)):
	}
	for i := range w.targets {
		t := &w.targets[i]
		var err error
		if t.told.RemovedAgain, err = w.pass(ctx, t, true); err != nil {
			return err
		}
		if t.told.Left, err = w.pass(ctx, t, false); err != nil {
			return err
		}
	}
	return nil
}

func (f *Forgetter) tell(format string, args ...any) {
	if f.Tell != nil {
		f.Tell(fmt.Sprintf(format, args...))
	}
}

// underLease does something under the lease of a view, once nobody else has it.
func (f *Forgetter) underLease(ctx context.Context, view string, do func(context.Context, *syncstate.Lease) error) error {
	state, o := syncstate.New(f.Online), syncstate.LeaseOptions{Holder: f.holder(), Duration: f.LeaseDuration}
	err := state.During(ctx, view, o, do)
	if held, ok := errors.AsType[*syncstate.HeldError](err); ok {
		f.tell("waiting for the end of a sync: %v", held)
		o.Wait = true
		err = state.During(ctx, view, o, do)
	}
	return err
}

// awaitShards waits until shards of a view that were being carried when the list changed are done.
func (f *Forgetter) awaitShards(ctx context.Context, view string, state *twofoldv1.SyncState) error {
	store, o := syncstate.New(f.Online), syncstate.LeaseOptions{Holder: f.holder(), Duration: f.LeaseDuration}
	err := store.AwaitShards(ctx, view, state, o)
	if held, ok := errors.AsType[*syncstate.HeldError](err); ok {
		f.tell("waiting for the end of a sync of a shard: %v", held)
		o.Wait = true
		err = store.AwaitShards(ctx, view, state, o)
	}
	return err
}

// holder names who holds its leases, for people.
func (f *Forgetter) holder() string { return "twofold forget on " + holder() }

// pass goes once through all generations of a target for rows of listed entities, and returns how many entities have some; with remove, how many had.
func (w *work) pass(ctx context.Context, t *target, remove bool) (found int, err error) {
	states, err := w.state.States(ctx, []string{t.view.Name})
	if err != nil {
		return 0, err
	}
	t.told.Unreadable = 0
	for _, generation := range syncstate.Generations(states[0]) {
		if generation != 0 && t.view.HistoryVersions > 0 {
			continue
		}
		var n int
		if keys := w.keysFor(t.view.Entity); keys != nil {
			n, err = w.direct(ctx, t, generation, keys, remove)
		} else {
			n, err = w.search(ctx, t, generation, remove)
		}
		found += n
		if err != nil {
			return found, err
		}
	}
	return found, nil
}

// keysFor returns the request's keys as those of an entity; nil where it has further keys, or has them as other types, so that its rows have to be searched.
func (w *work) keysFor(entity *feature.Entity) []*feature.Column {
	if w.request == nil || len(entity.Keys) != len(w.request.Entity.Keys) {
		return nil
	}
	keys := make([]*feature.Column, len(entity.Keys))
	for i, key := range entity.Keys {
		at := slices.Index(w.request.Entity.Keys, key)
		if at < 0 {
			return nil
		}
		keys[i] = w.request.Keys[at]
	}
	return keys
}

// direct finds, or removes, rows whose keys are known.
func (w *work) direct(ctx context.Context, t *target, generation uint64, keys []*feature.Column, remove bool) (found int, err error) {
	if remove {
		return w.f.Online.Remove(ctx, t.view, generation, keys)
	}
	stored, err := w.f.Online.Stored(ctx, t.view, generation, keys)
	for _, is := range stored {
		if is {
			found++
		}
	}
	return found, err
}

// search finds, or removes, rows by looking at all of a view.
func (w *work) search(ctx context.Context, t *target, generation uint64, remove bool) (found int, err error) {
	matcher, seen := w.list.Matcher(t.view.Entity), map[string]bool{}
	err = w.f.Online.ScanKeys(ctx, t.view, generation, func(stored [][]byte) error {
		keys := newKeyColumns(t.view.Entity)
		for _, key := range stored {
			n := keys[0].Len()
			if err := feature.DecodeKey(keys, key); err != nil {
				t.told.Unreadable++
				for _, column := range keys {
					column.Truncate(n)
				}
			}
		}
		matched := newKeyColumns(t.view.Entity)
		for row, is := range matcher.Match(keys) {
			text, _ := feature.AppendKey(nil, keys, row)
			if !is || seen[string(text)] {
				continue
			}
			seen[string(text)] = true
			for i, column := range matched {
				column.AppendFrom(keys[i], row)
			}
		}
		if !remove || matched[0].Len() == 0 {
			return nil
		}
		_, err := w.f.Online.Remove(ctx, t.view, generation, matched)
		return err
	})
	return len(seen), err
}

func newKeyColumns(entity *feature.Entity) []*feature.Column {
	columns := make([]*feature.Column, len(entity.Keys))
	for i, key := range entity.Keys {
		columns[i] = feature.NewColumn(key.Type, 0)
	}
	return columns
}
