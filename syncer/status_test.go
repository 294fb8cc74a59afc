package syncer

import (
	"testing"

	"github.com/stretchr/testify/require"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
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
