package server

import (
	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/twofold-ml/twofold/internal/feature"
)

// callMetrics are those of any gRPC server; calls, codes and latencies by method come from the gRPC middleware.
type callMetrics struct {
	grpc *grpcprom.ServerMetrics
	// refused counts the requests past a limit, by its setting.
	refused *prometheus.CounterVec
}

func newCallMetrics(registry *prometheus.Registry) *callMetrics {
	m := &callMetrics{
		grpc: grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram(
			grpcprom.WithHistogramBuckets(latencyBuckets))),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_refused_requests_total",
			Help: "Requests refused because they are past a limit, by the limit's setting (max_rows_per_request, …).",
		}, []string{"limit"}),
	}
	registry.MustRegister(m.grpc, m.refused)
	return m
}

// metrics are the server's own.
type metrics struct {
	calls *callMetrics
	// onlineRows counts the rows of online answers by feature view and status.
	onlineRows *prometheus.CounterVec
	// pushedRows counts the rows of PushFeatures by feature view and outcome.
	pushedRows *prometheus.CounterVec
	// trainingRows counts the entity rows answered by GetHistoricalFeatures.
	trainingRows prometheus.Counter
	// trainingViewRows counts the entity rows of complete results by feature view and outcome.
	trainingViewRows *prometheus.CounterVec
	// trainingFeatureRows counts the feature rows of files by feature view and outcome.
	trainingFeatureRows *prometheus.CounterVec
	// trainings are the historical calls under way.
	trainings *trainings
	// streamed are the requests inside streams.
	streamed *streamMetrics
}

// latencyBuckets are the bounds of latency histograms, in seconds.
var latencyBuckets = []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 30, 120}

func newMetrics(registry *prometheus.Registry) *metrics {
	m := &metrics{
		calls: newCallMetrics(registry),
		onlineRows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_online_rows_total",
			Help: "Rows in answers of GetOnlineFeatures, by feature view and status (PRESENT, NOT_FOUND, EXPIRED, UNAVAILABLE).",
		}, []string{"feature_view", "status"}),
		pushedRows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_pushed_rows_total",
			Help: "Rows received by PushFeatures, by feature view and outcome (written, older, unchanged, expired, forgotten).",
		}, []string{"feature_view", "outcome"}),
		trainingRows: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twofold_training_rows_total",
			Help: "Entity rows answered by GetHistoricalFeatures.",
		}),
		trainingViewRows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_training_view_rows_total",
			Help: "Entity rows answered by GetHistoricalFeatures, by feature view and outcome (matched, unmatched).",
		}, []string{"feature_view", "outcome"}),
		trainingFeatureRows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_training_feature_rows_total",
			Help: "Feature rows that GetHistoricalFeatures has read the keys of, or left unread because they cannot match, by feature view and outcome (read, pruned).",
		}, []string{"feature_view", "outcome"}),
		trainings: newTrainings(),
		streamed:  newStreamMetrics(registry),
	}
	registry.MustRegister(m.onlineRows, m.pushedRows, m.trainingRows, m.trainingViewRows, m.trainingFeatureRows, m.trainings,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// countRows counts one view's rows by the status of one of its columns; a null is a row that is there.
func (v *viewCounters) countRows(statuses []feature.Status) {
	var counts [feature.Unavailable + 1]int
	for _, s := range statuses {
		counts[s]++
	}
	v.present.Add(float64(counts[feature.Present] + counts[feature.Null]))
	v.notFound.Add(float64(counts[feature.NotFound]))
	v.expired.Add(float64(counts[feature.Expired]))
	v.unavailable.Add(float64(counts[feature.Unavailable]))
}

// viewCounters are one view's counters, looked up once.
type viewCounters struct{ present, notFound, expired, unavailable prometheus.Counter }

func (m *metrics) view(name string) *viewCounters {
	return &viewCounters{
		present:     m.onlineRows.WithLabelValues(name, feature.Present.String()),
		notFound:    m.onlineRows.WithLabelValues(name, feature.NotFound.String()),
		expired:     m.onlineRows.WithLabelValues(name, feature.Expired.String()),
		unavailable: m.onlineRows.WithLabelValues(name, feature.Unavailable.String()),
	}
}
