package hotcache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

// TestStaleness moves a clock to the moment until which a row is served, which counts from the beginning of the fetch.
func TestStaleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpy()
		s.before = func(context.Context, int) error { time.Sleep(300 * time.Millisecond); return nil }
		c := cached(t, s)
		s.put("a", "v", "1")
		begun := time.Now()
		require.Equal(t, []string{"1", "-"}, get(t, c, ask("a", "v", "none")))
		require.Equal(t, 300*time.Millisecond, time.Since(begun))
		s.put("a", "v", "2")
		s.put("a", "none", "there now")

		time.Sleep(time.Until(begun.Add(time.Second)))
		require.Equal(t, []string{"1", "-"}, get(t, c, ask("a", "v", "none")), "exactly a second old is not too old, and no row is a row")
		require.Equal(t, 1, s.calls())
		time.Sleep(time.Nanosecond)
		require.Equal(t, []string{"2", "there now"}, get(t, c, ask("a", "v", "none")))
		require.Equal(t, 2, s.calls())
	})
}

// TestSlowFetchIsNotJoined starts a fetch that takes longer than a row may be served: a read that comes too late for it asks anew.
func TestSlowFetchIsNotJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpy()
		s.after = func(_ context.Context, call int) error {
			time.Sleep([]time.Duration{5 * time.Second, time.Second / 2}[call])
			return nil
		}
		c := cached(t, s)
		s.put("a", "v", "1")
		var readers sync.WaitGroup
		for _, delay := range []time.Duration{0, time.Second} { // both are of the first fetch
			readers.Go(func() {
				time.Sleep(delay)
				require.Equal(t, []string{"1"}, get(t, c, ask("a", "v")))
			})
		}
		time.Sleep(time.Second + 1)
		s.put("a", "v", "2")
		require.Equal(t, []string{"2"}, get(t, c, ask("a", "v")))
		readers.Wait()
		require.Equal(t, 2, s.calls())
		require.Equal(t, 5*time.Second, c.rows.now(), "the first fetch is over")
		_, err := c.Read(t.Context(), nil)
		require.NoError(t, err)
		require.Nil(t, c.rows.get(c.hashOf("a"), entity("a")), "what it brought was too old to be kept over what the second one had brought")
	})
}

func (c *Cache) hashOf(key string) uint64 { return c.rows.hash(entity(key)) }

// TestSingleFlight has many readers of one row: the store is asked once, and all have the row.
func TestSingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, held := newSpy(), make(gate)
		s.before = func(ctx context.Context, _ int) error { return held.wait(ctx) }
		c := cached(t, s)
		s.put("a", "v", "1")
		var readers sync.WaitGroup
		for range 50 {
			readers.Go(func() { require.Equal(t, []string{"1", "1"}, get(t, c, ask("a", "v"), ask("a", "v"))) })
		}
		synctest.Wait()
		require.Equal(t, [][]driver.Read{{ask("a", "v")}}, s.asked)
		close(held)
		readers.Wait()
		require.Equal(t, []string{"1"}, get(t, c, ask("a", "v")))
		require.Equal(t, 1, s.calls())
		require.Equal(t, [3]uint64{1, 1, 99}, c.results())
	})
}

// results returns how many rows were hits, misses and shared.
func (c *Cache) results() [3]uint64 {
	return [3]uint64{c.counters.hits.Load(), c.counters.misses.Load(), c.counters.shared.Load()}
}

// TestOverlap reads 100 entities, of which 90 are in memory and 5 are being fetched: the other 5 are asked for in one call.
func TestOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, held := newSpy(), make(gate)
		s.before = func(ctx context.Context, call int) error {
			if call == 1 {
				return held.wait(ctx)
			}
			return nil
		}
		c := cached(t, s)
		var all []driver.Read
		var want []string
		for i := range 100 {
			key := fmt.Sprint(i)
			s.put(key, "v", "v"+key)
			s.put(key, "w", "w"+key)
			all, want = append(all, ask(key, "v", "w")), append(want, "v"+key, "w"+key)
		}
		get(t, c, all[:90]...)
		var readers sync.WaitGroup
		readers.Go(func() { require.Equal(t, want[180:190], get(t, c, all[90:95]...)) })
		synctest.Wait()
		readers.Go(func() { require.Equal(t, want, get(t, c, all...)) })
		synctest.Wait()
		require.Equal(t, [][]driver.Read{all[:90], all[90:95], all[95:]}, s.asked)
		close(held)
		readers.Wait()
		require.Equal(t, want, get(t, c, all...))
		require.Equal(t, 3, s.calls())
		require.Equal(t, [3]uint64{180 + 200, 200, 10}, c.results())
	})
}

// TestViews asks for those views only that are neither in memory nor on their way.
func TestViews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, held := newSpy(), make(gate)
		s.before = func(ctx context.Context, call int) error {
			if call == 1 {
				return held.wait(ctx)
			}
			return nil
		}
		c := cached(t, s)
		for _, key := range []string{"a", "b", "c"} {
			for _, view := range []string{"u", "v", "w", "x"} {
				s.put(key, view, key+view)
			}
		}
		get(t, c, ask("a", "u"), ask("b", "u"))
		var readers sync.WaitGroup
		readers.Go(func() { require.Equal(t, []string{"aw", "bw"}, get(t, c, ask("a", "w"), ask("b", "w"))) })
		synctest.Wait()
		reads := []driver.Read{ask("a", "x", "w", "v", "u"), ask("c"), ask("b", "u", "v", "w", "x"), ask("a", "v"), ask("c", "v", "w")}
		want := []string{"ax", "aw", "av", "au", "bu", "bv", "bw", "bx", "av", "cv", "cw"}
		readers.Go(func() { require.Equal(t, want, get(t, c, reads...)) })
		synctest.Wait()
		require.Equal(t, []driver.Read{ask("a", "x", "v"), ask("b", "v", "x"), ask("c", "v", "w")}, s.asked[2])
		close(held)
		readers.Wait()
		require.Equal(t, want, get(t, c, reads...))
		require.Equal(t, 3, s.calls())
	})
}

// TestViewsGrowOldOneByOne has the rows of one entity come at different times: each is as old as it is.
func TestViewsGrowOldOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpy()
		c := cached(t, s)
		for _, view := range []string{"u", "v", "w"} {
			s.put("a", view, view+" 1")
		}
		get(t, c, ask("a", "v"))
		time.Sleep(600 * time.Millisecond)
		require.Equal(t, []string{"u 1", "v 1", "w 1"}, get(t, c, ask("a", "u", "v", "w")))
		for _, view := range []string{"u", "v", "w"} {
			s.put("a", view, view+" 2")
		}
		time.Sleep(400*time.Millisecond + 1)
		require.Equal(t, []string{"u 1", "v 2", "w 1"}, get(t, c, ask("a", "u", "v", "w")))
		time.Sleep(600 * time.Millisecond)
		require.Equal(t, []string{"w 2", "v 2", "u 2"}, get(t, c, ask("a", "w", "v", "u")))
		require.Equal(t, [][]driver.Read{{ask("a", "v")}, {ask("a", "u", "w")}, {ask("a", "v")}, {ask("a", "w", "u")}}, s.asked)
		for range 2 { // the memory of what was replaced is not kept
			time.Sleep(900 * time.Millisecond)
			get(t, c, ask("a", "v", "u", "w"))
		}
		require.Len(t, c.rows.get(c.hashOf("a"), entity("a")).rows, 3)
	})
}

// TestFailedFetch has an error reach all who waited, and nobody who comes later.
func TestFailedFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, held := newSpy(), make(gate)
		s.before = func(ctx context.Context, call int) error {
			if call == 1 {
				return errors.Join(held.wait(ctx), errStore)
			}
			return nil
		}
		c := cached(t, s)
		s.put("a", "v", "1")
		s.put("b", "v", "2")
		get(t, c, ask("b", "v"))
		var readers sync.WaitGroup
		for range 3 {
			readers.Go(func() {
				rows, err := c.Read(t.Context(), []driver.Read{ask("a", "v")})
				require.Equal(t, fault.Unavailable, fault.KindOf(err))
				require.ErrorIs(t, err, errStore)
				require.Nil(t, rows)
			})
		}
		readers.Go(func() {
			rows, err := c.Read(t.Context(), []driver.Read{ask("a", "v"), ask("b", "v")})
			partial, ok := errors.AsType[*driver.PartialError](err)
			require.True(t, ok, "%v", err)
			require.ErrorIs(t, partial.Errs[0], errStore)
			require.NoError(t, partial.Errs[1], "what is in memory does not fail with the store")
			require.Equal(t, []string{"-", "2"}, texts(rows))
		})
		synctest.Wait()
		require.Equal(t, 2, s.calls())
		close(held)
		readers.Wait()
		require.Equal(t, []string{"1"}, get(t, c, ask("a", "v")))
		require.Equal(t, 3, s.calls())
	})
}

// TestPartialError has the reads of one call fail one by one.
func TestPartialError(t *testing.T) {
	s := newSpy()
	c := cached(t, s)
	for _, key := range []string{"a", "b", "c"} {
		s.put(key, "v", key+"v")
		s.put(key, "w", key+"w")
	}
	s.failing["b"] = errStore
	get(t, c, ask("a", "v", "w"))
	reads := []driver.Read{ask("b", "v", "w"), ask("a", "v"), ask("c", "w", "v"), ask("b", "w")}
	for range 2 {
		rows, err := c.Read(t.Context(), reads)
		partial, ok := errors.AsType[*driver.PartialError](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, []error{errStore, nil, nil, errStore}, partial.Errs)
		require.Equal(t, []string{"-", "-", "av", "cw", "cv", "-"}, texts(rows))
	}
	require.Equal(t, []driver.Read{ask("b", "v", "w")}, s.asked[2], "the read that did not fail was kept")

	rows, err := c.Read(t.Context(), reads[:1])
	require.Nil(t, rows)
	require.Equal(t, errStore, err, "where all fail, nothing could be read")

	s.failing = nil
	get(t, c, ask("b", "v"))
	s.failing = map[string]error{"b": errStore}
	rows, err = c.Read(t.Context(), []driver.Read{ask("b", "v", "x"), ask("a", "v")})
	require.Error(t, err)
	require.Equal(t, []string{"-", "-", "av"}, texts(rows), "a read that failed has no rows, not even those in memory")
}

// TestWrongAnswer is about a driver that breaks the contract.
func TestWrongAnswer(t *testing.T) {
	for name, answer := range map[string]func() ([][]byte, error){
		"too few rows":           func() ([][]byte, error) { return make([][]byte, 1), nil },
		"partial without rows":   func() ([][]byte, error) { return nil, &driver.PartialError{Errs: []error{nil, errStore}} },
		"partial for fewer":      func() ([][]byte, error) { return make([][]byte, 2), &driver.PartialError{Errs: []error{errStore}} },
		"a panic, and no answer": func() ([][]byte, error) { panic("broken") },
	} {
		t.Run(name, func(t *testing.T) {
			c := cached(t, &wrong{spy: newSpy(), answer: answer})
			rows, err := c.Read(t.Context(), []driver.Read{ask("a", "v"), ask("b", "v")})
			require.Nil(t, rows)
			require.Error(t, err)
			require.Equal(t, fault.Internal, fault.KindOf(err))
		})
	}
}

type wrong struct {
	*spy
	answer func() ([][]byte, error)
}

func (w *wrong) Read(context.Context, []driver.Read) ([][]byte, error) { return w.answer() }

// TestCancelledCallerFailsNobodyElse ends the call that started a fetch, and one that joined it.
func TestCancelledCallerFailsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, held := newSpy(), make(gate)
		s.before = func(ctx context.Context, _ int) error { return held.wait(ctx) }
		c := cached(t, s)
		s.put("a", "v", "1")
		type key struct{}
		owner, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "kept"))
		joined, cancelJoined := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancelJoined()
		var readers sync.WaitGroup
		for ctx, want := range map[context.Context]error{owner: context.Canceled, joined: context.DeadlineExceeded} {
			readers.Go(func() {
				rows, err := c.Read(ctx, []driver.Read{ask("a", "v")})
				require.Nil(t, rows)
				require.ErrorIs(t, err, want)
				require.Equal(t, fault.Unavailable, fault.KindOf(err))
			})
			synctest.Wait()
		}
		cancel()
		readers.Wait()
		readers.Go(func() { require.Equal(t, []string{"1"}, get(t, c, ask("a", "v"))) })
		synctest.Wait()
		close(held)
		readers.Wait()
		require.Equal(t, 1, s.calls())
	})
}

// TestStoreThatNeverAnswers bounds a fetch by the cache's own time, which is not the deadline of any caller.
func TestStoreThatNeverAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, held := newSpy(), make(gate)
		s.before = func(ctx context.Context, _ int) error { return held.wait(ctx) }
		c := cached(t, s)
		begun := time.Now()
		_, err := c.Read(t.Context(), []driver.Read{ask("a", "v")})
		require.Equal(t, 10*time.Second, time.Since(begun))
		require.Equal(t, fault.Unavailable, fault.KindOf(err))
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "did not answer within 10s")
	})
}

// TestCloseEndsFetches closes the cache while a fetch that nobody waits for is under way.
func TestCloseEndsFetches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, held := newSpy(), make(gate)
		ended := false
		s.before = func(ctx context.Context, _ int) error {
			err := held.wait(ctx)
			time.Sleep(time.Second)
			ended = !s.closed
			return err
		}
		c := New(s, Options{MaxBytes: 1 << 20, MaxStaleness: time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := c.Read(ctx, []driver.Read{ask("a", "v")})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		begun := time.Now()
		require.NoError(t, c.Close())
		require.True(t, ended, "the store was closed under a fetch")
		require.Equal(t, time.Second, time.Since(begun))
		require.True(t, s.closed)
	})
}

// TestHistory passes by the cache, and does not share a call with what does not.
func TestHistory(t *testing.T) {
	s := newSpy()
	c := cached(t, s)
	s.put("a", "v", "1")
	s.put("a", "h", "2")
	past := driver.Read{Entity: entity("a"), Views: []string{"h"}, History: true, AsOfMicros: 5}
	for range 2 {
		require.Equal(t, []string{"history of 2"}, get(t, c, past))
	}
	require.Equal(t, [][]driver.Read{{past}, {past}}, s.asked)
	require.Equal(t, []string{"2"}, get(t, c, ask("a", "h")), "a row that is no history")

	s.asked = nil
	for range 2 {
		require.Equal(t, []string{"1", "history of 2", "2", "history of 2"}, get(t, c, ask("a", "v"), past, ask("a", "h"), past))
	}
	require.Len(t, s.asked, 3)
	require.Equal(t, []driver.Read{past, past}, s.asked[2])

	s.failing["a"] = errStore
	rows, err := c.Read(t.Context(), []driver.Read{ask("a", "v"), past})
	partial, ok := errors.AsType[*driver.PartialError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, []error{nil, errStore}, partial.Errs)
	require.Equal(t, []string{"1", "-"}, texts(rows))
}

// TestCollidingHashes puts the row of one entity where that of another would be: it must not pass for it.
func TestCollidingHashes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, held := newSpy(), make(gate)
		c := cached(t, s)
		s.put("a", "v", "a")
		s.put("b", "v", "b")
		get(t, c, ask("b", "v"))
		c.rows.stored.Set(c.hashOf("a"), c.rows.get(c.hashOf("b"), entity("b")))
		require.Equal(t, []string{"a", "b"}, get(t, c, ask("a", "v"), ask("b", "v")))
		require.Equal(t, 2, s.calls())

		s.before = func(ctx context.Context, call int) error { return held.wait(ctx) }
		get(t, c, ask("c")) // nothing
		var readers sync.WaitGroup
		readers.Go(func() { require.Equal(t, []string{"-"}, get(t, c, ask("c", "v"))) })
		synctest.Wait()
		hash := c.hashOf("d")
		c.rows.shard(hash).flights[hash] = c.rows.shard(c.hashOf("c")).flights[c.hashOf("c")]
		s.put("d", "v", "d")
		readers.Go(func() { require.Equal(t, []string{"d"}, get(t, c, ask("d", "v"))) })
		synctest.Wait()
		close(held)
		readers.Wait()
		require.Equal(t, 4, s.calls())
	})
}

// TestCallersMemory writes over the keys of a call that has returned: what is kept must not change with them.
func TestCallersMemory(t *testing.T) {
	s := newSpy()
	c := cached(t, s)
	s.put("a", "v", "a")
	s.put("b", "v", "b")
	reads := []driver.Read{ask("a", "v")}
	_, err := c.Read(t.Context(), reads)
	require.NoError(t, err)
	reads[0].Entity.Key[0] = 'b'
	require.Equal(t, []string{"b"}, get(t, c, reads...))
	require.Equal(t, []string{"a"}, get(t, c, ask("a", "v")))
	require.Equal(t, 2, s.calls())
	s.rows[rowName(entity("a"), "v")][0] = 'x' // the store's memory is not kept either
	require.Equal(t, []string{"a"}, get(t, c, ask("a", "v")))
}

// TestPassedOn is about the methods that the cache leaves to the store.
func TestPassedOn(t *testing.T) {
	s := newSpy()
	c := cached(t, s)
	require.NoError(t, c.Ping(t.Context()))
	warnings, err := c.Warnings(t.Context())
	require.NoError(t, err)
	require.True(t, slices.Equal([]string{"a warning"}, warnings))
	require.Panics(t, func() { New(s, Options{MaxBytes: 1}) })
	require.Panics(t, func() { New(s, Options{MaxStaleness: 1}) })
}
