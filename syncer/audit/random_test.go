package audit_test

import (
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/online/redisstore"
	"github.com/twofold-ml/twofold/internal/testenv"
	"github.com/twofold-ml/twofold/syncer/audit"
)

// round fills a store from random files, damages it here and there, and requires that the audit finds that and nothing else.
func round(w *world, generation uint64) {
	for range 1 + w.r.IntN(4) {
		rows := make([]row, 1+w.r.IntN(80))
		for i := range rows {
			rows[i] = w.randomRow(12)
		}
		w.addFile(rows...)
	}
	expected := w.expected(generation)
	if generation == 0 {
		w.sync()
	} else {
		require.NoError(w, w.store.RegisterSchema(w.Context(), w.view))
		for _, rows := range expected {
			for _, r := range rows {
				if r.isText() {
					w.write(generation, r)
				}
			}
		}
	}
	var want audit.Counts
	total, undecided, old := int64(0), int64(0), int64(0)
	for _, entity := range slices.Sorted(maps.Keys(expected)) {
		rows := expected[entity]
		total += int64(len(rows))
		untouched := false
		for _, r := range rows {
			if !r.isText() {
				undecided++
				untouched = true
			} else {
				want.Matching++
			}
			if w.isOld(r) {
				old++
				untouched = true
			}
		}
		if !untouched && w.r.IntN(2) == 0 {
			w.damage(generation, rows, &want)
		}
	}
	strangers := w.strangers(generation, &want)
	report := w.audit(audit.Options{Generation: generation, Examples: 1000})
	require.Equal(w, undecided, report.Undecided)
	require.Zero(w, report.Superseded)
	require.LessOrEqual(w, report.Expired, old)
	want.Matching -= report.Expired // of versions that have expired the store may have some and not others
	require.Equal(w, want, report.Counts, "%v", report.Examples)
	require.Equal(w, total, report.Expected)
	require.Len(w, report.Examples, int(report.Differences()))
	require.GreaterOrEqual(w, report.Unexpected, strangers)
	require.Equal(w, generation == 0, report.CanBePushed)
	require.False(w, report.FilesChanged)
	if err := report.Err(); report.Faults() == 0 {
		require.NoError(w, err)
	} else {
		require.ErrorContains(w, err, `feature view "v"`)
	}
}

// damage makes one row of an entity another than it should be. rows are all that are stored of it.
func (w *world) damage(generation uint64, rows []row, want *audit.Counts) {
	r := rows[w.r.IntN(len(rows))]
	// rewrite stores the other rows, and some more.
	rewrite := func(add ...row) {
		w.remove(generation, r)
		for _, other := range rows {
			if other.event != r.event {
				w.write(generation, other)
			}
		}
		w.write(generation, add...)
	}
	want.Matching--
	switch kind := w.r.IntN(8); {
	case kind == 0:
		rewrite()
		want.Missing++
	case kind == 1 && !r.deleted:
		other := r
		switch w.r.IntN(3) {
		case 0:
			other.x = int64(-1)
		case 1:
			other.d = 4.5e300
		default:
			other.s = "other"
		}
		w.write(generation, other)
		want.Different++
	case kind == 2 && !r.deleted:
		other := r
		other.deleted = true
		w.write(generation, other)
		want.Different++
	case kind == 3:
		older := r
		if older.created == nil {
			older.created = int64(0)
		}
		older.created = older.created.(int64) - 1
		rewrite(older)
		want.Stale++
	case kind == 4:
		newer := r
		newer.created = r.createdTime() + 1
		w.write(generation, newer)
		want.Newer++
	case kind == 5 && !r.deleted:
		w.writeAs(generation, r, feature.StringList)
		want.WrongType++
	case kind == 6 && !r.deleted:
		w.writeRaw(generation, r, 0x1234567812345678) // a schema that nobody knows
		want.Unreadable++
	case kind == 7 && !r.deleted:
		w.writeRaw(generation, r, 0, 0xff, 0xff)
		want.Unreadable++
	default:
		want.Matching++
	}
}

// strangers stores rows of entities, and versions, that are in no file, and returns how many.
func (w *world) strangers(generation uint64, want *audit.Counts) (rows int64) {
	for user := range int64(w.r.IntN(6)) {
		r := w.randomRow(1)
		r.user, r.region, r.event = 1000+user, "new", w.ago(w.r.IntN(3))
		if r.s == "\xff" {
			r.s = nil
		}
		switch w.r.IntN(5) {
		case 0:
			r.deleted = false
			w.writeRaw(generation, r, 0, 0xff)
			want.Unreadable++
		case 1:
			w.writeAs(generation, r, feature.StringList)
			want.WrongType++
		case 2:
			r.event = w.ago(60)
			w.write(generation, r)
			if w.view.TTL > 0 {
				continue // so old that it may be there or not
			}
			want.Extra++
		default:
			w.write(generation, r)
			want.Extra++
		}
		rows++
	}
	return rows
}

func TestRandom(t *testing.T) {
	testenv.RandomRounds(t, 40, func(t *testing.T, r *rand.Rand) {
		round(newWorld(t, r, nil, lasting), 0)
	})
}

func TestRandomForEver(t *testing.T) {
	testenv.RandomRounds(t, 10, func(t *testing.T, r *rand.Rand) {
		w := newWorld(t, r, nil, "ttl: 0s")
		round(w, 0)
	})
}

func TestRandomGeneration(t *testing.T) {
	testenv.RandomRounds(t, 20, func(t *testing.T, r *rand.Rand) {
		round(newWorld(t, r, nil, lasting), 1+uint64(r.IntN(9)))
	})
}

func TestRandomHistory(t *testing.T) {
	testenv.RandomRounds(t, 40, func(t *testing.T, r *rand.Rand) {
		round(newWorld(t, r, nil, lasting, "layout: HISTORY", "history_versions: "+string(rune('2'+r.IntN(5)))), 0)
	})
}

// TestRandomInRedis is the same with a real Redis.
func TestRandomInRedis(t *testing.T) {
	server := testenv.Redis(t)
	for name, lines := range map[string][]string{"LATEST": {lasting}, "HISTORY": {lasting, "layout: HISTORY", "history_versions: 3"}} {
		t.Run(name, func(t *testing.T) {
			testenv.RandomRounds(t, 8, func(t *testing.T, r *rand.Rand) {
				round(newWorld(t, r, func() driver.Driver {
					d, err := redisstore.Open(redisstore.Options{URL: server.URL, Prefix: strings.ReplaceAll(name+filepath.Base(t.Name()), "=", "")})
					require.NoError(t, err)
					return d
				}, lines...), 0)
			})
		})
	}
}
