package hotcache

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// counters count what happened since the cache was made.
type counters struct {
	maxBytes int64

	hits, misses, shared atomic.Uint64 // rows of reads, see descRows
	evicted, expired     atomic.Uint64 // entities
	written              atomic.Uint64 // entities dropped by Write and Remove
	generations          atomic.Uint64 // views dropped because of their markers
}

var (
	descRows = prometheus.NewDesc("twofold_hot_cache_rows_total",
		"Rows read through the hot-entity cache, by result: hit was in memory, miss was asked of the online store, shared was being asked for by another read.",
		[]string{"result"}, nil)
	descEvictions = prometheus.NewDesc("twofold_hot_cache_evictions_total",
		"Entities that left the hot-entity cache, by cause: size made room for others, age had rows older than hot_cache.max_staleness.",
		[]string{"cause"}, nil)
	descWritten = prometheus.NewDesc("twofold_hot_cache_invalidated_entities_total",
		"Entities dropped from the hot-entity cache because this process wrote or removed rows of them.", nil, nil)
	descGenerations = prometheus.NewDesc("twofold_hot_cache_dropped_views_total",
		"Times that all rows of a feature view were dropped from the hot-entity cache, because the view was synced anew or the online store lost its data.", nil, nil)
	descEntities = prometheus.NewDesc("twofold_hot_cache_entities",
		"Entities in the hot-entity cache, about; those are counted that are not served any more and whose memory was not given back yet.", nil, nil)
	descBytes = prometheus.NewDesc("twofold_hot_cache_bytes",
		"Memory that the rows in the hot-entity cache take, about, bookkeeping included.", nil, nil)
	descMaxBytes = prometheus.NewDesc("twofold_hot_cache_max_bytes",
		"Most memory that rows in the hot-entity cache may take: hot_cache.max_bytes.", nil, nil)
)

var _ prometheus.Collector = (*Cache)(nil)

// Describe implements prometheus.Collector.
func (c *Cache) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descRows, descEvictions, descWritten, descGenerations, descEntities, descBytes, descMaxBytes} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Cache) Collect(out chan<- prometheus.Metric) {
	count := func(desc *prometheus.Desc, n *atomic.Uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n.Load()), labels...)
	}
	gauge := func(desc *prometheus.Desc, value float64) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	count(descRows, &c.counters.hits, "hit")
	count(descRows, &c.counters.misses, "miss")
	count(descRows, &c.counters.shared, "shared")
	count(descEvictions, &c.counters.evicted, "size")
	count(descEvictions, &c.counters.expired, "age")
	count(descWritten, &c.counters.written)
	count(descGenerations, &c.counters.generations)
	gauge(descEntities, float64(c.rows.stored.EstimatedSize()))
	gauge(descBytes, float64(c.rows.stored.WeightedSize()))
	gauge(descMaxBytes, float64(c.counters.maxBytes))
}
