package testenv

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestRedisLoading(t *testing.T) {
	s := Redis(t)
	s.Do(t, "SET", "a", "1")
	for i := range 200 {
		s.Do(t, "SET", i, rand.Text())
	}
	s.Do(t, "SAVE")
	s.RestartLoading(t, 10*time.Millisecond)
	c := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1})
	defer c.Close()
	if err := c.Get(t.Context(), "a").Err(); err == nil || !strings.HasPrefix(err.Error(), "LOADING ") {
		t.Errorf("while it loads: %v", err)
	}
	for begun := time.Now(); c.Get(t.Context(), "a").Val() != "1"; <-time.After(5 * time.Millisecond) {
		if time.Since(begun) > redisStartTimeout {
			t.Fatal("it does not end loading")
		}
	}
}

func TestRedisRestartWith(t *testing.T) {
	s := Redis(t, "--appendonly", "yes")
	s.Do(t, "SET", "a", "b")
	for range 2 { // what was changed stays so
		s.RestartWith(t, "--requirepass", "secret")
		c := redis.NewClient(&redis.Options{Addr: s.Addr, Password: "secret"})
		if got := c.Get(t.Context(), "a").Val(); got != "b" {
			t.Errorf("a = %q", got)
		}
		must(t, c.Close())
	}
	s.RestartWith(t, "--requirepass", "")
	if got := s.Do(t, "GET", "a"); got != "b" {
		t.Errorf("without a password a = %q", got)
	}
}

func TestRedisReplica(t *testing.T) {
	master := Redis(t)
	master.Do(t, "SET", "a", "b")
	replica := RedisReplica(t, master)
	master.Do(t, "SET", "c", "d")
	master.AwaitReplicated(t)
	if a, c := replica.Do(t, "GET", "a"), replica.Do(t, "GET", "c"); a != "b" || c != "d" {
		t.Errorf("the replica has a = %q, c = %q", a, c)
	}
}

func TestProxy(t *testing.T) {
	s := Redis(t)
	p := NewProxy(t, s.Addr)
	// Every command has a connection of its own after one that failed, and no retries.
	c := redis.NewClient(&redis.Options{Addr: p.Addr, MaxRetries: -1, ReadTimeout: 100 * time.Millisecond, PoolSize: 1, DisableIdentity: true, Protocol: 2})
	defer c.Close()
	set := func() error { return c.Set(t.Context(), "a", "b", 0).Err() }
	must(t, set())
	p.Delay(time.Second)
	if set() == nil {
		t.Error("the answer was not delayed")
	}
	p.Delay(0)
	must(t, set())
	p.Stick()
	if set() == nil {
		t.Error("a connection that is stuck gave an answer")
	}
	must(t, set())
	p.BreakAfter(400)
	broken := 0
	for range 100 {
		if set() != nil {
			broken++
		}
	}
	if broken == 0 || broken == 100 {
		t.Errorf("%d of 100 answers were cut off", broken)
	}
}
