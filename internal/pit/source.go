// Package pit is the point-in-time join: it finds, for each entity row, the newest feature row that was true at that
// row's time. It is pure: rows come in through Source, columns go out; it knows no files, no wire format.
package pit

import (
	"context"

	"github.com/twofold-ml/twofold/internal/feature"
)

// Source is the history of one feature view.
type Source interface {
	// Fragments returns the parts of the history that may hold rows with an event time in the range, in the canonical order of
	// the source (file name, then position in the file): of two rows with the same entity, event time and created time, the later one in this order wins.
	// pruned is the number of rows in the parts left out. The range is a hint: rows outside it may still come.
	Fragments(ctx context.Context, within feature.TimeRange) (fragments []Fragment, pruned int64, err error)
}

// Fragment is a part of a source, for example one row group of one file. Its methods may be called by several
// goroutines at once, and more than once; each time they give the same rows.
type Fragment interface {
	// NumRows is the number of rows, null keys included.
	NumRows() int64
	// Keys streams the keys and times of all rows in row order, in batches of bounded size. A batch is valid only until
	// yield returns; an error of yield ends the stream and is returned.
	Keys(ctx context.Context, yield func(feature.KeyBatch) error) error
	// Gather appends, to dst[i], feature columns[i] (an index in View.Features) of the given rows: their
	// positions in the fragment, ascending and distinct. Nothing else is appended, whatever the error.
	Gather(ctx context.Context, rows []int64, columns []int, dst []*feature.Column) error
}
