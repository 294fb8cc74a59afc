package sizing

import (
	"slices"
)

// sample is some of the entities of a view, chosen by the hashes of their keys: those whose hash begins with so many zero bits (level). An entity is in it or
// not however many rows it has and in whichever files they are, and of two views of one entity both have it or neither. So it tells how many entities
// there are, 2^level times as many, and what they are like: how long their keys are, how many versions they have, which views share them.
// Up to limit entities the sample is all there are.
type sample struct {
	// limit is the most entities that are kept; the level rises by one whenever there are more.
	limit int
	level uint
	// versions is how many of the newest event times of each entity are kept; 0 is none.
	versions int
	entities map[uint64]sampled
	times    map[uint64][]int64
}

// sampled is one entity of a sample.
type sampled struct {
	// keyBytes is the length of its key (feature.AppendKey).
	keyBytes int32
	// groups is the number of row groups that have a row of it.
	groups int32
}

func newSample(limit, versions int) *sample {
	return &sample{limit: limit, versions: versions, entities: map[uint64]sampled{}, times: map[uint64][]int64{}}
}

// hashOf returns the hash of a key: FNV-1a, with its bits mixed once more, because its high bits alone would decide.
func hashOf(key []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, b := range key {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return mix(h)
}

// mix returns another number for each number, every bit of which depends on every bit (the finalizer of SplitMix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// has reports whether entities of this hash belong to the sample.
func (s *sample) has(hash uint64) bool { return hash>>(64-s.level) == 0 }

// add counts a row of an entity, in a row group of which the sample has nothing else yet than the rows before.
func (s *sample) add(hash uint64, keyBytes int, event int64) {
	if !s.has(hash) {
		return
	}
	if _, ok := s.entities[hash]; !ok {
		s.entities[hash] = sampled{int32(keyBytes), 1}
		s.shrink()
		if !s.has(hash) {
			return
		}
	}
	if s.versions > 0 {
		s.times[hash] = withTime(s.times[hash], event, s.versions)
	}
}

// withTime adds an event time to the newest ones, ascending, where it is among them and not there yet.
func withTime(times []int64, event int64, limit int) []int64 {
	at, found := slices.BinarySearch(times, event)
	switch {
	case found:
		return times
	case len(times) < limit:
		return slices.Insert(times, at, event)
	case at > 0:
		copy(times, times[1:at])
		times[at-1] = event
	}
	return times
}

// merge adds the sample of another row group.
func (s *sample) merge(o *sample) {
	s.raise(o.level)
	for hash, e := range o.entities {
		if !s.has(hash) {
			continue
		}
		e.groups += s.entities[hash].groups
		s.entities[hash] = e
		for _, event := range o.times[hash] {
			s.times[hash] = withTime(s.times[hash], event, s.versions)
		}
	}
	s.shrink()
}

// shrink raises the level until there are no more entities than the limit.
func (s *sample) shrink() {
	for len(s.entities) > s.limit {
		s.raise(s.level + 1)
	}
}

func (s *sample) raise(level uint) {
	if level <= s.level {
		return
	}
	s.level = level
	s.drop(func(hash uint64) bool { return !s.has(hash) })
}

// drop removes entities.
func (s *sample) drop(gone func(hash uint64) bool) {
	for hash := range s.entities {
		if gone(hash) {
			delete(s.entities, hash)
			delete(s.times, hash)
		}
	}
}

// scale is how many entities each of the sample stands for.
func (s *sample) scale() float64 { return float64(uint64(1) << s.level) }

// seenIn is the number of entities in the sample with rows in exactly so many row groups.
func (s *sample) seenIn(groups int32) (n float64) {
	for _, e := range s.entities {
		if e.groups == groups {
			n++
		}
	}
	return n
}
