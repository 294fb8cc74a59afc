package training

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/pit"
)

// answer is a training set as text: the entity columns and the added columns of each row.
type answer struct {
	entities, added []string
	unmatched       []int64
	hash, rowsHash  string
	// batches are the numbers of rows of the batches.
	batches []int
}

// oracle is the training set as one would explain it: for each entity row and view look at every feature row.
func (c *trainCase) oracle(t testing.TB) answer {
	out := answer{unmatched: make([]int64, len(c.spec.Selection.Views))}
	whole := c.record(t, 0, len(c.times))
	columns := c.spec.Columns()
	added, entities, types := make([]plainColumn, len(columns)), make([]plainColumn, len(c.entities)), make([]arrow.DataType, len(c.entities))
	for i, column := range columns {
		added[i] = plainColumn{column.Name, column.Type.String(), []any{}, zeroOf(column.Type.String())}
	}
	for i, column := range c.entities {
		types[i] = wideType(column.dt)
		entities[i] = plainColumn{column.name, column.hashName, []any{}, zeroOf(column.hashName)}
	}
	for _, row := range c.kept() {
		cells := c.join(row, out.unmatched)
		var texts []string
		for i, cell := range cells {
			texts = append(texts, text(cell))
			added[i].cells = append(added[i].cells, cell)
		}
		for i, column := range c.entities {
			entities[i].cells = append(entities[i].cells, column.cells[row])
		}
		out.added = append(out.added, strings.Join(texts, " | "))
		out.entities = append(out.entities, entityText(types, whole.Columns(), row))
	}
	out.rowsHash = contentHash(entities)
	out.hash = contentHash(append(entities, added...))
	return out
}

// join returns the added columns of one entity row.
func (c *trainCase) join(row int, unmatched []int64) (cells []any) {
	var eventTimes, statuses []any
	winners := make([]*historyRow, len(c.spec.Selection.Views))
	for v, view := range c.spec.Selection.Views {
		h := c.histories[slices.IndexFunc(c.histories, func(h *history) bool { return h.view == view.View })]
		var entity []any
		for _, key := range view.View.Entity.Keys {
			entity = append(entity, c.keys[key.Name].cells[row])
		}
		winners[v] = winner(h, entity, c.times[row], view.View.TTL, c.spec.MaxAge, c.spec.CreatedTimeCutoff)
		if winners[v] == nil {
			unmatched[v]++
			eventTimes = append(eventTimes, notFound{})
		} else {
			eventTimes = append(eventTimes, winners[v].event)
		}
	}
	for _, column := range c.spec.Selection.Columns {
		var cell any = notFound{}
		status := "NOT_FOUND"
		if w := winners[column.View]; w != nil {
			cell = w.values[c.spec.Selection.Views[column.View].Features[column.Position]]
			if status = "PRESENT"; cell == nil {
				status = "NULL"
			}
		}
		cells, statuses = append(cells, cell), append(statuses, status)
	}
	if c.spec.EventTimes {
		cells = append(cells, eventTimes...)
	}
	if c.spec.Statuses {
		cells = append(cells, statuses...)
	}
	return cells
}

// winner is the feature row that an entity row at a time gets.
func winner(h *history, entity []any, at int64, ttl, maxAge feature.TTL, cutoff bool) (best *historyRow) {
	for i := range h.rows {
		row := &h.rows[i]
		event, known := row.event.(int64)
		created, hasCreated := row.created.(int64) // 0 where there is none
		usable := known && sameKeys(row.keys, entity) && event <= at
		for _, limit := range []feature.TTL{ttl, maxAge} {
			// The event is not after at, so the difference fits a number without sign.
			usable = usable && (limit == 0 || uint64(at)-uint64(event) <= uint64(limit))
		}
		if cutoff && (!hasCreated || created > at) {
			usable = false
		}
		if !usable {
			continue
		}
		if best != nil {
			bestEvent := best.event.(int64)
			bestCreated, _ := best.created.(int64)
			if bestEvent > event || bestEvent == event && bestCreated > created {
				continue
			}
		}
		best = row
	}
	return best
}

func sameKeys(a, b []any) bool {
	for i := range a {
		if a[i] == nil || b[i] == nil || text(a[i]) != text(b[i]) {
			return false
		}
	}
	return true
}

// entityText is a row of the entity columns in Arrow's own words.
func entityText(types []arrow.DataType, columns []arrow.Array, row int) string {
	texts := make([]string, len(columns))
	for i, column := range columns {
		texts[i] = fmt.Sprintf("%v %s", types[i], column.ValueStr(row))
	}
	return strings.Join(texts, " | ")
}

// way is how a training set is made; the answer must not depend on it.
type way struct {
	// memory is what the call may have, of whatever use; rowsMemory what the entity rows may take before they go to a file.
	memory, rowsMemory    int64
	batchRows, batchBytes int
	workers               int
	parquet               bool
}

func randomWay(r *rand.Rand) way {
	return way{
		memory: oneOf[int64](r, 24<<10, 48<<10, 1<<30), rowsMemory: oneOf[int64](r, 0, 0, 500, 5000, 1<<30),
		batchRows: oneOf(r, 1, 2, 3, 7, 16, 8192), batchBytes: oneOf(r, 0, 0, 200, 5000), workers: 1 + r.IntN(4), parquet: r.IntN(4) == 0,
	}
}

// run makes the training set.
func (c *trainCase) run(t testing.TB, r *rand.Rand, w way) answer {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(w.workers))
	spec := c.spec
	spec.BatchRows, spec.BatchBytes = w.batchRows, w.batchBytes
	for _, view := range spec.Selection.Views {
		h := c.histories[slices.IndexFunc(c.histories, func(h *history) bool { return h.view == view.View })]
		if w.parquet {
			spec.Sources = append(spec.Sources, parquetSource(t, r, h))
		} else {
			spec.Sources = append(spec.Sources, newMemorySource(r, h))
		}
	}
	rows, err := NewEntityRows(&spec, tinyBudget(w.memory), unlimited(t))
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	require.NoError(t, rows.Start(c.schema))
	rows.spool.memoryBytes = w.rowsMemory
	for _, record := range c.records(t, r) {
		require.NoError(t, rows.Append(record))
	}
	require.NoError(t, rows.Finish())
	require.Equal(t, int64(len(c.kept())), rows.Len())
	require.Equal(t, int64(len(c.times)), rows.Len()+rows.Filtered())
	var progress Progress
	set := NewSet(rows, &progress)
	out := collect(t, set)
	require.Equal(t, rows.Len(), progress.At().Done)
	require.Equal(t, rows.Len(), progress.At().EntityRows)
	out.rowsHash = rows.Hash()
	for v := range spec.Sources {
		out.unmatched = append(out.unmatched, set.Stats(v).Unmatched)
	}
	return out
}

// collect runs a set and keeps what it gives.
func collect(t testing.TB, set *Set) (out answer) {
	var encoding atomic.Int64
	type encoded struct{ entities, added []string }
	encode := func(b *Batch) (e encoded, err error) {
		encoding.Add(1)
		record, err := b.Record(set.Schema())
		if err != nil {
			return e, err
		}
		defer record.Release()
		types := make([]arrow.DataType, len(b.Entities))
		for i, a := range b.Entities {
			types[i] = a.DataType()
		}
		for row := range b.Rows {
			e.entities = append(e.entities, entityText(types, b.Entities, row))
			var cells []string
			for _, c := range b.Added {
				cells = append(cells, text(cellAt(c, row)))
			}
			e.added = append(e.added, strings.Join(cells, " | "))
		}
		return e, nil
	}
	err := Run(t.Context(), set, encode, func(e encoded) error {
		out.entities, out.added = append(out.entities, e.entities...), append(out.added, e.added...)
		out.batches = append(out.batches, len(e.added))
		return nil
	})
	require.NoError(t, err)
	out.hash = set.Hash()
	return out
}

// requireSame compares two answers and shows the first row in which they differ.
func requireSame(t testing.TB, want, got answer, w way) {
	t.Helper()
	require.Len(t, got.added, len(want.added), "rows, %+v", w)
	for row := range want.added {
		require.Equal(t, want.entities[row], got.entities[row], "row %d, %+v", row, w)
		require.Equal(t, want.added[row], got.added[row], "row %d, %+v", row, w)
	}
	want.entities, want.added, got.entities, got.added = nil, nil, nil, nil
	require.Equal(t, want, got, "%+v", w)
}

// parquetSource writes a history to Parquet files and returns them as a source.
func parquetSource(t testing.TB, r *rand.Rand, h *history) pit.Source {
	dir := t.TempDir()
	var names []string
	for _, key := range h.view.Entity.Keys {
		names = append(names, key.Name)
	}
	names = append(names, h.view.Source.EventTimeColumn)
	if h.view.Source.CreatedTimeColumn != "" {
		names = append(names, h.view.Source.CreatedTimeColumn)
	}
	for _, f := range h.view.Features {
		names = append(names, f.Column)
	}
	for from, file := 0, 0; from < len(h.rows) || file == 0; file++ {
		to := min(len(h.rows), from+1+r.IntN(len(h.rows)+1))
		record := recordOf(t, names, h.columns(h.rows[from:to])...)
		var b bytes.Buffer
		properties := parquet.NewWriterProperties(parquet.WithMaxRowGroupLength(1+r.Int64N(30)), parquet.WithDictionaryDefault(r.IntN(2) == 0), parquet.WithDataPageSize(64))
		w, err := pqarrow.NewFileWriter(record.Schema(), &b, properties, pqarrow.DefaultWriterProps())
		require.NoError(t, err)
		require.NoError(t, w.WriteBuffered(record))
		require.NoError(t, w.Close())
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%03d.parquet", file)), b.Bytes(), 0o600))
		from = to
	}
	store, err := offline.Open(t.Context(), offline.Config{Path: dir})
	require.NoError(t, err)
	h.view.Source.Path = "*.parquet"
	return store.Table(h.view).Scan()
}

// TestRunEqualsOracle makes training sets in many ways, all of which must give what the oracle does, and all the same hash.
func TestRunEqualsOracle(t *testing.T) {
	eachSeed(t, 150, func(t *testing.T, r *rand.Rand) {
		c := newTrainCase(t, r)
		want := c.oracle(t)
		for range 3 {
			w := randomWay(r)
			got := c.run(t, r, w)
			for _, rows := range got.batches {
				require.LessOrEqual(t, rows, w.batchRows)
			}
			got.batches = nil
			requireSame(t, want, got, w)
		}
	})
}

// TestBatchesDoNotDependOnMemory makes the same set with much memory and with little and expects the same batches: a file that is written
// twice has the same bytes.
func TestBatchesDoNotDependOnMemory(t *testing.T) {
	eachSeed(t, 50, func(t *testing.T, r *rand.Rand) {
		c := newTrainCase(t, r)
		// Little memory is still enough for a batch; else batches must be smaller.
		w := way{memory: 1 << 30, rowsMemory: 1 << 30, batchRows: oneOf(r, 1, 2, 4, 8), batchBytes: oneOf(r, 200, 2000), workers: 1}
		want := c.run(t, rand.New(rand.NewPCG(1, 1)), w)
		w.memory, w.workers = math.MaxInt64>>20, 3
		requireSame(t, want, c.run(t, rand.New(rand.NewPCG(1, 1)), w), w)
		w.memory = 128 << 10
		requireSame(t, want, c.run(t, rand.New(rand.NewPCG(1, 1)), w), w)
	})
}
