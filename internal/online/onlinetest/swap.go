package onlinetest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

// getMeta returns the small value stored under a name, nil for none.
func getMeta(t *testing.T, d driver.Driver, name string) []byte {
	t.Helper()
	values, err := d.GetMeta(t.Context(), []string{name})
	require.NoError(t, err)
	require.Len(t, values, 1)
	return values[0]
}

func testSwap(t *testing.T, h Harness) {
	t.Run("one by one", func(t *testing.T) { testSwaps(t, h.open(t)) })
	t.Run("through a Store", func(t *testing.T) { testStoreSwaps(t, h.open(t)) })
	t.Run("a race to count", func(t *testing.T) { testCount(t, h.openTwo(t)) })
	t.Run("a race with a writer who does not look", func(t *testing.T) { testSwapOrPut(t, h.openTwo(t)) })
}

// testSwaps makes swaps one after the other, under one name each case, beside a name that begins with it.
func testSwaps(t *testing.T, d driver.Driver) {
	arbitrary := []byte{0, 0xff, '\r', '\n', 0, '1', 0xc3}
	long := []byte(strings.Repeat("0123456789abcdef", 1<<14))
	for i, c := range []struct {
		stored, old, value []byte
		want               bool
	}{
		{nil, nil, []byte("a"), true},
		{nil, []byte("a"), []byte("b"), false},
		{nil, []byte{}, []byte("b"), false},
		{nil, []byte("a"), nil, true}, // it may have removed it before
		{nil, nil, nil, true},
		{nil, nil, []byte{}, true},
		{[]byte{}, nil, []byte("a"), false},
		{[]byte{}, []byte{}, []byte("a"), true},
		{[]byte{}, []byte{}, nil, true},
		{[]byte("a"), []byte{}, nil, false},
		{[]byte("a"), nil, []byte{}, false},
		{[]byte("a"), nil, nil, false},
		{[]byte("a"), []byte("a"), []byte("b"), true},
		{[]byte("a"), []byte("a"), []byte{}, true},
		{[]byte("a"), []byte("a"), []byte("a"), true},
		{[]byte("a"), []byte("a"), nil, true},
		{[]byte("a"), []byte("b"), []byte("c"), false},
		{[]byte("a"), []byte("b"), nil, false},
		{[]byte("a"), []byte("A"), []byte("c"), false},
		{[]byte("a"), []byte("a\x00"), []byte("c"), false},
		{[]byte("1"), []byte("01"), []byte("c"), false},
		{[]byte("b"), []byte("a"), []byte("b"), true}, // it may have stored it before
		{[]byte("b"), nil, []byte("b"), true},
		{arbitrary, arbitrary[:6], long, false},
		{arbitrary, arbitrary, long, true},
		{long, long, arbitrary, true},
		{long, long[1:], arbitrary, false},
	} {
		name := fmt.Sprint("swap/", i)
		if c.stored != nil {
			require.NoError(t, d.PutMeta(t.Context(), name, c.stored))
		}
		require.NoError(t, d.PutMeta(t.Context(), name+"/beside", []byte("kept")))
		for range 2 { // the same swap again finds it made, or not again
			swapped, err := d.SwapMeta(t.Context(), name, c.old, c.value)
			require.NoError(t, err)
			require.Equal(t, c.want, swapped, "%d: %.20q for %.20q by %.20q", i, c.stored, c.old, c.value)
			want := c.stored
			if swapped {
				want = c.value
			}
			got := getMeta(t, d, name)
			require.Equal(t, want == nil, got == nil, "%d", i)
			require.Equal(t, string(want), string(got), "%d", i)
		}
		require.Equal(t, []byte("kept"), getMeta(t, d, name+"/beside"))
	}
}

// testStoreSwaps: what the Store swaps is what GetMeta and PutMeta see.
func testStoreSwaps(t *testing.T, d driver.Driver) {
	s := online.NewStore(d, online.Options{})
	swap := func(want bool, old, value []byte) {
		t.Helper()
		swapped, err := s.SwapMeta(t.Context(), "sync/v", old, value)
		require.NoError(t, err)
		require.Equal(t, want, swapped)
	}
	swap(true, nil, []byte("1"))
	swap(false, nil, []byte("2"))
	swap(true, []byte("1"), []byte("2"))
	require.NoError(t, s.PutMeta(t.Context(), "sync/v", []byte("3")))
	swap(false, []byte("2"), []byte("4"))
	swap(true, []byte("3"), nil)
	values, err := s.GetMeta(t.Context(), []string{"sync/v"})
	require.NoError(t, err)
	require.Equal(t, [][]byte{nil}, values)
}

const (
	swappers = 16
	steps    = 15 // of each swapper
)

// testCount lets many count up one number at once: none of their steps is lost, and none is made twice.
func testCount(t *testing.T, drivers []driver.Driver) {
	errs, made := make([]error, swappers), make([][]int, swappers)
	var wg sync.WaitGroup
	for i := range swappers {
		d := drivers[i%len(drivers)]
		wg.Go(func() {
			for len(made[i]) < steps && errs[i] == nil {
				var n int
				var swapped bool
				if n, swapped, errs[i] = countUp(t.Context(), d, i); swapped {
					made[i] = append(made[i], n)
				}
			}
		})
	}
	wg.Wait()
	seen := map[int]bool{}
	for i := range swappers {
		require.NoError(t, errs[i])
		for _, n := range made[i] {
			require.False(t, seen[n], "two have counted to %d", n)
			seen[n] = true
		}
	}
	n, err := counted(getMeta(t, drivers[0], "count"))
	require.NoError(t, err)
	require.Equal(t, swappers*steps, n)
}

// countUp reads the number and tries to store the next one, with the mark of who has counted.
func countUp(ctx context.Context, d driver.Driver, who int) (n int, swapped bool, err error) {
	values, err := d.GetMeta(ctx, []string{"count"})
	if err != nil {
		return 0, false, err
	}
	if n, err = counted(values[0]); err != nil {
		return 0, false, err
	}
	swapped, err = d.SwapMeta(ctx, "count", values[0], fmt.Appendf(nil, "%d by %d", n+1, who))
	return n + 1, swapped, err
}

// counted reads a value of countUp.
func counted(value []byte) (int, error) {
	if value == nil {
		return 0, nil
	}
	n, _, _ := strings.Cut(string(value), " ")
	return strconv.Atoi(n)
}

// testSwapOrPut: what a PutMeta has stored is not replaced by a swap that read what was there before.
func testSwapOrPut(t *testing.T, drivers []driver.Driver) {
	for round := range 20 {
		name := fmt.Sprint("stopped/", round)
		var wg sync.WaitGroup
		begun := make(chan struct{}, 4)
		for i := range 4 {
			d := drivers[i%len(drivers)]
			wg.Go(func() {
				for n := 0; ; n++ {
					values, err := d.GetMeta(t.Context(), []string{name})
					if err == nil && string(values[0]) != "stop" {
						_, err = d.SwapMeta(t.Context(), name, values[0], fmt.Appendf(nil, "%d by %d", n, i))
					} else if err == nil {
						return
					}
					if n == 0 {
						begun <- struct{}{}
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for range 4 {
			<-begun
		}
		require.NoError(t, drivers[len(drivers)-1].PutMeta(t.Context(), name, []byte("stop")))
		wg.Wait()
		require.Equal(t, []byte("stop"), getMeta(t, drivers[0], name))
	}
}
