package syncer_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/online/pebblestore"
	"github.com/twofold-ml/twofold/internal/online/redisstore"
	"github.com/twofold-ml/twofold/internal/syncstate"
	"github.com/twofold-ml/twofold/internal/testenv"
	"github.com/twofold-ml/twofold/server/servertest"
	"github.com/twofold-ml/twofold/syncer"
)

// mortal is a driver whose process dies at some call: that call has its effect or has not, and none after it has any.
type mortal struct {
	driver.Driver
	mu    sync.Mutex
	left  int // calls until it dies; negative is never
	after bool
}

var errDied = fault.New(fault.Unavailable, "the process has died")

// call makes a call, unless the process is dead.
func (m *mortal) call(do func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.left < 0:
		return do()
	case m.left > 0:
		m.left--
		return do()
	case m.after:
		m.after = false
		return errors.Join(do(), errDied)
	default:
		return errDied
	}
}

func (m *mortal) isDead() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.left == 0
}

func (m *mortal) Write(ctx context.Context, rows []driver.Row) (outcomes []driver.Outcome, err error) {
	err = m.call(func() error { outcomes, err = m.Driver.Write(ctx, rows); return err })
	return outcomes, err
}

func (m *mortal) GetMeta(ctx context.Context, names []string) (values [][]byte, err error) {
	err = m.call(func() error { values, err = m.Driver.GetMeta(ctx, names); return err })
	return values, err
}

func (m *mortal) PutMeta(ctx context.Context, name string, value []byte) error {
	return m.call(func() error { return m.Driver.PutMeta(ctx, name, value) })
}

func (m *mortal) SwapMeta(ctx context.Context, name string, old, value []byte) (swapped bool, err error) {
	err = m.call(func() error { swapped, err = m.Driver.SwapMeta(ctx, name, old, value); return err })
	return swapped, err
}

func (m *mortal) PutMark(ctx context.Context, name string, value []byte) error {
	return m.call(func() error { return m.Driver.PutMark(ctx, name, value) })
}

func (m *mortal) Marks(ctx context.Context, name string) (values [][]byte, err error) {
	err = m.call(func() error { values, err = m.Driver.Marks(ctx, name); return err })
	return values, err
}

func (m *mortal) Remove(ctx context.Context, entities []driver.Removal) (removed int, err error) {
	err = m.call(func() error { removed, err = m.Driver.Remove(ctx, entities); return err })
	return removed, err
}

// Scan dies at its first batch, if it dies: what the batches have done stays.
func (m *mortal) Scan(ctx context.Context, s driver.Scan, yield func([]driver.ScannedRow) error) error {
	if err := m.call(func() error { return nil }); err != nil {
		return err
	}
	return m.Driver.Scan(ctx, s, yield)
}

// convergence is one store and one source that grows.
type convergence struct {
	*testing.T
	r     *rand.Rand
	clock *clock
	dir   string
	// definitions are what the next syncer goes by, and lease is how long its leases outlive it.
	definitions string
	lease       time.Duration
	driver      *mortal
	store       *online.Store
	offline     *offline.Store
	view        *feature.View
	plan        *online.Plan
	// files are the rows of each file: user, event time, created time, value; pushed are rows of none.
	files  map[string][][4]int64
	pushed [][4]int64
}

const convergentDefinitions = `
entities:
  - {name: user, keys: [{name: user_id, type: INT64}]}
feature_views:
  - name: v
    entity: user
    source: {path: v, event_time_column: at, created_time_column: written}
    sync: {interval: 1h, batch_size: 2}
    features: [{name: x, type: INT64}]
`

const convergentUsers = 6

// inMemory is an online store that nothing but the test knows of, and that drops nothing by itself.
func inMemory(t require.TestingT) driver.Driver {
	d, err := pebblestore.Open(pebblestore.Options{InMemory: true, SweepInterval: -1})
	require.NoError(t, err)
	return d
}

func newConvergence(t *testing.T, r *rand.Rand, d driver.Driver, definitions string) *convergence {
	c := &convergence{T: t, r: r, clock: &clock{}, dir: t.TempDir(), definitions: definitions, lease: 20 * time.Millisecond, driver: &mortal{Driver: d, left: -1}, files: map[string][][4]int64{}}
	require.NoError(t, os.MkdirAll(filepath.Join(c.dir, "v"), 0o700))
	var err error
	c.offline, err = offline.Open(t.Context(), offline.Config{Path: c.dir})
	require.NoError(t, err)
	c.store = online.NewStore(c.driver, online.Options{Now: c.clock.Now})
	registry := registry(t, definitions)
	c.view, err = registry.View("v")
	require.NoError(t, err)
	selection, err := registry.Select(feature.SelectionQuery{Features: []string{"v:x"}})
	require.NoError(t, err)
	c.plan, err = online.NewPlan(selection)
	require.NoError(t, err)
	return c
}

func (c *convergence) close() {
	require.NoError(c, c.store.Close())
	require.NoError(c, c.offline.Close())
}

// write adds rows to a file, a new one or an old one, anywhere in the order of names: late ones, early ones, many of equal times.
func (c *convergence) write() {
	name := fmt.Sprintf("%02d.parquet", c.r.IntN(12))
	for range 1 + c.r.IntN(8) {
		c.files[name] = append(c.files[name], [4]int64{
			c.r.Int64N(convergentUsers), c.clock.Now().Add(time.Duration(c.r.IntN(8)-5) * time.Hour).UnixMicro(), start.Add(time.Duration(c.r.IntN(2)) * time.Hour).UnixMicro(), c.r.Int64(),
		})
	}
	c.writeFile(name)
}

// writeFile writes a file as it now is. A negative user's value is null.
func (c *convergence) writeFile(name string) {
	columns := [4][]any{}
	for _, row := range c.files[name] {
		columns[0], columns[1], columns[2] = append(columns[0], max(row[0], -row[0])), append(columns[1], row[1]), append(columns[2], row[2])
		if row[0] < 0 {
			columns[3] = append(columns[3], nil)
		} else {
			columns[3] = append(columns[3], row[3])
		}
	}
	new(servertest.Table).Add("user_id", feature.Int64, columns[0]...).Add("at", feature.Timestamp, columns[1]...).Add("written", feature.Timestamp, columns[2]...).
		Add("x", feature.Int64, columns[3]...).WriteParquet(c.T, filepath.Join(c.dir, "v", name))
}

// use goes by other definitions of the view.
func (c *convergence) use(definitions string) {
	var err error
	c.definitions = definitions
	c.view, err = registry(c.T, definitions).View("v")
	require.NoError(c, err)
}

// sync runs a new process's syncer once.
func (c *convergence) sync() syncer.Report { return c.syncShard(syncer.Shard{}) }

// syncShard is sync of one shard.
func (c *convergence) syncShard(shard syncer.Shard) syncer.Report {
	s := c.syncer()
	for {
		report := s.SyncView(c.Context(), c.view, syncer.Request{Wait: true, Shard: shard})
		if c.driver.isDead() || !errors.Is(report.Err, syncstate.ErrFenced) { // on a slow machine so short a lease may be lost
			return report
		}
	}
}

// die runs a syncer whose process dies at one of its first calls of the store, unless it makes fewer.
func (c *convergence) die() syncer.Report { return c.dieShard(syncer.Shard{}) }

// dieShard is die of one shard.
func (c *convergence) dieShard(shard syncer.Shard) syncer.Report {
	c.driver.mu.Lock()
	c.driver.left, c.driver.after = c.r.IntN(30), c.r.IntN(2) == 0
	c.driver.mu.Unlock()
	report := c.syncShard(shard)
	c.driver.mu.Lock()
	c.driver.left, c.driver.after = -1, false
	c.driver.mu.Unlock()
	return report
}

// newest are, of each user, the newest row up to now that is not too old to be kept: by event time, created time, name of the file and place in it.
func (c *convergence) newest() map[int64][4]int64 {
	newest, now := map[int64][4]int64{}, feature.AsOf(c.clock.Now().UnixMicro())
	offer := func(row [4]int64) {
		best, ok := newest[row[0]]
		if row[1] <= int64(now) && !c.view.KeepFor().Expired(feature.EventTime(row[1]), now) && (!ok || cmp.Or(cmp.Compare(row[1], best[1]), cmp.Compare(row[2], best[2])) >= 0) {
			newest[row[0]] = row
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.files)) {
		for _, row := range c.files[name] {
			offer(row)
		}
	}
	for _, row := range c.pushed {
		offer(row)
	}
	return newest
}

// read reads every user, expired or not.
func (c *convergence) read() *online.Result {
	result, err := c.store.Read(c.Context(), c.plan, []*feature.Column{convergentKeys()}, online.ReadOptions{AsOf: feature.AsOf(c.clock.Now().UnixMicro()), IncludeExpired: true})
	require.NoError(c, err)
	return result
}

// check compares every user with what is to be stored.
func (c *convergence) check(report syncer.Report) {
	newest, result := c.newest(), c.read()
	for user := range int64(convergentUsers) {
		want, ok := newest[user]
		if (result.Columns[0].Status[user] != feature.NotFound) != ok || result.Columns[0].Int64s[user] != want[3] || result.EventTimes[0][user] != want[1] {
			c.Errorf("user %d: got %d of %d, want %v; files %v; %v", user, result.Columns[0].Int64s[user], result.EventTimes[0][user], want, c.files, report)
		}
	}
}

func convergentKeys() *feature.Column {
	keys := feature.NewColumn(feature.Int64, convergentUsers)
	for user := range int64(convergentUsers) {
		keys.AppendInt64(user)
	}
	return keys
}

// run lets a source grow, time pass and syncers die, and after each sync that ended well compares all.
func (c *convergence) run(steps int) {
	for range steps {
		for range c.r.IntN(4) {
			c.write()
		}
		c.clock.Advance(time.Duration(c.r.IntN(3)) * time.Hour)
		for range c.r.IntN(3) {
			c.die()
		}
		if len(c.files) == 0 {
			continue
		}
		report := c.sync()
		require.NoError(c, report.Err)
		c.check(report)
		again := c.sync()
		require.NoError(c, again.Err)
		require.Equal(c, twofoldv1.SyncOutcome_SYNC_OUTCOME_NOTHING_NEW, again.Outcome, "%v", again)
		require.Zero(c, again.FilesRead)
		if c.Failed() {
			return
		}
	}
}

// TestConvergesWhereverItDies kills syncers at every call of the store, before and after its effect, while files come and change: the next one makes it good.
func TestConvergesWhereverItDies(t *testing.T) {
	eachSeed(t, 60, func(t *testing.T, r *rand.Rand) {
		c := newConvergence(t, r, inMemory(t), convergentDefinitions)
		defer c.close()
		c.run(6)
	})
}

// TestConvergesWhereverItDiesOnRedis is the same on a real Redis, in fewer steps.
func TestConvergesWhereverItDiesOnRedis(t *testing.T) {
	url := testenv.Redis(t).URL
	eachSeed(t, 10, func(t *testing.T, r *rand.Rand) {
		d, err := redisstore.Open(redisstore.Options{URL: url, Prefix: "t" + strconv.FormatUint(r.Uint64(), 36)})
		require.NoError(t, err)
		c := newConvergence(t, r, d, convergentDefinitions)
		defer c.close()
		c.run(4)
	})
}

// eachSeed runs a test with so many seeds, which it prints, those among them that have found something once; TWOFOLD_SEED names one to be repeated, TWOFOLD_TEST_SEEDS says how many
// times as many there are to be, and -short makes them few.
func eachSeed(t *testing.T, n int, test func(t *testing.T, r *rand.Rand)) {
	if testing.Short() {
		n = min(n, 5)
	}
	if text := os.Getenv("TWOFOLD_TEST_SEEDS"); text != "" {
		times, err := strconv.Atoi(text)
		require.NoError(t, err)
		n *= times
	}
	seeds := []uint64{280759612648469, 223593581504310}
	if text := os.Getenv("TWOFOLD_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
		seeds = []uint64{seed}
	}
	for len(seeds) < n && os.Getenv("TWOFOLD_SEED") == "" {
		seeds = append(seeds, rand.Uint64N(1<<48))
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("TWOFOLD_SEED=%d", seed), func(t *testing.T) { test(t, rand.New(rand.NewPCG(seed, 0))) })
	}
}
