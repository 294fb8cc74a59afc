package syncer_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/syncer"
)

// TestSyncService asks for runs and for what became of them, as a client does.
func TestSyncService(t *testing.T) {
	env, c, _ := environment(t)
	sync := env.Client.Sync()
	code := func(err error) codes.Code { return status.Code(err) }

	_, err := sync.TriggerSync(t.Context(), &twofoldv1.TriggerSyncRequest{})
	require.Equal(t, codes.FailedPrecondition, code(err), "nothing runs on its own here: %v", err)
	_, err = sync.GetSyncStatus(t.Context(), &twofoldv1.GetSyncStatusRequest{FeatureViews: []string{"shor"}})
	require.Equal(t, codes.NotFound, code(err))
	require.ErrorContains(t, err, `did you mean "short"?`)
	_, err = sync.ListSyncRuns(t.Context(), &twofoldv1.ListSyncRunsRequest{FeatureViews: []string{"pushed"}})
	require.Equal(t, codes.FailedPrecondition, code(err))
	before, err := sync.GetSyncStatus(t.Context(), &twofoldv1.GetSyncStatusRequest{})
	require.NoError(t, err)
	require.Len(t, before.GetViews(), 2)
	require.False(t, before.GetViews()[0].GetSynced())
	require.Contains(t, before.GetViews()[0].GetProblem(), "never synced")

	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- env.Syncer.Run(ctx) }()
	defer func() {
		stop()
		require.NoError(t, <-ran)
	}()
	trigger := func(request *twofoldv1.TriggerSyncRequest) *twofoldv1.TriggerSyncResponse {
		t.Helper()
		for {
			response, err := sync.TriggerSync(t.Context(), request)
			if err == nil {
				return response
			}
			require.Contains(t, []codes.Code{codes.FailedPrecondition, codes.Unavailable}, code(err), "%v", err) // Run begins
			<-time.After(time.Millisecond)
		}
	}
	runs := trigger(&twofoldv1.TriggerSyncRequest{FeatureViews: []string{"short"}, Full: true, Wait: true, Reason: "a test"}).GetRuns()
	require.Len(t, runs, 1)
	run := runs[0]
	require.Equal(t, []any{"short", twofoldv1.SyncTrigger_SYNC_TRIGGER_REQUEST, "a test", twofoldv1.SyncOutcome_SYNC_OUTCOME_SUCCEEDED, uint64(2)},
		[]any{run.GetFeatureView(), run.GetTrigger(), run.GetCause(), run.GetOutcome(), run.GetFilesRead()})

	watch, err := sync.WatchSync(t.Context(), &twofoldv1.WatchSyncRequest{FeatureViews: []string{"short"}})
	require.NoError(t, err)
	event, err := watch.Recv()
	require.NoError(t, err)
	require.Equal(t, run.GetId(), event.GetRun().GetId(), "at first the last run")
	c.Advance(time.Minute)
	next := trigger(&twofoldv1.TriggerSyncRequest{FeatureViews: []string{"short"}, Wait: true}).GetRuns()[0]
	require.Equal(t, twofoldv1.SyncOutcome_SYNC_OUTCOME_NOTHING_NEW, next.GetOutcome())
	for event.GetRun().GetId() != next.GetId() || event.GetRun().GetOutcome() != next.GetOutcome() {
		event, err = watch.Recv()
		require.NoError(t, err)
		require.Contains(t, []string{run.GetId(), next.GetId()}, event.GetRun().GetId())
	}

	listed, err := sync.ListSyncRuns(t.Context(), &twofoldv1.ListSyncRunsRequest{FeatureViews: []string{"short"}, Limit: 2})
	require.NoError(t, err)
	require.Equal(t, []string{next.GetId(), run.GetId()}, []string{listed.GetRuns()[0].GetId(), listed.GetRuns()[1].GetId()})
	after, err := sync.GetSyncStatus(t.Context(), &twofoldv1.GetSyncStatusRequest{FeatureViews: []string{"short"}})
	require.NoError(t, err)
	view := after.GetViews()[0]
	require.True(t, view.GetSynced())
	require.Empty(t, view.GetProblem())
	require.Equal(t, time.Hour+time.Minute, view.GetLag().AsDuration())
	require.Equal(t, 59*time.Minute, view.GetUntilGap().AsDuration(), "the newest row is of an hour before the start, and the ttl is 2 h")
	require.Equal(t, c.Now().Add(time.Hour).UnixMicro(), view.GetNextRunMicros())

	c.Advance(time.Hour)
	after, err = sync.GetSyncStatus(t.Context(), &twofoldv1.GetSyncStatusRequest{FeatureViews: []string{"short"}})
	require.NoError(t, err)
	require.Contains(t, after.GetViews()[0].GetProblem(), "all its rows have expired")

	go func() { _ = env.Stop() }()
	for err == nil {
		_, err = watch.Recv()
	}
	require.Equal(t, codes.Unavailable, code(err), "who watches does not keep the server from stopping: %v", err)
}

// TestTriggersCoalesce: however many ask while a view waits for its turn, it runs once for all of them.
func TestTriggersCoalesce(t *testing.T) {
	env, _, _ := environment(t)
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- env.Syncer.Run(ctx) }()
	const callers = 20
	ids := make(chan string, callers)
	for range callers {
		go func() {
			for {
				reports, err := env.Syncer.Trigger(t.Context(), syncer.Request{Trigger: twofoldv1.SyncTrigger_SYNC_TRIGGER_REQUEST}, true, "short")
				if err == nil {
					ids <- reports[0].ID
					return
				}
				<-time.After(time.Millisecond)
			}
		}()
	}
	distinct := map[string]bool{}
	for range callers {
		distinct[<-ids] = true
	}
	runs, err := env.Syncer.Runs(t.Context(), 0, "short")
	require.NoError(t, err)
	require.LessOrEqual(t, len(distinct), len(runs))
	stop()
	require.NoError(t, <-ran)
	_, err = env.Syncer.Trigger(t.Context(), syncer.Request{}, true, "short")
	require.ErrorContains(t, err, "does not sync on its own")
}
