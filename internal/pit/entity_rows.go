package pit

import (
	"math"
	"slices"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// maxRows is the most entity rows in one join: slots and rows are numbered with an int32.
const maxRows = math.MaxInt32 - 1

// EntityRows are the rows that features are joined to: who, and as of when. They arrive in chunks and keep their order; a
// row is known by its place among all rows, from 0.
type EntityRows struct {
	keys   []feature.Key
	chunks [][]*feature.Column
	times  []feature.AsOf
}

// NewEntityRows returns no rows yet, with the given key columns. ViewJoin.Keys refers to them by index.
func NewEntityRows(keys []feature.Key) *EntityRows {
	return &EntityRows{keys: keys}
}

// Grow makes room for so many rows more.
func (r *EntityRows) Grow(rows int) { r.times = slices.Grow(r.times, rows) }

// Len returns the number of rows.
func (r *EntityRows) Len() int { return len(r.times) }

// Append adds a chunk: one column a key, in the order given to NewEntityRows, and a TIMESTAMP column of the same length. The key columns are
// kept, not copied: they must not change until Join has returned. A row with a null key is allowed and matches nothing.
//
// The error is of kind Invalid where a time is null (it names the row) or the columns do not fit, Exhausted
// past 2³¹−2 rows; nothing is added then.
func (r *EntityRows) Append(keys []*feature.Column, times *feature.Column) error {
	if err := r.check(keys, times); err != nil {
		return err
	}
	for i, status := range times.Status {
		if status != feature.Present {
			return fault.New(fault.Invalid, "entity row %d (counted from 0): the time is null; give every entity row the time as of which it wants its features", len(r.times)+i)
		}
	}
	all, added := feature.Extend(r.times, len(times.Int64s))
	for i, t := range times.Int64s {
		added[i] = feature.AsOf(t)
	}
	r.times = all
	r.chunks = append(r.chunks, keys)
	return nil
}

func (r *EntityRows) check(keys []*feature.Column, times *feature.Column) error {
	if len(keys) != len(r.keys) {
		return fault.New(fault.Invalid, "entity rows have %d key columns; there must be %d", len(keys), len(r.keys))
	}
	if times.Type != feature.Timestamp {
		return fault.New(fault.Invalid, "the time column of the entity rows is %v; it must be TIMESTAMP", times.Type)
	}
	rows := times.Len()
	if len(times.Status) != rows {
		return fault.New(fault.Invalid, "the time column has %d values and %d statuses", rows, len(times.Status))
	}
	for i, key := range keys {
		if key.Type != r.keys[i].Type {
			return fault.New(fault.Invalid, "key column %q of the entity rows is %v; it must be %v", r.keys[i].Name, key.Type, r.keys[i].Type)
		}
		if key.Len() != rows || len(key.Status) != rows {
			return fault.New(fault.Invalid, "key column %q has %d values and %d statuses, and the time column has %d rows; all must be of the same length",
				r.keys[i].Name, key.Len(), len(key.Status), rows)
		}
	}
	if rows > maxRows-len(r.times) {
		return fault.New(fault.Exhausted, "more than %d entity rows in one request; split it", maxRows)
	}
	return nil
}

// keyRange returns the least and the greatest value of an integer key column; the least is greater where there is none.
func (r *EntityRows) keyRange(column int) (least, most int64) {
	least, most = math.MaxInt64, math.MinInt64
	see := func(v int64, status feature.Status) {
		if status == feature.Present {
			least, most = min(least, v), max(most, v)
		}
	}
	for _, chunk := range r.chunks {
		c := chunk[column]
		for i, v := range c.Int64s {
			see(v, c.Status[i])
		}
		for i, v := range c.Int32s {
			see(int64(v), c.Status[i])
		}
	}
	return least, most
}
