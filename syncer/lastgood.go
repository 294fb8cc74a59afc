package syncer

import (
	"context"
	"math"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/syncstate"
)

// A view that keeps its last good rows (sync.keep_last_good) has no expiry for them in the store, so that they stay when no run comes, even if there is no syncer any
// more. A run that has succeeded removes those that are too old by then: nothing else does. It looks at every stored row for that, so it is done only where some may
// be too old, and not more often than four times in the time that rows are kept.

// noteLasting says in the view's state, before there are any, that there may be rows without an expiry.
func (s *Syncer) noteLasting(ctx context.Context, lease *syncstate.Lease, view *feature.View) error {
	if !view.KeepsLastGood() {
		return nil
	}
	_, err := s.state.Update(ctx, lease, func(state *twofoldv1.SyncState) { setLasting(state, view) })
	return err
}

func setLasting(state *twofoldv1.SyncState, view *feature.View) {
	if view.KeepsLastGood() && state.GetLasting() == nil {
		state.Lasting = &twofoldv1.LastingRows{OldestEventMicros: math.MinInt64} // some may have been pushed before
	}
}

// noteOldest says in the view's state, once they are stored, how old the rows are that a run has carried.
func noteOldest(state *twofoldv1.SyncState, report *Report) {
	if lasting := state.GetLasting(); lasting != nil && !report.Oldest.IsZero() {
		lasting.OldestEventMicros = min(lasting.GetOldestEventMicros(), report.Oldest.UnixMicro())
	}
}

// dropExpired removes, after a run that has succeeded, the rows without an expiry that are older than the view keeps rows.
func (s *Syncer) dropExpired(ctx context.Context, lease *syncstate.Lease, view *feature.View, report *Report) error {
	states, err := s.state.States(ctx, []string{view.Name})
	if err != nil {
		return err
	}
	lasting, asOf := states[0].GetLasting(), feature.AsOf(report.Started.UnixMicro())
	if lasting == nil || !canDrop(view) {
		return nil
	}
	if !isDropDue(view, lasting, asOf) {
		return nil
	}
	left, err := s.drop(ctx, view, asOf, report)
	if err != nil {
		return err
	}
	_, err = s.state.Update(ctx, lease, func(state *twofoldv1.SyncState) { state.Lasting = left })
	return err
}

// canDrop reports whether rows of a view grow too old to be kept. Those of a generation go with it.
func canDrop(view *feature.View) bool {
	return view.KeepFor() > 0 && view.Sync.Mode == feature.Incremental
}

// isDropDue reports whether a look at all rows is worth while. Of rows that were pushed since the last one nothing is known but that they are of about that time, or later.
func isDropDue(view *feature.View, lasting *twofoldv1.LastingRows, asOf feature.AsOf) bool {
	keep, since := view.KeepFor(), int64(asOf)-lasting.GetRemovedAtMicros()
	if since >= 0 && since < int64(keep)/4 {
		return false
	}
	return since < 0 || keep.Expired(feature.EventTime(min(lasting.GetOldestEventMicros(), lasting.GetRemovedAtMicros())), asOf)
}

// drop removes the rows of the view that are too old, and those of other views that were in the way: a store that can expire only whole entities has no expiry for them
// either, while their entity had one of these. It returns what there is now.
func (s *Syncer) drop(ctx context.Context, view *feature.View, asOf feature.AsOf, report *Report) (*twofoldv1.LastingRows, error) {
	dropped, err := s.o.Online.DropExpired(ctx, view, asOf)
	report.EntitiesDropped += int64(dropped.Entities)
	if err != nil {
		return nil, err
	}
	isLasting := dropped.Lasting || view.KeepsLastGood()
	for _, other := range s.definitions.Load().registry.Views() {
		if !shareEntities(view, other) || !canDrop(other) || other.KeepsLastGood() {
			continue
		}
		of, err := s.o.Online.DropExpired(ctx, other, asOf)
		if err != nil {
			return nil, err
		}
		isLasting = isLasting || of.Lasting
	}
	if !isLasting {
		return nil, nil //nolint:nilnil // no rows are left that last, and that is what the state says by having none
	}
	return &twofoldv1.LastingRows{OldestEventMicros: int64(dropped.Oldest), RemovedAtMicros: int64(asOf)}, nil
}

// shareEntities reports whether the rows of two views are kept together, entity by entity.
func shareEntities(a, b *feature.View) bool {
	return a.Name != b.Name && a.HistoryVersions == 0 && b.HistoryVersions == 0 && a.Entity.Name == b.Entity.Name
}
