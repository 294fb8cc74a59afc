package syncer_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/online/redisstore"
	"github.com/twofold-ml/twofold/internal/syncstate"
	"github.com/twofold-ml/twofold/internal/testenv"
	"github.com/twofold-ml/twofold/server"
	"github.com/twofold-ml/twofold/server/servertest"
	"github.com/twofold-ml/twofold/syncer"
	"github.com/twofold-ml/twofold/syncer/audit"
)

const forgetDefinitions = `
entities:
  - {name: user, keys: [{name: user_id, type: INT64}]}
  - {name: account, keys: [{name: user_id, type: STRING}]}
  - {name: user_item, keys: [{name: item, type: STRING}, {name: user_id, type: INT64}]}
  - {name: device, keys: [{name: device_id, type: INT64}]}
feature_views:
  - {name: latest, entity: user, source: {path: latest, event_time_column: at}, features: [{name: x, type: INT64}]}
  - {name: history, entity: user, source: {path: history, event_time_column: at}, layout: HISTORY, history_versions: 3, features: [{name: x, type: INT64}]}
  - {name: snapshot, entity: user, source: {path: snapshot, event_time_column: at}, sync: {mode: SNAPSHOT}, features: [{name: x, type: INT64}]}
  - {name: renamed, entity: account, source: {path: renamed, event_time_column: at}, features: [{name: x, type: INT64}]}
  - {name: items, entity: user_item, source: {path: items, event_time_column: at}, features: [{name: x, type: INT64}]}
  - {name: devices, entity: device, source: {path: devices, event_time_column: at}, features: [{name: x, type: INT64}]}
`

const forgetUsers = 8

// forgetting is a store in which entities are forgotten, beside one that is given the same and forgets nobody.
type forgetting struct {
	*testing.T
	r         *rand.Rand
	clock     *clock
	dir       string
	driver    *mortal
	env, all  *servertest.Env
	files     int
	event     time.Duration
	forgotten map[int64]bool
	// once are the users who were forgotten once: what was pushed of them is gone for good.
	once map[int64]bool
}

func newForgetting(t *testing.T, r *rand.Rand, d driver.Driver) *forgetting {
	f := &forgetting{T: t, r: r, clock: &clock{}, dir: t.TempDir(), driver: &mortal{Driver: d, left: -1}, forgotten: map[int64]bool{}, once: map[int64]bool{}}
	for _, view := range forgetViews {
		f.write(view)
	}
	config := servertest.Config{
		Definitions: forgetDefinitions, Offline: offline.Config{Path: f.dir}, Now: f.clock.Now,
		Change: func(o *server.Options) { o.ForgottenMaxAge = 2 * time.Millisecond },
	}
	f.all = servertest.Start(t, config)
	config.Online = f.driver
	f.env = servertest.Start(t, config)
	return f
}

var forgetViews = []string{"latest", "history", "snapshot", "renamed", "items", "devices"}

// next is an event time that no other row has.
func (f *forgetting) next() time.Time {
	f.event += time.Second
	return start.Add(-24*time.Hour + f.event)
}

// keysOf are the key columns of a row of a view: the number is that of its user, or device.
func keysOf(view string, number int64, item string) []*twofoldv1.Column {
	switch view {
	case "renamed":
		return []*twofoldv1.Column{client.Strings("user_id", strconv.FormatInt(number, 10))}
	case "items":
		return []*twofoldv1.Column{client.Strings("item", item), client.Int64s("user_id", number)}
	case "devices":
		return []*twofoldv1.Column{client.Int64s("device_id", number)}
	default:
		return []*twofoldv1.Column{client.Int64s("user_id", number)}
	}
}

// write adds a file to a view's source.
func (f *forgetting) write(view string) {
	var numbers, texts, items, times, xs []any
	for range 1 + f.r.IntN(2*forgetUsers) {
		number := f.r.Int64N(forgetUsers)
		numbers, texts, items = append(numbers, number), append(texts, strconv.FormatInt(number, 10)), append(items, []string{"a", "b,1"}[f.r.IntN(2)])
		times, xs = append(times, f.next().UnixMicro()), append(xs, f.r.Int64())
	}
	table := new(servertest.Table)
	switch view {
	case "renamed":
		table.Add("user_id", feature.String, texts...)
	case "devices":
		table.Add("device_id", feature.Int64, numbers...)
	default:
		table.Add("user_id", feature.Int64, numbers...)
	}
	f.files++
	table.Add("item", feature.String, items...).Add("at", feature.Timestamp, times...).Add("x", feature.Int64, xs...).
		WriteParquet(f.T, filepath.Join(f.dir, view, fmt.Sprintf("%03d.parquet", f.files)))
}

// push pushes a row to both stores.
func (f *forgetting) push() {
	view := []string{"latest", "history", "renamed", "items", "devices"}[f.r.IntN(5)]
	number := f.r.Int64N(forgetUsers)
	request := &twofoldv1.PushFeaturesRequest{FeatureView: view, Columns: append(keysOf(view, number, "a"), client.Timestamps("event_timestamp", f.next()), client.Int64s("x", f.r.Int64()))}
	_, err := f.all.Client.Push(f.Context(), request)
	require.NoError(f, err)
	answer, err := f.env.Client.Push(f.Context(), request)
	require.NoError(f, err)
	left := uint64(0)
	if f.forgotten[number] && view != "devices" {
		left = 1
	}
	require.Equal(f, left, answer.GetRowsForgotten())
	require.Equal(f, uint64(1), answer.GetRowsForgotten()+answer.GetRowsWritten()+answer.GetRowsOlder()+answer.GetRowsUnchanged()+answer.GetRowsExpired())
}

func (f *forgetting) sync() {
	for _, env := range []*servertest.Env{f.all, f.env} {
		reports, err := env.Syncer.RunOnce(f.Context(), syncer.Request{Wait: true})
		require.NoError(f, err)
		for _, r := range reports {
			require.Equal(f, r.RowsRead, r.RowsBad.Total()+r.RowsFuture+r.RowsExpired+r.RowsSuperseded+r.RowsForgotten+r.Versions, "%v", r)
			if env == f.all || r.View == "devices" {
				require.Zero(f, r.RowsForgotten)
			}
		}
	}
}

func (f *forgetting) forgetter() *syncer.Forgetter {
	return &syncer.Forgetter{Registry: f.env.Definitions.Registry, Online: f.env.Online, Settle: 10 * time.Millisecond, LeaseDuration: 20 * time.Millisecond}
}

// request names some users.
func (f *forgetting) request(users ...int64) syncer.ForgetRequest {
	entity, err := f.env.Definitions.Registry.Entity("user")
	require.NoError(f, err)
	keys := feature.NewColumn(feature.Int64, len(users))
	for _, user := range users {
		keys.AppendInt64(user)
	}
	return syncer.ForgetRequest{Entity: entity, Keys: []*feature.Column{keys}}
}

// until does something again and again until it succeeds; the lease of one that died may have to run out, and one so short may be lost.
func (f *forgetting) until(do func() error) {
	for {
		err := do()
		if err == nil {
			return
		}
		require.ErrorIs(f, err, syncstate.ErrFenced)
	}
}

// forget forgets a user, after attempts that die at some call of the store, and while somebody pushes rows of that user.
func (f *forgetting) forget(user int64) {
	for range f.r.IntN(3) {
		f.driver.mu.Lock()
		// The first forgetting makes the list, which takes many calls.
		f.driver.left, f.driver.after = f.r.IntN([]int{50, 400}[f.r.IntN(2)]), f.r.IntN(2) == 0
		f.driver.mu.Unlock()
		_, _ = f.forgetter().Forget(f.Context(), f.request(user)) // whatever it says
		f.driver.mu.Lock()
		f.driver.left, f.driver.after = -1, false
		f.driver.mu.Unlock()
	}
	ctx, stop := context.WithCancel(f.Context())
	defer stop()
	var pushing sync.WaitGroup
	at := start.Add(-25 * time.Hour)
	pushing.Go(func() {
		for i := int64(0); ctx.Err() == nil; i++ {
			_, err := f.env.Client.Push(f.Context(), &twofoldv1.PushFeaturesRequest{FeatureView: "latest",
				Columns: []*twofoldv1.Column{client.Int64s("user_id", user), client.Timestamps("event_timestamp", at.Add(time.Duration(i)*time.Millisecond)), client.Int64s("x", i)}})
			if err != nil && status.Code(err) != codes.Unavailable {
				f.Error(err)
				return
			}
		}
	})
	f.until(func() error {
		done, err := f.forgetter().Forget(f.Context(), f.request(user))
		if err == nil && !done.IsVerified() {
			f.Errorf("%+v", done)
		}
		return err
	})
	stop()
	pushing.Wait()
	f.forgotten[user], f.once[user] = true, true
}

// allow lets a user come back.
func (f *forgetting) allow(user int64) {
	f.until(func() error {
		_, err := f.forgetter().Allow(f.Context(), f.request(user))
		return err
	})
	delete(f.forgotten, user)
}

// stored are the rows of a view that are served, by key.
func (f *forgetting) stored(env *servertest.Env, name string) map[string][]string {
	view, err := env.Definitions.Registry.View(name)
	require.NoError(f, err)
	_, generations, _, err := env.Online.LiveStates(f.Context(), []*feature.View{view})
	require.NoError(f, err)
	rows := map[string][]string{}
	err = env.Online.Scan(f.Context(), view, generations[0], func(s *online.Scanned) error {
		require.Empty(f, s.Unreadable)
		for row := range s.Tombstones {
			key := fmt.Sprint(userOf(view, s.Keys, row))
			text := fmt.Sprint(s.EventTimes.Int64s[row], s.Features[0].Int64s[row])
			if len(s.Keys) > 1 {
				text = string(s.Keys[0].BytesAt(row)) + " " + text
			}
			rows[key] = append(rows[key], text)
		}
		return nil
	})
	require.NoError(f, err)
	for _, r := range rows {
		slices.Sort(r)
	}
	return rows
}

// userOf is the user, or device, of a row.
func userOf(view *feature.View, keys []*feature.Column, row int) int64 {
	c := keys[len(keys)-1]
	if view.Entity.Name != "account" {
		return c.Int64s[row]
	}
	user, err := strconv.ParseInt(string(c.BytesAt(row)), 10, 64)
	if err != nil {
		panic(err)
	}
	return user
}

// check requires that nothing is stored of those who are forgotten, in any generation, and that everybody else is as in the other store.
func (f *forgetting) check(synced bool) {
	for _, name := range forgetViews {
		want, got := f.stored(f.all, name), f.stored(f.env, name)
		for number := range int64(forgetUsers) {
			key := strconv.FormatInt(number, 10)
			switch {
			case name == "devices" || !f.once[number]:
				require.Equal(f, want[key], got[key], "view %s, %s", name, key)
			case f.forgotten[number]:
				require.Empty(f, got[key], "view %s, %s", name, key)
			case synced && name == "snapshot": // nothing is pushed there
				require.Equal(f, want[key], got[key], "view %s, %s is back", name, key)
			case synced && len(got[key]) == 0:
				require.NotContains(f, f.inFiles(name), number, "view %s: %s is not back", name, key)
			}
		}
		if name != "devices" {
			f.checkGenerations(name)
		}
	}
	for user := range f.forgotten {
		answer, err := f.env.Client.Online(f.Context(), &twofoldv1.GetOnlineFeaturesRequest{Features: []string{"latest:x"}, Entities: []*twofoldv1.Column{client.Int64s("user_id", user)}, OmitEntities: true})
		require.NoError(f, err)
		require.Equal(f, twofoldv1.ValueStatus_VALUE_STATUS_NOT_FOUND, client.Status(answer.GetColumns()[0], 0))
	}
}

// inFiles are the users who have rows in a view's files, as one who forgets nobody sees them.
func (f *forgetting) inFiles(name string) map[int64]bool {
	view, err := f.env.Definitions.Registry.View(name)
	require.NoError(f, err)
	d := inMemory(f)
	store := online.NewStore(d, online.Options{Now: f.clock.Now})
	defer store.Close()
	s, err := syncer.New(syncer.Options{Registry: f.env.Definitions.Registry, Online: store, Offline: f.env.Offline, Now: f.clock.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	require.NoError(f, err)
	require.NoError(f, s.SyncView(f.Context(), view, syncer.Request{}).Err)
	users := map[int64]bool{}
	require.NoError(f, store.Scan(f.Context(), view, 0, func(s *online.Scanned) error {
		for row := range s.Tombstones {
			users[userOf(view, s.Keys, row)] = true
		}
		return nil
	}))
	return users
}

func (f *forgetting) checkGenerations(name string) {
	view, err := f.env.Definitions.Registry.View(name)
	require.NoError(f, err)
	states, err := syncstate.New(f.env.Online).States(f.Context(), []string{name})
	require.NoError(f, err)
	generations := []uint64{0}
	for _, g := range append(slices.Concat(states[0].GetPrevious(), states[0].GetRemoving()), states[0].GetLive()) {
		if g != nil {
			generations = append(generations, g.GetNumber())
		}
	}
	for _, generation := range generations {
		require.NoError(f, f.env.Online.ScanKeys(f.Context(), view, generation, func(stored [][]byte) error {
			for _, key := range stored {
				keys := feature.NewColumns(nil, 0)
				for _, k := range view.Entity.Keys {
					keys = append(keys, feature.NewColumn(k.Type, 1))
				}
				require.NoError(f, feature.DecodeKey(keys, key))
				require.False(f, f.forgotten[userOf(view, keys, 0)], "view %s, generation %d: %q", name, generation, key)
			}
			return nil
		}))
	}
}

func (f *forgetting) run(steps int) {
	f.sync()
	for range steps {
		synced := false
		for range 1 + f.r.IntN(4) {
			synced = false
			user := f.r.Int64N(forgetUsers)
			switch f.r.IntN(8) {
			case 0, 1:
				f.write(forgetViews[f.r.IntN(len(forgetViews))])
			case 2, 3:
				f.push()
			case 4:
				f.forget(user)
			case 5:
				if f.forgotten[user] {
					f.allow(user)
				}
			default:
				f.clock.Advance(time.Minute)
				f.sync()
				synced = true
			}
		}
		f.check(synced)
		if f.Failed() {
			return
		}
	}
	for _, user := range slices.Sorted(maps.Keys(f.forgotten)) {
		f.allow(user)
	}
	f.sync()
	f.check(true)
}

// TestForgottenStayForgotten forgets users at random moments among syncs and pushes, wherever the command dies: nothing of them is stored until they are allowed again, and everybody else is as if
// nobody had been forgotten.
func TestForgottenStayForgotten(t *testing.T) {
	eachSeed(t, 12, func(t *testing.T, r *rand.Rand) {
		d := inMemory(t)
		newForgetting(t, r, d).run(8)
	})
}

// TestForgottenStayForgottenOnRedis is the same on a real Redis, in fewer steps.
func TestForgottenStayForgottenOnRedis(t *testing.T) {
	url := testenv.Redis(t).URL
	eachSeed(t, 3, func(t *testing.T, r *rand.Rand) {
		d, err := redisstore.Open(redisstore.Options{URL: url, Prefix: "t" + strconv.FormatUint(r.Uint64(), 36)})
		require.NoError(t, err)
		newForgetting(t, r, d).run(4)
	})
}

// TestForgetSays: a look changes nothing and tells what there is; the receipt tells what went; an entity without views is refused; exact leaves others alone.
func TestForgetSays(t *testing.T) {
	f := newForgetting(t, rand.New(rand.NewPCG(1, 2)), inMemory(t))
	for _, view := range forgetViews {
		push(t, f.env, view, 100, "a")
		push(t, f.env, view, 100, "b")
		push(t, f.env, view, 101, "a")
	}
	look, err := f.forgetter().Look(t.Context(), f.request(100, 102))
	require.NoError(t, err)
	removed := func(done *syncer.Forgetting) map[string]int {
		counts := map[string]int{}
		for _, v := range done.Views {
			counts[v.View] = v.Removed
		}
		return counts
	}
	everywhere := map[string]int{"latest": 1, "history": 1, "snapshot": 0, "renamed": 1, "items": 2}
	require.Equal(t, everywhere, removed(look))
	require.Zero(t, look.Listed)
	again, err := f.forgetter().Look(t.Context(), f.request(100, 102))
	require.NoError(t, err)
	require.Equal(t, removed(look), removed(again))
	require.Empty(t, again.Hashes, "without a list there is no key to make them with")

	exact := f.request(100)
	exact.Exact = true
	done, err := f.forgetter().Forget(t.Context(), exact)
	require.NoError(t, err)
	require.Equal(t, map[string]int{"latest": 1, "history": 1, "snapshot": 0}, removed(done))
	require.True(t, done.IsVerified())
	require.Equal(t, 1, done.Listed)
	require.Len(t, f.stored(f.env, "items"), 2, "left alone: it has other keys beside")

	done, err = f.forgetter().Forget(t.Context(), f.request(100, 102))
	require.NoError(t, err)
	require.Equal(t, map[string]int{"latest": 0, "history": 0, "snapshot": 0, "renamed": 1, "items": 2}, removed(done))
	require.Equal(t, 2, done.Listed)
	done, err = f.forgetter().Forget(t.Context(), f.request(102))
	require.NoError(t, err)
	require.Zero(t, done.Listed, "it is in the list")
	n, err := f.forgetter().Allow(t.Context(), f.request(100))
	require.NoError(t, err)
	require.Equal(t, 2, n, "the exact entry and the other")

	entity := &feature.Entity{Name: "ghost", Keys: []feature.Key{{Name: "ghost_id", Type: feature.Int64}}}
	_, err = f.forgetter().Look(t.Context(), syncer.ForgetRequest{Entity: entity, Keys: f.request(1).Keys})
	require.ErrorContains(t, err, "no feature view")
}

// push writes a row as a server does, to views of any mode.
func push(t *testing.T, env *servertest.Env, name string, number int64, item string) {
	t.Helper()
	if name == "snapshot" {
		return
	}
	_, err := env.Client.Push(t.Context(), &twofoldv1.PushFeaturesRequest{FeatureView: name,
		Columns: append(keysOf(name, number, item), client.Timestamps("event_timestamp", start), client.Int64s("x", 1))})
	require.NoError(t, err)
}

// TestImportForgotten: a store that lost its data is given the list again, and what a sync brought back meanwhile goes.
func TestImportForgotten(t *testing.T) {
	f := newForgetting(t, rand.New(rand.NewPCG(3, 4)), inMemory(t))
	f.sync()
	f.forget(1)
	f.forget(2)
	f.sync()
	view, err := f.env.Definitions.Registry.View("latest")
	require.NoError(t, err)
	report, err := audit.Run(t.Context(), audit.Options{View: view, Online: f.env.Online, Offline: f.env.Offline, Now: f.clock.Now})
	require.NoError(t, err)
	require.NoError(t, report.Err(), "an audit does not miss who was forgotten")
	list, err := syncstate.New(f.env.Online).Forgotten(t.Context())
	require.NoError(t, err)

	other := online.NewStore(inMemory(t), online.Options{Now: f.clock.Now})
	defer other.Close()
	s, err := syncer.New(syncer.Options{Registry: f.env.Definitions.Registry, Online: other, Offline: f.env.Offline, Now: f.clock.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	require.NoError(t, err)
	_, err = s.RunOnce(t.Context(), syncer.Request{})
	require.NoError(t, err)
	exported, err := syncstate.ImportForgotten(list.Export())
	require.NoError(t, err)
	forgetter := &syncer.Forgetter{Registry: f.env.Definitions.Registry, Online: other, Settle: time.Millisecond}
	done, err := forgetter.Import(t.Context(), exported)
	require.NoError(t, err)
	require.Equal(t, 2, done.Listed)
	require.True(t, done.IsVerified())
	_, err = s.RunOnce(t.Context(), syncer.Request{Full: true})
	require.NoError(t, err)
	first := f.env.Online
	f.env.Online = other
	f.check(true)
	f.env.Online = first
}

// TestForgetWaitsForASync: while a run has the view's lease the rows are not removed, for it may be writing them.
func TestForgetWaitsForASync(t *testing.T) {
	f := newForgetting(t, rand.New(rand.NewPCG(5, 6)), inMemory(t))
	state := syncstate.New(f.env.Online)
	lease, err := state.Acquire(t.Context(), "latest", syncstate.LeaseOptions{Holder: "a sync", Duration: 50 * time.Millisecond})
	require.NoError(t, err)
	push(t, f.env, "latest", 7, "")
	told := make(chan string, 10)
	forgetter := f.forgetter()
	forgetter.Tell = func(text string) { told <- text }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := forgetter.Forget(ctx, f.request(7))
		done <- err
	}()
	require.Contains(t, <-told, "is being synced by a sync")
	require.Contains(t, f.stored(f.env, "latest"), "7")
	require.NoError(t, lease.Release(t.Context()))
	require.NoError(t, <-done)
	require.NotContains(t, f.stored(f.env, "latest"), "7")

	lease, err = state.Acquire(t.Context(), "latest", syncstate.LeaseOptions{Holder: "a sync", Duration: 50 * time.Millisecond})
	require.NoError(t, err)
	go func() {
		_, err := forgetter.Forget(ctx, f.request(8))
		done <- err
	}()
	for text := range told {
		if text != "" {
			break
		}
	}
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.NoError(t, lease.Release(t.Context()))
}
