package offline

import (
	"context"
	"fmt"

	"github.com/twofold-ml/twofold/internal/feature"
)

// Fragment is one row group of one file of a view's history. Its methods may be called by several goroutines at once, and more
// than once. They read the version of the file that was listed: if it was replaced, they fail with kind Unavailable.
type Fragment struct {
	table    *Table
	source   *source
	group    int
	first    int64 // its first row's number in the file
	bindings []binding
}

// File gives the file that the rows are in.
func (f *Fragment) File() File { return fileOf(f.source.object) }

// Origin gives the URL of the file and the number in it of the row group's first row, from 0.
func (f *Fragment) Origin() (file string, firstRow int64) {
	return f.source.object.at.String(), f.first
}

// RowGroup gives the place of the row group in its file, from 0.
func (f *Fragment) RowGroup() int { return f.group }

// NumRows is the number of rows, null keys included.
func (f *Fragment) NumRows() int64 { return f.source.footer.groups[f.group].rows }

// Keys streams the keys and times of rows in row order, at most 8,192 at once. Pages whose event times are all outside the range are left out, where the
// file has a page index. A batch is valid only until yield returns; an error of yield ends the stream and is returned as it is.
func (f *Fragment) Keys(ctx context.Context, within feature.TimeRange, yield func(feature.KeyBatch) error) error {
	bindings := f.bindings[:f.table.keyColumns()]
	g, err := f.source.newGroupReader(ctx, f.group, bindings)
	if err != nil {
		return err
	}
	ranges, err := f.within(ctx, g, within)
	if err != nil || len(ranges) == 0 {
		g.close()
		return err
	}
	var selected selection = rowRanges(ranges)
	if ranges[0] == f.allRows() {
		selected = nil
	}
	if err := g.openAll(ctx, selected); err != nil {
		return err
	}
	defer g.close()
	columns := make([]*feature.Column, len(bindings))
	for i, b := range bindings {
		columns[i] = newBatchColumn(b.t, f.NumRows())
	}
	at := int64(0)
	for _, r := range ranges {
		if err := g.skip(r.from - at); err != nil {
			return err
		}
		if err := f.stream(ctx, g, r, columns, yield); err != nil {
			return err
		}
		at = r.to
	}
	if at == f.NumRows() {
		return g.finish()
	}
	return nil
}

func (f *Fragment) allRows() rowRange { return rowRange{0, f.NumRows()} }

// within gives the rows whose pages may hold an event time in the range: all, where nothing is known.
func (f *Fragment) within(ctx context.Context, g *groupReader, within feature.TimeRange) ([]rowRange, error) {
	all := []rowRange{f.allRows()}
	event := f.table.keys
	times, ok := feature.TimeRange{}, false
	if b := f.bindings[event]; b.constant == nil {
		times, ok = f.source.footer.groups[f.group].timesOf(b.stored)
	}
	if !ok || (within.Min <= times.Min && times.Max <= within.Max) {
		return all, nil
	}
	index, err := g.readIndexes(ctx, event)
	if err != nil {
		return nil, err
	}
	if ranges, ok := index.pagesWithin(f.bindings[event].stored, g.locations[event], f.NumRows(), times, within, f.table.keepsBad); ok {
		return ranges, nil
	}
	return all, nil
}

// stream yields a range of rows, which the columns are at.
func (f *Fragment) stream(ctx context.Context, g *groupReader, r rowRange, columns []*feature.Column, yield func(feature.KeyBatch) error) error {
	batch := feature.KeyBatch{First: r.from, Keys: columns[:f.table.keys], EventTimes: columns[f.table.keys]}
	if i := f.table.created; i > 0 {
		batch.CreatedTimes = columns[i]
	}
	if i := f.table.deleted; i > 0 {
		batch.Deleted = columns[i]
	}
	for batch.First < r.to {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read %s: %w", f.source.object.at, err)
		}
		n := min(batchRows, r.to-batch.First)
		for _, c := range columns {
			c.Reset()
		}
		if err := g.read(columns, int(n)); err != nil {
			return err
		}
		if err := yield(batch); err != nil {
			return err
		}
		batch.First += n
	}
	return nil
}

// Gather appends, to dst[i], feature columns[i] (an index in the view's Features) of the given rows: their positions in the fragment,
// ascending and distinct. Pages without such rows are not decompressed and, where the file has a page index, not read. After an error,
// dst may hold part of the rows.
func (f *Fragment) Gather(ctx context.Context, rows []int64, columns []int, dst []*feature.Column) error {
	if len(rows) == 0 || len(columns) == 0 {
		return nil
	}
	g, err := f.newGatherer(ctx, rows, columns)
	if err != nil {
		return err
	}
	defer g.close()
	g.prepare(ctx, rowList(rows), false)
	for _, i := range g.inFileOrder() {
		if err := g.open(ctx, i); err != nil {
			return err
		}
		if err := g.gather(i, rows, dst[i]); err != nil {
			return err
		}
		g.closeColumn(i)
	}
	return nil
}

// newGatherer returns a reader of the features columns, of which it knows where the pages are if that may save reading some.
func (f *Fragment) newGatherer(ctx context.Context, rows []int64, columns []int) (*groupReader, error) {
	hole, err := f.checkRows(rows)
	if err != nil {
		return nil, err
	}
	bindings := make([]binding, len(columns))
	for i, c := range columns {
		bindings[i] = f.bindings[f.table.keyColumns()+c]
	}
	g, err := f.source.newGroupReader(ctx, f.group, bindings)
	if err != nil {
		return nil, err
	}
	if f.isWorthAnIndex(g, hole) {
		if err := g.locate(ctx); err != nil {
			g.close()
			return nil, err
		}
	}
	return g, nil
}

// Bytes of a column that are worth reading its index for, to leave them unread.
const (
	localHole  = 32 << 10
	remoteHole = 256 << 10
)

// isWorthAnIndex reports whether so many rows in a row that are not wanted may have pages of some size to themselves.
func (f *Fragment) isWorthAnIndex(g *groupReader, hole int64) bool {
	least := float64(localHole)
	if f.source.object.at.isS3() {
		least = remoteHole
	}
	for i, b := range g.bindings {
		if b.constant == nil && float64(g.chunk(i).length)*float64(hole)/float64(f.NumRows()) >= least {
			return true
		}
	}
	return false
}

// checkRows refuses rows that a caller must not ask for, and gives the largest number of rows in a row that are not asked for.
func (f *Fragment) checkRows(rows []int64) (hole int64, err error) {
	last := int64(-1)
	for _, row := range rows {
		if row <= last || row >= f.NumRows() {
			return 0, fmt.Errorf("offline: row %d is asked for after row %d, of %d rows", row, last, f.NumRows())
		}
		hole = max(hole, row-last-1)
		last = row
	}
	return max(hole, f.NumRows()-last-1), nil
}
