package sizing

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSampledCount: however many entities there are, in whatever order and row groups they come, their number is told within the bounds that are printed, and exactly up to the limit.
func TestSampledCount(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for _, entities := range []int{0, 1, 999, 1000, 1001, 5000, 100_000} {
		const limit, groups = 1000, 10
		parts := make([]*sample, groups)
		for i := range parts {
			parts[i] = newSample(limit, 0)
		}
		for e := range entities {
			key := []byte(strconv.Itoa(e))
			for range 1 + r.IntN(3) {
				parts[r.IntN(groups)].add(hashOf(key), len(key), 0)
			}
		}
		all := newSample(limit, 0)
		for _, p := range parts {
			all.merge(p)
		}
		count := all.count(groups, 1, 0)
		if entities <= limit && all.level == 0 {
			require.Equal(t, Count{int64(entities), int64(entities), int64(entities)}, count)
		}
		require.LessOrEqual(t, len(all.entities), limit)
		// The bounds are two standard deviations each way, so that four are exceeded once in ten thousand times.
		require.InDelta(t, entities, count.Value, float64(count.Most-count.Least)+.5, "%d entities", entities)
		require.LessOrEqual(t, count.Most-count.Least, int64(math.Ceil(.2*float64(entities))))
	}
}

// TestSampledVersions: the newest event times of an entity are kept, each once, whatever the order in which they come.
func TestSampledVersions(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for n := range 200 {
		parts := []*sample{newSample(10, 3), newSample(10, 3)}
		events := 1 + n%8
		for _, event := range slices.Concat(r.Perm(events), r.Perm(events)) {
			parts[r.IntN(2)].add(7, 1, int64(event))
		}
		parts[0].merge(parts[1])
		var want []int64
		for event := max(0, events-3); event < events; event++ {
			want = append(want, int64(event))
		}
		require.Equal(t, want, parts[0].times[7])
	}
}

// TestUnseen: entities that are everywhere are all seen; of those that are in one row group each the share is that was read.
func TestUnseen(t *testing.T) {
	require.InDelta(t, 100, unseen(100, 0, 0, 5, .1), 0)
	require.InDelta(t, 1000, unseen(100, 100, 0, 5, .1), 1e-9)
	require.InDelta(t, 1000, unseen(100, 100, 0, 1, .1), 1e-9)
	require.InDelta(t, 100, unseen(100, 100, 0, 1, 1), 0)
	within := unseen(100, 20, 30, 5, .5)
	require.Greater(t, within, 100.)
	require.Less(t, within, 110.)
}

// TestAllocated: the sizes are those of jemalloc with a quantum of 16 bytes.
func TestAllocated(t *testing.T) {
	for n, want := range map[int]int64{
		1: 8, 8: 8, 9: 16, 16: 16, 17: 32, 24: 32, 33: 48, 56: 64, 113: 128, 128: 128, 129: 160, 161: 192, 225: 256, 257: 320, 536: 640, 641: 768, 1025: 1280, 4097: 5120, 1 << 20: 1 << 20,
	} {
		require.Equal(t, want, allocated(n), "%d", n)
	}
}
