package main

import (
	"fmt"
	"math/bits"
	"time"
)

// The shape of the data; everything follows from the seed and the row's number, so that any row can be made at any time and no
// run has other data than the one before.
const (
	// featureDoubles and one string are the features of a view.
	featureDoubles = 10
	// measurements are the first doubles: 32 random bits each, as measured values have. The others are counts below countLimit.
	measurements = 6
	countLimit   = 1000
	// nullOneIn is how many values there are to one null.
	nullOneIn = 100
	// rowsAKey is the mean number of rows of a key.
	rowsAKey = 10
	// A row whose number is correctionPlace modulo correctionOneIn corrects the row before it: same key, same event time, other values.
	correctionOneIn, correctionPlace = 100, 37
	// segments is the number of different strings.
	segments = 5000
	// spanDays is the time over which event times are spread, and ttlDays how long a row is good.
	spanDays, ttlDays = 365, 30
	// recentDays is the time of the entity rows of the case that can leave most files out.
	recentDays = 7
)

const (
	dayMicros  = int64(24 * time.Hour / time.Microsecond)
	spanMicros = spanDays * dayMicros
	ttlMicros  = ttlDays * dayMicros
)

// startMicros is the first event time: the first of January 2025.
var startMicros = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

// table is the history of one feature view.
type table struct {
	// seed of all values; another one for each view.
	seed uint64
	rows int64
	// shuffled is whether rows stand in the files in random order and not in that of time.
	shuffled bool
}

func (t table) keys() int64 { return max(1, t.rows/rowsAKey) }

// event is what the join looks at: a row's key and times.
type event struct {
	key, eventMicros, createdMicros int64
}

// Fields of a row that have random bits of their own; feature f has fieldFeature+f.
const (
	fieldKey = iota
	fieldTime
	fieldCreated
	fieldCorrection
	fieldEntityKey
	fieldEntityTime
	fieldEntityRow
	fieldPlace
	fieldFeature
)

// random returns 64 random bits that belong to a field of a row.
func random(seed uint64, row int64, field uint64) uint64 {
	return mix(mix(seed^field*0x9e3779b97f4a7c15) + uint64(row)*0xd1342543de82ef95)
}

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// below returns a number in [0, n) from random bits.
func below(random uint64, n int64) int64 {
	high, _ := bits.Mul64(random, uint64(n))
	return int64(high)
}

// event returns the key and times of row i, which is counted in the order of time.
func (t table) event(i int64) event {
	if i%correctionOneIn == correctionPlace {
		e := t.event(i - 1)
		// Most corrections are written later, some are an older version that arrived late, and some have the same created time, so
		// that their place in the files decides.
		switch r := random(t.seed, i, fieldCorrection); r % 10 {
		case 0:
		case 1:
			e.createdMicros -= 1 + below(r, int64(time.Second/time.Microsecond))
		default:
			e.createdMicros += 1 + below(r, dayMicros)
		}
		return e
	}
	slot := spanMicros / t.rows
	at := startMicros + i*slot + below(random(t.seed, i, fieldTime), max(1, slot))
	return event{
		key:           below(random(t.seed, i, fieldKey), t.keys()),
		eventMicros:   at,
		createdMicros: at + int64(time.Second/time.Microsecond) + below(random(t.seed, i, fieldCreated), dayMicros/24),
	}
}

// double returns a double feature of row i; ok is false where it is null. Every value is a whole number of 1/1024, so that a sum of
// millions of them is exact in any order.
func (t table) double(i int64, feature int) (v float64, ok bool) {
	r := random(t.seed, i, fieldFeature+uint64(feature))
	if isNull(r) {
		return 0, false
	}
	if feature < measurements {
		return float64(int32(r)) / 1024, true
	}
	return float64(below(r<<32, countLimit)), true
}

// segment returns the number of the string feature of row i; ok is false where it is null.
func (t table) segment(i int64) (number int, ok bool) {
	r := random(t.seed, i, fieldFeature+featureDoubles)
	return int(below(r<<32, segments)), !isNull(r)
}

// isNull looks at other bits than the values do.
func isNull(random uint64) bool { return below(random, nullOneIn) == 0 }

// segmentNames returns the strings: 6 to 29 bytes.
func segmentNames() []string {
	const letters = "abcdefghijklmnopqrstuvwxyz"
	names := make([]string, segments)
	for i := range names {
		names[i] = fmt.Sprintf("s%04d-", i) + letters[:mix(uint64(i))%24]
	}
	return names
}

// place returns which row stands at place i of the table.
func (t table) place(i int64) int64 {
	if !t.shuffled {
		return i
	}
	// A Feistel network is a permutation of numbers of so many bits; numbers beyond the last row are permuted further until they are rows.
	low := bits.Len64(uint64(t.rows-1))/2 + 1
	for {
		i = t.feistel(i, low)
		if i < t.rows {
			return i
		}
	}
}

// feistel permutes the numbers of 2×half bits.
func (t table) feistel(i int64, half int) int64 {
	mask := uint64(1)<<half - 1
	left, right := uint64(i)>>half, uint64(i)&mask
	for round := range uint64(4) {
		left, right = right, left^random(t.seed, int64(right), fieldPlace+round<<8)&mask
	}
	return int64(left<<half | right)
}

// entityTable is a set of entity rows.
type entityTable struct {
	rows int64
	// of is the table whose keys and times they have.
	of table
	// recent is whether all are of the last days.
	recent bool
}

// bounds returns the times of the entity rows: from, inclusive, to, exclusive.
func (e entityTable) bounds() (from, to int64) {
	to = startMicros + spanMicros
	if e.recent {
		return to - recentDays*dayMicros, to
	}
	return startMicros, to
}

// row returns key and time of entity row i. One in 20 keys has no features. Some rows stand at the very event time of a feature row, at its
// last moment by ttl, or a microsecond before or after.
func (e entityTable) row(i int64) (key, micros int64) {
	seed := e.of.seed
	key = below(random(seed, i, fieldEntityKey), e.of.keys()+max(1, e.of.keys()/20))
	from, to := e.bounds()
	micros = from + below(random(seed, i, fieldEntityTime), to-from)
	near := e.of.event(below(random(seed, i, fieldEntityRow), e.of.rows))
	for place, at := range []int64{0, ttlMicros, -1, ttlMicros + 1} {
		if at := near.eventMicros + at; i%64 == int64(place) && at >= from && at < to {
			return near.key, at
		}
	}
	return key, micros
}
