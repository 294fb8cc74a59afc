package workload

import (
	"hash/fnv"
	"time"
)

// nullOneIn is how rare a null is: one value in so many.
const nullOneIn = 32

// Data are the values of every entity. They follow from its fields alone, so that any process can tell what an answer must hold.
type Data struct {
	// Seed of all values.
	Seed uint64
	// Entities is how many there are, with the keys 0 to Entities − 1.
	Entities int
	// BaseMicros is the latest event time, microseconds since the Unix epoch; the others are up to an hour before it.
	BaseMicros int64
	// Zipf is the exponent of the distribution by which requests draw entities, more than 1: the one at rank k is asked for in proportion to
	// k to the power of −Zipf. 0 draws all of them alike.
	Zipf float64
}

// Value returns one value, or that it is null: uniform in ±1000 with all 53 bits random, as features mostly are not, so that nothing on
// the way can be short.
func (d Data) Value(l Layout, view, feature, entity int) (value float64, null bool) {
	h := d.hash(l, view, entity, uint64(feature)+1)
	if h%nullOneIn == 0 {
		return 0, true
	}
	return (float64(mix(h)>>11)/(1<<53) - 0.5) * 2000, false
}

// EventTimeMicros returns the event time of a row.
func (d Data) EventTimeMicros(l Layout, view, entity int) int64 {
	return d.BaseMicros - int64(d.hash(l, view, entity, 0)%uint64(time.Hour.Microseconds()))
}

func (d Data) hash(l Layout, view, entity int, salt uint64) uint64 {
	h := mix(d.Seed ^ uint64(l.Views)<<40 ^ uint64(l.Features)<<20 ^ uint64(view))
	return mix(mix(h^uint64(entity)) ^ salt)
}

// mix is the finalizer of SplitMix64: every bit of the result depends on every bit of x.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Missing returns the key of an entity that has no rows.
func (d Data) Missing() int { return d.Entities + 1 }

// seedOf derives another seed for a purpose.
func (d Data) seedOf(purpose string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(purpose)) // never fails
	return mix(d.Seed ^ h.Sum64())
}
