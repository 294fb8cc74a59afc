package pit

import (
	"cmp"
	"context"
	"slices"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// versions are the newest rows of one entity, of distinct event times, the oldest first.
type versions []candidate

// offer keeps c where it is the newest row of its event time and that is among the newest limit ones.
func (v *versions) offer(c candidate, limit int) {
	rows := *v
	at := len(rows)
	if at > 0 && c.event <= rows[at-1].event { // else it is the newest, as most rows are when they come
		var found bool
		at, found = slices.BinarySearchFunc(rows, c.event, func(row candidate, event feature.EventTime) int { return cmp.Compare(row.event, event) })
		if found {
			if rows[at].before(&c) {
				rows[at] = c
			}
			return
		}
	}
	switch {
	case len(rows) < limit:
		*v = slices.Insert(rows.withRoom(limit), at, c)
	case at > 0:
		copy(rows, rows[1:at])
		rows[at-1] = c
	}
}

// withRoom returns the same rows with room for one more, and for no more than limit.
func (v versions) withRoom(limit int) versions {
	if len(v) < cap(v) {
		return v
	}
	return append(make(versions, 0, min(max(1, 2*len(v)), limit)), v...)
}

// offerVersions offers at most lookAhead rows, of which several of one entity may be kept.
func (h *shard) offerVersions(s *scratch, rows []int32, first int64, batch feature.KeyBatch, limit int) {
	numbers := h.entities.internAll(&s.keys, rows)
	for k, i := range rows {
		row := s.rows[i]
		if int(numbers[k]) == len(h.versions) {
			h.versions = append(h.versions, nil)
		}
		h.versions[numbers[k]].offer(candidate{
			event:    feature.EventTime(batch.EventTimes.Int64s[row]),
			created:  createdTime(batch.CreatedTimes, row),
			position: mark(first+int64(row), batch.Deleted, row),
		}, limit)
	}
}

// settle puts the versions of each shard, when no more are offered, into best.
func (l *latestScan) settle() {
	for i := range l.shards {
		l.shards[i].settle()
	}
}

func (h *shard) settle() {
	if h.versions == nil {
		return
	}
	rows := 0
	for _, v := range h.versions {
		rows += len(v)
	}
	h.best, h.owners = make([]candidate, 0, rows), make([]int32, 0, rows)
	for number, v := range h.versions {
		h.best = append(h.best, v...)
		for range v {
			h.owners = append(h.owners, int32(number))
		}
	}
	h.versions = nil
}

// owner is the number of the entity whose row is best[i].
func (h *shard) owner(i int32) int32 {
	if h.owners == nil {
		return i
	}
	return h.owners[i]
}

// appendKey appends the key of the entity whose row is best[i] to columns of its types.
func (h *shard) appendKey(columns []*feature.Column, i int32) error {
	return h.entities.appendTo(columns, h.owner(i))
}

// isNewest reports whether best[i] is the newest row of its entity.
func (h *shard) isNewest(i int) bool {
	return h.owners == nil || i+1 == len(h.owners) || h.owners[i+1] != h.owners[i]
}

// retainEntities is how many entities Retain asks about at a time.
const retainEntities = 1024

// Retain leaves out all rows of those entities whose newest row is more than maxAge before LatestOptions.AsOf and that keep says false of.
// keep is given the keys of such entities, one column a key, some at a time, and must say of each whether it is kept. The rows that are left out
// count as RowsOld. An error of keep is returned as it is; then nothing has been left out.
func (w *Winners) Retain(ctx context.Context, maxAge feature.TTL, keep func(ctx context.Context, keys []*feature.Column) ([]bool, error)) error {
	left, err := w.retain(ctx, newPool(1), keep, func(h *shard) []int32 {
		var old []int32
		for i := range h.best {
			if h.isNewest(i) && maxAge.Expired(h.best[i].event, w.scan.options.AsOf) {
				old = append(old, h.owner(int32(i)))
			}
		}
		return old
	})
	w.stats.RowsOld += left
	return err
}

// Forget leaves out all rows of those entities that isForgotten says true of; they count as RowsForgotten. isForgotten is given the keys of all entities, one column a key, some
// at a time, by several goroutines at once.
func (w *Winners) Forget(ctx context.Context, isForgotten func(keys []*feature.Column) []bool) error {
	keep := func(_ context.Context, keys []*feature.Column) ([]bool, error) {
		kept := isForgotten(keys)
		for i := range kept {
			kept[i] = !kept[i]
		}
		return kept, nil
	}
	left, err := w.retain(ctx, newPool(w.scan.options.Workers), keep, func(h *shard) []int32 {
		all := make([]int32, h.entities.count)
		for i := range all {
			all[i] = int32(i)
		}
		return all
	})
	w.stats.RowsForgotten += left
	return err
}

// retain leaves out all rows of those entities that are asked about and that keep says false of, and returns how many these were. ask gives the numbers of a shard's entities that
// keep is asked about.
func (w *Winners) retain(ctx context.Context, p *pool, keep func(context.Context, []*feature.Column) ([]bool, error), ask func(*shard) []int32) (left int64, err error) {
	dropped := make([][]bool, len(w.scan.shards)) // by shard and number of the entity
	err = p.each(ctx, len(dropped), func(ctx context.Context, i int) (err error) {
		h := &w.scan.shards[i]
		dropped[i], err = w.drop(ctx, h, ask(h), keep)
		return err
	})
	if err != nil {
		return 0, err
	}
	before := len(w.refs)
	w.leaveOut(func(r winnerRef) bool {
		return dropped[r.shard] != nil && dropped[r.shard][w.scan.shards[r.shard].owner(r.number)]
	})
	return int64(before - len(w.refs)), nil
}

// drop returns which of a shard's entities keep says false of, of those asked about, by their numbers; nil for none.
func (w *Winners) drop(ctx context.Context, h *shard, asked []int32, keep func(context.Context, []*feature.Column) ([]bool, error)) ([]bool, error) {
	if len(asked) == 0 {
		return nil, nil
	}
	dropped := make([]bool, h.entities.count)
	for numbers := range slices.Chunk(asked, retainEntities) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		keys := w.newBatch(nil, len(numbers)).Keys
		for _, number := range numbers {
			if err := h.entities.appendTo(keys, number); err != nil {
				return nil, err
			}
		}
		kept, err := keep(ctx, keys)
		if err != nil {
			return nil, err
		}
		if len(kept) != len(numbers) {
			return nil, fault.New(fault.Internal, "asked which of %d entities to keep, %d were answered", len(numbers), len(kept))
		}
		for i, number := range numbers {
			dropped[number] = !kept[i]
		}
	}
	return dropped, nil
}
