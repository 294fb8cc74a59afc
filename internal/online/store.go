// Package online is the online store as the rest of Twofold sees it: feature columns in, feature columns out. Store holds
// what every backend has in common (row encoding, schemas, freshness, batches); driver.Driver is what a backend adds.
package online

import (
	"context"
	"time"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

// Options configure a Store.
type Options struct {
	// Now is the logical clock, which decides what has expired when it is written. It may run in the past, for a replay of recorded data;
	// stores then drop rows after the same span of real time. Defaults to time.Now.
	Now func() time.Time
	// BatchSize is the most rows that one call of the driver writes. Defaults to 500.
	BatchSize int
	// BulkRowsPerSecond is the most rows a second that all Bulks write together. Defaults to 0, which is no limit.
	BulkRowsPerSecond int
}

// Store reads and writes features of any number of views in one driver's store. Its methods may be called by many goroutines
// at once. Errors have the kinds of the fault package; those of the driver pass with theirs.
type Store struct {
	driver    driver.Driver
	now       func() time.Time // nil: the wall clock
	batchSize int
	schemas   schemas
	bulkLimit rateLimit
}

// NewStore returns a Store on d, which it owns from now on.
func NewStore(d driver.Driver, o Options) *Store {
	if o.BatchSize <= 0 {
		o.BatchSize = 500
	}
	return &Store{driver: d, now: o.Now, batchSize: o.BatchSize, schemas: schemas{driver: d}, bulkLimit: rateLimit{perSecond: o.BulkRowsPerSecond}}
}

// clocks returns the logical time, and how far the wall clock is ahead of it.
func (s *Store) clocks() (now time.Time, ahead time.Duration) {
	wall := time.Now()
	if s.now == nil {
		return wall, 0
	}
	now = s.now()
	return now, wall.Sub(now)
}

// GetMeta returns the small values stored under names, nil for each that is not stored. Names that begin with "schema/" or "synced/" are the Store's own.
func (s *Store) GetMeta(ctx context.Context, names []string) ([][]byte, error) {
	if err := live(ctx, "read small values"); err != nil {
		return nil, err
	}
	return s.driver.GetMeta(ctx, names)
}

// PutMeta stores a small value under a name and replaces what was there. It does not expire.
func (s *Store) PutMeta(ctx context.Context, name string, value []byte) error {
	if err := live(ctx, "write a small value"); err != nil {
		return err
	}
	return s.driver.PutMeta(ctx, name, value)
}

// SwapMeta stores a small value under a name if and only if old is what is stored, byte for byte, as one atomic step against every other
// writer of that name in any process. An old of nil means that nothing may be stored, which an empty value is not; a value of nil removes what is stored. swapped says
// that value is what was stored when the call ended, false that anything else was, and that it stays. See driver.Driver for why each value should be unlike
// all others, and for what may have happened after an error.
func (s *Store) SwapMeta(ctx context.Context, name string, old, value []byte) (swapped bool, err error) {
	if err := live(ctx, "swap a small value"); err != nil {
		return false, err
	}
	return s.driver.SwapMeta(ctx, name, old, value)
}

// PutMark stores a small value under a name once on every server of the store that takes writes, and replaces what was there. It does not expire, and is apart
// from the values of PutMeta.
func (s *Store) PutMark(ctx context.Context, name string, value []byte) error {
	if err := live(ctx, "write a mark"); err != nil {
		return err
	}
	return s.driver.PutMark(ctx, name, value)
}

// Marks returns what PutMark has stored under a name, one element for each server, in no order, nil where there is none: a server that comes back without its
// data has none. Where servers came, went or took over what others had since, some may have none too.
func (s *Store) Marks(ctx context.Context, name string) ([][]byte, error) {
	if err := live(ctx, "read marks"); err != nil {
		return nil, err
	}
	return s.driver.Marks(ctx, name)
}

// Ping reports whether the store can be reached and would serve a request.
func (s *Store) Ping(ctx context.Context) error { return s.driver.Ping(ctx) }

// Warnings returns what an operator should know about the store's configuration, one sentence each.
func (s *Store) Warnings(ctx context.Context) ([]string, error) { return s.driver.Warnings(ctx) }

// Close closes the driver. No method may be called after it.
func (s *Store) Close() error { return s.driver.Close() }

// live returns an error that wraps ctx.Err() where ctx is done.
func live(ctx context.Context, what string) error {
	if err := ctx.Err(); err != nil {
		return fault.New(fault.Unavailable, "%s: %w", what, err)
	}
	return nil
}
