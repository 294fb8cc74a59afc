package syncer_test

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/online/redisstore"
	"github.com/twofold-ml/twofold/internal/syncstate"
	"github.com/twofold-ml/twofold/internal/testenv"
	"github.com/twofold-ml/twofold/server/servertest"
	"github.com/twofold-ml/twofold/syncer"
)

const lastGoodDefinitions = `
entities:
  - {name: user, keys: [{name: user_id, type: INT64}]}
feature_views:
  - name: kept
    entity: user
    source: {path: kept, event_time_column: at}
    ttl: 2h
    expired_retention: 1h
    sync: {interval: 1h, keep_last_good: true}
    features: [{name: x, type: INT64}]
  - name: versions
    entity: user
    source: {path: kept, event_time_column: at}
    ttl: 2h
    expired_retention: 1h
    layout: HISTORY
    history_versions: 2
    sync: {interval: 1h, keep_last_good: true}
    features: [{name: x, type: INT64}]
  - name: beside
    entity: user
    source: {path: kept, event_time_column: at}
    ttl: 2h
    expired_retention: 1h
    sync: {interval: 1h}
    features: [{name: x, type: INT64}]
`

// lastGood is a server and a syncer of lastGoodDefinitions.
type lastGood struct {
	*testing.T
	*servertest.Env
	clock *clock
	dir   string
}

// eachStore runs a test on an embedded store and on a real Redis.
func eachStore(t *testing.T, test func(t *testing.T, d driver.Driver)) {
	t.Run("embedded", func(t *testing.T) { test(t, servertest.Memory(t)) })
	t.Run("redis", func(t *testing.T) {
		d, err := redisstore.Open(redisstore.Options{URL: testenv.Redis(t).URL})
		require.NoError(t, err)
		test(t, d)
	})
}

func newLastGood(t *testing.T, d driver.Driver, definitions string) *lastGood {
	e := &lastGood{T: t, clock: &clock{}, dir: t.TempDir()}
	e.Env = servertest.Start(t, servertest.Config{Definitions: definitions, Offline: offline.Config{Path: e.dir}, Online: d, Now: e.clock.Now})
	return e
}

// write writes a file with a row of a user, of now.
func (e *lastGood) write(name string, user, x int64) {
	new(servertest.Table).Add("user_id", feature.Int64, user).Add("at", feature.Timestamp, e.clock.Now().UnixMicro()).Add("x", feature.Int64, x).
		WriteParquet(e.T, filepath.Join(e.dir, "kept", name))
}

// get returns what a client is told of feature x of users 1 to 3, expired values included: "EXPIRED 7".
func (e *lastGood) get(view string) []string {
	e.Helper()
	response, err := e.Client.Online(e.Context(), &twofoldv1.GetOnlineFeaturesRequest{
		Features: []string{view + ":x"}, Entities: []*twofoldv1.Column{client.Int64s("user_id", 1, 2, 3)}, OmitEntities: true, IncludeExpired: true,
	})
	require.NoError(e, err)
	var cells []string
	for i, x := range response.GetColumns()[0].GetInt64S().GetValues() {
		cell := strings.TrimPrefix(client.Status(response.GetColumns()[0], i).String(), "VALUE_STATUS_")
		if cell == "PRESENT" || cell == "EXPIRED" {
			cell += " " + strconv.FormatInt(x, 10)
		}
		cells = append(cells, cell)
	}
	return cells
}

// sync runs the views once, and returns how many entities each lost.
func (e *lastGood) sync() (dropped []int64) {
	e.Helper()
	reports, err := e.Syncer.RunOnce(e.Context(), syncer.Request{})
	require.NoError(e, err)
	for _, report := range reports {
		dropped = append(dropped, report.EntitiesDropped)
	}
	return dropped
}

// problems are what GetSyncStatus says of each view.
func (e *lastGood) problems() (problems []string) {
	e.Helper()
	status, err := e.Client.Sync().GetSyncStatus(e.Context(), &twofoldv1.GetSyncStatusRequest{})
	require.NoError(e, err)
	for _, view := range status.GetViews() {
		problems = append(problems, view.GetProblem())
	}
	return problems
}

// expiries are when the store may drop the rows of a view.
func (e *lastGood) expiries(d driver.Driver, view string, history bool) (expiries []int64) {
	e.Helper()
	require.NoError(e, d.Scan(e.Context(), driver.Scan{Entity: "user", View: view, History: history}, func(rows []driver.ScannedRow) error {
		for _, r := range rows {
			expiries = append(expiries, r.ExpireAtMillis)
		}
		return nil
	}))
	return expiries
}

func (e *lastGood) push(view string, user, x int64) {
	e.Helper()
	_, err := e.Client.Push(e.Context(), &twofoldv1.PushFeaturesRequest{FeatureView: view, Columns: []*twofoldv1.Column{
		client.Int64s("user_id", user), client.Timestamps("event_timestamp", e.clock.Now()), client.Int64s("x", x),
	}})
	require.NoError(e, err)
}

// TestLastGoodRows: while no run succeeds the last good rows are served as EXPIRED, however late it is; once one has, those that are too old are gone.
func TestLastGoodRows(t *testing.T) {
	eachStore(t, func(t *testing.T, d driver.Driver) {
		e := newLastGood(t, d, lastGoodDefinitions)
		e.write("1.parquet", 1, 10)
		require.Equal(t, []int64{0, 0, 0}, e.sync())
		e.push("kept", 2, 20)
		e.push("versions", 2, 20)
		for view, history := range map[string]bool{"kept": false, "versions": true} {
			require.Equal(t, []int64{0, 0}, e.expiries(d, view, history), "the store has no expiry for them")
			require.Equal(t, []string{"PRESENT 10", "PRESENT 20", "NOT_FOUND"}, e.get(view))
		}
		require.Equal(t, []string{"", "", ""}, e.problems())

		e.clock.Advance(1000 * time.Hour)
		require.NoError(t, os.WriteFile(filepath.Join(e.dir, "kept", "2.parquet"), []byte("no Parquet file"), 0o600))
		for range 2 {
			_, err := e.Syncer.RunOnce(t.Context(), syncer.Request{})
			require.Error(t, err)
		}
		for _, view := range []string{"kept", "versions"} {
			require.Equal(t, []string{"EXPIRED 10", "EXPIRED 20", "NOT_FOUND"}, e.get(view))
		}
		problems := e.problems()
		for _, problem := range problems[:2] {
			require.Contains(t, problem, "the last run failed")
			require.Contains(t, problem, "the rows of the last good run, at 2026-03-01T12:00:00Z, are kept and served until a run succeeds, as EXPIRED")
		}
		require.NotContains(t, problems[2], "last good run")

		require.NoError(t, os.Remove(filepath.Join(e.dir, "kept", "2.parquet")))
		e.write("3.parquet", 3, 30)
		dropped := e.sync()
		require.Equal(t, []int64{2, 2}, dropped[:2])
		for _, view := range []string{"kept", "versions", "beside"} {
			require.Equal(t, []string{"NOT_FOUND", "NOT_FOUND", "PRESENT 30"}, e.get(view), view)
		}
		require.Equal(t, []string{"", "", ""}, e.problems())

		// A run that finds nothing new has succeeded as well.
		e.clock.Advance(4 * time.Hour)
		require.Equal(t, []string{"EXPIRED 30"}, e.get("kept")[2:])
		require.Equal(t, []int64{1, 1, 0}, e.sync())
		require.Equal(t, []string{"NOT_FOUND"}, e.get("kept")[2:])
	})
}

// TestLastGoodRowsAreLookedForSeldom: the rows are looked through only where some may be too old, and not at every run.
func TestLastGoodRowsAreLookedForSeldom(t *testing.T) {
	d := &countingScans{Driver: servertest.Memory(t)}
	e := newLastGood(t, d, lastGoodDefinitions)
	for step := range 24 { // of 15 minutes
		e.write(strconv.Itoa(step)+".parquet", int64(step%2), int64(step))
		e.sync()
		e.clock.Advance(15 * time.Minute)
	}
	require.LessOrEqual(t, d.scans["kept"], 3, "each row was replaced long before it was too old")
	require.LessOrEqual(t, d.scans["beside"], d.scans["kept"])
	before := d.scans["kept"]
	for range 24 {
		e.sync()
		e.clock.Advance(15 * time.Minute)
	}
	require.Greater(t, d.scans["kept"], before)
	require.LessOrEqual(t, d.scans["kept"], before+4)
	require.Equal(t, []string{"NOT_FOUND", "NOT_FOUND", "NOT_FOUND"}, e.get("kept"))
}

// countingScans counts the scans of each view.
type countingScans struct {
	driver.Driver
	scans map[string]int
}

func (c *countingScans) Scan(ctx context.Context, scan driver.Scan, yield func([]driver.ScannedRow) error) error {
	if c.scans == nil {
		c.scans = map[string]int{}
	}
	c.scans[scan.View]++
	return c.Driver.Scan(ctx, scan, yield)
}

// TestLastGoodIsTurnedOnAndOff: the rows of the files get an expiry, or lose theirs, by the next run; rows without one that no file has any longer go once they are too old.
func TestLastGoodIsTurnedOnAndOff(t *testing.T) {
	eachStore(t, func(t *testing.T, d driver.Driver) {
		ordinary := strings.ReplaceAll(lastGoodDefinitions, ", keep_last_good: true", "")
		e := newLastGood(t, d, ordinary)
		e.write("1.parquet", 1, 10)
		e.sync()
		require.NotContains(t, append(e.expiries(d, "kept", false), e.expiries(d, "versions", true)...), int64(0))
		e.Env.Reload(t, lastGoodDefinitions)
		e.Syncer.Reload(registry(t, lastGoodDefinitions))
		e.sync()
		e.push("kept", 2, 20)
		e.push("versions", 2, 20)
		require.Equal(t, []int64{0, 0, 0, 0}, append(e.expiries(d, "kept", false), e.expiries(d, "versions", true)...))

		e.Syncer.Reload(registry(t, ordinary))
		e.clock.Advance(time.Hour)
		e.sync()
		expiries := e.expiries(d, "versions", true)
		slices.Sort(expiries)
		require.Zero(t, expiries[0], "what no file has is not written again")
		require.Positive(t, expiries[1])
		e.clock.Advance(4 * time.Hour)
		dropped := e.sync()
		require.Positive(t, dropped[0])
		require.Positive(t, dropped[1])
		for _, view := range []string{"kept", "versions"} {
			require.Equal(t, []string{"NOT_FOUND", "NOT_FOUND"}, e.get(view)[:2])
		}
	})
}

const convergentLastGood = `
entities:
  - {name: user, keys: [{name: user_id, type: INT64}]}
feature_views:
  - name: v
    entity: user
    source: {path: v, event_time_column: at, created_time_column: written}
    ttl: 2h
    expired_retention: 1h
    sync: {interval: 1h, batch_size: 2, keep_last_good: true}
    features: [{name: x, type: INT64}]
`

// TestLastGoodRowsWhereverItDies kills syncers at every call of the store while files come, rows are pushed and time passes: until a run succeeds no row is lost, and then
// the store has what it would have without all that.
func TestLastGoodRowsWhereverItDies(t *testing.T) {
	eachSeed(t, 30, func(t *testing.T, r *rand.Rand) {
		c := newConvergence(t, r, inMemory(t), convergentLastGood)
		defer c.close()
		last := start
		for range 8 {
			for range c.r.IntN(3) {
				c.write()
			}
			stored := c.read()
			c.clock.Advance(time.Duration(c.r.IntN(3)) * time.Hour)
			for range c.r.IntN(3) {
				c.pushSince(last)
			}
			for range c.r.IntN(3) {
				c.die()
			}
			if len(c.files) == 0 {
				continue
			}
			if c.syncedAt().Before(c.clock.Now()) {
				c.requireKept(stored)
			}
			report := c.sync()
			require.NoError(t, report.Err)
			c.check(report)
			last = c.clock.Now()
			if c.Failed() {
				return
			}
		}
	})
}

// pushSince pushes a row from after a moment, which no file has.
func (c *convergence) pushSince(last time.Time) {
	span := c.clock.Now().Sub(last)
	row := [4]int64{c.r.Int64N(convergentUsers), last.Add(time.Duration(c.r.Int64N(int64(span) + 1))).UnixMicro(), start.Add(3*time.Hour).UnixMicro() + int64(len(c.pushed)), c.r.Int64()}
	columns := make([]*feature.Column, len(row))
	for i, t := range []feature.Type{feature.Int64, feature.Timestamp, feature.Timestamp, feature.Int64} {
		columns[i] = feature.NewColumn(t, 1)
		columns[i].AppendInt64(row[i])
	}
	_, err := c.store.Write(c.Context(), online.Rows{View: c.view, Keys: columns[:1], EventTimes: columns[1], CreatedTimes: columns[2], Features: columns[3:]})
	require.NoError(c, err)
	c.pushed = append(c.pushed, row)
}

// syncedAt is when the last run began that has carried every row.
func (c *convergence) syncedAt() time.Time {
	states, err := syncstate.New(c.store).States(c.Context(), []string{c.view.Name})
	require.NoError(c, err)
	return time.UnixMicro(states[0].GetSyncedAtMicros())
}

// requireKept: what was stored still is, or something newer.
func (c *convergence) requireKept(before *online.Result) {
	now := c.read()
	for user, status := range before.Columns[0].Status {
		if status != feature.NotFound {
			require.NotEqual(c, feature.NotFound, now.Columns[0].Status[user], "user %d", user)
			require.GreaterOrEqual(c, now.EventTimes[0][user], before.EventTimes[0][user], "user %d", user)
		}
	}
}
