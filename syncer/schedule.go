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
	for pause := time.Duration(0); s.sleep(ctx, view, pause, failures); {
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
		pause = wait(view.Sync.Interval, report.Elapsed, failures)
	}
}

// sleep waits for the pause to pass or, after a run that did not fail, for the store to lose the view. It reports false where ctx was
// done first.
func (s *Syncer) sleep(ctx context.Context, view *feature.View, pause time.Duration, failures int) bool {
	timer, check := time.NewTimer(pause), time.NewTicker(s.o.LossCheckInterval)
	defer timer.Stop()
	defer check.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-check.C:
			if failures == 0 && s.lost(ctx, view) {
				return true
			}
		}
	}
}

// lost reports whether the store has lost a view that was synced. A store that does not answer has lost nothing yet.
func (s *Syncer) lost(ctx context.Context, view *feature.View) bool {
	unsynced, err := s.o.Online.Unsynced(ctx, []string{view.Name})
	if err != nil || len(unsynced) == 0 {
		return false
	}
	s.o.Logger.WarnContext(ctx, "the online store has lost this view's rows; carrying them again now", "feature_view", view.Name)
	return true
}

// wait is the time from the end of a run to the start of the next.
func wait(interval, elapsed time.Duration, failures int) time.Duration {
	if failures > 0 {
		backoff := firstRetry << min(failures-1, 20)
		return min(backoff, interval)
	}
	return max(0, interval-elapsed)
}
