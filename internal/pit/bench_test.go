package pit_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// benchFragment gives its rows without copying them, so that a benchmark measures the join and little else.
type benchFragment struct{ *table }

func (f benchFragment) NumRows() int64 { return int64(f.rows()) }

func (f benchFragment) Keys(_ context.Context, _ feature.TimeRange, yield func(feature.KeyBatch) error) error {
	const batch = 8192
	for from := 0; from < f.rows(); from += batch {
		to := min(f.rows(), from+batch)
		b := feature.KeyBatch{First: int64(from), EventTimes: section(f.events, from, to)}
		for _, key := range f.keys {
			b.Keys = append(b.Keys, section(key, from, to))
		}
		if f.created != nil {
			b.CreatedTimes = section(f.created, from, to)
		}
		if err := yield(b); err != nil {
			return err
		}
	}
	return nil
}

func (f benchFragment) Gather(_ context.Context, rows []int64, columns []int, dst []*feature.Column) error {
	places := make([]int, len(rows))
	for i, row := range rows {
		places[i] = int(row)
	}
	for i, c := range columns {
		dst[i].Take(f.features[c], places, feature.Null)
	}
	return nil
}

// section returns rows from to to of an INT64, TIMESTAMP or STRING column, sharing its memory.
func section(c *feature.Column, from, to int) *feature.Column {
	s := &feature.Column{Type: c.Type, Status: c.Status[from:to]}
	if c.Type == feature.String {
		s.Data, s.Offsets = c.Data, c.Offsets[from:to+1]
	} else {
		s.Int64s = c.Int64s[from:to]
	}
	return s
}

type benchSource []pit.Fragment

func (s benchSource) Fragments(context.Context, feature.TimeRange) ([]pit.Fragment, int64, error) {
	return s, 0, nil
}

// benchShape is the size of a benchmark. Time runs on from row to row, as in a log; entities come at random.
type benchShape struct {
	features, entities, ids, fragments int
	keys                               []feature.Type
	created                            bool
}

func (s benchShape) keyDefinitions() (keys []feature.Key) {
	for i, t := range s.keys {
		keys = append(keys, feature.Key{Name: fmt.Sprintf("k%d", i), Type: t})
	}
	return keys
}

func (s benchShape) appendKey(columns []*feature.Column, id int) {
	for _, c := range columns {
		if c.Type == feature.String {
			c.AppendString(fmt.Sprintf("user-%08d", id))
		} else {
			c.AppendInt64(int64(id) * 7919)
		}
	}
}

func (s benchShape) source(r *rand.Rand) (*feature.View, benchSource) {
	view := newView("bench", s.keyDefinitions(), nil, s.created)
	for i := range 10 {
		view.Features = append(view.Features, feature.Feature{Name: fmt.Sprintf("f%d", i), Type: feature.Double})
	}
	var source benchSource
	for f := range s.fragments {
		t := newTable(view)
		for i := range s.features / s.fragments {
			s.appendKey(t.keys, r.IntN(s.ids))
			at := int64(f*(s.features/s.fragments)+i) * 1000
			t.events.AppendInt64(at)
			if s.created {
				t.created.AppendInt64(at + 500)
			}
			for k, c := range t.features {
				c.AppendDouble(float64(i + k))
			}
		}
		source = append(source, benchFragment{t})
	}
	return view, source
}

func (s benchShape) entityRows(b *testing.B, r *rand.Rand) *pit.EntityRows {
	rows := pit.NewEntityRows(s.keyDefinitions())
	const chunk = 50_000
	for from := 0; from < s.entities; from += chunk {
		times := feature.NewColumn(feature.Timestamp, chunk)
		var columns []*feature.Column
		for _, t := range s.keys {
			columns = append(columns, feature.NewColumn(t, chunk))
		}
		for range min(chunk, s.entities-from) {
			s.appendKey(columns, r.IntN(s.ids))
			times.AppendInt64(r.Int64N(int64(s.features) * 1000))
		}
		if err := rows.Append(columns, times); err != nil {
			b.Fatal(err)
		}
	}
	return rows
}

func BenchmarkJoin(b *testing.B) {
	ints, texts := []feature.Type{feature.Int64}, []feature.Type{feature.String}
	for name, s := range map[string]benchShape{
		"1M_x_100k_int":           {1_000_000, 100_000, 50_000, 10, ints, false},
		"1M_x_100k_int_created":   {1_000_000, 100_000, 50_000, 10, ints, true},
		"1M_x_100k_string":        {1_000_000, 100_000, 50_000, 10, texts, false},
		"1M_x_100k_composite":     {1_000_000, 100_000, 50_000, 10, []feature.Type{feature.String, feature.Int64}, false},
		"1M_x_100k_three_ids":     {1_000_000, 100_000, 3, 10, texts, false},
		"1M_x_100k_few_ids_match": {1_000_000, 1_000, 500_000, 10, ints, false},
	} {
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/workers=%d", name, workers), func(b *testing.B) { benchmarkJoin(b, s, workers) })
		}
	}
}

// BenchmarkJoinLarge takes some seconds and 1.5 GB; -short leaves it out.
func BenchmarkJoinLarge(b *testing.B) {
	if testing.Short() {
		b.Skip("left out by -short")
	}
	s := benchShape{10_000_000, 1_000_000, 500_000, 20, []feature.Type{feature.Int64}, false}
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("10M_x_1M_int/workers=%d", workers), func(b *testing.B) { benchmarkJoin(b, s, workers) })
	}
}

func benchmarkJoin(b *testing.B, s benchShape, workers int) {
	r := rand.New(rand.NewPCG(1, 2))
	view, source := s.source(r)
	rows := s.entityRows(b, r)
	keys := make([]int, len(s.keys))
	for i := range keys {
		keys[i] = i
	}
	columns := make([]*feature.Column, len(view.Features))
	features := make([]int, len(view.Features))
	for i, f := range view.Features {
		columns[i], features[i] = feature.NewColumn(f.Type, 8192), i
	}
	views := []pit.ViewJoin{{View: view, Features: features, Keys: keys, Source: source}}
	b.ReportAllocs()
	for b.Loop() {
		j, err := pit.Join(b.Context(), rows, views, pit.Options{Workers: workers, CreatedTimeCutoff: s.created})
		if err != nil {
			b.Fatal(err)
		}
		for from := 0; from < j.Rows(); from += 8192 {
			for _, c := range columns {
				c.Reset()
			}
			j.Batch(0, from, min(from+8192, j.Rows()), columns)
		}
	}
	b.ReportMetric(float64(s.features)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
}

func BenchmarkLatest(b *testing.B) {
	for name, keys := range map[string][]feature.Type{"int": {feature.Int64}, "string": {feature.String}} {
		s := benchShape{1_000_000, 0, 200_000, 10, keys, false}
		for _, workers := range []int{1, 2} {
			for _, versions := range []int{1, 4, 11} {
				b.Run(fmt.Sprintf("1M_200k_entities_%s/workers=%d/versions=%d", name, workers, versions), func(b *testing.B) {
					benchmarkLatest(b, s, pit.LatestOptions{AsOf: 1 << 60, Workers: workers, Versions: versions})
				})
			}
		}
	}
}

func benchmarkLatest(b *testing.B, s benchShape, o pit.LatestOptions) {
	view, source := s.source(rand.New(rand.NewPCG(1, 2)))
	b.ReportAllocs()
	for b.Loop() {
		w, err := pit.Latest(b.Context(), view, source, o)
		if err != nil {
			b.Fatal(err)
		}
		if err := w.Batches(b.Context(), 0, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, func(pit.WinnerBatch) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(s.features)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
}
