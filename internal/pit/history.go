package pit

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// history is the part of one view's source that a call reads. Its rows are numbered in canonical order, from 0: the
// position of a row.
type history struct {
	view      *feature.View
	fragments []Fragment
	// Fragment i has the positions from starts[i] to starts[i+1].
	starts []int64
	within feature.TimeRange
	// pruned counts the rows of fragments that were left out, and of parts of fragments.
	pruned atomic.Int64
}

func openHistory(ctx context.Context, view *feature.View, source Source, within feature.TimeRange) (*history, error) {
	fragments, pruned, err := source.Fragments(ctx, within)
	if err != nil {
		return nil, err
	}
	h := &history{view: view, fragments: fragments, within: within}
	h.pruned.Store(pruned)
	h.starts = make([]int64, 1, len(h.fragments)+1)
	for i, f := range h.fragments {
		start, rows := h.starts[i], f.NumRows()
		if rows < 0 || rows > int64(tombstoneMark)-start {
			return nil, fault.New(fault.Corrupt, "fragment %d says that it has %d rows", i, rows)
		}
		h.starts = append(h.starts, start+rows)
	}
	return h, nil
}

// rows is the number of rows of the fragments.
func (h *history) rows() int64 { return h.starts[len(h.fragments)] }

// fragmentOf returns the fragment of a position.
func (h *history) fragmentOf(position int64) int {
	// The first fragment that ends after the position; empty ones end before it.
	i, _ := slices.BinarySearch(h.starts[1:], position+1)
	return i
}

// visitor handles one batch of keys; first is the position of its first row.
type visitor func(s *scratch, first int64, batch feature.KeyBatch) error

// scan streams the keys of all fragments, several at once.
func (h *history) scan(ctx context.Context, p *pool, visit visitor) error {
	free := sync.Pool{New: func() any { return new(scratch) }}
	return p.each(ctx, len(h.fragments), func(ctx context.Context, i int) error {
		s := free.Get().(*scratch)
		defer free.Put(s)
		return h.scanFragment(ctx, i, s, visit)
	})
}

// scanFragment visits the rows of a fragment that may have an event time in the range, and counts the others as pruned.
func (h *history) scanFragment(ctx context.Context, i int, s *scratch, visit visitor) error {
	rows := h.starts[i+1] - h.starts[i]
	if rows == 0 {
		return nil
	}
	var next, read int64 // the least row that may come next, and how many have come
	err := h.fragments[i].Keys(ctx, h.within, func(batch feature.KeyBatch) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := h.check(batch); err != nil {
			return err
		}
		n := int64(batch.Len())
		if batch.First < next {
			return fault.New(fault.Internal, "fragment %d gives row %d after row %d", i, batch.First, next-1)
		}
		if batch.First > rows || n > rows-batch.First {
			return fault.New(fault.Corrupt, "fragment %d has more than the %d rows that it says it has", i, rows)
		}
		next = batch.First + n
		read += n
		return visit(s, h.starts[i]+batch.First, batch)
	})
	if err != nil {
		return err
	}
	h.pruned.Add(rows - read)
	return nil
}

// check refuses a batch that does not have the shape that the view promises.
func (h *history) check(batch feature.KeyBatch) error {
	keys := h.view.Entity.Keys
	if len(batch.Keys) != len(keys) {
		return fault.New(fault.Internal, "the source gives %d key columns; entity %q has %d", len(batch.Keys), h.view.Entity.Name, len(keys))
	}
	for i, key := range batch.Keys {
		if err := checkColumn(key, keys[i].Type, batch.Len(), keys[i].Name); err != nil {
			return err
		}
	}
	if err := checkColumn(batch.EventTimes, feature.Timestamp, batch.Len(), "event time"); err != nil {
		return err
	}
	if batch.CreatedTimes != nil {
		if err := checkColumn(batch.CreatedTimes, feature.Timestamp, batch.Len(), "created time"); err != nil {
			return err
		}
	}
	switch {
	case batch.Deleted != nil:
		return checkColumn(batch.Deleted, feature.Bool, batch.Len(), "deleted")
	case h.view.Source.DeletedColumn != "":
		return fault.New(fault.Internal, "the source does not say which rows are deleted, as column %q does", h.view.Source.DeletedColumn)
	}
	return nil
}

func checkColumn(c *feature.Column, want feature.Type, rows int, name string) error {
	if c.Type != want {
		return fault.New(fault.Internal, "the source gives column %q as %v; it must be %v", name, c.Type, want)
	}
	if c.Len() != rows || len(c.Status) != rows {
		return fault.New(fault.Internal, "the source gives column %q with %d values and %d statuses in a batch of %d rows", name, c.Len(), len(c.Status), rows)
	}
	return nil
}

// scratch is what one worker needs to look up the rows of a batch. It is reused from batch to batch.
type scratch struct {
	// rows of the batch that are still in play, ascending; later their keys and the numbers of these.
	rows    []int32
	keys    keyRows
	numbers []int32
}

// selectComplete sets rows to those of the batch without a null in the keys or in the times that are needed.
func (s *scratch) selectComplete(batch feature.KeyBatch, needCreated bool) {
	s.rows = slices.Grow(s.rows[:0], batch.Len())
	for i, status := range batch.EventTimes.Status {
		if status == feature.Present {
			s.rows = append(s.rows, int32(i))
		}
	}
	for _, key := range batch.Keys {
		s.keepPresent(key.Status)
	}
	switch {
	case needCreated && batch.CreatedTimes == nil:
		s.rows = s.rows[:0]
	case needCreated:
		s.keepPresent(batch.CreatedTimes.Status)
	}
}

func (s *scratch) keepPresent(status []feature.Status) {
	kept := s.rows[:0]
	for _, row := range s.rows {
		if status[row] == feature.Present {
			kept = append(kept, row)
		}
	}
	s.rows = kept
}

// selectWithin sets rows to those of selectComplete whose event time is in the range. It returns how many selectComplete would set.
func (s *scratch) selectWithin(batch feature.KeyBatch, needCreated bool, within feature.TimeRange) (complete int) {
	if !allComplete(batch, needCreated) {
		s.selectComplete(batch, needCreated)
		complete = len(s.rows)
		s.keepWithin(batch.EventTimes, within)
		return complete
	}
	s.rows = slices.Grow(s.rows[:0], batch.Len())[:batch.Len()]
	least, most, kept := int64(within.Min), int64(within.Max), 0
	for i, event := range batch.EventTimes.Int64s {
		s.rows[kept] = int32(i)
		if event >= least && event <= most {
			kept++
		}
	}
	s.rows = s.rows[:kept]
	return batch.Len()
}

// allComplete reports whether a batch has no null in the keys and in the times that are needed.
func allComplete(batch feature.KeyBatch, needCreated bool) bool {
	for _, key := range batch.Keys {
		if !feature.AllPresent(key.Status) {
			return false
		}
	}
	return feature.AllPresent(batch.EventTimes.Status) && (!needCreated || batch.CreatedTimes != nil && feature.AllPresent(batch.CreatedTimes.Status))
}

// keepWithin drops the rows whose event time is not in the range.
func (s *scratch) keepWithin(events *feature.Column, within feature.TimeRange) {
	least, most := int64(within.Min), int64(within.Max)
	kept := s.rows[:0]
	for _, row := range s.rows {
		if event := events.Int64s[row]; event >= least && event <= most {
			kept = append(kept, row)
		}
	}
	s.rows = kept
}

// dropDeleted drops tombstones.
func (s *scratch) dropDeleted(deleted *feature.Column) {
	if deleted != nil {
		s.rows = slices.DeleteFunc(s.rows, func(row int32) bool { return isDeleted(deleted, row) })
	}
}

// loadKeys reads the keys of the selected rows and makes room for their numbers.
func (s *scratch) loadKeys(h *hasher, batch feature.KeyBatch) {
	s.keys.load(h, batch.Keys, s.rows)
	s.numbers = slices.Grow(s.numbers[:0], len(s.rows))[:len(s.rows)]
}

// dropAbsent drops the rows whose key has no number.
func (s *scratch) dropAbsent() {
	kept := 0
	for i, number := range s.numbers {
		s.rows[kept], s.numbers[kept] = s.rows[i], number
		kept += 1 + int(number>>31) // absent is −1; a branch would be guessed wrong half the time
	}
	s.rows, s.numbers = s.rows[:kept], s.numbers[:kept]
}

// createdTime returns the created time of row i of a batch, NoCreatedTime where there is none.
func createdTime(created *feature.Column, i int32) feature.CreatedTime {
	if created == nil || created.Status[i] != feature.Present {
		return feature.NoCreatedTime
	}
	return feature.CreatedTime(created.Int64s[i])
}

// candidate is the newest row seen so far: for one slot of a join, or one entity of Latest. Its zero value is not used: noCandidate is.
type candidate struct {
	event   feature.EventTime
	created feature.CreatedTime
	// position in the history, noPosition for no row.
	position markedPosition
}

// noCandidate orders before every row.
var noCandidate = candidate{math.MinInt64, math.MinInt64, noPosition}

// markedPosition is the position of a row in the history, with a mark for tombstones, so that a candidate takes no more memory for it. It orders as positions do, but
// tombstones come after all other rows.
type markedPosition int64

const (
	noPosition    markedPosition = -1
	tombstoneMark markedPosition = 1 << 62
)

// mark returns the position of row i of a batch with its mark.
func mark(position int64, deleted *feature.Column, i int32) markedPosition {
	if isDeleted(deleted, i) {
		return markedPosition(position) | tombstoneMark
	}
	return markedPosition(position)
}

func isDeleted(deleted *feature.Column, i int32) bool {
	return deleted != nil && deleted.Status[i] == feature.Present && deleted.Bools[i]
}

// row is the position itself.
func (p markedPosition) row() int64 { return int64(p &^ tombstoneMark) }

func (p markedPosition) isTombstone() bool { return p != noPosition && p&tombstoneMark != 0 }

// before is the order that decides every join: by event time, then created time; then tombstones are newer, as they are to the online store; then by position. It is total, since no two
// rows share a position, so the greatest row does not depend on the order in which rows are met.
func (c *candidate) before(o *candidate) bool {
	if c.event != o.event {
		return c.event < o.event
	}
	if c.created != o.created {
		return c.created < o.created
	}
	return c.position < o.position
}
