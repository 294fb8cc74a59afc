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

// LateSource is a Source that knows something of the rows that it left out for being too late.
type LateSource interface {
	Source
	// Later gives, by the URL of the file, the least event time after the range of those rows of the file that Fragments leaves out for that range, or a time before that
	// which is after the range. A file without such rows is not in it. It is called after Fragments.
	Later(within feature.TimeRange) map[string]feature.EventTime
}

// Fragment is a part of a source; see feature.Fragment for its contract.
type Fragment = feature.Fragment
