package driver

import (
	"errors"
	"math"
	"time"

	"github.com/twofold-ml/twofold/internal/fault"
)

// ErrNotKept is what every error of NotKept is.
var ErrNotKept = errors.New("older versions than the kept ones have been dropped")

// NotKept returns the error of a History read whose moment is before the oldest version that is kept of a view, where older ones have
// been dropped. Its kind is fault.Precondition.
func NotKept(r *Read, view string) error {
	return fault.New(fault.Precondition,
		"entity %s %q: what view %q held %s is not known, because %w; ask for a later moment, or use GetHistoricalFeatures; a larger history_versions keeps more from now on",
		r.Entity.Name, r.Entity.Key, view, moment(r.AsOfMicros), ErrNotKept)
}

func moment(micros int64) string {
	if micros == math.MaxInt64 {
		return "last"
	}
	return "at " + time.UnixMicro(micros).UTC().Format(time.RFC3339Nano)
}

// Partly returns the error of a Read whose reads ended with errs, one for each: nil where none failed, the first one where all did, else a
// *PartialError.
func Partly(errs []error) error {
	failed := 0
	var first error
	for _, err := range errs {
		if err == nil {
			continue
		}
		if failed++; first == nil {
			first = err
		}
	}
	switch failed {
	case 0:
		return nil
	case len(errs):
		return first
	default:
		return &PartialError{Errs: errs}
	}
}
