package syncer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
)

// TestEntitiesOf: of a view that is carried in shards the entities of all of them count, each once.
func TestEntitiesOf(t *testing.T) {
	run := func(shard string, entities, unchanged uint64) *twofoldv1.SyncRun {
		return &twofoldv1.SyncRun{Outcome: twofoldv1.SyncOutcome_SYNC_OUTCOME_SUCCEEDED, Shard: shard, Entities: entities, FilesRead: 1, FilesUnchanged: unchanged}
	}
	failed := run("", 9, 0)
	failed.Outcome = twofoldv1.SyncOutcome_SYNC_OUTCOME_FAILED
	for name, c := range map[string]struct {
		runs []*twofoldv1.SyncRun
		want uint64
	}{
		"none":                       {},
		"the last that read all":     {[]*twofoldv1.SyncRun{failed, run("", 1, 5), run("", 10, 0), run("", 7, 0)}, 10},
		"all shards":                 {[]*twofoldv1.SyncRun{run("1/2", 1, 5), run("1/2", 4, 0), run("0/2", 6, 0), run("0/2", 60, 0)}, 10},
		"not all shards":             {[]*twofoldv1.SyncRun{run("0/2", 6, 0)}, 0},
		"other numbers of shards":    {[]*twofoldv1.SyncRun{run("0/3", 1, 0), run("0/2", 6, 0), run("1/3", 2, 0), run("1/2", 4, 0)}, 10},
		"shards after a run for all": {[]*twofoldv1.SyncRun{run("0/2", 6, 0), run("", 9, 0)}, 9},
	} {
		require.Equal(t, c.want, entitiesOf(c.runs), name)
	}
}

// TestProblemOfARunThatGoesOn: a run that takes longer than the time between two is not told as one that has not come.
func TestProblemOfARunThatGoesOn(t *testing.T) {
	now := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	view := &feature.View{Name: "v", Sync: feature.Sync{Interval: 10 * time.Minute}}
	run := &twofoldv1.SyncRun{StartedAtMicros: now.Add(-time.Hour).UnixMicro(), Host: "h, process 7"}
	problem := func(outcome twofoldv1.SyncOutcome) string {
		run.Outcome = outcome
		return statusOf(view, &twofoldv1.SyncState{}, []*twofoldv1.SyncRun{run}, true, now).GetProblem()
	}
	require.Equal(t, "no run has come since 2026-03-01T11:00:00Z, and one was due 50m0s ago", problem(twofoldv1.SyncOutcome_SYNC_OUTCOME_SUCCEEDED))
	require.Equal(t, "the run of 2026-03-01T11:00:00Z (h, process 7) has not ended, and another was due 50m0s ago: it takes longer than the time between two, or its process has died",
		problem(twofoldv1.SyncOutcome_SYNC_OUTCOME_RUNNING))
}
