package hotcache

import (
	"hash/maphash"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/twofold-ml/twofold/internal/online/driver"
)

// entry is what is in memory of one entity. Nothing of it changes once others can see it.
type entry struct {
	// entity and key say whose rows they are: entries are found by a hash, so both are compared before they are used.
	entity string
	key    string
	rows   []viewRow
}

// viewRow is the row of one view.
type viewRow struct {
	view *view
	// generation is the view's when the row was asked for.
	generation uint64
	// began is the moment before the row was asked for, see rowTable.now.
	began time.Duration
	// row is the stored row; nil where there is none.
	row []byte
}

// isOf reports whether the entry is this entity's.
func (e *entry) isOf(entity driver.Entity) bool {
	return e.key == string(entity.Key) && e.entity == entity.Name
}

// row returns the row of a view, nil where the entry has none or is nil itself. hint is the index at which it is looked for first: entries have
// their rows in the order in which they were asked for, which is mostly that of the next request too.
func (e *entry) row(v *view, hint int) *viewRow {
	if e == nil {
		return nil
	}
	if hint < len(e.rows) && e.rows[hint].view == v {
		return &e.rows[hint]
	}
	for i := range e.rows {
		if e.rows[i].view == v {
			return &e.rows[i]
		}
	}
	return nil
}

// pack moves the bytes of all rows into memory of their own: they may be parts of large answers, which would be kept with them.
func (e *entry) pack() {
	size := 0
	for i := range e.rows {
		size += len(e.rows[i].row)
	}
	all := make([]byte, 0, size)
	for i := range e.rows {
		if r := &e.rows[i]; r.row != nil {
			start := len(all)
			all = append(all, r.row...)
			r.row = all[start:len(all):len(all)]
		}
	}
}

// What an entry takes beside its key and rows, in bytes: itself, its node in the library's table, and the sizes that memory is handed out
// in. See TestMemoryIsBounded.
const (
	entryOverhead = 250
	rowOverhead   = 56 // for each of its rows
)

// weight is what the entry takes of Options.MaxBytes. The names of entities and views are shared with the definitions.
func (e *entry) weight() uint32 {
	size := entryOverhead + len(e.key) + rowOverhead*len(e.rows)
	for i := range e.rows {
		size += len(e.rows[i].row)
	}
	return uint32(min(uint64(size), math.MaxUint32))
}

// flight is rows of one entity that are being fetched.
type flight struct {
	fetch *fetch
	hash  uint64
	// entry has its rows, or err is set, before fetch.done is closed.
	entry *entry
	err   error
	// next is another flight under the same hash, for other views or begun earlier.
	next *flight
}

// shards is how many locks share the rows that are being fetched.
const shards = 64

// shard guards its part of the entities: what is being fetched, and every change of what is in memory.
type shard struct {
	mu      sync.Mutex
	flights map[uint64]*flight // the latest, linked by next
	_       [48]byte           // a cache line each
}

// rowTable has the rows by the hash of their entity: those in memory and those that are being fetched.
type rowTable struct {
	maxStaleness time.Duration
	start        time.Time
	seed         maphash.Seed
	shards       [shards]shard
	stored       *otter.Cache[uint64, *entry]
	clock        *otter.CoarseClock
}

func newRowTable(maxBytes int64, maxStaleness time.Duration, c *counters) *rowTable {
	t := &rowTable{maxStaleness: maxStaleness, start: time.Now(), seed: maphash.MakeSeed()}
	for i := range t.shards {
		t.shards[i].flights = map[uint64]*flight{}
	}
	// The library's expiry only gives back the memory of rows that are not served any more, so its clock may be coarse. Whether a
	// row may be served is decided by fresh.
	resolution := min(max(maxStaleness/10, 10*time.Millisecond), 100*time.Millisecond)
	t.clock = otter.NewCoarseClock(resolution)
	t.stored = otter.Must(&otter.Options[uint64, *entry]{
		MaximumWeight:    uint64(maxBytes),
		Weigher:          func(_ uint64, e *entry) uint32 { return e.weight() },
		ExpiryCalculator: otter.ExpiryWriting[uint64, *entry](maxStaleness + 2*resolution),
		Clock:            t.clock,
		OnAtomicDeletion: func(e otter.DeletionEvent[uint64, *entry]) {
			switch e.Cause {
			case otter.CauseOverflow:
				c.evicted.Add(1)
			case otter.CauseExpiration:
				c.expired.Add(1)
			}
		},
	})
	return t
}

// now returns the time since the cache was made, on a clock that nobody can set.
func (t *rowTable) now() time.Duration { return time.Since(t.start) }

// hash returns the hash of an entity.
func (t *rowTable) hash(e driver.Entity) uint64 {
	const odd = 0x9e3779b97f4a7c15
	return maphash.Bytes(t.seed, e.Key) + maphash.String(t.seed, e.Name)*odd
}

func (t *rowTable) shard(hash uint64) *shard { return &t.shards[hash%shards] }

// get returns what is in memory of an entity, nil where there is nothing.
func (t *rowTable) get(hash uint64, entity driver.Entity) *entry {
	if e, ok := t.stored.GetIfPresent(hash); ok && e.isOf(entity) {
		return e
	}
	return nil
}

// fresh reports whether a row, or one that was asked for when this was, may be served now.
func (t *rowTable) fresh(r *viewRow, now time.Duration) bool {
	return now-r.began <= t.maxStaleness && r.generation == r.view.generation.Load()
}

// find says where each of the missing rows of one entity comes from: it puts those into rows that have come since the caller looked, and notes for the others the
// flight that brings them, a new one of f for those that nobody else is fetching.
func (t *rowTable) find(entity driver.Entity, missing []place, rows [][]byte, f *fetch) {
	hash := missing[0].hash
	s := t.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	stored := t.get(hash, entity)
	var own *flight
	for i := range missing {
		p := &missing[i]
		if r := stored.row(p.view, i); r != nil && t.fresh(r, f.began) {
			rows[p.at] = r.row
			continue
		}
		if p.flight, p.row = t.join(s.flights[hash], entity, p.view, f.began); p.flight != nil {
			continue
		}
		if own == nil {
			own = f.add(entity, hash, len(missing)-i)
		}
		p.flight, p.row = own, len(own.entry.rows)
		own.entry.rows = append(own.entry.rows, viewRow{view: p.view, generation: p.view.generation.Load(), began: f.began})
	}
	if own != nil {
		own.next = s.flights[hash]
		s.flights[hash] = own
	}
}

// join returns which of the flights from the first on brings a row that may be served now, and the row's index in its entry.
func (t *rowTable) join(first *flight, entity driver.Entity, v *view, now time.Duration) (*flight, int) {
	for f := first; f != nil; f = f.next {
		if !f.entry.isOf(entity) {
			continue
		}
		for i := range f.entry.rows {
			if r := &f.entry.rows[i]; r.view == v && t.fresh(r, now) {
				return f, i
			}
		}
	}
	return nil, 0
}

// land ends a flight and keeps its rows, unless it failed, was too slow, or the entity was written since it began.
func (t *rowTable) land(f *flight) {
	s := t.shard(f.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.remove(f) || f.err != nil {
		return
	}
	if e := t.merge(f.hash, f.entry); e != nil {
		t.stored.Set(f.hash, e)
	}
}

// remove removes a flight and reports whether it was there.
func (s *shard) remove(f *flight) bool {
	first := s.flights[f.hash]
	if first == f {
		if s.flights[f.hash] = f.next; f.next == nil {
			delete(s.flights, f.hash)
		}
		return true
	}
	for ; first != nil; first = first.next {
		if first.next == f {
			first.next = f.next
			return true
		}
	}
	return false
}

// merge returns an entry that has the rows of e and of what is in memory already; of a view that both have, that of e, unless it may not be
// served any more. It returns nil where none of e's rows may.
func (t *rowTable) merge(hash uint64, e *entry) *entry {
	now := t.now()
	if !slices.ContainsFunc(e.rows, func(r viewRow) bool { return t.fresh(&r, now) }) {
		return nil
	}
	old, ok := t.stored.GetIfPresent(hash)
	if !ok || old.entity != e.entity || old.key != e.key {
		return e
	}
	merged := &entry{entity: e.entity, key: e.key}
	for i := range old.rows {
		r := &old.rows[i]
		if own := e.row(r.view, i); t.fresh(r, now) && (own == nil || !t.fresh(own, now)) {
			merged.rows = append(merged.rows, *r)
		}
	}
	if len(merged.rows) == 0 {
		return e
	}
	for i := range e.rows {
		if merged.row(e.rows[i].view, i) == nil {
			merged.rows = append(merged.rows, e.rows[i])
		}
	}
	merged.rows = slices.Clip(merged.rows)
	merged.pack()
	return merged
}

// drop forgets what is in memory under a hash, and that it is being fetched, so that what a fetch brings is not kept and nobody joins it any more. It
// reports whether there was anything.
func (t *rowTable) drop(hash uint64) bool {
	s := t.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, flying := s.flights[hash]
	delete(s.flights, hash)
	if _, ok := t.stored.GetIfPresent(hash); !ok {
		return flying // a write of many rows, few of them in memory, pays a look each
	}
	t.stored.Invalidate(hash)
	return true
}

func (t *rowTable) close() {
	t.stored.StopAllGoroutines()
	t.clock.Stop()
}
