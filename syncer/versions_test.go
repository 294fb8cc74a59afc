package syncer_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/online/pebblestore"
	"github.com/twofold-ml/twofold/internal/online/redisstore"
	"github.com/twofold-ml/twofold/internal/storedrow"
	"github.com/twofold-ml/twofold/internal/testenv"
	"github.com/twofold-ml/twofold/server/servertest"
	"github.com/twofold-ml/twofold/syncer"
)

// historyDefinitions has one view that keeps versions.
func historyDefinitions(versions int, ttl string) string {
	lines := fmt.Sprintf("layout: HISTORY\n    history_versions: %d", versions)
	if ttl != "" {
		lines += "\n    " + ttl
	}
	return `
entities:
  - {name: user, keys: [{name: user_id, type: INT64}]}
feature_views:
  - name: v
    entity: user
    source: {path: "v/*.parquet", event_time_column: at, created_time_column: written}
    ` + lines + `
    sync: {interval: 1h, batch_size: 4}
    features: [{name: x, type: INT64}]
`
}

// pastTest fills a store by syncs and pushes and asks it about the past. What it was given is written down as a plain list.
type pastTest struct {
	*testing.T
	r       *rand.Rand
	clock   *clock
	dir     string
	store   *online.Store
	offline *offline.Store
	view    *feature.View
	plan    *online.Plan

	// skew keeps event times off the moments at which rows expire now, for a store whose own clock runs on during the test.
	skew time.Duration

	files   map[string][]pastRow
	pushed  []pastRow
	carried []pastRow // the rows of the files as of the last sync

	answered, refused int
}

// pastRow is one row; a nil user, event or x is null.
type pastRow struct {
	user, event, created, x any
	deleted                 bool
}

func (r pastRow) createdTime() int64 {
	if r.created == nil {
		return 0
	}
	return r.created.(int64)
}

// logicalExpiry lets rows expire by the clock of the test, however it jumps.
type logicalExpiry struct {
	driver.Driver
	keepFor func() feature.TTL
}

func (d logicalExpiry) Write(ctx context.Context, rows []driver.Row) ([]driver.Outcome, error) {
	for i := range rows {
		h, err := storedrow.ParseHeader(rows[i].Value)
		if err != nil {
			return nil, err
		}
		if rows[i].ExpireAtMillis != 0 {
			rows[i].ExpireAtMillis = (int64(h.EventTime)+int64(d.keepFor())+999)/1000 + 1
		}
	}
	return d.Driver.Write(ctx, rows)
}

// newPastTest begins with an empty store: that of open, or an embedded one.
func newPastTest(t *testing.T, r *rand.Rand, open func() driver.Driver) *pastTest {
	p := &pastTest{T: t, r: r, clock: &clock{}, dir: filepath.Join(t.TempDir(), strconv.FormatUint(r.Uint64(), 36)), files: map[string][]pastRow{}}
	require.NoError(t, os.MkdirAll(filepath.Join(p.dir, "v"), 0o700))
	var err error
	p.offline, err = offline.Open(t.Context(), offline.Config{Path: p.dir})
	require.NoError(t, err)
	if open == nil {
		open = func() driver.Driver {
			d, err := pebblestore.Open(pebblestore.Options{InMemory: true, SweepInterval: -1, Now: p.clock.Now})
			require.NoError(t, err)
			return logicalExpiry{d, func() feature.TTL { return p.view.KeepFor() }}
		}
	}
	p.store = online.NewStore(open(), online.Options{Now: p.clock.Now, BatchSize: 1 + r.IntN(9)})
	return p
}

func (p *pastTest) close() {
	require.NoError(p, p.store.Close())
	require.NoError(p, p.offline.Close())
	require.NoError(p, os.RemoveAll(p.dir))
}

// define makes the view keep so many versions from now on.
func (p *pastTest) define(versions int, ttl string) {
	registry := registry(p.T, historyDefinitions(versions, ttl))
	var err error
	p.view, err = registry.View("v")
	require.NoError(p, err)
	selection, err := registry.Select(feature.SelectionQuery{Features: []string{"v:x"}})
	require.NoError(p, err)
	p.plan, err = online.NewPlan(selection)
	require.NoError(p, err)
}

const pastUsers = 4

// randomEvent returns one of few moments from some hours ago to a little later than now.
func (p *pastTest) randomEvent(grid time.Duration) int64 {
	return p.clock.Now().Add(-time.Duration(p.r.Int64N(int64(6*time.Hour/grid))) * grid).Add(2*grid - p.skew).UnixMicro()
}

// addFile adds a file of random rows anywhere among the others: some late, some in the future, some of the same event time, some with nulls.
func (p *pastTest) addFile() {
	name := fmt.Sprintf("%03d.parquet", p.r.IntN(1000))
	if p.files[name] != nil {
		return
	}
	var users, events, created, xs []any
	for range 1 + p.r.IntN(12) {
		row := pastRow{user: p.r.Int64N(pastUsers), event: p.randomEvent(20 * time.Minute), created: p.clock.Now().Add(-time.Duration(p.r.IntN(3)) * time.Hour).UnixMicro(), x: p.r.Int64N(1e6)}
		for _, field := range []*any{&row.user, &row.event, &row.created, &row.x} {
			if p.r.IntN(12) == 0 {
				*field = nil
			}
		}
		p.files[name] = append(p.files[name], row)
		users, events, created, xs = append(users, row.user), append(events, row.event), append(created, row.created), append(xs, row.x)
	}
	new(servertest.Table).Add("user_id", feature.Int64, users...).Add("at", feature.Timestamp, events...).Add("written", feature.Timestamp, created...).
		Add("x", feature.Int64, xs...).WriteParquet(p.T, filepath.Join(p.dir, "v", name))
}

// push writes a row or a deletion, of an event time that no other row has.
func (p *pastTest) push() {
	row := pastRow{user: p.r.Int64N(pastUsers), event: min(p.randomEvent(time.Minute), p.clock.Now().UnixMicro()) - int64(len(p.pushed)) - 1, x: p.r.Int64N(1e6), deleted: p.r.IntN(4) == 0}
	rows := online.Rows{View: p.view, Keys: []*feature.Column{feature.NewColumn(feature.Int64, 1)}, EventTimes: feature.NewColumn(feature.Timestamp, 1),
		Features: []*feature.Column{feature.NewColumn(feature.Int64, 1)}, Tombstones: []bool{row.deleted}}
	rows.Keys[0].AppendInt64(row.user.(int64))
	rows.EventTimes.AppendInt64(row.event.(int64))
	rows.Features[0].AppendInt64(row.x.(int64))
	_, err := p.store.Write(p.Context(), rows)
	require.NoError(p, err)
	p.pushed = append(p.pushed, row)
}

// sync runs the syncer, twice: the second time there is nothing to do.
func (p *pastTest) sync() {
	s, err := syncer.New(syncer.Options{Registry: registry(p.T, historyDefinitions(2, "")), Online: p.store, Offline: p.offline, Now: p.clock.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	require.NoError(p, err)
	first, again := s.SyncView(p.Context(), p.view, syncer.Request{}), s.SyncView(p.Context(), p.view, syncer.Request{})
	for _, report := range []syncer.Report{first, again} {
		require.NoError(p, report.Err)
		require.Equal(p, report.RowsRead, report.RowsBad.Total()+report.RowsFuture+report.RowsExpired+report.RowsSuperseded+report.Versions, "%v", report)
		require.Equal(p, report.Versions, report.Written+report.Older+report.Unchanged+report.Expired, "%v", report)
		require.LessOrEqual(p, report.Versions, report.Entities*int64(p.view.HistoryVersions+1))
	}
	require.Zero(p, again.Written, "what was written is written again: %v, then %v", first, again)
	p.carried = nil
	for _, name := range slices.Sorted(maps.Keys(p.files)) {
		for _, row := range p.files[name] {
			if row.user != nil && row.event != nil && row.event.(int64) <= p.clock.Now().UnixMicro() {
				p.carried = append(p.carried, row)
			}
		}
	}
}

// history returns what the store was given of a user: the row of each event time, the newest first.
func (p *pastTest) history(user int64) []pastRow {
	var rows []pastRow
	for _, row := range slices.Concat(p.carried, p.pushed) {
		if row.user.(int64) != user {
			continue
		}
		at := slices.IndexFunc(rows, func(other pastRow) bool { return other.event == row.event })
		switch {
		case at < 0:
			rows = append(rows, row)
		case row.createdTime() >= rows[at].createdTime():
			rows[at] = row
		}
	}
	slices.SortFunc(rows, func(a, b pastRow) int { return int(b.event.(int64) - a.event.(int64)) })
	return rows
}

// ask asks for a user as of a moment, or as it is now, and judges the answer.
func (p *pastTest) ask(user int64, asOf time.Time, past bool) {
	keys := feature.NewColumn(feature.Int64, 1)
	keys.AppendInt64(user)
	at := feature.AsOf(asOf.UnixMicro())
	result, err := p.store.Read(p.Context(), p.plan, []*feature.Column{keys}, online.ReadOptions{AsOf: at, Past: past})
	history := p.history(user)
	rank := slices.IndexFunc(history, func(row pastRow) bool { return row.event.(int64) <= int64(at) })
	what := fmt.Sprintf("user %d as of %v, now %v, %d versions, ttl %v; given %v", user, asOf, p.clock.Now(), p.view.HistoryVersions, p.view.TTL.Duration(), history)
	dropped := func(row pastRow) bool {
		return p.view.KeepFor().Expired(feature.EventTime(row.event.(int64)), feature.AsOf(p.clock.Now().UnixMicro()))
	}
	if err != nil {
		require.Equal(p, fault.Precondition, fault.KindOf(err), "%v: %s", err, what)
		require.True(p, past, "%v: %s", err, what)
		require.True(p, rank < 0 || rank >= p.view.HistoryVersions || dropped(history[rank]), "refused, though it is kept: %v: %s", err, what)
		p.refused++
		return
	}
	p.answered++
	status, event := result.Columns[0].Status[0], result.EventTimes[0][0]
	if rank < 0 || history[rank].deleted {
		require.Equal(p, feature.NotFound, status, what)
		return
	}
	row := history[rank]
	if status == feature.NotFound {
		require.True(p, dropped(row), "NOT_FOUND: %s", what)
		return
	}
	require.Equal(p, row.event, event, what)
	switch {
	case p.view.TTL.Expired(feature.EventTime(event), at):
		require.Equal(p, feature.Expired, status, what)
	case row.x == nil:
		require.Equal(p, feature.Null, status, what)
	default:
		require.Equal(p, feature.Present, status, what)
		require.Equal(p, row.x, result.Columns[0].Int64s[0], what)
	}
}

// askAll asks for every user as of many moments, where the server would ask.
func (p *pastTest) askAll() {
	states, _, err := p.store.SyncStates(p.Context(), []*feature.View{p.view})
	require.NoError(p, err)
	for user := range int64(pastUsers) {
		if states[0] != online.Unsynced {
			p.ask(user, p.clock.Now(), false)
		}
		if states[0] == online.Synced {
			for range 12 {
				p.ask(user, p.clock.Now().Add(-time.Duration(p.r.Int64N(int64(8*time.Hour)))), true)
			}
			for _, row := range p.history(user) {
				if at := time.UnixMicro(row.event.(int64)).UTC(); p.r.IntN(2) == 0 {
					p.ask(user, at.Add(-time.Duration(p.r.IntN(2))*time.Microsecond), true)
				}
			}
		}
	}
}

var pastTTLs = []string{"", "", "ttl: 2h\n    expired_retention: 1h", "ttl: 1h\n    expired_retention: 0s", "ttl: 3h\n    expired_retention: 2h"}

// run lets time pass: files come, rows are pushed, syncs run or are missed, and now and then the view is made to keep more or fewer versions.
func (p *pastTest) run() {
	ttl := pastTTLs[p.r.IntN(len(pastTTLs))]
	// A row that was pushed, is in no file and was dropped while fewer versions were kept does not come back when more are, so a view is either
	// pushed to or changed.
	pushes := p.r.IntN(2) == 0
	p.define(2+p.r.IntN(4), ttl)
	for range 2 + p.r.IntN(5) {
		for range p.r.IntN(3) {
			p.addFile()
		}
		for range p.r.IntN(4) {
			if pushes {
				p.push()
			}
		}
		if !pushes && p.r.IntN(4) == 0 {
			p.define(2+p.r.IntN(8), ttl)
		}
		if len(p.files) > 0 && p.r.IntN(4) > 0 {
			p.sync()
		}
		p.askAll()
		p.clock.Advance(time.Duration(p.r.Int64N(int64(3 * time.Hour))))
		p.askAll()
	}
}

// TestThePastIsAnsweredAsItWas: whatever came late, expired, was pushed, deleted or dropped, a moment in the past is answered as it was or refused;
// and refused only where it is not kept.
func TestThePastIsAnsweredAsItWas(t *testing.T) {
	answered, refused := 0, 0
	testenv.RandomRounds(t, 60, func(t *testing.T, r *rand.Rand) {
		p := newPastTest(t, r, nil)
		defer p.close()
		p.run()
		answered, refused = answered+p.answered, refused+p.refused
	})
	t.Logf("%d answered, %d refused", answered, refused)
	if !t.Failed() && (answered < 500 || refused < 100) {
		t.Errorf("%d answered, %d refused: the test shows little", answered, refused)
	}
}

// TestThePastIsAnsweredAsItWasByRedis is the same with a real Redis.
func TestThePastIsAnsweredAsItWasByRedis(t *testing.T) {
	server := testenv.Redis(t)
	testenv.RandomRounds(t, 15, func(t *testing.T, r *rand.Rand) {
		p := newPastTest(t, r, func() driver.Driver {
			d, err := redisstore.Open(redisstore.Options{URL: server.URL, Prefix: strings.ReplaceAll(filepath.Base(t.Name()), "=", "")})
			require.NoError(t, err)
			return d
		})
		p.skew = 10 * time.Second
		defer p.close()
		p.run()
	})
}
