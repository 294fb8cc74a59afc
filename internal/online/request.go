package online

import (
	"hash/maphash"
	"math"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

// scratch is what one call of Read asks of the driver, in memory that the next call uses again.
type scratch struct {
	reads []driver.Read
	// readOf has, group after group, for each row the index in reads; −1 where a key is null.
	readOf []int32
	// first has for each of reads the place in the answer of its first view.
	first []int32
	// values is how many elements the answer has.
	values int

	arena []byte // the keys of reads
	own   []*feature.Column
	seen  keySet
	batch storedrow.Batch // for the rows of one view at a time
}

// maxKept is the largest number of rows whose memory is kept for the next call.
const maxKept = 1 << 14

func (p *Plan) takeScratch() *scratch {
	if r, ok := p.scratches.Get().(*scratch); ok {
		return r
	}
	return &scratch{}
}

// giveBack keeps the memory for another call. The driver must be done with it.
func (p *Plan) giveBack(r *scratch) {
	r.batch.Reset() // it refers to the rows
	if cap(r.readOf) <= maxKept && cap(r.arena) <= 64*maxKept {
		p.scratches.Put(r)
	}
}

// fill lists the reads of a call. An entity that occurs several times is read once. names are what Plan.storedNames returns.
func (r *scratch) fill(p *Plan, names [][]string, keys []*feature.Column, rows int, history int64) {
	r.reads, r.readOf, r.first, r.arena, r.values = r.reads[:0], r.readOf[:0], r.first[:0], r.arena[:0], 0
	for g := range p.groups {
		group := &p.groups[g]
		views := group.views
		if names != nil {
			views = names[g]
		}
		r.own = r.own[:0]
		for _, k := range group.keys {
			r.own = append(r.own, keys[k])
		}
		if rows > 1 {
			r.seen.reset(rows)
		}
		for row := range rows {
			start := len(r.arena)
			var ok bool
			if r.arena, ok = feature.AppendKey(r.arena, r.own, row); !ok {
				r.arena = r.arena[:start]
				r.readOf = append(r.readOf, -1)
				continue
			}
			key := r.arena[start:len(r.arena):len(r.arena)]
			if rows > 1 {
				if at := r.seen.add(key, r.reads); at >= 0 {
					r.arena = r.arena[:start]
					r.readOf = append(r.readOf, at)
					continue
				}
			}
			r.readOf = append(r.readOf, int32(len(r.reads)))
			r.first = append(r.first, int32(r.values))
			r.reads = append(r.reads, driver.Read{
				Entity: driver.Entity{Name: group.entity.Name, Key: key}, Views: views, History: group.history, AsOfMicros: history,
			})
			r.values += len(views)
		}
	}
}

// newest asks a History read for the newest version of all.
const newest = math.MaxInt64

// keySeed makes the places in a keySet unforeseeable, so that nobody can choose keys that collide.
var keySeed = maphash.MakeSeed()

// keySet finds the read of a key that was seen before: a hash table with open addressing, of indices in a list of reads, plus one.
type keySet struct{ table []int32 }

// reset empties the set and makes room for n keys.
func (s *keySet) reset(n int) {
	size := 4
	for size < 2*n {
		size *= 2
	}
	if cap(s.table) < size {
		s.table = make([]int32, size)
		return
	}
	s.table = s.table[:size]
	clear(s.table)
}

// add returns the index of the read of that key; where there is none, it takes note that it will be the next of reads, and returns −1.
func (s *keySet) add(key []byte, reads []driver.Read) int32 {
	mask := uint64(len(s.table) - 1)
	for place := maphash.Bytes(keySeed, key) & mask; ; place = (place + 1) & mask {
		at := int(s.table[place]) - 1
		if at < 0 {
			s.table[place] = int32(len(reads)) + 1
			return -1
		}
		if string(reads[at].Entity.Key) == string(key) {
			return int32(at)
		}
	}
}
