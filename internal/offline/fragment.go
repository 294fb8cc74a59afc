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
	bindings []binding
}

// File gives the file that the rows are in.
func (f *Fragment) File() File { return fileOf(f.source.object) }

// RowGroup gives the place of the row group in its file, from 0.
func (f *Fragment) RowGroup() int { return f.group }

// NumRows is the number of rows, null keys included.
func (f *Fragment) NumRows() int64 { return f.source.footer.groups[f.group].rows }

// Keys streams the keys and times of all rows in row order, at most 8,192 at once. A batch is valid only until yield
// returns; an error of yield ends the stream and is returned as it is.
func (f *Fragment) Keys(ctx context.Context, within feature.TimeRange, yield func(feature.KeyBatch) error) error {
	bindings := f.bindings[:f.table.keyColumns()]
	g, err := f.source.openGroup(ctx, f.group, bindings)
	if err != nil {
		return err
	}
	defer g.close()
	columns := make([]*feature.Column, len(bindings))
	for i, b := range bindings {
		columns[i] = feature.NewColumn(b.t, int(min(batchRows, f.NumRows())))
	}
	batch := feature.KeyBatch{Keys: columns[:f.table.keys], EventTimes: columns[f.table.keys]}
	if f.table.created {
		batch.CreatedTimes = columns[f.table.keys+1]
	}
	for left := f.NumRows(); left > 0; {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read %s: %w", f.source.object.at, err)
		}
		n := int(min(batchRows, left))
		for _, c := range columns {
			c.Reset()
		}
		if err := g.read(columns, n); err != nil {
			return err
		}
		if err := yield(batch); err != nil {
			return err
		}
		batch.First += int64(n)
		left -= int64(n)
	}
	if err := g.finish(); err != nil {
		return err
	}
	return nil
}

// Gather appends, to dst[i], feature columns[i] (an index in the view's Features) of the given rows: their positions in the fragment,
// ascending and distinct. Pages without such rows are not decompressed. After an error, dst may hold part of the rows.
func (f *Fragment) Gather(ctx context.Context, rows []int64, columns []int, dst []*feature.Column) error {
	if len(rows) == 0 || len(columns) == 0 {
		return nil
	}
	if err := f.checkRows(rows); err != nil {
		return err
	}
	bindings := make([]binding, len(columns))
	for i, c := range columns {
		bindings[i] = f.bindings[f.table.keyColumns()+c]
	}
	g, err := f.source.openGroup(ctx, f.group, bindings)
	if err != nil {
		return err
	}
	defer g.close()
	for i := range columns {
		if err := g.gather(ctx, i, rows, dst[i]); err != nil {
			return err
		}
	}
	return nil
}

// checkRows refuses rows that a caller must not ask for.
func (f *Fragment) checkRows(rows []int64) error {
	last := int64(-1)
	for _, row := range rows {
		if row <= last || row >= f.NumRows() {
			return fmt.Errorf("offline: row %d is asked for after row %d, of %d rows", row, last, f.NumRows())
		}
		last = row
	}
	return nil
}
