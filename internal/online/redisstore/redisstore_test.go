package redisstore

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/online/onlinetest"
	"github.com/twofold-ml/twofold/internal/storedrow"
	"github.com/twofold-ml/twofold/internal/testenv"
)

// acl is a user with a password that must never be seen, and no more rights than the package's documentation asks for.
var acl = []string{"--user", "twofold", "on", ">s3cr:et/p@ss", "~tf*:*", "+@read", "+@write", "+@scripting", "+@connection", "+ping", "+time"}

const aclLogin = "twofold:s3cr%3Aet%2Fp%40ss@"

// prefixes gives every opened store keys of its own.
var prefixes atomic.Int64

func open(t *testing.T, o Options) *Store {
	t.Helper()
	if o.Prefix == "" {
		o.Prefix = fmt.Sprintf("tf%d", prefixes.Add(1))
	}
	s, err := Open(o)
	require.NoError(t, err)
	return s
}

// openWithClient opens a store of keys that begin with tf on a server of its own, started with these arguments, and a client that looks at what is there.
func openWithClient(t *testing.T, arguments ...string) (*Store, *redis.Client) {
	t.Helper()
	server := testenv.Redis(t, arguments...)
	s := open(t, Options{URL: server.URL, Prefix: "tf"})
	c := redis.NewClient(&redis.Options{Addr: server.Addr})
	t.Cleanup(func() { require.NoError(t, errors.Join(c.Close(), s.Close())) })
	return s, c
}

// harness runs the suite on a running server, and its frozen part on servers of its own, which freezable starts.
func harness(url string, o Options, freezable func(t *testing.T) (url string, servers []*testenv.RedisServer)) onlinetest.Harness {
	return onlinetest.Harness{
		Open: func(t *testing.T) driver.Driver {
			o := o
			o.URL, o.Timeout = url, 30*time.Second // a busy machine is not what is tested
			return open(t, o)
		},
		OpenTwo: func(t *testing.T) (a, b driver.Driver) {
			o := o
			o.URL, o.Timeout, o.Prefix = url, 30*time.Second, fmt.Sprintf("tf%d", prefixes.Add(1))
			return open(t, o), open(t, o)
		},
		OpenFreezable: func(t *testing.T) (driver.Driver, func(), func()) {
			o := o
			var servers []*testenv.RedisServer
			o.URL, servers = freezable(t)
			o.Timeout = time.Second
			each := func(f func(*testenv.RedisServer)) func() {
				return func() {
					for _, s := range servers {
						f(s)
					}
				}
			}
			return open(t, o), each(func(s *testenv.RedisServer) { s.Freeze(t) }), each(func(s *testenv.RedisServer) { s.Thaw(t) })
		},
	}
}

func TestConformance(t *testing.T) {
	t.Run("single", func(t *testing.T) {
		t.Parallel()
		single := func(t *testing.T) (string, []*testenv.RedisServer) {
			s := testenv.Redis(t)
			return s.URL, []*testenv.RedisServer{s}
		}
		url, _ := single(t)
		onlinetest.Run(t, harness(url, Options{RowsPerCall: 50}, single))
	})
	t.Run("user with a password", func(t *testing.T) {
		t.Parallel()
		withUser := func(t *testing.T) (string, []*testenv.RedisServer) {
			s := testenv.Redis(t, acl...)
			return "redis://" + aclLogin + s.Addr, []*testenv.RedisServer{s}
		}
		url, _ := withUser(t)
		onlinetest.Run(t, harness(url, Options{}, withUser))
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		cluster := func(t *testing.T) (string, []*testenv.RedisServer) {
			servers := testenv.RedisCluster(t, 3)
			return "redis+cluster://" + servers[0].Addr + "," + servers[1].Addr, servers
		}
		url, _ := cluster(t)
		onlinetest.Run(t, harness(url, Options{}, cluster))
	})
	t.Run("Sentinel", func(t *testing.T) {
		t.Parallel()
		behindSentinel := func(t *testing.T) (string, []*testenv.RedisServer) {
			s := testenv.Redis(t, acl...)
			sentinel := testenv.RedisSentinel(t, s, "main", "sentinel auth-user main twofold", "sentinel auth-pass main s3cr:et/p@ss", "requirepass watch")
			return "redis+sentinel://" + aclLogin + sentinel.Addr + "/main?sentinel_password=watch", []*testenv.RedisServer{s}
		}
		url, _ := behindSentinel(t)
		onlinetest.Run(t, harness(url, Options{}, behindSentinel))
	})
}

func oneRow(key string, event int64) driver.Row {
	return driver.Row{Entity: driver.Entity{Name: "user", Key: []byte(key)}, View: "v", Value: storedrow.AppendTombstone(nil, feature.EventTime(event), 0)}
}

func writeOne(ctx context.Context, s *Store, r driver.Row) (driver.Outcome, error) {
	outcomes, err := s.Write(ctx, []driver.Row{r})
	if err != nil {
		return 0, err
	}
	return outcomes[0], nil
}

// TestKeys holds the documented layout, which other programs may read.
func TestKeys(t *testing.T) {
	s, c := openWithClient(t)
	r := oneRow("2:ab,c", 1)
	r.ExpireAtMillis = time.Now().Add(time.Hour).UnixMilli()
	_, err := writeOne(t.Context(), s, r)
	require.NoError(t, err)
	require.NoError(t, s.PutMeta(t.Context(), "schema/v/1", []byte("x")))
	require.Equal(t, map[string]string{"v": string(r.Value)}, c.HGetAll(t.Context(), "tf:user:2:ab,c").Val())
	require.Equal(t, r.ExpireAtMillis, c.PExpireTime(t.Context(), "tf:user:2:ab,c").Val().Milliseconds())
	require.Equal(t, "x", c.Get(t.Context(), "tf::meta:schema/v/1").Val())
	require.EqualValues(t, 2, c.DBSize(t.Context()).Val())

	// Without its view the entity is gone; with another one, what is left expires when it would have.
	removal := driver.Removal{Entity: r.Entity, View: "v"}
	other := r
	other.View = "w"
	_, err = writeOne(t.Context(), s, other)
	require.NoError(t, err)
	_, err = s.Remove(t.Context(), []driver.Removal{removal})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"w": string(r.Value)}, c.HGetAll(t.Context(), "tf:user:2:ab,c").Val())
	require.Equal(t, r.ExpireAtMillis, c.PExpireTime(t.Context(), "tf:user:2:ab,c").Val().Milliseconds())
	removal.View = "w"
	_, err = s.Remove(t.Context(), []driver.Removal{removal})
	require.NoError(t, err)
	require.EqualValues(t, 1, c.DBSize(t.Context()).Val())
}

// TestExpiryOfKeys: a key lives as long as the view that lives longest, and one of a single view exactly as long as that view's row, whatever was stored before.
func TestExpiryOfKeys(t *testing.T) {
	s, admin := openWithClient(t)
	now := time.Now().Add(time.Hour).UnixMilli()
	soon, later, latest := now, now+1000, now+2000
	const never, absent = 0, -1
	for _, other := range []int64{absent, never, soon, latest} {
		for _, own := range []int64{absent, never, soon, later, latest} {
			for _, event := range []int64{1, 2, 3} { // the stored row is of 2
				for _, at := range []int64{never, soon, later, latest} {
					require.NoError(t, admin.FlushAll(t.Context()).Err())
					put := func(view string, event, at int64) driver.Outcome {
						r := oneRow("e", event)
						r.View, r.ExpireAtMillis = view, at
						outcome, err := writeOne(t.Context(), s, r)
						require.NoError(t, err)
						return outcome
					}
					want := at
					if other != absent {
						put("w", 2, other)
						want = longer(other, want)
					}
					if own != absent {
						put("v", 2, own)
						if other != absent {
							want = longer(own, want) // whose row is longer there was kept for, and nothing shortens that
						}
					}
					outcome, wanted := put("v", event, at), driver.Written
					switch {
					case own != absent && event == 1:
						wanted = driver.Older
						if want = own; other != absent {
							want = longer(other, own)
						}
					case own != absent && event == 2:
						wanted = driver.Unchanged
					}
					what := fmt.Sprintf("another view's row until %d, its own until %d, then one of event time %d until %d", other, own, event, at)
					require.Equal(t, wanted, outcome, what)
					got := max(never, admin.PExpireTime(t.Context(), "tf:user:e").Val().Milliseconds())
					require.Equal(t, want, got, what)
				}
			}
		}
	}
}

// longer is the later of two times of expiry, of which 0 is never.
func longer(a, b int64) int64 {
	if a == 0 || b == 0 {
		return 0
	}
	return max(a, b)
}

// TestDamagedStoredRows: a value that is no StoredRow is replaced by the next row, and never breaks a write.
func TestDamagedStoredRows(t *testing.T) {
	s, c := openWithClient(t)
	for i, damaged := range []string{"", "x", "\x09\x01", "\x09\x01\x02\x03\x04\x05\x06\x07\x08\x11", strings.Repeat("\xff", 40), "\x22\x7f", "\x0b", "\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"} {
		require.NoError(t, c.HSet(t.Context(), "tf:user:a", "v", damaged).Err())
		last := int64(math.MaxInt64)
		removed, err := s.Remove(t.Context(), []driver.Removal{{Entity: driver.Entity{Name: "user", Key: []byte("a")}, View: "v", EventBefore: &last}})
		require.NoError(t, err)
		require.Zero(t, removed, "nobody can tell how old %q is", damaged)
		outcome, err := writeOne(t.Context(), s, oneRow("a", int64(-1-i)))
		require.NoError(t, err)
		require.Equal(t, driver.Written, outcome, "%q", damaged)
	}
}

// TestScriptIsForgotten: a server that restarts, or is told to, forgets scripts between two writes.
func TestScriptIsForgotten(t *testing.T) {
	servers := testenv.RedisCluster(t, 3)
	s := open(t, Options{URL: "redis+cluster://" + servers[0].Addr})
	defer s.Close()
	for round := range 3 {
		var rows []driver.Row
		for i := range 50 {
			rows = append(rows, oneRow(fmt.Sprint(i), int64(round)))
		}
		outcomes, err := s.Write(t.Context(), rows)
		require.NoError(t, err)
		for _, o := range outcomes {
			require.Equal(t, driver.Written, o)
		}
		c := redis.NewClient(&redis.Options{Addr: servers[round].Addr})
		require.NoError(t, c.ScriptFlush(t.Context()).Err())
		require.NoError(t, c.Close())
	}
}

// TestErrors checks the kind of each refusal, that it says what to do, and that it never repeats a password.
func TestErrors(t *testing.T) {
	server := testenv.Redis(t, acl...)
	admin := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer admin.Close()
	allowed := "redis://" + aclLogin + server.Addr
	write := func(t *testing.T, s *Store) error { _, err := writeOne(t.Context(), s, oneRow("a", 1)); return err }
	ping := func(t *testing.T, s *Store) error { return s.Ping(t.Context()) }
	config := func(values ...any) func(t *testing.T) {
		return func(t *testing.T) {
			require.NoError(t, admin.Do(t.Context(), append([]any{"CONFIG", "SET"}, values...)...).Err())
		}
	}
	for name, c := range map[string]struct {
		url, prefix   string
		prepare, mend func(t *testing.T)
		call          func(t *testing.T, s *Store) error
		kind          fault.Kind
		part          string
	}{
		"wrong password":  {url: "redis://twofold:wrong-s3cr@" + server.Addr, call: ping, kind: fault.Precondition, part: "user and password"},
		"unknown user":    {url: "redis://nobody:s3cr@" + server.Addr, call: write, kind: fault.Precondition, part: "user and password"},
		"key not allowed": {url: allowed, prefix: "elsewhere", call: write, kind: fault.Precondition, part: "rights"},
		"nobody there":    {url: "redis://user:s3cr@127.0.0.1:1", call: ping, kind: fault.Unavailable, part: "127.0.0.1:1"},
		"other type": {url: allowed, prefix: "tf", call: write, kind: fault.Precondition, part: "prefix",
			prepare: func(t *testing.T) { require.NoError(t, admin.Set(t.Context(), "tf:user:a", "text", 0).Err()) }},
		"out of memory": {url: allowed, call: write, kind: fault.Precondition, part: "more memory",
			prepare: config("maxmemory", "1"), mend: config("maxmemory", "0")},
		"replica": {url: allowed, call: write, kind: fault.Unavailable, part: "READONLY",
			prepare: func(t *testing.T) { require.NoError(t, admin.ReplicaOf(t.Context(), "127.0.0.1", "1").Err()) },
			mend:    func(t *testing.T) { require.NoError(t, admin.ReplicaOf(t.Context(), "NO", "ONE").Err()) }},
	} {
		t.Run(name, func(t *testing.T) {
			if c.prepare != nil {
				c.prepare(t)
			}
			s := open(t, Options{URL: c.url, Prefix: c.prefix})
			defer s.Close()
			err := c.call(t, s)
			if c.mend != nil {
				c.mend(t)
			}
			require.Equal(t, c.kind, fault.KindOf(err), "%v", err)
			require.ErrorContains(t, err, c.part)
			require.NotContains(t, err.Error(), "s3cr")
		})
	}
}

func TestWarnings(t *testing.T) {
	quiet := testenv.Redis(t, "--appendonly", "yes", "--hash-max-listpack-value", "1024")
	s := open(t, Options{URL: quiet.URL})
	defer s.Close()
	warnings, err := s.Warnings(t.Context())
	require.NoError(t, err)
	require.Empty(t, warnings)

	risky := testenv.Redis(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
	s = open(t, Options{URL: risky.URL})
	defer s.Close()
	warnings, err = s.Warnings(t.Context())
	require.NoError(t, err)
	require.Len(t, warnings, 3)
	for i, part := range []string{"allkeys-lru", "appendonly", "hash-max-listpack-value is 64"} {
		require.Contains(t, warnings[i], part)
	}

	forbidden := testenv.Redis(t, acl...)
	s = open(t, Options{URL: "redis://" + aclLogin + forbidden.Addr})
	defer s.Close()
	warnings, err = s.Warnings(t.Context())
	require.NoError(t, err)
	require.Len(t, warnings, 1)
	require.Contains(t, warnings[0], "CONFIG GET is not allowed")
}

func TestTLS(t *testing.T) {
	certificate, key, pool := selfSigned(t)
	var port string
	server := testenv.Redis(t, "--tls-port", freePort(t, &port), "--tls-cert-file", certificate, "--tls-key-file", key, "--tls-auth-clients", "no")
	_ = server
	addr := "rediss://127.0.0.1:" + port
	s := open(t, Options{URL: addr, TLS: &tls.Config{RootCAs: pool}})
	defer s.Close()
	require.NoError(t, s.Ping(t.Context()))
	outcome, err := writeOne(t.Context(), s, oneRow("a", 1))
	require.NoError(t, err)
	require.Equal(t, driver.Written, outcome)
	outcome, err = writeOne(t.Context(), s, oneVersion("a", 2, 5))
	require.NoError(t, err)
	require.Equal(t, driver.Written, outcome)
	got, err := readVersion(t, s, "a", 7)
	require.NoError(t, err)
	require.Equal(t, oneVersion("a", 2, 5).Value, got)

	stranger := open(t, Options{URL: addr})
	defer stranger.Close()
	err = stranger.Ping(t.Context())
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	require.ErrorContains(t, err, "certificate")
}

func freePort(t *testing.T, port *string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, *port, err = net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return *port
}

// selfSigned makes a certificate for 127.0.0.1 and the pool that trusts it.
func selfSigned(t *testing.T) (certificateFile, keyFile string, pool *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	certificateFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certificatePEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(certificateFile, certificatePEM, 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), 0o600))
	pool = x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(certificatePEM))
	return certificateFile, keyFile, pool
}

// TestCallThatIsSentTwice: a row that was written, or removed, by a call which is sent again because another one of its group was not known to the server, counts as that.
func TestCallThatIsSentTwice(t *testing.T) {
	c := &call{rows: []int{1, 0, 2}}
	outcomes := make([]driver.Outcome, 3)
	require.NoError(t, c.read("112", outcomes))
	require.NoError(t, c.read("231", outcomes))
	require.Equal(t, []driver.Outcome{driver.Written, driver.Written, driver.Written}, outcomes)
}
