package pit

import "math/bits"

// ranks numbers the places that are marked, of so many, in their order. It takes a quarter of a byte for each place that there is, so that it stays in the processor's
// caches where a table would not.
type ranks []rankWord

// rankWord has a bit for each of 64 places, and how many are marked before them.
type rankWord struct {
	marked uint64
	before uint32
}

const rankWordBits = 64

func newRanks(places uint64) ranks { return make(ranks, (places+rankWordBits-1)/rankWordBits) }

// mark marks a place.
func (r ranks) mark(place uint64) { r[place/rankWordBits].marked |= 1 << (place % rankWordBits) }

// count is to be called once all places are marked. It returns their number.
func (r ranks) count() int {
	n := uint32(0)
	for i := range r {
		r[i].before = n
		n += uint32(bits.OnesCount64(r[i].marked))
	}
	return int(n)
}

// of returns the number of a place, and whether it is marked: 1 or 0.
func (r ranks) of(place uint64) (number int32, isMarked uint32) {
	w, bit := &r[place/rankWordBits], place%rankWordBits
	return int32(w.before) + int32(bits.OnesCount64(w.marked&(1<<bit-1))), uint32(w.marked>>bit) & 1
}

// ids numbers integers that lie close together, as most ids do, in their order.
type ids struct {
	ranks
	least  int64
	places uint64
}

// idPlaces is the most places a key: the ranks of so many take less than what a hash table does.
const idPlaces = 64

// newIDs returns a table for integers from least to most, of about so many keys; nil where they do not lie close together.
func newIDs(least, most int64, keys int) *ids {
	span := uint64(most) - uint64(least)
	if least > most || span >= idPlaces*uint64(max(1, keys)) {
		return nil
	}
	return &ids{newRanks(span + 1), least, span + 1}
}

// add adds keys of the range.
func (t *ids) add(keys []int64) {
	for _, key := range keys {
		t.mark(uint64(key) - uint64(t.least))
	}
}

// find sets numbers[i] to the number of key i, or absent.
func (t *ids) find(keys []int64, numbers []int32) {
	for i, key := range keys {
		place := uint64(key) - uint64(t.least)
		if place >= t.places {
			numbers[i] = absent
			continue
		}
		number, isMarked := t.of(place)
		numbers[i] = number | (int32(isMarked) - 1) // absent is −1; a branch would be guessed wrong half the time
	}
}
