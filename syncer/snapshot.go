package syncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/pit"
	"github.com/twofold-ml/twofold/internal/syncstate"
	"github.com/twofold-ml/twofold/syncer/audit"
)

// With mode SNAPSHOT all rows are written as a new generation, under a name of its own that nobody reads. When it is whole and has passed its checks, one change of
// the view's state makes it the one that is read. What was read before stays for a while, so that a reader which has not learnt of the change yet finds it whole.

// publish makes a generation of a plan's files and has it served.
func (s *Syncer) publish(ctx context.Context, lease *syncstate.Lease, view *feature.View, p *plan, asOf feature.AsOf, report *Report) error {
	var generation *twofoldv1.Generation
	state, err := s.state.Update(ctx, lease, func(state *twofoldv1.SyncState) {
		generation = syncstate.BeginGeneration(state, online.RowsOf(view), s.o.Now())
	})
	if err != nil {
		return err
	}
	report.Generation = generation.GetNumber()
	p.content = &content{features: view.OnlineFeatures(), nulls: make([]int64, len(view.Features))}
	lost, err := s.markGeneration(ctx, view, state, p)
	if err != nil {
		return err
	}
	due, err := s.write(ctx, view, p, asOf, report)
	if err != nil {
		return err
	}
	if err := p.content.check(view, state.GetLive()); err != nil {
		return fault.New(fault.Precondition, "feature view %q: generation %d does not go live: %w", view.Name, report.Generation, err)
	}
	if err := s.checkMark(ctx, view.Name, p); err != nil {
		return err
	}
	if err := s.auditGeneration(ctx, view, p, asOf, report); err != nil {
		return err
	}
	generation.Entities, generation.SyncedAtMicros, generation.NewestEventMicros = uint64(p.content.entities), report.Started.UnixMicro(), microsOf(report.Newest)
	incremental, err := s.isMarked(ctx, view)
	if err != nil {
		return err
	}
	rows := state.GetRows() // of the mode before
	return s.remember(ctx, lease, view, p, due, report, func(state *twofoldv1.SyncState) {
		if incremental {
			syncstate.ReplaceIncremental(state, cmp.Or(rows, generation.GetRows()), s.o.Now())
		}
		syncstate.Publish(state, generation, s.o.Now())
		if lost {
			syncstate.Unserve(state, func(g *twofoldv1.Generation) bool {
				return g.GetNumber() != 0 && g.GetNumber() != generation.GetNumber()
			})
		}
		s.retire(view, state)
	})
}

// markGeneration sees to the mark of a plan that makes a generation: the one that the state tells of, as long as every server has it, else a new one. lost says that a server has
// lost its data, and so rows of the generations that are stored: whoever was in them would pass for unknown, so none of them may be returned to.
func (s *Syncer) markGeneration(ctx context.Context, view *feature.View, state *twofoldv1.SyncState, p *plan) (lost bool, err error) {
	if p.mark = state.GetMark(); p.mark != "" {
		if lost, err = s.hasLostServer(ctx, view, state); err != nil || !lost {
			return false, err
		}
		s.o.Logger.WarnContext(ctx, "a server of the online store has lost its data, or has taken over another's: the generations that are stored are removed once a new one is live",
			"feature_view", view.Name)
	}
	return lost, s.putMark(ctx, view.Name, p)
}

// auditGeneration compares what is stored of a generation with the files that it was made of, where the definition asks for that.
func (s *Syncer) auditGeneration(ctx context.Context, view *feature.View, p *plan, asOf feature.AsOf, report *Report) error {
	if !view.Sync.AuditBeforePublish {
		return nil
	}
	found, err := audit.Run(ctx, audit.Options{
		View: view, Online: s.o.Online, Offline: s.o.Offline, Generation: report.Generation, Files: p.all, AsOf: asOf, Now: s.o.Now,
	})
	if err == nil {
		err = found.Err()
	}
	if err != nil {
		return fmt.Errorf("generation %d does not go live: audit: %w", report.Generation, err)
	}
	return nil
}

// isMarked reports whether the store has the view's rows of mode INCREMENTAL.
func (s *Syncer) isMarked(ctx context.Context, view *feature.View) (bool, error) {
	unsynced, err := s.o.Online.Unsynced(ctx, []string{view.Name})
	return err == nil && len(unsynced) == 0, err
}

// content is what the rows of a generation are like.
type content struct {
	// features are the indexes of the columns of a batch among the view's features.
	features []int
	// entities is the number of rows that are not tombstones.
	entities int64
	// nulls is how many of them have a null, for each of the view's features.
	nulls []int64
}

// add counts the rows of a batch.
func (c *content) add(batch pit.WinnerBatch) {
	if c == nil {
		return
	}
	for row := range batch.Len() {
		if !batch.IsTombstone(row) {
			c.entities++
		}
	}
	for i, column := range batch.Features {
		for row, status := range column.Status {
			if status == feature.Null && !batch.IsTombstone(row) {
				c.nulls[c.features[i]]++
			}
		}
	}
}

// check says why a generation with this content must not take the place of the live one, nil for none.
func (c *content) check(view *feature.View, live *twofoldv1.Generation) error {
	checks := view.Sync.Snapshot
	var reasons []string
	fails := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	if uint64(c.entities) < checks.MinEntities {
		fails("it has %d entities, and sync.snapshot.min_entities asks for %d", c.entities, checks.MinEntities)
	}
	if before := live.GetEntities(); float64(c.entities) < (1-checks.MaxEntityDrop)*float64(before) {
		fails("it has %d entities where generation %d has %d, and sync.snapshot.max_entity_drop allows a share of %v to go", c.entities, live.GetNumber(), before, checks.MaxEntityDrop)
	}
	for i, most := range checks.MaxNullShare {
		if nulls := c.nulls[i]; float64(nulls) > most*float64(c.entities) {
			fails("feature %q is null in %d of %d rows, and sync.snapshot.max_null_share allows a share of %v", view.Features[i].Name, nulls, c.entities, most)
		}
	}
	if len(reasons) == 0 {
		return nil
	}
	return errors.New(strings.Join(reasons, "; "))
}

// Returned says what Rollback did.
type Returned struct {
	// View is the name of the feature view.
	View string
	// From is the generation that was served before, To the one that is now.
	From, To *twofoldv1.Generation
}

// Rollback has an earlier generation of a view served again: the one of that number or, where it is 0, the newest of those that are older than the live one. What was
// live stays, as one that can be returned to. The next run makes a new generation only once a file is new or has changed.
func (s *Syncer) Rollback(ctx context.Context, name string, number uint64) (*Returned, error) {
	views, err := s.Views(name)
	if err != nil {
		return nil, err
	}
	view := views[0]
	if view.Sync.Mode != feature.Snapshot {
		return nil, fault.New(fault.Precondition, "feature view %q has mode INCREMENTAL, which keeps no generations; rollback needs sync.mode: SNAPSHOT", name)
	}
	var returned *Returned
	err = s.state.During(ctx, view.Name, s.leaseOptions(true), func(ctx context.Context, lease *syncstate.Lease) (err error) {
		returned, err = s.rollback(ctx, lease, view, number)
		return err
	})
	return returned, err
}

func (s *Syncer) rollback(ctx context.Context, lease *syncstate.Lease, view *feature.View, number uint64) (*Returned, error) {
	report := Report{
		ID: runID(), View: view.Name, Trigger: twofoldv1.SyncTrigger_SYNC_TRIGGER_REQUEST, Cause: "rollback", Host: s.holder, Started: s.o.Now(),
		Outcome: twofoldv1.SyncOutcome_SYNC_OUTCOME_SUCCEEDED,
	}
	if err := s.checkServers(ctx, view); err != nil {
		return nil, err
	}
	returned := &Returned{View: view.Name}
	var refused error
	_, err := s.state.Update(ctx, lease, func(state *twofoldv1.SyncState) {
		before := state.GetLive()
		if refused = syncstate.Rollback(state, online.RowsOf(view), number, s.o.Now()); refused != nil {
			return
		}
		state.NewestEventMicros = state.GetLive().GetNewestEventMicros()
		returned.From, returned.To = before, state.GetLive()
	})
	if err == nil && refused != nil {
		err = fmt.Errorf("feature view %q: %w", view.Name, refused)
	}
	if err != nil {
		return nil, err
	}
	report.Generation, report.Newest, report.Elapsed = returned.To.GetNumber(), timeOf(returned.To.GetNewestEventMicros()), s.o.Now().Sub(report.Started)
	report.Note = fmt.Sprintf("returned from generation %d to %d", returned.From.GetNumber(), returned.To.GetNumber())
	s.o.Logger.InfoContext(ctx, "an earlier generation is served again", "feature_view", view.Name, "from", returned.From.GetNumber(), "to", returned.To.GetNumber())
	return returned, s.state.PutRun(ctx, report.Run(), view.Sync.KeepRuns, false)
}

// checkServers fails where a server of the store has lost rows of the generations that are stored.
func (s *Syncer) checkServers(ctx context.Context, view *feature.View) error {
	states, err := s.state.States(ctx, []string{view.Name})
	if err != nil || states[0].GetMark() == "" {
		return err
	}
	lost, err := s.hasLostServer(ctx, view, states[0])
	if err == nil && lost {
		err = fault.New(fault.Unavailable, "feature view %q: a server of the online store has lost its data, and with it rows of the generations that are stored; run twofold sync, which makes a new one", view.Name)
	}
	return err
}

// retire lists for removal what nobody can be reading any more.
func (s *Syncer) retire(view *feature.View, state *twofoldv1.SyncState) {
	syncstate.Retire(state, keptGenerations(view), s.o.Now().Add(-s.o.GenerationGrace))
}

// keptGenerations is how many generations are kept beside the live one.
func keptGenerations(view *feature.View) int {
	if view.Sync.Mode == feature.Snapshot {
		return view.Sync.Snapshot.KeepGenerations
	}
	return 0
}

// removeGenerations removes the rows of all generations that are listed for that, and then takes them off the list.
func (s *Syncer) removeGenerations(ctx context.Context, lease *syncstate.Lease, view *feature.View) error {
	state, err := s.state.Update(ctx, lease, func(*twofoldv1.SyncState) {}) // the fence: what a later lease has listed is its own
	if err != nil {
		return err
	}
	for _, g := range state.GetRemoving() {
		if err := s.removeGeneration(ctx, lease, view, g); err != nil {
			return fmt.Errorf("remove generation %d: %w", g.GetNumber(), err)
		}
	}
	return nil
}

func (s *Syncer) removeGeneration(ctx context.Context, lease *syncstate.Lease, view *feature.View, g *twofoldv1.Generation) error {
	at, err := online.ViewAt(view.Name, g.GetRows())
	if err != nil {
		return err
	}
	if g.GetNumber() == 0 {
		if err := s.o.Online.Unmark(ctx, view.Name); err != nil {
			return err
		}
	}
	began := time.Now()
	removed, err := s.o.Online.RemoveAll(ctx, at, g.GetNumber(), nil)
	if err != nil {
		return err
	}
	s.o.Logger.InfoContext(ctx, "rows that are not served any more were removed", "feature_view", view.Name, "generation", g.GetNumber(), "entities", removed, "elapsed", time.Since(began))
	_, err = s.state.Update(ctx, lease, func(state *twofoldv1.SyncState) { syncstate.DropGeneration(state, g.GetNumber()) })
	return err
}
