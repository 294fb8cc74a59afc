package server_test

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/twofold-ml/twofold/internal/testenv"
)

// TestSickStore runs a server on real Redis servers that get sick under a steady load, and get well again. Of every answer of every test is known
// that it is right, or that it says what is not known: see running. Nothing is restarted but what is sick.
func TestSickStore(t *testing.T) {
	redis.SetLogger(silence{}) // it tells of every connection that is refused
	t.Run("kinds", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T){
			"stopped": stoppedRedis, "emptied": emptiedRedis, "frozen": frozenRedis, "slow": slowRedis, "cut off": cutOffRedis, "stuck": stuckConnections, "loading": loadingRedis,
			"out of memory": fullRedis, "password": changedPassword, "connections": crowdedRedis, "pool": smallPool,
			"failover": failover, "cluster": clusterLosesNode, "cluster with full coverage": wholeClusterStops, "cluster with a frozen node": clusterNodeFreezes,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t)
			})
		}
	})
	await(t, "no goroutine of a server or store is left", func() bool {
		buffer := make([]byte, 16<<20)
		all := string(buffer[:runtime.Stack(buffer, true)])
		for _, code := range []string{"go-redis", "internal/online", "server.(*Server)", "client.(*onlineCall)"} {
			if strings.Contains(all, code) {
				return false
			}
		}
		return true
	})
}

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

// durable are the arguments of a server that keeps what it was given.
var durable = []string{"--appendonly", "yes", "--appendfsync", "always"}

// stoppedRedis: it refuses connections, and then is there again with its data.
func stoppedRedis(t *testing.T) {
	redis := testenv.Redis(t, durable...)
	m := openMarket(t, redis.URL)
	m.fill()
	r := m.start(load{writes: true})
	r.well("before the fault")
	for range 2 {
		redis.Kill()
		r.failing("while it is stopped")
		r.shed("while it is stopped")
		r.await("the server says that it is not ready", func() bool { ok, _ := m.ready(); return !ok })
		redis.Restart(t)
		r.well("after it was started again")
	}
	if m.metric("state") != 0 {
		t.Error("the breaker is not closed")
	}
	r.end()
}

// emptiedRedis: it is there again without its data. Until the server has seen that, which it looks for every 2 s, a row may be NOT_FOUND;
// from then on none is, and the view is UNAVAILABLE until it was synced.
func emptiedRedis(t *testing.T) {
	redis := testenv.Redis(t)
	m := openMarket(t, redis.URL)
	m.fill()
	r := m.start(load{synced: true})
	r.well("before the fault")
	for _, empty := range []func(){func() { redis.Restart(t) }, func() { redis.Do(t, "FLUSHALL") }} {
		r.await("ready", func() bool { ok, _ := m.ready(); return ok })
		r.losses.Add(1)
		empty()
		r.await("the server sees that its data is lost", func() bool {
			_, body := m.ready()
			return strings.Contains(body, "not synced yet: quote")
		})
		r.seen.Add(1)
		r.failing("while it is empty")
		m.fillWhenThere()
		r.well("after a sync")
	}
	r.end()
}

// frozenRedis: connections stay open, and nothing is answered.
func frozenRedis(t *testing.T) {
	redis := testenv.Redis(t)
	m := openMarket(t, redis.URL)
	m.fill()
	r := m.start(load{writes: true})
	r.well("before the fault")
	redis.Freeze(t)
	r.failing("while it is frozen")
	r.shed("while it is frozen")
	redis.Thaw(t)
	r.well("after the thaw")
	r.end()
}

// slowRedis: every answer comes late, at first within the deadline, then after it.
func slowRedis(t *testing.T) {
	redis := testenv.Redis(t)
	p := testenv.NewProxy(t, redis.Addr)
	m := openMarket(t, "redis://"+p.Addr)
	m.fill()
	r := m.start(load{})
	r.well("before the fault")
	p.Delay(20 * time.Millisecond)
	r.well("while it is slow")
	p.Delay(4 * time.Second)
	r.failing("while it is too slow")
	r.shed("while it is too slow")
	p.Delay(0)
	r.well("after it is fast again")
	r.end()
}

// cutOffRedis: connections break in the middle of an answer, again and again.
func cutOffRedis(t *testing.T) {
	redis := testenv.Redis(t)
	p := testenv.NewProxy(t, redis.Addr)
	m := openMarket(t, "redis://"+p.Addr)
	m.fill()
	r := m.start(load{})
	r.well("before the fault")
	answered := func() int64 { return r.good.Load() + r.unavailable.Load() }
	before, good := answered(), r.good.Load()
	p.BreakAfter(3000)
	r.await("many requests are answered over connections that break", func() bool { return answered()-before > 500 && r.good.Load()-good > 20 })
	p.BreakAfter(0)
	r.well("when connections hold again")
	r.end()
}

// stuckConnections: the host is gone, with no word on the connections to it, and another one is at its address.
func stuckConnections(t *testing.T) {
	redis := testenv.Redis(t)
	p := testenv.NewProxy(t, redis.Addr)
	m := openMarket(t, "redis://"+p.Addr)
	m.fill()
	r := m.start(load{writes: true})
	r.well("before the fault")
	failed := r.unavailable.Load() + r.late.Load()
	p.Stick()
	// As many as there are connections at most: whoever comes next gets a new one.
	r.await("requests fail over connections that are stuck", func() bool { return r.unavailable.Load()+r.late.Load() > failed })
	r.well("over new connections")
	r.end()
}

// loadingRedis: it is there again and answers, but only that it is loading its data.
func loadingRedis(t *testing.T) {
	redis := testenv.Redis(t)
	m := openMarket(t, redis.URL)
	m.fill()
	r := m.start(load{})
	r.well("before the fault")
	redis.Do(t, "SAVE")
	redis.RestartLoading(t, 8*time.Millisecond) // 200 keys and more
	r.failing("while it loads")
	r.well("after it has loaded")
	r.end()
}

// fullRedis: it has no memory left, so that it refuses every write, clearly; reads go on.
func fullRedis(t *testing.T) {
	redis := testenv.Redis(t, "--maxmemory-policy", "noeviction")
	m := openMarket(t, redis.URL)
	m.fill()
	r := m.start(load{})
	redis.Do(t, "CONFIG", "SET", "maxmemory", "1")
	for range 30 { // more than would open the breaker
		_, err := m.push(t.Context(), ago(time.Minute), 1)
		st := status.Convert(err)
		if st.Code() != codes.Unavailable || retryDelayOf(st) <= 0 || !strings.Contains(st.Message(), "OOM") || !strings.Contains(st.Message(), "give Redis more memory") {
			t.Fatalf("a push without memory got %v", err)
		}
	}
	r.well("while writes are refused")
	if r.unavailable.Load()+r.late.Load() > 0 || m.metric("opened_total") > 0 {
		t.Error("reads failed because writes were refused")
	}
	redis.Do(t, "CONFIG", "SET", "maxmemory", "0")
	if _, err := m.push(t.Context(), ago(time.Minute), 1); err != nil {
		t.Errorf("with memory again: %v", err)
	}
	r.end()
}

// changedPassword: the server has the wrong password from the start, then the right one, then Redis gets another and goes back.
func changedPassword(t *testing.T) {
	redis := testenv.Redis(t, append(durable, "--requirepass", "another")...)
	m := openMarket(t, "redis://:right@"+redis.Addr)
	r := m.start(load{synced: true})
	refused := func(when string) {
		t.Helper()
		r.failing(when)
		r.await("requests say what is wrong "+when, func() bool {
			_, err := m.Client.Online(t.Context(), r.anyRequest())
			text := status.Convert(err).Message()
			if strings.Contains(text, "right") {
				t.Fatalf("the password is told: %v", err)
			}
			return status.Code(err) == codes.Unavailable && strings.Contains(text, "check the user and password of the Redis URL")
		})
	}
	refused("with the wrong password")
	redis.RestartWith(t, "--requirepass", "right")
	r.failing("before it is synced")
	m.fillWhenThere()
	r.well("with the right password")
	redis.RestartWith(t, "--requirepass", "changed")
	refused("after the password was changed")
	redis.RestartWith(t, "--requirepass", "right")
	r.well("after it was changed back")
	r.end()
}

// crowdedRedis: others have all connections that it gives.
func crowdedRedis(t *testing.T) {
	server := testenv.Redis(t)
	m := openMarket(t, server.URL)
	m.fill()
	r := m.start(load{})
	r.well("before the fault")
	crowd := redis.NewClient(&redis.Options{Addr: server.Addr, PoolSize: 1})
	defer crowd.Close()
	for _, command := range [][]any{{"CONFIG", "SET", "maxclients", "1"}, {"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"}} {
		if err := crowd.Do(t.Context(), command...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	r.failing("while others have all connections")
	if err := crowd.Do(t.Context(), "CONFIG", "SET", "maxclients", "1000").Err(); err != nil {
		t.Fatal(err)
	}
	r.well("when there are connections again")
	r.end()
}

// smallPool: there are fewer connections than callers, and each is slow.
func smallPool(t *testing.T) {
	redis := testenv.Redis(t)
	p := testenv.NewProxy(t, redis.Addr)
	m := openMarket(t, "redis://"+p.Addr+"?pool_size=2")
	m.fill()
	r := m.start(load{clients: 64, writes: true})
	r.well("before the fault")
	p.Delay(500 * time.Millisecond)
	r.failing("while all connections are slow")
	p.Delay(0)
	r.well("after they are fast again")
	r.end()
}
