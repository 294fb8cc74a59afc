package training

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// Budget is the memory that all training sets of a process may take together. It may be used by several goroutines at once.
type Budget struct {
	leases *semaphore.Weighted
	total  int64
	// changed is called with +1 and −1 when a call gets and gives back memory; nil for nothing.
	changed func(int)
}

// spoolShare and leaseShare divide a budget: one part in spoolShare is what the entity rows of one call may take before they go to a file; all
// joins together have total − total/leaseShare.
const (
	spoolShare = 32
	leaseShare = 4
	// leastLease is what any join is given: below it parts would be too small to be worth a scan each.
	leastLease = 16 << 20
)

// NewBudget returns a budget of so many bytes, at least 64 MiB. changed is called with +1 when a call gets memory and with −1 when it gives it back; it
// may be nil.
func NewBudget(bytes int64, changed func(int)) *Budget {
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
	if b.changed != nil {
		b.changed(+1)
	}
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
	if l.from.changed != nil {
		l.from.changed(-1)
	}
}
