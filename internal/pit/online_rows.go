package pit

import "github.com/twofold-ml/twofold/internal/feature"

// OnlineRows are the options by which Latest finds the rows that the online store would keep of a view as of a moment, had it been given every row of the
// source. Whoever carries rows there and whoever checks what is stored go by it, so that they cannot mean different rows.
func OnlineRows(view *feature.View, asOf feature.AsOf) LatestOptions {
	o := LatestOptions{AsOf: asOf, MaxEventTime: maxEventTime(view, asOf)}
	if view.HistoryVersions == 0 {
		o.MaxAge = view.KeepFor()
	} else {
		o.Versions = view.HistoryVersions
	}
	return o
}

// maxEventTime is the latest event time of a row that is not bad; 0 is any.
func maxEventTime(view *feature.View, asOf feature.AsOf) feature.EventTime {
	most := view.Sync.BadRows.MaxFuture
	if most < 0 {
		return 0
	}
	return feature.EventTime(int64(asOf) + most.Microseconds())
}

// gatherBytes is about how much of feature values is held at a time.
const gatherBytes = 32 << 20

// GatherRows is how many rows of a view Winners.Batches should read at a time: many, because each batch of a row group that is too large for feature.BatchFragment
// reads it again, but no more than take about 32 MiB.
func GatherRows(view *feature.View) int {
	rowBytes := 64
	for _, f := range view.Features {
		switch {
		case f.Type.IsList():
			rowBytes += 4096
		case f.Type.Width() > 0:
			rowBytes += 10
		default:
			rowBytes += 40
		}
	}
	return min(max(gatherBytes/rowBytes, view.Sync.BatchSize), 1<<17)
}
