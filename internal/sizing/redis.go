package sizing

import (
	"math/bits"

	"github.com/twofold-ml/twofold/internal/fault"
)

// Redis is what decides, of a Redis server and of the keys, how much memory rows take. The four limits are settings of the server.
type Redis struct {
	// KeyPrefix begins every key. Defaults to "tf".
	KeyPrefix string
	// A hash with more fields, or with a longer name or value in bytes, is kept as a table and not as one packed block (a listpack). Default to 512 and 64, as
	// Redis' own.
	HashMaxListpackEntries, HashMaxListpackValue int
	// The same for sorted sets, in which each version of a row is a member. Default to 128 and 64.
	ZsetMaxListpackEntries, ZsetMaxListpackValue int
}

// WithDefaults returns the settings with those that are 0 as a Redis server has them unless it is told otherwise.
func (r Redis) WithDefaults() Redis {
	if r.KeyPrefix == "" {
		r.KeyPrefix = "tf"
	}
	for setting, byDefault := range map[*int]int{
		&r.HashMaxListpackEntries: 512, &r.HashMaxListpackValue: 64, &r.ZsetMaxListpackEntries: 128, &r.ZsetMaxListpackValue: 64,
	} {
		if *setting == 0 {
			*setting = byDefault
		}
	}
	return r
}

// check reports a limit that no server has.
func (r Redis) check() error {
	if least := min(r.HashMaxListpackEntries, r.HashMaxListpackValue, r.ZsetMaxListpackEntries, r.ZsetMaxListpackValue); least < 0 {
		return fault.New(fault.Invalid, "a limit of Redis' listpacks is negative (%d)", least)
	}
	return nil
}

// Sizes of Redis' own structures in bytes, of Redis 7 on a 64-bit machine, before the allocator rounds them up.
const (
	objectBytes         = 16 // robj
	dictBytes           = 56
	dictEntryBytes      = 24
	pointerBytes        = 8
	leastTable          = 4 // buckets of the smallest table
	zsetBytes           = 16
	skiplistBytes       = 32
	skiplistNodeBytes   = 24
	skiplistLevelBytes  = 16
	skiplistLevels      = 32
	listpackFrameBytes  = 7  // a header of 6 and an end mark
	listpackScoreBytes  = 10 // an integer of 64 bits
	droppedMemberLength = 7  // "dropped", see redisstore
	droppedScoreLength  = 4  // "-inf"
)

// allocated is what the allocator (jemalloc, with a quantum of 16 bytes) gives for so many bytes: 8, 16 and its multiples up to 128, then four sizes a
// doubling. The jemalloc inside Redis' own builds has multiples of 8 too, so that it gives a little less.
func allocated(n int) int64 {
	switch {
	case n <= 8:
		return 8
	case n <= 128:
		return int64(n+15) &^ 15
	}
	step := int64(1) << (bits.Len(uint(n-1)) - 3)
	return (int64(n) + step - 1) &^ (step - 1)
}

// sds is the memory of a string: a header, its bytes and a zero byte.
func sds(length int) int64 {
	header := 17
	switch {
	case length > 0 && length < 32:
		header = 1
	case length < 1<<8:
		header = 3
	case length < 1<<16:
		header = 5
	case length < 1<<32:
		header = 9
	}
	return allocated(header + length + 1)
}

// listpackEntry is the bytes of a string in a listpack: its length, itself, and the length of both for those who come from behind.
func listpackEntry(length int) int {
	size := length + 5
	switch {
	case length < 1<<6:
		size = length + 1
	case length < 1<<12:
		size = length + 2
	}
	back := 1
	for limit := 1 << 7; size >= limit && back < 5; limit <<= 7 {
		back++
	}
	return size + back
}

// buckets is the memory of the bucket array of a table of n keys: it doubles when it is full.
func buckets(n int64) int64 {
	size := int64(leastTable)
	for size < n {
		size *= 2
	}
	return pointerBytes * size
}

// table is the memory of a table of its own with n keys, without the keys.
func table(n int) int64 {
	return allocated(dictBytes) + allocated(int(buckets(int64(n)))) + int64(n)*allocated(dictEntryBytes)
}

// keyMemory is the memory of a key without what it holds and without its share of the tables of all keys (keyTables).
func keyMemory(length int, expires bool) int64 {
	bytes := sds(length) + allocated(dictEntryBytes) + allocated(objectBytes)
	if expires {
		bytes += allocated(dictEntryBytes)
	}
	return bytes
}

// keyTables is the memory of the tables of so many keys, of which some expire.
func keyTables(keys, expiring int64) int64 {
	bytes := int64(0)
	for _, n := range []int64{keys, expiring} {
		if n > 0 {
			bytes += buckets(n)
		}
	}
	return bytes
}

// field is one field of a hash: the lengths of its name and of its value in bytes.
type field struct{ name, value int }

// hashMemory is the memory of what the hash of an entity holds.
func (r Redis) hashMemory(fields []field) int64 {
	packed, compact := listpackFrameBytes, len(fields) <= r.HashMaxListpackEntries
	loose := table(len(fields))
	for _, f := range fields {
		packed += listpackEntry(f.name) + listpackEntry(f.value)
		loose += sds(f.name) + sds(f.value)
		compact = compact && max(f.name, f.value) <= r.HashMaxListpackValue
	}
	if compact {
		return allocated(packed)
	}
	return loose
}

// zsetMemory is the memory of what the sorted set of a history holds: versions of these lengths, and the mark that there were older ones.
func (r Redis) zsetMemory(versions []int, marked bool) int64 {
	n, packed := len(versions), listpackFrameBytes
	if marked {
		n++
		packed += listpackEntry(droppedMemberLength) + listpackEntry(droppedScoreLength)
	}
	compact := n <= r.ZsetMaxListpackEntries
	loose := allocated(zsetBytes) + table(n) + allocated(skiplistBytes) + allocated(skiplistNodeBytes+skiplistLevels*skiplistLevelBytes)
	loose += int64(float64(n) * skiplistNode())
	if marked {
		loose += sds(droppedMemberLength)
	}
	for _, length := range versions {
		packed += listpackEntry(length) + listpackScoreBytes
		loose += sds(length)
		compact = compact && length <= r.ZsetMaxListpackValue
	}
	if compact {
		return allocated(packed)
	}
	return loose
}

// skiplistNode is the mean memory of a node of a sorted set: of four nodes of a level one has the next level too.
func skiplistNode() float64 {
	bytes, share := 0.0, 1.0
	for level := 1; level <= skiplistLevels; level++ {
		ends := share * 3 / 4
		if level == skiplistLevels {
			ends = share
		}
		bytes += ends * float64(allocated(skiplistNodeBytes+level*skiplistLevelBytes))
		share /= 4
	}
	return bytes
}
