package training

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// Budget is the memory that all training sets of a process may take together. It may be used by several goroutines at once.
type Budget struct {
	leases *semaphore.Weighted
	total  int64
	// inUse is what calls have been given; changed is called with it whenever it changes, nil for nobody.
	mu      sync.Mutex
	inUse   int64
	changed func(inUse int64)
}

// spoolShare and leaseShare divide a budget: one part in spoolShare is what the entity rows of one call may take before they go to a file; all
// joins together have total − total/leaseShare.
const (
	spoolShare = 32
	leaseShare = 4
	// leastLease is what any join is given: below it parts would be too small to be worth a scan each.
	leastLease = 16 << 20
)

// NewBudget returns a budget of so many bytes, at least 64 MiB. changed is called with what all calls have been given together, whenever that changes, one
// call at a time; it may be nil.
func NewBudget(bytes int64, changed func(inUse int64)) *Budget {
	total := max(bytes, 4*leastLease)
	return &Budget{leases: semaphore.NewWeighted(total - total/leaseShare), total: total, changed: changed}
}

// spoolBytes is what the entity rows of one call may take in memory.
func (b *Budget) spoolBytes() int64 { return b.total / spoolShare }

// most is the most that one call is given, so that a large one leaves room for others.
func (b *Budget) most() int64 { return (b.total - b.total/leaseShare) / 2 }

// acquire waits for memory: want bytes, or the most that one call may have.
func (b *Budget) acquire(ctx context.Context, want int64, waiting func()) (lease, error) {
	granted := min(max(want, leastLease), b.most())
	if !b.leases.TryAcquire(granted) {
		waiting()
		if err := b.leases.Acquire(ctx, granted); err != nil {
			return lease{}, err
		}
	}
	b.use(granted)
	return lease{b, granted}, nil
}

// lease is memory that a call was given.
type lease struct {
	from  *Budget
	bytes int64
}

func (l lease) release() {
	if l.from == nil {
		return
	}
	l.from.leases.Release(l.bytes)
	l.from.use(-l.bytes)
}

// use counts what is given, and, where it is negative, given back.
func (b *Budget) use(bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inUse += bytes
	if b.changed != nil {
		b.changed(b.inUse)
	}
}
