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

	intBuffer []int64
	buffer    []byte
}

// load reads the keys of the given rows, which are distinct, ascending and none of which may be null. What it holds is valid as long as the columns are. h may be nil for a table that
// needs no hashes (ids).
func (k *keyRows) load(h *hasher, columns []*feature.Column, rows []int32) {
	k.ints, k.encoded, k.hashes = nil, k.encoded[:0], k.hashes[:0]
	switch {
	case len(columns) > 1:
		k.loadComposite(columns, rows)
	case columns[0].Type == feature.Int64 && len(rows) == columns[0].Len():
		k.ints = columns[0].Int64s
	case columns[0].Type == feature.Int64:
		k.intBuffer = loadInts(k.intBuffer[:0], columns[0].Int64s, rows)
		k.ints = k.intBuffer
	case columns[0].Type == feature.Int32:
		k.intBuffer = loadInts(k.intBuffer[:0], columns[0].Int32s, rows)
		k.ints = k.intBuffer
	default:
		k.encoded = slices.Grow(k.encoded, len(rows))
		for _, row := range rows {
			k.encoded = append(k.encoded, columns[0].BytesAt(int(row)))
		}
	}
	if h == nil {
		return
	}
	k.hashes = slices.Grow(k.hashes, len(rows))
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

// interner numbers distinct keys from 0 in the order in which they come. It is an open-addressing table with linear probing. Integers stand in the
// table itself, so that a look-up waits for one place in memory; other keys beside it.
type interner struct {
	isInt      bool
	intBuckets []intBucket
	buckets    []bucket
	count      int
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

// intBucket is like bucket, with the key itself.
type intBucket struct {
	key int64
	bucket
}

// absent is the number of a key that was not interned.
const absent = -1

// leastBuckets is the size of an empty table.
const leastBuckets = 16

func newInterner(isInt bool) *interner {
	t := &interner{isInt: isInt}
	if isInt {
		t.intBuckets = make([]intBucket, leastBuckets)
	} else {
		t.buckets = make([]bucket, leastBuckets)
	}
	return t
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
	for from := 0; from < len(k.hashes); from += lookAhead {
		to := min(from+lookAhead, len(k.hashes))
		if t.isInt {
			t.findInts(k.hashes[from:to], k.ints[from:to], numbers[from:to])
		} else {
			t.findBytes(k.hashes[from:to], k.encoded[from:to], numbers[from:to])
		}
	}
}

// findInts is find for at most lookAhead keys.
func (t *interner) findInts(hashes []uint64, keys []int64, numbers []int32) {
	var ahead [lookAhead]intBucket
	buckets, mask := t.intBuckets, uint32(len(t.intBuckets)-1)
	for i, hash := range hashes {
		ahead[i] = buckets[uint32(hash)&mask]
	}
	for i, key := range keys {
		switch b := &ahead[i]; {
		case b.next == 0:
			numbers[i] = absent
		case b.key == key:
			numbers[i] = b.next - 1
		default:
			numbers[i], _ = t.probeInt(uint32(hashes[i]), key)
		}
	}
}

// findBytes is find for at most lookAhead keys.
func (t *interner) findBytes(hashes []uint64, keys [][]byte, numbers []int32) {
	var ahead [lookAhead]bucket
	buckets, mask := t.buckets, uint32(len(t.buckets)-1)
	for i, hash := range hashes {
		ahead[i] = buckets[uint32(hash)&mask]
	}
	for i, key := range keys {
		hash := uint32(hashes[i])
		switch b := &ahead[i]; {
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
	if t.isInt {
		t.internInts(k, places, &numbers)
	} else {
		t.internBytes(k, places, &numbers)
	}
	return numbers
}

// internInts is internAll for integers. A bucket loaded ahead may be empty that is no longer so, but what it holds stays true: keys keep their numbers.
func (t *interner) internInts(k *keyRows, places []int32, numbers *[lookAhead]int32) {
	var ahead [lookAhead]intBucket
	mask := uint32(len(t.intBuckets) - 1)
	for i, place := range places {
		ahead[i] = t.intBuckets[uint32(k.hashes[place])&mask]
	}
	for i, place := range places {
		if b := &ahead[i]; b.next != 0 && b.key == k.ints[place] {
			numbers[i] = b.next - 1
		} else {
			numbers[i] = t.intern(k, int(place))
		}
	}
}

// internBytes is internAll for encoded keys, in the way of internInts.
func (t *interner) internBytes(k *keyRows, places []int32, numbers *[lookAhead]int32) {
	var ahead [lookAhead]bucket
	mask := uint32(len(t.buckets) - 1)
	for i, place := range places {
		ahead[i] = t.buckets[uint32(k.hashes[place])&mask]
	}
	for i, place := range places {
		if b := &ahead[i]; b.next != 0 && b.hash == uint32(k.hashes[place]) && bytes.Equal(t.key(b.next-1), k.encoded[place]) {
			numbers[i] = b.next - 1
		} else {
			numbers[i] = t.intern(k, int(place))
		}
	}
}

// probeInt returns the number of a key, or absent and the bucket where it would be.
func (t *interner) probeInt(hash uint32, key int64) (number int32, at uint32) {
	mask := uint32(len(t.intBuckets) - 1)
	for at = hash & mask; ; at = (at + 1) & mask {
		b := &t.intBuckets[at]
		if b.next == 0 {
			return absent, at
		}
		if b.key == key {
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
	if t.isInt {
		return t.internInt(hash, k.ints[i])
	}
	number, at := t.probeBytes(hash, k.encoded[i])
	if number != absent {
		return number
	}
	t.data = append(t.data, k.encoded[i]...)
	t.ends = append(t.ends, len(t.data))
	t.count++
	t.buckets[at] = bucket{hash, int32(t.count)}
	if t.count > len(t.buckets)/3*2 {
		t.buckets = grown(t.buckets, func(b *bucket) bucket { return *b })
	}
	return int32(t.count - 1)
}

func (t *interner) internInt(hash uint32, key int64) int32 {
	number, at := t.probeInt(hash, key)
	if number != absent {
		return number
	}
	t.ints = append(t.ints, key)
	t.count++
	t.intBuckets[at] = intBucket{key, bucket{hash, int32(t.count)}}
	if t.count > len(t.intBuckets)/3*2 {
		t.intBuckets = grown(t.intBuckets, func(b *intBucket) bucket { return b.bucket })
	}
	return int32(t.count - 1)
}

// grown returns a table of twice the size with the same keys. head returns what any bucket has.
func grown[B any](old []B, head func(*B) bucket) []B {
	buckets := make([]B, 2*len(old))
	mask := uint32(len(buckets) - 1)
	for i := range old {
		b := head(&old[i])
		if b.next == 0 {
			continue
		}
		at := b.hash & mask
		for head(&buckets[at]).next != 0 {
			at = (at + 1) & mask
		}
		buckets[at] = old[i]
	}
	return buckets
}
