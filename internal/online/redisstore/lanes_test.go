package redisstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/testenv"
)

// TestSharedRoundTrips: many callers at once, with reads of different shapes, each get their own rows; a key that cannot be read is the
// error of those alone who asked for it, and whoever gives up disturbs nobody.
func TestSharedRoundTrips(t *testing.T) {
	server := testenv.Redis(t)
	s, err := Open(Options{URL: server.URL})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	const entities = 50
	views := []string{"a", "b", "c"}
	value := func(entity int, view string) string { return fmt.Sprintf("%s of %d", view, entity) }
	for e := range entities {
		for v, view := range views {
			if (e+v)%4 != 0 {
				require.NoError(t, s.client.HSet(t.Context(), s.entityKey(entityOf(e)), view, value(e, view)).Err())
			}
		}
	}
	poison := driver.Entity{Name: "user", Key: []byte("poison")}
	require.NoError(t, s.client.Set(t.Context(), s.entityKey(poison), "a string", 0).Err())

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var wg sync.WaitGroup
	for worker := range 32 {
		r := rand.New(rand.NewPCG(seed, uint64(worker)))
		wg.Go(func() {
			for range 100 {
				switch r.IntN(10) {
				case 0:
					_, err := s.Read(t.Context(), []driver.Read{{Entity: poison, Views: views}})
					if fault.KindOf(err) != fault.Precondition {
						t.Errorf("of a key of another type: %v", err)
					}
				case 1:
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.IntN(200))*time.Microsecond)
					_, err := s.Read(ctx, []driver.Read{{Entity: entityOf(1), Views: views}})
					cancel()
					if err != nil && !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("of a call that gives up: %v", err)
					}
				default:
					checkRead(t, s, r, views, value)
				}
			}
		})
	}
	wg.Wait()
}

func entityOf(e int) driver.Entity {
	return driver.Entity{Name: "user", Key: fmt.Append(nil, e)}
}

// checkRead reads some views of some entities, and compares.
func checkRead(t *testing.T, s *Store, r *rand.Rand, views []string, value func(int, string) string) {
	n := 1 + r.IntN(20)
	if r.IntN(50) == 0 {
		n = 2*callReads + r.IntN(callReads) // several calls
	}
	reads := make([]driver.Read, n)
	asked := make([]int, len(reads))
	for i := range reads {
		asked[i] = r.IntN(60) // some are not there
		first := r.IntN(len(views))
		reads[i] = driver.Read{Entity: entityOf(asked[i]), Views: views[first : first+1+r.IntN(len(views)-first)]}
	}
	rows, err := s.Read(t.Context(), reads)
	if err != nil {
		t.Error(err)
		return
	}
	for i, read := range reads {
		for _, view := range read.Views {
			want := value(asked[i], view)
			if v := int(view[0] - 'a'); asked[i] >= 50 || (asked[i]+v)%4 == 0 {
				want = ""
			}
			if string(rows[0]) != want || (rows[0] == nil) != (want == "") {
				t.Errorf("view %s of %d: %q, want %q", view, asked[i], rows[0], want)
			}
			rows = rows[1:]
		}
	}
	if len(rows) != 0 {
		t.Errorf("%d rows too many", len(rows))
	}
}

// TestStuckConnections: where connections are stuck, reads have new ones as soon as nobody waits for the old ones any more, and not only after
// the store's timeout.
func TestStuckConnections(t *testing.T) {
	server := testenv.Redis(t)
	proxy := testenv.NewProxy(t, server.Addr)
	const timeout = time.Minute
	s, err := Open(Options{URL: "redis://" + proxy.Addr, Timeout: timeout})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	read := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := s.Read(ctx, []driver.Read{{Entity: entityOf(1), Views: []string{"a"}}})
		return err
	}
	require.NoError(t, read())
	proxy.Stick()
	begun := time.Now()
	for err = read(); err != nil; err = read() {
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Less(t, time.Since(begun), timeout/3, "the lanes are stuck")
	}
}
