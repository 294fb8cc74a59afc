package syncer

import (
	"context"
	"fmt"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/syncer/event"
)

// answerEvents has views synced whose events are due, until ctx is done. Whatever becomes of a run, the queue is told: what was not carried waits there again.
func (s *schedule) answerEvents(ctx context.Context) {
	queue := s.syncer.o.Events
	for {
		due, err := queue.Next(ctx)
		if err != nil {
			return
		}
		answer, err := s.trigger(due.View, Request{Trigger: twofoldv1.SyncTrigger_SYNC_TRIGGER_EVENT, Cause: causeOf(due)})
		if err != nil {
			queue.Done(due, err)
			continue
		}
		s.group.Go(func() {
			report, ok := <-answer
			if !ok {
				queue.Done(due, fault.New(fault.Unavailable, "feature view %q was not synced", due.View))
				return
			}
			queue.Done(due, notCarried(report))
		})
	}
}

// syncWithEvents syncs a view and takes along the events that wait for it, where no run that answerEvents asked for is on its way already.
func (s *Syncer) syncWithEvents(ctx context.Context, view *feature.View, r Request) Report {
	if s.o.Events == nil {
		return s.SyncView(ctx, view, r)
	}
	due, ok := s.o.Events.Take(view.Name)
	if ok && due.Objects > 0 && r.Cause == "" {
		r.Cause = causeOf(due)
	}
	report := s.SyncView(ctx, view, r)
	if ok {
		s.o.Events.Done(due, notCarried(report))
	}
	return report
}

// notCarried says why a run may not have carried what was in the source when it began; nil where it has.
func notCarried(report Report) error {
	if report.Err == nil && report.Outcome == twofoldv1.SyncOutcome_SYNC_OUTCOME_LEASED {
		return fault.New(fault.Unavailable, "feature view %q is being synced by %s, which may have begun before the event", report.View, report.Note)
	}
	return report.Err
}

// causeOf says for people what a run answers.
func causeOf(t event.Trigger) string {
	what := "came"
	if t.First.Removed {
		what = "went"
	}
	cause := fmt.Sprintf("%s: %s %s", t.First.Source, t.First.URL, what)
	if t.Objects > 1 {
		cause += fmt.Sprintf(", and %d more events", t.Objects-1)
	}
	return cause
}
