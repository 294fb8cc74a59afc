package hotcache

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"time"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

// place is one row of an answer that was not in memory.
type place struct {
	view *view
	hash uint64
	read int // index of its read
	at   int // index of its row in the answer
}

// fetch is one call of the driver beneath, for the rows of one Read that nobody else was fetching.
type fetch struct {
	// done is closed when every flight has its row or its error.
	done  chan struct{}
	began time.Duration
	reads []driver.Read
	// flights has one element for each view of reads, in order. It is never moved, because others point into it.
	flights []flight
}

// readMissing completes rows with those of the missing places.
func (c *Cache) readMissing(ctx context.Context, reads []driver.Read, rows [][]byte, missing []place) ([][]byte, error) {
	f := &fetch{done: make(chan struct{}), began: c.rows.now(), flights: make([]flight, 0, len(missing))}
	flights := make([]*flight, len(missing))
	late := 0
	for i := 0; i < len(missing); {
		read, planned := missing[i].read, len(f.flights)
		for ; i < len(missing) && missing[i].read == read; i++ {
			p := missing[i]
			var e *entry
			if e, flights[i] = c.rows.find(p.hash, reads[read].Entity, p.view, f); e != nil {
				rows[p.at] = e.row
				late++
			}
		}
		f.plan(reads[read], planned)
	}
	c.counters.hits.Add(uint64(late))
	c.counters.misses.Add(uint64(len(f.flights)))
	c.counters.shared.Add(uint64(len(missing) - late - len(f.flights)))
	if len(f.flights) > 0 {
		c.start(ctx, f)
	}
	return wait(ctx, reads, rows, missing, flights)
}

// add adds a flight for a row, which plan must follow.
func (f *fetch) add(entity driver.Entity, v *view, hash uint64) *flight {
	key := ""
	if last := len(f.flights) - 1; last >= 0 && f.flights[last].entry.key == string(entity.Key) {
		key = f.flights[last].entry.key // the views of an entity share its key
	} else {
		key = string(entity.Key)
	}
	f.flights = append(f.flights, flight{
		fetch: f, hash: hash,
		entry: &entry{entity: entity.Name, key: key, view: v, generation: v.generation.Load(), began: f.began},
	})
	return &f.flights[len(f.flights)-1]
}

// plan asks for the rows of the flights from the index first on, which are all of one read.
func (f *fetch) plan(read driver.Read, first int) {
	added := f.flights[first:]
	switch n := len(f.reads); {
	case len(added) == 0:
		return
	case len(added) == len(read.Views): // none is in memory
	case n > 0 && sameViews(f.reads[n-1].Views, added): // a list that is the same memory is one that drivers need to look at once only
		read.Views = f.reads[n-1].Views
	default:
		read.Views = make([]string, len(added))
		for i := range added {
			read.Views[i] = added[i].entry.view.name
		}
	}
	f.reads = append(f.reads, read)
}

func sameViews(names []string, flights []flight) bool {
	if len(names) != len(flights) {
		return false
	}
	for i, name := range names {
		if flights[i].entry.view.name != name {
			return false
		}
	}
	return true
}

// start runs a fetch. It outlives its caller's context, because others may have joined it.
func (c *Cache) start(ctx context.Context, f *fetch) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.fetchTimeout)
	stop := context.AfterFunc(c.closing, cancel)
	c.fetches.Go(func() {
		defer cancel()
		defer stop()
		rows, err := c.ask(ctx, f.reads, len(f.flights))
		if err != nil && ctx.Err() != nil {
			// The deadline is not one that a caller has set, so the error must not look like that.
			err = fault.New(fault.Unavailable, "read rows: the online store did not answer within %v, or was closed: %v", c.fetchTimeout, err)
		}
		f.arrive(rows, err)
		for i := range f.flights {
			c.rows.land(&f.flights[i])
		}
		close(f.done)
	})
}

// ask calls the driver beneath, whose answer has n rows. A panic there is an error here, because this may run where nobody else recovers.
func (c *Cache) ask(ctx context.Context, reads []driver.Read, n int) (rows [][]byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			rows, err = nil, fault.New(fault.Internal, "read rows: panic: %v\n%s", p, debug.Stack())
		}
	}()
	rows, err = c.driver.Read(ctx, reads)
	partial, ok := errors.AsType[*driver.PartialError](err)
	if err != nil && !ok {
		return nil, err
	}
	if len(rows) != n || (ok && len(partial.Errs) != len(reads)) {
		return nil, fault.New(fault.Internal, "the online store answered %d rows where %d were asked for", len(rows), n)
	}
	return rows, err
}

// arrive gives each flight its row or its error. rows and err are what ask returned.
func (f *fetch) arrive(rows [][]byte, err error) {
	partial, _ := errors.AsType[*driver.PartialError](err)
	i := 0
	for r := range f.reads {
		failure := err
		if partial != nil {
			failure = partial.Errs[r]
		}
		for range f.reads[r].Views {
			if f.flights[i].err = failure; failure == nil {
				f.flights[i].entry.row = clone(rows[i])
			}
			i++
		}
	}
}

// clone copies a row, which may be part of a large answer that would be kept with it.
func clone(row []byte) []byte {
	if row == nil {
		return nil
	}
	out := make([]byte, len(row))
	copy(out, row)
	return out
}

// wait returns rows once each missing one has come with its flight; it was in memory after all where that is nil.
func wait(ctx context.Context, reads []driver.Read, rows [][]byte, missing []place, flights []*flight) ([][]byte, error) {
	var errs []error
	var landed *fetch
	for i, f := range flights {
		if f == nil {
			continue
		}
		if f.fetch != landed {
			select {
			case <-f.fetch.done:
				landed = f.fetch
			case <-ctx.Done():
				return nil, fault.New(fault.Unavailable, "read rows: %w", ctx.Err())
			}
		}
		if f.err == nil {
			rows[missing[i].at] = f.entry.row
			continue
		}
		if errs == nil {
			errs = make([]error, len(reads))
		}
		if read := missing[i].read; errs[read] == nil {
			errs[read] = f.err
		}
	}
	return answer(reads, rows, errs)
}

// answer is what a Read returns whose reads have these errors; nil: none.
func answer(reads []driver.Read, rows [][]byte, errs []error) ([][]byte, error) {
	failed, at := 0, 0
	partial := &driver.PartialError{Errs: errs}
	for i, err := range errs {
		n := len(reads[i].Views)
		if err != nil {
			failed++
			clear(rows[at : at+n])
		}
		at += n
	}
	switch failed {
	case 0:
		return rows, nil
	case len(reads):
		return nil, partial.First()
	default:
		return rows, partial
	}
}

// readMixed reads rows of both layouts, the history by a call of its own, so that an error about a moment in the past reaches nobody else.
func (c *Cache) readMixed(ctx context.Context, reads []driver.Read, total int) ([][]byte, error) {
	var latest, history layoutReads
	at := 0
	for i, read := range reads {
		if read.History {
			history.add(i, at, read)
		} else {
			latest.add(i, at, read)
		}
		at += len(read.Views)
	}
	var running sync.WaitGroup
	running.Go(func() { history.rows, history.err = c.ask(ctx, history.reads, history.total) })
	latest.rows, latest.err = c.readLatest(ctx, latest.reads, latest.total)
	running.Wait()
	rows, errs := make([][]byte, total), make([]error, len(reads))
	latest.copyTo(rows, errs)
	history.copyTo(rows, errs)
	return answer(reads, rows, errs)
}

// layoutReads are the reads of one layout out of a call that has both.
type layoutReads struct {
	reads []driver.Read
	index []int // of each in the call's reads
	at    []int // place of each one's first row in the call's answer
	total int
	rows  [][]byte
	err   error
}

func (l *layoutReads) add(index, at int, read driver.Read) {
	l.reads, l.index, l.at = append(l.reads, read), append(l.index, index), append(l.at, at)
	l.total += len(read.Views)
}

// copyTo puts the rows and the errors to their places in the answer of the call.
func (l *layoutReads) copyTo(rows [][]byte, errs []error) {
	partial, _ := errors.AsType[*driver.PartialError](l.err)
	at := 0
	for i, read := range l.reads {
		err := l.err
		if partial != nil {
			err = partial.Errs[i]
		}
		if errs[l.index[i]] = err; err == nil {
			copy(rows[l.at[i]:], l.rows[at:at+len(read.Views)])
		}
		at += len(read.Views)
	}
}
