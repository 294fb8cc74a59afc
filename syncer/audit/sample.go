package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"

	"github.com/twofold-ml/twofold/internal/feature"
)

// sample chooses entities by a hash of the stored form of their keys, the same ones in every process.
type sample struct {
	seed     uint64
	from, to float64
	buffer   []byte
}

func newSample(o Options) sample {
	return sample{seed: o.Seed, from: o.SampleFrom, to: o.SampleFrom + o.Sample}
}

func (s *sample) isAll() bool { return s.from == 0 && s.to >= 1 }

// has reports whether an entity is in the sample: whether the first 53 bits of SHA-256 of the seed, big-endian, and its key, as a fraction, are.
func (s *sample) has(key []byte) bool {
	if s.isAll() {
		return true
	}
	s.buffer = append(binary.BigEndian.AppendUint64(s.buffer[:0], s.seed), key...)
	sum := sha256.Sum256(s.buffer)
	at := float64(binary.BigEndian.Uint64(sum[:])>>11) / (1 << 53)
	return at >= s.from && (at < s.to || s.to >= 1)
}

// index knows which rows are expected: of which entities, and of a view that keeps versions of which event times. It holds a hash of each under a random
// seed, so that nobody can choose keys that collide.
type index struct {
	seed maphash.Seed
	rows map[uint64]struct{}
	// entities of a view that keeps versions, nil of others.
	entities map[uint64]versions
	buffer   []byte
}

// versions is what is known of an entity's expected versions.
type versions struct {
	newest feature.EventTime
	// left are those whose values have not been read.
	left int
}

func newIndex(view *feature.View) *index {
	x := &index{seed: maphash.MakeSeed(), rows: map[uint64]struct{}{}}
	if view.HistoryVersions > 0 {
		x.entities = map[uint64]versions{}
	}
	return x
}

func (x *index) len() int64 { return int64(len(x.rows)) }

// add adds an expected row.
func (x *index) add(keys []*feature.Column, row int, event feature.EventTime) {
	key, _ := feature.AppendKey(nil, keys, row)
	x.rows[x.row(key, event)] = struct{}{}
	if x.entities == nil {
		return
	}
	entity := x.entity(key)
	v, ok := x.entities[entity]
	if !ok || event > v.newest {
		v.newest = event
	}
	v.left++
	x.entities[entity] = v
}

// read takes note that the values of an expected row could be read.
func (x *index) read(key []byte) {
	if x.entities == nil {
		return
	}
	entity := x.entity(key)
	v := x.entities[entity]
	v.left--
	x.entities[entity] = v
}

// entity is the number of an entity.
func (x *index) entity(key []byte) uint64 { return maphash.Bytes(x.seed, key) }

// row is the number of an entity's row, or of its version of an event time.
func (x *index) row(key []byte, event feature.EventTime) uint64 {
	if x.entities == nil {
		return x.entity(key)
	}
	x.buffer = binary.BigEndian.AppendUint64(append(x.buffer[:0], key...), uint64(event))
	return maphash.Bytes(x.seed, x.buffer)
}

// has reports whether a row is expected.
func (x *index) has(row uint64) bool {
	_, ok := x.rows[row]
	return ok
}

// of is what is known of an entity's versions, and whether any is expected.
func (x *index) of(key []byte) (versions, bool) {
	v, ok := x.entities[x.entity(key)]
	return v, ok
}
