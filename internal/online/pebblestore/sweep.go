package pebblestore

import (
	"context"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// sweepStep is the most expired rows that one turn removes, so that a sweep never keeps a writer waiting for long.
const sweepStep = 1000

// sweepEvery removes expired rows now and then again after each interval, until ctx is done. An error ends one sweep only: the rows
// are not returned in any case, and Warnings tells of it.
func (s *Store) sweepEvery(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if _, err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.lastErr.Store(&err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Sweep removes the rows that are past their ExpireAtMillis and returns how many they were.
func (s *Store) Sweep(ctx context.Context) (removed int, err error) {
	if removed, err = s.sweepRows(ctx); err != nil {
		return removed, err
	}
	versions, err := s.sweepHistories(ctx)
	return removed + versions, err
}

func (s *Store) sweepRows(ctx context.Context) (removed int, err error) {
	from := []byte{rowPrefix}
	for from != nil {
		var expired [][]byte
		if expired, from, err = s.findExpired(ctx, from); err != nil {
			return removed, err
		}
		n, err := s.remove(ctx, expired)
		removed += n
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// findExpired returns up to sweepStep keys of expired rows, and the key to go on from, nil at the end.
func (s *Store) findExpired(ctx context.Context, from []byte) (expired [][]byte, next []byte, err error) {
	rows, err := s.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: []byte{rowPrefix + 1}})
	if err != nil {
		return nil, nil, s.fail("sweep", err)
	}
	defer rows.Close()
	now := s.o.Now().UnixMilli()
	seen := 0
	for ok := rows.First(); ok; ok = rows.Next() {
		if seen++; seen%checkEvery == 0 && ctx.Err() != nil {
			return nil, nil, s.stopped(ctx, "sweep")
		}
		if len(expired) == sweepStep {
			return expired, append([]byte(nil), rows.Key()...), nil
		}
		value, err := rows.ValueAndErr()
		if err != nil {
			return nil, nil, s.fail("sweep", err)
		}
		if expire, _, err := splitValue(value); err == nil && isPast(expire, now) {
			expired = append(expired, append([]byte(nil), rows.Key()...))
		}
	}
	if err := rows.Error(); err != nil {
		return nil, nil, s.fail("sweep", err)
	}
	return expired, nil, nil
}

// remove deletes the rows that are still expired: a newer one may have come since they were found. It need not be on disk at once.
func (s *Store) remove(ctx context.Context, keys [][]byte) (removed int, err error) {
	if len(keys) == 0 {
		return 0, nil
	}
	select {
	case s.writing <- struct{}{}:
		defer func() { <-s.writing }()
	case <-ctx.Done():
		return 0, s.stopped(ctx, "sweep")
	}
	now := s.o.Now().UnixMilli()
	batch := s.db.NewBatch()
	defer batch.Close()
	for _, key := range keys {
		err := s.view(key, func(value []byte) error {
			if expire, _, err := splitValue(value); err != nil || !isPast(expire, now) {
				return nil //nolint:nilerr // a damaged value is kept: to remove it would hide the damage
			}
			removed++
			return batch.Delete(key, nil)
		})
		if err != nil {
			return 0, s.fail("sweep", err)
		}
	}
	if err := s.db.Apply(batch, pebble.NoSync); err != nil {
		return 0, s.fail("sweep", err)
	}
	return removed, nil
}
