package syncer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/syncstate"
)

// finishShards has the view served once all of its shards have been carried. Each shard comes here after its state was written, so the last one finds all of them.
func (s *Syncer) finishShards(ctx context.Context, view *feature.View, report *Report) error {
	count := report.Shard.Count
	all, err := s.shards(ctx, view, count)
	if err != nil {
		return err
	}
	if !all.isDone[report.Shard.Index] {
		return notCounted(view, report.Shard)
	}
	if all.done < count {
		report.Note = fmt.Sprintf("%d of %d shards are done", all.done, count)
		return nil
	}
	report.Note = fmt.Sprintf("all %d shards are done", count)
	holds, err := s.holds(ctx, view, all.view)
	if err != nil || holds && all.view.GetSyncedAtMicros() >= all.since {
		return err // it is served already as of then, or later
	}
	return s.state.During(ctx, view.Name, s.leaseOptions(true), func(ctx context.Context, lease *syncstate.Lease) error { return s.joinShards(ctx, lease, view, report) })
}

// notCounted says that what a shard has carried does not count any more.
func notCounted(view *feature.View, shard Shard) error {
	return fault.New(fault.Unavailable, "feature view %q: what shard %v has carried does not count, because the view was begun anew meanwhile (by another definition, another number of shards, or after entities were "+
		"allowed again); run the shard again", view.Name, shard)
}

// shardStates are the states of a view and of all of its shards.
type shardStates struct {
	view   *twofoldv1.SyncState
	shards []*twofoldv1.SyncState
	// done is how many of the shards have been carried, being of that many and in the view's epoch.
	done   int
	isDone []bool
	// since is the start of the earliest of their runs, and newest the event time of the newest row.
	since, newest int64
}

func (s *Syncer) shards(ctx context.Context, view *feature.View, count int) (*shardStates, error) {
	names := []string{view.Name}
	for i := range count {
		names = append(names, syncstate.ShardName(view.Name, i))
	}
	states, err := s.state.States(ctx, names)
	if err != nil {
		return nil, err
	}
	all := &shardStates{view: states[0], shards: states[1:], isDone: make([]bool, count), since: math.MaxInt64}
	for i, shard := range all.shards {
		if shard.GetShards() == uint32(count) && shard.GetFiles() != "" && shard.GetEpoch() != "" && shard.GetEpoch() == all.view.GetEpoch() &&
			shard.GetDefinitionHash() == all.view.GetCarryingHash() {
			all.isDone[i] = true
			all.done++
			all.since, all.newest = min(all.since, shard.GetSyncedAtMicros()), max(all.newest, shard.GetNewestEventMicros())
		}
	}
	return all, nil
}

// joinShards makes of what all shards have carried what the view's state says was carried, and marks the view as synced.
func (s *Syncer) joinShards(ctx context.Context, lease *syncstate.Lease, view *feature.View, report *Report) error {
	if _, err := s.begin(ctx, lease, view); err != nil {
		return err
	}
	all, err := s.shards(ctx, view, report.Shard.Count)
	if err != nil {
		return err
	}
	if all.done < report.Shard.Count {
		return notCounted(view, report.Shard)
	}
	holds, err := s.holds(ctx, view, all.view)
	if err != nil {
		return err
	}
	p := &plan{carried: syncstate.NewFiles(), mark: all.view.GetMark()}
	if !holds {
		p.whole = true
		if err := s.putMark(ctx, view.Name, p); err != nil {
			return err
		}
	}
	if err := s.putWritten(ctx, view.Name, p); err != nil {
		return err
	}
	files, err := s.joinFiles(ctx, view, all) // after the marks were left: a server that loses its data from now on shows by them
	if err != nil {
		return err
	}
	if err := s.addCarried(ctx, p, all.view, holds); err != nil {
		return err
	}
	files.Merge(p.carried)
	synced, newest := all.since, all.newest
	if holds {
		synced, newest = max(synced, all.view.GetSyncedAtMicros()), max(newest, all.view.GetNewestEventMicros())
	}
	if err := s.o.Online.MarkViewSynced(ctx, view, time.UnixMicro(synced)); err != nil {
		return err
	}
	name, err := s.state.PutFiles(ctx, lease, files)
	if err != nil {
		return err
	}
	err = s.nameFiles(ctx, lease, view, name, func(state *twofoldv1.SyncState) {
		state.SyncedAtMicros, state.NewestEventMicros, state.Mark = synced, newest, p.mark
		syncstate.ReplaceSnapshots(state, s.o.Now())
		if state.GetLasting() != nil {
			state.Lasting.OldestEventMicros = math.MinInt64 // the shards have not said
		}
	})
	if err != nil {
		return err
	}
	whole := *report
	whole.Started = time.UnixMicro(synced)
	err = s.dropExpired(ctx, lease, view, &whole)
	report.EntitiesDropped = whole.EntitiesDropped
	return errors.Join(err, s.removeGenerations(ctx, lease, view))
}

// joinFiles returns the files of which every shard has carried its entities. It fails where a server of the store has lost what a shard has written.
func (s *Syncer) joinFiles(ctx context.Context, view *feature.View, all *shardStates) (*syncstate.Files, error) {
	lists := make([]*syncstate.Files, len(all.shards))
	for i, shard := range all.shards {
		ok, err := s.isMarkedEverywhere(ctx, syncstate.ShardName(view.Name, i), shard.GetMark())
		if err == nil && !ok {
			err = fault.New(fault.Unavailable, "feature view %q: the online store, or one of its servers, has lost its data since shard %d/%d was carried; run that shard again", view.Name, i, len(all.shards))
		}
		if err != nil {
			return nil, err
		}
		if lists[i], err = s.state.Files(ctx, shard); err != nil {
			return nil, err
		}
	}
	return syncstate.Common(lists...), nil
}
