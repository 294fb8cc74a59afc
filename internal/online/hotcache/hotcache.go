// Package hotcache keeps the rows of often-read entities in the memory of the process, in front of an online store: it is a driver.Driver
// on top of another one. It holds stored rows as they are (bytes), so freshness by ttl is decided as it is without the cache, from
// the row's own event time at each read.
//
// What a read may see:
//
//   - A row that Read returns was the stored one at some moment not more than Options.MaxStaleness before that Read began. The age of a row counts from the
//     moment before the store was asked for it, so a slow store makes rows that are older when they come, never rows that stay longer.
//   - Where all writers of a row write through this process, Read returns what was stored when it began, or later: Write and Remove
//     drop the entities that they change, and rows that were being fetched meanwhile reach only those who waited for them already.
//   - When the marker of a view changes or goes, as it does after a full sync or in a store that lost its data, all rows of the view, in
//     whatever generation of it, are dropped at once. Markers are seen as they pass by: GetMeta, PutMeta and SwapMeta of "synced/<view>", which a server asks for every 2 s.
//
// Concurrent reads ask the store for the same row once. A fetch that fails is not kept; its error reaches all who waited for it.
package hotcache

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"time"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

// markerPrefix starts the names of the small values by which online.Store.MarkSynced marks a view as synced.
const markerPrefix = "synced/"

// Options configure a Cache.
type Options struct {
	// MaxBytes is the most memory that rows may take, in bytes, keys and bookkeeping included; must be more than 0.
	MaxBytes int64
	// MaxStaleness is the longest that a row is served after the store was asked for it; must be more than 0.
	MaxStaleness time.Duration
	// FetchTimeout bounds one fetch of rows, which no caller's context can end, because others may wait for them too. Defaults to 10 s, more than
	// drivers need to give up by themselves.
	FetchTimeout time.Duration
}

// Cache is a driver.Driver that answers reads of rows from memory where it may. It is also a prometheus.Collector.
type Cache struct {
	driver       driver.Driver
	rows         *rowTable
	views        viewTable
	fetchTimeout time.Duration
	counters     counters

	// closing is done once Close is called, which ends fetches that nobody waits for.
	closing context.Context
	cancel  context.CancelFunc
	fetches sync.WaitGroup
}

var _ driver.Driver = (*Cache)(nil)

// New returns a Cache on top of d, which it owns from now on. It panics where an option that must be more than 0 is not.
func New(d driver.Driver, o Options) *Cache {
	if o.MaxBytes <= 0 || o.MaxStaleness <= 0 {
		panic("hotcache: MaxBytes and MaxStaleness must be more than 0")
	}
	if o.FetchTimeout <= 0 {
		o.FetchTimeout = 10 * time.Second
	}
	c := &Cache{driver: d, fetchTimeout: o.FetchTimeout}
	c.counters.maxBytes = o.MaxBytes
	c.rows = newRowTable(o.MaxBytes, o.MaxStaleness, &c.counters)
	c.closing, c.cancel = context.WithCancel(context.Background())
	return c
}

// Read implements driver.Driver. Rows that are not in memory are asked of the store in one call, except those that another Read is asking
// for. History reads always go to the store, in a call of their own.
func (c *Cache) Read(ctx context.Context, reads []driver.Read) ([][]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fault.New(fault.Unavailable, "read rows: %w", err)
	}
	total, history := 0, 0
	for i := range reads {
		total += len(reads[i].Views)
		if reads[i].History {
			history++
		}
	}
	switch history {
	case 0:
		return c.readLatest(ctx, reads, total)
	case len(reads):
		return c.driver.Read(ctx, reads)
	default:
		return c.readMixed(ctx, reads, total)
	}
}

// inlineViews is how many views an entity's read may have before the list of them needs memory of its own.
const inlineViews = 32

// readLatest reads rows that are no history; total is how many.
func (c *Cache) readLatest(ctx context.Context, reads []driver.Read, total int) ([][]byte, error) {
	var (
		now     = c.rows.now()
		rows    = make([][]byte, total)
		missing []place
		names   []string
		buffer  [inlineViews]*view
		views   = buffer[:0]
		at      = 0
	)
	for i := range reads {
		read := &reads[i]
		if !same(names, read.Views) {
			names = read.Views
			views = c.views.appendViews(views[:0], names)
		}
		hash := c.rows.hash(read.Entity)
		stored := c.rows.get(hash, read.Entity)
		for j, v := range views {
			if r := stored.row(v, j); r != nil && c.rows.fresh(r, now) {
				rows[at] = r.row
			} else {
				missing = append(missing, place{view: v, hash: hash, read: i, at: at})
			}
			at++
		}
	}
	c.counters.hits.Add(uint64(total - len(missing)))
	if len(missing) == 0 {
		return rows, nil
	}
	return c.readMissing(ctx, reads, rows, missing)
}

// same reports whether two lists are the same memory, as those of one request's reads mostly are.
func same(a, b []string) bool {
	return len(a) == len(b) && len(a) > 0 && &a[0] == &b[0]
}

// Write implements driver.Driver. The entities are dropped from the cache whatever becomes of the call, because after an error any of the rows
// may have been stored.
func (c *Cache) Write(ctx context.Context, rows []driver.Row) ([]driver.Outcome, error) {
	defer c.invalidate(len(rows), func(i int) (driver.Entity, string) { return rows[i].Entity, rows[i].View })
	return c.driver.Write(ctx, rows)
}

// Remove implements driver.Driver. The entities are dropped from the cache whatever becomes of the call, as by Write.
func (c *Cache) Remove(ctx context.Context, rows []driver.Removal) (int, error) {
	defer c.invalidate(len(rows), func(i int) (driver.Entity, string) { return rows[i].Entity, rows[i].View })
	return c.driver.Remove(ctx, rows)
}

// Scan implements driver.Driver. It always goes to the store, and leaves nothing in memory.
func (c *Cache) Scan(ctx context.Context, scan driver.Scan, yield func([]driver.ScannedRow) error) error {
	return c.driver.Scan(ctx, scan, yield)
}

// invalidate drops the entities of n rows that were written or removed, also where they are being fetched. of returns the entity and the view of one of them.
func (c *Cache) invalidate(n int, of func(i int) (e driver.Entity, view string)) {
	dropped, last := uint64(0), driver.Entity{}
	for i := range n {
		e, view := of(i)
		if c.views.lookup(view) == nil || (i > 0 && e.Name == last.Name && bytes.Equal(e.Key, last.Key)) {
			continue // never read, or just dropped
		}
		if last = e; c.rows.drop(c.rows.hash(e)) {
			dropped++
		}
	}
	c.counters.written.Add(dropped)
}

// GetMeta implements driver.Driver, and looks at the markers among the values.
func (c *Cache) GetMeta(ctx context.Context, names []string) ([][]byte, error) {
	values, err := c.driver.GetMeta(ctx, names)
	if err != nil || len(values) != len(names) {
		return values, err
	}
	for i, name := range names {
		if view, ok := strings.CutPrefix(name, markerPrefix); ok {
			c.observe(view, values[i])
		}
	}
	return values, nil
}

// PutMeta implements driver.Driver, and looks at the value where it is a marker.
func (c *Cache) PutMeta(ctx context.Context, name string, value []byte) error {
	err := c.driver.PutMeta(ctx, name, value)
	view, ok := strings.CutPrefix(name, markerPrefix)
	switch {
	case !ok:
	case err != nil:
		c.views.forget(view) // it may have been stored
	default:
		c.observe(view, append([]byte{}, value...)) // an empty value is a value
	}
	return err
}

// SwapMeta implements driver.Driver, and looks at the value where it is a marker.
func (c *Cache) SwapMeta(ctx context.Context, name string, old, value []byte) (swapped bool, err error) {
	swapped, err = c.driver.SwapMeta(ctx, name, old, value)
	view, ok := strings.CutPrefix(name, markerPrefix)
	switch {
	case !ok:
	case err != nil:
		c.views.forget(view) // it may have been stored
	case swapped:
		c.observe(view, bytes.Clone(value))
	}
	return swapped, err
}

// observe takes note of the marker of a view, nil where there is none.
func (c *Cache) observe(view string, marker []byte) {
	if c.views.observe(view, marker) {
		c.counters.generations.Add(1)
	}
}

// PutMark implements driver.Driver.
func (c *Cache) PutMark(ctx context.Context, name string, value []byte) error {
	return c.driver.PutMark(ctx, name, value)
}

// Marks implements driver.Driver.
func (c *Cache) Marks(ctx context.Context, name string) ([][]byte, error) {
	return c.driver.Marks(ctx, name)
}

// Ping implements driver.Driver.
func (c *Cache) Ping(ctx context.Context) error { return c.driver.Ping(ctx) }

// Warnings implements driver.Driver.
func (c *Cache) Warnings(ctx context.Context) ([]string, error) { return c.driver.Warnings(ctx) }

// Close ends the fetches that nobody waits for any more and closes the driver beneath.
func (c *Cache) Close() error {
	c.cancel()
	c.fetches.Wait()
	c.rows.close()
	return c.driver.Close()
}
