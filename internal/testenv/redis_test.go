package testenv

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestRedisFreezeAndRestart(t *testing.T) {
	s := Redis(t)
	c := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1, ContextTimeoutEnabled: true})
	defer c.Close()
	must(t, c.Set(t.Context(), "a", "b", 0).Err())
	s.Freeze(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Get(ctx, "a").Err(); err == nil {
		t.Error("a frozen server answered")
	}
	s.Thaw(t)
	if got := c.Get(t.Context(), "a").Val(); got != "b" {
		t.Errorf("after the thaw a = %q", got)
	}
	s.Restart(t)
	if err := c.Get(t.Context(), "a").Err(); err != redis.Nil {
		t.Errorf("after the restart: %v, want no value", err)
	}
	s.Kill()
	if err := c.Ping(t.Context()).Err(); err == nil {
		t.Error("a killed server answered")
	}
}

func TestRedisCluster(t *testing.T) {
	servers := RedisCluster(t, 3)
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{servers[2].Addr}})
	defer c.Close()
	for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
		must(t, c.Set(t.Context(), key, key, 0).Err())
	}
}

func TestRedisSentinel(t *testing.T) {
	master := Redis(t)
	sentinel := RedisSentinel(t, master, "main")
	c := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: []string{sentinel.Addr}})
	defer c.Close()
	must(t, c.Set(t.Context(), "a", "b", 0).Err())
	direct := redis.NewClient(&redis.Options{Addr: master.Addr})
	defer direct.Close()
	if got := direct.Get(t.Context(), "a").Val(); got != "b" {
		t.Errorf("the master has a = %q", got)
	}
}
