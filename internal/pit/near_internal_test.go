package pit

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/twofold-ml/twofold/internal/feature"
)

// TestNearnessKeepsWhatSlotsCanUse offers rows of all times to indexes of narrow, wide and extreme times: none is dropped that a slot of its group can use, and of those that
// are far from all slots some are.
func TestNearnessKeepsWhatSlotsCanUse(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	dropped := 0
	for range 2000 {
		least, width := extreme(r), uint64(r.Int64N(math.MaxInt64))>>r.IntN(64)
		at := func() int64 {
			if v := uint64(r.Int64N(math.MaxInt64)) % (width + 1); least <= math.MaxInt64-int64(v) {
				return least + int64(v)
			}
			return math.MaxInt64
		}
		rows := NewEntityRows([]feature.Key{{Name: "k", Type: feature.Int64}})
		keys, times := feature.NewColumn(feature.Int64, 0), feature.NewColumn(feature.Timestamp, 0)
		for range 1 + r.IntN(20) {
			keys.AppendInt64(r.Int64N(4))
			times.AppendInt64(at())
		}
		if err := rows.Append([]*feature.Column{keys}, times); err != nil {
			t.Fatal(err)
		}
		x, err := newIndex(t.Context(), newPool(2), rows, []int{0})
		if err != nil {
			t.Fatal(err)
		}
		v := &viewScan{index: x, ttl: feature.TTL(r.Int64N(math.MaxInt64) >> r.IntN(64))}
		if r.IntN(4) == 0 {
			v.ttl = 0
		}
		batch := feature.KeyBatch{EventTimes: feature.NewColumn(feature.Timestamp, 0)}
		s := &scratch{}
		for i := range int32(40) {
			event := []int64{at(), at(), extreme(r), at() - int64(v.ttl)}[r.IntN(4)]
			batch.EventTimes.AppendInt64(event)
			s.rows = append(s.rows, i)
		}
		s.keepWithin(batch.EventTimes, x.within(v.ttl))
		s.numbers = make([]int32, len(s.rows))
		for i := range s.numbers {
			if s.numbers[i] = r.Int32N(int32(len(x.spans))); r.IntN(5) == 0 {
				s.numbers[i] = absent
			}
		}
		found := &scratch{rows: slices.Clone(s.rows), numbers: slices.Clone(s.numbers)}
		found.dropAbsent()
		all, groups := found.rows, found.numbers
		n := x.nearness(v.ttl)
		if n == nil {
			continue // times too far apart: nothing is dropped
		}
		s.keepNear(n, batch.EventTimes)
		for _, row := range s.rows {
			if !slices.Contains(all, row) {
				t.Fatalf("seed %d: row %d is kept, and its key has no number", seed, row)
			}
		}
		slots := make([]int32, lookAhead)
		v.locate(all, groups, batch, slots)
		for i, row := range all {
			kept := slices.Contains(s.rows, row)
			if !kept {
				dropped++
			}
			if slots[i] != absent && !kept {
				t.Fatalf("seed %d: ttl %d, event time %d is dropped, and slot %d of time %d can use it", seed, v.ttl, batch.EventTimes.Int64s[row], slots[i], x.times[slots[i]])
			}
		}
	}
	if dropped == 0 {
		t.Errorf("seed %d: no row was dropped", seed)
	}
}

// extreme returns a time near the ends of INT64, or near 0.
func extreme(r *rand.Rand) int64 {
	return []int64{math.MinInt64, math.MaxInt64 - 1000, 0, -1000}[r.IntN(4)] + r.Int64N(1000)
}

// TestRanks numbers marked places as a sorted list does.
func TestRanks(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 2))
	for range 500 {
		places := 1 + r.Uint64N(1000)
		ranked, marked := newRanks(places), map[uint64]bool{}
		for range r.IntN(300) {
			p := r.Uint64N(places)
			ranked.mark(p)
			marked[p] = true
		}
		if got := ranked.count(); got != len(marked) {
			t.Fatalf("seed %d: %d places are marked, not %d", seed, got, len(marked))
		}
		want := int32(0)
		for p := range places {
			number, isMarked := ranked.of(p)
			if number != want || (isMarked == 1) != marked[p] {
				t.Fatalf("seed %d: place %d has number %d, marked %d; want %d, %t", seed, p, number, isMarked, want, marked[p])
			}
			if marked[p] {
				want++
			}
		}
	}
}

// TestSortByPosition sorts many items of few rows, by rank, and few of many.
func TestSortByPosition(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 3))
	for range 200 {
		start, rows := r.Int64N(1<<40), 1+r.Int64N(100_000)
		n := min(rows, 1+r.Int64N(2000))
		items := make([]int64, 0, n)
		for _, p := range r.Perm(int(rows))[:n] {
			items = append(items, start+int64(p))
		}
		want := slices.Sorted(slices.Values(items))
		sortByPosition(items, rows, func(p int64) int64 { return p }, start)
		if !slices.Equal(items, want) {
			t.Fatalf("seed %d: %d items of %d rows are not in order", seed, n, rows)
		}
	}
}
