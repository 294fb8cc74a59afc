package online

import (
	"cmp"
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/twofold-ml/twofold/internal/fault"
)

// bulkBytes is about how much of encoded rows waits to be written, so that the store has work while the next rows are read.
const bulkBytes = 16 << 20

// Bulk writes many rows while its caller makes the next ones, and yields to those who read the store: its batches are as large as they can be without keeping readers
// waiting, and no more than Options.BulkRowsPerSecond. Its methods are for one goroutine.
type Bulk struct {
	store  *Store
	ctx    context.Context
	cancel context.CancelFunc
	done   func(rows int)
	pacer  *pacer
	queue  chan *queued
	room   *semaphore.Weighted
	pool   sync.Pool // *queued
	lanes  sync.WaitGroup
	packed WriteStats

	mu      sync.Mutex
	written WriteStats
	failed  error // the first of the batches' errors
}

// queued is a batch that waits to be written.
type queued struct {
	batch
	bytes int64 // of bulkBytes
}

// Bulk begins to write many rows. done is told, by several goroutines at once, of how many more it is known what became of them; it may be nil. Close must follow.
func (s *Store) Bulk(ctx context.Context, done func(rows int)) *Bulk {
	if done == nil {
		done = func(int) {}
	}
	ctx, cancel := context.WithCancel(ctx)
	b := &Bulk{
		store: s, ctx: ctx, cancel: cancel, done: done, pacer: newPacer(&s.bulkLimit), queue: make(chan *queued, queueLength), room: semaphore.NewWeighted(bulkBytes),
		pool: sync.Pool{New: func() any { return &queued{} }},
	}
	for range mostLanes {
		b.lanes.Go(b.run)
	}
	return b
}

// Write takes rows to be written, as Store.Write does, and returns when they are encoded and may be changed: they need not be stored yet. Rows of one entity and
// view may be stored in any order, which matters only to those of equal times. Rows.BatchSize is the most rows of a batch. After an error, which
// may be that of rows from an earlier call, there is nothing left to do but to Close.
func (b *Bulk) Write(rows Rows) error {
	p, err := b.store.newPacker(b.ctx, rows)
	if err != nil {
		return b.errOr(err)
	}
	q := b.take()
	p.batch = q.batch
	err = p.packAll(func() error {
		q.batch = p.batch
		if err := b.put(q); err != nil {
			return err
		}
		q = b.take()
		p.batch = q.batch
		return nil
	})
	b.pool.Put(q)
	b.packed.Add(p.stats)
	b.done(p.stats.Expired)
	return err
}

const (
	// rowBytes is what a row takes beside its key and value.
	rowBytes = 96
	// queueLength is the most batches that wait.
	queueLength = 256
)

func (b *Bulk) take() *queued {
	q := b.pool.Get().(*queued)
	q.reset()
	return q
}

// put puts a batch into the queue when there is room.
func (b *Bulk) put(q *queued) error {
	q.bytes = min(int64(len(q.arena)+rowBytes*len(q.rows)), bulkBytes)
	if err := b.room.Acquire(b.ctx, q.bytes); err != nil {
		return b.errOr(fault.New(fault.Unavailable, "write features: %w", err))
	}
	b.queue <- q // the lanes take from it whatever happens
	return nil
}

// errOr returns why a batch has failed, otherwise the error that it is given.
func (b *Bulk) errOr(otherwise error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return cmp.Or(b.failed, otherwise)
}

// run writes batches until there are no more.
func (b *Bulk) run() {
	for q := range b.queue {
		if err := b.write(q); err != nil {
			b.fail(err)
			continue // and the memory of the batch is not used again: a driver that was given up may still read it
		}
		b.room.Release(q.bytes)
		b.pool.Put(q)
	}
}

// write writes a batch in pieces that the pacer allows.
func (b *Bulk) write(q *queued) error {
	for rows := q.rows; len(rows) > 0; {
		n, err := b.pacer.begin(b.ctx, len(rows))
		if err != nil {
			return fault.New(fault.Unavailable, "write features: %w", err)
		}
		begun := time.Now()
		stats, err := b.store.writeBatch(b.ctx, rows[:n])
		b.pacer.end(n, time.Since(begun))
		if err != nil {
			return err
		}
		b.add(stats)
		b.done(n)
		rows = rows[n:]
	}
	return nil
}

// fail has all other batches fail at once, for the reason of the first.
func (b *Bulk) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed = cmp.Or(b.failed, err)
	b.cancel()
}

func (b *Bulk) add(stats WriteStats) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.written.Add(stats)
}

// Close waits until all rows are written, and says what became of them. After an error some may be stored, as the stats tell for whole batches; writing the same
// rows again is safe.
func (b *Bulk) Close() (WriteStats, error) {
	close(b.queue)
	b.lanes.Wait()
	b.cancel()
	b.written.Add(b.packed)
	return b.written, b.failed
}
