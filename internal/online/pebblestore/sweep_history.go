package pebblestore

import (
	"bytes"
	"context"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

func (s *Store) sweepHistories(ctx context.Context) (removed int, err error) {
	from := []byte{historyPrefix}
	for from != nil {
		var expired [][]byte
		if expired, from, err = s.findExpiredHistories(ctx, from); err != nil {
			return removed, err
		}
		n, err := s.removeHistories(ctx, expired)
		removed += n
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// findExpiredHistories returns the prefixes of histories whose versions are all past, until these have sweepStep versions, and the key to go
// on from, nil at the end.
func (s *Store) findExpiredHistories(ctx context.Context, from []byte) (expired [][]byte, next []byte, err error) {
	versions, err := s.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: []byte{historyPrefix + 1}})
	if err != nil {
		return nil, nil, s.fail("sweep", err)
	}
	defer versions.Close()
	f := historyFinder{now: s.o.Now().UnixMilli()}
	seen := 0
	for ok := versions.First(); ok; ok = versions.Next() {
		if seen++; seen%checkEvery == 0 && ctx.Err() != nil {
			return nil, nil, s.stopped(ctx, "sweep")
		}
		value, err := versions.ValueAndErr()
		if err != nil {
			return nil, nil, s.fail("sweep", err)
		}
		if f.add(versions.Key(), value) && f.versions >= sweepStep {
			return f.expired, slices.Clone(versions.Key()), nil
		}
	}
	if err := versions.Error(); err != nil {
		return nil, nil, s.fail("sweep", err)
	}
	f.end()
	return f.expired, nil, nil
}

// historyFinder finds expired histories among all keys in order.
type historyFinder struct {
	now      int64
	expired  [][]byte
	versions int // of expired

	prefix []byte // of the history at hand; nil is none
	count  int    // its versions
	alive  bool   // it must be kept
}

// add looks at a key and its value. It reports whether the history before has ended with it.
func (f *historyFinder) add(key, value []byte) (ended bool) {
	prefix, suffix, ok := cutHistoryKey(key)
	if !ok {
		return false // a damaged key is kept: to remove it would hide the damage
	}
	if !bytes.Equal(prefix, f.prefix) {
		ended = f.prefix != nil
		f.end()
		f.prefix = slices.Clone(prefix)
	}
	if bytes.Equal(suffix, mark) {
		return ended
	}
	f.count++
	expire, _, err := splitValue(value)
	f.alive = f.alive || err != nil || !isPast(expire, f.now) // a damaged value is kept, and its history with it
	return ended
}

func (f *historyFinder) end() {
	if f.prefix != nil && !f.alive {
		f.expired = append(f.expired, f.prefix)
		f.versions += f.count
	}
	f.prefix, f.count, f.alive = nil, 0, false
}

// removeHistories deletes the histories that are still expired, and returns how many versions they had. It need not be on disk at once.
func (s *Store) removeHistories(ctx context.Context, prefixes [][]byte) (removed int, err error) {
	if len(prefixes) == 0 {
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
	for _, prefix := range prefixes {
		f := historyFinder{now: now}
		var keys [][]byte
		err := s.eachVersion(prefix, func(suffix, value []byte) error {
			key := slices.Concat(prefix, suffix)
			keys = append(keys, key)
			f.add(key, value)
			return nil
		})
		if err != nil {
			return 0, s.fail("sweep", err)
		}
		f.end()
		if len(f.expired) == 0 {
			continue // a version has come, or been renewed, since it was found
		}
		removed += f.versions
		for _, key := range keys {
			if err := batch.Delete(key, nil); err != nil {
				return 0, s.fail("sweep", err)
			}
		}
	}
	if err := s.db.Apply(batch, pebble.NoSync); err != nil {
		return 0, s.fail("sweep", err)
	}
	return removed, nil
}
