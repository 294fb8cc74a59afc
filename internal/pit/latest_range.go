package pit

import (
	"math"

	"github.com/twofold-ml/twofold/internal/feature"
)

// EventTimes is the range of the winners' event times; its Min is after its Max where there are none.
func (w *Winners) EventTimes() feature.TimeRange {
	within := feature.TimeRange{Min: math.MaxInt64, Max: math.MinInt64}
	for _, r := range w.refs {
		event := w.scan.best(r).event
		within.Min, within.Max = min(within.Min, event), max(within.Max, event)
	}
	return within
}

// Within leaves out the winners whose event times are not in the range.
func (w *Winners) Within(within feature.TimeRange) {
	w.leaveOut(func(r winnerRef) bool {
		event := w.scan.best(r).event
		return event < within.Min || event > within.Max
	})
}
