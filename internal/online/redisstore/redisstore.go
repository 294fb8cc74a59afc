// Package redisstore keeps online features in Redis, or in anything that speaks its protocol: a single server, one behind
// Sentinel, or a Cluster.
//
// # What is stored
//
// One hash an entity, under "<prefix>:<entity>:<key>" (key as feature.AppendKey writes it); one field a feature view, under the view's
// name; its value is the encoded StoredRow. Small values are strings under "<prefix>::meta:<name>", which no entity's key can be, because the
// name of an entity is never empty. Marks are strings under "<prefix>::mark:<name>", in a Cluster under "<prefix>::mark:{<number>}:<name>" with the least number
// whose slot a master has, for each master.
//
// Of a view that keeps several versions (layout HISTORY), one sorted set an entity, under "<prefix>::history:<entity>:<view>:<key>"; its
// members are encoded StoredRows, scored by event time in microseconds, so that
//
//	ZREVRANGEBYSCORE <key> <moment> -inf LIMIT 0 1
//
// is the row as it was at a moment. The member "dropped", scored -inf, stands before the versions where older ones were given and are not
// kept: what was true before the oldest version is then not known. Scores are doubles, which hold event times exactly up to 2^53
// microseconds before and after 1970 (the years 1684 to 2255). The row of any other event time has a zero byte and the event time in front, eight
// bytes big-endian with the sign bit flipped, so that members of one score are in order too.
//
// # What the server must allow
//
// Redis 5 or later, with scripts. A user needs the commands HMGET, HGET, HDEL, ZREVRANGEBYSCORE, ZRANGE, GET, SET, DEL, SCAN, TIME, EVAL, EVALSHA, PING, and, inside the
// scripts, GET, SET, DEL, HGET, HSET, HSETNX, HDEL, HLEN, EXISTS, PEXPIREAT, PERSIST, PEXPIRETIME (before Redis 7: PTTL), ZADD, ZREM, ZCARD, ZSCORE, ZRANK, ZREVRANK,
// ZRANGEBYSCORE, ZREVRANGE, ZREMRANGEBYRANK and TIME, on the keys "<prefix>:*": for example
//
//	ACL SETUSER twofold on >secret ~tf:* +@read +@write +@scripting +@connection +ping +time
//
// In a Cluster it needs CLUSTER SLOTS, CLUSTER NODES and COMMAND as well. CONFIG GET is used for Warnings only, and may be forbidden.
//
// # Expiry
//
// Redis expires whole keys, so an entity is kept until the latest expiry among its views. A key that never expires because of one
// view stays so while it has other views: rows of theirs that are too old are removed by the syncer where that view keeps its last good rows. A history is a key of its own, and kept until the latest expiry among its versions.
//
// # Memory
//
// Set zset-max-listpack-value to 1024, like hash-max-listpack-value: by default Redis keeps sorted sets with members of more than 64 bytes
// in its roomier form. Bytes an entity of a row of ten DOUBLEs (109 bytes), all included, on Redis 7.0:
//
//	                   by default   with both at 1024
//	LATEST                    425                 286
//	HISTORY, 1 version      1,276                 337
//	HISTORY, 5 versions     2,170                 817
//	HISTORY, 10 versions    3,301               1,461
//
// More than zset-max-listpack-entries versions (128) take the roomier form in any case.
package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/twofold-ml/twofold/internal/online/driver"
)

// Store is a driver.Driver on Redis.
type Store struct {
	o       Options
	client  redis.UniversalClient
	target  string // where it is, without user and password; for errors
	cluster bool
	lanes   *lanes // nil in a cluster
}

var _ driver.Driver = (*Store)(nil)

// Open returns a store for o.URL. It does not connect: Ping does. A URL that cannot be understood is an error of kind
// fault.Invalid, which does not repeat the URL's user and password.
func Open(o Options) (*Store, error) {
	o = o.withDefaults()
	u, target, err := o.universal()
	if err != nil {
		return nil, err
	}
	s := &Store{o: o, client: redis.NewUniversalClient(u), target: target}
	cluster, ok := s.client.(*redis.ClusterClient)
	switch s.cluster = ok; {
	case !ok:
		s.lanes = newLanes(s)
	case o.GuardNode != nil:
		s.guardNodes(cluster)
	}
	return s, nil
}

// IsCluster reports whether the store is a Redis Cluster.
func (s *Store) IsCluster() bool { return s.cluster }

// String says where the store is, without user and password.
func (s *Store) String() string { return s.target }

// GetMeta implements driver.Driver.
func (s *Store) GetMeta(ctx context.Context, names []string) ([][]byte, error) {
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = s.metaKey(name)
	}
	return do(ctx, s, "read from", func(ctx context.Context) ([][]byte, error) { return s.get(ctx, keys) })
}

// get returns the strings stored under keys, nil for each that is not stored.
func (s *Store) get(ctx context.Context, keys []string) ([][]byte, error) {
	values := make([][]byte, len(keys))
	pipe := s.client.Pipeline()
	answers := make([]*redis.StringCmd, len(keys))
	for i, key := range keys {
		answers[i] = pipe.Get(ctx, key)
	}
	if len(keys) == 0 {
		return values, nil
	}
	// The error is the first of the answers', which may be that a value is not there, or one of the connection, which the
	// answers need not have.
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return nil, err
	}
	for i, answer := range answers {
		value, err := answer.Bytes()
		switch {
		case errors.Is(err, redis.Nil):
		case err != nil:
			return nil, err
		default:
			values[i] = value
		}
	}
	return values, nil
}

// PutMeta implements driver.Driver.
func (s *Store) PutMeta(ctx context.Context, name string, value []byte) error {
	_, err := do(ctx, s, "write to", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.client.Set(ctx, s.metaKey(name), value, 0).Err()
	})
	return err
}

// Ping implements driver.Driver: it asks for a key like those that requests ask for, and in a cluster every master answers.
func (s *Store) Ping(ctx context.Context) error {
	_, err := do(ctx, s, "ping", func(ctx context.Context) (struct{}, error) {
		if err := s.client.HGet(ctx, s.entityKey(driver.Entity{Name: "ping"}), "ping").Err(); err != nil && !errors.Is(err, redis.Nil) {
			return struct{}{}, err
		}
		return struct{}{}, s.eachMaster(ctx, func(ctx context.Context, c redis.Cmdable) error { return c.Ping(ctx).Err() })
	})
	return err
}

// eachMaster calls f once for each server that takes writes, one at a time.
func (s *Store) eachMaster(ctx context.Context, f func(ctx context.Context, c redis.Cmdable) error) error {
	c, ok := s.client.(*redis.ClusterClient)
	if !ok {
		return f(ctx, s.client)
	}
	var mu sync.Mutex
	return c.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		return f(ctx, node)
	})
}

// Close implements driver.Driver.
func (s *Store) Close() error {
	if s.lanes != nil {
		s.lanes.close()
	}
	if err := s.client.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close %s: %w", s.target, err)
	}
	return nil
}

func (s *Store) entityKey(e driver.Entity) string {
	return s.o.Prefix + ":" + e.Name + ":" + string(e.Key)
}

func (s *Store) metaKey(name string) string { return s.o.Prefix + "::meta:" + name }

// do calls f with a context that ends after Options.Timeout, and gives its error a kind. It returns as soon as ctx is
// done: go-redis watches deadlines, not cancellation, so f is left to end on its own by then.
func do[T any](ctx context.Context, s *Store, what string, f func(context.Context) (T, error)) (T, error) {
	var none T
	if ctx.Err() != nil {
		return none, s.fail(ctx, what, ctx.Err())
	}
	limited, cancel := context.WithTimeout(ctx, s.patience(ctx))
	type answer struct {
		value T
		err   error
	}
	answered := make(chan answer, 1)
	go func() {
		defer cancel()
		value, err := f(limited)
		answered <- answer{value, err}
	}()
	select {
	case a := <-answered:
		if a.err != nil {
			return none, s.fail(ctx, what, a.err)
		}
		return a.value, nil
	case <-limited.Done():
	}
	select {
	case a := <-answered: // it was there already when f ended limited
		if a.err == nil {
			return a.value, nil
		}
		return none, s.fail(ctx, what, a.err)
	default:
		return none, s.fail(ctx, what, limited.Err())
	}
}
