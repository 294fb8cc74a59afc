package syncer

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"time"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/cron"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/syncstate"
)

// firstRetry is how long a failed run waits before it is tried again; the wait doubles with each failure in a row, up to the
// view's interval.
const firstRetry = 5 * time.Second

// Run syncs every view at once and then on its own interval, counted from the start of one run to the start of the next,
// until ctx is done; then it lets the run under way stop and returns nil. A failed run is tried again sooner. One run is under way at a time, so
// that memory stays that of one view.
func (s *Syncer) Run(ctx context.Context) error {
	schedule := &schedule{syncer: s, views: map[string]*scheduled{}}
	defer schedule.group.Wait()
	defer schedule.end()
	answerEvents := sync.OnceFunc(func() { schedule.group.Go(func() { schedule.answerEvents(ctx) }) })
	schedule.group.Go(func() { s.watchGone(ctx) })
	for {
		current := s.definitions.Load()
		schedule.replace(ctx, syncedViews(current.registry))
		s.schedule.Store(schedule)
		if s.o.Events != nil {
			answerEvents()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-current.replaced:
		}
	}
}

// Trigger has Run sync the named views, or all, at once. A view for which that was asked already, and not begun yet, is synced once for all who ask. With wait it
// returns when the runs have ended, with their reports, those of failed ones included.
func (s *Syncer) Trigger(ctx context.Context, r Request, wait bool, names ...string) ([]Report, error) {
	views, err := s.Views(names...)
	if err != nil {
		return nil, err
	}
	schedule := s.schedule.Load()
	if schedule == nil {
		return nil, fault.New(fault.Precondition, "this process does not sync on its own; run twofold sync without --once")
	}
	answers := make([]<-chan Report, len(views))
	for i, view := range views {
		if answers[i], err = schedule.trigger(view.Name, r); err != nil {
			return nil, err
		}
	}
	if !wait {
		return nil, nil
	}
	reports := make([]Report, len(views))
	for i, answer := range answers {
		select {
		case <-ctx.Done():
			return nil, fault.New(fault.Unavailable, "wait for the sync of feature view %q: %w", views[i].Name, ctx.Err())
		case report, ok := <-answer:
			if !ok {
				return nil, fault.New(fault.Unavailable, "feature view %q was not synced: the process is stopping, or its definition was replaced; ask again", views[i].Name)
			}
			reports[i] = report
		}
	}
	return reports, nil
}

// schedule is the views that one Run repeats.
type schedule struct {
	syncer *Syncer
	// running is held by the one run that is under way.
	running sync.Mutex
	group   sync.WaitGroup

	mu    sync.Mutex // guards views
	views map[string]*scheduled
}

// scheduled is a view that is repeated until it is stopped.
type scheduled struct {
	view *feature.View
	stop context.CancelFunc
	// woken has an element where somebody asks for a run.
	woken chan struct{}

	mu      sync.Mutex // guards what follows
	asked   Request
	waiters []chan Report
	stopped bool
}

// replace repeats these views from now on. A view that is as it was is left alone.
func (s *schedule) replace(ctx context.Context, views []*feature.View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	byName := make(map[string]*feature.View, len(views))
	for _, view := range views {
		byName[view.Name] = view
	}
	trigger := twofoldv1.SyncTrigger_SYNC_TRIGGER_START
	for name, old := range s.views {
		trigger = twofoldv1.SyncTrigger_SYNC_TRIGGER_DEFINITIONS
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
		v := &scheduled{view: view, stop: stop, woken: make(chan struct{}, 1)}
		s.views[view.Name] = v
		s.group.Go(func() {
			defer v.end()
			s.repeat(ctx, until, v, trigger)
		})
	}
}

// end takes no more requests.
func (s *schedule) end() {
	s.syncer.schedule.CompareAndSwap(s, nil)
}

// trigger asks for a run of a view; its report comes, or the channel is closed where there will be none.
func (s *schedule) trigger(name string, r Request) (<-chan Report, error) {
	s.mu.Lock()
	v := s.views[name]
	s.mu.Unlock()
	if v == nil {
		return nil, fault.New(fault.Unavailable, "feature view %q is not scheduled yet; ask again", name)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.stopped {
		return nil, fault.New(fault.Unavailable, "feature view %q was not synced: the process is stopping, or its definition was replaced; ask again", name)
	}
	answer := make(chan Report, 1)
	v.waiters = append(v.waiters, answer)
	if v.asked.Trigger == 0 {
		v.asked = r
	}
	v.asked.Full = v.asked.Full || r.Full
	select {
	case v.woken <- struct{}{}:
	default: // it is awake
	}
	return answer, nil
}

// take takes what is asked for, so that who asks from now on gets another run.
func (v *scheduled) take(r Request) (Request, []chan Report) {
	v.mu.Lock()
	defer v.mu.Unlock()
	waiters := v.waiters
	if len(waiters) > 0 {
		r = v.asked
	}
	v.waiters, v.asked = nil, Request{}
	select {
	case <-v.woken:
	default:
	}
	return r, waiters
}

// end tells all who still wait that there will be no run.
func (v *scheduled) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.stopped = true
	for _, waiter := range v.waiters {
		close(waiter)
	}
	v.waiters = nil
}

// repeat runs one view until the second context is done, which ends no run, or the first, which does.
func (s *schedule) repeat(ctx, until context.Context, v *scheduled, trigger twofoldv1.SyncTrigger) {
	failures := 0
	for {
		s.running.Lock()
		if until.Err() != nil {
			s.running.Unlock()
			return
		}
		request, waiters := v.take(Request{Trigger: trigger})
		report := s.syncer.syncWithEvents(ctx, v.view, request)
		s.running.Unlock()
		for _, waiter := range waiters {
			waiter <- report
		}
		if report.Err != nil || report.Outcome == twofoldv1.SyncOutcome_SYNC_OUTCOME_LEASED {
			failures++
		} else {
			failures = 0
		}
		var ok bool
		if trigger, ok = s.sleep(until, v, s.syncer.wait(v.view, report.Elapsed, failures), failures); !ok {
			return
		}
	}
}

// sleep waits for the pause to pass, for somebody to ask, or, after a run that did not fail, for the store to lose the view, and says which it was. It reports
// false where ctx was done first. Meanwhile it removes what the last runs have replaced.
func (s *schedule) sleep(ctx context.Context, v *scheduled, pause time.Duration, failures int) (trigger twofoldv1.SyncTrigger, ok bool) {
	timer, check := time.NewTimer(pause), time.NewTicker(s.syncer.o.LossCheckInterval)
	defer timer.Stop()
	defer check.Stop()
	untidy := time.NewTimer(0)
	defer untidy.Stop()
	for {
		select {
		case <-ctx.Done():
			return 0, false
		case <-v.woken:
			return twofoldv1.SyncTrigger_SYNC_TRIGGER_REQUEST, true
		case <-timer.C:
			if failures > 0 {
				return twofoldv1.SyncTrigger_SYNC_TRIGGER_RETRY, true
			}
			return twofoldv1.SyncTrigger_SYNC_TRIGGER_SCHEDULE, true
		case <-untidy.C:
			if next := s.tidy(ctx, v.view); !next.IsZero() {
				untidy.Reset(max(next.Sub(s.syncer.o.Now()), time.Second))
			}
		case <-check.C:
			if failures == 0 && s.syncer.lost(ctx, v.view) {
				return twofoldv1.SyncTrigger_SYNC_TRIGGER_LOSS, true
			}
		}
	}
}

// tidy is Syncer.tidy while no run is under way.
func (s *schedule) tidy(ctx context.Context, view *feature.View) time.Time {
	s.running.Lock()
	defer s.running.Unlock()
	return s.syncer.tidy(ctx, view)
}

// lost reports whether the store has lost a view that was synced, or was filled since by a syncer that has it defined in another way. A store
// that does not answer has lost nothing yet.
func (s *Syncer) lost(ctx context.Context, view *feature.View) bool {
	stored, _, err := s.o.Online.SyncStates(ctx, []*feature.View{view})
	if err != nil {
		return false
	}
	if stored[0] != online.Synced {
		s.o.Logger.WarnContext(ctx, "the online store has lost this view's rows, or another syncer has carried them by another definition; carrying them again now",
			"feature_view", view.Name)
		return true
	}
	states, err := s.state.States(ctx, []string{view.Name})
	if err != nil {
		return false
	}
	lost, err := s.hasLostServer(ctx, view, states[0])
	if err != nil || !lost {
		return false
	}
	s.o.Logger.WarnContext(ctx, "a server of the online store has lost its data, or has taken over another's; carrying this view's rows again now", "feature_view", view.Name)
	return true
}

// tidy removes what is not served any more, once its time is over. It leaves that to the next run where another process is at the view, and says when
// there will be something to remove; the zero time where there will not.
func (s *Syncer) tidy(ctx context.Context, view *feature.View) time.Time {
	next, err := s.tidyNow(ctx, view)
	if _, held := errors.AsType[*syncstate.HeldError](err); err != nil && !held && ctx.Err() == nil {
		s.o.Logger.WarnContext(ctx, "rows that are not served any more could not be removed; the next run tries again", "feature_view", view.Name, "error", err)
	}
	return next
}

func (s *Syncer) tidyNow(ctx context.Context, view *feature.View) (next time.Time, err error) {
	states, err := s.state.States(ctx, []string{view.Name})
	if err != nil {
		return time.Time{}, err
	}
	next = syncstate.NextRetirement(states[0], keptGenerations(view), s.o.GenerationGrace)
	if len(states[0].GetRemoving()) == 0 && (next.IsZero() || next.After(s.o.Now())) {
		return next, nil
	}
	err = s.state.During(ctx, view.Name, s.leaseOptions(false), func(ctx context.Context, lease *syncstate.Lease) error {
		state, err := s.begin(ctx, lease, view)
		if err != nil {
			return err
		}
		next = syncstate.NextRetirement(state, keptGenerations(view), s.o.GenerationGrace)
		return s.removeGenerations(ctx, lease, view)
	})
	if err != nil {
		return time.Time{}, err
	}
	return next, nil
}

// wait is the time from the end of a run to the start of the next.
func (s *Syncer) wait(view *feature.View, elapsed time.Duration, failures int) time.Duration {
	now := s.o.Now()
	pause := nextRun(view, now.Add(-elapsed)).Sub(now)
	if failures == 0 {
		return max(0, pause)
	}
	retry := min(firstRetry<<min(failures-1, 20), max(firstRetry, view.Sync.Interval))
	if pause <= 0 { // it was due while it ran
		return retry
	}
	return min(pause, retry)
}

// nextRun is when a view is to be run of which the last run began at a time.
func nextRun(view *feature.View, last time.Time) time.Time {
	if view.Sync.Cron == "" {
		return last.Add(view.Sync.Interval)
	}
	schedule, err := cron.Parse(view.Sync.Cron, view.Sync.TimeZone)
	if err != nil { // the definitions were checked
		return last.Add(view.Sync.Interval)
	}
	return schedule.Next(last)
}
