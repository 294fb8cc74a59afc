package pebblestore

import (
	"bytes"
	"context"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/storedrow"
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
	if row.EventBefore != nil {
		if is, err := r.s.isBefore(key, row.History, feature.EventTime(*row.EventBefore)); err != nil || !is {
			return err
		}
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

// isBefore reports whether the event time of what is stored under the key of a row, or of the newest version under the prefix of a history, is before another one.
func (s *Store) isBefore(key []byte, history bool, before feature.EventTime) (is bool, err error) {
	if history {
		newest := true
		err := s.eachVersion(key, func(suffix, _ []byte) error {
			if newest {
				is = !bytes.Equal(suffix, mark) && eventOf(suffix) < before
			}
			newest = false
			return nil
		})
		return is, err
	}
	err = s.view(key, func(value []byte) error {
		_, row, err := splitValue(value)
		if err != nil {
			return nil //nolint:nilerr // damaged: nobody can tell
		}
		h, err := storedrow.ParseHeader(row)
		is = err == nil && h.EventTime < before
		return nil
	})
	return is, err
}
