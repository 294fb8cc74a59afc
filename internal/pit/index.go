package pit

import (
	"context"
	"math"
	"math/bits"
	"slices"
	"sort"
	"sync"

	"github.com/twofold-ml/twofold/internal/feature"
)

// index arranges the entity rows by one set of key columns. Rows with the same key form a group; the distinct times of a
// group, ascending, are its slots. All rows of one slot get the same feature row. Once built it is only read.
type index struct {
	// ids numbers the groups by key where it can; elsewhere groups does, by keys hashed by hasher.
	ids    *ids
	groups *interner
	hasher *hasher
	// spans are the slots of each group.
	spans []span
	// times of the slots. Behind the slots of a group may be some that none has.
	times []feature.AsOf
	// slotOf is the slot of each entity row, absent for a row with a null key.
	slotOf []int32
	// The least and the greatest time of a slot.
	min, max feature.AsOf
	// windows of the groups, in steps of 2^shift microseconds; nil where the slots are further apart than can be counted.
	windows []window
	shift   int
}

// window is in which step, counted from that of the index's least time, a group has its first slot and its last. Steps are coarse, so that the windows of all groups stay in
// the processor's caches, where the slots themselves do not.
type window struct{ first, last uint8 }

// windowBits is how many bits the number of a step has.
const windowBits = 8

// span is the slots of one group: from start up to but without end, with the time of the first. What most look-ups ask stands together, so that they
// wait for one place in memory.
type span struct {
	first      feature.AsOf
	start, end int32
}

// newIndex builds the index of rows by the key columns of the given places.
func newIndex(ctx context.Context, p *pool, rows *EntityRows, columns []int) (*index, error) {
	keys := make([]feature.Key, len(columns))
	for i, c := range columns {
		keys[i] = rows.keys[c]
	}
	x := &index{}
	if isIntKey(keys) {
		least, most := rows.keyRange(columns[0])
		x.ids = newIDs(least, most, rows.Len())
	}
	if x.ids == nil {
		hasher := newHasher()
		x.hasher, x.groups = &hasher, newInterner(isIntKey(keys))
	}
	groupOf, groups, err := x.group(ctx, p, rows, columns)
	if err != nil {
		return nil, err
	}
	return x, x.slice(ctx, p, rows.times, groupOf, groups)
}

// blockRows is how many rows are looked up at a time.
const blockRows = 4096

// group returns the group of each entity row, absent where a key is null, and the number of groups.
func (x *index) group(ctx context.Context, p *pool, rows *EntityRows, columns []int) (groupOf []int32, groups int, err error) {
	groupOf = slices.Repeat([]int32{absent}, rows.Len())
	if x.ids == nil {
		err = x.eachBlock(ctx, 0, rows.chunks, columns, func(first int, block []int32, keys *keyRows) {
			for i, row := range block {
				groupOf[first+int(row)] = x.groups.intern(keys, i)
			}
		})
		return groupOf, x.groups.count, err
	}
	if err := x.eachBlock(ctx, 0, rows.chunks, columns, func(_ int, _ []int32, keys *keyRows) { x.ids.add(keys.ints) }); err != nil {
		return nil, 0, err
	}
	groups = x.ids.count()
	starts := make([]int, len(rows.chunks)) // the first row of each chunk
	for i := 1; i < len(starts); i++ {
		starts[i] = starts[i-1] + rows.chunks[i-1][columns[0]].Len()
	}
	err = p.each(ctx, len(starts), func(ctx context.Context, i int) error {
		var numbers [blockRows]int32
		return x.eachBlock(ctx, starts[i], rows.chunks[i:i+1], columns, func(first int, block []int32, keys *keyRows) {
			x.ids.find(keys.ints, numbers[:])
			for i, row := range block {
				groupOf[first+int(row)] = numbers[i]
			}
		})
	})
	return groupOf, groups, err
}

// eachBlock calls use with the keys of those entity rows of some chunks, which begin with row first, of which none is null, some at a time: block has their places from the
// row on that use is given.
func (x *index) eachBlock(ctx context.Context, first int, chunks [][]*feature.Column, columns []int, use func(first int, block []int32, keys *keyRows)) error {
	var keys keyRows
	block := make([]int32, 0, blockRows)
	for _, chunk := range chunks {
		selected := make([]*feature.Column, len(columns))
		for i, c := range columns {
			selected[i] = chunk[c]
		}
		length := selected[0].Len()
		for from := 0; from < length; from += blockRows {
			if err := ctx.Err(); err != nil {
				return err
			}
			block = block[:0]
			for row := from; row < min(from+blockRows, length); row++ {
				if allPresent(selected, row) {
					block = append(block, int32(row))
				}
			}
			keys.load(x.hasher, selected, block)
			use(first, block, &keys)
		}
		first += length
	}
	return nil
}

func allPresent(columns []*feature.Column, row int) bool {
	for _, c := range columns {
		if c.Status[row] != feature.Present {
			return false
		}
	}
	return true
}

// slice makes the slots and turns groupOf, in place, into slotOf.
func (x *index) slice(ctx context.Context, p *pool, times []feature.AsOf, groupOf []int32, groups int) error {
	order, ends, err := byGroup(ctx, p, times, groupOf, groups)
	if err != nil {
		return err
	}
	x.spans, x.times, x.slotOf = make([]span, groups), order.times, groupOf
	x.min, x.max = math.MaxInt64, math.MinInt64
	var mu sync.Mutex
	err = p.shares(ctx, groups, func(from, to int) {
		least, most := feature.AsOf(math.MaxInt64), feature.AsOf(math.MinInt64)
		start := int32(0)
		if from > 0 {
			start = ends[from-1]
		}
		for g := from; g < to; g++ {
			slots := x.sliceGroup(start, order.part(start, ends[g]))
			x.spans[g] = slots
			least, most = min(least, slots.first), max(most, x.times[slots.end-1])
			start = ends[g]
		}
		mu.Lock()
		defer mu.Unlock()
		x.min, x.max = min(x.min, least), max(x.max, most)
	})
	if err != nil {
		return err
	}
	return x.setWindows(ctx, p)
}

// sliceGroup makes the rows of a group into its slots, of which the first is slot start.
func (x *index) sliceGroup(start int32, rows timedRows) span {
	rows.sort()
	end := start
	for i, row := range rows.rows {
		if t := rows.times[i]; i == 0 || t != x.times[end-1] {
			x.times[end] = t
			end++
		}
		x.slotOf[row] = end - 1
	}
	return span{x.times[start], start, end}
}

// timedRows are entity rows with their times.
type timedRows struct {
	times []feature.AsOf
	rows  []int32
}

func (r timedRows) part(from, to int32) timedRows {
	return timedRows{r.times[from:to], r.rows[from:to]}
}

func (r timedRows) Len() int           { return len(r.rows) }
func (r timedRows) Less(i, k int) bool { return r.times[i] < r.times[k] }
func (r timedRows) Swap(i, k int) {
	r.times[i], r.times[k] = r.times[k], r.times[i]
	r.rows[i], r.rows[k] = r.rows[k], r.rows[i]
}

// fewRows are sorted at once: most keys have no more rows.
const fewRows = 12

// sort sorts the rows by time.
func (r timedRows) sort() {
	if len(r.rows) > fewRows {
		sort.Sort(r)
		return
	}
	for i := range r.rows {
		for k := i; k > 0 && r.times[k] < r.times[k-1]; k-- {
			r.Swap(k, k-1)
		}
	}
}

// setWindows makes the windows of the groups.
func (x *index) setWindows(ctx context.Context, p *pool) error {
	width, ok := x.width()
	if !ok {
		return ctx.Err()
	}
	x.shift = max(0, bits.Len64(width)-windowBits)
	step := func(t feature.AsOf) uint8 { return uint8((uint64(t) - uint64(x.min)) >> x.shift) }
	x.windows = make([]window, len(x.spans))
	return p.shares(ctx, len(x.spans), func(from, to int) {
		for g, slots := range x.spans[from:to] {
			x.windows[from+g] = window{step(slots.first), step(x.times[slots.end-1])}
		}
	})
}

// width is the time between the first slot and the last; false where there is none, or it is too long to be added to others.
func (x *index) width() (uint64, bool) {
	width := uint64(x.max) - uint64(x.min)
	return width, x.min <= x.max && width < 1<<62
}

// byGroup returns the rows that have a group, those of group 0 first, and where in them each group ends. Each worker has a range of the groups, whose places in memory
// no other touches, and goes over all rows.
func byGroup(ctx context.Context, p *pool, times []feature.AsOf, groupOf []int32, groups int) (order timedRows, ends []int32, err error) {
	ranges := min(p.size(), max(1, groups), mostRanges)
	bound := func(i int) int32 { return int32(i * groups / ranges) }
	starts, ends := make([]int32, ranges), make([]int32, groups)
	err = p.each(ctx, ranges, func(_ context.Context, i int) error {
		starts[i] = countRows(groupOf, bound(i), ends[bound(i):bound(i+1)])
		return nil
	})
	if err != nil {
		return timedRows{}, nil, err
	}
	rows := int32(0)
	for i, n := range starts {
		starts[i] = rows
		rows += n
	}
	order = timedRows{make([]feature.AsOf, rows), make([]int32, rows)}
	err = p.each(ctx, ranges, func(_ context.Context, i int) error {
		order.place(times, groupOf, bound(i), starts[i], ends[bound(i):bound(i+1)])
		return nil
	})
	return order, ends, err
}

// mostRanges bounds how many workers go over all rows: where they are many, that and not the memory is what they wait for.
const mostRanges = 8

// countRows counts the rows of the groups from first on, as many as counts has, and returns their sum.
func countRows(groupOf []int32, first int32, counts []int32) (rows int32) {
	for _, g := range groupOf {
		if at := uint32(g - first); at < uint32(len(counts)) {
			counts[at]++
			rows++
		}
	}
	return rows
}

// place puts the rows of the groups from first on, as many as counts has, from place start on, those of one group next to each other. It turns counts, in place, into where each
// group ends.
func (r timedRows) place(times []feature.AsOf, groupOf []int32, first, start int32, counts []int32) {
	for g, count := range counts {
		counts[g] = start
		start += count
	}
	for row, g := range groupOf {
		if at := uint32(g - first); at < uint32(len(counts)) {
			place := counts[at]
			r.times[place], r.rows[place] = times[row], int32(row)
			counts[at]++
		}
	}
}

// slots returns the number of slots, those that no group has included.
func (x *index) slots() int { return len(x.times) }

// firstAtOrAfter returns the first slot in [from, to) whose time is t or later; to where there is none.
func (x *index) firstAtOrAfter(from, to int32, t int64) int32 {
	for from < to {
		middle := int32(uint32(from+to) >> 1)
		if int64(x.times[middle]) < t {
			from = middle + 1
		} else {
			to = middle
		}
	}
	return from
}

// within is the range of event times that a view can use: from the ttl before the first slot to the last slot.
func (x *index) within(ttl feature.TTL) feature.TimeRange {
	return feature.TimeRange{Min: earliest(x.min, ttl), Max: feature.EventTime(x.max)}
}

// earliest returns the first event time that is not expired at asOf, without overflow.
func earliest(asOf feature.AsOf, ttl feature.TTL) feature.EventTime {
	if ttl == 0 || int64(asOf) < math.MinInt64+int64(ttl) {
		return math.MinInt64
	}
	return feature.EventTime(int64(asOf) - int64(ttl))
}
