package breaker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

// errDoesNotCount is the outcome of a call that tells nothing about the store.
var errDoesNotCount = errors.New("does not count")

// Gate is one circuit. Its methods may be called by many goroutines at once.
type Gate struct {
	breaker *Breaker
	name    string
	circuit *gobreaker.TwoStepCircuitBreaker[struct{}]
	asked   atomic.Int64 // when a call was last made while the circuit was not closed, nanoseconds since the Unix epoch

	inRow   atomic.Int64            // failures since the last call that went well, however long ago
	why     string                  // the circuit opens; set and read with its lock held
	failure atomic.Pointer[string]  // the last
	opening atomic.Pointer[opening] // the last; nil before the first
}

// opening is why and since when a circuit is open.
type opening struct {
	since, until time.Time
	why, cause   string
}

// OpenError says that a call was not made, because earlier ones failed. It is wrapped in a fault.Error of kind fault.Unavailable.
type OpenError struct {
	// Name says what was not asked.
	Name string
	// Since is when the circuit opened.
	Since time.Time
	// Why is the rule that opened it, and Cause the error of the last call before.
	Why, Cause string

	until    time.Time
	interval time.Duration
}

// Error says since when and why the store is not asked.
func (e *OpenError) Error() string {
	return fmt.Sprintf("%s is not asked since %s, because %s, the last with: %s; it is tried again every %v",
		e.Name, e.Since.UTC().Format(time.RFC3339), e.Why, e.Cause, e.interval)
}

// RetryAfter is how long it takes until the store is tried again, at least a tenth of the interval.
func (e *OpenError) RetryAfter() time.Duration {
	return max(time.Until(e.until), e.interval/10)
}

// Do makes a call unless the circuit is open; then it returns an error that wraps an *OpenError. The error of the call, nil where it
// went well, decides what the circuit learns from it; see the package's documentation.
func (g *Gate) Do(ctx context.Context, call func(context.Context) error) (err error) {
	p, err := g.enter()
	if err != nil {
		return err
	}
	defer func() { p.leave(ctx, err) }()
	return call(ctx)
}

// pass is one call that was let through.
type pass struct {
	gate  *Gate
	done  func(error)
	begun time.Time
}

// enter asks for a call to be let through. Whoever gets a pass calls leave.
func (g *Gate) enter() (pass, error) {
	done, err := g.circuit.Allow()
	now := time.Now()
	if err == nil {
		return pass{gate: g, done: done, begun: now}, nil
	}
	g.asked.Store(now.UnixNano())
	g.breaker.rejected.Add(1)
	o := g.opening.Load()
	return pass{}, &fault.Error{Kind: fault.Unavailable, Err: &OpenError{
		Name: g.name, Since: o.since, Why: o.why, Cause: o.cause, until: o.until, interval: g.breaker.o.ProbeInterval,
	}}
}

// leave tells the circuit what became of the call.
func (p pass) leave(ctx context.Context, err error) {
	outcome, g := p.outcome(ctx, err), p.gate
	switch {
	case errors.Is(outcome, errDoesNotCount):
	case outcome == nil:
		if g.inRow.Load() != 0 {
			g.inRow.Store(0)
		}
	default:
		text := outcome.Error()
		g.failure.Store(&text)
		g.inRow.Add(1)
		g.asked.Store(time.Now().UnixNano())
	}
	p.done(outcome)
}

// outcome returns nil for a call that shows that the store answers, errDoesNotCount for one that shows nothing, else its error.
func (p pass) outcome(ctx context.Context, err error) error {
	if err == nil || fault.KindOf(err) != fault.Unavailable {
		return nil
	}
	if _, ok := errors.AsType[*driver.PartialError](err); ok {
		return nil
	}
	if _, ok := errors.AsType[*OpenError](err); ok {
		return errDoesNotCount // nobody was asked: another circuit is open
	}
	if errors.Is(ctx.Err(), context.Canceled) || p.inHurry(ctx) {
		return errDoesNotCount
	}
	return err
}

// inHurry reports whether the call ended because its caller had given it less time than Options.Patience. The time is over a little before
// the deadline: the sockets of a driver may tell first.
func (p pass) inHurry(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	patience := p.gate.breaker.o.Patience
	return ok && deadline.Sub(p.begun) < patience && time.Until(deadline) < patience/10
}
