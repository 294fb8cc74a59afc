package hotcache

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

// place is one row of an answer that was not in memory.
type place struct {
	view *view
	hash uint64 // of its entity
	read int    // index of its read
	at   int    // index of its row in the answer
	// flight brings it as that row of its entry; nil where it has come meanwhile.
	flight *flight
	row    int
}

// fetch is one call of the driver beneath, for the rows of one Read that nobody else was fetching.
type fetch struct {
	// done is closed when every flight has its rows or its error.
	done  chan struct{}
	began time.Duration
	// flights has one element for each of reads. It is never moved, because others point into it.
	flights []flight
	reads   []driver.Read
	rows    int
}

// readMissing completes rows with those of the missing places.
func (c *Cache) readMissing(ctx context.Context, reads []driver.Read, rows [][]byte, missing []place) ([][]byte, error) {
	most := min(len(missing), len(reads))
	f := &fetch{done: make(chan struct{}), began: c.rows.now(), flights: make([]flight, 0, most), reads: make([]driver.Read, 0, most)}
	for start, end := 0, 0; start < len(missing); start = end {
		read := missing[start].read
		for end < len(missing) && missing[end].read == read {
			end++
		}
		c.rows.find(reads[read].Entity, missing[start:end], rows, f)
		f.plan(reads[read])
	}
	late := 0
	for i := range missing {
		if missing[i].flight == nil {
			late++
		}
	}
	c.counters.hits.Add(uint64(late))
	c.counters.misses.Add(uint64(f.rows))
	c.counters.shared.Add(uint64(len(missing) - late - f.rows))
	if f.rows > 0 {
		c.start(ctx, f)
	}
	return wait(ctx, reads, rows, missing)
}

// add adds a flight for up to that many rows of an entity, which plan must follow.
func (f *fetch) add(entity driver.Entity, hash uint64, rows int) *flight {
	f.flights = append(f.flights, flight{
		fetch: f, hash: hash, entry: &entry{entity: entity.Name, key: string(entity.Key), rows: make([]viewRow, 0, rows)},
	})
	return &f.flights[len(f.flights)-1]
}

// plan asks for the rows of the flight that was added for this read, if one was.
func (f *fetch) plan(read driver.Read) {
	n := len(f.reads)
	if n == len(f.flights) {
		return
	}
	rows := f.flights[n].entry.rows
	f.rows += len(rows)
	switch {
	case len(rows) == len(read.Views): // none is in memory
	case n > 0 && areOf(rows, f.reads[n-1].Views):
		read.Views = f.reads[n-1].Views // drivers look only once at a list that is the same memory
	default:
		read.Views = make([]string, len(rows))
		for i := range rows {
			read.Views[i] = rows[i].view.name
		}
	}
	f.reads = append(f.reads, read)
}

// areOf reports whether rows are those of these views.
func areOf(rows []viewRow, views []string) bool {
	return slices.EqualFunc(rows, views, func(r viewRow, name string) bool { return r.view.name == name })
}

// start runs a fetch. It outlives its caller's context, because others may have joined it.
func (c *Cache) start(ctx context.Context, f *fetch) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.fetchTimeout)
	stop := context.AfterFunc(c.closing, cancel)
	c.fetches.Go(func() {
		defer cancel()
		defer stop()
		rows, err := c.ask(ctx, f.reads, f.rows)
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

// arrive gives each flight its rows or its error. rows and err are what ask returned.
func (f *fetch) arrive(rows [][]byte, err error) {
	partial, _ := errors.AsType[*driver.PartialError](err)
	for i := range f.flights {
		flight := &f.flights[i]
		flight.err = err
		if partial != nil {
			flight.err = partial.Errs[i]
		}
		own := flight.entry.rows
		if flight.err == nil {
			for j := range own {
				own[j].row = rows[j]
			}
			flight.entry.pack()
		}
		if rows != nil {
			rows = rows[len(own):]
		}
	}
}

// wait returns rows once each missing one has come with its flight.
func wait(ctx context.Context, reads []driver.Read, rows [][]byte, missing []place) ([][]byte, error) {
	var errs []error
	var landed *fetch
	for i := range missing {
		p := &missing[i]
		if p.flight == nil {
			continue
		}
		if p.flight.fetch != landed {
			select {
			case <-p.flight.fetch.done:
				landed = p.flight.fetch
			case <-ctx.Done():
				return nil, fault.New(fault.Unavailable, "read rows: %w", ctx.Err())
			}
		}
		if p.flight.err == nil {
			rows[p.at] = p.flight.entry.rows[p.row].row
			continue
		}
		if errs == nil {
			errs = make([]error, len(reads))
		}
		if errs[p.read] == nil {
			errs[p.read] = p.flight.err
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
