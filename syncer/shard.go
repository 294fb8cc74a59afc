package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/zeebo/xxh3"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/syncstate"
)

// Shard is one of several shares of a view's entities, which runs carry independently of each other. The zero Shard is all entities.
type Shard struct {
	// Index is from 0 to Count − 1.
	Index int
	// Count is how many shards there are.
	Count int
}

// maxShards bounds Shard.Count: the states of all are looked at together.
const maxShards = 1024

// ParseShard reads a shard from its index and how many there are: "3/8".
func ParseShard(text string) (Shard, error) {
	index, count, ok := strings.Cut(text, "/")
	i, err := strconv.ParseUint(index, 10, 16)
	n, err2 := strconv.ParseUint(count, 10, 16)
	if !ok || err != nil || err2 != nil || n > maxShards || i >= n {
		return Shard{}, fault.New(fault.Invalid, "%q is no shard; write its index, from 0 up, and how many shards there are, at most %d, for example 0/8 for the first of 8", text, maxShards)
	}
	return Shard{int(i), int(n)}, nil
}

// String is what ParseShard reads; empty for all entities.
func (s Shard) String() string {
	if s.isAll() {
		return ""
	}
	return fmt.Sprintf("%d/%d", s.Index, s.Count)
}

func (s Shard) isAll() bool { return s.Count == 0 }

// mine says of an entity, by the stored form of its key, whether it is of the shard: by XXH3 (64 bits, seed 0) modulo Count. Rows with a null key are of shard 0, so that
// they are told once. It is nil for all entities.
func (s Shard) mine() func(key []byte) bool {
	if s.isAll() {
		return nil
	}
	return func(key []byte) bool {
		if key == nil {
			return s.Index == 0
		}
		return xxh3.Hash(key)%uint64(s.Count) == uint64(s.Index)
	}
}

// stateName is the name under which the lease and the state are kept of what is carried.
func (s Shard) stateName(view *feature.View) string {
	if s.isAll() {
		return view.Name
	}
	return syncstate.ShardName(view.Name, s.Index)
}

// keepRuns is how many runs of the view are remembered: with shards, room for the last two of each.
func (s Shard) keepRuns(view *feature.View) int { return max(view.Sync.KeepRuns, 2*s.Count) }

// carryShard carries the entities of one shard and remembers the files of which it has.
func (s *Syncer) carryShard(ctx context.Context, lease *syncstate.Lease, view *feature.View, report *Report, r Request) error {
	states, err := s.state.States(ctx, []string{view.Name})
	if err != nil {
		return err
	}
	main := states[0]
	if main.GetCarryingHash() != view.CarryHash() {
		return fault.New(fault.Unavailable, "feature view %q: another syncer has begun to carry it by another definition, or has removed it; run the shard again", view.Name)
	}
	own, err := s.beginShard(ctx, lease, view, r.Shard, main.GetEpoch())
	if err != nil {
		return err
	}
	asOf := feature.AsOf(report.Started.UnixMicro())
	p, err := s.newShardPlan(ctx, view, main, own, asOf, r)
	if err != nil {
		return err
	}
	report.FilesRead, report.FilesUnchanged = int64(len(p.read)), int64(len(p.all)-len(p.read))
	p.progress = &runProgress{}
	defer s.follow(view, p.progress)()
	var due map[string]feature.EventTime
	if len(p.read) > 0 {
		due, err = s.write(ctx, view, p, asOf, report)
	} else {
		report.Outcome, report.Newest = twofoldv1.SyncOutcome_SYNC_OUTCOME_NOTHING_NEW, timeOf(max(own.GetNewestEventMicros(), main.GetNewestEventMicros()))
	}
	if err != nil {
		return err
	}
	if err := s.checkMark(ctx, r.Shard.stateName(view), p); err != nil {
		return err
	}
	return s.remember(ctx, lease, view, p, due, report, func(*twofoldv1.SyncState) {})
}

// enterShard says in the view's state by which definition rows are carried from now on, and that there is this shard; and where they are kept. It comes before the shard's
// lease is taken: who holds the view's lease may wait for that.
func (s *Syncer) enterShard(ctx context.Context, view *feature.View, shard Shard) error {
	if shard.isAll() {
		return nil
	}
	if view.Sync.Mode == feature.Snapshot {
		return fault.New(fault.Precondition, "feature view %q has mode SNAPSHOT, of which one run makes a whole generation: it cannot be synced in shards; sync it without, and name the views to shard with --view", view.Name)
	}
	carried, err := s.carried(ctx, view.Name)
	if err != nil {
		return err
	}
	states, err := s.state.States(ctx, []string{view.Name})
	if err != nil {
		return err
	}
	if isEntered(states[0], carried, view) {
		return s.joinCarrying(ctx, view, shard)
	}
	// Who holds the view's lease may be removing rows from the very place that shards are to write to.
	return s.state.During(ctx, view.Name, s.leaseOptions(true), func(ctx context.Context, lease *syncstate.Lease) error {
		if _, err := s.begin(ctx, lease, view); err != nil {
			return err
		}
		if err := s.joinCarrying(ctx, view, shard); err != nil {
			return err
		}
		return s.enter(ctx, lease, view)
	})
}

// isEntered reports whether rows of a view are carried by this definition already, to the place where they are kept, and none of that place is to be removed.
func isEntered(state *twofoldv1.SyncState, carried *twofoldv1.CarriedView, view *feature.View) bool {
	isOld := func(g *twofoldv1.Generation) bool { return g.GetNumber() == 0 }
	if state.GetCarryingHash() != view.CarryHash() || carried.GetGoneAtMicros() != 0 || slices.ContainsFunc(state.GetPrevious(), isOld) || slices.ContainsFunc(state.GetRemoving(), isOld) {
		return false
	}
	here := syncstate.PlaceOf(view)
	return slices.ContainsFunc(carried.GetPlaces(), func(place *twofoldv1.RowPlace) bool {
		return syncstate.IsSamePlace(place, here) && syncstate.IsSameKey(place, here) && place.GetLeftAtMicros() == 0
	})
}

// joinCarrying says in the view's state that there is this shard, and by which definition it carries.
func (s *Syncer) joinCarrying(ctx context.Context, view *feature.View, shard Shard) error {
	dropped := ""
	_, err := s.state.UpdateShared(ctx, view.Name, func(state *twofoldv1.SyncState) {
		dropped = syncstate.SetCarrying(state, view.CarryHash())
		state.Shards = max(state.GetShards(), uint32(shard.Count))
		setLasting(state, view)
	})
	if err != nil {
		return err
	}
	return s.state.DropFiles(ctx, dropped)
}

// beginShard takes the shard's state for this lease. What it says was carried for another number of shards, or in another epoch, is forgotten.
func (s *Syncer) beginShard(ctx context.Context, lease *syncstate.Lease, view *feature.View, shard Shard, epoch string) (*twofoldv1.SyncState, error) {
	dropped := ""
	own, err := s.state.Update(ctx, lease, func(own *twofoldv1.SyncState) {
		if dropped = ""; own.GetEpoch() != epoch || own.GetShards() != uint32(shard.Count) {
			dropped = own.GetFiles()
			own.Files, own.Mark, own.NewestEventMicros = "", "", 0
			own.Epoch, own.Shards, own.CarryingHash = epoch, uint32(shard.Count), view.CarryHash()
		}
	})
	if err != nil {
		return nil, err
	}
	return own, errors.Join(s.state.DropOrphan(ctx, lease, own), s.state.DropFiles(ctx, dropped))
}

// newShardPlan is newPlan for a shard: it leaves out files of which the entities of this shard have been carried, or those of all.
func (s *Syncer) newShardPlan(ctx context.Context, view *feature.View, main, own *twofoldv1.SyncState, asOf feature.AsOf, r Request) (*plan, error) {
	p := &plan{carried: syncstate.NewFiles(), shard: r.Shard, mark: own.GetMark()}
	var err error
	if p.all, err = s.o.Offline.Table(view).Files(ctx); err != nil {
		return nil, err
	}
	name := r.Shard.stateName(view)
	isOwn, err := s.isMarkedEverywhere(ctx, name, p.mark)
	if err != nil {
		return nil, err
	}
	if !isOwn {
		p.whole = true
		if err := s.putMark(ctx, name, p); err != nil {
			return nil, err
		}
	}
	isMain, err := s.holds(ctx, view, main) // after the mark was left: a server that loses its data from now on shows by that
	switch {
	case err != nil:
		return nil, err
	case r.Full || readsAll(view):
		p.whole = true
	case isOwn || isMain:
		p.whole = false
		err = errors.Join(s.addCarried(ctx, p, own, isOwn), s.addCarried(ctx, p, main, isMain))
	}
	p.choose(asOf)
	return p, err
}

// addCarried adds the files that a state names to what was carried, if it is to be relied on. A damaged list is as good as none.
func (s *Syncer) addCarried(ctx context.Context, p *plan, state *twofoldv1.SyncState, reliable bool) error {
	if !reliable {
		return nil
	}
	files, err := s.state.Files(ctx, state)
	if fault.KindOf(err) == fault.Corrupt {
		s.o.Logger.WarnContext(ctx, "a list of carried files is damaged; they are read again", "error", err)
		return nil
	}
	if err == nil {
		p.carried.Merge(files)
	}
	return err
}
