package pit

import (
	"fmt"
	"testing"

	"github.com/twofold-ml/twofold/internal/feature"
)

// TestInternerTellsCollidingKeysApart gives different keys the same hash, which random tests would hardly ever meet.
func TestInternerTellsCollidingKeysApart(t *testing.T) {
	const n = 100
	for _, isInt := range []bool{true, false} {
		for _, spread := range []uint64{1, 2, 1 << 40} {
			k := keyRows{}
			for i := range n {
				k.hashes = append(k.hashes, uint64(i)%spread)
				if isInt {
					k.ints = append(k.ints, int64(i))
				} else {
					k.encoded = append(k.encoded, fmt.Append(nil, i))
				}
			}
			checkInterner(t, newInterner(isInt), &k)
		}
	}
}

// checkInterner interns the first half of the distinct keys in k, and expects only these to be found, in every way.
func checkInterner(t *testing.T, in *interner, k *keyRows) {
	t.Helper()
	half := len(k.hashes) / 2
	for range 2 {
		for i := range half {
			if got := in.intern(k, i); int(got) != i {
				t.Fatalf("key %d has number %d", i, got)
			}
		}
	}
	numbers := make([]int32, len(k.hashes))
	in.find(k, numbers)
	for i, got := range numbers {
		if want := i; (i < half && int(got) != want) || (i >= half && got != absent) {
			t.Fatalf("found number %d for key %d of %d", got, i, half)
		}
	}
	var places []int32
	for i := range k.hashes {
		places = append(places, int32(i), int32(i))
	}
	for i, got := range in.internAll(k, places) {
		if i < len(places) && got != places[i] {
			t.Fatalf("key %d has number %d", places[i], got)
		}
	}
	if in.count != len(k.hashes) {
		t.Fatalf("%d keys, want %d", in.count, len(k.hashes))
	}
}

func TestEarliestNeverOverflows(t *testing.T) {
	for _, c := range []struct {
		asOf feature.AsOf
		ttl  feature.TTL
		want feature.EventTime
	}{
		{10, 0, feature.AllTime().Min},
		{10, 3, 7},
		{-10, 3, -13},
		{feature.AsOf(feature.AllTime().Min), 1, feature.AllTime().Min},
		{feature.AsOf(feature.AllTime().Min) + 5, 5, feature.AllTime().Min},
		{feature.AsOf(feature.AllTime().Min) + 5, 4, feature.AllTime().Min + 1},
		{feature.AsOf(feature.AllTime().Max), feature.TTL(feature.AllTime().Max), 0},
		{-2, feature.TTL(feature.AllTime().Max), feature.AllTime().Min},
		{-1, feature.TTL(feature.AllTime().Max), feature.AllTime().Min},
		{0, feature.TTL(feature.AllTime().Max), feature.AllTime().Min + 1},
	} {
		if got := earliest(c.asOf, c.ttl); got != c.want {
			t.Errorf("earliest(%d, %d) = %d, want %d", c.asOf, c.ttl, got, c.want)
		}
	}
}
