// Package breaker keeps callers from waiting for an online store that does not answer: while it is sick, calls fail at once, and now and
// then one is let through to find out whether it is well again.
//
// # What counts
//
// A call has failed where it gave nothing and its error is of kind fault.Unavailable: refused, not answered in time, no connection to be had.
// Every other call shows that the store answers: one without an error, one that read some rows (driver.PartialError), one that the
// store refused (wrong password, out of memory) or whose rows are damaged.
//
// A call does not count at all where its caller cancelled it, or gave it less time than Options.Patience and got no answer: that tells
// about the caller. A caller's deadline that passes later than that is a failure, because nothing else is seen of a frozen store.
//
// # When it opens, and when it closes
//
// A circuit opens after Options.Failures failures in a row, or when Options.FailurePercent of at least 20 calls in the last 10 s failed. It is
// open for Options.ProbeInterval; then one call at a time is let through, and the first that does not fail closes it. A
// failure opens it for another ProbeInterval. No goroutine runs for this: whoever asks next is the probe, be it the server's own check of its health.
//
// # One circuit, or one for each node
//
// Breaker.Driver puts one circuit in front of a whole store. Where a store has nodes that fail on their own, as a Redis Cluster has,
// it is given a circuit for each of them (Breaker.Gate), so that a lost node costs nobody time who asks for keys of the others.
package breaker

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sony/gobreaker/v2"
)

const (
	// window is how far back calls count.
	window = 10 * time.Second
	// leastCalls is how many calls a share of failures needs to say anything.
	leastCalls = 20
	// forgotten is how long after its last call the circuit of a node is still told in the metrics: nodes come and go.
	forgotten = time.Minute
)

// Options configure a Breaker.
type Options struct {
	// Failures is how many failures in a row open a circuit. Defaults to 10.
	Failures int
	// FailurePercent is the share of failures among the calls of the last 10 s, at least 20 of them, that opens a circuit; 1 to 100. Defaults to 50.
	FailurePercent int
	// ProbeInterval is how long an open circuit lets nobody through. Defaults to 1 s.
	ProbeInterval time.Duration
	// Patience is the least time that a call must have been given for its deadline to count as a failure. Defaults to 50 ms.
	Patience time.Duration
	// Logger is told when a circuit opens and closes. Defaults to slog.Default().
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.Failures <= 0 {
		o.Failures = 10
	}
	if o.FailurePercent <= 0 {
		o.FailurePercent = 50
	}
	if o.ProbeInterval <= 0 {
		o.ProbeInterval = time.Second
	}
	if o.Patience <= 0 {
		o.Patience = 50 * time.Millisecond
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// Breaker makes circuits that behave alike and are counted together. It is a prometheus.Collector.
type Breaker struct {
	o        Options
	opened   atomic.Uint64
	rejected atomic.Uint64

	mu   sync.Mutex
	sick map[*Gate]struct{} // those that are not closed
}

// New returns a Breaker.
func New(o Options) *Breaker {
	return &Breaker{o: o.withDefaults(), sick: map[*Gate]struct{}{}}
}

// Gate returns a new closed circuit; name says in errors and in the log what is behind it: "Redis 10.0.0.7:6379".
func (b *Breaker) Gate(name string) *Gate {
	g := &Gate{breaker: b, name: name}
	g.circuit = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Interval: window, BucketPeriod: window / 10, Timeout: b.o.ProbeInterval,
		ReadyToTrip: g.trips, OnStateChange: g.changed,
		IsSuccessful: func(err error) bool { return err == nil },
		IsExcluded:   func(err error) bool { return errors.Is(err, errDoesNotCount) },
	})
	return g
}

// trips decides, after a failure, whether the circuit opens, and says why.
func (g *Gate) trips(c gobreaker.Counts) bool {
	o, calls, inRow := &g.breaker.o, c.TotalSuccesses+c.TotalFailures, g.inRow.Load()
	switch {
	case inRow >= int64(o.Failures):
		g.why = fmt.Sprintf("%d calls in a row failed", inRow)
	case calls >= leastCalls && uint64(c.TotalFailures)*100 >= uint64(calls)*uint64(o.FailurePercent):
		g.why = fmt.Sprintf("%d of %d calls failed within %v", c.TotalFailures, calls, window)
	default:
		return false
	}
	return true
}

// changed is called with the circuit's lock held.
func (g *Gate) changed(_ string, from, to gobreaker.State) {
	b, now := g.breaker, time.Now()
	switch {
	case to == gobreaker.StateOpen:
		opening := &opening{since: now, until: now.Add(b.o.ProbeInterval), why: g.why, cause: *g.failure.Load()}
		if from == gobreaker.StateHalfOpen {
			first := g.opening.Load()
			opening.since, opening.why, opening.cause = first.since, first.why, first.cause
			g.opening.Store(opening)
			return
		}
		g.opening.Store(opening)
		b.opened.Add(1)
		b.setSick(g, true)
		b.o.Logger.Warn("online store: calls fail at once until it answers again", "store", g.name, "because", opening.why, "last_error", opening.cause,
			"tried_every", b.o.ProbeInterval)
	case to == gobreaker.StateClosed:
		b.setSick(g, false)
		b.o.Logger.Info("online store: it answers again", "store", g.name, "after", now.Sub(g.opening.Load().since).Round(time.Millisecond))
	}
}

func (b *Breaker) setSick(g *Gate, sick bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if sick {
		b.sick[g] = struct{}{}
	} else {
		delete(b.sick, g)
	}
}

var (
	descState = prometheus.NewDesc("twofold_online_store_breaker_state",
		"Whether calls reach the online store: 0 all do, 1 one at a time does to find out whether it answers again, 2 none does. In a Redis Cluster, that of the node that is worst off.", nil, nil)
	descRejected = prometheus.NewDesc("twofold_online_store_breaker_rejected_total",
		"Calls of the online store that failed at once because it had not answered others.", nil, nil)
	descOpened = prometheus.NewDesc("twofold_online_store_breaker_opened_total",
		"Times that the online store, or a node of it, was found not to answer and calls began to fail at once.", nil, nil)
)

var _ prometheus.Collector = (*Breaker)(nil)

// Describe implements prometheus.Collector.
func (b *Breaker) Describe(out chan<- *prometheus.Desc) {
	out <- descState
	out <- descRejected
	out <- descOpened
}

// Collect implements prometheus.Collector.
func (b *Breaker) Collect(out chan<- prometheus.Metric) {
	out <- prometheus.MustNewConstMetric(descState, prometheus.GaugeValue, float64(b.worst()))
	out <- prometheus.MustNewConstMetric(descRejected, prometheus.CounterValue, float64(b.rejected.Load()))
	out <- prometheus.MustNewConstMetric(descOpened, prometheus.CounterValue, float64(b.opened.Load()))
}

// worst returns the state of the circuit that is worst off; those that nobody has asked for long are forgotten.
func (b *Breaker) worst() (state gobreaker.State) {
	b.mu.Lock()
	gates := make([]*Gate, 0, len(b.sick))
	for g := range b.sick {
		if time.Since(time.Unix(0, g.asked.Load())) > forgotten {
			delete(b.sick, g)
		} else {
			gates = append(gates, g)
		}
	}
	b.mu.Unlock()
	for _, g := range gates { // without the lock: asking for a state may change it
		state = max(state, g.circuit.State())
	}
	return state
}
