package event

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// after waits by the clock of testing/synctest.
func after(d time.Duration) { <-time.After(d) }

func object(i int) Object { return Object{URL: fmt.Sprintf("s3://b/%d.parquet", i)} }

// nextWithin gives the next trigger, or none where none is due within d.
func nextWithin(t *testing.T, q *Queue, d time.Duration) (Trigger, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	trigger, err := q.Next(ctx)
	return trigger, err == nil
}

func TestQueueWaitsForRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, start := NewQueue(QueueOptions{}), time.Now()
		q.add("v", object(1))
		after(4 * time.Second)
		q.add("v", object(2))
		trigger, ok := nextWithin(t, q, time.Hour)
		require.True(t, ok)
		assert.Equal(t, 9*time.Second, time.Since(start))
		assert.Equal(t, "v", trigger.View)
		assert.Equal(t, 2, trigger.Objects)
		assert.Equal(t, object(1), trigger.First)
		assert.Equal(t, object(2), trigger.Last)
		assert.Equal(t, start, trigger.Since)
		q.Done(trigger, nil)
		_, ok = nextWithin(t, q, time.Hour)
		assert.False(t, ok, "all events were one run's")
	})
}

func TestQueueDoesNotStarveInABurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, start := NewQueue(QueueOptions{}), time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				q.add("v", object(i))
				after(time.Second)
			}
		})
		synctest.Wait()
		for run := 1; run <= 3; run++ {
			trigger, err := q.Next(t.Context())
			require.NoError(t, err)
			assert.LessOrEqual(t, time.Since(start), time.Duration(run)*61*time.Second)
			assert.InDelta(t, 60, trigger.Objects, 1)
			q.Done(trigger, nil)
		}
		cancel()
		group.Wait()
	})
}

func TestQueueEventDuringARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(QueueOptions{})
		first := q.add("v", object(1))
		run, err := q.Next(t.Context())
		require.NoError(t, err)
		second, third := q.add("v", object(2)), q.add("v", object(3))
		_, ok := nextWithin(t, q, time.Hour)
		assert.False(t, ok, "one run of a view at a time")
		_, ok = q.Take("v")
		assert.False(t, ok, "also where it is started for another reason")
		assert.False(t, q.isSettled(first))
		q.Done(run, nil)
		assert.True(t, q.isSettled(first))
		assert.False(t, q.isSettled(second))
		again, ok := nextWithin(t, q, time.Nanosecond)
		require.True(t, ok, "its events have long been at rest")
		assert.Equal(t, 2, again.Objects)
		q.Done(run, nil) // a run ends once
		assert.False(t, q.isSettled(second))
		q.Done(again, nil)
		assert.True(t, q.isSettled(second) && q.isSettled(third))
	})
}

func TestQueueFailedRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(QueueOptions{})
		broken := errors.New("broken")
		first, since := q.add("v", object(1)), time.Now()
		run, err := q.Next(t.Context())
		require.NoError(t, err)
		second := q.add("v", object(2))
		q.Done(run, broken)
		for i, seconds := range []int{5, 10, 20, 40, 80, 160, 300, 300} {
			failed := time.Now()
			run, err = q.Next(t.Context())
			require.NoError(t, err)
			assert.Equal(t, time.Duration(seconds)*time.Second, time.Since(failed), "failure %d", i)
			assert.Equal(t, 2, run.Objects)
			assert.Equal(t, object(1), run.First)
			assert.Equal(t, object(2), run.Last)
			assert.Equal(t, since, run.Since)
			q.Done(run, broken)
		}
		assert.False(t, q.isSettled(first) || q.isSettled(second))
		run, ok := q.Take("v") // a run of the schedule need not wait
		require.True(t, ok)
		assert.Equal(t, 2, run.Objects)
		q.Done(run, nil)
		assert.True(t, q.isSettled(first) && q.isSettled(second))
		_, ok = nextWithin(t, q, time.Hour)
		assert.False(t, ok)
		q.add("v", object(3))
		_, ok = nextWithin(t, q, 6*time.Second)
		assert.True(t, ok, "the pause is forgotten after a run that succeeded")
	})
}

func TestQueueRunWithoutEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(QueueOptions{})
		run, ok := q.Take("v")
		require.True(t, ok)
		assert.Zero(t, run.Objects)
		during := q.add("v", object(1))
		q.Done(run, errors.New("broken"))
		assert.False(t, q.isSettled(during))
		run, ok = nextWithin(t, q, 6*time.Second)
		require.True(t, ok, "a failure of another's making is no reason to wait longer")
		q.Done(run, nil)
		assert.True(t, q.isSettled(during))
	})
}

func TestQueueDroppedView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(QueueOptions{})
		waits, runs := q.add("waits", object(1)), q.add("runs", object(1))
		old, ok := q.Take("runs")
		require.True(t, ok)
		q.retain(func(string) bool { return false })
		assert.True(t, q.isSettled(waits) && q.isSettled(runs))
		q.Done(old, nil)
		_, ok = nextWithin(t, q, time.Hour)
		assert.False(t, ok)

		fresh := q.add("runs", object(2)) // a view of the same name is another one
		assert.True(t, q.isSettled(runs))
		assert.False(t, q.isSettled(fresh))
		run, err := q.Next(t.Context())
		require.NoError(t, err)
		q.Done(old, nil)
		assert.False(t, q.isSettled(fresh), "the old run is not the new one")
		q.Done(run, nil)
		assert.True(t, q.isSettled(fresh))
	})
}

func TestQueueNextEndsWithItsContext(t *testing.T) {
	q := NewQueue(QueueOptions{})
	q.add("v", object(1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := q.Next(ctx)
	assert.ErrorIs(t, err, context.Canceled)
	_, objects, _ := q.stats()
	assert.Equal(t, 1, objects, "what was not given still waits")
}

// TestQueueLosesNothing lets events come at random while runs, of which some fail, are under way, and holds the queue to its promise: a ticket is
// settled exactly when a run has succeeded that began after its event.
func TestQueueLosesNothing(t *testing.T) {
	for range 60 {
		seed := rand.Uint64()
		synctest.Test(t, func(t *testing.T) { queueLosesNothing(t, seed) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func queueLosesNothing(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	q := NewQueue(QueueOptions{Debounce: 3 * time.Second, MaxWait: 10 * time.Second, RetryWait: time.Second, MaxRetryWait: 4 * time.Second})
	views := []string{"a", "b", "c"}
	type event struct {
		ticket  ticket
		settled bool
	}
	var events []*event
	under := map[string]Trigger{}
	taken := map[string]int{} // how many events there were when the view's run began
	end := func(view string, failure error) {
		q.Done(under[view], failure)
		delete(under, view)
		if failure == nil {
			for _, e := range events[:taken[view]] {
				e.settled = e.settled || e.ticket.view == view
			}
		}
	}
	for range 300 {
		view := views[random.IntN(len(views))]
		_, running := under[view]
		switch random.IntN(6) {
		case 0, 1:
			events = append(events, &event{ticket: q.add(view, object(len(events)))})
		case 2:
			after(time.Duration(random.IntN(4)) * time.Second)
		case 3:
			if running {
				var failure error
				if random.IntN(2) == 0 {
					failure = errors.New("broken")
				}
				end(view, failure)
			}
		case 4:
			trigger, ok := q.Take(view)
			require.Equal(t, !running, ok)
			if ok {
				under[view], taken[view] = trigger, len(events)
			}
		case 5:
			if trigger, ok := nextWithin(t, q, time.Second); ok {
				require.NotContains(t, under, trigger.View)
				under[trigger.View], taken[trigger.View] = trigger, len(events)
			}
		}
		for _, e := range events {
			require.Equal(t, e.settled, q.isSettled(e.ticket))
		}
	}
	for view := range under {
		end(view, nil)
	}
	for {
		trigger, ok := nextWithin(t, q, time.Hour)
		if !ok {
			break
		}
		under[trigger.View], taken[trigger.View] = trigger, len(events)
		end(trigger.View, nil)
	}
	for _, e := range events {
		assert.True(t, e.settled && q.isSettled(e.ticket), "an event was lost")
	}
}
