package pit

import (
	"context"
	"fmt"
	"sync"

	"github.com/twofold-ml/twofold/internal/feature"
)

// Events calls yield with rows of the views' sources whose event time is in the range, of which no key is null and which do not delete their entity: the key columns, in the order of
// the entity rows' (see ViewJoin.Keys), the event times, and the places in both of the rows meant. They come in no particular order, one call at a time, and are valid
// until yield returns. An error says which view it is about, unless it is yield's own.
func Events(ctx context.Context, views []ViewJoin, within feature.TimeRange, yield func(keys []*feature.Column, times *feature.Column, rows []int32) error) error {
	p := newPool(0)
	var mu sync.Mutex
	for i := range views {
		v := &views[i]
		var yielded error
		err := eachEvent(ctx, p, v, within, func(batch feature.KeyBatch, rows []int32) error {
			keys := make([]*feature.Column, len(batch.Keys))
			for k, column := range batch.Keys {
				keys[v.Keys[k]] = column
			}
			mu.Lock()
			defer mu.Unlock()
			if yielded == nil {
				yielded = yield(keys, batch.EventTimes, rows)
			}
			return yielded
		})
		if yielded != nil {
			return yielded
		}
		if err != nil {
			return fmt.Errorf("feature view %q: %w", v.View.Name, err)
		}
	}
	return nil
}

// eachEvent is Events for one view; its yield is called by several goroutines at once.
func eachEvent(ctx context.Context, p *pool, v *ViewJoin, within feature.TimeRange, yield func(batch feature.KeyBatch, rows []int32) error) error {
	h, err := openHistory(ctx, v.View, v.Source, within)
	if err != nil {
		return err
	}
	return h.scan(ctx, p, func(s *scratch, _ int64, batch feature.KeyBatch) error {
		s.selectWithin(batch, false, within)
		s.dropDeleted(batch.Deleted)
		if len(s.rows) == 0 {
			return nil
		}
		return yield(batch, s.rows)
	})
}
