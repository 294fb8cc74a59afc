package hotcache

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/online/pebblestore"
	"github.com/twofold-ml/twofold/internal/online/redisstore"
	"github.com/twofold-ml/twofold/internal/storedrow"
	"github.com/twofold-ml/twofold/internal/testenv"
)

// The benchmarks read 100 entities with 5 views of about 100 bytes each a call, through the cache and past it. "hit" reads the same entities
// always; "miss" reads what is not in memory always; "zipf" draws them out of 20,000 with exponent 1.1, and has room for a tenth.

const (
	benchEntities = 20_000
	benchBatch    = 100
)

var benchViews = []string{"v1", "v2", "v3", "v4", "v5"}

// BenchmarkRead: go test -run '^$' -bench Read ./internal/online/hotcache
func BenchmarkRead(b *testing.B) {
	pebble, err := pebblestore.Open(pebblestore.Options{InMemory: true})
	require.NoError(b, err)
	redis, err := redisstore.Open(redisstore.Options{URL: testenv.Redis(b).URL, Prefix: "bench"})
	require.NoError(b, err)
	for _, store := range []struct {
		name string
		driver.Driver
	}{{"redis", redis}, {"pebble", pebble}, {"instant", endless{newSpy(), 100}}} { // instant: what the cache itself takes
		fill(b, store)
		b.Run(store.name, func(b *testing.B) { benchmarkStore(b, store) })
		require.NoError(b, store.Close())
	}
}

func fill(b *testing.B, d driver.Driver) {
	payload := feature.NewColumn(feature.String, 1)
	payload.AppendString(strings.Repeat("x", 60))
	schema := &storedrow.Schema{Features: []storedrow.Feature{{Name: "payload", Type: feature.String}}}
	value, err := storedrow.AppendRow(nil, schema, 1, 1, []*feature.Column{payload}, 0)
	require.NoError(b, err)
	for first := 0; first < benchEntities; first += benchBatch {
		var rows []driver.Row
		for _, read := range numbered(first, benchBatch, benchViews...) {
			for _, view := range read.Views {
				rows = append(rows, driver.Row{Entity: read.Entity, View: view, Value: value})
			}
		}
		_, err := d.Write(b.Context(), rows)
		require.NoError(b, err)
	}
}

// unclosed keeps a cache from closing the store beneath it.
type unclosed struct{ driver.Driver }

func (unclosed) Close() error { return nil }

func benchmarkStore(b *testing.B, d driver.Driver) {
	all := numbered(0, benchEntities, benchViews...)
	hot := func(int) []driver.Read { return all[:benchBatch] }
	next := func(i int) []driver.Read {
		first := i * benchBatch % benchEntities
		return all[first : first+benchBatch]
	}
	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 1)), 1.1, 1, benchEntities-1)
	drawn := make([][]driver.Read, 2000)
	for i := range drawn {
		for range benchBatch {
			drawn[i] = append(drawn[i], all[zipf.Uint64()])
		}
	}
	skewed := func(i int) []driver.Read { return drawn[i%len(drawn)] }

	tenth := int64(benchEntities / 10 * (entryOverhead + len(benchViews)*(100+rowOverhead)))
	for _, shape := range []struct {
		name      string
		reads     func(i int) []driver.Read
		maxBytes  int64
		staleness time.Duration
	}{
		{"hit", hot, 1 << 30, time.Hour},
		{"miss", next, 1 << 30, 30 * time.Millisecond}, // too old when it is read again
		{"zipf", skewed, tenth, time.Hour},
		{"zipf,1s", skewed, tenth, time.Second},
	} {
		c := New(unclosed{d}, Options{MaxBytes: shape.maxBytes, MaxStaleness: shape.staleness})
		for _, through := range []struct {
			name string
			driver.Driver
		}{{"bare", d}, {"cached", c}} {
			b.Run(fmt.Sprintf("%s/%s", shape.name, through.name), func(b *testing.B) {
				hits, rows := c.counters.hits.Load(), 0
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					got, err := through.Read(b.Context(), shape.reads(i))
					if err != nil {
						b.Fatal(err)
					}
					rows += len(got)
				}
				if through.Driver == c {
					b.ReportMetric(100*float64(c.counters.hits.Load()-hits)/float64(rows), "hit%")
				}
			})
		}
		require.NoError(b, c.Close())
	}
}

// BenchmarkWriteInvalidates drops rows that are not in memory, as a sync in this process does: what the cache adds to each row written.
func BenchmarkWriteInvalidates(b *testing.B) {
	c := New(newSpy(), Options{MaxBytes: 1 << 20, MaxStaleness: time.Second})
	defer func() { require.NoError(b, c.Close()) }()
	reads := numbered(0, 500, "v")
	rows := make([]driver.Row, len(reads))
	for i, read := range reads {
		rows[i] = driver.Row{Entity: read.Entity, View: "v"}
	}
	c.views.add("v")
	b.ReportAllocs()
	for b.Loop() {
		c.invalidate(len(rows), func(i int) (driver.Entity, string) { return rows[i].Entity, rows[i].View })
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(rows)), "ns/row")
}
