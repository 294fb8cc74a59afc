package online

import (
	"context"
	"fmt"
	"math"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

// Dropped says what DropExpired did and what it left.
type Dropped struct {
	// Entities is how many entities had rows that were removed.
	Entities int
	// Lasting says that rows were left for which the store has no expiry.
	Lasting bool
	// Oldest is the least event time of those that were left; of an entity with versions, that of the newest counts. math.MaxInt64 where none was left.
	Oldest feature.EventTime
}

// longestKept is more time than there is between any two dates that could be meant, and less than overflows: as farFuture.
const longestKept = feature.TTL(2 * farFuture)

// DropExpired removes the rows of generation 0 of a view that, as of a moment, are older than it keeps rows (feature.View.KeepFor), those for which the store has no
// expiry included; and the versions of each entity of which all are. A row that is written meanwhile stays, unless it is as old. It looks at every stored row of
// the view. After an error some rows are removed; removing them again is safe.
func (s *Store) DropExpired(ctx context.Context, view *feature.View, asOf feature.AsOf) (Dropped, error) {
	dropped := Dropped{Oldest: math.MaxInt64}
	if err := live(ctx, "remove expired features"); err != nil || view.KeepFor() == 0 {
		return dropped, err
	}
	scan, keep := scanOf(view, 0), view.KeepFor()
	before := int64(asOf) - int64(min(keep, longestKept))
	err := s.driver.Scan(ctx, scan, func(rows []driver.ScannedRow) error {
		var removals []driver.Removal
		newest := newestEvents(rows)
		for key, event := range newest {
			if keep.Expired(event, asOf) {
				removals = append(removals, driver.Removal{
					Entity: driver.Entity{Name: scan.Entity, Key: []byte(key)}, View: scan.View, History: scan.History, EventBefore: &before,
				})
				continue
			}
			dropped.Oldest = min(dropped.Oldest, event)
		}
		for _, r := range rows {
			if event, ok := newest[string(r.Key)]; r.ExpireAtMillis == 0 && ok && !keep.Expired(event, asOf) {
				dropped.Lasting = true
			}
		}
		removed, err := s.driver.Remove(ctx, removals)
		dropped.Entities += removed
		return err
	})
	if err != nil {
		return dropped, fmt.Errorf("remove expired rows of view %q: %w", view.Name, err)
	}
	return dropped, nil
}

// newestEvents returns the event time of the newest row of each key. Damaged rows, which have none, are left where they are, for a reader to be told of.
func newestEvents(rows []driver.ScannedRow) map[string]feature.EventTime {
	newest := make(map[string]feature.EventTime, len(rows))
	for _, r := range rows {
		h, err := storedrow.ParseHeader(r.Value)
		if err != nil {
			continue
		}
		if event, ok := newest[string(r.Key)]; !ok || h.EventTime > event {
			newest[string(r.Key)] = h.EventTime
		}
	}
	return newest
}
