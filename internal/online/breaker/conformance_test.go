package breaker

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/online/onlinetest"
	"github.com/twofold-ml/twofold/internal/online/pebblestore"
	"github.com/twofold-ml/twofold/internal/online/redisstore"
	"github.com/twofold-ml/twofold/internal/testenv"
)

// TestConformance holds a store behind a breaker to the contract of any driver.
func TestConformance(t *testing.T) {
	// The suite asks a frozen store for everything at once, and one that was frozen only once after it answers again: no circuit opens, and it is
	// not kept waiting for the next probe.
	quiet := Options{Logger: slog.New(slog.DiscardHandler), ProbeInterval: time.Millisecond, Failures: 1000}
	t.Run("pebble", func(t *testing.T) {
		t.Parallel()
		onlinetest.Run(t, onlinetest.Harness{
			Open: func(t *testing.T) driver.Driver {
				s, err := pebblestore.Open(pebblestore.Options{InMemory: true})
				require.NoError(t, err)
				return New(quiet).Driver(s, "embedded store")
			},
			Exceptions: map[string]string{"Frozen": "an embedded store is in this process: there is nobody to stop answering"},
		})
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		open := func(t *testing.T, server *testenv.RedisServer, timeout time.Duration) driver.Driver {
			s, err := redisstore.Open(redisstore.Options{URL: server.URL, Prefix: t.Name(), Timeout: timeout})
			require.NoError(t, err)
			return New(quiet).Driver(s, s.String())
		}
		server := testenv.Redis(t)
		onlinetest.Run(t, onlinetest.Harness{
			Open: func(t *testing.T) driver.Driver { return open(t, server, 30*time.Second) },
			OpenFreezable: func(t *testing.T) (driver.Driver, func(), func()) {
				s := testenv.Redis(t)
				return open(t, s, time.Second), func() { s.Freeze(t) }, func() { s.Thaw(t) }
			},
		})
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		open := func(t *testing.T, servers []*testenv.RedisServer, timeout time.Duration) driver.Driver {
			b := New(quiet)
			s, err := redisstore.Open(redisstore.Options{
				URL: "redis+cluster://" + servers[0].Addr, Prefix: t.Name(), Timeout: timeout,
				GuardNode: func(node string) redisstore.Guard { return b.Gate(node).Do },
			})
			require.NoError(t, err)
			return s
		}
		servers := testenv.RedisCluster(t, 3)
		onlinetest.Run(t, onlinetest.Harness{
			Open: func(t *testing.T) driver.Driver { return open(t, servers, 30*time.Second) },
			OpenFreezable: func(t *testing.T) (driver.Driver, func(), func()) {
				servers := testenv.RedisCluster(t, 3)
				each := func(f func(*testenv.RedisServer, testing.TB)) func() {
					return func() {
						for _, s := range servers {
							f(s, t)
						}
					}
				}
				return open(t, servers, time.Second), each((*testenv.RedisServer).Freeze), each((*testenv.RedisServer).Thaw)
			},
		})
	})
}
