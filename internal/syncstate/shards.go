package syncstate

import (
	"context"
	"crypto/rand"
	"maps"
	"strconv"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// A view may be carried in shards, each of which has a lease, a state and a list of files of its own, as a view has them, under the name of the shard. The state of the
// view says by which definition rows are carried, and since when (its epoch); what a shard has carried counts only while it is of the same epoch.

// ShardName is the name of a shard of a view, for Acquire and States.
func ShardName(view string, index int) string { return view + "/shard-" + strconv.Itoa(index) }

// SetCarrying says in the state of a view, before any row is written, by which definition rows are carried from now on. Where it is another than the last time, what was
// carried by earlier ones does not count any more, even if they come back: rows of this one may have taken their places. It returns the name of a list of
// files that the state does not name any longer, empty for none.
func SetCarrying(state *twofoldv1.SyncState, hash string) (dropped string) {
	if state.GetCarryingHash() == hash && state.GetEpoch() != "" {
		return ""
	}
	if state.GetDefinitionHash() != hash {
		dropped, state.Files = state.GetFiles(), ""
	}
	state.CarryingHash, state.Epoch = hash, rand.Text()
	return dropped
}

// UpdateShared changes the state of a view on behalf of somebody who holds no lease of it: a shard. change must be right whatever the holder does at the same time.
func (s *Store) UpdateShared(ctx context.Context, view string, change func(*twofoldv1.SyncState)) (*twofoldv1.SyncState, error) {
	state := &twofoldv1.SyncState{}
	err := s.swap(ctx, stateName(view), state, func() error {
		change(state)
		return nil
	})
	return state, err
}

// Merge adds what another list has. Where both have a file, the one that has carried more of it counts: the one with the later due time.
func (f *Files) Merge(other *Files) {
	for d, due := range other.due {
		if have, ok := f.due[d]; !ok || due > have {
			f.due[d] = due
		}
	}
}

// Common returns the files that every list has, each with its least due time; none where there is no list.
func Common(lists ...*Files) *Files {
	common := NewFiles()
	if len(lists) == 0 {
		return common
	}
	maps.Copy(common.due, lists[0].due)
	for _, list := range lists[1:] {
		for d, due := range common.due {
			if other, ok := list.due[d]; ok {
				common.due[d] = min(due, other)
			} else {
				delete(common.due, d)
			}
		}
	}
	return common
}

// AwaitShards waits until no shard of a view is being carried by a run that began before, and may be cut off from what was written down before it was called. The caller holds the
// view's lease; state is the view's.
func (s *Store) AwaitShards(ctx context.Context, view string, state *twofoldv1.SyncState, o LeaseOptions) error {
	for i := range int(state.GetShards()) {
		lease, err := s.Acquire(ctx, ShardName(view, i), o)
		if err != nil {
			return err
		}
		if err := lease.Release(ctx); err != nil {
			return err
		}
	}
	return nil
}

// clearShards forgets what is known of the shards of a view; numbers of their leases stay.
func (s *Store) clearShards(ctx context.Context, view string, count int) error {
	names := make([]string, count)
	for i := range names {
		names[i] = ShardName(view, i)
	}
	states, err := s.States(ctx, names)
	if err != nil {
		return err
	}
	var gone []string
	for i, state := range states {
		gone = append(gone, state.GetFiles(), stateName(names[i]))
	}
	return s.DropFiles(ctx, gone...)
}
