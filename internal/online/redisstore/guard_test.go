package redisstore

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/testenv"
)

// gatekeeper guards nodes as a test says.
type gatekeeper struct {
	mu     sync.Mutex
	closed map[string]bool
	calls  map[string]int
	sick   map[string]error
}

func (g *gatekeeper) guard(node string) Guard {
	return func(ctx context.Context, call func(context.Context) error) error {
		g.mu.Lock()
		closed := g.closed[node]
		g.calls[node]++
		g.mu.Unlock()
		if closed {
			return fault.New(fault.Unavailable, "%s is closed", node)
		}
		err := call(ctx)
		if err != nil {
			g.mu.Lock()
			g.sick[node] = err
			g.mu.Unlock()
		}
		return err
	}
}

func openGuarded(t *testing.T, servers []*testenv.RedisServer) (*Store, *gatekeeper) {
	t.Helper()
	g := &gatekeeper{closed: map[string]bool{}, calls: map[string]int{}, sick: map[string]error{}}
	s := open(t, Options{URL: "redis+cluster://" + servers[0].Addr + "," + servers[1].Addr, GuardNode: g.guard})
	require.True(t, s.IsCluster())
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s, g
}

// TestGuards: what a guard refuses is the error of the reads of its node only, the others are read; and a guard is told only what says that its node is sick.
func TestGuards(t *testing.T) {
	servers := testenv.RedisCluster(t, 3, "--cluster-require-full-coverage", "no", "--cluster-node-timeout", "1000")
	s, g := openGuarded(t, servers)
	var reads []driver.Read
	for i := range 60 {
		reads = append(reads, driver.Read{Entity: entityOf(i), Views: []string{"v"}})
		_, err := writeOne(t.Context(), s, driver.Row{Entity: entityOf(i), View: "v", Value: oneRow("", int64(i)).Value})
		require.NoError(t, err)
	}
	poison := driver.Entity{Name: "user", Key: []byte("poison")}
	require.NoError(t, s.client.Set(t.Context(), s.entityKey(poison), "a string", 0).Err())
	_, err := s.Read(t.Context(), []driver.Read{{Entity: poison, Views: []string{"v"}}})
	require.Equal(t, fault.Precondition, fault.KindOf(err))
	require.Empty(t, g.sick, "a node that answers is well")
	require.Len(t, g.calls, 3)

	node := "Redis Cluster node " + servers[0].Addr
	check := func(text string) {
		t.Helper()
		rows, err := s.Read(t.Context(), reads)
		partial, ok := errors.AsType[*driver.PartialError](err)
		require.True(t, ok, err)
		failed := 0
		for i, err := range partial.Errs {
			require.Equal(t, err == nil, rows[i] != nil)
			if err != nil {
				require.Equal(t, fault.Unavailable, fault.KindOf(err))
				require.ErrorContains(t, err, text)
				failed++
			}
		}
		require.Greater(t, failed, 5)
		require.Less(t, failed, 40)
	}
	g.mu.Lock()
	g.closed[node] = true
	g.mu.Unlock()
	check(node + " is closed")
	g.mu.Lock()
	g.closed[node] = false
	g.mu.Unlock()
	rows, err := s.Read(t.Context(), reads)
	require.NoError(t, err)
	require.Len(t, rows, 60)

	servers[0].Kill()
	check("")
	g.mu.Lock()
	require.Equal(t, fault.Unavailable, fault.KindOf(g.sick[node]))
	require.Len(t, g.sick, 1, "that it is lost is nobody else's sickness")
	g.mu.Unlock()
}

// TestSickness: what says that a server is sick.
func TestSickness(t *testing.T) {
	server := testenv.Redis(t, "--requirepass", "s3cr")
	c := redis.NewClient(&redis.Options{Addr: server.Addr, MaxRetries: -1})
	defer c.Close()
	require.ErrorContains(t, c.Get(t.Context(), "a").Err(), "NOAUTH")
	require.NoError(t, sickness(c.Get(t.Context(), "a").Err()))
	require.NoError(t, sickness(nil))
	require.NoError(t, sickness(redis.Nil))
	require.NoError(t, sickness(redis.ErrClosed))
	server.Freeze(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.Equal(t, fault.Unavailable, fault.KindOf(sickness(c.Get(ctx, "a").Err())))
	server.Kill()
	require.Equal(t, fault.Unavailable, fault.KindOf(sickness(c.Get(t.Context(), "a").Err())))
}

// TestRefused: what a server refuses whatever is asked is told apart from what is wrong with a key.
func TestRefused(t *testing.T) {
	server := testenv.Redis(t, "--requirepass", "s3cr")
	s := open(t, Options{URL: "redis://:wrong@" + server.Addr})
	defer s.Close()
	_, err := s.Read(t.Context(), []driver.Read{{Entity: entityOf(1), Views: []string{"v"}}})
	_, ok := errors.AsType[*RefusedError](err)
	require.True(t, ok, err)
	require.Equal(t, fault.Precondition, fault.KindOf(err))

	server.RestartWith(t, "--requirepass", "", "--maxmemory", "1")
	s = open(t, Options{URL: server.URL})
	defer s.Close()
	_, err = writeOne(t.Context(), s, oneRow("a", 1))
	_, ok = errors.AsType[*RefusedError](err)
	require.True(t, ok, err)
	server.Do(t, "CONFIG", "SET", "maxmemory", "0")
	server.Do(t, "SET", s.entityKey(entityOf(1)), "a string")
	_, err = s.Read(t.Context(), []driver.Read{{Entity: entityOf(1), Views: []string{"v"}}})
	require.Equal(t, fault.Precondition, fault.KindOf(err))
	_, ok = errors.AsType[*RefusedError](err)
	require.False(t, ok, err)
}
