package syncstate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/online/pebblestore"
	"github.com/twofold-ml/twofold/internal/online/redisstore"
	"github.com/twofold-ml/twofold/internal/syncstate"
	"github.com/twofold-ml/twofold/internal/testenv"
)

// eachStore runs a test on every store, opened twice as by two processes; the embedded one can be opened once only.
func eachStore(t *testing.T, test func(t *testing.T, a, b *syncstate.Store, values *online.Store)) {
	run := func(name string, open func(t *testing.T) (a, b driver.Driver)) {
		t.Run(name, func(t *testing.T) {
			a, b := open(t)
			first, second := online.NewStore(a, online.Options{}), online.NewStore(b, online.Options{})
			defer func() { require.NoError(t, first.Close()) }()
			if a != b {
				defer func() { require.NoError(t, second.Close()) }()
			}
			test(t, syncstate.New(first), syncstate.New(second), first)
		})
	}
	run("pebble", func(t *testing.T) (a, b driver.Driver) {
		d, err := pebblestore.Open(pebblestore.Options{InMemory: true})
		require.NoError(t, err)
		return d, d
	})
	run("redis", func(t *testing.T) (a, b driver.Driver) {
		url := testenv.Redis(t).URL
		first, err := redisstore.Open(redisstore.Options{URL: url})
		require.NoError(t, err)
		second, err := redisstore.Open(redisstore.Options{URL: url})
		require.NoError(t, err)
		return first, second
	})
}

const view = "weather"

func acquire(t *testing.T, s *syncstate.Store, o syncstate.LeaseOptions) *syncstate.Lease {
	t.Helper()
	l, err := s.Acquire(t.Context(), view, o)
	require.NoError(t, err)
	return l
}

// TestOneHolderAtATime: many take the lease again and again, in two processes; nobody ever has it beside another, and each has a higher number.
func TestOneHolderAtATime(t *testing.T) {
	eachStore(t, func(t *testing.T, a, b *syncstate.Store, _ *online.Store) {
		var mu sync.Mutex
		holders, last := 0, uint64(0)
		var group sync.WaitGroup
		for i := range 8 {
			store := []*syncstate.Store{a, b}[i%2]
			group.Go(func() {
				for range 5 {
					l, err := store.Acquire(t.Context(), view, syncstate.LeaseOptions{Holder: "the same name", Wait: true, Duration: 100 * time.Millisecond})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					holders++
					if holders != 1 || l.Number() <= last {
						t.Errorf("%d holders, lease %d after %d", holders, l.Number(), last)
					}
					last = l.Number()
					holders--
					mu.Unlock()
					if err := l.Release(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		require.GreaterOrEqual(t, last, uint64(40))
	})
}

// TestHeldLease: while its holder lives nobody else gets it; who need not wait is told who has it.
func TestHeldLease(t *testing.T) {
	eachStore(t, func(t *testing.T, a, b *syncstate.Store, _ *online.Store) {
		held := acquire(t, a, syncstate.LeaseOptions{Holder: "the first", Duration: 300 * time.Millisecond})
		_, err := b.Acquire(t.Context(), view, syncstate.LeaseOptions{Holder: "the second"})
		var taken *syncstate.HeldError
		require.ErrorAs(t, err, &taken)
		require.Equal(t, syncstate.HeldError{View: view, Holder: "the first"}, *taken)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = b.Acquire(ctx, view, syncstate.LeaseOptions{Holder: "the second", Wait: true})
		require.ErrorIs(t, err, context.DeadlineExceeded, "the heartbeat goes on")
		require.NoError(t, held.Context().Err())
		require.NoError(t, held.Release(t.Context()))
		require.Error(t, held.Context().Err())
		next := acquire(t, b, syncstate.LeaseOptions{Holder: "the second"})
		require.Equal(t, held.Number()+1, next.Number())
		require.NoError(t, next.Release(t.Context()))
	})
}

// deaf is a store's values of which a process hears nothing any more.
type deaf struct {
	syncstate.Values
	mu   sync.Mutex
	gone bool
}

var errGone = errors.New("no answer")

func (d *deaf) SwapMeta(ctx context.Context, name string, old, value []byte) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone {
		return false, errGone
	}
	return d.Values.SwapMeta(ctx, name, old, value)
}

// TestDeadHolder: the lease of a holder that beats no longer is taken over; it notices by itself, and what it then wants to write down is refused.
func TestDeadHolder(t *testing.T) {
	eachStore(t, func(t *testing.T, _, b *syncstate.Store, values *online.Store) {
		cut := &deaf{Values: values}
		dead := acquire(t, syncstate.New(cut), syncstate.LeaseOptions{Holder: "the dead", Duration: 200 * time.Millisecond})
		state, err := syncstate.New(cut).Update(t.Context(), dead, func(s *twofoldv1.SyncState) { s.SyncedAtMicros = 1 })
		require.NoError(t, err)
		require.Equal(t, dead.Number(), state.GetLeaseNumber())
		cut.mu.Lock()
		cut.gone = true
		cut.mu.Unlock()
		next := acquire(t, b, syncstate.LeaseOptions{Holder: "the heir", Wait: true})
		require.Equal(t, dead.Number()+1, next.Number())
		<-dead.Context().Done()
		require.ErrorIs(t, context.Cause(dead.Context()), syncstate.ErrFenced)
		_, err = b.Update(t.Context(), next, func(s *twofoldv1.SyncState) { s.SyncedAtMicros = 2 })
		require.NoError(t, err)

		cut.mu.Lock()
		cut.gone = false
		cut.mu.Unlock()
		_, err = syncstate.New(cut).Update(t.Context(), dead, func(s *twofoldv1.SyncState) { s.SyncedAtMicros = 3 })
		require.ErrorIs(t, err, syncstate.ErrFenced)
		require.NoError(t, dead.Release(t.Context()), "it was lost; there is nothing to give back")
		states, err := b.States(t.Context(), []string{view, "other"})
		require.NoError(t, err)
		require.Equal(t, int64(2), states[0].GetSyncedAtMicros())
		require.True(t, proto.Equal(&twofoldv1.SyncState{}, states[1]))
		require.NoError(t, next.Context().Err(), "the dead one has not taken it back")
		require.NoError(t, next.Release(t.Context()))
	})
}

func TestFiles(t *testing.T) {
	eachStore(t, func(t *testing.T, a, b *syncstate.Store, values *online.Store) {
		file := func(i int) offline.File {
			return offline.File{URL: fmt.Sprint("s3://b/", i), SizeBytes: int64(i), ETag: "x"}
		}
		l := acquire(t, a, syncstate.LeaseOptions{Holder: "h"})
		list := syncstate.NewFiles()
		for i := range 1000 {
			list.Add(file(i), syncstate.NotDue)
		}
		list.Add(file(7), 42)
		name, err := a.PutFiles(t.Context(), l, list)
		require.NoError(t, err)
		state, err := a.Update(t.Context(), l, func(s *twofoldv1.SyncState) { s.Files = name })
		require.NoError(t, err)
		got, err := b.Files(t.Context(), state)
		require.NoError(t, err)
		require.Equal(t, 1000, got.Len())
		due, ok := got.Due(file(7))
		require.True(t, ok)
		require.EqualValues(t, 42, due)
		due, ok = got.Due(file(8))
		require.True(t, ok)
		require.Equal(t, syncstate.NotDue, due)
		for _, other := range []offline.File{{URL: "s3://b/8", SizeBytes: 9, ETag: "x"}, {URL: "s3://b/8", SizeBytes: 8, ETag: "y"}, {URL: "s3://b/8x", SizeBytes: 8}, {}} {
			_, ok := got.Due(other)
			require.False(t, ok, "%v", other)
		}
		require.NoError(t, l.Release(t.Context()))

		// What a holder wrote that died before the state named it, is removed by the next.
		l = acquire(t, b, syncstate.LeaseOptions{Holder: "dies"})
		orphan, err := b.PutFiles(t.Context(), l, syncstate.NewFiles())
		require.NoError(t, err)
		require.NotEqual(t, name, orphan)
		require.NoError(t, l.Release(t.Context()))
		l = acquire(t, b, syncstate.LeaseOptions{Holder: "next"})
		require.NoError(t, b.DropOrphan(t.Context(), l, state))
		require.NoError(t, l.Release(t.Context()))
		stored, err := values.GetMeta(t.Context(), []string{name, orphan})
		require.NoError(t, err)
		require.NotNil(t, stored[0])
		require.Nil(t, stored[1])
		require.NoError(t, b.DropFiles(t.Context(), name, "", "none"))

		empty, err := b.Files(t.Context(), &twofoldv1.SyncState{})
		require.NoError(t, err)
		require.Zero(t, empty.Len())
	})
}

func TestRuns(t *testing.T) {
	eachStore(t, func(t *testing.T, a, b *syncstate.Store, _ *online.Store) {
		run := func(id string, outcome twofoldv1.SyncOutcome) *twofoldv1.SyncRun {
			return &twofoldv1.SyncRun{Id: id, FeatureView: view, Outcome: outcome}
		}
		const running, good, failed = twofoldv1.SyncOutcome_SYNC_OUTCOME_RUNNING, twofoldv1.SyncOutcome_SYNC_OUTCOME_SUCCEEDED, twofoldv1.SyncOutcome_SYNC_OUTCOME_FAILED
		require.NoError(t, a.PutRun(t.Context(), run("1", running), 3, true))
		require.NoError(t, b.PutRun(t.Context(), run("2", running), 3, true)) // the first has died
		require.NoError(t, b.PutRun(t.Context(), run("2", good), 3, false))
		require.NoError(t, a.PutRun(t.Context(), run("3", running), 3, true))
		require.NoError(t, a.PutRun(t.Context(), run("4", running), 3, false))
		runs, err := b.Runs(t.Context(), []string{view, "other"})
		require.NoError(t, err)
		require.Empty(t, runs[1])
		var got []string
		for _, r := range runs[0] {
			got = append(got, r.GetId()+" "+r.GetOutcome().String())
		}
		require.Equal(t, []string{"4 " + running.String(), "3 " + running.String(), "2 " + good.String()}, got)
		require.NoError(t, a.PutRun(t.Context(), run("5", running), 10, true))
		runs, err = b.Runs(t.Context(), []string{view})
		require.NoError(t, err)
		require.Equal(t, failed, runs[0][1].GetOutcome())
		require.NotEmpty(t, runs[0][1].GetNote())
	})
}

// single has one value under every name.
type single struct {
	syncstate.Values
	value []byte
}

func (s single) GetMeta(_ context.Context, names []string) ([][]byte, error) {
	values := make([][]byte, len(names))
	for i := range values {
		values[i] = s.value
	}
	return values, nil
}

// FuzzStored: whatever a store gives, it is read, or reported as damaged.
func FuzzStored(f *testing.F) {
	good, err := proto.Marshal(&twofoldv1.CarriedFiles{Digests: bytes.Repeat([]byte{7}, 32), DueMicros: []int64{1, 2}})
	require.NoError(f, err)
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add([]byte{10, 255, 255, 255, 255, 15})
	f.Fuzz(func(t *testing.T, value []byte) {
		s := syncstate.New(single{value: value})
		_, filesErr := s.Files(t.Context(), &twofoldv1.SyncState{Files: "files"})
		_, statesErr := s.States(t.Context(), []string{view})
		_, runsErr := s.Runs(t.Context(), []string{view})
		_, carriedErr := s.Carried(t.Context())
		_, forgottenErr := s.Forgotten(t.Context())
		for _, err := range []error{filesErr, statesErr, runsErr, carriedErr, forgottenErr} {
			if err != nil && fault.KindOf(err) != fault.Corrupt {
				t.Errorf("%q: %v", value, err)
			}
		}
	})
}

// slowBeat is a store's values where the answer to a heartbeat does not come before its caller has given it up, though it has taken effect.
type slowBeat struct {
	syncstate.Values
	beats chan struct{}
}

func (s slowBeat) SwapMeta(ctx context.Context, name string, old, value []byte) (bool, error) {
	l := &twofoldv1.Lease{}
	if err := proto.Unmarshal(value, l); err != nil || l.GetHeartbeat() == 0 {
		return s.Values.SwapMeta(ctx, name, old, value)
	}
	if _, err := s.Values.SwapMeta(context.WithoutCancel(ctx), name, old, value); err != nil {
		return false, err
	}
	select {
	case s.beats <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return false, ctx.Err()
}

// TestReleaseDuringHeartbeat: a lease that is given back while a heartbeat of it is under way is free at once.
func TestReleaseDuringHeartbeat(t *testing.T) {
	eachStore(t, func(t *testing.T, _, b *syncstate.Store, values *online.Store) {
		slow := slowBeat{values, make(chan struct{}, 1)}
		held := acquire(t, syncstate.New(slow), syncstate.LeaseOptions{Holder: "the first", Duration: 300 * time.Millisecond})
		<-slow.beats
		require.NoError(t, held.Release(t.Context()))
		stored, err := values.GetMeta(t.Context(), []string{"lease/" + view})
		require.NoError(t, err)
		l := &twofoldv1.Lease{}
		require.NoError(t, proto.Unmarshal(stored[0], l))
		require.Empty(t, l.GetHolder())
		require.Equal(t, held.Number(), l.GetNumber())
		next := acquire(t, b, syncstate.LeaseOptions{Holder: "the second"})
		require.NoError(t, held.Release(t.Context()), "a second time")
		require.NoError(t, next.Context().Err())
		stored, err = values.GetMeta(t.Context(), []string{"lease/" + view})
		require.NoError(t, err)
		require.NoError(t, proto.Unmarshal(stored[0], l))
		require.Equal(t, "the second", l.GetHolder(), "it is not taken away from who has it now")
		require.NoError(t, next.Release(t.Context()))
	})
}
