package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// tally is what a client has seen of a result when it has read it to the last value. Two results with the same tally have the same rows,
// whatever their order: sums and counts are exact, and the content hash adds up a hash of each whole row.
type tally struct {
	Rows    int64         `json:"rows"`
	Content uint64        `json:"content"`
	Columns []columnTally `json:"columns"`

	hashes []uint64 // of the rows of the batch
}

// columnTally is what was seen of one column.
type columnTally struct {
	Name  string `json:"name"`
	Nulls int64  `json:"nulls"`
	// Sum of doubles, exact; of a string column the bytes of all strings. Not of keys and times, which only the content hash has.
	Sum float64 `json:"sum"`
}

// validity is a bitmap, the lowest bit of a byte first, which Arrow and DuckDB have in common: a bit is set where the value is not null. An
// empty one says that there are no nulls.
type validity struct {
	bits   []byte
	offset int
}

func (v validity) null(i int) bool {
	if len(v.bits) == 0 {
		return false
	}
	i += v.offset
	return v.bits[i>>3]>>(i&7)&1 == 0
}

// mask has all bits set where the value is null and none where it is not. It has no branch, which would be guessed wrong half the time: what is measured is not the tally.
func (v validity) mask(i int) uint64 {
	if len(v.bits) == 0 {
		return 0
	}
	i += v.offset
	return uint64(v.bits[i>>3]>>(i&7)&1) - 1
}

// nullHash stands for a null in a row's hash.
const nullHash = 0x9e3779b97f4a7c15

// start begins a batch. Columns are then added in order.
func (t *tally) start(rows int) {
	t.Rows += int64(rows)
	if cap(t.hashes) < rows {
		t.hashes = make([]uint64, rows)
	}
	t.hashes = t.hashes[:rows]
	clear(t.hashes)
}

// finish ends a batch.
func (t *tally) finish() {
	for _, h := range t.hashes {
		t.Content += mix(h)
	}
}

// add mixes a value into a row's hash; it matters which column the value stands in.
func add(h, value uint64) uint64 {
	h = (h ^ value) * 0xd1342543de82ef95
	return h ^ h>>32
}

func (t *tally) int64s(column int, values []int64, valid validity) {
	hashes, nulls := t.hashes, int64(0)
	for i, v := range values[:len(hashes)] {
		null := valid.mask(i)
		nulls += int64(null & 1)
		hashes[i] = add(hashes[i], uint64(v)&^null|nullHash&null)
	}
	t.Columns[column].Nulls += nulls
}

func (t *tally) doubles(column int, values []float64, valid validity) {
	hashes, sum, nulls := t.hashes, 0.0, int64(0)
	for i, v := range values[:len(hashes)] {
		null := valid.mask(i)
		nulls += int64(null & 1)
		bits := math.Float64bits(v) &^ null
		sum += math.Float64frombits(bits)
		hashes[i] = add(hashes[i], bits|nullHash&null)
	}
	t.Columns[column].Sum += sum
	t.Columns[column].Nulls += nulls
}

func (t *tally) strings(column int, value func(i int) string, valid validity) {
	for i := range t.hashes {
		v := uint64(nullHash)
		if valid.null(i) {
			t.Columns[column].Nulls++
		} else {
			s := value(i)
			v = xxhash.Sum64String(s)
			t.Columns[column].Sum += float64(len(s))
		}
		t.hashes[i] = add(t.hashes[i], v)
	}
}

// differences says how t differs from want, "" where it does not.
func (t *tally) differences(want *tally) string {
	var found []string
	tell := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	if t.Rows != want.Rows {
		tell("%d rows, not %d", t.Rows, want.Rows)
	}
	if len(t.Columns) != len(want.Columns) {
		tell("%d columns, not %d", len(t.Columns), len(want.Columns))
		return strings.Join(found, "; ")
	}
	for i, c := range t.Columns {
		if w := want.Columns[i]; c != w {
			tell("column %s has %d nulls and sum %v, and %s has %d and %v", c.Name, c.Nulls, c.Sum, w.Name, w.Nulls, w.Sum)
		}
	}
	if t.Content != want.Content {
		tell("content hash %016x, not %016x", t.Content, want.Content)
	}
	return strings.Join(found, "; ")
}
