package pit

import (
	"slices"
	"sync/atomic"

	"github.com/twofold-ml/twofold/internal/feature"
)

// BadReason is why a row cannot be carried. Of several reasons the first counts.
type BadReason uint8

const (
	// NullKey says that a key is null, so that the row belongs to no entity.
	NullKey BadReason = iota
	// NullEventTime says that the event time is null, so that nobody knows when the row became true.
	NullEventTime
	// InvalidText says that the text of a key, or of a feature that is asked for, is not UTF-8, which no message can carry. A key's is found by Latest. A feature's is
	// found by Winners.Batches, which reads it: of rows that won only. No older row takes the place of such a winner, as that would pass off a value as the newest
	// that is known not to be: the entity is left as it is. Of several versions only that one is missing.
	InvalidText
	// FutureEventTime says that the event time is after LatestOptions.MaxEventTime.
	FutureEventTime

	badReasons = iota
)

func (r BadReason) String() string {
	return [badReasons]string{"null_key", "null_event_time", "invalid_text", "future_event_time"}[r]
}

// BadCounts counts bad rows by their reason.
type BadCounts [badReasons]int64

// Total is the number of bad rows: each counts once.
func (c BadCounts) Total() (rows int64) {
	for _, n := range c {
		rows += n
	}
	return rows
}

// BadRows are rows of one fragment that cannot be carried for the same reason. They are valid only until LatestOptions.Bad returns.
type BadRows struct {
	// Fragment is what the source gave; it may be a feature.FileFragment.
	Fragment Fragment
	// Rows are their positions in the fragment, ascending.
	Rows   []int64
	Reason BadReason
}

// badRows counts bad rows and tells of them.
type badRows struct {
	history *history
	told    func(BadRows) error
	counts  [badReasons]atomic.Int64
}

// add counts rows of one fragment, given by their positions in the history, once they have been told.
func (b *badRows) add(reason BadReason, positions []int64) error {
	if len(positions) == 0 {
		return nil
	}
	if b.told != nil {
		f := b.history.fragmentOf(positions[0])
		rows := make([]int64, len(positions))
		for i, position := range positions {
			rows[i] = position - b.history.starts[f]
		}
		if err := b.told(BadRows{Fragment: b.history.fragments[f], Rows: rows, Reason: reason}); err != nil {
			return err
		}
	}
	b.counts[reason].Add(int64(len(positions)))
	return nil
}

func (b *badRows) load() (counts BadCounts) {
	for i := range counts {
		counts[i] = b.counts[i].Load()
	}
	return counts
}

// addIncomplete adds the rows of a batch that have a null in a key or in the event time, but for those of others (leaveOthers).
func (b *badRows) addIncomplete(first int64, batch feature.KeyBatch, others []bool) error {
	var nullKeys, nullTimes []int64
	for i := range batch.Len() {
		switch {
		case others != nil && others[i]:
		case !allPresent(batch.Keys, i):
			nullKeys = append(nullKeys, first+int64(i))
		case !batch.EventTimes.IsPresent(i):
			nullTimes = append(nullTimes, first+int64(i))
		}
	}
	if err := b.add(NullKey, nullKeys); err != nil {
		return err
	}
	return b.add(NullEventTime, nullTimes)
}

// takeInvalidText adds those of the selected rows that have a key that is not UTF-8, and drops them.
func (b *badRows) takeInvalidText(s *scratch, first int64, batch feature.KeyBatch) error {
	var invalid []int32
	for _, key := range batch.Keys {
		for row := range key.InvalidText() {
			invalid = append(invalid, int32(row))
		}
	}
	if len(invalid) == 0 {
		return nil
	}
	slices.Sort(invalid)
	var positions []int64
	s.rows = slices.DeleteFunc(s.rows, func(row int32) bool {
		_, found := slices.BinarySearch(invalid, row)
		if found {
			positions = append(positions, first+int64(row))
		}
		return found
	})
	return b.add(InvalidText, positions)
}
