package server

import (
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/twofold-ml/twofold/internal/training"
)

// trainings are the historical calls under way: what they do and hold now is read from their progress when the metrics are.
type trainings struct {
	calls, memory *prometheus.Desc

	mu       sync.Mutex
	underWay map[*training.Progress]struct{}
}

func newTrainings() *trainings {
	return &trainings{
		calls:    prometheus.NewDesc("twofold_training_calls", "Historical calls under way, by what they do now (reading_entities, waiting_for_memory, scanning, gathering, sending).", []string{"phase"}, nil),
		memory:   prometheus.NewDesc("twofold_training_memory_bytes", "Memory that joins of historical calls hold now, of what the setting memory allows.", nil, nil),
		underWay: map[*training.Progress]struct{}{},
	}
}

// begin counts a call until end is called.
func (t *trainings) begin(p *training.Progress) (end func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.underWay[p] = struct{}{}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.underWay, p)
	}
}

// Describe implements prometheus.Collector.
func (t *trainings) Describe(out chan<- *prometheus.Desc) {
	out <- t.calls
	out <- t.memory
}

// Collect implements prometheus.Collector.
func (t *trainings) Collect(out chan<- prometheus.Metric) {
	inPhase, memory := map[training.Phase]int{}, int64(0)
	t.mu.Lock()
	for p := range t.underWay {
		at := p.At()
		inPhase[at.Phase]++
		memory += at.MemoryBytes
	}
	t.mu.Unlock()
	for phase, name := range phases {
		label := strings.ToLower(strings.TrimPrefix(name.String(), "PHASE_"))
		out <- prometheus.MustNewConstMetric(t.calls, prometheus.GaugeValue, float64(inPhase[phase]), label)
	}
	out <- prometheus.MustNewConstMetric(t.memory, prometheus.GaugeValue, float64(memory))
}

// countTraining counts the rows of a call that is complete.
func (m *metrics) countTraining(c *historicalCall) {
	rows := c.rows.Len()
	m.trainingRows.Add(float64(rows))
	for v, view := range c.selection.Views {
		stats, name := c.set.Stats(v), view.View.Name
		m.trainingViewRows.WithLabelValues(name, "matched").Add(float64(rows - stats.Unmatched))
		m.trainingViewRows.WithLabelValues(name, "unmatched").Add(float64(stats.Unmatched))
		m.trainingFeatureRows.WithLabelValues(name, "read").Add(float64(stats.RowsRead))
		m.trainingFeatureRows.WithLabelValues(name, "pruned").Add(float64(stats.RowsPruned))
	}
}
