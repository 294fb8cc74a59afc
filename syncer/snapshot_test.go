package syncer_test

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/syncstate"
	"github.com/twofold-ml/twofold/syncer"
)

func snapshotDefinitions(snapshot string) string {
	return strings.Replace(convergentDefinitions, "batch_size: 2", "batch_size: 2, mode: SNAPSHOT, snapshot: {"+snapshot+"}", 1)
}

// snapshots is a source that is served by snapshots.
func snapshots(t *testing.T, checks string) *convergence {
	c := newConvergence(t, rand.New(rand.NewPCG(1, 1)), inMemory(t), snapshotDefinitions(checks))
	c.lease = 10 * time.Second // nobody dies
	t.Cleanup(c.close)
	return c
}

// put makes a file of users whose values are all x.
func (c *convergence) put(name string, x int64, users ...int64) {
	c.files[name] = nil
	for _, user := range users {
		c.files[name] = append(c.files[name], [4]int64{user, start.UnixMicro(), start.UnixMicro(), x})
	}
	c.writeFile(name)
}

// served is what readers see of each user: generation and values.
func (c *convergence) served() (uint64, map[int64]int64) {
	states, generations, _, err := c.store.LiveStates(c.Context(), []*feature.View{c.view})
	require.NoError(c, err)
	if states[0] != online.Synced {
		return 0, nil
	}
	asOf := feature.AsOf(c.clock.Now().UnixMicro())
	result, err := c.store.Read(c.Context(), c.plan, []*feature.Column{convergentKeys()}, online.ReadOptions{AsOf: asOf, Generations: generations})
	require.NoError(c, err)
	values := map[int64]int64{}
	for user := range int64(convergentUsers) {
		if result.Columns[0].IsPresent(int(user)) {
			values[user] = result.Columns[0].Int64s[user]
		}
	}
	return generations[0], values
}

func (c *convergence) syncer() *syncer.Syncer {
	s, err := syncer.New(syncer.Options{
		Registry: registry(c.T, c.definitions), Online: c.store, Offline: c.offline, Now: c.clock.Now, LeaseDuration: c.lease,
		GenerationGrace: 10 * time.Minute, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	require.NoError(c, err)
	return s
}

// state is what the store remembers of the view.
func (c *convergence) state() *twofoldv1.SyncState {
	states, err := syncstate.New(c.store).States(c.Context(), []string{"v"})
	require.NoError(c, err)
	return states[0]
}

// stored is how many rows of a generation are stored.
func (c *convergence) stored(generation uint64) (rows int) {
	require.NoError(c, c.store.Scan(c.Context(), c.view, generation, func(s *online.Scanned) error {
		rows += len(s.Tombstones) + len(s.Unreadable)
		return nil
	}))
	return rows
}

// TestSnapshot: what is in no file any longer is gone, with one change; the generation before can be returned to, until its time is over.
func TestSnapshot(t *testing.T) {
	c := snapshots(t, "")
	c.put("a.parquet", 1, 0, 1, 2)
	first := c.sync()
	require.NoError(t, first.Err)
	require.EqualValues(t, start.Unix(), first.Generation)
	require.EqualValues(t, 3, first.Written)
	generation, values := c.served()
	require.Equal(t, first.Generation, generation)
	require.Equal(t, map[int64]int64{0: 1, 1: 1, 2: 1}, values)

	c.put("a.parquet", 2, 0, 1)
	second := c.sync()
	require.NoError(t, second.Err)
	require.Equal(t, first.Generation+1, second.Generation, "of the same second")
	require.Contains(t, second.String(), "is live")
	_, values = c.served()
	require.Equal(t, map[int64]int64{0: 2, 1: 2}, values)

	returned, err := c.syncer().Rollback(t.Context(), "v", 0)
	require.NoError(t, err)
	require.Equal(t, second.Generation, returned.From.GetNumber())
	require.Equal(t, first.Generation, returned.To.GetNumber())
	_, values = c.served()
	require.Equal(t, map[int64]int64{0: 1, 1: 1, 2: 1}, values)
	_, err = c.syncer().Rollback(t.Context(), "v", 0)
	require.ErrorContains(t, err, "no generation before")
	require.Equal(t, fault.Precondition, fault.KindOf(err))
	_, err = c.syncer().Rollback(t.Context(), "v", first.Generation)
	require.ErrorContains(t, err, "live already")
	_, err = c.syncer().Rollback(t.Context(), "v", 7)
	require.ErrorContains(t, err, "generation 7 is not stored")
	idle := c.sync()
	require.NoError(t, idle.Err)
	require.Equal(t, twofoldv1.SyncOutcome_SYNC_OUTCOME_NOTHING_NEW, idle.Outcome, "what was returned to stays until a file changes")
	require.Contains(t, idle.Note, "to which the view was returned")
	_, err = c.syncer().Rollback(t.Context(), "v", second.Generation)
	require.NoError(t, err)

	c.put("b.parquet", 3, 5)
	third := c.sync()
	require.NoError(t, third.Err)
	_, values = c.served()
	require.Equal(t, map[int64]int64{0: 2, 1: 2, 5: 3}, values)
	require.Equal(t, 3, c.stored(first.Generation), "somebody may still be reading it")
	c.clock.Advance(11 * time.Minute)
	require.NoError(t, c.sync().Err)
	require.Zero(t, c.stored(first.Generation), "one beside the live one is kept")
	require.Equal(t, 2, c.stored(second.Generation))

	require.NoError(t, os.Remove(filepath.Join(c.dir, "v", "b.parquet")))
	require.NoError(t, c.sync().Err)
	_, values = c.served()
	require.Equal(t, map[int64]int64{0: 2, 1: 2}, values, "a file that is gone takes its entities with it")
}

// TestSnapshotChecks: a generation that is not as the definition asks is kept out and removed, and the one before is served on.
func TestSnapshotChecks(t *testing.T) {
	for name, c := range map[string]struct {
		checks string
		users  []int64
		want   string
	}{
		"too few":       {"min_entities: 3", []int64{0, 1}, "it has 2 entities, and sync.snapshot.min_entities asks for 3"},
		"a drop":        {"max_entity_drop: 0.4", []int64{0, 1}, "it has 2 entities where generation 1772366400 has 4, and sync.snapshot.max_entity_drop allows a share of 0.4 to go"},
		"a drop is ok":  {"max_entity_drop: 0.5", []int64{0, 1}, ""},
		"nulls":         {"max_null_share: {x: 0.4}", []int64{0, 1, -2, -3}, `feature "x" is null in 2 of 4 rows, and sync.snapshot.max_null_share allows a share of 0.4`},
		"nulls are ok":  {"max_null_share: {x: 0.5}", []int64{0, 1, -2, -3}, ""},
		"nobody is ok":  {"min_entities: 0, max_entity_drop: 1", nil, ""},
		"nobody is not": {"max_entity_drop: 1", nil, "it has 0 entities, and sync.snapshot.min_entities asks for 1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := snapshots(t, c.checks)
			s.put("a.parquet", 1, 0, 1, 2, 3)
			require.NoError(t, s.sync().Err)
			before, values := s.served()
			require.EqualValues(t, start.Unix(), before)
			s.put("a.parquet", 2, c.users...)
			report := s.sync()
			generation, now := s.served()
			if c.want == "" {
				require.NoError(t, report.Err)
				require.Equal(t, report.Generation, generation)
				return
			}
			require.ErrorContains(t, report.Err, c.want)
			require.Equal(t, fault.Precondition, fault.KindOf(report.Err))
			require.Equal(t, before, generation)
			require.Equal(t, values, now)
			require.Zero(t, s.stored(report.Generation))
			require.Empty(t, s.state().GetRemoving())
		})
	}
}

// forgetful is a driver that says of one row that it is stored, and has not stored it.
type forgetful struct {
	driver.Driver
	forgets bool
}

func (f *forgetful) Write(ctx context.Context, rows []driver.Row) ([]driver.Outcome, error) {
	if !f.forgets {
		return f.Driver.Write(ctx, rows)
	}
	f.forgets = false
	outcomes, err := f.Driver.Write(ctx, rows[1:])
	return append([]driver.Outcome{driver.Written}, outcomes...), err
}

// TestAuditBeforePublish: a generation in which a row is not as the files say does not go live.
func TestAuditBeforePublish(t *testing.T) {
	d := inMemory(t)
	f := &forgetful{Driver: d}
	c := newConvergence(t, rand.New(rand.NewPCG(1, 1)), f, strings.Replace(snapshotDefinitions(""), "mode: SNAPSHOT", "mode: SNAPSHOT, audit: BEFORE_PUBLISH", 1))
	c.lease = 10 * time.Second // nobody dies
	defer c.close()
	c.put("a.parquet", 1, 0, 1, 2)
	first := c.sync()
	require.NoError(t, first.Err)
	c.put("a.parquet", 2, 0, 1, 2)
	f.forgets = true
	report := c.sync()
	require.ErrorContains(t, report.Err, "does not go live: audit: ")
	require.ErrorContains(t, report.Err, "1 missing")
	require.Equal(t, fault.Precondition, fault.KindOf(report.Err))
	generation, values := c.served()
	require.Equal(t, first.Generation, generation)
	require.Equal(t, map[int64]int64{0: 1, 1: 1, 2: 1}, values)
	require.Zero(t, c.stored(report.Generation))
	require.NoError(t, c.sync().Err)
	_, values = c.served()
	require.Equal(t, map[int64]int64{0: 2, 1: 2, 2: 2}, values)
}

// TestModeChanges: from one mode to the other and back readers of either definition find all rows as long as they may still have it.
func TestModeChanges(t *testing.T) {
	c := snapshots(t, "")
	snapshot := c.view
	registry := registry(t, convergentDefinitions)
	incremental, err := registry.View("v")
	require.NoError(t, err)
	use := func(view *feature.View, definitions string) { c.view, c.definitions = view, definitions }
	read := func(view *feature.View) map[int64]int64 {
		defer func(v *feature.View) { c.view = v }(c.view)
		c.view = view
		_, values := c.served()
		return values
	}
	one, two, three := map[int64]int64{0: 1, 1: 1}, map[int64]int64{0: 2}, map[int64]int64{0: 3}

	use(incremental, convergentDefinitions)
	c.put("a.parquet", 1, 0, 1)
	require.NoError(t, c.sync().Err)
	use(snapshot, snapshotDefinitions(""))
	c.put("a.parquet", 2, 0)
	require.NoError(t, c.sync().Err)
	require.Equal(t, two, read(snapshot))
	require.Equal(t, one, read(incremental), "for whoever has the definition of before")
	_, err = c.syncer().Rollback(t.Context(), "v", 0)
	require.ErrorContains(t, err, "no generation before", "rows of the other mode are none")
	c.clock.Advance(11 * time.Minute)
	require.NoError(t, c.sync().Err)
	require.Equal(t, two, read(snapshot))
	require.Nil(t, read(incremental), "it is not synced")
	require.Zero(t, c.stored(0))

	use(incremental, convergentDefinitions)
	c.put("a.parquet", 3, 0)
	require.NoError(t, c.sync().Err)
	require.Equal(t, three, read(incremental))
	require.Equal(t, two, read(snapshot))
	c.clock.Advance(11 * time.Minute)
	require.NoError(t, c.sync().Err)
	require.Equal(t, three, read(incremental))
	require.Nil(t, read(snapshot))
	require.Empty(t, c.state().GetRemoving())
	require.Empty(t, c.state().GetPrevious())
}

// TestModeChangesBack: the generation that was live before the mode was INCREMENTAL for a while is served again, for as long as new ones fail their checks.
func TestModeChangesBack(t *testing.T) {
	c := snapshots(t, "max_entity_drop: 0.5")
	c.put("a.parquet", 1, 0, 1, 2)
	require.NoError(t, c.sync().Err)
	snapshot := c.definitions
	c.use(convergentDefinitions)
	c.put("a.parquet", 2, 0, 1, 2)
	require.NoError(t, c.sync().Err)
	c.use(snapshot)
	c.put("a.parquet", 3, 0)
	for range 3 {
		require.ErrorContains(t, c.sync().Err, "max_entity_drop")
		_, values := c.served()
		require.Equal(t, map[int64]int64{0: 1, 1: 1, 2: 1}, values)
		c.clock.Advance(11 * time.Minute)
	}
}

// TestSnapshotsWhereverTheyDie kills syncers at every call of the store while files come, change and go: readers always see one generation, whole, as the files were when it was
// made; the next run makes it good; and nothing stays of what was given up.
func TestSnapshotsWhereverTheyDie(t *testing.T) {
	eachSeed(t, 60, func(t *testing.T, r *rand.Rand) {
		c := newConvergence(t, r, inMemory(t), snapshotDefinitions("min_entities: 0, max_entity_drop: 1"))
		defer c.close()
		begun := map[uint64]bool{}
		var before map[int64]int64
		for range 6 {
			for range 1 + r.IntN(3) {
				c.write()
			}
			if names := slices.Sorted(maps.Keys(c.files)); len(names) > 1 && r.IntN(2) == 0 {
				name := names[r.IntN(len(names))]
				delete(c.files, name)
				require.NoError(t, os.Remove(filepath.Join(c.dir, "v", name)))
			}
			c.clock.Advance(time.Duration(r.IntN(40)) * time.Minute)
			want := map[int64]int64{}
			for user, row := range c.newest() {
				want[user] = row[3]
			}
			for range r.IntN(4) {
				c.die()
				begun[c.state().GetBegunGeneration()] = true
				if _, values := c.served(); !maps.Equal(values, want) {
					require.Equal(t, before, values, "neither as before nor as it should be now: %v", want)
				}
			}
			report := c.sync()
			require.NoError(t, report.Err)
			_, values := c.served()
			require.Equal(t, want, values, "%v", report)
			before = values
			state := c.state()
			begun[state.GetBegunGeneration()] = true
			require.Empty(t, state.GetRemoving())
			for _, g := range append(state.GetPrevious(), state.GetLive()) {
				delete(begun, g.GetNumber())
			}
			for number := range begun {
				require.Zero(t, c.stored(number), "generation %d of %v", number, state)
			}
			again := c.sync()
			require.NoError(t, again.Err)
			require.Equal(t, twofoldv1.SyncOutcome_SYNC_OUTCOME_NOTHING_NEW, again.Outcome, "%v", again)
		}
	})
}
