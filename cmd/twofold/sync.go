package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/config"
	"github.com/twofold-ml/twofold/internal/definition"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/syncer"
)

func (a *app) syncCommand() *cobra.Command {
	var once, full bool
	var views []string
	cmd := &cobra.Command{
		Use:   "sync",
		Short: "Carry features from the offline store to the online store",
		Long: `For each feature view, finds the newest row of every entity and writes those rows to the online store, newest wins, so
that a run may be repeated or race with another. Each run reports what became of every row.

Without --once it runs every view on its interval until it is stopped, takes definitions that change without a restart (at once on SIGHUP), and serves /healthz, /readyz (ready when the
last run of every view succeeded) and /metrics over HTTP on :7072. With --once it runs every view once, prints one line
a view, and exits with an error if one failed (3 where a store cannot be reached, else 1): for a CronJob or a pipeline.`,
		Example: `  twofold sync
  twofold sync --once
  twofold sync --once --view weather --view carrier_delays`,
		GroupID: groupServe,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(views) > 0 && !once {
				return usagef(cmd, "--view goes with --once")
			}
			if full && !once {
				return usagef(cmd, "--full goes with --once")
			}
			loaded, err := a.load(cmd)
			if err != nil {
				return err
			}
			if loaded.Source("http_address") == config.FromDefault {
				loaded.HTTPAddress = config.SyncHTTPAddress
			}
			return a.sync(cmd.Context(), loaded.Config, once, full, views)
		},
	}
	config.AddFlags(cmd.Flags())
	cmd.Flags().BoolVar(&once, "once", false, "sync every view once and exit")
	cmd.Flags().BoolVar(&full, "full", false, "with --once: carry every file again, also those that have not changed")
	cmd.Flags().StringSliceVar(&views, "view", nil, "with --once: only these feature `views`")
	cmd.AddCommand(a.rollbackCommand())
	return cmd
}

func (a *app) sync(ctx context.Context, c config.Config, once, full bool, views []string) error {
	var signals chan os.Signal
	if !once {
		var stop func()
		signals, stop = catchReloads()
		defer stop()
	}
	p, err := a.open(ctx, c)
	if err != nil {
		return err
	}
	defer p.close()
	set, err := p.definitions(ctx)
	if err != nil {
		return err
	}
	p.greet(ctx, set)
	if once && c.Log.Level != "debug" {
		p.log = p.quiet() // each run that succeeds has its line on standard output
	}
	metrics := prometheus.NewRegistry()
	if p.breaker != nil {
		metrics.MustRegister(p.breaker)
	}
	status := newSyncStatus(metrics)
	s, err := p.newSyncer(set, status)
	if err != nil {
		return err
	}
	if once {
		return a.syncOnce(ctx, s, full, views)
	}
	reloader := p.newReloader(set, signals, status.registry, func(_ context.Context, set *definition.Set) error {
		return reloadSyncer(s, status, set)
	})
	return p.syncUntilDone(ctx, s, status, reloader)
}

// reloadSyncer makes a syncer go by other definitions.
func reloadSyncer(s *syncer.Syncer, status *syncStatus, set *definition.Set) error {
	s.Reload(set.Registry)
	views, err := s.Views()
	if err == nil {
		status.expect(views)
	}
	return err
}

// newSyncer returns a syncer that reports to status.
func (p *process) newSyncer(set *definition.Set, status *syncStatus) (*syncer.Syncer, error) {
	s, err := syncer.New(syncer.Options{
		Registry: set.Registry, Online: p.online, Offline: p.offline, Now: p.now, Logger: p.log, OnReport: status.add,
	})
	if err != nil {
		return nil, err
	}
	all, err := s.Views()
	if err != nil {
		return nil, err
	}
	status.expect(all)
	return s, nil
}

// syncOnce runs the views once and prints a line for each.
func (a *app) syncOnce(ctx context.Context, s *syncer.Syncer, full bool, views []string) error {
	reports, err := s.RunOnce(ctx, syncer.Request{Trigger: twofoldv1.SyncTrigger_SYNC_TRIGGER_START, Full: full, Wait: true}, views...)
	for _, report := range reports {
		if report.Err == nil {
			fmt.Fprintln(a.out, report)
		}
	}
	return err
}

// syncUntilDone runs every view on its interval, reloads definitions, and serves health and metrics, until ctx is done.
func (p *process) syncUntilDone(ctx context.Context, s *syncer.Syncer, status *syncStatus, reloader *reloader) error {
	listener, err := listen(p.config.HTTPAddress, "http-address")
	if err != nil {
		return err
	}
	p.log.Info("syncing", "http", listener.Addr().String())
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	h := &http.Server{Handler: status.handler(), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() {
		err := h.Serve(listener)
		if !errors.Is(err, http.ErrServerClosed) {
			stop()
		}
		failed <- err
	}()
	var reloads sync.WaitGroup
	reloads.Go(func() { reloader.run(ctx) })
	err = s.Run(ctx)
	reloads.Wait()
	_ = h.Close() // what it answers now helps nobody
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("HTTP server: %w", served))
	}
	p.log.Info("stopped")
	return err
}

// syncStatus is how the last run of each view went, for /readyz and /metrics.
type syncStatus struct {
	registry *prometheus.Registry
	rows     *prometheus.CounterVec
	failures *prometheus.CounterVec
	last     *prometheus.GaugeVec
	lag      *prometheus.GaugeVec
	seconds  *prometheus.HistogramVec

	mu     sync.Mutex
	states map[string]string // by view; "" is well
}

// newSyncStatus returns a status whose metrics are in registry.
func newSyncStatus(registry *prometheus.Registry) *syncStatus {
	view := []string{"feature_view"}
	s := &syncStatus{
		registry: registry,
		rows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_sync_rows_total",
			Help: "Rows of sync runs, by feature view and what became of them (read, pruned, bad, future, superseded, written, older, unchanged, expired).",
		}, []string{"feature_view", "outcome"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_sync_failures_total", Help: "Sync runs that failed, by feature view.",
		}, view),
		last: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "twofold_sync_last_success_timestamp_seconds", Help: "When the last successful sync run of a feature view started, seconds since the Unix epoch.",
		}, view),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "twofold_sync_lag_seconds", Help: "How far the newest row of the last successful run was behind the clock.",
		}, view),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "twofold_sync_duration_seconds", Help: "How long sync runs took.", Buckets: prometheus.ExponentialBuckets(.01, 4, 9),
		}, view),
		states: map[string]string{},
	}
	registry.MustRegister(s.rows, s.failures, s.last, s.lag, s.seconds)
	return s
}

// expect says which views are synced from now on. Those that are new have not been yet; what is known of the others stays, and what is gone is
// not told of any longer, but for counters.
func (s *syncStatus) expect(views []*feature.View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.states
	s.states = make(map[string]string, len(views))
	for _, view := range views {
		state, ok := before[view.Name]
		if !ok {
			state = "not synced yet"
		}
		s.states[view.Name] = state
		s.failures.WithLabelValues(view.Name)
		delete(before, view.Name)
	}
	for gone := range before {
		s.last.DeleteLabelValues(gone)
		s.lag.DeleteLabelValues(gone)
	}
}

// add records a run.
func (s *syncStatus) add(r syncer.Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for outcome, rows := range map[string]int64{
		"read": r.RowsRead, "pruned": r.RowsPruned, "bad": r.RowsBad.Total(), "future": r.RowsFuture, "superseded": r.RowsSuperseded,
		"written": r.Written, "older": r.Older, "unchanged": r.Unchanged, "expired": r.RowsExpired + r.Expired,
	} {
		s.rows.WithLabelValues(r.View, outcome).Add(float64(max(0, rows)))
	}
	s.seconds.WithLabelValues(r.View).Observe(r.Elapsed.Seconds())
	if r.Err != nil {
		s.failures.WithLabelValues(r.View).Inc()
	}
	if _, expected := s.states[r.View]; !expected {
		return // its definition went while it was carried
	}
	if r.Err != nil {
		s.states[r.View] = r.Err.Error()
		return
	}
	s.states[r.View] = ""
	s.last.WithLabelValues(r.View).Set(float64(r.Started.UnixMilli()) / 1e3)
	s.lag.WithLabelValues(r.View).Set(r.Lag().Seconds())
}

// unready says which views are not well, "" where all are.
func (s *syncStatus) unready() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	for view, state := range s.states {
		if state != "" {
			lines = append(lines, view+": "+state)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// handler serves /healthz, /readyz and /metrics.
func (s *syncStatus) handler() http.Handler {
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
	return mux
}
