package pit_test

import (
	"context"
	"sync/atomic"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// table is feature rows in memory.
type table struct {
	keys []*feature.Column
	// created and deleted are nil where the table has no such column.
	events, created, deleted *feature.Column
	features                 []*feature.Column
}

func newTable(view *feature.View) *table {
	t := &table{events: feature.NewColumn(feature.Timestamp, 0)}
	if view.Source.CreatedTimeColumn != "" {
		t.created = feature.NewColumn(feature.Timestamp, 0)
	}
	if view.Source.DeletedColumn != "" {
		t.deleted = feature.NewColumn(feature.Bool, 0)
	}
	for _, key := range view.Entity.Keys {
		t.keys = append(t.keys, feature.NewColumn(key.Type, 0))
	}
	for _, f := range view.Features {
		t.features = append(t.features, feature.NewColumn(f.Type, 0))
	}
	return t
}

func (t *table) rows() int { return t.events.Len() }

// isDeleted reports whether a row is a tombstone.
func (t *table) isDeleted(row int) bool { return t.deleted != nil && t.deleted.ValueAt(row) == true }

// columns returns all columns in a fixed order.
func (t *table) columns() []*feature.Column {
	all := append(append([]*feature.Column{}, t.keys...), t.events)
	if t.created != nil {
		all = append(all, t.created)
	}
	if t.deleted != nil {
		all = append(all, t.deleted)
	}
	return append(all, t.features...)
}

// slice returns a copy of the rows from to to.
func (t *table) slice(from, to int) *table {
	places := make([]int, 0, to-from)
	for i := from; i < to; i++ {
		places = append(places, i)
	}
	part := func(c *feature.Column) *feature.Column {
		if c == nil {
			return nil
		}
		d := feature.NewColumn(c.Type, len(places))
		d.Take(c, places, feature.Null)
		return d
	}
	s := &table{events: part(t.events), created: part(t.created), deleted: part(t.deleted)}
	for _, c := range t.keys {
		s.keys = append(s.keys, part(c))
	}
	for _, c := range t.features {
		s.features = append(s.features, part(c))
	}
	return s
}

// memorySource is a source of tables in memory. It leaves out every fragment that it may leave out, to show that the range
// asked for is wide enough.
type memorySource struct {
	fragments []*memoryFragment
	// opened is what the last call of Fragments gave.
	opened atomic.Pointer[openedSource]
}

type openedSource struct {
	fragments []pit.Fragment
	within    feature.TimeRange
}

// openedPart is a batch that is read, with the place in its fragment of its first row.
type openedPart struct {
	*table
	fragment *memoryFragment
	from     int
}

// parts returns the batches that are read where a range of event times is asked for.
func (o *openedSource) parts(within feature.TimeRange) (parts []openedPart) {
	for _, f := range o.fragments {
		f := f.(*memoryFragment)
		for from := 0; from < f.rows(); from += f.batch {
			if part := f.slice(from, min(from+f.batch, f.rows())); !f.prunes || part.mayHold(within) {
				parts = append(parts, openedPart{part, f, from})
			}
		}
	}
	return parts
}

// tables returns the rows that are read where the range is the one that the fragments were asked for.
func (o *openedSource) tables() (tables []*table) {
	for _, part := range o.parts(o.within) {
		tables = append(tables, part.table)
	}
	return tables
}

func (s *memorySource) Fragments(ctx context.Context, within feature.TimeRange) ([]pit.Fragment, int64, error) {
	var fragments []pit.Fragment
	var pruned int64
	for _, f := range s.fragments {
		if f.mayHold(within) {
			fragments = append(fragments, f)
		} else {
			pruned += f.NumRows()
		}
	}
	s.opened.Store(&openedSource{fragments, within})
	return fragments, pruned, ctx.Err()
}

// Later is exact.
func (s *memorySource) Later(within feature.TimeRange) map[string]feature.EventTime {
	later := map[string]feature.EventTime{}
	for _, f := range s.fragments {
		if f.mayHold(within) {
			continue
		}
		for row := range f.rows() {
			if at := feature.EventTime(f.events.Int64s[row]); f.events.IsPresent(row) && at > within.Max {
				addDue(later, f.file, at)
			}
		}
	}
	return later
}

func addDue(due map[string]feature.EventTime, file string, at feature.EventTime) {
	if known, ok := due[file]; !ok || at < known {
		due[file] = at
	}
}

// whole returns all rows of the source in one table.
func (s *memorySource) whole(view *feature.View) *table {
	all := newTable(view)
	for _, f := range s.fragments {
		for i, c := range f.columns() {
			all.columns()[i].AppendColumn(c)
		}
	}
	return all
}

// memoryFragment is a table read in batches.
type memoryFragment struct {
	*table
	batch int
	// prunes leaves out the batches that have no event time in the range.
	prunes bool
	// file is where the rows are, from firstRow on.
	file     string
	firstRow int64
	// batches has it give batches; open is how many gatherers are, and inNext, where it is set, what Next fails with.
	batches bool
	open    atomic.Int32
	inNext  error
}

func (f *memoryFragment) Origin() (file string, firstRow int64) { return f.file, f.firstRow }

// mayHold reports whether a row has an event time in the range.
func (t *table) mayHold(within feature.TimeRange) bool {
	for i := range t.rows() {
		if t.events.IsPresent(i) {
			if at := feature.EventTime(t.events.Int64s[i]); at >= within.Min && at <= within.Max {
				return true
			}
		}
	}
	return false
}

func (f *memoryFragment) NumRows() int64 { return int64(f.rows()) }

func (f *memoryFragment) Keys(_ context.Context, within feature.TimeRange, yield func(feature.KeyBatch) error) error {
	var err error
	for from := 0; from < f.rows() && err == nil; from += f.batch {
		part := f.slice(from, min(from+f.batch, f.rows()))
		if f.prunes && !part.mayHold(within) {
			continue
		}
		err = yield(feature.KeyBatch{First: int64(from), Keys: part.keys, EventTimes: part.events, CreatedTimes: part.created, Deleted: part.deleted})
		// The batch is no longer valid: make sure that nobody looks at it again.
		for _, c := range part.columns() {
			scribble(c)
		}
	}
	return err
}

func scribble(c *feature.Column) {
	for i := range c.Bools {
		c.Bools[i] = !c.Bools[i]
	}
	for i := range c.Int64s {
		c.Int64s[i] = -77
	}
	for i := range c.Int32s {
		c.Int32s[i] = -77
	}
	for i := range c.Data {
		c.Data[i] = 0xEE
	}
}

func (f *memoryFragment) Gather(_ context.Context, rows []int64, columns []int, dst []*feature.Column) error {
	last := int64(-1)
	for _, row := range rows {
		if row <= last {
			panic("rows are not ascending and distinct")
		}
		last = row
		for i, c := range columns {
			dst[i].AppendFrom(f.features[c], int(row))
		}
	}
	return nil
}

func (f *memoryFragment) GatherBatches(_ context.Context, rows []int64, columns []int) (feature.Gatherer, error) {
	if !f.batches {
		return nil, nil
	}
	f.open.Add(1)
	return &memoryGatherer{f, rows, columns}, nil
}

type memoryGatherer struct {
	of      *memoryFragment
	rows    []int64
	columns []int
}

func (g *memoryGatherer) Next(n int, dst []*feature.Column) error {
	if g.of.inNext != nil {
		return g.of.inNext
	}
	rows := g.rows[:n]
	g.rows = g.rows[n:]
	return g.of.Gather(context.Background(), rows, g.columns, dst)
}

func (g *memoryGatherer) Close() { g.of.open.Add(-1) }

// newView returns a view of a new entity with the given keys.
func newView(name string, keys []feature.Key, features []feature.Feature, created bool) *feature.View {
	view := &feature.View{Name: name, Entity: &feature.Entity{Name: name + "_entity", Keys: keys}, Features: features}
	view.Source.EventTimeColumn = "event_time"
	if created {
		view.Source.CreatedTimeColumn = "created_time"
	}
	return view
}
