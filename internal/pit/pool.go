package pit

import (
	"context"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/twofold-ml/twofold/internal/fault"
)

// pool bounds how many tasks of one call run at once, over all views.
type pool struct{ tokens chan struct{} }

func newPool(workers int) *pool {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	return &pool{make(chan struct{}, workers)}
}

func (p *pool) size() int { return cap(p.tokens) }

// each runs task for 0 to n−1, started in that order, and returns when all that were started have ended. The first error, or a panic turned
// into an error, cancels the others and is returned.
func (p *pool) each(ctx context.Context, n int, task func(ctx context.Context, i int) error) error {
	group, groupCtx := errgroup.WithContext(ctx)
	for i := range n {
		if !p.acquire(groupCtx) {
			break
		}
		group.Go(func() error {
			defer p.release()
			return fault.Guard(func() error { return task(groupCtx, i) })
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// leastShare is how many small items are worth a task of their own.
const leastShare = 1 << 14

// shares runs task for ranges that n items are divided into, several at once where there are many.
func (p *pool) shares(ctx context.Context, n int, task func(from, to int)) error {
	size := max(leastShare, (n+4*p.size()-1)/(4*p.size()))
	return p.each(ctx, (n+size-1)/size, func(_ context.Context, i int) error {
		task(i*size, min((i+1)*size, n))
		return nil
	})
}

// run runs one task in the calling goroutine, in its turn.
func (p *pool) run(ctx context.Context, task func() error) error {
	if !p.acquire(ctx) {
		return ctx.Err()
	}
	defer p.release()
	return fault.Guard(task)
}

func (p *pool) acquire(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	select {
	case p.tokens <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *pool) release() { <-p.tokens }
