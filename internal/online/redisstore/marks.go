package redisstore

import (
	"context"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/twofold-ml/twofold/internal/fault"
)

// PutMark implements driver.Driver.
func (s *Store) PutMark(ctx context.Context, name string, value []byte) error {
	text := string(value) // a call that was given up may still send it
	_, err := do(ctx, s, "write to", func(ctx context.Context) (struct{}, error) {
		keys, err := s.markKeys(ctx, name)
		if err != nil {
			return struct{}{}, err
		}
		pipe := s.client.Pipeline()
		for _, key := range keys {
			pipe.Set(ctx, key, text, 0)
		}
		_, err = pipe.Exec(ctx)
		return struct{}{}, err
	})
	return err
}

// Marks implements driver.Driver.
func (s *Store) Marks(ctx context.Context, name string) ([][]byte, error) {
	return do(ctx, s, "read from", func(ctx context.Context) ([][]byte, error) {
		keys, err := s.markKeys(ctx, name)
		if err != nil {
			return nil, err
		}
		return s.get(ctx, keys)
	})
}

// markKeys returns the keys of a mark, one for each server that has keys with our prefix.
func (s *Store) markKeys(ctx context.Context, name string) ([]string, error) {
	cluster, ok := s.client.(*redis.ClusterClient)
	switch {
	case !ok:
		return []string{s.o.Prefix + "::mark:" + name}, nil
	case slotOf(s.o.Prefix+"a") == slotOf(s.o.Prefix+"b"):
		// The prefix has a hash tag, so that everything is in one slot.
		return []string{s.markKey(0, name)}, nil
	}
	ranges, err := cluster.ClusterSlots(ctx).Result() //nolint:staticcheck // CLUSTER SHARDS came with Redis 7
	if err != nil {
		return nil, err
	}
	return s.markKeysOf(ranges, name)
}

// markKey returns one of the keys that a mark may have in a Cluster. The number is its hash tag.
func (s *Store) markKey(number int, name string) string {
	return s.o.Prefix + "::mark:{" + strconv.Itoa(number) + "}:" + name
}

// mostMarkKeys is how many keys are tried to find one in a slot of each master: so many that none is left out even where a master has one slot only.
const mostMarkKeys = 1 << 20

// markKeysOf returns for each master of the slots the key of the least number that is in one of its slots.
func (s *Store) markKeysOf(ranges []redis.ClusterSlot, name string) ([]string, error) {
	var masters [slots]int // number of the master of each slot, from 1; 0 is none
	numbers := map[string]int{}
	for _, r := range ranges {
		if len(r.Nodes) == 0 || r.Start < 0 || r.End >= slots {
			return nil, fault.New(fault.Internal, "the Cluster tells of the slots %d to %d of %d nodes", r.Start, r.End, len(r.Nodes))
		}
		master := r.Nodes[0].ID + r.Nodes[0].Addr // the others are its replicas
		if numbers[master] == 0 {
			numbers[master] = len(numbers) + 1
		}
		for slot := r.Start; slot <= r.End; slot++ {
			masters[slot] = numbers[master]
		}
	}
	if len(numbers) == 0 {
		return nil, fault.New(fault.Unavailable, "the Cluster has no master with slots yet")
	}
	var keys []string
	found := make([]bool, len(numbers)+1)
	found[0] = true // of slots that nobody has
	for number := 0; len(keys) < len(numbers) && number < mostMarkKeys; number++ {
		key := s.markKey(number, name)
		if master := masters[slotOf(key)]; !found[master] {
			found[master] = true
			keys = append(keys, key)
		}
	}
	return keys, nil
}
