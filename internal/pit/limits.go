package pit

import (
	"errors"
	"sync/atomic"
)

// ErrTooLarge says that the values of the rows that won take more than Options.MaxBytes. Fewer entity rows at once take less.
var ErrTooLarge = errors.New("the joined features take more memory than they may")

// Progress counts what a join, or Latest, has done, for whoever looks while it runs. All views count together. Latest counts Rows and Scanned only.
type Progress struct {
	// Rows is the number of feature rows to look at, as far as the views are listed; Scanned how many were.
	Rows, Scanned atomic.Int64
	// Matched is the number of feature rows that won.
	Matched atomic.Int64
	// Gathering says that the values of some view's winners are being read; FragmentsLeft is how many fragments still have some.
	Gathering     atomic.Bool
	FragmentsLeft atomic.Int64
}

// Sizes of what a join holds, in bytes.
const (
	timeBytes      = 8
	placeBytes     = 4
	candidateBytes = 24
	// internBytes is what a key takes in the table of keys: its number, its hash and room to spare; and the key itself, of unknown length.
	internBytes = 8 * 3
	keyBytes    = 16
	windowBytes = 2
	// variableBytes stands for a value of unknown length.
	variableBytes = 32
	// variableFixedBytes is what it takes beside itself: its status and where it ends.
	variableFixedBytes = 1 + 8
)

// BytesPerRow is about how much memory a join takes for each entity row, where every row matches a feature row of its own: for what it knows of the row, and
// for the values. Strings and lists are guessed: see Options.MaxBytes.
func BytesPerRow(views []ViewJoin) (state, values int64) {
	state = timeBytes + 2*timeBytes
	for _, v := range views {
		// Views with the same keys share an index; counted as if they did not, because few join many views.
		state += placeBytes*3 + timeBytes + internBytes + windowBytes + keyBytes*int64(len(v.Keys))
		state += candidateBytes + 2*placeBytes + timeBytes
		values += winnerBytes(v.View, v.Features)
		for _, f := range v.Features {
			if !isPacked(v.View.Features[f].Type) {
				values += variableBytes
			}
		}
	}
	return state, values
}

// allowance bounds what the values of all views' winners take together. A nil allowance has no bound.
type allowance struct {
	used atomic.Int64
	most int64
}

// left is how many bytes there still is room for, at least 1; 0 where there is no bound.
func (a *allowance) left() int {
	if a == nil {
		return 0
	}
	return int(max(1, a.most-a.used.Load()))
}

// take counts bytes and refuses those past the bound.
func (a *allowance) take(bytes int64) error {
	if a != nil && a.used.Add(bytes) > a.most {
		return ErrTooLarge
	}
	return nil
}
