// Package pebblestore keeps online features in a Pebble database in a local folder: the embedded default, one process, no
// service to run.
//
// # What is stored
//
// A row's key is 1, its entity's name and key, each behind its length as a varint, and the name of its view; its value is
// ExpireAtMillis (8 bytes, big-endian) and the encoded StoredRow. A small value's key is 2 and its name, that of a mark 4 and its name.
//
// A version's key, where several are kept, is 3, its entity's name and key and the name of its view, each behind its length, and 8 bytes: its
// event time with its sign flipped and then every bit, big-endian, so that the newest comes first; its value is like a row's. Where older
// versions than the kept ones were given, nine bytes 0xff take the place of the event time in one more key, with no value.
//
// # Promises
//
// When Write, Remove, PutMeta, SwapMeta or PutMark returns without error, what it changed is on disk (fsync). Writers take turns for the comparison and share the fsync. A row
// past its ExpireAtMillis is never returned; a sweep in the background removes it later. The versions of an entity and view expire together,
// once all of them are past.
package pebblestore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

// Options configure a store.
type Options struct {
	// Path is the folder of the database; it is made where it does not exist.
	Path string
	// InMemory keeps everything in memory and ignores Path. Defaults to false.
	InMemory bool
	// CacheBytes is the memory for blocks read from disk. Defaults to 64 MiB.
	CacheBytes int64
	// SweepInterval is how often expired rows are removed; negative is never. Defaults to 10 minutes.
	SweepInterval time.Duration
	// Now is the wall clock that ExpireAtMillis is compared with. Defaults to time.Now.
	Now func() time.Time

	fs vfs.FS // of tests
}

func (o Options) withDefaults() Options {
	if o.CacheBytes == 0 {
		o.CacheBytes = 64 << 20
	}
	if o.SweepInterval == 0 {
		o.SweepInterval = 10 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.fs == nil {
		o.fs = vfs.Default
		if o.InMemory {
			o.fs = vfs.NewMem()
		}
	}
	return o
}

// Store is a driver.Driver on Pebble.
type Store struct {
	o    Options
	db   *pebble.DB
	name string // for errors

	writing  chan struct{} // holds one element while somebody compares and writes
	unsynced atomic.Int64  // batches that can be read and are not on disk yet
	lastErr  atomic.Pointer[error]

	stopSweeps context.CancelFunc
	sweeps     sync.WaitGroup
}

var _ driver.Driver = (*Store)(nil)

// Open opens the database in o.Path, or makes it. One process at a time can have a folder open; for any other it is an error
// of kind fault.Precondition.
func Open(o Options) (*Store, error) {
	o = o.withDefaults()
	s := &Store{o: o, name: fmt.Sprintf("embedded store %q", o.Path), writing: make(chan struct{}, 1)}
	if o.InMemory {
		s.name = "embedded store in memory"
	} else if o.Path == "" {
		return nil, fault.New(fault.Invalid, "the embedded store needs the path of a folder")
	}
	cache := pebble.NewCache(o.CacheBytes)
	defer cache.Unref()
	options := &pebble.Options{
		FS:                 o.fs,
		Cache:              cache,
		FormatMajorVersion: pebble.FormatNewest,
		Logger:             quiet{},
		EventListener:      &pebble.EventListener{BackgroundError: func(err error) { s.lastErr.Store(&err) }},
	}
	for i := range options.Levels {
		options.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(o.Path, options)
	if err != nil {
		return nil, s.openError(err)
	}
	s.db = db
	ctx, cancel := context.WithCancel(context.Background())
	s.stopSweeps = cancel
	if o.SweepInterval > 0 {
		s.sweeps.Go(func() { s.sweepEvery(ctx, o.SweepInterval) })
	}
	return s, nil
}

func (s *Store) openError(err error) error {
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EACCES) && folderIsWritable(s.o.Path), err.Error() == "lock held by current process":
		return fault.New(fault.Precondition, "another twofold process has the %s open: stop it, give this one another folder, or let both use Redis: %w", s.name, err)
	case pebble.IsCorruptionError(err):
		return fault.New(fault.Corrupt, "the %s is damaged: move the folder away and sync again: %w", s.name, err)
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EROFS):
		return fault.New(fault.Precondition, "the %s cannot be opened: make the folder writable for this user: %w", s.name, err)
	}
	return fault.New(fault.Unavailable, "open the %s: %w", s.name, err)
}

// folderIsWritable tells a lock that another process holds (fcntl may say EACCES) from a folder that is not ours.
func folderIsWritable(path string) bool {
	f, err := os.CreateTemp(path, "probe")
	if err != nil {
		return false
	}
	_ = f.Close()
	return os.Remove(f.Name()) == nil
}

// fail gives an error of Pebble its kind.
func (s *Store) fail(what string, err error) error {
	if pebble.IsCorruptionError(err) || fault.KindOf(err) == fault.Corrupt {
		return fault.New(fault.Corrupt, "%s the %s: it is damaged; move the folder away and sync again: %w", what, s.name, err)
	}
	return fault.New(fault.Unavailable, "%s the %s: %w", what, s.name, err)
}

// stopped is the error of a call whose context is done.
func (s *Store) stopped(ctx context.Context, what string) error {
	return fault.New(fault.Unavailable, "%s the %s: %w", what, s.name, ctx.Err())
}

// checkEvery is how many rows are handled between two looks at the context.
const checkEvery = 256

// Write implements driver.Driver.
func (s *Store) Write(ctx context.Context, rows []driver.Row) ([]driver.Outcome, error) {
	headers := make([]storedrow.Header, len(rows))
	for i := range rows {
		h, err := storedrow.ParseHeader(rows[i].Value)
		if err != nil {
			return nil, fault.New(fault.Internal, "write to the %s: row %d is not a stored row: %w", s.name, i, err)
		}
		headers[i] = h
	}
	outcomes := make([]driver.Outcome, len(rows))
	err := s.change(ctx, func(batch *pebble.Batch) error { return s.decide(ctx, batch, rows, headers, outcomes) })
	if err != nil {
		return nil, err
	}
	return outcomes, nil
}

// change makes the changes that decide puts into a batch, which may depend on what is stored: no other writer changes anything in between. It returns
// when they are on disk, and all that decide may have seen.
func (s *Store) change(ctx context.Context, decide func(batch *pebble.Batch) error) error {
	batch := s.db.NewBatch()
	defer batch.Close()
	if err := s.apply(ctx, batch, decide); err != nil {
		return err
	}
	return s.awaitDisk(batch)
}

// apply lets decide fill the batch and makes its changes readable, in one turn.
func (s *Store) apply(ctx context.Context, batch *pebble.Batch, decide func(batch *pebble.Batch) error) error {
	if ctx.Err() != nil {
		return s.stopped(ctx, "write to")
	}
	select {
	case s.writing <- struct{}{}:
		defer func() { <-s.writing }()
	case <-ctx.Done():
		return s.stopped(ctx, "write to")
	}
	if err := decide(batch); err != nil || batch.Empty() {
		return err
	}
	s.unsynced.Add(1)
	if err := s.db.ApplyNoSyncWait(batch, pebble.Sync); err != nil {
		s.unsynced.Add(-1)
		return s.fail("write to", err)
	}
	return nil
}

// decide fills the batch with the rows that are newer than the stored ones.
func (s *Store) decide(ctx context.Context, batch *pebble.Batch, rows []driver.Row, headers []storedrow.Header, outcomes []driver.Outcome) error {
	turn := turn{s: s, now: s.o.Now().UnixMilli(), batch: batch, pending: map[string]pending{}}
	for i := range rows {
		if i%checkEvery == 0 && ctx.Err() != nil {
			return s.stopped(ctx, "write to")
		}
		outcome, err := turn.apply(&rows[i], headers[i])
		if err != nil {
			return s.fail("write to", err)
		}
		outcomes[i] = outcome
	}
	return nil
}

// awaitDisk returns when everything that the call has written or relied on is on disk.
func (s *Store) awaitDisk(batch *pebble.Batch) error {
	var err error
	if !batch.Empty() {
		err = batch.SyncWait()
		s.unsynced.Add(-1)
	} else if s.unsynced.Load() > 0 {
		err = s.db.LogData(nil, pebble.Sync) // a row that we call stored may be another writer's that is still on its way
	}
	if err != nil {
		return s.fail("write to", err)
	}
	return nil
}

// turn is one writer's turn.
type turn struct {
	s       *Store
	now     int64
	batch   *pebble.Batch
	pending map[string]pending
	// histories are those that the turn has touched, by their prefix.
	histories map[string]*history
	key       []byte
	value     []byte
}

// pending is a row that the batch will store.
type pending struct {
	header storedrow.Header
	row    []byte
	expire int64
}

// apply decides about one row and adds it to the batch where it is to be stored.
func (t *turn) apply(r *driver.Row, h storedrow.Header) (driver.Outcome, error) {
	if r.Versions > 0 {
		return t.applyVersion(r, h)
	}
	t.key = appendRowKey(t.key[:0], r.Entity, r.View)
	old, ok, err := t.stored(t.key)
	if err != nil {
		return 0, err
	}
	if ok && isPast(old.expire, t.now) {
		ok = false // it may be dropped, so it is
	}
	outcome := driver.Written
	if ok {
		switch {
		case string(old.row) == string(r.Value):
			if old.expire == r.ExpireAtMillis {
				return driver.Unchanged, nil
			}
			outcome = driver.Unchanged
		case !h.Newer(old.header):
			return driver.Older, nil
		}
	}
	t.value = binary.BigEndian.AppendUint64(t.value[:0], uint64(r.ExpireAtMillis))
	t.value = append(t.value, r.Value...)
	t.pending[string(t.key)] = pending{h, r.Value, r.ExpireAtMillis}
	return outcome, t.batch.Set(t.key, t.value, nil)
}

// stored returns the row that the next one is compared with. A damaged stored row is as good as none: it is replaced.
func (t *turn) stored(key []byte) (old pending, ok bool, err error) {
	if p, ok := t.pending[string(key)]; ok {
		return p, true, nil
	}
	err = t.s.view(key, func(value []byte) error {
		expire, row, err := splitValue(value)
		if err != nil {
			return nil //nolint:nilerr // damaged: as good as none
		}
		h, err := storedrow.ParseHeader(row)
		if err != nil {
			return nil //nolint:nilerr // damaged: as good as none
		}
		old, ok = pending{h, append([]byte(nil), row...), expire}, true
		return nil
	})
	return old, ok, err
}

// GetMeta implements driver.Driver.
func (s *Store) GetMeta(ctx context.Context, names []string) ([][]byte, error) {
	values := make([][]byte, len(names))
	for i, name := range names {
		if ctx.Err() != nil {
			return nil, s.stopped(ctx, "read")
		}
		var err error
		if values[i], err = s.get(metaKey(name)); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// get returns the value stored under a key, nil for none.
func (s *Store) get(key []byte) (stored []byte, err error) {
	err = s.view(key, func(value []byte) error {
		stored = append([]byte{}, value...)
		return nil
	})
	if err != nil {
		return nil, s.fail("read", err)
	}
	return stored, nil
}

// PutMeta implements driver.Driver.
func (s *Store) PutMeta(ctx context.Context, name string, value []byte) error {
	return s.change(ctx, func(batch *pebble.Batch) error { return batch.Set(metaKey(name), value, nil) })
}

// PutMark implements driver.Driver.
func (s *Store) PutMark(ctx context.Context, name string, value []byte) error {
	return s.change(ctx, func(batch *pebble.Batch) error { return batch.Set(markKey(name), value, nil) })
}

// Marks implements driver.Driver.
func (s *Store) Marks(ctx context.Context, name string) ([][]byte, error) {
	if ctx.Err() != nil {
		return nil, s.stopped(ctx, "read")
	}
	value, err := s.get(markKey(name))
	if err != nil {
		return nil, err
	}
	return [][]byte{value}, nil
}

// SwapMeta implements driver.Driver.
func (s *Store) SwapMeta(ctx context.Context, name string, old, value []byte) (swapped bool, err error) {
	err = s.change(ctx, func(batch *pebble.Batch) error {
		key := metaKey(name)
		stored, err := s.get(key)
		switch {
		case err != nil:
			return err
		case isSameMeta(stored, value):
			swapped = true // it was made before
		case !isSameMeta(stored, old):
		case value == nil:
			swapped = true
			return batch.Delete(key, nil)
		default:
			swapped = true
			return batch.Set(key, value, nil)
		}
		return nil
	})
	return swapped && err == nil, err
}

// isSameMeta reports whether two small values are the same; nil is none.
func isSameMeta(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

// Ping implements driver.Driver.
func (s *Store) Ping(ctx context.Context) error {
	_, err := s.GetMeta(ctx, []string{"ping"})
	return err
}

// Warnings implements driver.Driver.
func (s *Store) Warnings(context.Context) ([]string, error) {
	var warnings []string
	if s.o.InMemory {
		warnings = append(warnings, "The embedded store is in memory: its features are gone when the process ends.")
	}
	if err := s.lastErr.Load(); err != nil {
		warnings = append(warnings, fmt.Sprintf("The %s had an error in the background: %v.", s.name, *err))
	}
	return warnings, nil
}

// Close implements driver.Driver.
func (s *Store) Close() error {
	s.stopSweeps()
	s.sweeps.Wait()
	if err := s.db.Close(); err != nil {
		return fault.New(fault.Unavailable, "close the %s: %w", s.name, err)
	}
	return nil
}

// view lets look see the value stored under key, if there is one.
func (s *Store) view(key []byte, look func(value []byte) error) error {
	value, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(look(value), closer.Close())
}

const (
	rowPrefix     = 1
	metaPrefix    = 2
	historyPrefix = 3
	markPrefix    = 4
)

// appendRowKey appends a key that no other entity and view share, whatever bytes they have.
func appendRowKey(dst []byte, e driver.Entity, view string) []byte {
	dst = append(dst, rowPrefix)
	dst = binary.AppendUvarint(dst, uint64(len(e.Name)))
	dst = append(dst, e.Name...)
	dst = binary.AppendUvarint(dst, uint64(len(e.Key)))
	dst = append(dst, e.Key...)
	return append(dst, view...)
}

func metaKey(name string) []byte { return append([]byte{metaPrefix}, name...) }

func markKey(name string) []byte { return append([]byte{markPrefix}, name...) }

func splitValue(value []byte) (expire int64, row []byte, err error) {
	if len(value) < 8 {
		return 0, nil, fault.New(fault.Corrupt, "a stored value of %d bytes is no row", len(value))
	}
	return int64(binary.BigEndian.Uint64(value)), value[8:], nil
}

// isPast reports whether a row may be dropped.
func isPast(expireAtMillis, nowMillis int64) bool {
	return expireAtMillis != 0 && expireAtMillis <= nowMillis
}

// quiet keeps Pebble from printing: errors come back from its methods, or through the event listener.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic("pebblestore: " + fmt.Sprintf(format, args...))
}
