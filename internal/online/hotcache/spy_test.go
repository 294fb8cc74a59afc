package hotcache

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

// spy is a driver in memory that remembers what it was asked. Its rows are not decoded: the latest that is written is stored.
type spy struct {
	mu     sync.Mutex
	rows   map[string][]byte
	meta   map[string][]byte
	asked  [][]driver.Read // deep copies of the reads of each call
	closed bool

	// before and after, where set, run in each Read before and after the rows are taken; their errors are those of the call.
	before, after func(ctx context.Context, call int) error
	// failing are the entities whose reads fail, with a PartialError where others are read.
	failing map[string]error
	// writeErr is the error of each Scan, which yields nothing, and of each Write, Remove, PutMeta and SwapMeta, which store what they are given all the same.
	writeErr error
}

func newSpy() *spy {
	return &spy{rows: map[string][]byte{}, meta: map[string][]byte{}, failing: map[string]error{}}
}

func rowName(e driver.Entity, view string) string {
	return e.Name + "\x00" + string(e.Key) + "\x00" + view
}

func (s *spy) Read(ctx context.Context, reads []driver.Read) ([][]byte, error) {
	s.mu.Lock()
	call := len(s.asked)
	s.asked = append(s.asked, copyReads(reads))
	before, after := s.before, s.after
	s.mu.Unlock()
	if before != nil {
		if err := before(ctx, call); err != nil {
			return nil, err
		}
	}
	rows, err := s.take(reads)
	if after != nil {
		if err := after(ctx, call); err != nil {
			return nil, err
		}
	}
	return rows, err
}

func copyReads(reads []driver.Read) []driver.Read {
	out := slices.Clone(reads)
	for i := range out {
		out[i].Entity.Key = bytes.Clone(out[i].Entity.Key)
		out[i].Views = slices.Clone(out[i].Views)
	}
	return out
}

func (s *spy) take(reads []driver.Read) ([][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rows [][]byte
	errs, failed := make([]error, len(reads)), 0
	for i, r := range reads {
		if errs[i] = s.failing[string(r.Entity.Key)]; errs[i] != nil {
			failed++
			rows = append(rows, make([][]byte, len(r.Views))...)
			continue
		}
		for _, view := range r.Views {
			row := s.rows[rowName(r.Entity, view)]
			if r.History && row != nil {
				row = append([]byte("history of "), row...)
			}
			rows = append(rows, row)
		}
	}
	switch {
	case failed == 0:
		return rows, nil
	case failed == len(reads):
		return nil, errs[0]
	default:
		return rows, &driver.PartialError{Errs: errs}
	}
}

// put stores a row past the cache.
func (s *spy) put(key, view, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows[rowName(entity(key), view)] = []byte(value)
}

// putMeta stores a small value past the cache; "" removes it.
func (s *spy) putMeta(name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.meta[name] = []byte(value); value == "" {
		delete(s.meta, name)
	}
}

func (s *spy) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

func (s *spy) Write(_ context.Context, rows []driver.Row) ([]driver.Outcome, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	outcomes := make([]driver.Outcome, len(rows))
	for i, r := range rows {
		s.rows[rowName(r.Entity, r.View)] = bytes.Clone(r.Value)
		outcomes[i] = driver.Written
	}
	if s.writeErr != nil {
		return nil, s.writeErr
	}
	return outcomes, nil
}

func (s *spy) Remove(_ context.Context, rows []driver.Removal) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.rows)
	for _, r := range rows {
		delete(s.rows, rowName(r.Entity, r.View))
	}
	return before - len(s.rows), s.writeErr
}

func (s *spy) Scan(context.Context, driver.Scan, func([]driver.ScannedRow) error) error {
	return s.writeErr
}

func (s *spy) GetMeta(_ context.Context, names []string) ([][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	values := make([][]byte, len(names))
	for i, name := range names {
		values[i] = s.meta[name]
	}
	return values, nil
}

func (s *spy) PutMeta(_ context.Context, name string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meta[name] = append([]byte{}, value...)
	return s.writeErr
}

func (s *spy) SwapMeta(_ context.Context, name string, old, value []byte) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stored := s.meta[name]; (stored == nil) != (old == nil) || !bytes.Equal(stored, old) {
		return false, s.writeErr
	}
	if s.meta[name] = bytes.Clone(value); value == nil {
		delete(s.meta, name)
	}
	return true, s.writeErr
}

func (s *spy) PutMark(context.Context, string, []byte) error   { return s.writeErr }
func (s *spy) Marks(context.Context, string) ([][]byte, error) { return [][]byte{nil}, nil }
func (s *spy) Ping(context.Context) error                      { return nil }
func (s *spy) Warnings(context.Context) ([]string, error)      { return []string{"a warning"}, nil }

func (s *spy) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

var errStore = fault.New(fault.Unavailable, "the store is away")

func entity(key string) driver.Entity { return driver.Entity{Name: "user", Key: []byte(key)} }

func ask(key string, views ...string) driver.Read {
	return driver.Read{Entity: entity(key), Views: views}
}

// cached returns a cache with a staleness of a second on a store, closed after the test.
func cached(t *testing.T, s driver.Driver) *Cache {
	t.Helper()
	c := New(s, Options{MaxBytes: 16 << 20, MaxStaleness: time.Second})
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// texts returns rows as texts; "-" is no row.
func texts(rows [][]byte) []string {
	out := make([]string, len(rows))
	for i, row := range rows {
		if out[i] = string(row); row == nil {
			out[i] = "-"
		}
	}
	return out
}

// get reads through the cache and returns the rows as texts.
func get(t *testing.T, c *Cache, reads ...driver.Read) []string {
	t.Helper()
	rows, err := c.Read(t.Context(), reads)
	require.NoError(t, err)
	return texts(rows)
}

// gate holds a call until it is opened, or its context is done.
type gate chan struct{}

func (g gate) wait(ctx context.Context) error {
	select {
	case <-g:
		return nil
	case <-ctx.Done():
		return fault.New(fault.Unavailable, "spy: %w", ctx.Err())
	}
}
