package pebblestore

import (
	"bytes"
	"context"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/twofold-ml/twofold/internal/online/driver"
)

// Remove implements driver.Driver.
func (s *Store) Remove(ctx context.Context, rows []driver.Removal) (removed int, err error) {
	err = s.change(ctx, func(batch *pebble.Batch) error {
		r := removing{s: s, now: s.o.Now().UnixMilli(), batch: batch, gone: map[string]bool{}}
		for i := range rows {
			if i%checkEvery == 0 && ctx.Err() != nil {
				return s.stopped(ctx, "write to")
			}
			if err := r.remove(&rows[i]); err != nil {
				return s.fail("write to", err)
			}
		}
		removed = r.removed
		return nil
	})
	if err != nil {
		return 0, err
	}
	return removed, nil
}

// removing is one Remove's turn.
type removing struct {
	s       *Store
	now     int64
	batch   *pebble.Batch
	gone    map[string]bool // keys of rows, and prefixes of histories, that the batch deletes
	removed int             // of them, those that were not past
}

// remove adds the deletion of a row or a history to the batch.
func (r *removing) remove(row *driver.Removal) error {
	var key []byte
	if row.History {
		key = appendHistoryPrefix(nil, row.Entity, row.View)
	} else {
		key = appendRowKey(nil, row.Entity, row.View)
	}
	if r.gone[string(key)] {
		return nil
	}
	r.gone[string(key)] = true
	alive := false
	look := func(value []byte) {
		expire, _, err := splitValue(value)
		alive = alive || err != nil || !isPast(expire, r.now) // a damaged row is one too
	}
	var err error
	if row.History {
		err = r.s.eachVersion(key, func(suffix, value []byte) error {
			if !bytes.Equal(suffix, mark) {
				look(value)
			}
			return r.batch.Delete(slices.Concat(key, suffix), nil)
		})
	} else {
		err = r.s.view(key, func(value []byte) error {
			look(value)
			return r.batch.Delete(key, nil)
		})
	}
	if alive {
		r.removed++
	}
	return err
}
