package online_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/online/pebblestore"
)

// recorder remembers what it was given to write, and may hold or fail it.
type recorder struct {
	driver.Driver
	before func(rows int) error

	mu      sync.Mutex
	batches []int
	written map[string]string // by key, the last value
}

func (r *recorder) Write(ctx context.Context, rows []driver.Row) ([]driver.Outcome, error) {
	if r.before != nil {
		if err := r.before(len(rows)); err != nil {
			return nil, err
		}
	}
	outcomes, err := r.Driver.Write(ctx, rows)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches = append(r.batches, len(rows))
	for _, row := range rows {
		r.written[string(row.Entity.Key)] = string(row.Value)
	}
	return outcomes, nil
}

func newRecorder(t *testing.T) (*online.Store, *recorder) {
	d, err := pebblestore.Open(pebblestore.Options{InMemory: true})
	require.NoError(t, err)
	r := &recorder{Driver: d, written: map[string]string{}}
	store := online.NewStore(r, online.Options{BatchSize: 100})
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store, r
}

// rowsFrom returns n rows of the entities from first on, whose feature is the entity's number.
func rowsFrom(v *feature.View, first, n int, event time.Time) online.Rows {
	r := online.Rows{View: v, Keys: []*feature.Column{feature.NewColumn(feature.Int64, n)}, EventTimes: feature.NewColumn(feature.Timestamp, n)}
	values := feature.NewColumn(feature.Int64, n)
	for i := range n {
		r.Keys[0].AppendInt64(int64(first + i))
		r.EventTimes.AppendInt64(event.UnixMicro())
		values.AppendInt64(int64(first + i))
	}
	r.Features = []*feature.Column{values}
	return r
}

// TestBulkIsWrite: whatever is given to a Bulk, in whatever pieces, becomes what Write makes of it, and is counted in the same way.
func TestBulkIsWrite(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	v := aView("v", "x")
	v.TTL = feature.TTLOf(time.Hour)
	now := time.Now()
	ours, ourRecord := newRecorder(t)
	plain, plainRecord := newRecorder(t)
	var got, want online.WriteStats
	for range 4 {
		var done atomic.Int64
		bulk := ours.Bulk(t.Context(), func(rows int) { done.Add(int64(rows)) })
		first := 0
		for range r.IntN(5) {
			n := r.IntN(1500)
			rows := rowsFrom(v, first, n, now.Add(-time.Duration(r.IntN(90))*time.Minute)) // some have expired, some are older than what is stored
			rows.BatchSize = r.IntN(3) * 150
			if n > 0 && r.IntN(2) == 0 {
				rows.Tombstones = make([]bool, n)
				rows.Tombstones[r.IntN(n)] = true
			}
			stats, err := plain.Write(t.Context(), rows)
			require.NoError(t, err)
			want.Add(stats)
			require.NoError(t, bulk.Write(rows))
			for _, c := range []*feature.Column{rows.Keys[0], rows.EventTimes, rows.Features[0]} { // which the caller uses again
				clear(c.Int64s)
			}
			first += n
		}
		stats, err := bulk.Close()
		require.NoError(t, err)
		got.Add(stats)
		require.EqualValues(t, first, done.Load())
	}
	require.Equal(t, want, got)
	require.Equal(t, plainRecord.written, ourRecord.written)
	if len(ourRecord.batches) > 0 {
		require.LessOrEqual(t, slices.Max(ourRecord.batches), 300)
	}
}

// TestBulkGoesOnWhileRowsAreRead: rows are taken while earlier ones are still being written.
func TestBulkGoesOnWhileRowsAreRead(t *testing.T) {
	store, r := newRecorder(t)
	hold := make(chan struct{})
	r.before = func(int) error {
		<-hold
		return nil
	}
	v := aView("v", "x")
	bulk := store.Bulk(t.Context(), nil)
	for i := range 5 {
		require.NoError(t, bulk.Write(rowsFrom(v, 1000*i, 1000, time.Now())))
	}
	close(hold)
	stats, err := bulk.Close()
	require.NoError(t, err)
	require.Equal(t, online.WriteStats{Written: 5000}, stats)
	require.Len(t, r.written, 5000)
}

// TestBulkFails: the error of a batch ends everything and is told, at the latest by Close, and nothing counts as written that was not.
func TestBulkFails(t *testing.T) {
	store, r := newRecorder(t)
	full := fault.New(fault.Precondition, "out of memory")
	rowsLeft := 700
	var mu sync.Mutex
	r.before = func(rows int) error {
		mu.Lock()
		defer mu.Unlock()
		if rowsLeft -= rows; rowsLeft < 0 {
			return full
		}
		return nil
	}
	v := aView("v", "x")
	bulk := store.Bulk(t.Context(), nil)
	var err error
	for i := 0; err == nil && i < 10_000; i++ { // until it shows; no more than fits into memory may be taken before
		err = bulk.Write(rowsFrom(v, 1000*i, 1000, time.Now()))
	}
	require.ErrorIs(t, err, full)
	stats, err := bulk.Close()
	require.ErrorIs(t, err, full)
	require.Equal(t, online.WriteStats{Written: len(r.written)}, stats)
	require.LessOrEqual(t, stats.Written, 700)

	bulk = store.Bulk(t.Context(), nil)
	require.NoError(t, bulk.Write(rowsFrom(v, 0, 10, time.Now()))) // which fails later
	_, err = bulk.Close()
	require.ErrorIs(t, err, full)
}

// TestBulkIsCancelled: rows that were not written because nobody waits for them any more are an error, and never taken for stored.
func TestBulkIsCancelled(t *testing.T) {
	store, r := newRecorder(t)
	ctx, cancel := context.WithCancel(t.Context())
	r.before = func(int) error {
		cancel()
		return ctx.Err()
	}
	v := aView("v", "x")
	bulk := store.Bulk(ctx, nil)
	require.NoError(t, bulk.Write(rowsFrom(v, 0, 100, time.Now()))) // one batch, which shows nothing until it is written
	stats, err := bulk.Close()
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, stats)

	cancelled := store.Bulk(ctx, nil)
	require.Error(t, cancelled.Write(rowsFrom(v, 0, 1000, time.Now())))
	_, err = cancelled.Close()
	require.NoError(t, err, "no row was taken")
}

// TestBulkRefuses: rows that cannot be written are refused at once, as Write does, and those from before are stored.
func TestBulkRefuses(t *testing.T) {
	store, r := newRecorder(t)
	v := aView("v", "x")
	bulk := store.Bulk(t.Context(), nil)
	require.NoError(t, bulk.Write(rowsFrom(v, 0, 50, time.Now())))
	bad := rowsFrom(v, 50, 10, time.Now())
	bad.Keys[0].Status[3] = feature.Null
	require.Equal(t, fault.Invalid, fault.KindOf(bulk.Write(bad)))
	stats, err := bulk.Close()
	require.NoError(t, err)
	require.Equal(t, 50, stats.Written)
	require.Len(t, r.written, 50)
}
