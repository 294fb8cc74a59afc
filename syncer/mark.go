package syncer

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// A store may be many servers, and one of them may lose its data while the others, and what they remember of the syncs, are well. So a run that carries every file leaves a mark on each
// server before its rows. A server without it, at the end of that run or later, has lost rows, and every file is carried again. Where others have taken over what a server had, they may have no mark
// either; then rows are carried again that need not be.
//
// A server may also come back as it was some time ago: from its disk, or because a replica that was behind has taken its place. It has the mark. So every run leaves another one on each server
// after its rows, which counts up: a server that has one of an earlier run has lost rows since. A state names both, "<mark>/<count>".

// markName is the name of the mark of a view, or of a shard of one (syncstate.ShardName).
func markName(name string) string { return "carried/" + name }

// writtenName is the name of the mark that counts up.
func writtenName(name string) string { return "written/" + name }

// splitMark is what a state names: the mark, and how often one was left after rows; 0 where a version before this one has written it down.
func splitMark(text string) (mark string, count uint64) {
	mark, number, _ := strings.Cut(text, "/")
	count, _ = strconv.ParseUint(number, 10, 64)
	return mark, count
}

// putWritten leaves the mark that counts up, once all rows of a run are stored.
func (s *Syncer) putWritten(ctx context.Context, name string, p *plan) error {
	mark, count := splitMark(p.mark)
	p.mark = mark + "/" + strconv.FormatUint(count+1, 10)
	if err := s.o.Online.PutMark(ctx, writtenName(name), []byte(p.mark)); err != nil {
		return fmt.Errorf("feature view %q: mark the servers of the online store: %w", name, err)
	}
	return nil
}

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

// isMarkedEverywhere reports whether every server of the store has the marks that a state names, or has one of a later run.
func (s *Syncer) isMarkedEverywhere(ctx context.Context, name, text string) (bool, error) {
	if text == "" {
		return false, nil
	}
	mark, count := splitMark(text)
	ok, err := s.eachMark(ctx, markName(name), func(stored string) bool { return stored == mark })
	if err != nil || !ok || count == 0 {
		return ok, err
	}
	return s.eachMark(ctx, writtenName(name), func(stored string) bool {
		of, n := splitMark(stored)
		return of == mark && n >= count
	})
}

// eachMark reports whether every server has a mark of which something holds.
func (s *Syncer) eachMark(ctx context.Context, name string, holds func(stored string) bool) (bool, error) {
	marks, err := s.o.Online.Marks(ctx, name)
	if err != nil {
		return false, fmt.Errorf("ask the servers of the online store for their marks %q: %w", name, err)
	}
	for _, stored := range marks {
		if !holds(string(stored)) {
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
