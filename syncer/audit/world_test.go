package audit_test

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/definition"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/online/pebblestore"
	"github.com/twofold-ml/twofold/internal/storedrow"
	"github.com/twofold-ml/twofold/server/servertest"
	"github.com/twofold-ml/twofold/syncer"
	"github.com/twofold-ml/twofold/syncer/audit"
)

// row is one row of a file; nil is null.
type row struct {
	user, region, event, created any
	deleted                      bool
	x, d, s                      any
}

func (r row) entity() string { return fmt.Sprintf("%v|%v", r.user, r.region) }

func (r row) createdTime() int64 {
	if r.created == nil {
		return 0
	}
	return r.created.(int64)
}

// isText reports whether the row can be carried as far as its text goes: the values of a deletion are not looked at.
func (r row) isText() bool { return r.deleted || r.s != "\xff" }

// world is a view, its files as a plain list, and a store.
type world struct {
	*testing.T
	r       *rand.Rand
	dir     string
	driver  driver.Driver
	store   *online.Store
	offline *offline.Store
	set     *definition.Set
	view    *feature.View
	now     time.Time
	rows    []row // in the canonical order
	files   int
}

// definitions of a view with more lines, for example its layout.
func definitions(lines ...string) string {
	return `
entities:
  - {name: user, keys: [{name: user_id, type: INT64}, {name: region, type: STRING}]}
feature_views:
  - name: v
    entity: user
    source: {path: "v/*.parquet", event_time_column: at, created_time_column: written, deleted_column: gone}
    sync: {interval: 1h}
    ` + strings.Join(lines, "\n    ") + `
    features: [{name: x, type: INT64}, {name: d, type: DOUBLE}, {name: s, type: STRING}, {name: off, column: x, type: INT64, online: false}]
`
}

const lasting = "ttl: 2h\n    expired_retention: 1h"

// newWorld has an embedded store where open is nil.
func newWorld(t *testing.T, r *rand.Rand, open func() driver.Driver, lines ...string) *world {
	w := &world{T: t, r: r, dir: t.TempDir(), now: time.Now()}
	if open == nil {
		open = func() driver.Driver {
			d, err := pebblestore.Open(pebblestore.Options{InMemory: true, SweepInterval: -1})
			require.NoError(t, err)
			return d
		}
	}
	w.driver = open()
	w.store = online.NewStore(w.driver, online.Options{})
	var err error
	w.offline, err = offline.Open(t.Context(), offline.Config{Path: w.dir})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, w.store.Close())
		require.NoError(t, w.offline.Close())
	})
	w.define(lines...)
	return w
}

func (w *world) define(lines ...string) {
	var err error
	w.set, err = definition.Parse([]definition.File{{Name: "d.yaml", Data: []byte(definitions(lines...))}}, definition.Defaults{})
	require.NoError(w, err)
	w.view, err = w.set.Registry.View("v")
	require.NoError(w, err)
}

// ago is a moment so many times 20 minutes, and 7 more, ago: never near one at which a row expires.
func (w *world) ago(steps int) int64 {
	return w.now.Add(-time.Duration(steps)*20*time.Minute - 7*time.Minute).UnixMicro()
}

// randomRow is any row, some of them bad.
func (w *world) randomRow(users int) row {
	r := row{user: w.r.Int64N(int64(users)), region: []any{"", "a,b", "ü"}[w.r.IntN(3)], event: w.ago(w.r.IntN(14) - 2), deleted: w.r.IntN(12) == 0}
	if w.r.IntN(3) > 0 {
		r.created = w.ago(w.r.IntN(3))
	}
	r.x, r.s = w.r.Int64N(1000), strings.Repeat("é", w.r.IntN(4))
	r.d = []any{w.r.NormFloat64(), math.NaN(), math.Copysign(0, -1), 0.0}[w.r.IntN(4)]
	for _, value := range []*any{&r.x, &r.d, &r.s} {
		if w.r.IntN(8) == 0 {
			*value = nil
		}
	}
	switch w.r.IntN(40) {
	case 0:
		r.user = nil
	case 1:
		r.event = nil
	case 2:
		r.s = "\xff"
	}
	return r
}

// addFile adds a file after the others. Its texts are not said to be UTF-8, since some are not.
func (w *world) addFile(rows ...row) {
	columns := make([][]any, 8)
	for _, r := range rows {
		for i, v := range []any{r.user, r.region, r.event, r.created, r.deleted, r.x, r.d, r.s} {
			columns[i] = append(columns[i], v)
		}
	}
	new(servertest.Table).Add("user_id", feature.Int64, columns[0]...).Add("region", feature.String, columns[1]...).Add("at", feature.Timestamp, columns[2]...).
		Add("written", feature.Timestamp, columns[3]...).Add("gone", feature.Bool, columns[4]...).Add("x", feature.Int64, columns[5]...).
		Add("d", feature.Double, columns[6]...).Add("s", feature.Bytes, columns[7]...).WriteParquet(w, filepath.Join(w.dir, "v", fmt.Sprintf("%03d.parquet", w.files)))
	w.files++
	w.rows = append(w.rows, rows...)
}

func (w *world) sync() {
	s, err := syncer.New(syncer.Options{Registry: w.set.Registry, Online: w.store, Offline: w.offline, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	require.NoError(w, err)
	require.NoError(w, s.SyncView(w.Context(), w.view, syncer.Request{}).Err)
}

// expected works out by hand what the store should hold of each entity, the newest first, invalid texts included.
func (w *world) expected(generation uint64) map[string][]row {
	of := map[string][]row{}
	for _, r := range w.rows {
		if r.user == nil || r.region == nil || r.event == nil || r.event.(int64) > w.now.UnixMicro() {
			continue
		}
		rows := of[r.entity()]
		at := slices.IndexFunc(rows, func(o row) bool { return o.event == r.event })
		switch {
		case at < 0:
			rows = append(rows, r)
		case r.createdTime() > rows[at].createdTime(), r.createdTime() == rows[at].createdTime() && (r.deleted || !rows[at].deleted):
			rows[at] = r
		}
		of[r.entity()] = rows
	}
	for entity, rows := range of {
		slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(b.event.(int64), a.event.(int64)) })
		of[entity] = rows[:min(len(rows), max(1, w.view.HistoryVersions))]
		if w.view.HistoryVersions == 0 && w.isOld(rows[0]) {
			delete(of, entity)
		}
	}
	return of
}

// isOld reports whether the store may drop a row.
func (w *world) isOld(r row) bool {
	return w.view.KeepFor().Expired(feature.EventTime(r.event.(int64)), feature.AsOf(w.now.UnixMicro()))
}

// columns are a row's keys, or features of a view, as columns of one row.
func (w *world) columns(r row) (keys, features []*feature.Column) {
	table := new(servertest.Table).Add("", feature.Int64, r.user).Add("", feature.String, r.region).
		Add("", feature.Int64, r.x).Add("", feature.Double, r.d).Add("", feature.String, r.s)
	return table.Columns[:2], table.Columns[2:]
}

// write writes a row to the store.
func (w *world) write(generation uint64, rows ...row) {
	for _, r := range rows {
		keys, features := w.columns(r)
		times := new(servertest.Table).Add("", feature.Timestamp, r.event).Add("", feature.Timestamp, r.created).Columns
		_, err := w.store.Write(w.Context(), online.Rows{
			View: w.view, Generation: generation, Keys: keys, EventTimes: times[0], CreatedTimes: times[1], Features: features, Tombstones: []bool{r.deleted},
		})
		require.NoError(w, err)
	}
}

func (w *world) remove(generation uint64, r row) {
	keys, _ := w.columns(r)
	_, err := w.store.Remove(w.Context(), w.view, generation, keys)
	require.NoError(w, err)
}

// writeRaw puts bytes in the place of a row: its header, with another fingerprint, and what follows.
func (w *world) writeRaw(generation uint64, r row, fingerprint uint64, rest ...byte) {
	keys, features := w.columns(r)
	value, err := storedrow.AppendRow(nil, storedrow.SchemaOf(w.view), feature.EventTime(r.event.(int64)), feature.CreatedTime(r.createdTime()), features, 0)
	require.NoError(w, err)
	value = slices.Concat(value[:27], rest)
	if fingerprint != 0 {
		for i := range 8 {
			value[19+i] = byte(fingerprint >> (8 * i))
		}
	}
	key, _ := feature.AppendKey(nil, keys, 0)
	outcomes, err := w.driver.Write(w.Context(), []driver.Row{{
		Entity: driver.Entity{Name: "user", Key: key}, View: online.StoredName("v", generation), Value: value, Versions: w.view.HistoryVersions,
	}})
	require.NoError(w, err)
	require.Equal(w, []driver.Outcome{driver.Written}, outcomes)
}

// writeAs writes a row under another definition of the view, whose features are all of one type.
func (w *world) writeAs(generation uint64, r row, kind feature.Type) {
	table := new(servertest.Table)
	other := *w.view
	other.Features = nil
	for _, name := range []string{"x", "s"} {
		other.Features = append(other.Features, feature.Feature{Name: name, Type: kind, Column: name, Online: true})
		table.Add(name, kind, nil)
	}
	keys, _ := w.columns(r)
	times := new(servertest.Table).Add("", feature.Timestamp, r.event).Add("", feature.Timestamp, r.created).Columns
	_, err := w.store.Write(w.Context(), online.Rows{View: &other, Generation: generation, Keys: keys, EventTimes: times[0], CreatedTimes: times[1], Features: table.Columns})
	require.NoError(w, err)
}

func (w *world) audit(o audit.Options) *audit.Report {
	w.Helper()
	o.View, o.Online, o.Offline = w.view, w.store, w.offline
	report, err := audit.Run(w.Context(), o)
	require.NoError(w, err)
	requireSum(w, report)
	return report
}

// requireSum requires that the counts add up and that there are examples of what is counted.
func requireSum(t require.TestingT, r *audit.Report) {
	sum := r.Counts.Matching + r.Differences() + r.Expired + r.Superseded + r.Undecided
	require.Equal(t, r.Expected+r.Unexpected, sum, "%+v", r)
}
