package syncer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
)

// Status tells how the named views, or all, stand, from what the online store remembers: whichever process has synced them.
func (s *Syncer) Status(ctx context.Context, names ...string) ([]*twofoldv1.SyncStatus, error) {
	views, err := s.Views(names...)
	if err != nil {
		return nil, err
	}
	all := namesOf(views)
	states, err := s.state.States(ctx, all)
	if err != nil {
		return nil, err
	}
	runs, err := s.state.Runs(ctx, all)
	if err != nil {
		return nil, err
	}
	stored, _, err := s.o.Online.SyncStates(ctx, views)
	if err != nil {
		return nil, err
	}
	statuses := make([]*twofoldv1.SyncStatus, len(views))
	for i, view := range views {
		statuses[i] = statusOf(view, states[i], runs[i], stored[i] == online.Synced, s.o.Now())
	}
	return statuses, nil
}

func namesOf(views []*feature.View) []string {
	names := make([]string, len(views))
	for i, view := range views {
		names[i] = view.Name
	}
	return names
}

func statusOf(view *feature.View, state *twofoldv1.SyncState, runs []*twofoldv1.SyncRun, synced bool, now time.Time) *twofoldv1.SyncStatus {
	status := &twofoldv1.SyncStatus{
		FeatureView: view.Name, Mode: view.Sync.Mode.String(), Synced: synced, LastGoodMicros: state.GetSyncedAtMicros(), NewestEventMicros: state.GetNewestEventMicros(),
	}
	if view.Sync.Mode == feature.Snapshot && synced {
		status.Generation, status.Entities = state.GetLive().GetNumber(), state.GetLive().GetEntities()
	}
	if view.Sync.Mode != feature.Snapshot {
		status.Entities = entitiesOf(runs)
	}
	if newest := timeOf(status.NewestEventMicros); !newest.IsZero() {
		status.Lag = durationpb.New(now.Sub(newest))
		if view.TTL > 0 {
			status.UntilGap = durationpb.New(max(0, newest.Add(view.TTL.Duration()).Sub(now)))
		}
	}
	next := timeOf(status.LastGoodMicros)
	if len(runs) > 0 {
		status.LastRun = runs[0]
		next = time.UnixMicro(runs[0].GetStartedAtMicros())
	}
	if !next.IsZero() {
		status.NextRunMicros = nextRun(view, next).UnixMicro()
	}
	status.Problem = problemOf(view, status, now)
	if status.Problem != "" && view.KeepsLastGood() && synced && status.LastGoodMicros != 0 {
		status.Problem += fmt.Sprintf("; the rows of the last good run, at %s, are kept and served until a run succeeds, as EXPIRED where their ttl is over",
			time.UnixMicro(status.LastGoodMicros).UTC().Format(time.RFC3339))
	}
	return status
}

// entitiesOf is how many entities the last of the runs found that read every file, or the last such runs of all shards of it; 0 where there are none.
func entitiesOf(runs []*twofoldv1.SyncRun) uint64 {
	byShard, found, total := map[Shard]bool{}, map[int]int{}, map[int]uint64{} // the last two by the number of shards
	for _, run := range runs {
		if run.GetOutcome() != twofoldv1.SyncOutcome_SYNC_OUTCOME_SUCCEEDED || run.GetFilesRead() == 0 || run.GetFilesUnchanged() != 0 {
			continue
		}
		shard, err := ParseShard(run.GetShard())
		if err != nil { // none
			return run.GetEntities()
		}
		if byShard[shard] {
			continue
		}
		byShard[shard] = true
		found[shard.Count]++
		total[shard.Count] += run.GetEntities()
		if found[shard.Count] == shard.Count {
			return total[shard.Count]
		}
	}
	return 0
}

// problemOf says what an operator should see to; empty where all is well.
func problemOf(view *feature.View, s *twofoldv1.SyncStatus, now time.Time) string {
	last := s.GetLastRun()
	overdue := now.Sub(time.UnixMicro(s.GetNextRunMicros()))
	switch {
	case last == nil && !s.GetSynced():
		return "it was never synced, or the online store has lost its data; run twofold sync"
	case last.GetOutcome() == twofoldv1.SyncOutcome_SYNC_OUTCOME_FAILED && last.GetError() != "":
		return "the last run failed: " + last.GetError()
	case last.GetOutcome() == twofoldv1.SyncOutcome_SYNC_OUTCOME_FAILED:
		return "the last run failed: " + last.GetNote()
	case !s.GetSynced() && last.GetOutcome() == twofoldv1.SyncOutcome_SYNC_OUTCOME_RUNNING:
		return "it is not served before the run that is under way has carried its rows"
	case !s.GetSynced() && last.GetShard() != "":
		return "it is carried in shards, and not all of them are done; run those that are left: twofold sync --once --shard"
	case !s.GetSynced():
		return "the online store has lost its rows, or has them by another definition; they are carried again by the next run"
	case s.GetUntilGap() != nil && s.GetUntilGap().AsDuration() == 0:
		return fmt.Sprintf("all its rows have expired: the newest is %v old, and its ttl is %v", s.GetLag().AsDuration().Round(time.Second), view.TTL.Duration())
	case last == nil && s.GetLastGoodMicros() == 0:
		return "no run of it is remembered, though its rows are served: the online store has lost what it knew of the syncs; the next run carries every file again"
	case overdue > view.Sync.Interval && last.GetOutcome() == twofoldv1.SyncOutcome_SYNC_OUTCOME_RUNNING:
		return fmt.Sprintf("the run of %s (%s) has not ended, and another was due %v ago: it takes longer than the time between two, or its process has died",
			time.UnixMicro(last.GetStartedAtMicros()).UTC().Format(time.RFC3339), last.GetHost(), overdue.Round(time.Second))
	case overdue > view.Sync.Interval:
		return fmt.Sprintf("no run has come since %s, and one was due %v ago", time.UnixMicro(last.GetStartedAtMicros()).UTC().Format(time.RFC3339), overdue.Round(time.Second))
	default:
		return ""
	}
}

// Runs returns the remembered runs of the named views, or all, of each at most limit, or all where it is 0; the latest first.
func (s *Syncer) Runs(ctx context.Context, limit int, names ...string) ([]*twofoldv1.SyncRun, error) {
	views, err := s.Views(names...)
	if err != nil {
		return nil, err
	}
	byView, err := s.state.Runs(ctx, namesOf(views))
	if err != nil {
		return nil, err
	}
	var runs []*twofoldv1.SyncRun
	for _, of := range byView {
		if limit > 0 {
			of = of[:min(limit, len(of))]
		}
		runs = append(runs, of...)
	}
	sortRuns(runs)
	return runs, nil
}

// sortRuns puts the latest first.
func sortRuns(runs []*twofoldv1.SyncRun) {
	slices.SortStableFunc(runs, func(a, b *twofoldv1.SyncRun) int { return cmp.Compare(b.GetStartedAtMicros(), a.GetStartedAtMicros()) })
}
