package syncer_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/syncer"
)

// TestProgress: while a run is under way its progress is told, and never more than there is.
func TestProgress(t *testing.T) {
	env, c, _ := environment(t)
	var told []syncer.Progress
	s, err := syncer.New(syncer.Options{
		Registry: registry(t, definitions), Online: env.Online, Offline: env.Offline, Now: c.Now,
		ProgressInterval: time.Microsecond, OnProgress: func(p syncer.Progress) { told = append(told, p) },
	})
	require.NoError(t, err)
	for len(told) == 0 || told[len(told)-1].RowsToRead == 0 { // a run may end before the first time comes
		_, err := s.RunOnce(t.Context(), syncer.Request{Full: true}, "short")
		require.NoError(t, err)
	}
	for _, p := range told {
		require.Equal(t, "short", p.View)
		require.LessOrEqual(t, p.RowsRead, p.RowsToRead)
		require.LessOrEqual(t, p.RowsWritten, max(p.RowsToWrite, 0))
	}
	require.NotZero(t, told[len(told)-1].RowsToRead)
}

// TestStopped: a run that ends because its process is told to is no failure, neither in the log nor in what is remembered, and the next one carries the rest.
func TestStopped(t *testing.T) {
	env, c, _ := environment(t)
	ctx, stop := context.WithCancel(t.Context())
	var log strings.Builder
	readings := 0
	s, err := syncer.New(syncer.Options{
		Registry: registry(t, definitions), Online: env.Online, Offline: env.Offline, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Now: func() time.Time {
			if readings++; readings == 2 { // the run has its lease, and begins
				stop()
			}
			return c.Now()
		},
	})
	require.NoError(t, err)
	reports, err := s.RunOnce(ctx, syncer.Request{}, "short", "lasting")
	require.ErrorIs(t, err, context.Canceled)
	require.Len(t, reports, 1)
	require.Equal(t, twofoldv1.SyncOutcome_SYNC_OUTCOME_STOPPED, reports[0].Outcome)
	require.Contains(t, log.String(), "sync stopped")
	require.NotContains(t, log.String(), "level=ERROR")

	runs, err := s.Runs(t.Context(), 0, "short")
	require.NoError(t, err)
	require.Len(t, runs, 1)
	require.Equal(t, []any{twofoldv1.SyncOutcome_SYNC_OUTCOME_STOPPED, "", "the process was told to stop"}, []any{runs[0].GetOutcome(), runs[0].GetError(), runs[0].GetNote()})
	again, err := s.RunOnce(t.Context(), syncer.Request{}, "short")
	require.NoError(t, err)
	require.Equal(t, twofoldv1.SyncOutcome_SYNC_OUTCOME_SUCCEEDED, again[0].Outcome)
	statuses, err := s.Status(t.Context(), "short")
	require.NoError(t, err)
	require.Equal(t, uint64(again[0].Entities), statuses[0].GetEntities())
	require.Empty(t, statuses[0].GetProblem())
}
