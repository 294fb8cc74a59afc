package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/twofold-ml/twofold/internal/definition"
	"github.com/twofold-ml/twofold/internal/fault"
)

// settleTime is the time between the look that finds other definitions and the one that takes them, where they are the same still: files are
// copied one after the other, and written piece by piece.
const settleTime = 500 * time.Millisecond

// maxLoggedLines bounds how many lines one reload logs about problems, and about changes.
const maxLoggedLines = 100

// reloader looks at the definitions of a process again, when it is asked to by SIGHUP and on an interval, and has others taken. Those that
// cannot be used change nothing.
type reloader struct {
	process *process
	// take makes the process go by other definitions.
	take    func(context.Context, *definition.Set) error
	signals chan os.Signal
	metrics *reloadMetrics

	// current is what the process goes by.
	current *definition.Set
	// judged is the content that was taken, or refused, last; refused is why.
	judged  [sha256.Size]byte
	refused error
	// settling is other content that has been seen once.
	settling [sha256.Size]byte
	// unread says why the last look failed; empty where it did not.
	unread string
}

// catchReloads makes SIGHUP a wish to reload, which is kept until somebody reads it. It is called before anything takes time, because the
// signal ends a process that does not catch it. The caller stops it.
func catchReloads() (signals chan os.Signal, stop func()) {
	signals = make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	return signals, func() { signal.Stop(signals) }
}

// newReloader returns the reloader of a process that goes by set, which p.definitions has read.
func (p *process) newReloader(set *definition.Set, signals chan os.Signal, registry *prometheus.Registry, take func(context.Context, *definition.Set) error) *reloader {
	r := &reloader{process: p, take: take, signals: signals, metrics: newReloadMetrics(registry), current: set, judged: p.sum}
	r.metrics.taken(set.Hash())
	return r
}

// run reloads until ctx is done.
func (r *reloader) run(ctx context.Context) {
	interval := r.process.config.DefinitionsReloadInterval
	timer := time.NewTimer(interval)
	defer timer.Stop()
	if interval == 0 {
		timer.Stop()
	}
	for {
		var settled bool
		select {
		case <-ctx.Done():
			return
		case <-r.signals:
			r.process.log.Info("SIGHUP: reading the definitions again", "from", r.process.source.String())
			settled = r.look(ctx, true)
		case <-timer.C:
			settled = r.look(ctx, false)
		}
		if interval == 0 {
			continue
		}
		pause := interval
		if !settled {
			pause = min(interval, settleTime)
		}
		timer.Reset(pause)
	}
}

// look reads the definitions and takes them where they are others. Unless somebody asked for it, content must have been seen twice before it is
// taken, and what was told is not told again. It reports false where content was seen for the first time.
func (r *reloader) look(ctx context.Context, asked bool) (settled bool) {
	found, err := r.process.source.content(ctx)
	if ctx.Err() != nil {
		return true
	}
	if err != nil {
		r.unreadable(err, asked)
		return true
	}
	sum := found.sum()
	switch {
	case asked:
	case sum == r.judged:
		r.readable()
		return true
	case sum != r.settling && found.published == nil:
		r.settling = sum
		return false
	}
	r.unread = ""
	r.judge(ctx, found, sum)
	return true
}

// unreadable tells, once, that the definitions cannot be read.
func (r *reloader) unreadable(err error, asked bool) {
	// The text of a failed connection differs each time.
	why, away := err.Error(), fault.KindOf(err) == fault.Unavailable || errors.Is(err, context.DeadlineExceeded)
	if away {
		why = fault.Unavailable.String()
	}
	if why == r.unread && !asked {
		return
	}
	r.unread = why
	if away && !asked {
		r.process.log.Warn("the definitions cannot be looked at; those that were read before stay in force", "from", r.process.source.String(), "error", err)
		return
	}
	r.metrics.failed()
	r.process.log.Error("definitions reload failed; those that were read before stay in force", "from", r.process.source.String(), "error", err)
}

// readable tells that the definitions that were taken or refused before can be read again.
func (r *reloader) readable() {
	r.settling = [sha256.Size]byte{}
	if r.unread == "" {
		return
	}
	r.unread = ""
	r.process.log.Info("the definitions can be read again, and are as they were", "from", r.process.source.String())
	if r.refused == nil {
		r.metrics.taken(r.current.Hash())
	}
}

// judge takes or refuses definitions.
func (r *reloader) judge(ctx context.Context, found content, sum [sha256.Size]byte) {
	set, err := found.parse(r.process.defaults())
	if err == nil {
		err = r.take(ctx, set)
	}
	r.judged, r.refused, r.settling = sum, err, [sha256.Size]byte{}
	if err != nil {
		r.metrics.failed()
		r.logRefusal(err)
		return
	}
	r.metrics.succeeded(set.Hash())
	r.logTaken(r.current, set)
	r.current = set
}

// logRefusal logs every problem on a line of its own.
func (r *reloader) logRefusal(err error) {
	log, from := r.process.log, r.process.source.String()
	problems, ok := errors.AsType[*definition.ProblemsError](err)
	if !ok {
		log.Error("definitions reload failed; those that were read before stay in force", "from", from, "error", err)
		return
	}
	log.Error("definitions reload failed; those that were read before stay in force", "from", from, "problems", len(problems.Problems), "hash_in_force", r.current.Hash())
	for i, problem := range problems.Problems {
		if i == maxLoggedLines {
			log.Error("definitions: there are more problems; `twofold lint` prints them all", "more", len(problems.Problems)-i)
			return
		}
		logProblem(log, slog.LevelError, problem)
	}
}

// logTaken logs what has changed. A change that fails requests or models that worked before is a warning.
func (r *reloader) logTaken(old, set *definition.Set) {
	log, from := r.process.log, r.process.source.String()
	if old.Hash() == set.Hash() {
		log.Info("definitions read again; nothing is defined in another way", "from", from, "hash", set.Hash())
		return
	}
	changes := definition.Diff(old, set)
	logged := 0
	for _, change := range changes {
		if change.Breaking {
			log.Warn("definitions: breaking change", "change", change.String())
		} else if logged++; logged <= maxLoggedLines {
			log.Info("definitions: change", "change", change.String())
		}
	}
	for _, problem := range set.Warnings {
		logProblem(log, slog.LevelWarn, problem)
	}
	registry := set.Registry
	log.Info("definitions reloaded", "from", from, "changes", len(changes), "entities", len(registry.Entities()), "feature_views", len(registry.Views()),
		"feature_services", len(registry.Services()), "hash", set.Hash(), "hash_before", old.Hash())
}

// reloadMetrics tell which definitions are in force, and whether they are those that should be.
type reloadMetrics struct {
	last    prometheus.Gauge
	when    prometheus.Gauge
	reloads *prometheus.CounterVec
	info    *prometheus.GaugeVec
	hash    string
}

func newReloadMetrics(registry *prometheus.Registry) *reloadMetrics {
	m := &reloadMetrics{
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "twofold_definitions_last_reload_successful", Help: "Whether the definitions were well when they were last read: 1, or 0 where older ones stay in force.",
		}),
		when: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "twofold_definitions_last_reload_success_timestamp_seconds", Help: "When definitions were last read and found well, seconds since the Unix epoch.",
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_definitions_reloads_total", Help: "Reloads of definitions that had changed or that SIGHUP asked for, by result (success, failure).",
		}, []string{"result"}),
		info: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "twofold_definitions_info", Help: "1 for the definitions in force, by their hash.",
		}, []string{"hash"}),
	}
	for _, result := range []string{"success", "failure"} {
		m.reloads.WithLabelValues(result)
	}
	registry.MustRegister(m.last, m.when, m.reloads, m.info)
	return m
}

// failed counts a reload that changed nothing.
func (m *reloadMetrics) failed() {
	m.last.Set(0)
	m.reloads.WithLabelValues("failure").Inc()
}

// succeeded counts a reload.
func (m *reloadMetrics) succeeded(hash string) {
	m.taken(hash)
	m.reloads.WithLabelValues("success").Inc()
}

// taken records which definitions are in force and that they are well.
func (m *reloadMetrics) taken(hash string) {
	m.last.Set(1)
	m.when.SetToCurrentTime()
	if m.hash != hash {
		m.info.DeleteLabelValues(m.hash)
		m.info.WithLabelValues(hash).Set(1)
		m.hash = hash
	}
}
