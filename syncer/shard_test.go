package syncer_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/syncstate"
	"github.com/twofold-ml/twofold/server/servertest"
	"github.com/twofold-ml/twofold/syncer"
)

func TestParseShard(t *testing.T) {
	for _, text := range []string{"0/1", "7/8", "1023/1024"} {
		shard, err := syncer.ParseShard(text)
		require.NoError(t, err)
		require.Equal(t, text, shard.String())
	}
	for _, text := range []string{"", "1", "8/8", "-1/8", "0/0", "0/1025", "1/2/3", "a/8", "1/b", "+1/8", " 1/8", "99999999999/8"} {
		_, err := syncer.ParseShard(text)
		require.Equal(t, fault.Invalid, fault.KindOf(err), "%q", text)
		require.ErrorContains(t, err, "for example 0/8")
	}
	require.Empty(t, syncer.Shard{}.String())
}

// FuzzParseShard: what is read is a shard, and is written as it would be read again.
func FuzzParseShard(f *testing.F) {
	f.Add("0/8")
	f.Add("/")
	f.Fuzz(func(t *testing.T, text string) {
		shard, err := syncer.ParseShard(text)
		if err != nil {
			return
		}
		if shard.Index < 0 || shard.Index >= shard.Count {
			t.Errorf("%q: %+v", text, shard)
		}
		if again, err := syncer.ParseShard(shard.String()); err != nil || again != shard {
			t.Errorf("%q: %+v, again %+v, %v", text, shard, again, err)
		}
	})
}

// TestShardsAreOneRun carries a view in shards at once: nobody is answered before the last one is done; then all is as one run would have left it, the counts add up, and a run
// without shards has nothing to do.
func TestShardsAreOneRun(t *testing.T) {
	eachStore(t, func(t *testing.T, d driver.Driver) {
		env, c, _ := shardedEnvironment(t, d)
		const n = 3
		first, err := env.Syncer.RunOnce(t.Context(), syncer.Request{Wait: true, Shard: syncer.Shard{Index: 1, Count: n}}, "short")
		require.NoError(t, err)
		require.Equal(t, "1 of 3 shards are done", first[0].Note)
		require.Contains(t, first[0].String(), "short, shard 1/3: read 10 rows")
		_, err = env.Client.Online(t.Context(), &twofoldv1.GetOnlineFeaturesRequest{
			Features: []string{"short:x"}, Entities: []*twofoldv1.Column{client.Int64s("user_id", 1, 2, 3, 4, 5, 6, 7)},
		})
		require.ErrorContains(t, err, "sync")
		status, err := env.Client.Sync().GetSyncStatus(t.Context(), &twofoldv1.GetSyncStatusRequest{FeatureViews: []string{"short"}})
		require.NoError(t, err)
		require.Contains(t, status.GetViews()[0].GetProblem(), "carried in shards, and not all of them are done")

		reports := make([]syncer.Report, n)
		reports[1] = first[0]
		var group sync.WaitGroup
		for _, i := range []int{0, 2} {
			group.Go(func() {
				some, err := env.Syncer.RunOnce(t.Context(), syncer.Request{Wait: true, Shard: syncer.Shard{Index: i, Count: n}}, "short")
				if err != nil {
					t.Error(err)
					return
				}
				reports[i] = some[0]
			})
		}
		group.Wait()
		var sum syncer.Report
		for i, r := range reports {
			require.Equal(t, int64(10), r.RowsRead)
			require.Equal(t, r.RowsRead, r.RowsBad.Total()+r.RowsFuture+r.RowsExpired+r.RowsSuperseded+r.RowsOtherShards+r.Versions, "shard %d: %v", i, r)
			require.Equal(t, r.Versions, r.Written+r.Older+r.Unchanged+r.Expired)
			require.Equal(t, [2]any{fmt.Sprintf("%d/%d", i, n), uint64(r.RowsOtherShards)}, [2]any{r.Run().GetShard(), r.Run().GetRowsOtherShards()})
			sum.RowsOtherShards += r.RowsOtherShards
			sum.RowsFuture += r.RowsFuture
			sum.RowsExpired += r.RowsExpired
			sum.RowsSuperseded += r.RowsSuperseded
			sum.Written += r.Written
			sum.Entities += r.Entities
			for reason, rows := range r.RowsBad {
				sum.RowsBad[reason] += rows
			}
		}
		// As in TestSyncCarriesTheNewestRowOfEachEntity: each row is of one shard, and not of the others.
		require.Equal(t, []int64{20, 2, 1, 1, 2, 4, 4}, []int64{sum.RowsOtherShards, sum.RowsBad.Total(), sum.RowsFuture, sum.RowsExpired, sum.RowsSuperseded, sum.Written, sum.Entities})
		require.Equal(t, []string{"11", "20", "NOT_FOUND", "NOT_FOUND", "EXPIRED", "NOT_FOUND", "NULL"}, read(t, env))

		for _, shard := range []syncer.Shard{{}, {Index: 2, Count: n}, {Index: 4, Count: 5}} {
			c.Advance(time.Second)
			again, err := env.Syncer.RunOnce(t.Context(), syncer.Request{Wait: true, Shard: shard}, "short")
			require.NoError(t, err)
			require.Equal(t, twofoldv1.SyncOutcome_SYNC_OUTCOME_NOTHING_NEW, again[0].Outcome, "shard %v: %v", shard, again[0])
			require.Equal(t, int64(2), again[0].FilesUnchanged)
		}
		c.Advance(45 * time.Minute) // 3's row is no longer in the future
		for i := range 2 {
			_, err = env.Syncer.RunOnce(t.Context(), syncer.Request{Wait: true, Shard: syncer.Shard{Index: i, Count: 2}}, "short")
			require.NoError(t, err)
		}
		require.Equal(t, []string{"11", "20", "30", "NOT_FOUND", "EXPIRED", "NOT_FOUND", "EXPIRED"}, read(t, env))
		last, err := env.Syncer.RunOnce(t.Context(), syncer.Request{}, "short")
		require.NoError(t, err)
		require.Equal(t, twofoldv1.SyncOutcome_SYNC_OUTCOME_NOTHING_NEW, last[0].Outcome)
	})
}

// shardedEnvironment is environment on another store.
func shardedEnvironment(t *testing.T, d driver.Driver) (*servertest.Env, *clock, string) {
	t.Helper()
	_, _, dir := environment(t)
	c := &clock{}
	return servertest.Start(t, servertest.Config{Definitions: definitions, Offline: offline.Config{Path: dir}, Online: d, Now: c.Now}), c, dir
}

// TestSnapshotsHaveNoShards: a generation is made by one run.
func TestSnapshotsHaveNoShards(t *testing.T) {
	c := newConvergence(t, rand.New(rand.NewPCG(1, 1)), inMemory(t), snapshotDefinitions(""))
	defer c.close()
	c.put("a.parquet", 1, 0, 1, 2)
	report := c.syncShard(syncer.Shard{Index: 0, Count: 2})
	require.Equal(t, fault.Precondition, fault.KindOf(report.Err))
	require.ErrorContains(t, report.Err, "mode SNAPSHOT")
}

// TestShardsOfAnotherDefinition: what a shard has carried does not count any more once rows of another definition may have taken its place, not even when the first one comes back.
func TestShardsOfAnotherDefinition(t *testing.T) {
	c := newConvergence(t, rand.New(rand.NewPCG(1, 1)), inMemory(t), convergentDefinitions)
	defer c.close()
	other := strings.Replace(convergentDefinitions, "{name: x, type: INT64}", "{name: x, type: INT64, column: user_id}", 1)
	require.NotEqual(t, convergentDefinitions, other)
	c.put("a.parquet", 1, 0, 1, 2, 3, 4, 5)
	shards := func(indexes ...int) (reports []syncer.Report) {
		for _, i := range indexes {
			c.clock.Advance(time.Second)
			report := c.syncShard(syncer.Shard{Index: i, Count: 2})
			require.NoError(t, report.Err)
			reports = append(reports, report)
		}
		return reports
	}
	shards(0)
	c.use(other)
	shards(0, 1)
	c.use(convergentDefinitions)
	require.Equal(t, "1 of 2 shards are done", shards(1)[0].Note)
	require.Equal(t, "all 2 shards are done", shards(0)[0].Note)
	c.check(syncer.Report{})

	// A run by another definition that dies leaves nothing of what the first one has carried to be relied on.
	c.use(other)
	c.driver.left = 12
	require.Error(t, c.sync().Err)
	c.driver.left = -1
	c.use(convergentDefinitions)
	again := c.sync()
	require.NoError(t, again.Err)
	require.Equal(t, int64(1), again.FilesRead)
	c.check(again)
}

// snapshotOf is what the files were at a time.
type snapshotOf struct {
	at    time.Time
	files map[string][][4]int64
}

// TestShardsConverge kills shards, of several numbers of them, and runs of the whole view at every call of the store, while files come and change. Whenever the view is marked as synced as of a moment, the store has
// the newest rows of that moment, or newer ones; once all shards are done it has what one run would have left, and that has nothing more to do.
func TestShardsConverge(t *testing.T) {
	eachSeed(t, 30, func(t *testing.T, r *rand.Rand) {
		c := newConvergence(t, r, inMemory(t), convergentDefinitions)
		defer c.close()
		var past []snapshotOf
		write := func() {
			c.clock.Advance(time.Minute)
			past = append(past, snapshotOf{c.clock.Now(), maps.Clone(c.files)}) // as it was until now
			for name, rows := range c.files {
				past[len(past)-1].files[name] = slices.Clone(rows)
			}
			c.write()
		}
		for range 5 {
			count := 1 + r.IntN(4)
			for range 1 + r.IntN(2) {
				write()
			}
			c.clock.Advance(time.Duration(r.IntN(3)) * time.Hour)
			for range r.IntN(8) {
				shard := syncer.Shard{Index: r.IntN(count), Count: count}
				switch r.IntN(6) {
				case 0:
					c.die()
				case 1:
					write()
				case 2:
					other := 1 + r.IntN(4)
					c.dieShard(syncer.Shard{Index: r.IntN(other), Count: other})
				case 3:
					require.NoError(t, c.syncShard(shard).Err)
				default:
					c.dieShard(shard)
				}
				c.clock.Advance(time.Second)
				c.requireAsOfMarker(past)
			}
			var last syncer.Report
			for _, i := range r.Perm(count) {
				c.clock.Advance(time.Second)
				last = c.syncShard(syncer.Shard{Index: i, Count: count})
				require.NoError(t, last.Err)
				c.requireAsOfMarker(past)
			}
			require.Equal(t, fmt.Sprintf("all %d shards are done", count), last.Note)
			c.check(last)
			again := c.sync()
			require.NoError(t, again.Err)
			require.Equal(t, twofoldv1.SyncOutcome_SYNC_OUTCOME_NOTHING_NEW, again.Outcome, "%v after %v", again, last)
			if c.Failed() {
				return
			}
		}
	})
}

// requireAsOfMarker: where the view is marked as synced as of a moment, no user's row is older than the newest one of then.
func (c *convergence) requireAsOfMarker(past []snapshotOf) {
	c.Helper()
	states, version, err := c.store.SyncStates(c.Context(), []*feature.View{c.view})
	require.NoError(c, err)
	if states[0] != online.Synced {
		return
	}
	text, _, _ := strings.Cut(version, " ")
	at, err := time.Parse(time.RFC3339Nano, text)
	require.NoError(c, err)
	files := c.files
	for _, p := range slices.Backward(past) {
		if at.Before(p.at) {
			files = p.files
		}
	}
	newest := map[int64][4]int64{}
	for _, rows := range files {
		for _, row := range rows {
			best, ok := newest[row[0]]
			if row[1] <= at.UnixMicro() && (!ok || cmp.Or(cmp.Compare(row[1], best[1]), cmp.Compare(row[2], best[2])) >= 0) {
				newest[row[0]] = row
			}
		}
	}
	result := c.read()
	for user, want := range newest {
		require.NotEqual(c, feature.NotFound, result.Columns[0].Status[user], "user %d is marked as synced at %v, and has no row", user, at)
		require.GreaterOrEqual(c, result.EventTimes[0][user], want[1], "user %d, synced at %v", user, at)
	}
}

// TestShardsOfVersions: versions are carried in shards as in one run.
func TestShardsOfVersions(t *testing.T) {
	dir := t.TempDir()
	new(servertest.Table).
		Add("user_id", feature.Int64, 1, 1, 1, 2, 2, 3).Add("at", feature.Timestamp, at(-9*time.Hour), at(-2*time.Hour), at(-time.Hour), at(-time.Hour), at(0), at(-8*time.Hour)).
		Add("written", feature.Timestamp, at(0), at(0), at(0), at(0), at(0), at(0)).Add("x", feature.Int64, 10, 11, 12, 20, 21, 30).
		WriteParquet(t, filepath.Join(dir, "v", "1.parquet"))
	env := servertest.Start(t, servertest.Config{Definitions: historyDefinitions(2, "ttl: 2h\n    expired_retention: 1h"), Offline: offline.Config{Path: dir}, Now: func() time.Time { return start }})
	versions := int64(0)
	for i := range 4 {
		reports, err := env.Syncer.RunOnce(t.Context(), syncer.Request{Shard: syncer.Shard{Index: i, Count: 4}})
		require.NoError(t, err)
		r := reports[0]
		require.Equal(t, r.RowsRead, r.RowsExpired+r.RowsOtherShards+r.Versions)
		versions += r.Versions
	}
	require.Equal(t, int64(5), versions, "those of users 1 and 2; of user 3 nothing is kept")
	response, err := env.Client.Online(t.Context(), &twofoldv1.GetOnlineFeaturesRequest{Features: []string{"v:x"}, Entities: []*twofoldv1.Column{client.Int64s("user_id", 1, 2, 3)}, OmitEntities: true})
	require.NoError(t, err)
	require.Equal(t, []int64{12, 21, 0}, response.GetColumns()[0].GetInt64S().GetValues())
}

// TestServerLosesItsDataBetweenShards: rows of a shard that a server has lost since are carried again before the view is marked as synced.
func TestServerLosesItsDataBetweenShards(t *testing.T) {
	d := inMemory(t)
	many := &lossy{Driver: d}
	c := newConvergence(t, rand.New(rand.NewPCG(1, 1)), many, convergentDefinitions)
	defer c.close()
	c.lease = 10 * time.Second // nobody dies
	c.put("a.parquet", 1, 0, 1, 2, 3, 4, 5)
	shard := func(i int) syncer.Report {
		c.clock.Advance(time.Second)
		return c.syncShard(syncer.Shard{Index: i, Count: 2})
	}
	require.NoError(t, shard(0).Err)
	many.forgotten = "carried/v/shard-0"
	report := shard(1)
	require.Equal(t, fault.Unavailable, fault.KindOf(report.Err))
	require.ErrorContains(t, report.Err, "since shard 0/2 was carried; run that shard again")
	again := shard(0)
	require.NoError(t, again.Err)
	require.Equal(t, int64(1), again.FilesRead)
	require.Equal(t, "all 2 shards are done", again.Note)
	c.check(again)
}

// lossy is a driver of two servers, one of which has lost a mark, and with it what was written before, until it is left again.
type lossy struct {
	driver.Driver
	forgotten string
}

func (f *lossy) PutMark(ctx context.Context, name string, value []byte) error {
	if name == f.forgotten {
		f.forgotten = ""
	}
	return f.Driver.PutMark(ctx, name, value)
}

func (f *lossy) Marks(ctx context.Context, name string) ([][]byte, error) {
	marks, err := f.Driver.Marks(ctx, name)
	if name == f.forgotten {
		marks = append(marks, nil)
	}
	return marks, err
}

// TestShardsAndForgetting: what is forgotten while a shard is carried is gone once both are done, and comes back through shards when it is allowed again. A view that goes from the
// definitions takes what is known of its shards with it.
func TestShardsAndForgetting(t *testing.T) {
	c := newConvergence(t, rand.New(rand.NewPCG(1, 1)), inMemory(t), convergentDefinitions)
	defer c.close()
	c.put("a.parquet", 1, 0, 1, 2, 3, 4, 5)
	both := func() (read int64) {
		for i := range 2 {
			c.clock.Advance(time.Second)
			report := c.syncShard(syncer.Shard{Index: i, Count: 2})
			require.NoError(t, report.Err)
			read += report.FilesRead
		}
		return read
	}
	require.Equal(t, int64(2), both())

	// A shard that is being carried, and has read the list of the forgotten already: it writes user 3 after all.
	state := syncstate.New(c.store)
	running := map[int]*syncstate.Lease{}
	for i := range 2 {
		var err error
		running[i], err = state.Acquire(t.Context(), syncstate.ShardName("v", i), syncstate.LeaseOptions{Holder: "a shard", Duration: 100 * time.Millisecond, Wait: true})
		require.NoError(t, err)
	}
	waiting, forgotten := make(chan string, 9), make(chan error, 1)
	forgetter := &syncer.Forgetter{Registry: registry(t, convergentDefinitions), Online: c.store, Settle: time.Millisecond, LeaseDuration: 20 * time.Millisecond, Tell: func(text string) { waiting <- text }}
	user := feature.NewColumn(feature.Int64, 1)
	user.AppendInt64(3)
	request := syncer.ForgetRequest{Entity: c.view.Entity, Keys: []*feature.Column{user}}
	go func() {
		_, err := forgetter.Forget(t.Context(), request)
		forgotten <- err
	}()
	require.Contains(t, <-waiting, "waiting for the end of a sync of a shard")
	stats, err := c.store.Write(t.Context(), online.Rows{View: c.view, Keys: request.Keys, EventTimes: timesOf(at(time.Hour)), Features: request.Keys})
	require.NoError(t, err)
	require.Equal(t, 1, stats.Written)
	for _, lease := range running {
		require.NoError(t, lease.Release(t.Context()))
	}
	require.NoError(t, <-forgotten)
	require.Equal(t, feature.NotFound, c.read().Columns[0].Status[3])

	_, err = forgetter.Allow(t.Context(), request)
	require.NoError(t, err)
	require.Equal(t, int64(2), both(), "every file is read again")
	require.Equal(t, feature.Present, c.read().Columns[0].Status[3])

	gone := registry(t, strings.Replace(convergentDefinitions, "name: v", "name: w", 1))
	s, err := syncer.New(syncer.Options{Registry: gone, Online: c.store, Offline: c.offline, Now: c.clock.Now, LeaseDuration: 20 * time.Millisecond})
	require.NoError(t, err)
	removed, err := s.RemoveGone(t.Context(), true)
	require.NoError(t, err)
	require.Len(t, removed, 1)
	for i := range 2 {
		name := syncstate.ShardName("v", i)
		values, err := c.store.GetMeta(t.Context(), []string{"sync/" + name})
		require.NoError(t, err)
		require.Nil(t, values[0], name)
	}
	require.Equal(t, int64(2), both(), "what was carried before does not count once the view is back")
	c.check(syncer.Report{})
}

func timesOf(micros int64) *feature.Column {
	c := feature.NewColumn(feature.Timestamp, 1)
	c.AppendInt64(micros)
	return c
}
