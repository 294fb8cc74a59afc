package pit

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/twofold-ml/twofold/internal/feature"
)

// index arranges the entity rows by one set of key columns. Rows with the same key form a group; the distinct times of a
// group, ascending, are its slots. All rows of one slot get the same feature row. Once built it is only read.
type index struct {
	// hasher is what keys are hashed by to be found in groups; nil where they need not be.
	hasher *hasher
	// groups numbers the groups by key.
	groups *interner
	// spans are the slots of each group.
	spans []span
	// times of the slots.
	times []feature.AsOf
	// slotOf is the slot of each entity row, absent for a row with a null key.
	slotOf []int32
	// The least and the greatest time of a slot.
	min, max feature.AsOf
}

// span is the slots of one group: from start up to but without end, with the time of the first. What most look-ups ask stands together, so that they
// wait for one place in memory.
type span struct {
	first      feature.AsOf
	start, end int32
}

// newIndex builds the index of rows by the key columns of the given places.
func newIndex(ctx context.Context, rows *EntityRows, columns []int) (*index, error) {
	keys := make([]feature.Key, len(columns))
	for i, c := range columns {
		keys[i] = rows.keys[c]
	}
	x := &index{min: math.MaxInt64, max: math.MinInt64}
	if isIntKey(keys) {
		least, most := rows.keyRange(columns[0])
		x.groups = newDirectInterner(least, most, rows.Len())
	}
	if x.groups == nil {
		hasher := newHasher()
		x.hasher, x.groups = &hasher, newInterner(isIntKey(keys))
	}
	groupOf, err := x.group(ctx, rows, columns)
	if err != nil {
		return nil, err
	}
	x.slice(rows.times, groupOf)
	return x, ctx.Err()
}

// blockRows is how many rows are looked up at a time.
const blockRows = 4096

// group returns the group of each entity row, absent where a key is null.
func (x *index) group(ctx context.Context, rows *EntityRows, columns []int) ([]int32, error) {
	groupOf := make([]int32, 0, rows.Len())
	var keys keyRows
	block := make([]int32, 0, blockRows)
	for _, chunk := range rows.chunks {
		selected := make([]*feature.Column, len(columns))
		for i, c := range columns {
			selected[i] = chunk[c]
		}
		for from := 0; from < selected[0].Len(); from += blockRows {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			block = block[:0]
			for row := from; row < min(from+blockRows, selected[0].Len()); row++ {
				groupOf = append(groupOf, absent)
				if allPresent(selected, row) {
					block = append(block, int32(row))
				}
			}
			keys.load(x.hasher, selected, block)
			base := len(groupOf) - (min(from+blockRows, selected[0].Len()))
			for i, row := range block {
				groupOf[base+int(row)] = x.groups.intern(&keys, i)
			}
		}
	}
	return groupOf, nil
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
func (x *index) slice(times []feature.AsOf, groupOf []int32) {
	order, ends := byGroup(groupOf, x.groups.count)
	x.spans = make([]span, x.groups.count)
	x.times = make([]feature.AsOf, 0, len(order))
	start := int32(0)
	for g, end := range ends {
		rows := order[start:end]
		start = end
		if len(rows) > 1 {
			slices.SortFunc(rows, func(a, b int32) int { return cmp.Compare(times[a], times[b]) })
		}
		slots := &x.spans[g]
		slots.start = int32(len(x.times))
		for i, row := range rows {
			if i == 0 || times[row] != x.times[len(x.times)-1] {
				x.times = append(x.times, times[row])
			}
			groupOf[row] = int32(len(x.times) - 1)
		}
		slots.end, slots.first = int32(len(x.times)), times[rows[0]]
		x.min = min(x.min, slots.first)
		x.max = max(x.max, times[rows[len(rows)-1]])
	}
	x.slotOf = groupOf
}

// byGroup returns the rows that have a group, those of group 0 first, and where in them each group ends.
func byGroup(groupOf []int32, groups int) (order, ends []int32) {
	ends = make([]int32, groups)
	rows := 0
	for _, g := range groupOf {
		if g != absent {
			ends[g]++
			rows++
		}
	}
	next := int32(0)
	for g, count := range ends {
		ends[g] = next
		next += count
	}
	order = make([]int32, rows)
	for row, g := range groupOf {
		if g != absent {
			order[ends[g]] = int32(row)
			ends[g]++
		}
	}
	return order, ends
}

// slots returns the number of slots.
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

// window is the range of event times that a view can use: from the ttl before the first slot to the last slot.
func (x *index) window(ttl feature.TTL) feature.TimeRange {
	return feature.TimeRange{Min: earliest(x.min, ttl), Max: feature.EventTime(x.max)}
}

// earliest returns the first event time that is not expired at asOf, without overflow.
func earliest(asOf feature.AsOf, ttl feature.TTL) feature.EventTime {
	if ttl == 0 || int64(asOf) < math.MinInt64+int64(ttl) {
		return math.MinInt64
	}
	return feature.EventTime(int64(asOf) - int64(ttl))
}
