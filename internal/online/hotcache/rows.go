package hotcache

import (
	"hash/maphash"
	"math"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/twofold-ml/twofold/internal/online/driver"
)

// entry is one stored row in memory. Nothing of it changes once others can see it.
type entry struct {
	// entity, key and view say whose row it is: entries are found by a hash, so each is compared before it is used.
	entity string
	key    string
	view   *view
	// generation is the view's when the row was asked for.
	generation uint64
	// began is the moment before the row was asked for, see rowTable.now.
	began time.Duration
	// row is the stored row; nil where there is none.
	row []byte
}

// isOf reports whether the entry is the row of this entity and view.
func (e *entry) isOf(entity driver.Entity, v *view) bool {
	return e.view == v && e.key == string(entity.Key) && e.entity == entity.Name
}

// entryOverhead is about what an entry takes beside its key and row, in bytes: itself, its node in the cache's table and the sizes that
// memory is handed out in. See TestMemoryIsBounded.
const entryOverhead = 250

// weight is what the entry takes of Options.MaxBytes. The names of entities and views are shared with the definitions.
func (e *entry) weight() uint32 {
	return uint32(min(uint64(len(e.key)+len(e.row)+entryOverhead), math.MaxUint32))
}

// flight is a row that is being fetched.
type flight struct {
	fetch *fetch
	hash  uint64
	// entry has its row, and err is set, before fetch.done is closed.
	entry *entry
	err   error
}

// shards is how many locks share the rows that are being fetched.
const shards = 64

// shard guards its part of the rows: what is being fetched, and every change of what is in memory.
type shard struct {
	mu      sync.Mutex
	flights map[uint64]*flight
	_       [48]byte // a cache line each
}

// rowTable has the rows by hash: those in memory and those that are being fetched.
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
	// row may be served is decided by serves.
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

// get returns what is in memory under a hash, nil where there is nothing. It may be the row of another entity or view, or too old.
func (t *rowTable) get(hash uint64) *entry {
	e, _ := t.stored.GetIfPresent(hash)
	return e
}

// serves reports whether e is the row of this entity and view and may still be served.
func (t *rowTable) serves(e *entry, entity driver.Entity, v *view, now time.Duration) bool {
	return t.fresh(e, now) && e.isOf(entity, v)
}

// fresh reports whether what was asked for when e was may be served now.
func (t *rowTable) fresh(e *entry, now time.Duration) bool {
	return now-e.began <= t.maxStaleness && e.generation == e.view.generation.Load()
}

// find returns the row of an entity and view where it is in memory, or the flight that brings it, which is one of f where nobody else is fetching it.
func (t *rowTable) find(hash uint64, entity driver.Entity, v *view, f *fetch) (*entry, *flight) {
	s := t.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := t.get(hash); e != nil && t.serves(e, entity, v, f.began) {
		return e, nil // it has come since the caller looked
	}
	if other := s.flights[hash]; other != nil && t.serves(other.entry, entity, v, f.began) {
		return nil, other
	}
	own := f.add(entity, v, hash)
	s.flights[hash] = own
	return nil, own
}

// land ends a flight and keeps its row, unless it failed or the row was written since the flight began, or the flight became too old for others and was replaced.
func (t *rowTable) land(f *flight) {
	s := t.shard(f.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flights[f.hash] != f {
		return
	}
	delete(s.flights, f.hash)
	if f.err == nil {
		t.stored.Set(f.hash, f.entry)
	}
}

// drop forgets what is in memory under a hash, and that it is being fetched, so that what a fetch brings is not kept and nobody joins it any more. It
// reports whether there was anything.
func (t *rowTable) drop(hash uint64) bool {
	s := t.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, flying := s.flights[hash]
	delete(s.flights, hash)
	if t.get(hash) == nil {
		return flying // a write of many rows, few of them in memory, pays a look each
	}
	t.stored.Invalidate(hash)
	return true
}

func (t *rowTable) close() {
	t.stored.StopAllGoroutines()
	t.clock.Stop()
}
