package redisstore

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/testenv"
)

// TestMarksOfCluster: a master that lost its data shows, whichever it is, and so may one that has other slots than before.
func TestMarksOfCluster(t *testing.T) {
	servers := testenv.RedisCluster(t, 3)
	s := open(t, Options{URL: "redis+cluster://" + servers[0].Addr, Prefix: "tf"})
	defer s.Close()
	marked := func() (n int) {
		t.Helper()
		marks, err := s.Marks(t.Context(), "n")
		require.NoError(t, err)
		require.Len(t, marks, len(servers))
		for _, mark := range marks {
			if mark != nil {
				n++
			}
		}
		return n
	}
	require.Zero(t, marked())
	for i, server := range servers {
		require.NoError(t, s.PutMark(t.Context(), "n", []byte("1")))
		require.Equal(t, 3, marked())
		require.EqualValues(t, 1, server.Do(t, "DBSIZE"), "one a server")
		server.Do(t, "FLUSHALL")
		require.Equal(t, 2, marked(), "without server %d", i)
	}
	require.NoError(t, s.PutMark(t.Context(), "n", []byte("1")))
	m := mover{t: t, servers: servers, ids: []any{servers[0].Do(t, "CLUSTER", "MYID"), servers[1].Do(t, "CLUSTER", "MYID"), nil}}
	m.move(int(slotOf(s.markKey(firstIn(s, &m, 0), "n"))), 0, 1)
	require.GreaterOrEqual(t, marked(), 2, "the one that it was moved to has one, of its own or that one")
	require.NoError(t, s.PutMark(t.Context(), "n", []byte("2")))
	require.Equal(t, 3, marked())
}

// firstIn returns the number of the key that a server has at first.
func firstIn(s *Store, m *mover, server int) int {
	for number := 0; ; number++ {
		if m.ownerOf(int(slotOf(s.markKey(number, "n")))) == server {
			return number
		}
	}
}

// TestMarksOfPrefixWithTag: where the prefix keeps all keys in one slot, the server of that slot is the only one that has any.
func TestMarksOfPrefixWithTag(t *testing.T) {
	servers := testenv.RedisCluster(t, 3)
	for prefix, n := range map[string]int{"a{tf}": 1, "{}tf": 3, "{tf": 3, "tf}": 3} {
		s := open(t, Options{URL: "redis+cluster://" + servers[0].Addr, Prefix: prefix})
		defer s.Close()
		require.NoError(t, s.PutMark(t.Context(), "n", []byte("1")))
		marks, err := s.Marks(t.Context(), "n")
		require.NoError(t, err)
		require.Equal(t, slices.Repeat([][]byte{[]byte("1")}, n), marks, prefix)
	}
}

// TestMarkKeys deals slots out to masters at random: each has a key in one of its slots, and it is the same whenever it is looked for.
func TestMarkKeys(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	s := &Store{o: Options{Prefix: "tf"}}
	for _, masters := range []int{1, 2, 3, 7, 100} {
		owners := make([]int, slots)
		for slot := range owners {
			owners[slot] = r.IntN(masters)
		}
		for master := range masters {
			owners[r.IntN(10)+10*master] = master
		}
		// One has a single slot.
		for slot := range owners {
			if slot != 5 && owners[slot] == owners[5] && masters > 1 {
				owners[slot] = (owners[5] + 1) % masters
			}
		}
		ranges := rangesOf(owners)
		keys, err := s.markKeysOf(ranges, "n")
		require.NoError(t, err)
		var found []int
		for _, key := range keys {
			found = append(found, owners[slotOf(key)])
		}
		want := slices.Clone(owners)
		slices.Sort(want)
		slices.Sort(found)
		require.Equal(t, slices.Compact(want), found)
		r.Shuffle(len(ranges), func(i, j int) { ranges[i], ranges[j] = ranges[j], ranges[i] })
		again, err := s.markKeysOf(ranges, "n")
		require.NoError(t, err)
		require.Equal(t, keys, again)
	}

	_, err := s.markKeysOf(nil, "n")
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	for _, bad := range []redis.ClusterSlot{{Start: 0, End: 10}, {Start: -1, End: 5, Nodes: nodesOf(1)}, {Start: 0, End: slots, Nodes: nodesOf(1)}} {
		_, err := s.markKeysOf([]redis.ClusterSlot{bad}, "n")
		require.Equal(t, fault.Internal, fault.KindOf(err))
	}
	half, err := s.markKeysOf([]redis.ClusterSlot{{Start: 100, End: 200, Nodes: nodesOf(1)}}, "n")
	require.NoError(t, err, "slots that nobody has")
	require.Len(t, half, 1)
}

func nodesOf(master int) []redis.ClusterNode {
	return []redis.ClusterNode{{ID: fmt.Sprint("id", master), Addr: fmt.Sprint("host:", master)}, {ID: "replica", Addr: "host:0"}}
}

// rangesOf returns the ranges of slots, one for each run of slots of one master.
func rangesOf(owners []int) (ranges []redis.ClusterSlot) {
	for slot, owner := range owners {
		if slot == 0 || owners[slot-1] != owner {
			ranges = append(ranges, redis.ClusterSlot{Start: slot, Nodes: nodesOf(owner)})
		}
		ranges[len(ranges)-1].End = slot
	}
	return ranges
}
