package training

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// heapMeter keeps the most that was live at the moments when it looked.
type heapMeter struct {
	mu           sync.Mutex
	before, most uint64
}

func live() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func (m *heapMeter) look() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.most = max(m.most, live())
}

// wideSource is a history that is in no memory: one row an id, of many features.
type wideSource struct {
	view  *feature.View
	ids   int64
	meter *heapMeter
}

const wideFragmentRows = 10_000

// Fragments implements pit.Source.
func (s *wideSource) Fragments(context.Context, feature.TimeRange) (fragments []pit.Fragment, pruned int64, err error) {
	for first := int64(0); first < s.ids; first += wideFragmentRows {
		fragments = append(fragments, &wideFragment{s, first})
	}
	return fragments, 0, nil
}

type wideFragment struct {
	*wideSource
	first int64
}

func (f *wideFragment) NumRows() int64 { return min(wideFragmentRows, f.ids-f.first) }

func (f *wideFragment) Keys(_ context.Context, _ feature.TimeRange, yield func(feature.KeyBatch) error) error {
	ids, times := feature.NewColumn(feature.Int64, 0), feature.NewColumn(feature.Timestamp, 0)
	for row := range f.NumRows() {
		ids.AppendInt64(f.first + row)
		times.AppendInt64(0)
	}
	return yield(feature.KeyBatch{Keys: []*feature.Column{ids}, EventTimes: times})
}

func (f *wideFragment) Gather(_ context.Context, rows []int64, columns []int, dst []*feature.Column) error {
	for i, c := range columns {
		for _, row := range rows {
			if c == 0 {
				dst[i].AppendString(fmt.Sprintf("the text of entity %040d", f.first+row))
			} else {
				dst[i].AppendDouble(float64(f.first + row + int64(c)))
			}
		}
	}
	f.meter.look()
	return nil
}

// TestMemoryIsBounded joins entity rows whose result is many times what the budget is, and looks what is live whenever values were read or a batch is
// handed on.
func TestMemoryIsBounded(t *testing.T) {
	const rows, features, budget = 200_000, 200, 64 << 20
	view := newView("wide", []feature.Key{{Name: "id", Type: feature.Int64}}, nil, false)
	for i := range features {
		view.Features = append(view.Features, feature.Feature{Name: fmt.Sprintf("f%d", i), Type: feature.Double})
	}
	view.Features[0].Type = feature.String
	meter := &heapMeter{}
	spec := &Spec{Selection: selectFeatures(t, []string{"wide:*"}, view), Sources: []pit.Source{&wideSource{view, rows, meter}}, TimeColumn: "time", BatchRows: 8192, BatchBytes: 2 << 20}
	entities, err := NewEntityRows(spec, NewBudget(budget, nil), unlimited(t))
	require.NoError(t, err)
	defer func() { require.NoError(t, entities.Close()) }()
	meter.before = live()
	require.NoError(t, entities.Start(weatherRecord(t, 0, 0).Schema()))
	whole := weatherRecord(t, rows, 5)
	for from := int64(0); from < rows; from += 10_000 {
		require.NoError(t, entities.Append(whole.NewSlice(from, from+10_000)))
	}
	require.NoError(t, entities.Finish())
	var progress Progress
	batches, sum, bytes := 0, 0., 0
	err = Run(t.Context(), NewSet(entities, &progress), func(b *Batch) (*Batch, error) { return b, nil }, func(b *Batch) error {
		if batches++; batches%20 == 0 {
			meter.look()
		}
		for _, c := range b.Added {
			bytes += c.SizeBytes()
			for _, v := range c.Doubles {
				sum += v
			}
		}
		return nil
	})
	require.NoError(t, err)
	// Each id is in features−1 columns, with 1 to features−1 added.
	require.Equal(t, float64(features-1)*(rows-1)*rows/2+float64(rows)*(features-1)*features/2, sum)
	require.Greater(t, bytes, 4*budget)
	require.Greater(t, progress.At().Part, 1)
	used := meter.most - meter.before
	t.Logf("%d MB were joined in %d parts with at most %d MB live", bytes>>20, progress.At().Part, used>>20)
	require.Less(t, used, uint64(budget))
}
