package event

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/offline"
)

// router makes a router of pairs of a view and the URL of its files.
func router(t testing.TB, pairs ...string) *Router {
	t.Helper()
	var routes []Route
	for i := 0; i < len(pairs); i += 2 {
		files, err := offline.ParsePattern(pairs[i+1])
		require.NoError(t, err)
		routes = append(routes, Route{View: pairs[i], Files: files})
	}
	return NewRouter(routes...)
}

// bench is an intake with a queue whose events are due at once, and all that it tells.
type bench struct {
	*Intake
	registry *prometheus.Registry
	log      *log
}

func newBench(t testing.TB, pairs ...string) *bench {
	t.Helper()
	b := &bench{registry: prometheus.NewRegistry(), log: &log{}}
	b.Intake = NewIntake(IntakeOptions{
		Queue:   NewQueue(QueueOptions{Debounce: time.Nanosecond, RetryWait: time.Nanosecond, MaxRetryWait: time.Millisecond}),
		Router:  router(t, pairs...),
		Metrics: b.registry, Logger: slog.New(slog.NewTextHandler(b.log, nil)),
	})
	return b
}

// metric gives the value of a metric whose labels have these values, in the order of their names; 0 where it is not told.
func (b *bench) metric(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	families, err := b.registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && labelled(m, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

func labelled(m *dto.Metric, values []string) bool {
	for i, l := range m.GetLabel() {
		if l.GetValue() != values[i] {
			return false
		}
	}
	return true
}

// events gives how many events of a source had an outcome.
func (b *bench) events(t testing.TB, source, outcome string) int {
	t.Helper()
	return int(b.metric(t, "twofold_sync_events_total", outcome, source))
}

// next gives the next trigger.
func (b *bench) next(t testing.TB) Trigger {
	t.Helper()
	trigger, err := b.queue.Next(t.Context())
	require.NoError(t, err)
	return trigger
}

// eventually waits until something holds. It gives up after a time that no machine is so slow to need.
func eventually(t testing.TB, holds func() bool, what string, args ...any) {
	t.Helper()
	for begun := time.Now(); !holds(); <-time.After(2 * time.Millisecond) {
		if time.Since(begun) > time.Minute {
			t.Fatalf("it never came to this: "+what, args...)
		}
	}
}

// log is what was logged.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
