package syncstate

import (
	"context"
	"fmt"
	"slices"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

func runsName(view string) string { return "runs/" + view }

// Runs returns the remembered runs of each view, the latest first.
func (s *Store) Runs(ctx context.Context, views []string) ([][]*twofoldv1.SyncRun, error) {
	names := make([]string, len(views))
	for i, view := range views {
		names[i] = runsName(view)
	}
	values, err := s.values.GetMeta(ctx, names)
	if err != nil {
		return nil, fmt.Errorf("read the runs of views: %w", err)
	}
	runs := make([][]*twofoldv1.SyncRun, len(views))
	for i, value := range values {
		stored := &twofoldv1.StoredSyncRuns{}
		if err := unmarshal(value, stored, names[i]); err != nil {
			return nil, err
		}
		runs[i] = stored.GetRuns()
	}
	return runs, nil
}

// PutRun remembers a run: in the place of what was remembered of it, else as the latest, and no more than keep in all. exclusive says that the caller holds the view's
// lease, or the shard's, so that any other run of the same which is said to go on was given up.
func (s *Store) PutRun(ctx context.Context, run *twofoldv1.SyncRun, keep int, exclusive bool) error {
	stored := &twofoldv1.StoredSyncRuns{}
	return s.swap(ctx, runsName(run.GetFeatureView()), stored, func() error {
		at := slices.IndexFunc(stored.GetRuns(), func(r *twofoldv1.SyncRun) bool { return r.GetId() == run.GetId() })
		if at >= 0 {
			stored.Runs[at] = run
		} else {
			stored.Runs = slices.Insert(stored.Runs, 0, run)
		}
		for _, r := range stored.GetRuns() {
			if exclusive && r.GetId() != run.GetId() && r.GetShard() == run.GetShard() && r.GetOutcome() == twofoldv1.SyncOutcome_SYNC_OUTCOME_RUNNING {
				r.Outcome = twofoldv1.SyncOutcome_SYNC_OUTCOME_FAILED
				r.Note = "its process ended before the run did"
			}
		}
		stored.Runs = stored.Runs[:min(len(stored.Runs), max(keep, 1))]
		return nil
	})
}
