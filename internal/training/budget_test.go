package training

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// counter remembers what memory is in use.
type counter struct{ now, most, negative atomic.Int64 }

func (c *counter) changed(now int64) {
	c.now.Store(now)
	if now < 0 {
		c.negative.Add(1)
	}
	for most := c.most.Load(); now > most && !c.most.CompareAndSwap(most, now); most = c.most.Load() {
	}
}

// requireAllGivenBack fails unless all memory of a budget can be had again.
func requireAllGivenBack(t testing.TB, b *Budget) {
	t.Helper()
	whole := b.total - b.total/leaseShare
	require.True(t, b.leases.TryAcquire(whole), "memory was not given back")
	b.leases.Release(whole)
}

func noWait() { panic("it waits") }

// TestBudgetLeavesRoom: the largest call is given half, so that another can begin.
func TestBudgetLeavesRoom(t *testing.T) {
	b := NewBudget(1<<30, nil)
	big, err := b.acquire(t.Context(), 1<<50, noWait)
	require.NoError(t, err)
	require.Equal(t, b.most(), big.bytes)
	small, err := b.acquire(t.Context(), 1, noWait)
	require.NoError(t, err)
	require.Equal(t, int64(leastLease), small.bytes)
	big.release()
	small.release()
	requireAllGivenBack(t, b)
}

// TestSmallestBudget: however little is configured, a join is given what it needs at least.
func TestSmallestBudget(t *testing.T) {
	for _, bytes := range []int64{-1, 0, 1, 64 << 20, 65 << 20} {
		b := NewBudget(bytes, nil)
		l, err := b.acquire(t.Context(), 0, noWait)
		require.NoError(t, err)
		require.Equal(t, int64(leastLease), l.bytes)
		l.release()
		requireAllGivenBack(t, b)
	}
}

func TestBudgetWaitsAndWakes(t *testing.T) {
	var count counter
	b := NewBudget(64<<20, count.changed)
	first, err := b.acquire(t.Context(), 1<<40, noWait)
	require.NoError(t, err)
	second, err := b.acquire(t.Context(), 1<<40, noWait)
	require.NoError(t, err)
	waiting, got := make(chan struct{}), make(chan lease)
	go func() {
		l, _ := b.acquire(t.Context(), 1<<40, func() { close(waiting) })
		got <- l
	}()
	<-waiting
	require.Equal(t, 2*b.most(), count.now.Load())
	first.release()
	third := <-got
	require.Equal(t, b.most(), third.bytes)
	second.release()
	third.release()
	require.Zero(t, count.now.Load())
	requireAllGivenBack(t, b)
}

// TestCancelWhileWaiting: the call that gave up took nothing.
func TestCancelWhileWaiting(t *testing.T) {
	var count counter
	b := NewBudget(64<<20, count.changed)
	all := b.total - b.total/leaseShare
	require.True(t, b.leases.TryAcquire(all))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := b.acquire(ctx, 1, cancel)
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, count.now.Load())
	b.leases.Release(all)
	requireAllGivenBack(t, b)
}

// TestWaitingIsToldAsProgress runs a set while another has all memory.
func TestWaitingIsToldAsProgress(t *testing.T) {
	h := weather(3, 3)
	b := tinyBudget(1 << 20)
	rows := newRows(t, weatherSpec(t, &memorySource{history: h, ends: []int{9}, batch: 9}), b, weatherRecord(t, 3, 5))
	require.True(t, b.leases.TryAcquire(b.total))
	var progress Progress
	set := NewSet(rows, &progress)
	done := make(chan error, 1)
	go func() {
		done <- Run(t.Context(), set, func(b *Batch) (int, error) { return b.Rows, nil }, func(int) error { return nil })
	}()
	for progress.At().Phase != Waiting {
		select {
		case err := <-done:
			t.Fatal("it did not wait", err)
		default:
		}
	}
	b.leases.Release(b.total)
	require.NoError(t, <-done)
	at := progress.At()
	require.Equal(t, At{Phase: Sending, EntityRows: 3, Done: 3, FeatureRows: 9, Scanned: 9, Matched: 3, Part: 1, Parts: 1}, at)
}

// TestBudgetUnderContention has many calls of any size; some give up.
func TestBudgetUnderContention(t *testing.T) {
	var count counter
	b := NewBudget(256<<20, count.changed)
	var used atomic.Int64
	var group sync.WaitGroup
	for i := range 16 {
		r := rand.New(rand.NewPCG(uint64(i), 0))
		group.Go(func() {
			for range 200 {
				ctx, cancel := context.WithCancel(t.Context())
				waiting := func() {}
				if r.IntN(3) == 0 {
					waiting = cancel
				}
				l, err := b.acquire(ctx, r.Int64N(400<<20), waiting)
				if err == nil {
					if used.Add(l.bytes) > b.total {
						t.Error("more is given than there is")
					}
					used.Add(-l.bytes)
				}
				l.release()
				cancel()
			}
		})
	}
	group.Wait()
	require.Zero(t, count.now.Load())
	require.Zero(t, count.negative.Load())
	require.Positive(t, count.most.Load())
	requireAllGivenBack(t, b)
}
