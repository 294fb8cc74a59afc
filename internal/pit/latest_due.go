package pit

import (
	"maps"

	"github.com/twofold-ml/twofold/internal/feature"
)

// dueTime is the least event time of some rows that are not due yet; it is not set where there are none.
type dueTime struct {
	at  feature.EventTime
	set bool
}

func (d *dueTime) add(at feature.EventTime) {
	if !d.set || at < d.at {
		d.at, d.set = at, true
	}
}

// dueTimes are when the rows that are after LatestOptions.AsOf come to their time.
type dueTimes struct {
	history *history
	// fragments has what was read of each fragment. A fragment is read by one goroutine.
	fragments []dueTime
	// later is what the source knows of rows that were not read, by file.
	later map[string]feature.EventTime
}

// add adds rows of one batch, whose first position is given.
func (d *dueTimes) add(first int64, at feature.EventTime) {
	d.fragments[d.history.fragmentOf(first)].add(at)
}

// byFile gives the least time of each file that has one.
func (d *dueTimes) byFile() map[string]feature.EventTime {
	due := map[string]feature.EventTime{}
	maps.Copy(due, d.later)
	for i, f := range d.history.fragments {
		inFile, ok := f.(feature.FileFragment)
		if !ok || !d.fragments[i].set {
			continue
		}
		file, _ := inFile.Origin()
		if known, ok := due[file]; !ok || d.fragments[i].at < known {
			due[file] = d.fragments[i].at
		}
	}
	return due
}
