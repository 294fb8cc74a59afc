package pit_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// smallSource is a view of one INT64 key and one feature, 3 fragments of 4 rows in batches of 2: entities 0 to 3, event times 0 to 2.
func smallSource() (*feature.View, *memorySource) {
	view := newView("small", []feature.Key{{Name: "id", Type: feature.Int64}}, []feature.Feature{{Name: "f", Type: feature.Int64}}, false)
	source := &memorySource{}
	for f := range int64(3) {
		t := newTable(view)
		for id := range int64(4) {
			t.keys[0].AppendInt64(id)
			// Fragments win by turns, so that all of them are gathered.
			t.events.AppendInt64((f + id) % 3)
			t.features[0].AppendInt64(10*f + id)
		}
		source.fragments = append(source.fragments, &memoryFragment{table: t, batch: 2, prunes: true})
	}
	return view, source
}

func smallRows(t *testing.T) *pit.EntityRows {
	rows := pit.NewEntityRows([]feature.Key{{Name: "id", Type: feature.Int64}})
	keys, times := feature.NewColumn(feature.Int64, 0), feature.NewColumn(feature.Timestamp, 0)
	for id := range int64(5) {
		keys.AppendInt64(id)
		times.AppendInt64(2)
	}
	if err := rows.Append([]*feature.Column{keys}, times); err != nil {
		t.Fatal(err)
	}
	return rows
}

// faultySource disturbs a source at one place.
type faultySource struct {
	*memorySource
	// Called where set; an error is what the method returns.
	inFragments func(ctx context.Context) error
	inNumRows   func() int64
	inKeys      func(ctx context.Context, batch int) error
	inGather    func(ctx context.Context) error
	// alter changes a batch.
	alter func(*feature.KeyBatch)
	// forget makes Gather append nothing.
	forget bool
}

func (s *faultySource) Fragments(ctx context.Context, within feature.TimeRange) ([]pit.Fragment, int64, error) {
	if s.inFragments != nil {
		if err := s.inFragments(ctx); err != nil {
			return nil, 0, err
		}
	}
	fragments, pruned, err := s.memorySource.Fragments(ctx, within)
	// Only one fragment is at fault: the others must stop because of it.
	fragments[1] = &faultyFragment{fragments[1], s}
	return fragments, pruned, err
}

type faultyFragment struct {
	pit.Fragment
	source *faultySource
}

func (f *faultyFragment) NumRows() int64 {
	if f.source.inNumRows != nil {
		return f.source.inNumRows()
	}
	return f.Fragment.NumRows()
}

func (f *faultyFragment) Keys(ctx context.Context, within feature.TimeRange, yield func(feature.KeyBatch) error) error {
	batch := 0
	return f.Fragment.Keys(ctx, within, func(b feature.KeyBatch) error {
		if f.source.inKeys != nil {
			if err := f.source.inKeys(ctx, batch); err != nil {
				return err
			}
		}
		if f.source.alter != nil {
			f.source.alter(&b)
		}
		batch++
		return yield(b)
	})
}

func (f *faultyFragment) Gather(ctx context.Context, rows []int64, columns []int, dst []*feature.Column) error {
	if f.source.inGather != nil {
		if err := f.source.inGather(ctx); err != nil {
			return err
		}
	}
	if f.source.forget {
		return nil
	}
	return f.Fragment.Gather(ctx, rows, columns, dst)
}

var errBroken = fault.New(fault.Corrupt, "file x.parquet is broken")

func broken(context.Context) error { return errBroken }
func panics(context.Context) error { panic("oh no") }

func sourceFaults() map[string]struct {
	source faultySource
	kind   fault.Kind
	text   string
} {
	type c = struct {
		source faultySource
		kind   fault.Kind
		text   string
	}
	secondBatch := func(do func(context.Context) error) func(context.Context, int) error {
		return func(ctx context.Context, batch int) error {
			if batch == 0 {
				return nil
			}
			return do(ctx)
		}
	}
	return map[string]c{
		"error in Fragments": {faultySource{inFragments: broken}, fault.Corrupt, "file x.parquet is broken"},
		"error mid-Keys":     {faultySource{inKeys: secondBatch(broken)}, fault.Corrupt, "file x.parquet is broken"},
		"error in Gather":    {faultySource{inGather: broken}, fault.Corrupt, "file x.parquet is broken"},
		"panic in Fragments": {faultySource{inFragments: panics}, fault.Internal, "panic: oh no"},
		"panic in NumRows":   {faultySource{inNumRows: func() int64 { panic("oh no") }}, fault.Internal, "panic: oh no"},
		"panic mid-Keys":     {faultySource{inKeys: secondBatch(panics)}, fault.Internal, "panic: oh no"},
		"panic in Gather":    {faultySource{inGather: panics}, fault.Internal, "panic: oh no"},
		"more rows than announced": {
			faultySource{inNumRows: func() int64 { return 3 }}, fault.Corrupt, "fragment 1 has more than the 3 rows that it says it has"},
		"rows past the end": {
			faultySource{alter: func(b *feature.KeyBatch) { b.First = 1 << 62 }}, fault.Corrupt, "fragment 1 has more than the 4 rows that it says it has"},
		"the same rows twice": {
			faultySource{alter: func(b *feature.KeyBatch) { b.First = 0 }}, fault.Internal, "fragment 1 gives row 0 after row 1"},
		"rows before the first": {
			faultySource{alter: func(b *feature.KeyBatch) { b.First = -1 }}, fault.Internal, "fragment 1 gives row -1 after row -1"},
		"negative rows": {faultySource{inNumRows: func() int64 { return -1 }}, fault.Corrupt, "fragment 1 says that it has -1 rows"},
		"a key column too many": {
			faultySource{alter: func(b *feature.KeyBatch) { b.Keys = append(b.Keys, b.Keys[0]) }}, fault.Internal, "2 key columns"},
		"a key of another type": {
			faultySource{alter: func(b *feature.KeyBatch) { b.Keys[0] = b.EventTimes }}, fault.Internal, `column "id" as TIMESTAMP; it must be INT64`},
		"deletions of another type": {
			faultySource{alter: func(b *feature.KeyBatch) { b.Deleted = b.EventTimes }}, fault.Internal, `column "deleted" as TIMESTAMP; it must be BOOL`},
		"a short key column": {
			faultySource{alter: func(b *feature.KeyBatch) { b.Keys[0] = feature.NewColumn(feature.Int64, 0) }}, fault.Internal, `column "id" with 0 values`},
		"nothing gathered": {faultySource{forget: true}, fault.Internal, "0 values of feature 0"},
	}
}

// eachFault runs call against every fault and expects the error of that fault, and no goroutine left.
func eachFault(t *testing.T, call func(t *testing.T, view *feature.View, source pit.Source, workers int) error) {
	for name, c := range sourceFaults() {
		for _, workers := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s, %d workers", name, workers), func(t *testing.T) {
				defer noLeak(t)()
				view, source := smallSource()
				c.source.memorySource = source
				err := call(t, view, &c.source, workers)
				if err == nil || fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), `feature view "small"`) {
					t.Fatalf("want an error of kind %v with %q that names the view, got %v", c.kind, c.text, err)
				}
			})
		}
	}
}

func TestJoinReportsFaults(t *testing.T) {
	eachFault(t, func(t *testing.T, view *feature.View, source pit.Source, workers int) error {
		healthyView, healthy := smallSource()
		healthyView.Name = "healthy"
		joined, err := pit.Join(t.Context(), smallRows(t), []pit.ViewJoin{
			{View: healthyView, Features: []int{0}, Keys: []int{0}, Source: healthy},
			{View: view, Features: []int{0}, Keys: []int{0}, Source: source},
		}, pit.Options{Workers: workers})
		if joined != nil {
			t.Error("a result beside an error")
		}
		return err
	})
}

func TestLatestReportsFaults(t *testing.T) {
	eachFault(t, func(t *testing.T, view *feature.View, source pit.Source, workers int) error {
		w, err := pit.Latest(t.Context(), view, source, pit.LatestOptions{AsOf: 2, Workers: workers})
		if err != nil {
			return err
		}
		return w.Batches(t.Context(), 2, []int{0}, func(pit.WinnerBatch) error { return nil })
	})
}

// blocked is a fault that says that it was reached, then waits for the context.
func blocked(reached chan<- struct{}) func(context.Context) error {
	return func(ctx context.Context) error {
		reached <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
}

func TestCancelReturns(t *testing.T) {
	reached := make(chan struct{}, 10)
	places := map[string]faultySource{
		"Fragments": {inFragments: blocked(reached)},
		"Keys":      {inKeys: func(ctx context.Context, _ int) error { return blocked(reached)(ctx) }},
		"Gather":    {inGather: blocked(reached)},
	}
	calls := map[string]func(ctx context.Context, view *feature.View, source pit.Source) error{
		"Join": func(ctx context.Context, view *feature.View, source pit.Source) error {
			_, err := pit.Join(ctx, smallRows(t), []pit.ViewJoin{{View: view, Features: []int{0}, Keys: []int{0}, Source: source}}, pit.Options{Workers: 2})
			return err
		},
		"Latest": func(ctx context.Context, view *feature.View, source pit.Source) error {
			w, err := pit.Latest(ctx, view, source, pit.LatestOptions{AsOf: 2, Workers: 2})
			if err != nil {
				return err
			}
			return w.Batches(ctx, 0, []int{0}, func(pit.WinnerBatch) error { return nil })
		},
	}
	for place, faulty := range places {
		for name, call := range calls {
			t.Run(name+" blocked in "+place, func(t *testing.T) {
				defer noLeak(t)()
				view, source := smallSource()
				faulty.memorySource = source
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error, 1)
				go func() { done <- call(ctx, view, &faulty) }()
				select {
				case <-reached:
				case err := <-done:
					t.Fatalf("ended before it was blocked: %v", err)
				}
				cancel()
				if err := <-done; !errors.Is(err, context.Canceled) {
					t.Fatalf("got %v", err)
				}
			})
		}
	}
}

// TestFaultStopsBlockedWorkers has one fragment fail while another waits for its context: the failure must set it free.
func TestFaultStopsBlockedWorkers(t *testing.T) {
	defer noLeak(t)()
	view, source := smallSource()
	reached := make(chan struct{}, 10)
	waiting := &faultySource{memorySource: source, inKeys: func(ctx context.Context, _ int) error { return blocked(reached)(ctx) }}
	failingView, failingRows := smallSource()
	failingView.Name = "failing"
	failing := &faultySource{memorySource: failingRows, inKeys: func(context.Context, int) error {
		<-reached
		return errBroken
	}}
	_, err := pit.Join(t.Context(), smallRows(t), []pit.ViewJoin{
		{View: view, Features: []int{0}, Keys: []int{0}, Source: waiting},
		{View: failingView, Features: []int{0}, Keys: []int{0}, Source: failing},
	}, pit.Options{Workers: 8})
	if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), `feature view "failing"`) {
		t.Fatalf("got %v", err)
	}
}

func TestCancelledBeforehand(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	view, source := smallSource()
	_, err := pit.Join(ctx, smallRows(t), []pit.ViewJoin{{View: view, Features: []int{0}, Keys: []int{0}, Source: source}}, pit.Options{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Join: %v", err)
	}
	if _, err = pit.Latest(ctx, view, source, pit.LatestOptions{AsOf: 2}); !errors.Is(err, context.Canceled) {
		t.Errorf("Latest: %v", err)
	}
}

// noLeak counts goroutines and, when the function that it returns is called, waits until there are no more than before. It fails
// by the time limit of the test binary, which prints the goroutines that are left.
func noLeak(t *testing.T) func() {
	before := runtime.NumGoroutine()
	return func() {
		if t.Failed() {
			return
		}
		for runtime.NumGoroutine() > before {
			runtime.Gosched()
		}
	}
}
