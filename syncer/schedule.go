package syncer

import (
	"context"
	"reflect"
	"sync"
	"time"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
)

// firstRetry is how long a failed run waits before it is tried again; the wait doubles with each failure in a row, up to the
// view's interval.
const firstRetry = 5 * time.Second

// Run syncs every view at once and then on its own interval, counted from the start of one run to the start of the next,
// until ctx is done; then it lets the run under way stop and returns nil. A failed run is tried again sooner. One run is under way at a time, so
// that memory stays that of one view.
func (s *Syncer) Run(ctx context.Context) error {
	schedule := &schedule{syncer: s, views: map[string]scheduled{}}
	defer schedule.group.Wait()
	for {
		current := s.definitions.Load()
		schedule.replace(ctx, syncedViews(current.registry))
		select {
		case <-ctx.Done():
			return nil
		case <-current.replaced:
		}
	}
}

// schedule is the views that one Run repeats.
type schedule struct {
	syncer *Syncer
	views  map[string]scheduled
	// running is held by the one run that is under way.
	running sync.Mutex
	group   sync.WaitGroup
}

// scheduled is a view that is repeated until it is stopped.
type scheduled struct {
	view *feature.View
	stop context.CancelFunc
}

// replace repeats these views from now on. A view that is as it was is left alone.
func (s *schedule) replace(ctx context.Context, views []*feature.View) {
	byName := make(map[string]*feature.View, len(views))
	for _, view := range views {
		byName[view.Name] = view
	}
	for name, old := range s.views {
		if !reflect.DeepEqual(old.view, byName[name]) {
			old.stop()
			delete(s.views, name)
		}
	}
	for _, view := range views {
		if _, ok := s.views[view.Name]; ok {
			continue
		}
		until, stop := context.WithCancel(ctx)
		s.views[view.Name] = scheduled{view, stop}
		s.group.Go(func() { s.syncer.repeat(ctx, until, view, &s.running) })
	}
}

// repeat runs one view until the second context is done, which ends no run, or the first, which does.
func (s *Syncer) repeat(ctx, until context.Context, view *feature.View, running *sync.Mutex) {
	failures := 0
	for pause := time.Duration(0); s.sleep(until, view, pause, failures); {
		running.Lock()
		if until.Err() != nil {
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

// lost reports whether the store has lost a view that was synced, or was filled since by a syncer that has it defined in another way. A store
// that does not answer has lost nothing yet.
func (s *Syncer) lost(ctx context.Context, view *feature.View) bool {
	states, _, err := s.o.Online.SyncStates(ctx, []*feature.View{view})
	if err != nil || states[0] == online.Synced {
		return false
	}
	s.o.Logger.WarnContext(ctx, "the online store has lost this view's rows, or another syncer has carried them by another definition; carrying them again now",
		"feature_view", view.Name)
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
