package offline

import (
	"context"

	"github.com/twofold-ml/twofold/internal/feature"
)

// maxOpenBytes is the most that the columns of a row group may take, decompressed, of which a page each is held at once: nobody knows how large pages are until they are read,
// and one may be all of its column.
const maxOpenBytes = 32 << 20

// gatherer gives rows of a fragment batch by batch, all columns side by side.
type gatherer struct {
	group *groupReader
	rows  []int64 // that are still to come
}

var _ feature.BatchFragment = (*Fragment)(nil)

// GatherBatches implements feature.BatchFragment: each page with a wanted row is fetched and decompressed once, however many batches have rows of it.
func (f *Fragment) GatherBatches(ctx context.Context, rows []int64, columns []int) (feature.Gatherer, error) {
	g, err := f.newGatherer(ctx, rows, columns)
	if err != nil {
		return nil, err
	}
	if g.uncompressed() > maxOpenBytes {
		g.close()
		return nil, nil
	}
	if err := g.openAll(ctx, rowList(rows)); err != nil {
		return nil, err
	}
	return &gatherer{group: g, rows: rows}, nil
}

// Next implements feature.Gatherer. No column gets far ahead of the others, so that what is fetched of one is needed of all.
func (g *gatherer) Next(n int, dst []*feature.Column) error {
	for n > 0 {
		rows := g.rows[:min(n, batchRows)]
		for i, c := range dst {
			if err := g.group.gather(i, rows, c); err != nil {
				return err
			}
		}
		g.rows = g.rows[len(rows):]
		n -= len(rows)
	}
	return nil
}

// Close implements feature.Gatherer.
func (g *gatherer) Close() { g.group.close() }
