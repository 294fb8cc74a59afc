package breaker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sony/gobreaker/v2"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

var errRefused = fault.New(fault.Unavailable, "read from Redis h:1: connection refused")

// subject is a circuit in a bubble of its own time, and what it logged.
type subject struct {
	*Gate
	log *bytes.Buffer
}

func newSubject(o Options) subject {
	log := &bytes.Buffer{}
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	return subject{New(o).Gate("Redis h:1"), log}
}

// call makes a call with an answer, and reports whether it was made.
func (s subject) call(ctx context.Context, answer error) bool {
	made := false
	err := s.Do(ctx, func(context.Context) error {
		made = true
		return answer
	})
	if made && err != answer {
		panic("the answer was changed")
	}
	return made
}

func (s subject) calls(n int, answer error) {
	for range n {
		s.call(context.Background(), answer)
	}
}

func (s subject) state() gobreaker.State { return s.circuit.State() }

func TestOpensAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSubject(Options{})
		s.calls(9, errRefused)
		s.calls(1, nil)
		s.calls(9, errRefused)
		require.Equal(t, gobreaker.StateClosed, s.state(), "9 failures in a row are not 10")
		s.calls(1, errRefused)
		require.Equal(t, gobreaker.StateOpen, s.state())
		opened := time.Now()

		time.Sleep(300 * time.Millisecond)
		err := s.Do(t.Context(), func(context.Context) error { panic("called while open") })
		require.Equal(t, fault.Unavailable, fault.KindOf(err))
		open, ok := errors.AsType[*OpenError](err)
		require.True(t, ok)
		require.Equal(t, 700*time.Millisecond, open.RetryAfter())
		require.Equal(t, opened, open.Since)
		require.Equal(t, "Redis h:1 is not asked since 2000-01-01T00:00:00Z, because 10 calls in a row failed, the last with: "+
			"read from Redis h:1: connection refused; it is tried again every 1s", err.Error())

		time.Sleep(701 * time.Millisecond)
		require.True(t, s.call(t.Context(), errRefused), "one is let through")
		require.False(t, s.call(t.Context(), nil), "it failed, so nobody else is")
		again, _ := errors.AsType[*OpenError](s.Do(t.Context(), nil))
		require.Equal(t, opened, again.Since, "it is the same outage")
		require.Equal(t, err.Error(), again.Error(), "told in the same words, so that a log that tells changes is silent")

		time.Sleep(1001 * time.Millisecond)
		require.True(t, s.call(t.Context(), nil))
		require.Equal(t, gobreaker.StateClosed, s.state())
		s.calls(9, errRefused)
		require.Equal(t, gobreaker.StateClosed, s.state(), "what was before the outage is forgotten")

		lines := strings.Split(strings.TrimSpace(s.log.String()), "\n")
		require.Len(t, lines, 2, "one line a change, whatever was tried between")
		require.Contains(t, lines[0], `level=WARN msg="online store: calls fail at once until it answers again" store="Redis h:1" because="10 calls in a row failed"`)
		require.Contains(t, lines[1], `level=INFO msg="online store: it answers again" store="Redis h:1" after=2.002s`)
	})
}

func TestOpensByShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSubject(Options{})
		for range 9 {
			s.calls(1, nil)
			s.calls(1, errRefused)
		}
		s.calls(1, nil)
		require.Equal(t, gobreaker.StateClosed, s.state(), "19 calls say nothing yet")
		s.calls(1, errRefused)
		require.Equal(t, gobreaker.StateOpen, s.state())
		require.Contains(t, s.log.String(), `because="10 of 20 calls failed within 10s"`)
	})
	synctest.Test(t, func(t *testing.T) {
		s := newSubject(Options{})
		for range 15 {
			s.calls(1, errRefused)
			s.calls(1, nil)
			time.Sleep(1200 * time.Millisecond)
		}
		require.Equal(t, gobreaker.StateClosed, s.state(), "at no time were there 20 calls in 10 s")
	})
	synctest.Test(t, func(t *testing.T) {
		s := newSubject(Options{})
		for range 1000 {
			s.calls(2, nil)
			s.calls(1, errRefused)
		}
		require.Equal(t, gobreaker.StateClosed, s.state(), "a third is not half")
	})
}

// TestWhatCounts: a hundred calls of each kind, and whether they open the circuit.
func TestWhatCounts(t *testing.T) {
	deadline := func(given time.Duration) func(*testing.T) context.Context {
		return func(t *testing.T) context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), given)
			t.Cleanup(cancel)
			return ctx
		}
	}
	timedOut := func(ctx context.Context) error {
		<-ctx.Done()
		return fault.New(fault.Unavailable, "read: %w", ctx.Err())
	}
	always := func(err error) func(context.Context) error { return func(context.Context) error { return err } }
	partial := &driver.PartialError{Errs: []error{nil, errRefused}}
	for name, c := range map[string]struct {
		ctx   func(*testing.T) context.Context
		call  func(context.Context) error
		opens bool
	}{
		"no error":            {deadline(time.Second), always(nil), false},
		"refused":             {deadline(time.Second), always(errRefused), true},
		"refused, in a hurry": {deadline(40 * time.Millisecond), always(errRefused), true},
		"wrapped":             {deadline(time.Second), always(fmt.Errorf("view v: %w", errRefused)), true},
		"deadline":            {deadline(time.Second), timedOut, true},
		"short deadline":      {deadline(40 * time.Millisecond), timedOut, false},
		"least deadline":      {deadline(50 * time.Millisecond), timedOut, true},
		"short deadline, told by the socket": {deadline(40 * time.Millisecond), func(context.Context) error {
			time.Sleep(39 * time.Millisecond)
			return errRefused
		}, false},
		"cancelled": {func(t *testing.T) context.Context {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			return ctx
		}, timedOut, false},
		"partly read":       {deadline(time.Second), always(partial), false},
		"another circuit's": {deadline(time.Second), always(&fault.Error{Kind: fault.Unavailable, Err: &OpenError{}}), false},
		"precondition":      {deadline(time.Second), always(fault.New(fault.Precondition, "WRONGPASS")), false},
		"corrupt":           {deadline(time.Second), always(fault.New(fault.Corrupt, "damaged")), false},
		"invalid":           {deadline(time.Second), always(fault.New(fault.Invalid, "wrong")), false},
		"internal":          {deadline(time.Second), always(errors.New("a bug")), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSubject(Options{})
				for range 100 {
					_ = s.Do(c.ctx(t), c.call) // what it gives is not what is tested
				}
				require.Equal(t, c.opens, s.breaker.opened.Load() > 0)
			})
		})
	}
}

// TestInAHurry: where a call that tells nothing is the one that is let through, the next one is let through too.
func TestInAHurry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSubject(Options{})
		s.calls(10, errRefused)
		time.Sleep(1001 * time.Millisecond)
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		for range 5 {
			require.True(t, s.call(cancelled, fault.New(fault.Unavailable, "read: %w", context.Canceled)))
			require.Equal(t, gobreaker.StateHalfOpen, s.state())
		}
		require.True(t, s.call(t.Context(), nil))
		require.Equal(t, gobreaker.StateClosed, s.state())
	})
}

// TestPanic: a call that panics does not keep others out.
func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSubject(Options{})
		s.calls(10, errRefused)
		time.Sleep(1001 * time.Millisecond)
		require.Panics(t, func() { _ = s.Do(t.Context(), func(context.Context) error { panic("a bug") }) })
		require.True(t, s.call(t.Context(), nil))
	})
}

// TestOneProbeAtATime: however many callers there are, one at a time asks a store that is sick, and only once a ProbeInterval.
func TestOneProbeAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSubject(Options{})
		s.calls(10, errRefused)
		var under, most, made atomic.Int64
		begun := time.Now()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				for time.Since(begun) < 20*time.Second {
					_ = s.Do(t.Context(), func(context.Context) error {
						most.Store(max(most.Load(), under.Add(1)))
						made.Add(1)
						time.Sleep(time.Second)
						under.Add(-1)
						return errRefused
					})
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, most.Load())
		require.LessOrEqual(t, made.Load(), int64(10))
		require.GreaterOrEqual(t, made.Load(), int64(9))
	})
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{Logger: slog.New(slog.DiscardHandler)})
		expect := func(state, rejected, opened int) {
			t.Helper()
			registry := prometheus.NewPedanticRegistry()
			registry.MustRegister(b)
			families, err := registry.Gather()
			require.NoError(t, err)
			got := map[string]float64{}
			for _, f := range families {
				got[strings.TrimPrefix(f.GetName(), "twofold_online_store_breaker_")] = f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
			}
			require.Equal(t, map[string]float64{"state": float64(state), "rejected_total": float64(rejected), "opened_total": float64(opened)}, got)
		}
		first, second := subject{Gate: b.Gate("node 1")}, subject{Gate: b.Gate("node 2")}
		expect(0, 0, 0)
		first.calls(13, errRefused)
		second.calls(5, errRefused)
		expect(2, 3, 1)
		time.Sleep(1001 * time.Millisecond)
		expect(1, 3, 1)
		second.calls(5, errRefused)
		expect(2, 3, 2)
		first.calls(1, nil)
		expect(2, 3, 2)
		time.Sleep(forgotten + time.Second)
		expect(0, 3, 2)
	})
}

// scripted is a driver whose calls give what a test says.
type scripted struct {
	driver.Driver
	err   error
	calls int
}

func (s *scripted) Read(context.Context, []driver.Read) ([][]byte, error) {
	s.calls++
	return [][]byte{[]byte("row")}, s.err
}
func (s *scripted) Write(context.Context, []driver.Row) ([]driver.Outcome, error) {
	s.calls++
	return []driver.Outcome{driver.Written}, s.err
}
func (s *scripted) Remove(context.Context, []driver.Removal) (int, error) { s.calls++; return 7, s.err }
func (s *scripted) Scan(_ context.Context, _ driver.Scan, yield func([]driver.ScannedRow) error) error {
	s.calls++
	if s.err != nil {
		return s.err
	}
	return yield([]driver.ScannedRow{{Key: []byte("k")}})
}
func (s *scripted) GetMeta(context.Context, []string) ([][]byte, error) {
	s.calls++
	return [][]byte{[]byte("value")}, s.err
}
func (s *scripted) PutMeta(context.Context, string, []byte) error { s.calls++; return s.err }
func (s *scripted) SwapMeta(context.Context, string, []byte, []byte) (bool, error) {
	s.calls++
	return true, s.err
}
func (s *scripted) PutMark(context.Context, string, []byte) error { s.calls++; return s.err }
func (s *scripted) Marks(context.Context, string) ([][]byte, error) {
	s.calls++
	return [][]byte{[]byte("mark")}, s.err
}
func (s *scripted) Ping(context.Context) error { s.calls++; return s.err }
func (s *scripted) Warnings(context.Context) ([]string, error) {
	s.calls++
	return []string{"w"}, s.err
}
func (s *scripted) Close() error { s.calls++; return s.err }

// operations are all that a driver can be asked; each returns what it got as text.
var operations = map[string]func(driver.Driver) (string, error){
	"Read": func(d driver.Driver) (string, error) {
		rows, err := d.Read(context.Background(), []driver.Read{{Views: []string{"v"}}})
		return fmt.Sprintf("%q", rows), err
	},
	"Write": func(d driver.Driver) (string, error) {
		outcomes, err := d.Write(context.Background(), []driver.Row{{}})
		return fmt.Sprint(outcomes), err
	},
	"Remove": func(d driver.Driver) (string, error) {
		removed, err := d.Remove(context.Background(), []driver.Removal{{}})
		return fmt.Sprint(removed), err
	},
	"Scan": func(d driver.Driver) (got string, err error) {
		err = d.Scan(context.Background(), driver.Scan{}, func(rows []driver.ScannedRow) error {
			got += fmt.Sprintf("%q", rows[0].Key)
			return nil
		})
		return got, err
	},
	"GetMeta": func(d driver.Driver) (string, error) {
		values, err := d.GetMeta(context.Background(), []string{"n"})
		return fmt.Sprintf("%q", values), err
	},
	"PutMeta": func(d driver.Driver) (string, error) { return "", d.PutMeta(context.Background(), "n", nil) },
	"SwapMeta": func(d driver.Driver) (string, error) {
		swapped, err := d.SwapMeta(context.Background(), "n", nil, []byte("v"))
		return fmt.Sprint(swapped), err
	},
	"PutMark": func(d driver.Driver) (string, error) { return "", d.PutMark(context.Background(), "n", nil) },
	"Marks": func(d driver.Driver) (string, error) {
		values, err := d.Marks(context.Background(), "n")
		return fmt.Sprintf("%q", values), err
	},
	"Ping": func(d driver.Driver) (string, error) { return "", d.Ping(context.Background()) },
	"Warnings": func(d driver.Driver) (string, error) {
		w, err := d.Warnings(context.Background())
		return fmt.Sprint(w), err
	},
}

// TestEveryOperation: each of them opens the circuit, is refused while it is open, and closes it; while it is closed, its answer is the store's own.
func TestEveryOperation(t *testing.T) {
	for name, operation := range operations {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &scripted{}
				d := New(Options{Logger: slog.New(slog.DiscardHandler)}).Driver(store, "Redis h:1")
				want, _ := operation(store)
				got, err := operation(d)
				require.NoError(t, err)
				require.Equal(t, want, got)
				store.err = errRefused
				for range 10 {
					_, err = operation(d)
					require.Equal(t, errRefused, err)
				}
				asked := store.calls
				_, err = operation(d)
				require.Equal(t, fault.Unavailable, fault.KindOf(err))
				require.Equal(t, asked, store.calls)
				if _, open := errors.AsType[*OpenError](err); open == (name == "Ping") {
					t.Errorf("while it is open: %v", err)
				}
				store.err = nil
				time.Sleep(1001 * time.Millisecond)
				for range 2 {
					_, err = operation(d)
					require.NoError(t, err)
				}
				require.NoError(t, d.Close())
			})
		})
	}
}

// TestPing: while the circuit is open because of other calls, Ping says why the store is not asked.
func TestPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{}
		d := New(Options{Logger: slog.New(slog.DiscardHandler)}).Driver(store, "Redis h:1")
		require.NoError(t, d.Ping(t.Context()))
		store.err = errRefused
		for range 10 {
			_, _ = operations["Read"](d)
		}
		require.ErrorContains(t, d.Ping(t.Context()), "Redis h:1 is not asked since 2000-01-01T00:00:00Z, because 10 calls in a row failed")
		time.Sleep(1001 * time.Millisecond)
		require.Equal(t, errRefused, d.Ping(t.Context()))
		require.Equal(t, errRefused, d.Ping(t.Context()), "that of the last one that was made")
	})
}

// TestCallsThatAskNobody teach nothing.
func TestCallsThatAskNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{err: errRefused}
		g := New(Options{Logger: slog.New(slog.DiscardHandler)}).Driver(store, "Redis h:1").(*guarded)
		for range 10 {
			_ = g.PutMeta(t.Context(), "n", nil)
		}
		time.Sleep(1001 * time.Millisecond)
		store.err = nil
		_, err := g.Read(t.Context(), nil)
		require.NoError(t, err)
		_, err = g.Write(t.Context(), nil)
		require.NoError(t, err)
		_, err = g.Remove(t.Context(), nil)
		require.NoError(t, err)
		_, err = g.GetMeta(t.Context(), nil)
		require.NoError(t, err)
		require.Equal(t, gobreaker.StateHalfOpen, g.gate.circuit.State())
	})
}

// TestClosedChangesNothing: as long as the circuit has not opened, every call is made once and its answer is the store's own, whatever calls
// of many goroutines give; and it has not opened while fewer than 10 in a row and less than half of all failed.
func TestClosedChangesNothing(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	answers := []error{nil, nil, nil, errRefused, fault.New(fault.Precondition, "OOM"), &driver.PartialError{Errs: []error{nil, errRefused}}, errors.New("a bug")}
	store := &scripted{}
	d := New(Options{}).Driver(store, "Redis h:1")
	failedInRow, failed := 0, 0
	for i := range 20_000 {
		for name, operation := range operations {
			store.err = answers[r.IntN(len(answers))]
			if store.err == errRefused {
				if failedInRow == 9 || 3*failed >= i { // not so many that it opens
					store.err = nil
				} else {
					failed++
				}
			}
			failedInRow++
			if store.err != errRefused {
				failedInRow = 0
			}
			want, _ := operation(store)
			before := store.calls
			got, err := operation(d)
			if got != want || err != store.err || store.calls != before+1 {
				t.Fatalf("%s: %s, %v after %d calls, want %s, %v", name, got, err, store.calls-before, want, store.err)
			}
		}
	}
	require.Positive(t, failed)
}

func BenchmarkClosed(b *testing.B) {
	ctx, reads := context.Background(), []driver.Read{{Views: []string{"v"}}}
	store := &nobody{}
	for name, d := range map[string]driver.Driver{"bare": store, "behind a breaker": New(Options{}).Driver(store, "h")} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					_, _ = d.Read(ctx, reads)
				}
			})
		})
	}
}

// nobody is a store of which nothing costs anything.
type nobody struct{ driver.Driver }

func (*nobody) Read(context.Context, []driver.Read) ([][]byte, error) { return nil, nil }
