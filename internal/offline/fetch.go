package offline

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

// How columns are fetched from S3.
const (
	// mergeGap is how many unneeded bytes between two needed parts are fetched to save a request.
	mergeGap = 512 << 10
	// maxFetchBytes is the largest part fetched in one request, minFetchBytes the least that a part is cut down to.
	maxFetchBytes = 4 << 20
	minFetchBytes = 256 << 10
	// fetchesAtOnce is how many requests one reader of a row group makes at a time.
	fetchesAtOnce = 4
	// maxFetchedBytes bounds what one reader of a row group holds of fetched parts and has under way. What one page of each column that is
	// being decoded needs is fetched even so.
	maxFetchedBytes = 16 << 20
)

// fetcher fetches the parts of one object that are needed, ahead of those who wait for them.
type fetcher struct {
	object objectReader
	ctx    context.Context
	cancel context.CancelFunc
	parts  []*part // in the order in which they are needed
	tasks  sync.WaitGroup

	mu     sync.Mutex
	next   int // all parts before it have been asked for
	active int // requests under way
	held   int64
}

// part is what one request asks for.
type part struct {
	byteRange
	order float64       // where in the reading it is needed
	done  chan struct{} // closed once bytes or err are there
	bytes []byte
	err   error
	// users are the columns that have still to read it. This and what follows is guarded by the fetcher.
	users          int
	started, ended bool
}

func (p *part) size() int64 { return p.to - p.from }

// needs is what one column needs of an object: ranges, ascending.
type needs struct {
	ranges []byteRange
	// order tells where in the reading a byte of the column is needed; it grows with the offset.
	order func(offset int64) float64
}

// newFetcher begins to fetch what columns need. Where inLockstep is set they are read side by side, and else one after the
// other in the order of the file.
func newFetcher(ctx context.Context, object objectReader, columns []needs, inLockstep bool) (*fetcher, []*fetchedSpan) {
	f := &fetcher{object: object}
	f.ctx, f.cancel = context.WithCancel(ctx)
	var total int64
	var all []byteRange
	for _, c := range columns {
		for _, r := range c.ranges {
			total += r.to - r.from
		}
		all = append(all, c.ranges...)
	}
	if !inLockstep || total <= maxFetchedBytes {
		f.parts = partsOf(all, maxFetchBytes, nil)
	} else {
		size := max(minFetchBytes, min(maxFetchBytes, maxFetchedBytes/int64(2*len(columns))))
		for _, c := range columns {
			f.parts = append(f.parts, partsOf(c.ranges, size, c.order)...)
		}
		slices.SortStableFunc(f.parts, func(a, b *part) int { return cmp.Compare(a.order, b.order) })
	}
	spans := make([]*fetchedSpan, len(columns))
	for i, c := range columns {
		spans[i] = newFetchedSpan(f, c.ranges)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pump()
	return f, spans
}

// partsOf merges ranges that are near each other and cuts those that are large.
func partsOf(ranges []byteRange, size int64, order func(int64) float64) []*part {
	ranges = slices.Clone(ranges)
	slices.SortFunc(ranges, func(a, b byteRange) int { return cmp.Compare(a.from, b.from) })
	var parts []*part
	add := func(r byteRange) {
		p := &part{byteRange: r, done: make(chan struct{})}
		if order != nil {
			p.order = order(r.from)
		}
		parts = append(parts, p)
	}
	for i := 0; i < len(ranges); {
		merged := ranges[i]
		for i++; i < len(ranges) && ranges[i].from <= merged.to+mergeGap; i++ {
			if to := max(merged.to, ranges[i].to); to-merged.from <= size || ranges[i].from < merged.to {
				merged.to = to
				continue
			}
			break
		}
		for ; merged.to-merged.from > size; merged.from += size {
			add(byteRange{merged.from, merged.from + size})
		}
		add(merged)
	}
	return parts
}

// pump asks for parts as far ahead as is allowed. Call it with f.mu held.
func (f *fetcher) pump() {
	for f.next < len(f.parts) && f.active < fetchesAtOnce {
		p := f.parts[f.next]
		if !p.started && p.users > 0 {
			if f.held > 0 && f.held+p.size() > maxFetchedBytes {
				return
			}
			f.start(p)
		}
		f.next++
	}
}

// start asks for a part. Call it with f.mu held.
func (f *fetcher) start(p *part) {
	p.started = true
	f.active++
	f.held += p.size()
	p.bytes = takeFetchBuffer(int(p.size()))
	f.tasks.Go(func() {
		p.err = f.object.readAt(f.ctx, p.bytes, p.from)
		close(p.done)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.active--
		p.ended = true
		f.drop(p)
		f.pump()
	})
}

// wait gives the bytes of a part, asking for it if need be.
func (f *fetcher) wait(ctx context.Context, p *part) ([]byte, error) {
	f.mu.Lock()
	if !p.started {
		f.start(p)
	}
	f.mu.Unlock()
	select {
	case <-p.done:
		return p.bytes, p.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// release says that a column reads a part no more.
func (f *fetcher) release(p *part) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p.users--
	f.drop(p)
	f.pump()
}

// drop gives back the memory of a part that nobody reads. Call it with f.mu held.
func (f *fetcher) drop(p *part) {
	if p.users > 0 || !p.ended || p.bytes == nil {
		return
	}
	giveFetchBuffer(p.bytes)
	p.bytes = nil
	f.held -= p.size()
}

// close ends what is under way and gives all memory back.
func (f *fetcher) close() {
	f.cancel()
	f.mu.Lock()
	f.next = len(f.parts)
	f.mu.Unlock()
	f.tasks.Wait()
	for _, p := range f.parts {
		p.users = 0
		f.drop(p)
	}
}

// freeFetchBuffers has buffers of maxFetchBytes.
var freeFetchBuffers = sync.Pool{New: func() any { b := make([]byte, maxFetchBytes); return &b }}

func takeFetchBuffer(n int) []byte {
	if n < minFetchBytes || n > maxFetchBytes {
		return make([]byte, n)
	}
	return (*freeFetchBuffers.Get().(*[]byte))[:n]
}

func giveFetchBuffer(b []byte) {
	if cap(b) == maxFetchBytes {
		b = b[:maxFetchBytes]
		freeFetchBuffers.Put(&b)
	}
}

// fetchedSpan gives the bytes of one column from the parts of a fetcher.
type fetchedSpan struct {
	f      *fetcher
	ranges []byteRange
	parts  []*part // that hold its ranges; those that were passed are left out
	joined []byte  // bytes that are in several parts
}

func newFetchedSpan(f *fetcher, ranges []byteRange) *fetchedSpan {
	s := &fetchedSpan{f: f, ranges: ranges}
	for _, p := range f.parts {
		if slices.ContainsFunc(ranges, func(r byteRange) bool { return r.from < p.to && p.from < r.to }) {
			p.users++
			s.parts = append(s.parts, p)
		}
	}
	slices.SortFunc(s.parts, func(a, b *part) int { return cmp.Compare(a.from, b.from) })
	return s
}

func (s *fetchedSpan) at(ctx context.Context, offset int64, n int) ([]byte, error) {
	b, err := s.upTo(ctx, offset, n)
	if err == nil && len(b) < n {
		err = errNotInColumn(offset, n)
	}
	return b, err
}

func (s *fetchedSpan) upTo(ctx context.Context, offset int64, n int) ([]byte, error) {
	r, ok := rangeAt(s.ranges, offset)
	if !ok || n < 0 {
		return nil, errNotInColumn(offset, n)
	}
	n = int(min(int64(n), r.to-offset))
	for len(s.parts) > 0 && s.parts[0].to <= offset {
		s.f.release(s.parts[0])
		s.parts = s.parts[1:]
	}
	s.joined = s.joined[:0]
	for _, p := range s.parts {
		if p.from > offset {
			break
		}
		b, err := s.f.wait(ctx, p)
		if err != nil {
			return nil, err
		}
		b = b[offset-p.from:]
		if len(s.joined) == 0 && len(b) >= n {
			return b[:n], nil
		}
		b = b[:min(len(b), n-len(s.joined))]
		s.joined = append(s.joined, b...)
		if len(s.joined) == n {
			return s.joined, nil
		}
		offset += int64(len(b))
	}
	return nil, errNotInColumn(offset, n) // cannot be: the parts hold the ranges
}

// close says that the column reads nothing more.
func (s *fetchedSpan) close() {
	for _, p := range s.parts {
		s.f.release(p)
	}
	s.parts = nil
}
