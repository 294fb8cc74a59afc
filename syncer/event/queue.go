package event

import (
	"context"
	"sync"
	"time"
)

// QueueOptions say how long events wait.
type QueueOptions struct {
	// Debounce is how long no event of a view must come before its run is due. Defaults to 5 s.
	Debounce time.Duration
	// MaxWait is how long after its first event a run is due at the latest, however many more come. Defaults to 1 min.
	MaxWait time.Duration
	// RetryWait is the pause after a run that failed before its events are due again; it doubles with each failure in a row. Defaults to 5 s.
	RetryWait time.Duration
	// MaxRetryWait bounds that pause. Defaults to 5 min.
	MaxRetryWait time.Duration
}

func (o QueueOptions) withDefaults() QueueOptions {
	setDefault(&o.Debounce, 5*time.Second)
	setDefault(&o.MaxWait, time.Minute)
	setDefault(&o.RetryWait, 5*time.Second)
	setDefault(&o.MaxRetryWait, 5*time.Minute)
	return o
}

// setDefault replaces what was left at zero.
func setDefault[T int64 | time.Duration](value *T, otherwise T) {
	if *value <= 0 {
		*value = otherwise
	}
}

// Trigger asks for one run of one view.
type Trigger struct {
	// View is the view's name.
	View string
	// Objects is how many events the run answers.
	Objects int
	// First and Last are the first and the last of these events; without a URL where there are none.
	First, Last Object
	// Since is when the first of them came here.
	Since time.Time

	run uint64
}

// ticket tells which batch of a view's events an event is in.
type ticket struct {
	view  string
	batch uint64
}

// Queue holds the events of views until they are due, and those of runs under way until these have ended. Its methods may be called by many
// goroutines at once.
type Queue struct {
	o QueueOptions

	mu    sync.Mutex
	views map[string]*waiting
	// batches and runs count up; none has a number twice, be its view dropped and added again in between.
	batches, runs uint64
	// changed is closed, and made anew, when Next has to look again.
	changed chan struct{}
}

// waiting is what the queue knows of one view.
type waiting struct {
	// pending are the events that wait for a run; without objects there are none.
	pending batch
	// running are those of the run under way, whose number is run; 0 while there is none.
	running batch
	run     uint64
	// settled is the newest batch that a run has answered, and with it all older ones, because a run takes all that waits.
	settled uint64
	// failures counts failed runs in a row, and retryAt is when the next may be.
	failures int
	retryAt  time.Time
}

// batch is events that one run answers.
type batch struct {
	number      uint64
	objects     int
	first, last Object
	// since and latest are when the first and the last came here.
	since, latest time.Time
}

// NewQueue makes an empty queue.
func NewQueue(o QueueOptions) *Queue {
	return &Queue{o: o.withDefaults(), views: map[string]*waiting{}, changed: make(chan struct{})}
}

// add puts an event of a view into the queue.
func (q *Queue) add(view string, object Object) ticket {
	q.mu.Lock()
	defer q.mu.Unlock()
	w, p := q.view(view), &q.view(view).pending
	p.latest, p.last = time.Now(), object
	if p.objects == 0 {
		q.batches++
		p.number, p.since, p.first = q.batches, p.latest, object
	}
	p.objects++
	if p.objects == 1 && w.run == 0 {
		q.wake()
	}
	return ticket{view, p.number}
}

// view gives what is known of a view, which may be new: all batches until now are of no concern to it.
func (q *Queue) view(name string) *waiting {
	w := q.views[name]
	if w == nil {
		w = &waiting{settled: q.batches}
		q.views[name] = w
	}
	return w
}

// wake makes every Next look again.
func (q *Queue) wake() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// Next waits until a view is due, marks its run as under way and returns it. Each Trigger wants one call of Done. A view whose run is under way is not
// given again before. The error is that of ctx.
func (q *Queue) Next(ctx context.Context) (Trigger, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Trigger{}, err
		}
		t, wait, changed := q.next()
		if t.View != "" {
			return t, nil
		}
		// More events make a run due later, never sooner, so only a view that is new here has to wake who waits.
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-changed:
		}
		timer.Stop()
	}
}

// forever is longer than anybody waits.
const forever = 1000 * time.Hour

// next takes the view that has been due for the longest, or tells how long none is.
func (q *Queue) next() (Trigger, time.Duration, <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	first, at := "", now.Add(forever)
	for name, w := range q.views {
		if w.pending.objects == 0 || w.run != 0 {
			continue
		}
		if due := q.due(w); due.Before(at) || (due.Equal(at) && name < first) {
			first, at = name, due
		}
	}
	if first == "" || at.After(now) {
		return Trigger{}, at.Sub(now), q.changed
	}
	return q.take(first), 0, nil
}

// due is when a view's events have come to rest, or have waited long enough.
func (q *Queue) due(w *waiting) time.Time {
	due := w.pending.latest.Add(q.o.Debounce)
	if latest := w.pending.since.Add(q.o.MaxWait); latest.Before(due) {
		due = latest
	}
	if w.retryAt.After(due) {
		due = w.retryAt
	}
	return due
}

func (q *Queue) take(view string) Trigger {
	w := q.view(view)
	q.runs++
	w.running, w.pending, w.run = w.pending, batch{}, q.runs
	return Trigger{View: view, Objects: w.running.objects, First: w.running.first, Last: w.running.last, Since: w.running.since, run: w.run}
}

// Take is for a run that is started for another reason than an event: it takes along what waits, due or not, and marks the run as under way.
// It wants a call of Done like a Trigger of Next. It reports false where a run of the view is under way already.
func (q *Queue) Take(view string) (Trigger, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.view(view).run != 0 {
		return Trigger{}, false
	}
	return q.take(view), true
}

// Done says that the run of a trigger has ended, and by nil that it succeeded. After an error its events are in the queue again.
func (q *Queue) Done(t Trigger, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.views[t.View]
	if w == nil || w.run != t.run || t.run == 0 {
		return // the view was dropped meanwhile
	}
	ran := w.running
	w.running, w.run = batch{}, 0
	switch {
	case err == nil:
		w.settled = max(w.settled, ran.number)
		w.failures, w.retryAt = 0, time.Time{}
	case ran.objects > 0:
		w.retryAt = time.Now().Add(min(q.o.RetryWait<<min(w.failures, 20), q.o.MaxRetryWait))
		w.failures++
		w.pending = ran.before(w.pending)
	}
	if w.pending.objects > 0 {
		q.wake()
	}
}

// before joins events with later ones. The later number is that of all of them.
func (b batch) before(later batch) batch {
	if later.objects == 0 {
		return b
	}
	later.objects += b.objects
	later.first, later.since = b.first, b.since
	return later
}

// retain drops the views that are not kept, and what waits for them.
func (q *Queue) retain(keep func(view string) bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for name := range q.views {
		if !keep(name) {
			delete(q.views, name)
		}
	}
}

// isSettled reports whether a run that began after the event has succeeded, or the event's view is no more.
func (q *Queue) isSettled(t ticket) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.views[t.view]
	return w == nil || t.batch <= w.settled
}

// stats gives the number of views that wait for a run, how many events wait with them, and when the oldest of these came.
func (q *Queue) stats() (views, objects int, oldest time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range q.views {
		if w.pending.objects == 0 {
			continue
		}
		views++
		objects += w.pending.objects
		if oldest.IsZero() || w.pending.since.Before(oldest) {
			oldest = w.pending.since
		}
	}
	return views, objects, oldest
}
