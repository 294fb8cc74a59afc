package training

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

// eventSpec asks for the features of some views.
func eventSpec(t testing.TB, r *rand.Rand, histories ...*history) *Spec {
	var views []*feature.View
	var names []string
	spec := &Spec{TimeColumn: "time", BatchRows: 8192}
	for _, h := range histories {
		views, names = append(views, h.view), append(names, h.view.Name+":*")
		spec.Sources = append(spec.Sources, newMemorySource(r, h))
	}
	spec.Selection = selectFeatures(t, names, views...)
	return spec
}

// eventRows returns the rows that were appended, as text in their order.
func eventRows(t testing.TB, rows *EntityRows) (out []string) {
	t.Helper()
	err := rows.spool.each(t.Context(), 0, rows.Len(), func(record arrow.RecordBatch) error {
		var columns []*feature.Column
		for _, a := range record.Columns() {
			c, err := arrowwire.FromArray(a)
			require.NoError(t, err)
			columns = append(columns, c)
		}
		for i := range int(record.NumRows()) {
			out = append(out, eventText(columns, i))
		}
		return nil
	})
	require.NoError(t, err)
	return out
}

// eventText is an event as text: its time, then its keys.
func eventText(columns []*feature.Column, row int) string {
	last := len(columns) - 1
	out := fmt.Sprint(columns[last].Int64s[row])
	for _, key := range columns[:last] {
		out += " " + text(key.ValueAt(row))
	}
	return out
}

// wantedEvents are the distinct events of the histories from start up to but without end, sorted by time.
func wantedEvents(spec *Spec, start, end int64, histories ...*history) []string {
	type event struct {
		at   int64
		text string
	}
	var events []event
	for v, h := range histories {
		for _, row := range h.rows {
			at, ok := row.event.(int64)
			if !ok || at < start || at >= end || slices.Contains(row.keys, nil) {
				continue
			}
			out := fmt.Sprint(at)
			for name := range spec.Selection.KeyNames {
				out += " " + text(row.keys[slices.Index(spec.Selection.Views[v].Keys, name)])
			}
			if e := (event{at, out}); !slices.Contains(events, e) {
				events = append(events, e)
			}
		}
	}
	slices.SortStableFunc(events, func(a, b event) int {
		if a.at < b.at {
			return -1
		}
		return min(1, int(uint64(a.at)-uint64(b.at)))
	})
	out := make([]string, len(events))
	for i, e := range events {
		out[i] = e.text
	}
	return out
}

// appendEvents runs AppendEvents and finishes.
func appendEvents(t testing.TB, spec *Spec, start, end int64) *EntityRows {
	t.Helper()
	rows, err := NewEntityRows(spec, tinyBudget(1<<20), unlimited(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, rows.Close()) })
	require.NoError(t, rows.AppendEvents(t.Context(), feature.EventTime(start), feature.EventTime(end)))
	require.NoError(t, rows.Finish())
	return rows
}

// randomEvents are histories with the same keys, each in an order of its own.
func randomEvents(r *rand.Rand, moment func() int64) (histories []*history) {
	keys := make([]feature.Key, 1+r.IntN(3))
	for i := range keys {
		keys[i] = feature.Key{Name: fmt.Sprintf("k%d", i), Type: oneOf(r, keyTypes...)}
	}
	for v := range 1 + r.IntN(3) {
		r.Shuffle(len(keys), func(i, k int) { keys[i], keys[k] = keys[k], keys[i] })
		view := newView(fmt.Sprintf("v%d", v), slices.Clone(keys), []feature.Feature{{Name: "f", Type: feature.Int64}}, r.IntN(2) == 0)
		histories = append(histories, randomHistory(r, view, moment))
	}
	return histories
}

func TestAppendEventsEqualsOracle(t *testing.T) {
	eachSeed(t, 200, func(t *testing.T, r *rand.Rand) {
		moment := moments(r)
		histories := randomEvents(r, moment)
		spec := eventSpec(t, r, histories...)
		start, end := moment(), moment()
		if r.IntN(4) == 0 {
			start, end = math.MinInt64, math.MaxInt64
		}
		if start >= end {
			return
		}
		got := eventRows(t, appendEvents(t, spec, start, end))
		// Events of one time come in the order of their keys, which texts do not have.
		want := wantedEvents(spec, start, end, histories...)
		require.ElementsMatch(t, want, got)
		require.True(t, slices.IsSortedFunc(got, byTime), "%v", got)
	})
}

func byTime(a, b string) int {
	var x, y int64
	_, _ = fmt.Sscan(a, &x)
	_, _ = fmt.Sscan(b, &y)
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	default:
		return 0
	}
}

// TestEventWindows divides ranges, all of time among them, into windows of few events and expects the same events in the same order.
func TestEventWindows(t *testing.T) {
	eachSeed(t, 100, func(t *testing.T, r *rand.Rand) {
		near, extreme := moments(r), r.IntN(2) == 0
		// Some events close together far from others, so that one slot of the histogram has many.
		moment := func() int64 {
			switch {
			case extreme && r.IntN(8) == 0:
				return oneOf[int64](r, math.MinInt64, math.MinInt64+1, math.MaxInt64-1, math.MaxInt64)
			case r.IntN(3) == 0:
				return near() * 1_000_000_000
			default:
				return near()
			}
		}
		histories := randomEvents(r, moment)
		within := feature.TimeRange{Min: math.MinInt64, Max: math.MaxInt64 - 1}
		if r.IntN(2) == 0 {
			within = feature.TimeRange{Min: -5, Max: feature.EventTime(oneOf[int64](r, -5, 10, 1<<20, math.MaxInt64))}
		}
		want := windowEvents(t, eventSpec(t, r, histories...), within, 0)
		require.Equal(t, want, windowEvents(t, eventSpec(t, r, histories...), within, 1+r.IntN(10)))
	})
}

// windowEvents finds the events of a range, in windows where most is not 0, and checks that no window has more than it may.
func windowEvents(t testing.TB, spec *Spec, within feature.TimeRange, most int) []string {
	t.Helper()
	rows, err := NewEntityRows(spec, tinyBudget(1<<20), unlimited(t))
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	finder, err := newEventFinder(rows)
	require.NoError(t, err)
	require.NoError(t, rows.Start(finder.schema))
	windows := []feature.TimeRange{within}
	if most > 0 {
		finder.most = most
		windows, err = finder.windows(t.Context(), within)
		require.NoError(t, err)
	}
	for i, w := range windows {
		require.True(t, w.Min >= within.Min && w.Min <= w.Max && w.Max <= within.Max, "%v in %v", w, within)
		require.True(t, i == 0 || windows[i-1].Max < w.Min, "%v", windows)
		if finder.most = most; w.Min == w.Max {
			finder.most = 0
		}
		require.NoError(t, finder.window(t.Context(), w), "%v", w)
	}
	require.NoError(t, rows.Finish())
	return eventRows(t, rows)
}

// TestAppendEventsInWindows has more events than the memory for entity rows takes.
func TestAppendEventsInWindows(t *testing.T) {
	h := weather(40, 2500)
	source := &memorySource{history: h, ends: []int{50_000, len(h.rows)}, batch: 4096}
	scans := 0
	source.hooks.fragments = func(context.Context) error { scans++; return nil }
	rows := appendEvents(t, weatherSpec(t, source), 0, 1<<40)
	require.Equal(t, int64(len(h.rows)), rows.Len())
	require.Greater(t, scans, 3)
	got := eventRows(t, rows)
	require.True(t, slices.IsSortedFunc(got, byTime))
	require.Equal(t, "0 int64 0", got[0])
	require.Equal(t, "2499 int64 39", got[len(got)-1])
}

// TestAppendEventsIsTrained: each event finds its own row.
func TestAppendEventsIsTrained(t *testing.T) {
	h := weather(3, 4)
	rows := appendEvents(t, weatherSpec(t, newMemorySource(rand.New(rand.NewPCG(1, 1)), h)), 1, 3)
	got := collect(t, NewSet(rows, &Progress{}))
	require.Equal(t, []string{text(1.), text(1001.), text(2001.), text(2.), text(1002.), text(2002.)}, got.added)
	require.Zero(t, rows.Filtered())
}

func TestAppendEventsRefuses(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	other := weather(2, 2)
	other.view.Name, other.view.Entity = "planes", &feature.Entity{Name: "plane", Keys: []feature.Key{{Name: "tail", Type: feature.Int64}}}
	named := weather(2, 2)
	named.view.Entity.Keys[0].Name = "time"
	exhausted := fault.New(fault.Exhausted, "too many")
	for name, c := range map[string]struct {
		spec       *Spec
		start, end feature.EventTime
		kind       fault.Kind
		text       string
	}{
		"no time in the range": {eventSpec(t, r, weather(2, 2)), 5, 5, fault.Invalid, "the start is not before the end"},
		"other keys":           {eventSpec(t, r, weather(2, 2), other), 0, 5, fault.Invalid, `feature view "weather" does not have the entity key "tail" of feature view "planes"`},
		"a key named time":     {eventSpec(t, r, named), 0, 5, fault.Invalid, `two columns are named "time"`},
		"too many rows":        {eventSpec(t, r, weather(4, 4)), 0, 5, fault.Exhausted, "too many"},
	} {
		t.Run(name, func(t *testing.T) {
			rows, err := NewEntityRows(c.spec, tinyBudget(1<<20), Limits{EntityRows: 10, Exceeded: func() error { return exhausted }})
			require.NoError(t, err)
			err = rows.AppendEvents(t.Context(), c.start, c.end)
			require.ErrorContains(t, err, c.text)
			require.Equal(t, c.kind, fault.KindOf(err))
			require.NoError(t, rows.Close())
		})
	}
}

// TestAppendEventsFails: an error or panic of a source names the view, and a cancel ends it.
func TestAppendEventsFails(t *testing.T) {
	var cancel context.CancelFunc
	for name, c := range map[string]struct {
		hooks hooks
		kind  fault.Kind
		text  string
	}{
		"listing":  {hooks{fragments: broken}, fault.Corrupt, `feature view "weather": file x.parquet is broken`},
		"reading":  {hooks{keys: func(ctx context.Context, _ int) error { return broken(ctx) }}, fault.Corrupt, `feature view "weather": file x.parquet is broken`},
		"panic":    {hooks{keys: func(context.Context, int) error { panic("oh no") }}, fault.Internal, `feature view "weather": panic: oh no`},
		"canceled": {hooks{keys: func(ctx context.Context, _ int) error { cancel(); <-ctx.Done(); return ctx.Err() }}, fault.Internal, "context canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			var ctx context.Context
			ctx, cancel = context.WithCancel(t.Context())
			defer cancel()
			defer noLeak(t)()
			h := weather(3, 3)
			rows, err := NewEntityRows(weatherSpec(t, &memorySource{history: h, ends: []int{4, 9}, batch: 2, hooks: c.hooks}), tinyBudget(1<<20), unlimited(t))
			require.NoError(t, err)
			err = rows.AppendEvents(ctx, 0, 5)
			require.ErrorContains(t, err, c.text)
			require.Equal(t, c.kind, fault.KindOf(err))
			require.NoError(t, rows.Close())
		})
	}
}

var errBroken = fault.New(fault.Corrupt, "file x.parquet is broken")

func broken(context.Context) error { return errBroken }

var _ pit.Source = (*memorySource)(nil)
