package pit

import (
	"context"
	"math"
	"sync"
	"sync/atomic"

	"github.com/twofold-ml/twofold/internal/feature"
)

// viewScan finds, for each slot of an index, the newest row of one view among those that come to that slot first.
//
// A row is known from a moment on: from its event time, or, with the created-time cutoff, from the later of its event time and its created
// time. A slot of time T may use exactly the rows known by T. The scan offers each row only to the first slot of its group that may
// use it; then the rows that slot s may use are those offered to the slots of the group up to s, and the newest of them is the
// greatest candidate of those slots (viewScan.resolve). This holds for any rule of when a row is known, so the cutoff needs no other algorithm.
//
// The ttl comes last: the winner of a slot has the greatest event time of all rows that the slot may use, so if the winner is expired, all of them are.
// For the same reason a row that is expired at its first slot may be dropped at once: it is expired at every later slot too, and where it would have won,
// the row that wins in its stead is no newer, so it is expired as well.
type viewScan struct {
	index   *index
	history *history
	ttl     feature.TTL
	cutoff  bool

	best []candidate
	near *nearness
	// locks guard best, slot s by locks[s % len]; nil where there is only one writer. Sharing one array keeps the memory of a scan
	// independent of the number of workers.
	locks *[lockStripes]paddedMutex

	rowsRead, rowsNull atomic.Int64
	progress           *Progress
}

const lockStripes = 512

// paddedMutex fills a cache line, so that neighbours do not slow each other down.
type paddedMutex struct {
	sync.Mutex
	_ [56]byte
}

func (v *viewScan) run(ctx context.Context, p *pool) error {
	v.near = v.index.nearness(v.ttl)
	v.best = make([]candidate, v.index.slots())
	err := p.shares(ctx, len(v.best), func(from, to int) {
		for i := from; i < to; i++ {
			v.best[i] = noCandidate
		}
	})
	if err != nil {
		return err
	}
	if p.size() > 1 && len(v.history.fragments) > 1 {
		v.locks = new([lockStripes]paddedMutex)
	}
	return v.history.scan(ctx, p, v.visit)
}

func (v *viewScan) visit(s *scratch, first int64, batch feature.KeyBatch) error {
	v.rowsRead.Add(int64(batch.Len()))
	v.progress.Scanned.Add(int64(batch.Len()))
	v.rowsNull.Add(int64(batch.Len() - s.selectWithin(batch, v.cutoff, v.index.within(v.ttl))))
	if len(s.rows) == 0 {
		return nil
	}
	s.loadKeys(v.index.hasher, batch)
	v.find(s, batch.EventTimes)
	v.offer(s, first, batch)
	return nil
}

// find finds the groups of the selected rows, and drops those that have none, and most of those that no slot of their group can use.
func (v *viewScan) find(s *scratch, events *feature.Column) {
	if ids := v.index.ids; ids != nil {
		ids.find(s.keys.ints, s.numbers)
	} else {
		v.index.groups.find(&s.keys, s.numbers)
	}
	if v.near == nil {
		s.dropAbsent()
	} else {
		s.keepNear(v.near, events)
	}
}

// nearness tells, from the windows of an index, most of the rows that no slot of their group can use: most rows of a history are far from all times that their entity is
// asked for.
type nearness struct {
	windows []window
	// Event times are counted in steps from base on; those before least, which any slot may use, as if they were least.
	least int64
	base  uint64
	shift int
	// reach is how many steps after that of a row its ttl may end.
	reach uint64
}

// nearness returns what tells the rows that a view can use: those from the ttl before the first slot of their group to its last one.
func (x *index) nearness(ttl feature.TTL) *nearness {
	width, ok := x.width()
	if !ok {
		return nil
	}
	n := &nearness{windows: x.windows, shift: x.shift, least: math.MinInt64}
	reach := uint64(ttl)
	if ttl == 0 || reach > width { // then the ttl leaves nothing out, or nearly nothing
		n.least, reach = int64(x.min), width
	}
	n.base, n.reach = uint64(x.min)-reach, reach>>x.shift+1
	return n
}

// keepNear drops the rows whose key has no number, and those that are far from all slots of their group, whose windows stand at the numbers. It has no branches: which way
// they go could not be guessed.
func (s *scratch) keepNear(n *nearness, events *feature.Column) {
	kept, times := 0, events.Int64s
	var windows [lookAhead]window
	for from := 0; from < len(s.rows); from += lookAhead {
		rows, numbers := s.rows[from:min(from+lookAhead, len(s.rows))], s.numbers[from:]
		for i := range rows {
			windows[i] = n.windows[max(0, numbers[i])]
		}
		for i, row := range rows {
			s.rows[kept], s.numbers[kept] = row, numbers[i]
			step := (uint64(max(times[row], n.least)) - n.base) >> n.shift
			w := windows[i]
			// The differences are negative, so that their highest bit is set, where the row is too early and where it is too late; and so is absent.
			outside := ((step - uint64(w.first)) | (uint64(w.last) + n.reach - step) | uint64(numbers[i])) >> 63
			kept += 1 - int(outside)
		}
	}
	s.rows, s.numbers = s.rows[:kept], s.numbers[:kept]
}

// offer offers the selected rows, whose groups are found, to their slots.
func (v *viewScan) offer(s *scratch, first int64, batch feature.KeyBatch) {
	var slots [lookAhead]int32
	for from := 0; from < len(s.rows); from += lookAhead {
		to := min(from+lookAhead, len(s.rows))
		rows := s.rows[from:to]
		v.locate(rows, s.numbers[from:to], batch, slots[:])
		for i, row := range rows {
			slot := slots[i]
			if slot == absent {
				continue
			}
			v.update(slot, candidate{
				event:    feature.EventTime(batch.EventTimes.Int64s[row]),
				created:  createdTime(batch.CreatedTimes, row),
				position: mark(first+int64(row), batch.Deleted, row),
			})
		}
	}
}

// locate finds, for at most lookAhead rows and their groups, the first slot that may use each row; absent where there is none.
func (v *viewScan) locate(rows, groups []int32, batch feature.KeyBatch, slots []int32) {
	x := v.index
	var spans [lookAhead]span
	var seconds [lookAhead]feature.AsOf // the times of the groups' second slots, where they have some
	for i, group := range groups {
		spans[i] = x.spans[group]
	}
	for i := range groups {
		seconds[i] = x.times[min(spans[i].start+1, spans[i].end-1)]
	}
	for i, row := range rows {
		event := batch.EventTimes.Int64s[row]
		known := event
		if v.cutoff {
			known = max(event, int64(createdTime(batch.CreatedTimes, row)))
		}
		s := &spans[i]
		slot, at := s.start, s.first
		if int64(at) < known {
			slot++
			if at = seconds[i]; slot < s.end && int64(at) < known {
				if slot = x.firstAtOrAfter(slot+1, s.end, known); slot < s.end {
					at = x.times[slot]
				}
			}
			if slot == s.end {
				slots[i] = absent
				continue
			}
		}
		if v.ttl.Expired(feature.EventTime(event), at) {
			slot = absent
		}
		slots[i] = slot
	}
	if v.locks != nil {
		v.dropOlder(rows, batch, slots)
	}
}

// dropOlder drops the rows that are older than what their slot has already: without its lock, since what a slot has only grows newer. It also has the
// processor load many slots at a time, which locks would not let it.
func (v *viewScan) dropOlder(rows []int32, batch feature.KeyBatch, slots []int32) {
	for i, row := range rows {
		if slot := slots[i]; slot != absent && batch.EventTimes.Int64s[row] < atomic.LoadInt64((*int64)(&v.best[slot].event)) {
			slots[i] = absent
		}
	}
}

func (v *viewScan) update(slot int32, c candidate) {
	best := &v.best[slot]
	if v.locks == nil {
		if best.before(&c) {
			*best = c
		}
		return
	}
	lock := &v.locks[slot%lockStripes]
	lock.Lock()
	if best.before(&c) {
		atomic.StoreInt64((*int64)(&best.event), int64(c.event)) // read by dropOlder
		best.created, best.position = c.created, c.position
	}
	lock.Unlock()
}

// resolve turns best, in place, into the row that each slot gets: noCandidate where there is none within the ttl, or it is a tombstone.
// It returns, for each distinct winner, the first slot that it wins.
func (v *viewScan) resolve(ctx context.Context, p *pool) (heads []int32, err error) {
	var mu sync.Mutex
	err = p.shares(ctx, len(v.index.spans), func(from, to int) {
		some := v.resolveGroups(v.index.spans[from:to])
		mu.Lock()
		defer mu.Unlock()
		heads = append(heads, some...) // in any order: they are sorted by position later
	})
	return heads, err
}

func (v *viewScan) resolveGroups(groups []span) (heads []int32) {
	for _, slots := range groups {
		newest, won := noCandidate, noCandidate
		for slot := slots.start; slot < slots.end; slot++ {
			if newest.before(&v.best[slot]) {
				newest = v.best[slot]
			}
			v.best[slot] = newest
			switch {
			case newest.position < 0:
			case newest.position.isTombstone() || v.ttl.Expired(newest.event, v.index.times[slot]):
				v.best[slot] = noCandidate
			case newest.position != won.position:
				won = newest
				heads = append(heads, slot)
			}
		}
	}
	return heads
}
