package syncer

import (
	"context"
	"sync"
	"time"

	"github.com/twofold-ml/twofold/internal/feature"
)

// firstRetry is how long a failed run waits before it is tried again; the wait doubles with each failure in a row, up to the
// view's interval.
const firstRetry = 5 * time.Second

// Run syncs every view at once and then on its own interval, counted from the start of one run to the start of the next,
// until ctx is done; then it lets the run under way stop and returns nil. A failed run is tried again sooner. One run is under way at a time, so
// that memory stays that of one view.
func (s *Syncer) Run(ctx context.Context) error {
	views, err := s.Views()
	if err != nil {
		return err
	}
	var running sync.Mutex
	var group sync.WaitGroup
	for _, view := range views {
		group.Go(func() { s.repeat(ctx, view, &running) })
	}
	group.Wait()
	return nil
}

// repeat runs one view until ctx is done.
func (s *Syncer) repeat(ctx context.Context, view *feature.View, running *sync.Mutex) {
	failures := 0
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		running.Lock()
		if ctx.Err() != nil {
			running.Unlock()
			return
		}
		report := s.SyncView(ctx, view)
		running.Unlock()
		if report.Err != nil {
			failures++
		} else {
			failures = 0
		}
		timer.Reset(wait(view.Sync.Interval, report.Elapsed, failures))
	}
}

// wait is the time from the end of a run to the start of the next.
func wait(interval, elapsed time.Duration, failures int) time.Duration {
	if failures > 0 {
		backoff := firstRetry << min(failures-1, 20)
		return min(backoff, interval)
	}
	return max(0, interval-elapsed)
}
