package syncer

import (
	"context"
	"fmt"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// A store may be many servers, and one of them may lose its data while the others, and what they remember of the syncs, are well. So a run that carries every file leaves a mark on each
// server before its rows. A server without it, at the end of that run or later, has lost rows, and every file is carried again. Where others have taken over what a server had, they may have no mark
// either; then rows are carried again that need not be.

// markName is the name of the mark of a view, or of a shard of one (syncstate.ShardName).
func markName(name string) string { return "carried/" + name }

// putMark leaves the mark of a plan that reads every file.
func (s *Syncer) putMark(ctx context.Context, name string, p *plan) error {
	if !p.whole {
		return nil
	}
	p.mark = runID()
	if err := s.o.Online.PutMark(ctx, markName(name), []byte(p.mark)); err != nil {
		return fmt.Errorf("feature view %q: mark the servers of the online store: %w", name, err)
	}
	return nil
}

// checkMark fails where a server of the store has lost its data since the mark was left.
func (s *Syncer) checkMark(ctx context.Context, name string, p *plan) error {
	ok, err := s.isMarkedEverywhere(ctx, name, p.mark)
	if err == nil && !ok {
		err = fault.New(fault.Unavailable, "feature view %q: the online store, or one of its servers, has lost its data while rows were carried; the next run carries all again", name)
	}
	return err
}

// isMarkedEverywhere reports whether every server of the store has the mark.
func (s *Syncer) isMarkedEverywhere(ctx context.Context, name, mark string) (bool, error) {
	if mark == "" {
		return false, nil
	}
	marks, err := s.o.Online.Marks(ctx, markName(name))
	if err != nil {
		return false, fmt.Errorf("feature view %q: ask the servers of the online store for their marks: %w", name, err)
	}
	for _, stored := range marks {
		if string(stored) != mark {
			return false, nil
		}
	}
	return len(marks) > 0, nil
}

// hasLostServer reports whether a server of the store has lost what a state says was carried.
func (s *Syncer) hasLostServer(ctx context.Context, view *feature.View, state *twofoldv1.SyncState) (bool, error) {
	ok, err := s.isMarkedEverywhere(ctx, view.Name, state.GetMark())
	return err == nil && !ok, err
}
