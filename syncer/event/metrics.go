package event

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// What became of an event.
const (
	// outcomeRouted is one that is in the queue of at least one view.
	outcomeRouted = "routed"
	// outcomeNoView is one of an object that belongs to no view.
	outcomeNoView = "no_view"
	// outcomeIgnored is one that tells of nothing that a sync could carry, such as a change of tags or a test.
	outcomeIgnored = "ignored"
	// outcomeBad is one that could not be read.
	outcomeBad = "bad"
)

type metrics struct {
	events *prometheus.CounterVec
	lag    *prometheus.GaugeVec
}

func newMetrics(queue *Queue, registerer prometheus.Registerer) *metrics {
	m := &metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_sync_events_total",
			Help: "Events of objects, by source (webhook, kafka, folder) and what became of them (routed, no_view, ignored, bad).",
		}, []string{"source", "outcome"}),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "twofold_sync_event_kafka_lag",
			Help: "Records of the Kafka topic of events that are not committed yet: not read, or waiting for a run that succeeds.",
		}, []string{"topic", "partition"}),
	}
	if registerer != nil {
		registerer.MustRegister(m.events, m.lag, queueCollector{queue})
	}
	return m
}

func (m *metrics) count(source, outcome string, n int) {
	m.events.WithLabelValues(source, outcome).Add(float64(n))
}

// queueCollector tells of the queue as it is.
type queueCollector struct{ queue *Queue }

var (
	queueViewsDesc   = prometheus.NewDesc("twofold_sync_event_queue_views", "Feature views whose events wait for a run.", nil, nil)
	queueObjectsDesc = prometheus.NewDesc("twofold_sync_event_queue_objects", "Events that wait for a run.", nil, nil)
	queueOldestDesc  = prometheus.NewDesc("twofold_sync_event_queue_oldest_seconds", "How long the oldest event that waits for a run has waited; 0 where none does.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c queueCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- queueViewsDesc
	descs <- queueObjectsDesc
	descs <- queueOldestDesc
}

// Collect implements prometheus.Collector.
func (c queueCollector) Collect(out chan<- prometheus.Metric) {
	views, objects, oldest := c.queue.stats()
	age := 0.0
	if !oldest.IsZero() {
		age = time.Since(oldest).Seconds()
	}
	out <- prometheus.MustNewConstMetric(queueViewsDesc, prometheus.GaugeValue, float64(views))
	out <- prometheus.MustNewConstMetric(queueObjectsDesc, prometheus.GaugeValue, float64(objects))
	out <- prometheus.MustNewConstMetric(queueOldestDesc, prometheus.GaugeValue, age)
}
