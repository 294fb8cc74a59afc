package redisstore

import (
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/testenv"
)

// scanKeys returns how often each key was found; more is called after each batch where it is not nil.
func scanKeys(t *testing.T, s *Store, scan driver.Scan, more func()) (map[string]int, error) {
	t.Helper()
	found := map[string]int{}
	err := s.Scan(t.Context(), scan, func(rows []driver.ScannedRow) error {
		for _, r := range rows {
			found[string(r.Key)]++
		}
		if more != nil {
			more()
		}
		return nil
	})
	return found, err
}

// requireCount checks how many keys were found, and does not print them.
func requireCount(t *testing.T, want int, found map[string]int) {
	t.Helper()
	if len(found) != want {
		t.Fatalf("found %d keys, want %d", len(found), want)
	}
}

// writeNumbered writes n rows.
func writeNumbered(t *testing.T, s *Store, n int) {
	t.Helper()
	rows := make([]driver.Row, n)
	for i := range rows {
		rows[i] = oneRow(strconv.Itoa(i), 1)
	}
	_, err := s.Write(t.Context(), rows)
	require.NoError(t, err)
}

var users = driver.Scan{Entity: "user", View: "v"}

// TestScanForeignKeys: what others keep under such names is left out, and damage is handed on.
func TestScanForeignKeys(t *testing.T) {
	server := testenv.Redis(t)
	for _, prefix := range []string{"tf", `t*[a-f]?\x`} {
		s := open(t, Options{URL: server.URL, Prefix: prefix})
		defer s.Close()
		writeNumbered(t, s, 1)
		server.Do(t, "SET", prefix+":user:text", "v")
		server.Do(t, "RPUSH", prefix+":user:list", "v")
		server.Do(t, "HSET", prefix+":user:damaged", "v", "")
		server.Do(t, "HSET", "t:user:other", "v", "x")
		server.Do(t, "HSET", `tffax\x:user:other`, "v", "x")
		found, err := scanKeys(t, s, users, nil)
		require.NoError(t, err)
		require.Equal(t, map[string]int{"0": 1, "damaged": 1}, found)

		server.Do(t, "SET", prefix+"::history:user:v:text", "v")
		server.Do(t, "ZADD", prefix+"::history:user:v:damaged", "-inf", "dropped", "1", "", "2", "\x00x", "3", "row")
		var values []string
		require.NoError(t, s.Scan(t.Context(), driver.Scan{Entity: "user", View: "v", History: true}, func(rows []driver.ScannedRow) error {
			for _, r := range rows {
				values = append(values, string(r.Value))
			}
			return nil
		}))
		require.Equal(t, []string{"", "", "row"}, values)
	}
}

// TestScanBeforeRedis7: a server without PEXPIRETIME tells when a key expires in another way.
func TestScanBeforeRedis7(t *testing.T) {
	s, admin := openWithClient(t, "--rename-command", "PEXPIRETIME", "")
	expire := time.Now().Add(time.Hour).UnixMilli()
	for key, at := range map[string]int64{"never": 0, "later": expire} {
		require.NoError(t, admin.HSet(t.Context(), "tf:user:"+key, "v", "x").Err())
		require.NoError(t, admin.ZAdd(t.Context(), "tf::history:user:v:"+key, redis.Z{Member: "x"}).Err())
		if at != 0 {
			require.NoError(t, admin.Do(t.Context(), "PEXPIREAT", "tf:user:"+key, at).Err())
			require.NoError(t, admin.Do(t.Context(), "PEXPIREAT", "tf::history:user:v:"+key, at).Err())
		}
	}
	for _, history := range []bool{false, true} {
		got := map[string]int64{}
		require.NoError(t, s.Scan(t.Context(), driver.Scan{Entity: "user", View: "v", History: history}, func(rows []driver.ScannedRow) error {
			for _, r := range rows {
				got[string(r.Key)] = r.ExpireAtMillis
			}
			return nil
		}))
		require.Zero(t, got["never"])
		require.InDelta(t, expire, got["later"], 2, "to the millisecond, about")
		require.Len(t, got, 2)
	}
}

// TestScanOverBrokenConnections: a scan whose connection breaks begins anew, also on a server that has started again meanwhile, and finds all rows.
func TestScanOverBrokenConnections(t *testing.T) {
	const n = 5000
	server := testenv.Redis(t)
	proxy := testenv.NewProxy(t, server.Addr)
	s := open(t, Options{URL: "redis://" + proxy.Addr, Timeout: 30 * time.Second})
	defer s.Close()
	writeNumbered(t, s, n)
	t.Run("once", func(t *testing.T) {
		calls := 0
		found, err := scanKeys(t, s, users, func() {
			if calls++; calls == 2 {
				server.Do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
			}
		})
		require.NoError(t, err)
		requireCount(t, n, found)
	})
	t.Run("for good", func(t *testing.T) {
		defer proxy.BreakAfter(0)
		_, err := scanKeys(t, s, users, func() { proxy.BreakAfter(1) })
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	})
	t.Run("of a server that starts again", func(t *testing.T) {
		server.Do(t, "SAVE")
		calls := 0
		found, err := scanKeys(t, s, users, func() {
			if calls++; calls == 1 {
				server.Restart(t)
			}
		})
		require.NoError(t, err)
		requireCount(t, n, found)
	})
}

// TestScanOfReplica: what has become a replica meanwhile may not have what was written.
func TestScanOfReplica(t *testing.T) {
	server := testenv.Redis(t)
	s := open(t, Options{URL: server.URL})
	defer s.Close()
	writeNumbered(t, s, 10)
	server.Do(t, "CONFIG", "SET", "min-replicas-to-write", "1")
	_, err := scanKeys(t, s, users, nil)
	require.NoError(t, err, "who refuses to write can be read")
	server.Do(t, "CONFIG", "SET", "min-replicas-to-write", "0")
	server.Do(t, "REPLICAOF", "127.0.0.1", "1")
	_, err = scanKeys(t, s, users, nil)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	require.ErrorContains(t, err, "READONLY")
}

// TestScanWhileSlotsMove moves slots from a server that was not scanned yet to one that was: their rows are found all the same.
func TestScanWhileSlotsMove(t *testing.T) {
	servers := testenv.RedisCluster(t, 3)
	s := open(t, Options{URL: "redis+cluster://" + servers[0].Addr, Prefix: "tf"})
	defer s.Close()
	const n = 5000
	writeNumbered(t, s, n)
	m := mover{t: t, servers: servers, ids: make([]any, len(servers))}
	for i, server := range servers {
		m.ids[i] = server.Do(t, "CLUSTER", "MYID")
	}
	var scanned []int // servers, in order, up to the second one
	found := map[string]int{}
	require.NoError(t, s.Scan(t.Context(), users, func(rows []driver.ScannedRow) error {
		for _, r := range rows {
			found[string(r.Key)]++
		}
		from := m.ownerOf(int(slotOf(s.entityKey(driver.Entity{Name: "user", Key: rows[0].Key}))))
		if len(scanned) == 2 || slices.Contains(scanned, from) {
			return nil
		}
		if scanned = append(scanned, from); len(scanned) == 2 {
			m.moveSome(s, 3-scanned[0]-scanned[1], scanned[0])
		}
		return nil
	}))
	requireCount(t, n, found)

	m.do(0, "CLUSTER", "SETSLOT", 5, "MIGRATING", m.ids[1])
	_, err := scanKeys(t, s, users, nil)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	require.ErrorContains(t, err, "slots of the Cluster were moved")
	m.do(0, "CLUSTER", "SETSLOT", 5, "STABLE")
	all, err := scanKeys(t, s, users, nil)
	require.NoError(t, err)
	requireCount(t, n, all)
}

// mover moves slots of a cluster of which each server has an even share at first.
type mover struct {
	t       *testing.T
	servers []*testenv.RedisServer
	ids     []any
}

func (m *mover) do(server int, args ...any) any { return m.servers[server].Do(m.t, args...) }

// ownerOf returns which server has a slot at first.
func (m *mover) ownerOf(slot int) int { return (slot*len(m.servers) + len(m.servers) - 1) / 16384 }

// moveSome moves slots of some entities.
func (m *mover) moveSome(s *Store, from, to int) {
	moved := map[int]bool{}
	for i := range 30 {
		if slot := int(slotOf(s.entityKey(entityOf(i)))); m.ownerOf(slot) == from && !moved[slot] {
			moved[slot] = true
			m.move(slot, from, to)
		}
	}
	require.NotEmpty(m.t, moved)
}

// move moves a slot with its keys.
func (m *mover) move(slot, from, to int) {
	m.do(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", m.ids[from])
	m.do(from, "CLUSTER", "SETSLOT", slot, "MIGRATING", m.ids[to])
	for {
		keys, ok := m.do(from, "CLUSTER", "GETKEYSINSLOT", slot, 100).([]any)
		require.True(m.t, ok)
		if len(keys) == 0 {
			break
		}
		for _, key := range keys {
			host, port, _ := net.SplitHostPort(m.servers[to].Addr)
			m.do(from, "MIGRATE", host, port, key, 0, 5000)
		}
	}
	for _, server := range []int{to, from} {
		m.do(server, "CLUSTER", "SETSLOT", slot, "NODE", m.ids[to])
	}
}

// TestAboutItself reads what Redis 7 answers, and what no Redis does.
func TestAboutItself(t *testing.T) {
	const nodes = "07c3 127.0.0.1:30004@31004,hostname4 slave e7d1 0 1426238317239 4 connected\n" +
		"e7d1 127.0.0.1:30001@31001,hostname1 myself,master - 0 0 1 connected 0-5460 7000 [93-<-292f]\n"
	got, err := aboutItself(nodes)
	require.NoError(t, err)
	require.Equal(t, "e7d1 myself,master 1 0-5460 7000 [93-<-292f]", got)
	for _, bad := range []string{"", "\n", "a b myself", nodes[:60]} {
		_, err := aboutItself(bad)
		require.Equal(t, fault.Internal, fault.KindOf(err), "%q", bad)
	}
}

// TestScanConnectionsAreGivenBack: an error of yield is the caller's own, and connections are given back whatever ends a scan.
func TestScanConnectionsAreGivenBack(t *testing.T) {
	server := testenv.Redis(t)
	s := open(t, Options{URL: server.URL + "?pool_size=2"})
	defer s.Close()
	writeNumbered(t, s, 3000)
	enough := errors.New("enough")
	for range 10 {
		err := s.Scan(t.Context(), users, func([]driver.ScannedRow) error { return enough })
		require.Equal(t, enough, err)
	}
	found, err := scanKeys(t, s, users, nil)
	require.NoError(t, err)
	requireCount(t, 3000, found)
}

func FuzzAboutItself(f *testing.F) {
	f.Add("e7d1 127.0.0.1:30001@31001,hostname1 myself,master - 0 0 1 connected 0-5460 7000 [93-<-292f]\n")
	f.Add("a b slave c d e f g\n\n a b myself c d e f g")
	f.Fuzz(func(t *testing.T, nodes string) {
		if about, err := aboutItself(nodes); err == nil && !strings.Contains(about, "myself") {
			t.Errorf("%q of %q", about, nodes)
		}
	})
}
