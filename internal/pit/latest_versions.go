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
	dropped := make([][]bool, len(w.scan.shards)) // by shard and number of the entity
	for i := range w.scan.shards {
		var err error
		if dropped[i], err = w.drop(ctx, &w.scan.shards[i], maxAge, keep); err != nil {
			return err
		}
	}
	before := len(w.refs)
	w.leaveOut(func(r winnerRef) bool {
		return dropped[r.shard] != nil && dropped[r.shard][w.scan.shards[r.shard].owner(r.number)]
	})
	w.stats.RowsOld += int64(before - len(w.refs))
	return nil
}

// drop returns which of a shard's entities are left out, by their numbers; nil for none.
func (w *Winners) drop(ctx context.Context, h *shard, maxAge feature.TTL, keep func(context.Context, []*feature.Column) ([]bool, error)) ([]bool, error) {
	var old []int32
	for i := range h.best {
		if h.isNewest(i) && maxAge.Expired(h.best[i].event, w.scan.options.AsOf) {
			old = append(old, h.owner(int32(i)))
		}
	}
	if len(old) == 0 {
		return nil, nil
	}
	dropped := make([]bool, h.entities.count)
	for numbers := range slices.Chunk(old, retainEntities) {
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
