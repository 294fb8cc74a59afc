package pit

import (
	"bytes"
	"hash/maphash"
	"math/bits"
	"math/rand/v2"
	"slices"

	"github.com/twofold-ml/twofold/internal/feature"
)

// hasher hashes keys under a random seed, so that nobody can choose keys that collide. Results never depend on the seed.
type hasher struct {
	seed       maphash.Seed
	xor, times uint64
}

func newHasher() hasher {
	return hasher{seed: maphash.MakeSeed(), xor: rand.Uint64(), times: rand.Uint64() | 1}
}

func (h *hasher) int(v int64) uint64 {
	high, low := bits.Mul64(uint64(v)^h.xor, h.times)
	return high ^ low
}

// isIntKey reports whether keys of these columns are held as one integer. It is a short cut with the same meaning as
// feature.AppendKey: both sides of a join have the same key types, and equal integers have equal forms.
func isIntKey(keys []feature.Key) bool {
	return len(keys) == 1 && (keys[0].Type == feature.Int32 || keys[0].Type == feature.Int64)
}

// keyRows are the keys of some rows of a batch, ready to be looked up. Its memory is reused from batch to batch.
type keyRows struct {
	// ints are the keys where isIntKey; else encoded are, in the form of feature.AppendKey.
	ints    []int64
	encoded [][]byte
	hashes  []uint64

	buffer []byte
}

// load reads the keys of the given rows, none of which may be null. What it holds is valid as long as the columns are.
func (k *keyRows) load(h *hasher, columns []*feature.Column, rows []int32) {
	k.ints, k.encoded, k.hashes = k.ints[:0], k.encoded[:0], slices.Grow(k.hashes[:0], len(rows))
	switch {
	case len(columns) > 1:
		k.loadComposite(columns, rows)
	case columns[0].Type == feature.Int64:
		k.ints = loadInts(k.ints, columns[0].Int64s, rows)
	case columns[0].Type == feature.Int32:
		k.ints = loadInts(k.ints, columns[0].Int32s, rows)
	default:
		k.encoded = slices.Grow(k.encoded, len(rows))
		for _, row := range rows {
			k.encoded = append(k.encoded, columns[0].BytesAt(int(row)))
		}
	}
	for _, v := range k.ints {
		k.hashes = append(k.hashes, h.int(v))
	}
	for _, key := range k.encoded {
		k.hashes = append(k.hashes, maphash.Bytes(h.seed, key))
	}
}

func loadInts[T int32 | int64](dst []int64, src []T, rows []int32) []int64 {
	dst = slices.Grow(dst, len(rows))
	for _, row := range rows {
		dst = append(dst, int64(src[row]))
	}
	return dst
}

func (k *keyRows) loadComposite(columns []*feature.Column, rows []int32) {
	k.encoded = slices.Grow(k.encoded, len(rows))
	k.buffer = k.buffer[:0]
	for _, row := range rows {
		start := len(k.buffer)
		// Where the buffer grows, the keys before stay in the old one, which they keep alive.
		k.buffer, _ = feature.AppendKey(k.buffer, columns, int(row))
		k.encoded = append(k.encoded, k.buffer[start:])
	}
}

// interner numbers distinct keys from 0 in the order in which they come. It is an open-addressing table with linear probing.
type interner struct {
	isInt   bool
	buckets []bucket
	count   int
	// The keys by number: integers, or bytes with the end of each.
	ints []int64
	data []byte
	ends []int
}

// bucket is empty where next is 0; else next−1 is the number of a key.
type bucket struct {
	hash uint32
	next int32
}

// absent is the number of a key that was not interned.
const absent = -1

func newInterner(isInt bool) *interner {
	return &interner{isInt: isInt, buckets: make([]bucket, 16)}
}

// key returns the encoded key of that number.
func (t *interner) key(number int32) []byte {
	start := 0
	if number > 0 {
		start = t.ends[number-1]
	}
	return t.data[start:t.ends[number]]
}

// lookAhead is how many rows are looked up together. Tables are larger than the caches, so most look-ups wait for memory; loops that first
// load what many rows need, each independent of the others, let the processor wait for all of them at once.
const lookAhead = 256

// find sets numbers[i] to the number of key i, or absent.
func (t *interner) find(k *keyRows, numbers []int32) {
	var ahead [lookAhead]bucket
	mask := uint32(len(t.buckets) - 1)
	for from := 0; from < len(k.hashes); from += lookAhead {
		to := min(from+lookAhead, len(k.hashes))
		for i, hash := range k.hashes[from:to] {
			ahead[i] = t.buckets[uint32(hash)&mask]
		}
		if t.isInt {
			t.findInts(k, from, to, &ahead, numbers)
		} else {
			t.findBytes(k, from, to, &ahead, numbers)
		}
	}
}

// findInts is find for keys from to to, whose first buckets are loaded.
func (t *interner) findInts(k *keyRows, from, to int, ahead *[lookAhead]bucket, numbers []int32) {
	for i := from; i < to; i++ {
		b, hash, key := ahead[i-from], uint32(k.hashes[i]), k.ints[i]
		switch {
		case b.next == 0:
			numbers[i] = absent
		case b.hash == hash && t.ints[b.next-1] == key:
			numbers[i] = b.next - 1
		default:
			numbers[i], _ = t.probeInt(hash, key)
		}
	}
}

func (t *interner) findBytes(k *keyRows, from, to int, ahead *[lookAhead]bucket, numbers []int32) {
	for i := from; i < to; i++ {
		b, hash, key := ahead[i-from], uint32(k.hashes[i]), k.encoded[i]
		switch {
		case b.next == 0:
			numbers[i] = absent
		case b.hash == hash && bytes.Equal(t.key(b.next-1), key):
			numbers[i] = b.next - 1
		default:
			numbers[i], _ = t.probeBytes(hash, key)
		}
	}
}

// internAll returns the numbers of at most lookAhead keys, given by their places in k.
func (t *interner) internAll(k *keyRows, places []int32) (numbers [lookAhead]int32) {
	var ahead [lookAhead]bucket
	mask := uint32(len(t.buckets) - 1)
	for i, place := range places {
		ahead[i] = t.buckets[uint32(k.hashes[place])&mask]
	}
	for i, place := range places {
		// A bucket loaded ahead may be empty that is no longer so, but what it holds stays true: keys keep their numbers.
		if b := ahead[i]; b.next != 0 && b.hash == uint32(k.hashes[place]) && t.holds(b.next-1, k, int(place)) {
			numbers[i] = b.next - 1
		} else {
			numbers[i] = t.intern(k, int(place))
		}
	}
	return numbers
}

// holds reports whether number is that of key i.
func (t *interner) holds(number int32, k *keyRows, i int) bool {
	if t.isInt {
		return t.ints[number] == k.ints[i]
	}
	return bytes.Equal(t.key(number), k.encoded[i])
}

// probeInt returns the number of a key, or absent and the bucket where it would be.
func (t *interner) probeInt(hash uint32, key int64) (number int32, at uint32) {
	mask := uint32(len(t.buckets) - 1)
	for at = hash & mask; ; at = (at + 1) & mask {
		b := t.buckets[at]
		if b.next == 0 {
			return absent, at
		}
		if b.hash == hash && t.ints[b.next-1] == key {
			return b.next - 1, at
		}
	}
}

// probeBytes is probeInt for encoded keys.
func (t *interner) probeBytes(hash uint32, key []byte) (number int32, at uint32) {
	mask := uint32(len(t.buckets) - 1)
	for at = hash & mask; ; at = (at + 1) & mask {
		b := t.buckets[at]
		if b.next == 0 {
			return absent, at
		}
		if b.hash == hash && bytes.Equal(t.key(b.next-1), key) {
			return b.next - 1, at
		}
	}
}

// intern returns the number of key i, a new one where the key is new.
func (t *interner) intern(k *keyRows, i int) int32 {
	hash := uint32(k.hashes[i])
	var number int32
	var at uint32
	if t.isInt {
		number, at = t.probeInt(hash, k.ints[i])
	} else {
		number, at = t.probeBytes(hash, k.encoded[i])
	}
	if number != absent {
		return number
	}
	if t.isInt {
		t.ints = append(t.ints, k.ints[i])
	} else {
		t.data = append(t.data, k.encoded[i]...)
		t.ends = append(t.ends, len(t.data))
	}
	t.count++
	t.buckets[at] = bucket{hash, int32(t.count)}
	if t.count > len(t.buckets)/3*2 {
		t.grow()
	}
	return int32(t.count - 1)
}

func (t *interner) grow() {
	old := t.buckets
	t.buckets = make([]bucket, 2*len(old))
	mask := uint32(len(t.buckets) - 1)
	for _, b := range old {
		if b.next == 0 {
			continue
		}
		at := b.hash & mask
		for t.buckets[at].next != 0 {
			at = (at + 1) & mask
		}
		t.buckets[at] = b
	}
}
