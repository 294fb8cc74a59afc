package training

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"golang.org/x/sync/errgroup"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

// Set is one training set in the making: entity rows that are complete, and what is joined to them.
type Set struct {
	spec     *Spec
	rows     *EntityRows
	progress *Progress
	views    []pit.ViewJoin
	schema   *arrow.Schema
	columns  []Column
	hash     *tableHash
	stats    []pit.Stats
	// Rows are sent in blocks of blockRows, Spec.BatchRows, each cut into batches of batchRows: halved until the first batch fitted Spec.BatchBytes. So
	// batches are the same however many parts there are.
	blockRows, batchRows int64
}

// NewSet returns the set of these rows, which are finished.
func NewSet(rows *EntityRows, progress *Progress) *Set {
	spec := rows.spec
	s := &Set{spec: spec, rows: rows, progress: progress, columns: spec.Columns(), stats: make([]pit.Stats, len(spec.Selection.Views))}
	s.blockRows = int64(max(1, spec.BatchRows))
	s.batchRows = s.blockRows
	progress.Came(rows.Len())
	fields := append([]arrow.Field(nil), rows.Schema().Fields()...)
	for _, c := range s.columns {
		fields = append(fields, arrowwire.Field(c.Name, c.Type))
	}
	s.schema = arrow.NewSchema(fields, nil)
	s.hash = newTableHash(s.schema)
	for v, selected := range spec.Selection.Views {
		s.views = append(s.views, pit.ViewJoin{
			View: selected.View, Features: selected.Features, Keys: selected.Keys, TTL: spec.TTL(v), Source: spec.Sources[v],
		})
	}
	return s
}

// TTL is how old a row of a view of the selection may be.
func (s *Spec) TTL(view int) feature.TTL { return s.Selection.Views[view].View.TTL.Tighten(s.MaxAge) }

// Schema is the columns of the result: those of the entity rows, then Spec.Columns.
func (s *Set) Schema() *arrow.Schema { return s.schema }

// Hash identifies the result. Call it after Run.
func (s *Set) Hash() string { return s.hash.sum() }

// Stats says what was read of a view. Call it after Run.
func (s *Set) Stats(view int) pit.Stats { return s.stats[view] }

// Batch is some rows of the result, in order.
type Batch struct {
	// Rows is their number.
	Rows int
	// Entities are the entity rows' columns. They are released when the batch was handed on.
	Entities []arrow.Array
	// Added are the columns of Spec.Columns.
	Added []*feature.Column
}

// Record returns the batch as a record of the set's schema, which the caller releases.
func (b *Batch) Record(schema *arrow.Schema) (arrow.RecordBatch, error) {
	arrays := append(make([]arrow.Array, 0, len(b.Entities)+len(b.Added)), b.Entities...)
	for i, c := range b.Added {
		a, err := arrowwire.ToArray(c, 0, b.Rows)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", schema.Field(len(b.Entities)+i).Name, err)
		}
		arrays = append(arrays, a)
	}
	return array.NewRecordBatch(schema, arrays, int64(b.Rows)), nil
}

// Run joins the rows and calls encode with each batch, several at once, and emit with what encode made, one after the other in the order of the
// rows. A slow emit slows the reading: no more than a few batches wait for it. When ctx is done, or after an error, nothing runs on.
func Run[E any](ctx context.Context, s *Set, encode func(*Batch) (E, error), emit func(E) error) error {
	need := s.fixedBytes() + s.rows.Len()*s.bytesPerRow()
	granted, err := s.rows.budget.acquire(ctx, need, func() { s.progress.enter(Waiting) })
	if err != nil {
		return err
	}
	s.progress.memory.Store(granted.bytes)
	defer func() {
		s.progress.memory.Store(0)
		granted.release()
	}()
	partRows := s.partRows(granted.bytes)
	total := s.rows.Len()
	for from, part := int64(0), 1; from < total || part == 1; {
		to := s.partEnd(from, partRows)
		left := (total - to + partRows - 1) / partRows
		joined, err := s.join(ctx, from, to, s.progress.nextPart(part, part+int(left)), granted.bytes)
		if errors.Is(err, pit.ErrTooLarge) {
			if to-from == 1 {
				return fault.New(fault.Exhausted, "entity row %d (counted from 0) cannot be joined in the %d bytes that one training set may take: %w; "+
					"give the server more memory, or ask for fewer features at once", from, granted.bytes, err)
			}
			partRows = (to - from) / 2
			continue
		}
		if err != nil {
			return err
		}
		s.progress.enter(Sending)
		if err := send(ctx, s, from, to, joined, encode, emit); err != nil {
			return err
		}
		s.count(joined)
		from = to
		part++
	}
	return nil
}

// What one worker holds of feature data and buffers, about: of files that are near, and of those that are fetched ahead.
const (
	workingBytes       = 8 << 20
	remoteWorkingBytes = 24 << 20
)

// fixedBytes is the memory that a join takes whatever the number of rows.
func (s *Set) fixedBytes() int64 {
	if s.spec.Remote {
		return int64(s.spec.workers()) * remoteWorkingBytes
	}
	return int64(s.spec.workers()) * workingBytes
}

// bytesPerRow is the memory that one entity row takes in a join, about. Values of variable length are guessed; where they are larger the join says
// so (pit.ErrTooLarge) and the part is halved.
func (s *Set) bytesPerRow() int64 {
	state, values := pit.BytesPerRow(s.views)
	return state + values + s.rows.bytesPerRow()
}

// valueBytes is the room for the values of a part of so many rows: what its keys and slots leave of the memory, and a quarter of that at least.
func (s *Set) valueBytes(bytes, rows int64) int64 {
	state, _ := pit.BytesPerRow(s.views)
	return max(bytes-rows*(state+s.rows.bytesPerRow()), bytes/4)
}

// partRows is how many entity rows are joined at once in so much memory.
func (s *Set) partRows(bytes int64) int64 {
	// Half at least: on a machine of many processors and little memory, too little for each is better than a scan for every few rows.
	room := max(bytes-s.fixedBytes(), bytes/2)
	return max(1, min(room/s.bytesPerRow(), s.rows.Len()))
}

// partEnd is the end of the part that begins at from and has up to so many rows: whole blocks where it has room for one, else whole batches, which
// are made smaller where it has no room for one.
func (s *Set) partEnd(from, rows int64) int64 {
	end := min(from+rows, s.rows.Len())
	if end == s.rows.Len() {
		return end
	}
	if blocks := end - end%s.blockRows; blocks > from {
		return blocks
	}
	s.shrink(end - from)
	block := from - from%s.blockRows
	return end - (end-block)%s.batchRows
}

// batchEnd is the end of the batch that begins at from.
func (s *Set) batchEnd(from int64) int64 {
	block := from - from%s.blockRows
	return min(from+s.batchRows-(from-block)%s.batchRows, block+s.blockRows, s.rows.Len())
}

// shrink halves batches until they have at most so many rows.
func (s *Set) shrink(rows int64) {
	for s.batchRows > max(1, rows) {
		s.batchRows = (s.batchRows + 1) / 2
	}
}

func (s *Set) join(ctx context.Context, from, to int64, progress *pit.Progress, bytes int64) (*pit.Joined, error) {
	rows, err := s.rows.load(ctx, from, to)
	if err != nil {
		return nil, err
	}
	return pit.Join(ctx, rows, s.views, pit.Options{CreatedTimeCutoff: s.spec.CreatedTimeCutoff, Workers: s.spec.workers(), Progress: progress, MaxBytes: s.valueBytes(bytes, to-from)})
}

// count adds what a part has read.
func (s *Set) count(joined *pit.Joined) {
	for v := range s.stats {
		stats := joined.Stats(v)
		s.stats[v].RowsRead += stats.RowsRead
		s.stats[v].RowsPruned += stats.RowsPruned
		s.stats[v].RowsNull += stats.RowsNull
		s.stats[v].Unmatched += stats.Unmatched
	}
}

// made is some batches of neighbouring rows, mostly one.
type made[E any] struct {
	batches []*Batch
	encoded []E
	err     error
}

// send makes the batches of a part that is joined, some ahead of the one that is handed on.
func send[E any](ctx context.Context, s *Set, from, to int64, joined *pit.Joined, encode func(*Batch) (E, error), emit func(E) error) error {
	first := from
	produce := func(ctx context.Context, from, to int64) made[E] {
		m := made[E]{}
		m.err = fault.Guard(func() error {
			return s.batches(ctx, from, to, int(from-first), joined, func(b *Batch) error {
				m.batches = append(m.batches, b)
				encoded, err := encode(b)
				m.encoded = append(m.encoded, encoded)
				return err
			})
		})
		return m
	}
	consume := func(m made[E]) error {
		defer m.release()
		if m.err != nil {
			return m.err
		}
		for i, b := range m.batches {
			if err := s.hash.add(b.Entities); err != nil {
				return err
			}
			s.hash.addColumns(len(b.Entities), b.Added)
			if err := emit(m.encoded[i]); err != nil {
				return err
			}
			s.progress.done.Add(int64(b.Rows))
		}
		return nil
	}
	if from == 0 {
		s.fit(joined)
	}
	return inOrder(ctx, func(yield func(func(context.Context) made[E]) bool) {
		for from < to {
			start, end := from, min(s.batchEnd(from), to)
			if !yield(func(ctx context.Context) made[E] { return produce(ctx, start, end) }) {
				return
			}
			from = end
		}
	}, consume)
}

func (m *made[E]) release() {
	for _, b := range m.batches {
		releaseArrays(b.Entities)
	}
}

// fit halves the size of batches until the first has at most Spec.BatchBytes. joined is the first part.
func (s *Set) fit(joined *pit.Joined) {
	fits := func(rows int64) bool {
		// What a row takes at least tells much without making a batch, which with thousands of features may be large.
		if rows*s.leastRowBytes() > int64(s.spec.BatchBytes) {
			return false
		}
		return s.batchBytes(rows, s.added(joined, 0, int(rows))) <= int64(s.spec.BatchBytes)
	}
	for rows := min(s.batchRows, int64(joined.Rows())); s.spec.BatchBytes > 0 && rows > 1 && !fits(rows); rows = min(rows, s.batchRows) {
		s.batchRows = (s.batchRows + 1) / 2
	}
}

// batchBytes is the size of a batch of so many rows with these columns added, about.
func (s *Set) batchBytes(rows int64, added []*feature.Column) int64 {
	bytes := s.rows.bytesPerRow() * rows
	for _, c := range added {
		bytes += int64(c.SizeBytes())
	}
	return bytes
}

// leastRowBytes is what one row of a batch takes where every string and list is empty.
func (s *Set) leastRowBytes() int64 {
	bytes := s.rows.bytesPerRow()
	for _, c := range s.columns {
		bytes++ // its status
		if width := c.Type.Width(); width > 0 {
			bytes += int64(width)
		} else {
			bytes += 8
		}
	}
	return bytes
}

// inOrder runs tasks, some at once, and gives their results to consume in the order of the tasks, on the calling goroutine.
func inOrder[T any](ctx context.Context, tasks func(yield func(func(context.Context) T) bool), consume func(T) error) error {
	ctx, cancel := context.WithCancel(ctx)
	group, groupCtx := errgroup.WithContext(ctx)
	defer func() {
		cancel()
		_ = group.Wait() // tells no more than consume was told
	}()
	pending := make(chan chan T, runtime.GOMAXPROCS(0))
	group.Go(func() error {
		defer close(pending)
		tasks(func(task func(context.Context) T) bool {
			result := make(chan T, 1)
			select {
			case pending <- result:
			case <-groupCtx.Done():
				return false
			}
			group.Go(func() error {
				result <- task(groupCtx)
				return nil
			})
			return true
		})
		return nil
	})
	for result := range pending {
		if err := consume(<-result); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// batches makes the rows from from up to but without to into batches of at most Spec.BatchBytes. offset is the place of from in the part.
func (s *Set) batches(ctx context.Context, from, to int64, offset int, joined *pit.Joined, yield func(*Batch) error) error {
	b := &Batch{Rows: int(to - from)}
	b.Added = s.added(joined, offset, offset+b.Rows)
	if b.Rows > 1 && s.spec.BatchBytes > 0 && s.batchBytes(to-from, b.Added) > int64(s.spec.BatchBytes) {
		middle := from + (to-from+1)/2
		if err := s.batches(ctx, from, middle, offset, joined, yield); err != nil {
			return err
		}
		return s.batches(ctx, middle, to, offset+int(middle-from), joined, yield)
	}
	var err error
	if b.Entities, err = s.rows.spool.arrays(ctx, from, to); err != nil {
		return err
	}
	return yield(b)
}

// added returns the columns that are added to some rows of a part.
func (s *Set) added(joined *pit.Joined, from, to int) []*feature.Column {
	byView := make([][]*feature.Column, len(s.views))
	for v, view := range s.views {
		byView[v] = make([]*feature.Column, len(view.Features))
		for i, f := range view.Features {
			byView[v][i] = feature.NewColumn(view.View.Features[f].Type, to-from)
		}
		joined.Batch(v, from, to, byView[v])
	}
	columns := make([]*feature.Column, 0, len(s.columns))
	for _, c := range s.spec.Selection.Columns {
		columns = append(columns, byView[c.View][c.Position])
	}
	if s.spec.EventTimes {
		for v := range s.views {
			times := feature.NewColumn(feature.Timestamp, to-from)
			joined.EventTimes(v, from, to, times)
			columns = append(columns, times)
		}
	}
	if s.spec.Statuses {
		for i := range s.spec.Selection.Columns {
			columns = append(columns, statusesOf(columns[i]))
		}
	}
	return columns
}

// statusesOf returns the statuses of a column as text.
func statusesOf(c *feature.Column) *feature.Column {
	statuses := feature.NewColumn(feature.String, c.Len())
	for _, status := range c.Status {
		statuses.AppendString(status.String())
	}
	return statuses
}
