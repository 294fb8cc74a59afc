package onlinetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

// testExpiry is about ExpireAtMillis. Redis' clock cannot be set, so the times are far from now on either side.
func testExpiry(t *testing.T, h Harness) {
	d := h.open(t)
	past := time.Now().Add(-time.Hour).UnixMilli()
	future := time.Now().Add(time.Hour).UnixMilli()
	put := func(t *testing.T, key, view string, event, expire int64) {
		t.Helper()
		r := row(key, view, value(event, 0, view))
		r.ExpireAtMillis = expire
		require.Equal(t, []driver.Outcome{driver.Written}, write(t, d, r))
	}
	there := func(t *testing.T, key, view string, event int64) {
		t.Helper()
		require.Equal(t, [][]byte{value(event, 0, view)}, read(t, d, key, view))
	}
	gone := func(t *testing.T, key, view string) {
		t.Helper()
		require.Equal(t, [][]byte{nil}, read(t, d, key, view))
	}
	t.Run("past", func(t *testing.T) {
		put(t, "past", "v", 1, past)
		gone(t, "past", "v")
		put(t, "past", "v", 1, 0) // as if it had never been there
		there(t, "past", "v", 1)
	})
	t.Run("future and never", func(t *testing.T) {
		put(t, "future", "v", 1, future)
		there(t, "future", "v", 1)
		put(t, "never", "v", 1, 0)
		there(t, "never", "v", 1)
	})
	t.Run("a row brings its own expiry", func(t *testing.T) {
		put(t, "own", "v", 1, future)
		put(t, "own", "v", 2, past)
		gone(t, "own", "v")
		put(t, "own2", "v", 1, 0)
		put(t, "own2", "v", 2, past)
		gone(t, "own2", "v")
	})
	t.Run("an older row changes no expiry", func(t *testing.T) {
		put(t, "older", "v", 2, future)
		r := row("older", "v", value(1, 0, "v"))
		r.ExpireAtMillis = past
		require.Equal(t, []driver.Outcome{driver.Older}, write(t, d, r))
		there(t, "older", "v", 2)
	})
	t.Run("an unchanged row renews its expiry", func(t *testing.T) {
		soon := time.Now().Add(400 * time.Millisecond).UnixMilli()
		put(t, "renewed", "v", 1, soon)
		r := row("renewed", "v", value(1, 0, "v"))
		r.ExpireAtMillis = future
		require.Equal(t, []driver.Outcome{driver.Unchanged}, write(t, d, r))
		await(t, soon+1)
		there(t, "renewed", "v", 1)
	})
	t.Run("a view never takes another's row with it", func(t *testing.T) {
		for i, others := range []int64{future, 0} {
			key := fmt.Sprint("shared", i)
			put(t, key, "long", 1, others)
			put(t, key, "short", 1, past)
			there(t, key, "long", 1)
			key += " the other way round"
			soon := time.Now().Add(300 * time.Millisecond).UnixMilli()
			put(t, key, "short", 1, soon)
			put(t, key, "long", 1, others)
			await(t, soon+1)
			there(t, key, "long", 1)
		}
	})
	t.Run("soon", func(t *testing.T) {
		soon := time.Now().Add(time.Second).UnixMilli()
		put(t, "soon", "v", 1, soon)
		rows := read(t, d, "soon", "v")
		if time.Now().UnixMilli() < soon {
			require.NotNil(t, rows[0], "it went before its time")
		}
		await(t, soon+1)
		gone(t, "soon", "v")
	})
}

// await returns when the wall clock, which is what is tested, shows that time.
func await(t *testing.T, millis int64) {
	t.Helper()
	timer := time.NewTimer(time.Until(time.UnixMilli(millis)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
		t.Fatal("the test is over")
	}
}

func testMeta(t *testing.T, h Harness) {
	d := h.open(t)
	ctx := t.Context()
	require.NoError(t, d.Ping(ctx))
	_, err := d.Warnings(ctx)
	require.NoError(t, err)

	got, err := d.GetMeta(ctx, nil)
	require.NoError(t, err)
	require.Empty(t, got)
	require.NoError(t, d.PutMeta(ctx, "a", []byte("1")))
	require.NoError(t, d.PutMeta(ctx, "a/b", []byte{0, 0xff}))
	require.NoError(t, d.PutMeta(ctx, "empty", nil))
	require.NoError(t, d.PutMeta(ctx, "a", []byte("2")))
	write(t, d, driver.Row{Entity: driver.Entity{Name: "meta", Key: []byte("a")}, View: "a", Value: value(1, 0, "")}, row("a", "meta", value(1, 0, "")))
	got, err = d.GetMeta(ctx, []string{"a/b", "none", "a", "empty", "a"})
	require.NoError(t, err)
	require.Len(t, got, 5)
	require.Equal(t, [][]byte{{0, 0xff}, nil, []byte("2")}, got[:3])
	require.NotNil(t, got[3], "an empty value is a value")
	require.Empty(t, got[3])
	require.Equal(t, []byte("2"), got[4])
}

// testMarks: a mark is once on each server, however many there are.
func testMarks(t *testing.T, h Harness) {
	drivers := h.openTwo(t)
	marks := func(name string) [][]byte {
		t.Helper()
		got, err := drivers[len(drivers)-1].Marks(t.Context(), name)
		require.NoError(t, err)
		require.NotEmpty(t, got)
		return got
	}
	servers := len(marks("a"))
	require.Equal(t, make([][]byte, servers), marks("a"))
	d := drivers[0]
	require.NoError(t, d.PutMeta(t.Context(), "a", []byte("meta")))
	require.Equal(t, make([][]byte, servers), marks("a"), "it is no small value")
	for _, value := range [][]byte{[]byte("1"), {0, 0xff, '}', '\r', '\n'}, []byte("1")} {
		for _, name := range []string{"a", "a}b", "{a}", "{", ""} {
			require.NoError(t, d.PutMark(t.Context(), name, value))
			require.Equal(t, slices.Repeat([][]byte{value}, servers), marks(name))
		}
	}
	require.Equal(t, []byte("meta"), getMeta(t, d, "a"))
	require.NoError(t, d.PutMark(t.Context(), "empty", nil))
	for _, value := range marks("empty") {
		require.NotNil(t, value, "an empty value is a value")
		require.Empty(t, value)
	}
	require.Equal(t, make([][]byte, servers), marks("another"))

	s := online.NewStore(d, online.Options{})
	require.NoError(t, s.PutMark(t.Context(), "a", []byte("of the Store")))
	got, err := s.Marks(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, slices.Repeat([][]byte{[]byte("of the Store")}, servers), got)
}

// calls are all calls that a context can end.
func calls(d driver.Driver) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"Read": func(ctx context.Context) error {
			rows, err := d.Read(ctx, []driver.Read{{Entity: entity("a"), Views: []string{"v"}}})
			if err != nil && rows != nil {
				return errors.New("rows beside an error")
			}
			return err
		},
		"Write": func(ctx context.Context) error {
			_, err := d.Write(ctx, []driver.Row{row("a", "v", value(1, 0, ""))})
			return err
		},
		"Read of versions": func(ctx context.Context) error {
			rows, err := d.Read(ctx, []driver.Read{historyRead("a", newest)})
			if err != nil && rows != nil {
				return errors.New("rows beside an error")
			}
			return err
		},
		"Write of versions": func(ctx context.Context) error {
			_, err := d.Write(ctx, []driver.Row{version("a", 2, value(1, 0, ""))})
			return err
		},
		"Remove": func(ctx context.Context) error {
			_, err := d.Remove(ctx, []driver.Removal{{Entity: entity("b"), View: "v"}, {Entity: entity("b"), View: "v", History: true}})
			return err
		},
		"Scan": func(ctx context.Context) error {
			return d.Scan(ctx, driver.Scan{Entity: "user", View: "v"}, func([]driver.ScannedRow) error { return nil })
		},
		"GetMeta": func(ctx context.Context) error { _, err := d.GetMeta(ctx, []string{"a"}); return err },
		"PutMeta": func(ctx context.Context) error { return d.PutMeta(ctx, "a", nil) },
		"SwapMeta": func(ctx context.Context) error {
			swapped, err := d.SwapMeta(ctx, "swapped", nil, []byte("x"))
			if err != nil && swapped {
				return errors.New("swapped beside an error")
			}
			return err
		},
		"PutMark": func(ctx context.Context) error { return d.PutMark(ctx, "marked", nil) },
		"Marks":   func(ctx context.Context) error { _, err := d.Marks(ctx, "marked"); return err },
		"Ping":    d.Ping,
	}
}

func testCancelled(t *testing.T, h Harness) {
	d := h.open(t)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	write(t, d, row("b", "v", value(1, 0, "")))
	for name, call := range calls(d) {
		require.ErrorIs(t, call(cancelled), context.Canceled, name)
		require.ErrorIs(t, call(late), context.DeadlineExceeded, name)
	}
	require.Equal(t, [][]byte{nil}, read(t, d, "a", "v"), "a write whose context was done must not be begun")
	requireAsOf(t, d, "a", map[int64]any{newest: nil})
	require.Nil(t, getMeta(t, d, "swapped"))
	marks, err := d.Marks(t.Context(), "marked")
	require.NoError(t, err)
	require.Equal(t, make([][]byte, len(marks)), marks)
	require.Equal(t, [][]byte{value(1, 0, "")}, read(t, d, "b", "v"))
	for name, call := range calls(d) {
		require.NoError(t, call(t.Context()), name)
	}
}

// frozenBound is the longest that a call may take on a store that does not answer: many times its own timeout, for a busy machine, and
// far less than a caller would wait in vain.
const frozenBound = 20 * time.Second

func testFrozen(t *testing.T, h Harness) {
	d, freeze, thaw := h.OpenFreezable(t)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	write(t, d, row("a", "v", value(1, 0, "before")))
	freeze()
	testFrozenCalls(t, d)
	thaw()
	header, err := storedrow.ParseHeader(read(t, d, "a", "v")[0])
	require.NoError(t, err)
	require.EqualValues(t, 1, header.EventTime)
	for name, call := range calls(d) {
		require.NoError(t, call(t.Context()), "%s after the store answers again", name)
	}
}

// testFrozenCalls makes every call on a store that does not answer, all at once.
func testFrozenCalls(t *testing.T, d driver.Driver) {
	var wg sync.WaitGroup
	for name, call := range calls(d) {
		wg.Go(func() {
			if err := frozenCall(t.Context(), call); err != nil {
				t.Errorf("%s on a store that does not answer: %v", name, err)
			}
		})
	}
	wg.Wait()
}

// frozenCall makes a call as long as the store lets it, in a hurry, and so that it is cancelled. It returns what is wrong with what it gave.
func frozenCall(ctx context.Context, call func(context.Context) error) error {
	err := within(func() error { return call(ctx) })
	switch {
	case fault.KindOf(err) != fault.Unavailable:
		return fmt.Errorf("not of kind unavailable: %w", err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the caller set no deadline: %w", err)
	case strings.Contains(err.Error(), "secret"):
		return errors.New("it tells a password")
	}
	hurry, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := within(func() error { return call(hurry) }); !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("not that of the deadline: %w", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- call(cancelled) }()
	cancel()
	if err := within(func() error { return <-done }); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("not that of the cancellation: %w", err)
	}
	return nil
}

// within returns the error of a call, or what is wrong: it has none, or has not returned by frozenBound.
func within(call func() error) error {
	done := make(chan error, 1)
	go func() { done <- call() }()
	timer := time.NewTimer(frozenBound)
	defer timer.Stop()
	select {
	case err := <-done:
		if err == nil {
			err = errors.New("no error")
		}
		return err
	case <-timer.C:
		return errors.New("the call did not return")
	}
}
