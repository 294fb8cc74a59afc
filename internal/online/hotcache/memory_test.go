package hotcache

import (
	"context"
	"encoding/binary"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/online/driver"
)

// endless is a driver that has a row of some bytes for every entity, all of one call cut out of one piece of memory.
type endless struct {
	*spy
	rowBytes int
}

func (e endless) Read(_ context.Context, reads []driver.Read) ([][]byte, error) {
	n := 0
	for i := range reads {
		n += len(reads[i].Views)
	}
	all, rows := make([]byte, n*e.rowBytes), make([][]byte, n)
	for i := range rows {
		rows[i], all = all[:e.rowBytes:e.rowBytes], all[e.rowBytes:]
	}
	return rows, nil
}

// numbered returns reads of n entities from the first on.
func numbered(first, n int, views ...string) []driver.Read {
	reads := make([]driver.Read, n)
	for i := range reads {
		reads[i] = driver.Read{Entity: driver.Entity{Name: "user", Key: binary.BigEndian.AppendUint64(nil, uint64(first+i))}, Views: views}
	}
	return reads
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // what the first has made free is swept by the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMemoryIsBounded reads many more rows than there is room for, small ones and large ones, and looks at the memory of the process.
func TestMemoryIsBounded(t *testing.T) {
	const maxBytes = 16 << 20
	for _, rowBytes := range []int{0, 40, 150, 1000} {
		before := heap()
		c := New(endless{newSpy(), rowBytes}, Options{MaxBytes: maxBytes, MaxStaleness: time.Hour})
		entities := 3 * maxBytes / (2*rowBytes + 2*rowOverhead + entryOverhead)
		for first := 0; first < entities; first += 100 {
			_, err := c.Read(t.Context(), numbered(first, 100, "v", "w"))
			require.NoError(t, err)
		}
		c.rows.stored.CleanUp()
		used, weight := heap()-before, int64(c.rows.stored.WeightedSize())
		t.Logf("2 rows of %d bytes: %d entities are kept, counted as %d bytes, in %d bytes of memory", rowBytes, c.rows.stored.EstimatedSize(), weight, used)
		require.LessOrEqual(t, weight, int64(maxBytes))
		require.Greater(t, weight, int64(maxBytes*9/10), "the room is used")
		require.Less(t, used, int64(maxBytes*11/10))
		require.NotZero(t, c.counters.evicted.Load())
		require.NoError(t, c.Close())
	}
}

// TestRowTooLarge reads a row that has no room at all.
func TestRowTooLarge(t *testing.T) {
	s := newSpy()
	c := New(s, Options{MaxBytes: 1 << 10, MaxStaleness: time.Hour})
	defer func() { require.NoError(t, c.Close()) }()
	large := strings.Repeat("x", 2<<10)
	s.put("a", "v", large)
	for range 3 {
		require.Equal(t, []string{large}, get(t, c, ask("a", "v")))
		c.rows.stored.CleanUp()
	}
	require.Equal(t, 3, s.calls())
	require.Zero(t, c.rows.stored.WeightedSize())
}

// TestFindLooksAgain has a row arrive between a reader's look and its asking for it: it is not asked for twice.
func TestFindLooksAgain(t *testing.T) {
	s := newSpy()
	c := cached(t, s)
	s.put("a", "v", "1")
	get(t, c, ask("a", "v"))
	f := &fetch{began: c.rows.now()}
	missing, rows := []place{{view: c.views.lookup("v"), hash: c.hashOf("a")}}, make([][]byte, 1)
	c.rows.find(entity("a"), missing, rows, f)
	require.Nil(t, missing[0].flight)
	require.Equal(t, []string{"1"}, texts(rows))
	require.Empty(t, f.flights)
}

// TestHitAllocates nothing but the list of rows that it returns.
func TestHitAllocates(t *testing.T) {
	c := cached(t, endless{newSpy(), 100})
	c.rows.maxStaleness = time.Hour
	reads := numbered(0, 100, "u", "v", "w", "x", "y")
	read := func() {
		if _, err := c.Read(t.Context(), reads); err != nil {
			t.Error(err)
		}
	}
	read()
	require.LessOrEqual(t, testing.AllocsPerRun(100, read), 1.)
	require.EqualValues(t, 500, c.counters.misses.Load())
}

// TestMetrics gathers what a registry would.
func TestMetrics(t *testing.T) {
	s := newSpy()
	c := New(s, Options{MaxBytes: 1 << 20, MaxStaleness: time.Hour})
	defer func() { require.NoError(t, c.Close()) }()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	s.put("abc", "v", "12345")
	get(t, c, ask("abc", "v"), ask("abc", "v"))
	get(t, c, ask("abc", "v"), ask("abc", "v"), ask("abc", "v"))
	_, err := c.Write(t.Context(), []driver.Row{{Entity: entity("abc"), View: "v", Value: []byte("6789")}, {Entity: entity("z"), View: "v"}})
	require.NoError(t, err)
	get(t, c, ask("abc", "v"))
	for _, marker := range []string{"1", "2"} {
		require.NoError(t, c.PutMeta(t.Context(), "synced/v", []byte(marker)))
	}
	c.rows.stored.CleanUp()

	families, err := registry.Gather()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.Metric {
			name := family.GetName()
			for _, label := range m.Label {
				name += "," + label.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	require.Equal(t, map[string]float64{
		"twofold_hot_cache_rows_total,hit": 3, "twofold_hot_cache_rows_total,miss": 2, "twofold_hot_cache_rows_total,shared": 1,
		"twofold_hot_cache_evictions_total,size": 0, "twofold_hot_cache_evictions_total,age": 0,
		"twofold_hot_cache_invalidated_entities_total": 1, "twofold_hot_cache_dropped_views_total": 1,
		"twofold_hot_cache_entities": 1, "twofold_hot_cache_bytes": entryOverhead + rowOverhead + 7, "twofold_hot_cache_max_bytes": 1 << 20,
	}, got)
}
