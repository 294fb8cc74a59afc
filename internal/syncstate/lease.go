package syncstate

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
)

// A lease says who syncs a view. Its holder counts a heartbeat up. There is no clock that all go by: who finds the same heartbeat for the whole of the lease's
// duration, by its own clock, takes the lease over, under the next number. Who held it before may still believe in it for a moment, and what it then wants to
// write down is refused: see Store.Update.

func leaseName(view string) string { return "lease/" + view }

// HeldError is the error of Acquire where somebody else holds the lease.
type HeldError struct {
	// View is the view, Holder who holds its lease.
	View, Holder string
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("feature view %q is being synced by %s", e.View, e.Holder)
}

// LeaseOptions say how a lease is taken.
type LeaseOptions struct {
	// Holder says who takes it, for people. Required.
	Holder string
	// Duration is how long after its last heartbeat others may take it over. Defaults to 15 s. Heartbeats come three times as often.
	Duration time.Duration
	// Wait waits as long as somebody else holds the lease; else that is a HeldError.
	Wait bool
}

// defaultLease is the default of LeaseOptions.Duration.
const defaultLease = 15 * time.Second

// Lease is the right to sync a view, until Release, or until it is lost.
type Lease struct {
	store    *Store
	view     string
	number   uint64
	duration time.Duration

	// held is done once the lease is.
	held   context.Context
	cancel context.CancelCauseFunc
	beat   sync.WaitGroup

	mu     sync.Mutex // guards record and stored, which the heartbeat changes
	record *twofoldv1.Lease
	stored []byte
}

// errLeaseLost is why Lease.Context is done where somebody else has taken the lease, or might have.
var errLeaseLost = errors.New("the lease was lost")

// Acquire takes the lease of a view. Where its holder has died it waits until that is certain. The lease's context is done with ctx.
func (s *Store) Acquire(ctx context.Context, view string, o LeaseOptions) (*Lease, error) {
	if o.Duration <= 0 {
		o.Duration = defaultLease
	}
	w := &waiting{store: s, view: view, o: o}
	for {
		lease, err := w.try(ctx)
		if lease != nil || err != nil {
			return lease, err
		}
		select {
		case <-ctx.Done():
			return nil, fault.New(fault.Unavailable, "wait for the lease of feature view %q: %w", view, ctx.Err())
		case <-time.After(w.pause):
		}
	}
}

// releaseTimeout bounds the giving back of a lease, which happens whatever has ended the work.
const releaseTimeout = 5 * time.Second

// During does something under the lease of a view, with the lease's context, and gives the lease back. An error of Acquire is returned as it is. Where the lease was lost meanwhile
// that is the error, rather than what came of it.
func (s *Store) During(ctx context.Context, view string, o LeaseOptions, do func(context.Context, *Lease) error) error {
	lease, err := s.Acquire(ctx, view, o)
	if err != nil {
		return err
	}
	err = do(lease.Context(), lease)
	if cause := context.Cause(lease.Context()); err != nil && ctx.Err() == nil && cause != nil {
		err = cause
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	return errors.Join(err, lease.Release(ending))
}

// waiting is what Acquire has seen so far.
type waiting struct {
	store *Store
	view  string
	o     LeaseOptions

	number, heartbeat uint64
	since             time.Time // when that heartbeat was first seen
	pause             time.Duration
}

// try takes the lease where it is free, or where its holder is dead; else it returns nil, and pause says when to try again.
func (w *waiting) try(ctx context.Context) (*Lease, error) {
	now := &twofoldv1.Lease{}
	stored, err := w.store.read(ctx, leaseName(w.view), now)
	if err != nil {
		return nil, err
	}
	if now.GetHolder() != "" && !w.isDead(now) {
		if w.beats(now) && !w.o.Wait {
			return nil, &HeldError{w.view, now.GetHolder()}
		}
		return nil, nil
	}
	states, err := w.store.States(ctx, []string{w.view}) // a server of the store may have lost the lease's record, and another have the state's
	if err != nil {
		return nil, err
	}
	next := &twofoldv1.Lease{Number: max(now.GetNumber(), states[0].GetLeaseNumber()) + 1, Holder: w.o.Holder, DurationMillis: uint64(w.o.Duration.Milliseconds()), Token: rand.Text()}
	value, err := marshal(next)
	if err != nil {
		return nil, err
	}
	swapped, err := w.store.values.SwapMeta(ctx, leaseName(w.view), stored, value)
	if err != nil {
		return nil, fmt.Errorf("take the lease of feature view %q: %w", w.view, err)
	}
	if !swapped {
		w.pause = 0 // somebody was quicker
		return nil, nil
	}
	return w.store.hold(ctx, w.view, next, value, w.o.Duration), nil
}

// isDead reports whether the heartbeat has stood still for as long as the holder said.
func (w *waiting) isDead(l *twofoldv1.Lease) bool {
	duration := time.Duration(l.GetDurationMillis()) * time.Millisecond
	if w.since.IsZero() || l.GetNumber() != w.number || l.GetHeartbeat() != w.heartbeat {
		w.pause = max(duration/5, time.Millisecond)
		return false
	}
	left := duration - time.Since(w.since)
	w.pause = min(max(left, time.Millisecond), max(duration/5, time.Millisecond))
	return left <= 0
}

// beats reports whether the heartbeat has gone on since it was last seen, and takes note of it.
func (w *waiting) beats(l *twofoldv1.Lease) bool {
	if l.GetNumber() == w.number && l.GetHeartbeat() == w.heartbeat && !w.since.IsZero() {
		return false
	}
	went := !w.since.IsZero()
	w.number, w.heartbeat, w.since = l.GetNumber(), l.GetHeartbeat(), time.Now()
	return went
}

// hold begins the heartbeat of a lease that was taken.
func (s *Store) hold(ctx context.Context, view string, record *twofoldv1.Lease, stored []byte, duration time.Duration) *Lease {
	l := &Lease{store: s, view: view, number: record.GetNumber(), duration: duration, record: record, stored: stored}
	l.held, l.cancel = context.WithCancelCause(ctx)
	l.beat.Go(l.keep)
	return l
}

// Number is the number of the lease: greater than that of any before it.
func (l *Lease) Number() uint64 { return l.number }

// Context is done once the lease is released or lost. What must not be done without the lease goes by it.
func (l *Lease) Context() context.Context { return l.held }

// keep counts the heartbeat up until the lease is done.
func (l *Lease) keep() {
	every := max(l.duration/3, time.Millisecond)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-l.held.Done():
			return
		case <-ticker.C:
		}
		begun := time.Now()
		swapped, err := l.renew(every)
		switch {
		case err == nil && swapped:
			last = begun
		case err == nil, time.Since(last) > l.duration-every:
			l.cancel(fault.New(fault.Unavailable, "feature view %q: %w: %w", l.view, errLeaseLost, ErrFenced))
			return
		}
	}
}

// renew stores the next heartbeat.
func (l *Lease) renew(patience time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(l.held, patience)
	defer cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	next := proto.CloneOf(l.record)
	next.Heartbeat++
	value, err := marshal(next)
	if err != nil {
		return false, err
	}
	swapped, err := l.store.values.SwapMeta(ctx, leaseName(l.view), l.stored, value)
	if err == nil && swapped {
		l.record, l.stored = next, value
	}
	if err != nil {
		l.relearn(ctx)
	}
	return swapped, err
}

// relearn reads the lease after a swap of which the answer was lost: it may have taken effect.
func (l *Lease) relearn(ctx context.Context) {
	now := &twofoldv1.Lease{}
	stored, err := l.store.read(ctx, leaseName(l.view), now)
	if err == nil && now.GetNumber() == l.number && now.GetToken() == l.record.GetToken() {
		l.record, l.stored = now, stored
	}
}

// Release gives the lease back, so that the next one need not wait. After it, or where the lease was lost, nothing more is to be done.
func (l *Lease) Release(ctx context.Context) error {
	lost := l.held.Err() != nil
	l.cancel(errors.New("the lease was released"))
	l.beat.Wait()
	if lost && errors.Is(context.Cause(l.held), errLeaseLost) {
		return nil
	}
	value, err := marshal(&twofoldv1.Lease{Number: l.number})
	if err != nil {
		return err
	}
	for {
		swapped, err := l.store.values.SwapMeta(ctx, leaseName(l.view), l.stored, value)
		if err != nil {
			return fmt.Errorf("give back the lease of feature view %q: %w", l.view, err)
		}
		if swapped {
			return nil
		}
		before := l.stored
		if l.relearn(ctx); bytes.Equal(l.stored, before) {
			return nil // somebody else holds it by now
		}
		// The last heartbeat, whose answer nobody waited for, has taken effect.
	}
}
