package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/syncstate"
)

// A view that goes from the definitions would leave its rows in the online store, and nobody would know of them. So the first thing that a run writes down is where its view's
// rows are kept, and views that are there and not in the definitions are removed, after a grace in which servers learn of the new definitions and a mistake can be mended.

// enter writes down where the rows of a view are kept, before the first of them is stored. Rows that are there under keys of another meaning are removed.
func (s *Syncer) enter(ctx context.Context, lease *syncstate.Lease, view *feature.View) error {
	carried, err := s.carried(ctx, view.Name)
	if err != nil {
		return err
	}
	here, now := syncstate.PlaceOf(view), s.o.Now().UnixMicro()
	for _, place := range carried.GetPlaces() {
		if isTaken(place, here) {
			if err := s.vacate(ctx, lease, view, place); err != nil {
				return err
			}
		}
	}
	return s.state.UpdateCarried(ctx, view.Name, func(c *twofoldv1.CarriedView) bool {
		before := proto.CloneOf(c)
		if c.GetSinceMicros() == 0 {
			c.SinceMicros = now
		}
		c.GoneAtMicros = 0
		c.Places = slices.DeleteFunc(c.Places, func(p *twofoldv1.RowPlace) bool { return syncstate.IsSamePlace(p, here) })
		for _, place := range c.Places {
			if place.GetLeftAtMicros() == 0 {
				place.LeftAtMicros = now
			}
		}
		c.Places = append(c.Places, here)
		if fingerprint := online.Fingerprint(view); !slices.Contains(c.GetSchemas(), fingerprint) {
			c.Schemas = append(c.Schemas, fingerprint)
		}
		return !proto.Equal(before, c)
	})
}

// isTaken reports whether rows are stored in the place of others, under keys of another meaning.
func isTaken(place, here *twofoldv1.RowPlace) bool {
	return syncstate.IsSamePlace(place, here) && !syncstate.IsSameKey(place, here)
}

// vacate removes rows that are stored where others are going to be, under keys that mean other entities: one would be taken for the other. Nobody is answered from them meanwhile. Of
// generations it is those alone that the definition would take for its own; the others are never read by it.
func (s *Syncer) vacate(ctx context.Context, lease *syncstate.Lease, view *feature.View, place *twofoldv1.RowPlace) error {
	s.o.Logger.WarnContext(ctx, "the view's entity has other keys than before, by which rows are stored in the same place; those by the old keys are removed before the new ones are carried",
		"feature_view", view.Name, "entity", place.GetEntity(), "old_keys", place.GetKeys(), "old_key_types", place.GetKeyTypes())
	state, err := s.state.Update(ctx, lease, func(state *twofoldv1.SyncState) {
		syncstate.Unserve(state, func(g *twofoldv1.Generation) bool { return g.GetNumber() != 0 && g.GetRows() == online.RowsOf(view) })
	})
	if err != nil {
		return err
	}
	if err := s.state.AwaitShards(ctx, view.Name, state, s.leaseOptions(true)); err != nil {
		return err
	}
	if err := s.o.Online.Unmark(ctx, view.Name); err != nil {
		return err
	}
	_, err = s.o.Online.RemoveAll(ctx, syncstate.ViewAt(view.Name, place), 0, nil)
	return err
}

// carried returns what is known of a view's places, an empty record where nothing is.
func (s *Syncer) carried(ctx context.Context, view string) (*twofoldv1.CarriedView, error) {
	all, err := s.state.Carried(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		if c.GetFeatureView() == view {
			return c, nil
		}
	}
	return &twofoldv1.CarriedView{FeatureView: view}, nil
}

// removePlace removes a view's rows of every generation from a place, and returns how many entities had some.
func (s *Syncer) removePlace(ctx context.Context, view string, place *twofoldv1.RowPlace, state *twofoldv1.SyncState) (removed int, err error) {
	there := syncstate.ViewAt(view, place)
	for _, generation := range syncstate.Generations(state) {
		if generation != 0 && place.GetHistory() {
			continue
		}
		n, err := s.o.Online.RemoveAll(ctx, there, generation, nil)
		removed += n
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// Removed tells of rows that were removed because nothing defines them any longer.
type Removed struct {
	// View is the name of their view.
	View string
	// Entities is how many entities had rows.
	Entities int
	// Reason says why, for people.
	Reason string
}

// String returns it in one line.
func (r Removed) String() string {
	return fmt.Sprintf("%s: the rows of %d entities were removed from the online store, because %s", r.View, r.Entities, r.Reason)
}

// RemoveGone removes from the online store the rows of views that syncs have carried and that are not in the definitions any longer, and those that a view has left behind where
// its definition has them kept elsewhere now: in every generation, with all that is known of them. A view that is found gone is noted first; its rows are removed by a call that comes
// Options.RemovedViewsGrace later, or, with atOnce, by this one. A view that is defined again by then keeps them. Views that another process is at are left for the next call.
//
// Definitions that have none of the views which were there before look like a mistake (an empty folder, the file of another system): then nothing is
// removed, and the error, of kind Precondition, says so; not with atOnce, unless no view is defined at all.
func (s *Syncer) RemoveGone(ctx context.Context, atOnce bool) ([]Removed, error) {
	if s.o.RemovedViewsGrace < 0 && !atOnce {
		return nil, nil
	}
	views := s.definitions.Load().registry
	all, err := s.state.Carried(ctx)
	if err != nil {
		return nil, err
	}
	var defined, gone []*twofoldv1.CarriedView
	for _, c := range all {
		if isDefined(views, c.GetFeatureView()) {
			defined = append(defined, c)
		} else {
			gone = append(gone, c)
		}
	}
	if err := s.keepDefined(ctx, defined); err != nil {
		return nil, err
	}
	if err := s.checkGone(ctx, views, defined, gone, atOnce); err != nil {
		return nil, err
	}
	var removed []Removed
	var failures []error
	add := func(r *Removed, err error) {
		if r != nil {
			removed = append(removed, *r)
		}
		if err != nil {
			failures = append(failures, err)
		}
	}
	for _, c := range gone {
		add(s.removeGone(ctx, c, atOnce))
	}
	for _, c := range defined {
		add(s.removeLeft(ctx, views, c, atOnce))
	}
	return removed, errors.Join(failures...)
}

func isDefined(registry *feature.Registry, view string) bool {
	_, err := registry.View(view)
	return err == nil
}

// keepDefined takes back that views are gone which are defined.
func (s *Syncer) keepDefined(ctx context.Context, defined []*twofoldv1.CarriedView) error {
	for _, c := range defined {
		if c.GetGoneAtMicros() == 0 {
			continue
		}
		s.o.Logger.WarnContext(ctx, "a view that was gone from the definitions is there again, so its rows stay; if this is told again and again, two syncers go by different definitions",
			"feature_view", c.GetFeatureView())
		if err := s.state.UpdateCarried(ctx, c.GetFeatureView(), func(c *twofoldv1.CarriedView) bool {
			was := c.GetGoneAtMicros()
			c.GoneAtMicros = 0
			return was != 0
		}); err != nil {
			return err
		}
	}
	return nil
}

// checkGone refuses to remove views where none of those is defined that there were beside them.
func (s *Syncer) checkGone(ctx context.Context, registry *feature.Registry, defined, gone []*twofoldv1.CarriedView, atOnce bool) error {
	if len(gone) == 0 || (atOnce && len(registry.Views()) > 0) {
		return nil
	}
	names := make([]string, len(gone))
	for i, c := range gone {
		names[i] = c.GetFeatureView()
	}
	states, err := s.state.States(ctx, names)
	if err != nil {
		return err
	}
	for _, d := range defined {
		for i, g := range gone {
			if d.GetSinceMicros() <= max(g.GetSinceMicros(), states[i].GetSyncedAtMicros()) {
				return nil
			}
		}
	}
	return fault.New(fault.Precondition, "of the feature views whose rows are in the online store (%s) the definitions have none, which looks like a mistake; nothing was removed. "+
		"If it is meant, define the new views and run `twofold sync --once --remove-gone`", shortList(names))
}

// shortList writes some names, the first few of them where they are many.
func shortList(names []string) string {
	const most = 5
	text := ""
	for i, name := range names[:min(most, len(names))] {
		if i > 0 {
			text += ", "
		}
		text += name
	}
	if len(names) > most {
		text += fmt.Sprintf(" and %d more", len(names)-most)
	}
	return text
}

// removeGone removes a view that is not defined any longer, when it is time; where that is found only now it is noted.
func (s *Syncer) removeGone(ctx context.Context, c *twofoldv1.CarriedView, atOnce bool) (*Removed, error) {
	view, now := c.GetFeatureView(), s.o.Now()
	if c.GetGoneAtMicros() == 0 && !atOnce {
		at := now.Add(s.o.RemovedViewsGrace)
		s.o.Logger.WarnContext(ctx, "this view is no longer defined: its rows will be removed from the online store, unless it is defined again before (removed_views_grace)",
			"feature_view", view, "from", at.UTC().Format(time.RFC3339))
		return nil, s.state.UpdateCarried(ctx, view, func(c *twofoldv1.CarriedView) bool {
			c.GoneAtMicros = now.UnixMicro()
			return true
		})
	}
	isDue := func(c *twofoldv1.CarriedView) bool { return atOnce || s.isOver(c.GetGoneAtMicros()) }
	if !isDue(c) {
		return nil, nil
	}
	return s.underLease(ctx, view, func(ctx context.Context, lease *syncstate.Lease) (*Removed, error) {
		return s.removeView(ctx, lease, view, isDue)
	})
}

// isOver reports whether the grace that began at some time, 0 for none, is over.
func (s *Syncer) isOver(since int64) bool {
	return since != 0 && !s.o.Now().Before(time.UnixMicro(since).Add(s.o.RemovedViewsGrace))
}

// underLease does something under the lease of a view, and nothing where another process has it.
func (s *Syncer) underLease(ctx context.Context, view string, do func(context.Context, *syncstate.Lease) (*Removed, error)) (removed *Removed, err error) {
	err = s.state.During(ctx, view, s.leaseOptions(false), func(ctx context.Context, lease *syncstate.Lease) (err error) {
		removed, err = do(ctx, lease)
		return err
	})
	if held, ok := errors.AsType[*syncstate.HeldError](err); ok {
		s.o.Logger.InfoContext(ctx, "rows are not removed yet: another process is at the view", "feature_view", view, "holder", held.Holder)
		return nil, nil
	}
	if err != nil {
		err = fmt.Errorf("remove rows of feature view %q, which are not defined any longer: %w", view, err)
	}
	return removed, err
}

// removeView removes all of a view: first the marker, so that a reader who still has it defined is not told that nobody is in it, last what tells that there is something to remove.
func (s *Syncer) removeView(ctx context.Context, lease *syncstate.Lease, view string, isDue func(*twofoldv1.CarriedView) bool) (*Removed, error) {
	c, err := s.carried(ctx, view)
	if err != nil || len(c.GetPlaces()) == 0 || isDefined(s.definitions.Load().registry, view) || !isDue(c) {
		return nil, err // it is back, or was removed by others
	}
	state, err := s.state.Update(ctx, lease, func(state *twofoldv1.SyncState) { // the fence
		syncstate.Unserve(state, func(*twofoldv1.Generation) bool { return true })
		state.CarryingHash, state.Epoch = "", "" // nor does what shards have carried count any more
	})
	if err != nil {
		return nil, err
	}
	if err := s.state.AwaitShards(ctx, view, state, s.leaseOptions(true)); err != nil {
		return nil, err
	}
	if err := s.o.Online.Unmark(ctx, view); err != nil {
		return nil, err
	}
	removed := &Removed{View: view, Reason: "no definition has the view any longer"}
	for _, place := range c.GetPlaces() {
		n, err := s.removePlace(ctx, view, place, state)
		removed.Entities += n
		if err != nil {
			return nil, err
		}
	}
	if err := s.o.Online.DropSchemas(ctx, view, c.GetSchemas()); err != nil {
		return nil, err
	}
	if err := s.state.Clear(ctx, lease); err != nil {
		return nil, err
	}
	err = s.state.UpdateCarried(ctx, view, func(c *twofoldv1.CarriedView) bool {
		c.Places = nil
		return true
	})
	if err != nil {
		return nil, err
	}
	s.o.Logger.WarnContext(ctx, "removed a view that is no longer defined from the online store", "feature_view", view, "entities", removed.Entities)
	return removed, nil
}

// removeLeft removes the rows that a view has left behind in places where they are no longer looked for, once it was carried to where they are.
func (s *Syncer) removeLeft(ctx context.Context, registry *feature.Registry, c *twofoldv1.CarriedView, atOnce bool) (*Removed, error) {
	isLeft := func(p *twofoldv1.RowPlace) bool {
		return s.isOver(p.GetLeftAtMicros()) || (atOnce && p.GetLeftAtMicros() != 0)
	}
	if !slices.ContainsFunc(c.GetPlaces(), isLeft) {
		return nil, nil
	}
	view, err := registry.View(c.GetFeatureView())
	if err != nil {
		return nil, err
	}
	states, _, err := s.o.Online.SyncStates(ctx, []*feature.View{view})
	if err != nil || states[0] == online.Unsynced {
		return nil, err
	}
	return s.underLease(ctx, view.Name, func(ctx context.Context, lease *syncstate.Lease) (*Removed, error) {
		return s.removeLeftPlaces(ctx, lease, view, isLeft)
	})
}

func (s *Syncer) removeLeftPlaces(ctx context.Context, lease *syncstate.Lease, view *feature.View, isLeft func(*twofoldv1.RowPlace) bool) (*Removed, error) {
	c, err := s.carried(ctx, view.Name)
	if err != nil {
		return nil, err
	}
	goes := func(place *twofoldv1.RowPlace) bool {
		return isLeft(place) && !syncstate.IsSamePlace(place, syncstate.PlaceOf(view))
	}
	state, err := s.state.Update(ctx, lease, func(state *twofoldv1.SyncState) {
		syncstate.Unserve(state, func(g *twofoldv1.Generation) bool {
			at, err := online.ViewAt(view.Name, g.GetRows())
			return err == nil && slices.ContainsFunc(c.GetPlaces(), func(place *twofoldv1.RowPlace) bool {
				return goes(place) && syncstate.IsSamePlace(place, syncstate.PlaceOf(at))
			})
		})
	})
	if err != nil {
		return nil, err
	}
	removed := &Removed{View: view.Name, Reason: "its definition has them kept elsewhere now"}
	for _, place := range c.GetPlaces() {
		if !goes(place) {
			continue
		}
		n, err := s.removePlace(ctx, view.Name, place, state)
		removed.Entities += n
		if err != nil {
			return nil, err
		}
	}
	err = s.state.UpdateCarried(ctx, view.Name, func(now *twofoldv1.CarriedView) bool {
		before := len(now.GetPlaces())
		now.Places = slices.DeleteFunc(now.Places, goes)
		return len(now.GetPlaces()) != before
	})
	if err != nil {
		return nil, err
	}
	s.o.Logger.InfoContext(ctx, "removed rows from where the view is no longer kept", "feature_view", view.Name, "entities", removed.Entities)
	return removed, nil
}

// watchGone removes views that go from the definitions until ctx is done.
func (s *Syncer) watchGone(ctx context.Context) {
	if s.o.RemovedViewsGrace < 0 {
		return
	}
	ticker := time.NewTicker(max(min(s.o.RemovedViewsGrace/4, time.Minute), time.Millisecond))
	defer ticker.Stop()
	told := ""
	for {
		replaced := s.definitions.Load().replaced
		_, err := s.RemoveGone(ctx, false)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			told = ""
		case err.Error() != told:
			told = err.Error()
			s.o.Logger.ErrorContext(ctx, "rows that are not defined any longer could not be removed from the online store", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-replaced:
		case <-ticker.C:
		}
	}
}
