package sizing

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/redisstore"
	"github.com/twofold-ml/twofold/internal/testenv"
)

// rowTable is rows of one view in memory, in the place of a row group of a file.
type rowTable struct {
	keys     []*feature.Column
	events   *feature.Column
	features []*feature.Column
}

func (r *rowTable) NumRows() int64           { return int64(r.events.Len()) }
func (r *rowTable) KeyBytes() int64          { return 0 }
func (r *rowTable) FeatureBytes([]int) int64 { return 0 }

func (r *rowTable) Keys(_ context.Context, _ feature.TimeRange, yield func(feature.KeyBatch) error) error {
	return yield(feature.KeyBatch{Keys: r.keys, EventTimes: r.events})
}

func (r *rowTable) Gather(_ context.Context, rows []int64, columns []int, dst []*feature.Column) error {
	for i, c := range columns {
		for _, row := range rows {
			dst[i].AppendFrom(r.features[c], int(row))
		}
	}
	return nil
}

var (
	user    = &feature.Entity{Name: "user", Keys: []feature.Key{{Name: "user_id", Type: feature.Int64}}}
	session = &feature.Entity{Name: "session", Keys: []feature.Key{{Name: "tenant", Type: feature.String}, {Name: "session", Type: feature.String}}}
)

// shape is what one view of a test is like.
type shape struct {
	entity   *feature.Entity
	name     string
	types    []feature.Type
	length   int // mean length of strings, and of lists
	versions int
	forever  bool
	// share is the share of the entities that have rows, and rows how many each has, at most.
	share float64
	rows  int
}

func doubles(n int) []feature.Type {
	types := make([]feature.Type, n)
	for i := range types {
		types[i] = feature.Double
	}
	return types
}

// wide returns so many views of doubles, which share a hash.
func wide(views, features int, share float64) []shape {
	shapes := make([]shape, views)
	for i := range shapes {
		shapes[i] = shape{entity: user, name: fmt.Sprintf("view_%d", i), types: doubles(features), share: share, rows: 1}
	}
	return shapes
}

func (s shape) view() *feature.View {
	v := &feature.View{Name: s.name, Entity: s.entity, HistoryVersions: s.versions, TTL: feature.TTLOf(24 * time.Hour)}
	if s.forever {
		v.TTL = 0
	}
	for i, t := range s.types {
		name := fmt.Sprintf("f%d", i)
		v.Features = append(v.Features, feature.Feature{Name: name, Column: name, Type: t, Online: true})
	}
	return v
}

// fill returns random rows of the view of some of so many entities.
func (s shape) fill(r *rand.Rand, entities int, now time.Time) *rowTable {
	t := &rowTable{events: feature.NewColumn(feature.Timestamp, 0)}
	for _, k := range s.entity.Keys {
		t.keys = append(t.keys, feature.NewColumn(k.Type, 0))
	}
	for _, f := range s.types {
		t.features = append(t.features, feature.NewColumn(f, 0))
	}
	for e := range entities {
		if r.Float64() >= s.share {
			continue
		}
		for n := range 1 + r.IntN(s.rows) {
			if s.entity == user {
				t.keys[0].AppendInt64(int64(e) * 977)
			} else {
				t.keys[0].AppendString(fmt.Sprintf("tenant-%d", e%7))
				t.keys[1].AppendString(fmt.Sprintf("%032x", mix(uint64(e))))
			}
			t.events.AppendInt64(now.Add(-time.Duration(n) * time.Minute).UnixMicro())
			for _, c := range t.features {
				s.appendValue(r, c)
			}
		}
	}
	return t
}

func (s shape) appendValue(r *rand.Rand, c *feature.Column) {
	switch {
	case r.IntN(32) == 0:
		c.AppendMissing(feature.Null)
	case c.Type == feature.Double:
		c.AppendDouble(r.Float64())
	case c.Type == feature.String:
		c.AppendString(strings.Repeat(string(rune('a'+r.IntN(26)))+"bcd ", r.IntN(2*s.length+1)/5))
	default:
		c.AppendList(func(elem *feature.Column) {
			for range s.length {
				elem.Floats = append(elem.Floats, r.Float32())
			}
		})
	}
}

// TestMemory: what Redis takes for rows of many shapes is what is estimated, within 15 %.
func TestMemory(t *testing.T) {
	server := testenv.Redis(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	packed := Redis{HashMaxListpackValue: 1024, ZsetMaxListpackValue: 1024}
	t.Logf("%-48s %8s %12s %12s %8s", "shape", "keys", "measured B", "estimated B", "error")
	for _, c := range []struct {
		name   string
		redis  Redis
		shapes []shape
	}{
		{"warm up", Redis{}, append(wide(1, 1, 1), shape{entity: user, name: "h", types: doubles(1), versions: 2, share: 1, rows: 2})},
		{"1 view of 3 doubles, packed", Redis{}, wide(1, 3, 1)},
		{"1 view of 50 doubles", Redis{}, wide(1, 50, 1)},
		{"1 view of 50 doubles, limits 1024", packed, wide(1, 50, 1)},
		{"5 views of 10 doubles, 7 of 10 entities each", Redis{}, wide(5, 10, .7)},
		{"5 views of 10 doubles, limits 1024", packed, wide(5, 10, 1)},
		{"25 views of 3 doubles, packed", Redis{}, wide(25, 3, 1)},
		{"25 views of 10 doubles", Redis{}, wide(25, 10, 1)},
		{"strings about the limit, composite keys", Redis{}, []shape{{entity: session, name: "texts", types: []feature.Type{feature.String}, length: 30, share: 1, rows: 1}}},
		{"strings that compress", Redis{}, []shape{{entity: user, name: "texts", types: []feature.Type{feature.String, feature.String}, length: 1500, share: 1, rows: 1}}},
		{"embeddings of 256 floats", Redis{}, []shape{{entity: user, name: "embedding", types: []feature.Type{feature.FloatList}, length: 256, share: 1, rows: 1}}},
		{"a small and a large row, no ttl", Redis{}, []shape{
			{entity: user, name: "small", types: doubles(2), share: 1, rows: 1, forever: true}, {entity: user, name: "large", types: doubles(20), share: .3, rows: 1},
		}},
		{"HISTORY of 5, up to 8 rows of 2 doubles, packed", Redis{}, []shape{{entity: user, name: "past", types: doubles(2), versions: 5, share: 1, rows: 8}}},
		{"HISTORY of 5, up to 8 rows of 10 doubles", Redis{}, []shape{{entity: user, name: "past", types: doubles(10), versions: 5, share: 1, rows: 8}}},
		{"HISTORY of 5, limits 1024", packed, []shape{{entity: user, name: "past", types: doubles(10), versions: 5, share: 1, rows: 8}}},
		{"HISTORY of 200, up to 200 rows, limits 1024", packed, []shape{{entity: user, name: "past", types: doubles(2), versions: 200, share: .05, rows: 200}}},
		{"LATEST and HISTORY of one entity, no ttl", Redis{}, []shape{
			{entity: user, name: "now", types: doubles(4), share: 1, rows: 3, forever: true},
			{entity: user, name: "past", types: doubles(4), versions: 3, share: .5, rows: 6, forever: true},
		}},
	} {
		r := rand.New(rand.NewPCG(seed, 1))
		settings := c.redis.WithDefaults()
		configure(t, server, settings)
		var readings []*reading
		measured := measured(t, server, func(store *online.Store) {
			now := time.Now()
			for _, s := range c.shapes {
				rows, view := s.fill(r, 3000, now), s.view()
				_, err := store.Write(t.Context(), online.Rows{View: view, Keys: rows.keys, EventTimes: rows.events, Features: rows.features})
				require.NoError(t, err)
				o := Options{AsOf: feature.AsOf(now.UnixMicro())}
				reading := newReading(view, o)
				require.NoError(t, reading.readGroups(t.Context(), []rowGroup{rows}, 0, o))
				readings = append(readings, reading)
			}
		})
		m := measure(settings, readings)
		estimated := m.total()
		off := float64(estimated)/float64(measured) - 1
		t.Logf("%-48s %8.0f %12d %12d %+7.1f %%", c.name, m.keys, measured, estimated, 100*off)
		if c.name != "warm up" {
			assert.InDelta(t, 0, off, .15, c.name)
		}
	}
}

// configure empties a server and sets its limits.
func configure(t *testing.T, server *testenv.RedisServer, r Redis) {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer client.Close()
	require.NoError(t, client.FlushAll(t.Context()).Err())
	for setting, value := range map[string]int{
		"hash-max-listpack-entries": r.HashMaxListpackEntries, "hash-max-listpack-value": r.HashMaxListpackValue,
		"zset-max-listpack-entries": r.ZsetMaxListpackEntries, "zset-max-listpack-value": r.ZsetMaxListpackValue,
	} {
		require.NoError(t, client.ConfigSet(t.Context(), setting, fmt.Sprint(value)).Err())
	}
}

// measured returns by how much the memory of Redis grows by what is written.
func measured(t *testing.T, server *testenv.RedisServer, write func(*online.Store)) int64 {
	t.Helper()
	before := usedMemory(t, server)
	driver, err := redisstore.Open(redisstore.Options{URL: server.URL, Timeout: time.Minute})
	require.NoError(t, err)
	store := online.NewStore(driver, online.Options{})
	write(store)
	require.NoError(t, store.Close())
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer client.Close()
	// Redis moves keys to a table of twice the size a little with each command that looks for a key.
	keys, err := client.DBSize(t.Context()).Result()
	require.NoError(t, err)
	pipe := client.Pipeline()
	for range 2*keys + 1000 {
		pipe.RandomKey(t.Context())
	}
	_, err = pipe.Exec(t.Context())
	require.NoError(t, err)
	require.NoError(t, client.Close())
	return usedMemory(t, server) - before
}

// usedMemory asks over a connection of its own, once the others are gone: their buffers do not count.
func usedMemory(t *testing.T, server *testenv.RedisServer) (bytes int64) {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer client.Close()
	require.Eventually(t, func() bool {
		info, err := client.InfoMap(t.Context(), "memory", "clients").Result()
		if err != nil || info["Clients"]["connected_clients"] != "1" {
			return false
		}
		_, err = fmt.Sscan(info["Memory"]["used_memory"], &bytes)
		return err == nil
	}, time.Minute, time.Millisecond)
	return bytes
}
