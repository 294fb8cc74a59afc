package training

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// harness is a set of 20 entity rows in several parts, some of them in a file.
type harness struct {
	budget *Budget
	count  counter
	rows   *EntityRows
	set    *Set
	made   atomic.Int64
	sent   atomic.Int64
}

func newHarness(t testing.TB, h hooks) *harness {
	x := &harness{}
	x.budget = tinyBudget(8 << 10)
	x.budget.changed = x.count.changed
	history := weather(20, 6)
	spec := weatherSpec(t, &memorySource{history: history, ends: []int{30, 60, len(history.rows)}, batch: 7, hooks: h})
	spec.BatchRows = 2
	var records []arrow.RecordBatch
	for i := range int64(10) {
		records = append(records, weatherRecord(t, 20, 5).NewSlice(2*i, 2*i+2))
	}
	x.rows = newRows(t, spec, x.budget, records...)
	require.NotNil(t, x.rows.spool.file)
	x.set = NewSet(x.rows, &Progress{})
	return x
}

// run runs the set; emitting is called with the number of the batch.
func (x *harness) run(ctx context.Context, encode func(*Batch) error, emit func(n int64) error) error {
	return Run(ctx, x.set, func(b *Batch) (int, error) {
		x.made.Add(1)
		return b.Rows, encode(b)
	}, func(int) error { return emit(x.sent.Add(1)) })
}

// requireFreed fails if a lease, a goroutine or the temporary file is left.
func (x *harness) requireFreed(t testing.TB) {
	t.Helper()
	require.Zero(t, x.count.now.Load())
	require.True(t, x.budget.leases.TryAcquire(x.budget.total))
	file := x.rows.spool.file
	require.NoError(t, x.rows.Close())
	if file != nil {
		require.ErrorIs(t, file.Close(), os.ErrClosed)
	}
	require.NoError(t, x.rows.Close())
}

func encodes(*Batch) error { return nil }
func emits(int64) error    { return nil }

// TestFaults: errors keep their kind and name the view; a panic is an error; whatever happens, everything is freed.
func TestFaults(t *testing.T) {
	panics := func(context.Context) error { panic("oh no") }
	third := func(do func(context.Context) error) func(context.Context, int) error {
		return func(ctx context.Context, batch int) error {
			if batch < 2 {
				return nil
			}
			return do(ctx)
		}
	}
	for name, c := range map[string]struct {
		hooks  hooks
		encode func(*Batch) error
		emit   func(int64) error
		kind   fault.Kind
		text   string
	}{
		"error in Fragments": {hooks: hooks{fragments: broken}, kind: fault.Corrupt, text: `feature view "weather": file x.parquet is broken`},
		"error in Keys":      {hooks: hooks{keys: third(broken)}, kind: fault.Corrupt, text: `feature view "weather": file x.parquet is broken`},
		"error in Gather":    {hooks: hooks{gather: broken}, kind: fault.Corrupt, text: `feature view "weather": file x.parquet is broken`},
		"panic in Fragments": {hooks: hooks{fragments: panics}, text: `feature view "weather": panic: oh no`},
		"panic in Keys":      {hooks: hooks{keys: third(panics)}, text: `feature view "weather": panic: oh no`},
		"panic in Gather":    {hooks: hooks{gather: panics}, text: `feature view "weather": panic: oh no`},
		"error in encode":    {encode: func(*Batch) error { return errBroken }, kind: fault.Corrupt, text: "file x.parquet is broken"},
		"panic in encode":    {encode: func(*Batch) error { panic("oh no") }, text: "panic: oh no"},
		"error in emit":      {emit: func(n int64) error { return map[bool]error{true: errBroken}[n == 4] }, kind: fault.Corrupt, text: "file x.parquet is broken"},
	} {
		t.Run(name, func(t *testing.T) {
			defer noLeak(t)()
			x := newHarness(t, c.hooks)
			if c.encode == nil {
				c.encode = encodes
			}
			if c.emit == nil {
				c.emit = emits
			}
			err := x.run(t.Context(), c.encode, c.emit)
			require.ErrorContains(t, err, c.text)
			require.Equal(t, c.kind, fault.KindOf(err))
			x.requireFreed(t)
		})
	}
}

// TestPanicInEmit is the caller's own, on its own goroutine; still nothing is left.
func TestPanicInEmit(t *testing.T) {
	defer noLeak(t)()
	x := newHarness(t, hooks{})
	require.PanicsWithValue(t, "oh no", func() {
		_ = x.run(t.Context(), encodes, func(int64) error { panic("oh no") })
	})
	x.requireFreed(t)
}

// TestCancel cancels in each phase, and at a random moment of it.
func TestCancel(t *testing.T) {
	eachSeed(t, 50, func(t *testing.T, r *rand.Rand) {
		var cancel context.CancelFunc
		var calls atomic.Int64
		moment := 1 + r.Int64N(8)
		// A source that waits for its context, like one that waits for a network; or one that does not notice.
		blocks := r.IntN(2) == 0
		cancelling := func(ctx context.Context) error {
			if calls.Add(1) < moment {
				return nil
			}
			cancel()
			if blocks && ctx != t.Context() {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		phases := map[string]func() (hooks, func(*Batch) error, func(int64) error){
			"listing": func() (hooks, func(*Batch) error, func(int64) error) {
				return hooks{fragments: cancelling}, encodes, emits
			},
			"gathering": func() (hooks, func(*Batch) error, func(int64) error) {
				return hooks{gather: cancelling}, encodes, emits
			},
			"scanning": func() (hooks, func(*Batch) error, func(int64) error) {
				return hooks{keys: func(ctx context.Context, _ int) error { return cancelling(ctx) }}, encodes, emits
			},
			"encoding": func() (hooks, func(*Batch) error, func(int64) error) {
				return hooks{}, func(*Batch) error { return cancelling(t.Context()) }, emits
			},
			"sending": func() (hooks, func(*Batch) error, func(int64) error) {
				return hooks{}, encodes, func(int64) error { return cancelling(t.Context()) }
			},
		}
		for phase, of := range phases {
			t.Run(phase, func(t *testing.T) {
				defer noLeak(t)()
				calls.Store(0)
				var ctx context.Context
				ctx, cancel = context.WithCancel(t.Context())
				defer cancel()
				h, encode, emit := of()
				x := newHarness(t, h)
				err := x.run(ctx, encode, emit)
				if ctx.Err() != nil {
					require.ErrorIs(t, err, context.Canceled)
				} else {
					require.NoError(t, err)
				}
				x.requireFreed(t)
			})
		}
	})
}

// TestSlowReaderSlowsTheWork: while the reader holds a batch, no more than a few others are made.
func TestSlowReaderSlowsTheWork(t *testing.T) {
	defer noLeak(t)()
	x := newHarness(t, hooks{})
	x.budget.total = 1 << 30 // all rows in one part: ten batches
	x.budget.leases = tinyBudget(1 << 30).leases
	ahead := int64(runtime.GOMAXPROCS(0)) + 1
	var most int64
	err := x.run(t.Context(), encodes, func(n int64) error {
		// Let the others run as far as they do.
		for range 1000 {
			runtime.Gosched()
		}
		most = max(most, x.made.Load()-n)
		return nil
	})
	require.NoError(t, err)
	require.LessOrEqual(t, most, ahead)
	require.Equal(t, int64(10), x.sent.Load())
	x.requireFreed(t)
}

// TestRowThatDoesNotFit: one row whose features are more than the memory is an error that says which, and what to do.
func TestRowThatDoesNotFit(t *testing.T) {
	h := &history{view: newView("texts", []feature.Key{{Name: "id", Type: feature.Int64}}, []feature.Feature{{Name: "f", Type: feature.String}}, false)}
	for id := range int64(8) {
		size := 1000
		if id == 5 {
			size = 100_000
		}
		h.rows = append(h.rows, historyRow{keys: []any{id}, event: int64(0), values: []any{strings.Repeat("x", size)}})
	}
	source := &memorySource{history: h, ends: []int{8}, batch: 8}
	rows := newRows(t, weatherSpec(t, source), tinyBudget(16<<10), weatherRecord(t, 8, 5))
	sent, progress := 0, Progress{}
	err := Run(t.Context(), NewSet(rows, &progress), func(b *Batch) (int, error) { return b.Rows, nil }, func(n int) error { sent += n; return nil })
	require.ErrorIs(t, err, pit.ErrTooLarge)
	require.ErrorContains(t, err, "entity row 5 (counted from 0) cannot be joined")
	require.Equal(t, fault.Exhausted, fault.KindOf(err))
	require.Equal(t, 5, sent)
}

// TestPartsAreHalved: where values are larger than was guessed, parts are made smaller, and counted as what they are.
func TestPartsAreHalved(t *testing.T) {
	h := &history{view: newView("texts", []feature.Key{{Name: "id", Type: feature.Int64}}, []feature.Feature{{Name: "f", Type: feature.String}}, false)}
	for id := range int64(40) {
		h.rows = append(h.rows, historyRow{keys: []any{id}, event: int64(0), values: []any{strings.Repeat("x", 1500)}})
	}
	rows := newRows(t, weatherSpec(t, &memorySource{history: h, ends: []int{40}, batch: 8}), tinyBudget(32<<10), weatherRecord(t, 40, 5))
	var progress Progress
	got := collect(t, NewSet(rows, &progress))
	require.Len(t, got.added, 40)
	at := progress.At()
	require.Equal(t, at.Parts, at.Part)
	require.Equal(t, len(got.batches), at.Part)
	require.Greater(t, at.Part, 4)
}

// TestManyProcessorsLittleMemory: what workers hold leaves room for entity rows.
func TestManyProcessorsLittleMemory(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(64))
	scans := 0
	source := &memorySource{history: weather(1, 1), ends: []int{1}, batch: 1}
	source.hooks.fragments = func(context.Context) error { scans++; return nil }
	rows := newRows(t, weatherSpec(t, source), NewBudget(0, nil), weatherRecord(t, 50_000, 5))
	require.NoError(t, Run(t.Context(), NewSet(rows, &Progress{}), func(b *Batch) (int, error) { return b.Rows, nil }, func(int) error { return nil }))
	require.Equal(t, 1, scans)
}

// TestNoRows: a set without entity rows is empty, and its sources are not read.
func TestNoRows(t *testing.T) {
	source := &memorySource{history: weather(2, 2), ends: []int{4}, batch: 4, hooks: hooks{fragments: broken}}
	rows := newRows(t, weatherSpec(t, source), tinyBudget(1<<20), weatherRecord(t, 0, 0))
	set := NewSet(rows, &Progress{})
	got := collect(t, set)
	require.Empty(t, got.added)
	require.Equal(t, contentHash([]plainColumn{{"id", "INT64", nil, zeroOf("INT64")}, {"time", "TIMESTAMP", nil, zeroOf("TIMESTAMP")}, {"weather:temp", "DOUBLE", nil, zeroOf("DOUBLE")}}), got.hash)
}

// TestEntityRowsRefuse: what cannot be right is refused where it comes, with the row or column.
func TestEntityRowsRefuse(t *testing.T) {
	ints := func(values ...any) arrow.Array { return arrayOf(t, arrow.PrimitiveTypes.Int64, values...) }
	at := func(values ...any) arrow.Array {
		return arrayOf(t, &arrow.TimestampType{Unit: arrow.Microsecond}, values...)
	}
	const noon = "2013-01-01T12:00:00"
	record := func(names []string, arrays ...arrow.Array) arrow.RecordBatch { return arrayRecord(names, arrays...) }
	for name, c := range map[string]struct {
		first, second arrow.RecordBatch
		change        func(*Spec)
		text          string
	}{
		"no key":            {first: record([]string{"idd", "time"}, ints("1"), at(noon)), text: `no column "id" (INT64), a key of entity "weather_entity"`},
		"no time":           {first: record([]string{"id", "at"}, ints("1"), at(noon)), text: `no column "time" (TIMESTAMP)`},
		"a key of text":     {first: record([]string{"id", "time"}, arrayOf(t, arrow.BinaryTypes.String, "1"), at(noon)), text: `key "id" must be INT64, not STRING`},
		"a time of numbers": {first: record([]string{"id", "time"}, ints("1"), ints("1")), text: `time column "time" must be TIMESTAMP, not INT64`},
		"a null time": {
			first: record([]string{"id", "time"}, ints("1", "2"), at(noon, noon)), second: record([]string{"id", "time"}, ints("1", "2"), at(noon, nil)),
			text: "entity row 3 (counted from 0): the time is null",
		},
		"too many":              {first: record([]string{"id", "time"}, ints("1", "2", "3", "4"), at(noon, noon, noon, noon)), second: record([]string{"id", "time"}, ints("1"), at(noon)), text: "too many"},
		"two of a name":         {first: record([]string{"id", "time", "id"}, ints("1"), at(noon), ints("1")), text: `two columns are named "id"`},
		"the name of a feature": {first: record([]string{"id", "time", "weather:temp"}, ints("1"), at(noon), ints("1")), text: `"weather:temp" is the name of a feature column`},
		"the name of a status": {
			first: record([]string{"id", "time", "weather:temp:status"}, ints("1"), at(noon), ints("1")), change: func(s *Spec) { s.Statuses = true },
			text: `"weather:temp:status" is the name of a column of the result`,
		},
		"a union": {first: record([]string{"id", "time", "u"}, ints("1"), at(noon), unionOf(t)), text: `entity_rows: column "u": values of Arrow type sparse_union`},
	} {
		t.Run(name, func(t *testing.T) {
			spec := weatherSpec(t, &memorySource{history: weather(1, 1)})
			if c.change != nil {
				c.change(spec)
			}
			rows, err := NewEntityRows(spec, tinyBudget(1<<20), Limits{EntityRows: 4, Exceeded: func() error { return errors.New("too many") }})
			require.NoError(t, err)
			defer func() { require.NoError(t, rows.Close()) }()
			err = rows.Start(c.first.Schema())
			if err == nil {
				err = rows.Append(c.first)
			}
			kept := int64(0)
			if c.second != nil {
				require.NoError(t, err)
				kept = rows.Len()
				err = rows.Append(c.second)
			}
			require.ErrorContains(t, err, c.text)
			require.Equal(t, kept, rows.Len())
		})
	}
	require.ErrorContains(t, (&EntityRows{}).Finish(), "there are no entity rows")
	_, err := NewEntityRows(&Spec{Selection: weatherSpec(t, &memorySource{history: weather(1, 1)}).Selection, CreatedTimeCutoff: true}, tinyBudget(1), Limits{})
	require.Equal(t, fault.Precondition, fault.KindOf(err))
}
