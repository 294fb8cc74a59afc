package feature

import "context"

// Fragment is a part of a source, for example one row group of one file. Its methods may be called by several
// goroutines at once, and more than once; each time they give the same rows.
type Fragment interface {
	// NumRows is the number of rows, null keys included.
	NumRows() int64
	// Keys streams the keys and times of the rows in row order, in batches of bounded size that do not overlap. It may leave out rows that have
	// no event time in the range; the others all come, and rows outside the range may come too. A batch is valid only until yield returns;
	// an error of yield ends the stream and is returned.
	Keys(ctx context.Context, within TimeRange, yield func(KeyBatch) error) error
	// Gather appends, to dst[i], feature columns[i] (an index in View.Features) of the given rows: their
	// positions in the fragment, ascending and distinct. Nothing else is appended, whatever the error.
	Gather(ctx context.Context, rows []int64, columns []int, dst []*Column) error
}

// BatchFragment is a Fragment that can give the values of many rows in several batches without reading anything twice.
type BatchFragment interface {
	Fragment
	// GatherBatches begins to read what Gather would append. The gatherer is nil where that would take too much memory: then Gather is to be called for each batch. Close must
	// follow.
	GatherBatches(ctx context.Context, rows []int64, columns []int) (Gatherer, error)
}

// Gatherer gives rows batch by batch. It is for one goroutine.
type Gatherer interface {
	// Next appends the values of the next n rows, as Gather does. After an error there is nothing left to do but to Close.
	Next(n int, dst []*Column) error
	// Close lets go of what is read from.
	Close()
}

// FileFragment is a Fragment whose rows follow each other in a file.
type FileFragment interface {
	Fragment
	// Origin gives the URL of the file, and the number in it of the fragment's first row, from 0.
	Origin() (file string, firstRow int64)
}
