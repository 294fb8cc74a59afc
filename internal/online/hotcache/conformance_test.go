package hotcache

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/online/onlinetest"
	"github.com/twofold-ml/twofold/internal/online/pebblestore"
	"github.com/twofold-ml/twofold/internal/online/redisstore"
	"github.com/twofold-ml/twofold/internal/testenv"
)

// TestConformance holds the cache to the contract of any driver. With a staleness of a minute, what the suite writes is seen only because
// Write drops rows.
func TestConformance(t *testing.T) {
	const (
		noFrozen = "an embedded store is in this process: there is nobody to stop answering"
		noExpiry = "a row that leaves the store because of its age is not written by anybody, so it may be served for hot_cache.max_staleness more; " +
			"the other run, whose staleness is short, has this part"
	)
	long := Options{MaxBytes: 64 << 20, MaxStaleness: time.Minute}
	short := Options{MaxBytes: 64 << 20, MaxStaleness: 20 * time.Millisecond}
	pebble := func(o Options) func(t *testing.T) driver.Driver {
		return func(t *testing.T) driver.Driver {
			s, err := pebblestore.Open(pebblestore.Options{InMemory: true})
			require.NoError(t, err)
			return New(s, o)
		}
	}
	t.Run("pebble, stale for a minute", func(t *testing.T) {
		t.Parallel()
		onlinetest.Run(t, onlinetest.Harness{Open: pebble(long), Exceptions: map[string]string{"Frozen": noFrozen, "Expiry": noExpiry}})
	})
	t.Run("pebble, stale for a moment", func(t *testing.T) {
		t.Parallel()
		onlinetest.Run(t, onlinetest.Harness{Open: pebble(short), Exceptions: map[string]string{"Frozen": noFrozen}})
	})
	t.Run("pebble, room for a few rows", func(t *testing.T) {
		t.Parallel()
		few := Options{MaxBytes: 4 << 10, MaxStaleness: time.Minute}
		onlinetest.Run(t, onlinetest.Harness{Open: pebble(few), Exceptions: map[string]string{"Frozen": noFrozen, "Expiry": noExpiry}})
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		server := testenv.Redis(t)
		onlinetest.Run(t, onlinetest.Harness{
			Open: func(t *testing.T) driver.Driver {
				return New(openRedis(t, server, 30*time.Second), long)
			},
			OpenFreezable: func(t *testing.T) (driver.Driver, func(), func()) {
				s := testenv.Redis(t)
				return New(openRedis(t, s, time.Second), long), func() { s.Freeze(t) }, func() { s.Thaw(t) }
			},
			Exceptions: map[string]string{"Expiry": noExpiry},
		})
	})
}

func openRedis(t testing.TB, server *testenv.RedisServer, timeout time.Duration) driver.Driver {
	s, err := redisstore.Open(redisstore.Options{URL: server.URL, Prefix: t.Name(), Timeout: timeout})
	require.NoError(t, err)
	return s
}
