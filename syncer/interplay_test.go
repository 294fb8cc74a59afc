package syncer_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/syncstate"
	"github.com/twofold-ml/twofold/server/servertest"
	"github.com/twofold-ml/twofold/syncer"
)

func (c *convergence) syncerOf(definitions string, store *online.Store, lease time.Duration) *syncer.Syncer {
	s, err := syncer.New(syncer.Options{
		Registry: registry(c.T, definitions), Online: store, Offline: c.offline, Now: c.clock.Now, LeaseDuration: lease,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), RemovedViewsGrace: time.Minute,
	})
	require.NoError(c, err)
	return s
}

// A removal of a view that died half way, then the view is defined again and carried in shards.
func TestShardsAfterHalfARemoval(t *testing.T) {
	for n := range 40 {
		c := newConvergence(t, rand.New(rand.NewPCG(1, 1)), inMemory(t), convergentDefinitions)
		c.put("a.parquet", 1, 0, 1, 2, 3, 4, 5)
		shards := func() {
			for i := range 2 {
				c.clock.Advance(time.Second)
				require.NoError(t, c.syncShard(syncer.Shard{Index: i, Count: 2}).Err)
			}
		}
		shards()
		other := strings.Replace(convergentDefinitions, "name: v\n", "name: w\n", 1)
		c.driver.left = n
		_, err := c.syncerOf(other, c.store, 20*time.Millisecond).RemoveGone(t.Context(), true)
		c.driver.left = -1
		died := err != nil
		shards()
		_, values := c.served()
		if len(values) != 6 {
			t.Errorf("died at call %d (%v): %d of 6 entities are served", n, died, len(values))
		}
		c.close()
		if !died {
			break
		}
	}
}

// hooked calls before what it is told to.
type hooked struct {
	driver.Driver
	mu        sync.Mutex
	onPutMeta func(name string)
	onGetMeta func(names []string)
	onRemove  func()
	onWrite   func(rows []driver.Row)
}

func (h *hooked) Remove(ctx context.Context, removals []driver.Removal) (int, error) {
	if h.onRemove != nil {
		h.onRemove()
	}
	return h.Driver.Remove(ctx, removals)
}

func (h *hooked) GetMeta(ctx context.Context, names []string) ([][]byte, error) {
	if h.onGetMeta != nil {
		h.onGetMeta(names)
	}
	return h.Driver.GetMeta(ctx, names)
}

func (h *hooked) PutMeta(ctx context.Context, name string, value []byte) error {
	h.mu.Lock()
	hook := h.onPutMeta
	h.mu.Unlock()
	if hook != nil {
		hook(name)
	}
	return h.Driver.PutMeta(ctx, name, value)
}

func (h *hooked) Write(ctx context.Context, rows []driver.Row) ([]driver.Outcome, error) {
	h.mu.Lock()
	hook := h.onWrite
	h.mu.Unlock()
	if hook != nil {
		hook(rows)
	}
	return h.Driver.Write(ctx, rows)
}

// A syncer that was frozen between the last change of its run and the removal of what is listed (every run passes there, and Run's tidying), and whose lease another took over meanwhile, removes the
// generation that the other is making; that is published all the same.
func TestFencedRunRemovesAnothersGeneration(t *testing.T) {
	for n := 1; n < 30; n++ {
		if !frozenAt(t, n) {
			break
		}
	}
}

func frozenAt(t *testing.T, n int) (was bool) {
	c := newConvergence(t, rand.New(rand.NewPCG(1, 1)), inMemory(t), snapshotDefinitions("min_entities: 1"))
	defer c.close()
	c.put("a.parquet", 1, 0, 1, 2, 3, 4, 5)
	driverA, driverB := &hooked{Driver: c.driver}, &hooked{Driver: c.driver}
	storeA, storeB := online.NewStore(driverA, online.Options{Now: c.clock.Now}), online.NewStore(driverB, online.Options{Now: c.clock.Now})
	a, b := c.syncerOf(c.definitions, storeA, time.Hour), c.syncerOf(c.definitions, storeB, time.Hour)
	require.NoError(t, a.SyncView(t.Context(), c.view, syncer.Request{Wait: true}).Err)
	c.clock.Advance(time.Minute)
	written, publish, done := make(chan struct{}), make(chan struct{}), make(chan syncer.Report, 1)
	var onceB sync.Once
	driverB.onPutMeta = func(name string) { // all of B's rows are written, and nothing is published
		if strings.HasPrefix(name, "files/v/") {
			onceB.Do(func() { close(written); <-publish })
		}
	}
	calls := 0
	driverA.onGetMeta = func(names []string) {
		if len(names) != 1 || names[0] != "sync/v" {
			return
		}
		if calls++; calls != n {
			return
		}
		values, err := c.store.GetMeta(t.Context(), []string{"lease/v"})
		require.NoError(t, err)
		lease := &twofoldv1.Lease{}
		require.NoError(t, proto.Unmarshal(values[0], lease))
		if lease.GetHolder() == "" { // it has not begun
			n++
			return
		}
		was = true // A is frozen here for longer than its lease: B takes it for dead
		free, err := proto.Marshal(&twofoldv1.Lease{Number: lease.GetNumber()})
		require.NoError(t, err)
		require.NoError(t, c.store.PutMeta(t.Context(), "lease/v", free))
		c.put("a.parquet", 2, 0, 1, 2, 3, 4, 5)
		go func() { done <- b.SyncView(t.Context(), c.view, syncer.Request{Wait: true, Full: true}) }()
		<-written
	}
	report := a.SyncView(t.Context(), c.view, syncer.Request{Wait: true})
	if !was {
		return false
	}
	close(publish)
	reportB := <-done
	require.NoError(t, reportB.Err)
	generation, values := c.served()
	if len(values) != 6 {
		t.Errorf("frozen at call %d: A: %v; B wrote %d; generation %d is live with %d of 6 entities", n, report.Err, reportB.Written, generation, len(values))
	}
	return true
}

// A shard of the old definition is being carried while a run of another, in which keys mean something else, vacates the place.
func TestVacateWhileAShardWrites(t *testing.T) {
	d := inMemory(t)
	c := newConvergence(t, rand.New(rand.NewPCG(1, 1)), d, convergentDefinitions)
	defer c.close()
	c.put("a.parquet", 1, 0, 1, 2, 3, 4, 5)
	require.NoError(t, c.sync().Err)
	require.NoError(t, os.MkdirAll(filepath.Join(c.dir, "v2"), 0o700))
	new(servertest.Table).Add("user_id", feature.String, "0").Add("at", feature.Timestamp, start.UnixMicro()).Add("written", feature.Timestamp, start.UnixMicro()).
		Add("x", feature.Int64, int64(7)).WriteParquet(t, filepath.Join(c.dir, "v2", "a.parquet"))
	other := strings.Replace(convergentDefinitions, "type: INT64}]}\nfeature_views", "type: STRING}]}\nfeature_views", 1)
	other = strings.Replace(other, "path: v,", "path: v2,", 1)
	require.NotEqual(t, convergentDefinitions, other)
	c.put("a.parquet", 2, 0, 1, 2, 3, 4, 5)
	slow := &hooked{Driver: c.driver}
	writing, goOn, done := make(chan struct{}), make(chan struct{}), make(chan syncer.Report, 1)
	var once sync.Once
	slow.onWrite = func([]driver.Row) { once.Do(func() { close(writing) }); <-goOn }
	s := c.syncerOf(convergentDefinitions, online.NewStore(slow, online.Options{Now: c.clock.Now}), 200*time.Millisecond)
	go func() {
		done <- s.SyncView(t.Context(), c.view, syncer.Request{Wait: true, Full: true, Shard: syncer.Shard{Index: 0, Count: 1}})
	}()
	<-writing
	next := make(chan syncer.Report, 1)
	view, err := registry(t, other).View("v")
	require.NoError(t, err)
	go func() {
		next <- c.syncerOf(other, c.store, 200*time.Millisecond).SyncView(t.Context(), view, syncer.Request{Wait: true})
	}()
	<-time.After(time.Second) // whoever does not wait has gone on by then
	close(goOn)
	t.Log("shard:", (<-done).Err)
	require.NoError(t, (<-next).Err)
	states, _, err := c.store.SyncStates(t.Context(), []*feature.View{view})
	require.NoError(t, err)
	require.Equal(t, online.Synced, states[0])
	var keys []string
	require.NoError(t, c.store.ScanKeys(t.Context(), view, 0, func(some [][]byte) error {
		for _, key := range some {
			keys = append(keys, string(key))
		}
		return nil
	}))
	require.Equal(t, []string{"0"}, keys, "the view is synced by the new definition, and has rows by the old keys")
}

// One server of a Redis Cluster loses its data: the lease's record was there, the state's is on another.
func TestTheLeaseIsLost(t *testing.T) {
	c := newConvergence(t, rand.New(rand.NewPCG(1, 1)), inMemory(t), convergentDefinitions)
	defer c.close()
	c.put("a.parquet", 1, 0, 1, 2, 3, 4, 5)
	s := c.syncer()
	for range 20 {
		require.NoError(t, s.SyncView(t.Context(), c.view, syncer.Request{Wait: true}).Err)
	}
	values, err := c.store.GetMeta(t.Context(), []string{"lease/v"})
	require.NoError(t, err)
	ok, err := c.store.SwapMeta(t.Context(), "lease/v", values[0], nil)
	require.NoError(t, err)
	require.True(t, ok)
	failed := 0
	for range 30 {
		if err := s.SyncView(t.Context(), c.view, syncer.Request{Wait: true}).Err; err != nil {
			failed++
			if failed == 1 {
				t.Log(err)
			}
		}
	}
	require.Zero(t, failed)
}

// An entity is allowed again, which is cut off while it waits for a lease; it is done again.
func TestAllowAgain(t *testing.T) {
	f := newForgetting(t, rand.New(rand.NewPCG(1, 2)), inMemory(t))
	f.sync()
	var user int64 = -1
	for u := range f.inFiles("latest") {
		user = max(user, u)
	}
	f.forget(user)
	f.sync()
	lease, err := syncstate.New(f.env.Online).Acquire(t.Context(), "latest", syncstate.LeaseOptions{Holder: "a sync", Wait: true})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = f.forgetter().Allow(ctx, f.request(user))
	t.Log("first:", err)
	require.Error(t, err)
	require.NoError(t, lease.Release(t.Context()))
	n, err := f.forgetter().Allow(t.Context(), f.request(user))
	t.Log("again:", n, err)
	require.NoError(t, err)
	delete(f.forgotten, user)
	f.sync()
	require.Len(t, f.stored(f.env, "latest"), len(f.stored(f.all, "latest")), "the rows of user %d have not come back", user)
}

func (c *convergence) forgottenList() (*syncstate.Store, *feature.Entity, func() (int, error)) {
	state, entity := syncstate.New(c.store), c.view.Entity
	key := feature.NewColumn(feature.Int64, 0)
	key.AppendInt64(3)
	scope := syncstate.Scope{Keys: []string{"user_id"}}
	list, err := state.PrepareForget(c.Context(), scope)
	require.NoError(c, err)
	some, _ := list.Only(scope, []*feature.Column{key})
	_, err = state.Forget(c.Context(), some)
	require.NoError(c, err)
	return state, entity, func() (int, error) {
		list, err := state.Forgotten(c.Context())
		if err != nil {
			return 0, err
		}
		return list.Len(), nil
	}
}

func (c *convergence) lose(lose func(name string, value []byte) bool) {
	names := []string{"forgotten"}
	for i := range 256 {
		names = append(names, "forgotten/"+itoa(i))
	}
	values, err := c.store.GetMeta(c.Context(), names)
	require.NoError(c, err)
	for i, value := range values {
		if lose(names[i], value) {
			_, err := c.store.SwapMeta(c.Context(), names[i], value, nil)
			require.NoError(c, err)
		}
	}
}

func itoa(i int) string {
	return string(bytes.TrimLeft([]byte{byte('0' + i/100), byte('0' + i/10%10), byte('0' + i%10)}, "0")) + map[bool]string{true: "0"}[i == 0]
}

// A server is lost that has the index and the one bucket that is not empty; the other buckets are on others.
func TestForgottenIndexAndBucketLost(t *testing.T) {
	c := newConvergence(t, rand.New(rand.NewPCG(1, 1)), inMemory(t), convergentDefinitions)
	defer c.close()
	c.put("a.parquet", 1, 0, 1, 2, 3, 4, 5)
	_, _, read := c.forgottenList()
	require.NoError(t, c.sync().Err)
	require.Len(t, c.newestStored(), 5)
	c.lose(func(name string, value []byte) bool { return name == "forgotten" || len(value) > 0 })
	n, err := read()
	t.Log("list:", n, err)
	report := c.syncer().SyncView(t.Context(), c.view, syncer.Request{Wait: true, Full: true})
	t.Log("sync:", report.Err)
	require.Len(t, c.newestStored(), 5, "the forgotten entity is back")
}

func (c *convergence) newestStored() map[int64]int64 {
	_, values := c.served()
	return values
}

// A part of the list is lost; a list of another store is imported by mistake, which is refused.
func TestForeignImportMendsTheList(t *testing.T) {
	c := newConvergence(t, rand.New(rand.NewPCG(1, 1)), inMemory(t), convergentDefinitions)
	defer c.close()
	state, _, read := c.forgottenList()
	c.lose(func(name string, value []byte) bool { return name != "forgotten" && len(value) > 0 })
	_, err := read()
	require.Error(t, err)
	foreign, err := syncstate.ImportForgotten(&twofoldv1.ForgottenList{Key: bytes.Repeat([]byte{1}, 32)})
	require.NoError(t, err)
	_, err = state.PutForgotten(t.Context(), foreign)
	t.Log("import:", err)
	require.Error(t, err)
	n, err := read()
	t.Log("list afterwards:", n, err)
	require.Error(t, err, "the list passes for whole, with %d entries", n)
}

// A view went from INCREMENTAL to SNAPSHOT, and its rows of before are being removed, under the view's lease, when it is INCREMENTAL again and is carried in shards, which do not take that lease to begin.
func TestShardsWhileGenerationZeroIsRemoved(t *testing.T) {
	c := newConvergence(t, rand.New(rand.NewPCG(1, 1)), inMemory(t), convergentDefinitions)
	defer c.close()
	c.put("a.parquet", 1, 0, 1, 2, 3, 4, 5)
	require.NoError(t, c.sync().Err)
	snap := snapshotDefinitions("min_entities: 1")
	view, err := registry(t, snap).View("v")
	require.NoError(t, err)
	slow := &hooked{Driver: c.driver}
	s := c.syncerOf(snap, online.NewStore(slow, online.Options{Now: c.clock.Now}), time.Second)
	require.NoError(t, s.SyncView(t.Context(), view, syncer.Request{Wait: true}).Err)
	c.clock.Advance(time.Hour)
	removing, goOn, done := make(chan struct{}), make(chan struct{}), make(chan syncer.Report, 1)
	var once sync.Once
	slow.onRemove = func() { once.Do(func() { close(removing); <-goOn }) }
	go func() { done <- s.SyncView(t.Context(), view, syncer.Request{Wait: true}) }()
	<-removing
	shards := make(chan syncer.Report, 1)
	go func() {
		shards <- c.syncerOf(convergentDefinitions, c.store, time.Second).SyncView(t.Context(), c.view, syncer.Request{Wait: true, Shard: syncer.Shard{Index: 0, Count: 1}})
	}()
	<-time.After(time.Second) // whoever does not wait has gone on by then
	close(goOn)
	t.Log("removal:", (<-done).Err)
	r := <-shards
	t.Log("shard:", r.Err, r.Note)
	require.NoError(t, r.Err)
	_, values := c.served()
	require.Len(t, values, 6)
	last := c.sync()
	t.Log(last.String())
}

// The view's epoch changes while a shard is carried (here by `forget --allow`): what it has carried does not count, and it must not say that it has succeeded.
func TestShardThatDoesNotCount(t *testing.T) {
	c := newConvergence(t, rand.New(rand.NewPCG(1, 1)), inMemory(t), convergentDefinitions)
	defer c.close()
	c.put("a.parquet", 1, 0, 1, 2, 3, 4, 5)
	c.forgottenList()
	slow := &hooked{Driver: c.driver}
	var once sync.Once
	slow.onWrite = func([]driver.Row) {
		once.Do(func() {
			key := feature.NewColumn(feature.Int64, 0)
			key.AppendInt64(3)
			f := &syncer.Forgetter{Registry: registry(t, convergentDefinitions), Online: c.store, LeaseDuration: time.Second}
			n, err := f.Allow(t.Context(), syncer.ForgetRequest{Entity: c.view.Entity, Keys: []*feature.Column{key}})
			require.NoError(t, err)
			require.Equal(t, 1, n)
		})
	}
	s := c.syncerOf(convergentDefinitions, online.NewStore(slow, online.Options{Now: c.clock.Now}), time.Second)
	r := s.SyncView(t.Context(), c.view, syncer.Request{Wait: true, Shard: syncer.Shard{Index: 0, Count: 1}})
	states, _, err := c.store.SyncStates(t.Context(), []*feature.View{c.view})
	require.NoError(t, err)
	t.Log(r.Outcome, r.Note, r.Err, "synced:", states[0] == online.Synced)
	require.False(t, r.Err == nil && states[0] != online.Synced, "every shard has succeeded, and the view is not synced")
}
