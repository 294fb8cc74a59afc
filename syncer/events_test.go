package syncer_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/syncer"
	"github.com/twofold-ml/twofold/syncer/event"
)

// eventBench is a syncer whose Run is under way, and a webhook that it gets events of the view "short" from.
type eventBench struct {
	*syncer.Syncer
	webhook http.Handler
	metrics *prometheus.Registry
	// reports has each run's; until it is taken the run is under way.
	reports chan syncer.Report
	folder  string
}

func newEventBench(t *testing.T, debounce time.Duration) *eventBench {
	t.Helper()
	env, c, dir := environment(t)
	b := &eventBench{metrics: prometheus.NewRegistry(), reports: make(chan syncer.Report), folder: dir}
	queue := event.NewQueue(event.QueueOptions{Debounce: debounce, MaxWait: debounce, RetryWait: time.Millisecond, MaxRetryWait: time.Millisecond})
	files, err := offline.ParsePattern("s3://b/short")
	require.NoError(t, err)
	intake := event.NewIntake(event.IntakeOptions{Queue: queue, Metrics: b.metrics, Router: event.NewRouter(event.Route{View: "short", Files: files})})
	b.webhook = event.NewWebhook(event.WebhookOptions{Intake: intake})
	b.Syncer, err = syncer.New(syncer.Options{
		Registry: registry(t, strings.ReplaceAll(definitions, "source: {path: lasting.parquet, event_time_column: at}", "source: {path: lasting.parquet, event_time_column: at}\n    sync: {interval: 1h}")),
		Online:   env.Online, Offline: env.Offline, Now: c.Now, Events: queue, OnReport: func(r syncer.Report) { b.reports <- r },
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		for {
			select {
			case <-b.reports: // of a run that was under way
			case err := <-ended:
				require.NoError(t, err)
				return
			}
		}
	})
	for range 2 {
		require.Equal(t, twofoldv1.SyncTrigger_SYNC_TRIGGER_START, b.next(t).Trigger)
	}
	return b
}

// next ends the run under way, or the next one, and returns its report.
func (b *eventBench) next(t *testing.T) syncer.Report {
	t.Helper()
	select {
	case r := <-b.reports:
		return r
	case <-time.After(time.Minute):
		require.Fail(t, "no run comes")
		return syncer.Report{}
	}
}

// post tells of a file.
func (b *eventBench) post(t *testing.T, name string) {
	t.Helper()
	body := fmt.Sprintf(`{"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "short/%s"}}}]}`, name)
	w := httptest.NewRecorder()
	b.webhook.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
}

// waiting is how many events are in the queue.
func (b *eventBench) waiting(t *testing.T) int {
	t.Helper()
	families, err := b.metrics.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == "twofold_sync_event_queue_objects" {
			return int(family.GetMetric()[0].GetGauge().GetValue())
		}
	}
	t.Fatal("there is no such metric")
	return 0
}

// TestEvents: an event has its view synced and no other; one that comes while the run goes on leads to one more.
func TestEvents(t *testing.T) {
	b := newEventBench(t, time.Nanosecond)
	b.post(t, "1.parquet")
	b.until(t, func() bool { return b.waiting(t) == 0 }) // the run has taken it, and cannot end before its report is taken
	b.post(t, "2.parquet")
	b.post(t, "3.parquet")
	first := b.next(t)
	require.Equal(t, []any{"short", twofoldv1.SyncTrigger_SYNC_TRIGGER_EVENT, "webhook: s3://b/short/1.parquet came"}, []any{first.View, first.Trigger, first.Cause})
	require.Equal(t, twofoldv1.SyncOutcome_SYNC_OUTCOME_NOTHING_NEW, first.Outcome)
	second := b.next(t)
	require.Equal(t, []any{"short", twofoldv1.SyncTrigger_SYNC_TRIGGER_EVENT, "webhook: s3://b/short/2.parquet came, and 1 more events"}, []any{second.View, second.Trigger, second.Cause})
	b.until(t, func() bool { return b.waiting(t) == 0 })
}

func (b *eventBench) until(t *testing.T, holds func() bool) {
	t.Helper()
	for begun := time.Now(); !holds(); <-time.After(time.Millisecond) {
		require.Less(t, time.Since(begun), time.Minute, "it never came to this")
	}
}

// TestEventsOfRunsThatFail stay until a run has succeeded.
func TestEventsOfRunsThatFail(t *testing.T) {
	b := newEventBench(t, time.Nanosecond)
	bad := filepath.Join(b.folder, "short", "bad.parquet")
	require.NoError(t, os.WriteFile(bad, []byte("no Parquet"), 0o600))
	b.post(t, "bad.parquet")
	for range 3 {
		failed := b.next(t)
		require.Error(t, failed.Err)
		require.Equal(t, "short", failed.View)
	}
	require.NoError(t, os.Remove(bad))
	for b.next(t).Err != nil { // one may have been under way
	}
	b.until(t, func() bool { return b.waiting(t) == 0 })
}

// TestEventsAreTakenAlong by a run that begins for another reason before they are due.
func TestEventsAreTakenAlong(t *testing.T) {
	b := newEventBench(t, time.Hour)
	b.post(t, "1.parquet")
	require.Equal(t, 1, b.waiting(t))
	_, err := b.Trigger(t.Context(), syncer.Request{Trigger: twofoldv1.SyncTrigger_SYNC_TRIGGER_REQUEST}, false, "short")
	require.NoError(t, err)
	report := b.next(t)
	require.Equal(t, twofoldv1.SyncTrigger_SYNC_TRIGGER_REQUEST, report.Trigger)
	require.Equal(t, "webhook: s3://b/short/1.parquet came", report.Cause)
	b.until(t, func() bool { return b.waiting(t) == 0 })
}
