package training

import (
	"context"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/semaphore"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

// eachSeed runs check on n random cases. The seed of a case that fails is printed; TWOFOLD_SEED=<seed> runs that case first.
func eachSeed(t *testing.T, n int, check func(t *testing.T, r *rand.Rand)) {
	t.Helper()
	base := rand.Uint64() >> 16
	if text := os.Getenv("TWOFOLD_SEED"); text != "" {
		var err error
		base, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("seeds from TWOFOLD_SEED=%d", base)
	for i := range n {
		seed := base + uint64(i)
		t.Run(fmt.Sprintf("TWOFOLD_SEED=%d", seed), func(t *testing.T) { check(t, rand.New(rand.NewPCG(seed, 0))) })
		if t.Failed() {
			return
		}
	}
}

// oneOf returns one of some values.
func oneOf[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

// historyRow is one feature row as plain Go values: nil for a null, else bool, int32, int64, float32, float64, string, []byte, or []any of these.
type historyRow struct {
	keys           []any
	event, created any
	values         []any
}

// history is all rows of a view, in the canonical order.
type history struct {
	view *feature.View
	rows []historyRow
}

// appendCell appends a plain value to a column.
func appendCell(c *feature.Column, v any) {
	switch v := v.(type) {
	case nil:
		c.AppendMissing(feature.Null)
	case bool:
		c.AppendBool(v)
	case int32:
		c.AppendInt32(v)
	case int64:
		c.AppendInt64(v)
	case float32:
		c.AppendFloat(v)
	case float64:
		c.AppendDouble(v)
	case string:
		c.AppendString(v)
	case []byte:
		c.AppendBytes(v)
	case []any:
		c.AppendList(func(elem *feature.Column) {
			for _, e := range v {
				appendCell(elem, e)
			}
		})
	default:
		panic(fmt.Sprintf("no cell %T", v))
	}
}

// notFound stands for the value of an entity row for which there is no feature row.
type notFound struct{}

// cellAt is the opposite of appendCell.
func cellAt(c *feature.Column, i int) any {
	if c.Status[i] == feature.NotFound {
		return notFound{}
	}
	return c.ValueAt(i)
}

// text writes a plain value so that only equal values are written alike: floats by their bits.
func text(v any) string {
	switch v := v.(type) {
	case float32:
		return fmt.Sprintf("float32 %08x", math.Float32bits(v))
	case float64:
		return fmt.Sprintf("float64 %016x", math.Float64bits(v))
	case []byte:
		return "bytes " + hex.EncodeToString(v)
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = text(e)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	default:
		return fmt.Sprintf("%T %#v", v, v)
	}
}

// columns returns some rows as columns: keys, event time, created time (where the view has one), features.
func (h *history) columns(rows []historyRow) []*feature.Column {
	var types []feature.Type
	for _, key := range h.view.Entity.Keys {
		types = append(types, key.Type)
	}
	types = append(types, feature.Timestamp)
	if h.view.Source.CreatedTimeColumn != "" {
		types = append(types, feature.Timestamp)
	}
	for _, f := range h.view.Features {
		types = append(types, f.Type)
	}
	columns := make([]*feature.Column, len(types))
	for i, t := range types {
		columns[i] = feature.NewColumn(t, len(rows))
	}
	for _, row := range rows {
		cells := append(append([]any{}, row.keys...), row.event)
		if h.view.Source.CreatedTimeColumn != "" {
			cells = append(cells, row.created)
		}
		for i, v := range append(cells, row.values...) {
			appendCell(columns[i], v)
		}
	}
	return columns
}

// hooks are called by a memorySource, where set; an error is what the method returns.
type hooks struct {
	fragments, gather func(ctx context.Context) error
	keys              func(ctx context.Context, batch int) error
}

// memorySource gives a history in fragments.
type memorySource struct {
	*history
	// ends are where fragments end; the last is the number of rows.
	ends  []int
	batch int
	hooks hooks
}

// newMemorySource cuts a history into random fragments, empty ones among them.
func newMemorySource(r *rand.Rand, h *history) *memorySource {
	s := &memorySource{history: h, batch: 1 + r.IntN(8)}
	for at := 0; at < len(h.rows) || r.IntN(3) == 0; {
		at = min(len(h.rows), at+r.IntN(len(h.rows)+1))
		s.ends = append(s.ends, at)
	}
	return s
}

// Fragments implements pit.Source. It leaves out every fragment that it may leave out.
func (s *memorySource) Fragments(ctx context.Context, within feature.TimeRange) (fragments []pit.Fragment, pruned int64, err error) {
	if s.hooks.fragments != nil {
		if err := s.hooks.fragments(ctx); err != nil {
			return nil, 0, err
		}
	}
	start := 0
	for _, end := range s.ends {
		f := &memoryFragment{s, s.rows[start:end]}
		start = end
		if f.mayHold(within) {
			fragments = append(fragments, f)
		} else {
			pruned += f.NumRows()
		}
	}
	return fragments, pruned, ctx.Err()
}

type memoryFragment struct {
	*memorySource
	rows []historyRow
}

func (f *memoryFragment) mayHold(within feature.TimeRange) bool {
	for _, row := range f.rows {
		if at, ok := row.event.(int64); ok && feature.EventTime(at) >= within.Min && feature.EventTime(at) <= within.Max {
			return true
		}
	}
	return false
}

func (f *memoryFragment) NumRows() int64 { return int64(len(f.rows)) }

func (f *memoryFragment) Keys(ctx context.Context, _ feature.TimeRange, yield func(feature.KeyBatch) error) error {
	keys := len(f.view.Entity.Keys)
	for from := 0; from < len(f.rows); from += f.batch {
		if f.hooks.keys != nil {
			if err := f.hooks.keys(ctx, from/f.batch); err != nil {
				return err
			}
		}
		columns := f.columns(f.rows[from:min(from+f.batch, len(f.rows))])
		batch := feature.KeyBatch{First: int64(from), Keys: columns[:keys], EventTimes: columns[keys]}
		if f.view.Source.CreatedTimeColumn != "" {
			batch.CreatedTimes = columns[keys+1]
		}
		if err := yield(batch); err != nil {
			return err
		}
	}
	return nil
}

func (f *memoryFragment) Gather(ctx context.Context, rows []int64, columns []int, dst []*feature.Column) error {
	if f.hooks.gather != nil {
		if err := f.hooks.gather(ctx); err != nil {
			return err
		}
	}
	for _, row := range rows {
		for i, c := range columns {
			appendCell(dst[i], f.rows[row].values[c])
		}
	}
	return nil
}

// newView returns a view of a new entity.
func newView(name string, keys []feature.Key, features []feature.Feature, created bool) *feature.View {
	view := &feature.View{Name: name, Entity: &feature.Entity{Name: name + "_entity", Keys: keys}, Features: features}
	for i := range features {
		features[i].Column = features[i].Name
	}
	for _, key := range keys {
		view.Source.KeyColumns = append(view.Source.KeyColumns, key.Name)
	}
	view.Source.EventTimeColumn = "event_time"
	if created {
		view.Source.CreatedTimeColumn = "created_time"
	}
	return view
}

// selectFeatures resolves names of features of some views.
func selectFeatures(t testing.TB, names []string, views ...*feature.View) *feature.Selection {
	t.Helper()
	var entities []*feature.Entity
	for _, view := range views {
		entities = append(entities, view.Entity)
	}
	selection, err := feature.NewRegistry(entities, views, nil, "").Select(feature.SelectionQuery{Features: names})
	require.NoError(t, err)
	return selection
}

// tinyBudget is a budget of any size, also of less than NewBudget gives.
func tinyBudget(bytes int64) *Budget {
	return &Budget{leases: semaphore.NewWeighted(bytes), total: bytes}
}

// unlimited is the limits of tests that do not test them.
func unlimited(t testing.TB) Limits {
	return Limits{EntityRows: math.MaxInt64, TempDir: t.TempDir(), Exceeded: func() error { return fault.New(fault.Exhausted, "too many") }}
}

// weather is a small view of one INT64 key and one DOUBLE feature: entities 0 to entities−1, each with times 0 to times−1.
func weather(entities, times int) *history {
	h := &history{view: newView("weather", []feature.Key{{Name: "id", Type: feature.Int64}}, []feature.Feature{{Name: "temp", Type: feature.Double}}, false)}
	for at := range times {
		for id := range entities {
			h.rows = append(h.rows, historyRow{keys: []any{int64(id)}, event: int64(at), values: []any{float64(id*1000 + at)}})
		}
	}
	return h
}

// weatherSpec asks for all features of a weather view.
func weatherSpec(t testing.TB, source *memorySource) *Spec {
	return &Spec{Selection: selectFeatures(t, []string{source.view.Name + ":*"}, source.view), Sources: []pit.Source{source}, TimeColumn: "time", BatchRows: 8192}
}

// weatherRecord is entity rows of ids 0 to rows−1, all at one time.
func weatherRecord(t testing.TB, rows int, at int64) arrow.RecordBatch {
	t.Helper()
	ids, times := feature.NewColumn(feature.Int64, rows), feature.NewColumn(feature.Timestamp, rows)
	for id := range rows {
		ids.AppendInt64(int64(id))
		times.AppendInt64(at)
	}
	return recordOf(t, []string{"id", "time"}, ids, times)
}

// recordOf returns columns as a record.
func recordOf(t testing.TB, names []string, columns ...*feature.Column) arrow.RecordBatch {
	t.Helper()
	var fields []arrow.Field
	var arrays []arrow.Array
	for i, c := range columns {
		a, err := arrowwire.ToArray(c, 0, c.Len())
		require.NoError(t, err)
		fields, arrays = append(fields, arrowwire.Field(names[i], c.Type)), append(arrays, a)
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), arrays, int64(columns[0].Len()))
}

// arrayOf builds an array from the text of its values; nil for a null.
func arrayOf(t testing.TB, dt arrow.DataType, values ...any) arrow.Array {
	t.Helper()
	b := array.NewBuilder(memory.DefaultAllocator, dt)
	for _, v := range values {
		if v == nil {
			b.AppendNull()
		} else {
			require.NoError(t, b.AppendValueFromString(v.(string)), "%v %q", dt, v)
		}
	}
	return b.NewArray()
}

// newRows returns entity rows of some records of one schema, finished.
func newRows(t testing.TB, spec *Spec, budget *Budget, records ...arrow.RecordBatch) *EntityRows {
	t.Helper()
	rows, err := NewEntityRows(spec, budget, unlimited(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, rows.Close()) })
	require.NoError(t, rows.Start(records[0].Schema()))
	for _, record := range records {
		require.NoError(t, rows.Append(record))
	}
	require.NoError(t, rows.Finish())
	return rows
}

// noLeak counts goroutines and, when the function that it returns is called, waits until there are no more than before. It fails
// by the time limit of the test binary, which prints the goroutines that are left.
func noLeak(t testing.TB) func() {
	before := runtime.NumGoroutine()
	return func() {
		for !t.Failed() && runtime.NumGoroutine() > before {
			runtime.Gosched()
		}
	}
}
