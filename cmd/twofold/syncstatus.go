package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/syncer"
)

// syncStatus is how the last run of each view went, for /readyz and /metrics.
type syncStatus struct {
	registry *prometheus.Registry
	now      func() time.Time
	rows     *prometheus.CounterVec
	failures *prometheus.CounterVec
	seconds  *prometheus.HistogramVec

	mu    sync.Mutex
	views map[string]*viewStatus
}

// viewStatus is what is known of one view.
type viewStatus struct {
	// problem says why the view is not well; "" where it is.
	problem string
	// good is the start of the last run that succeeded, lag how far the newest row was behind the clock then.
	good time.Time
	lag  time.Duration
	// newest is the event time of the newest row that was carried; the zero time where there was none.
	newest time.Time
	// entities is how many the last run found that had something to carry; −1 where there was no such run.
	entities int64
}

// The metrics of a view that are worked out when they are asked for.
var (
	syncFreshness = viewMetric("twofold_sync_freshness_seconds", "Age of the newest row of a feature view that was carried: now less its event time.")
	syncGoodAt    = viewMetric("twofold_sync_last_success_timestamp_seconds", "When the last successful sync run of a feature view started, seconds since the Unix epoch.")
	syncGoodAge   = viewMetric("twofold_sync_last_success_age_seconds", "Time since the start of the last successful sync run of a feature view.")
	syncLag       = viewMetric("twofold_sync_lag_seconds", "How far the newest row of the last successful run was behind the clock when the run started.")
	syncEntities  = viewMetric("twofold_sync_entities", "Entities for which the last successful run that read files found a row to carry: all of them, or those of new files.")
)

func viewMetric(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, []string{"feature_view"}, nil)
}

// newSyncStatus returns a status whose metrics are in registry, by a clock.
func newSyncStatus(registry *prometheus.Registry, now func() time.Time) *syncStatus {
	s := &syncStatus{
		registry: registry, now: now,
		rows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_sync_rows_total",
			Help: "Rows of sync runs, by feature view and what became of them (read, pruned, bad, future, superseded, forgotten, written, older, unchanged, expired).",
		}, []string{"feature_view", "outcome"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_sync_failures_total", Help: "Sync runs that failed, by feature view.",
		}, []string{"feature_view"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "twofold_sync_duration_seconds", Help: "How long sync runs took.", Buckets: prometheus.ExponentialBuckets(.01, 4, 9),
		}, []string{"feature_view"}),
		views: map[string]*viewStatus{},
	}
	registry.MustRegister(s.rows, s.failures, s.seconds, s)
	return s
}

// Describe implements prometheus.Collector.
func (s *syncStatus) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{syncFreshness, syncGoodAt, syncGoodAge, syncLag, syncEntities} {
		descs <- desc
	}
}

// Collect implements prometheus.Collector. What is not known of a view is left out.
func (s *syncStatus) Collect(out chan<- prometheus.Metric) {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, v := range s.views {
		tell := func(desc *prometheus.Desc, value float64) {
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, name)
		}
		if v.good.IsZero() {
			continue
		}
		tell(syncGoodAt, float64(v.good.UnixMilli())/1e3)
		tell(syncGoodAge, now.Sub(v.good).Seconds())
		if !v.newest.IsZero() {
			tell(syncFreshness, now.Sub(v.newest).Seconds())
			tell(syncLag, v.lag.Seconds())
		}
		if v.entities >= 0 {
			tell(syncEntities, float64(v.entities))
		}
	}
}

// expect says which views are synced from now on. Those that are new have not been yet; what is known of the others stays, and what is gone is
// not told of any longer, but for counters.
func (s *syncStatus) expect(views []*feature.View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.views
	s.views = make(map[string]*viewStatus, len(views))
	for _, view := range views {
		v, ok := before[view.Name]
		if !ok {
			v = &viewStatus{problem: "not synced yet", entities: -1}
		}
		s.views[view.Name] = v
		s.failures.WithLabelValues(view.Name)
	}
}

// rowOutcomes are the counts of a run by what became of the rows.
func rowOutcomes(r syncer.Report) map[string]int64 {
	return map[string]int64{
		"read": r.RowsRead, "pruned": r.RowsPruned, "bad": r.RowsBad.Total(), "future": r.RowsFuture, "superseded": r.RowsSuperseded, "forgotten": r.RowsForgotten, "other_shards": r.RowsOtherShards,
		"written": r.Written, "older": r.Older, "unchanged": r.Unchanged, "expired": r.RowsExpired + r.Expired,
	}
}

// add records a run. One that was stopped, or left to another process, says nothing about the view.
func (s *syncStatus) add(r syncer.Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for outcome, rows := range rowOutcomes(r) {
		s.rows.WithLabelValues(r.View, outcome).Add(float64(max(0, rows)))
	}
	if r.Outcome == twofoldv1.SyncOutcome_SYNC_OUTCOME_LEASED || r.Outcome == twofoldv1.SyncOutcome_SYNC_OUTCOME_STOPPED {
		return
	}
	s.seconds.WithLabelValues(r.View).Observe(r.Elapsed.Seconds())
	if r.Err != nil {
		s.failures.WithLabelValues(r.View).Inc()
	}
	v := s.views[r.View]
	switch {
	case v == nil: // its definition went while it was carried
	case r.Err != nil:
		v.problem = r.Err.Error()
	default:
		v.problem, v.good, v.lag = "", r.Started, r.Lag()
		// Of mode INCREMENTAL a run tells of what it has carried itself, and the rows of earlier ones stay.
		if nothingNew := r.Outcome == twofoldv1.SyncOutcome_SYNC_OUTCOME_NOTHING_NEW; nothingNew || r.Generation != 0 || r.Newest.After(v.newest) {
			v.newest = r.Newest
		}
		if r.Outcome != twofoldv1.SyncOutcome_SYNC_OUTCOME_NOTHING_NEW {
			v.entities = r.Entities
		}
	}
}

// unready says which views are not well, "" where all are.
func (s *syncStatus) unready() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	for name, v := range s.views {
		if v.problem != "" {
			lines = append(lines, name+": "+v.problem)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// handler serves /healthz, /readyz and /metrics, and what else is given by its path.
func (s *syncStatus) handler(others map[string]http.Handler) http.Handler {
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if text := s.unready(); text != "" {
			http.Error(w, "not ready: "+text, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	for path, handler := range others {
		mux.Handle(path, handler)
	}
	return mux
}
