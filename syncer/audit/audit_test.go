package audit_test

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/syncer/audit"
)

func newRand() *rand.Rand { return rand.New(rand.NewPCG(1, 1)) }

// simple is a row of a user whose value is x.
func (w *world) simple(user int64, steps int, x int64) row {
	return row{user: user, region: "r", event: w.ago(steps), x: x, d: 0.5, s: "text"}
}

// TestFindings: what is told of a finding is what is stored and what should be.
func TestFindings(t *testing.T) {
	w := newWorld(t, newRand(), nil, lasting)
	gone := w.simple(5, 1, 1)
	gone.deleted = true
	w.addFile(w.simple(1, 0, 1), w.simple(2, 0, 2), w.simple(3, 0, 3), w.simple(4, 0, 4), gone)
	w.sync()
	require.NoError(t, w.audit(audit.Options{}).Err())

	different := w.simple(1, 0, 1)
	different.d, different.s = math.NaN(), nil
	w.write(0, different)
	w.remove(0, w.simple(2, 0, 0))
	w.remove(0, w.simple(3, 0, 0))
	w.write(0, w.simple(3, 2, 3))
	alive := gone
	alive.deleted = false
	w.remove(0, gone)
	w.write(0, alive, w.simple(6, 0, 6))

	r := w.audit(audit.Options{})
	at := func(steps int) string { return time.UnixMicro(w.ago(steps)).UTC().Format(time.RFC3339Nano) }
	require.Equal(t, []audit.Finding{
		{Class: audit.Missing, Entity: `user_id=2, region="r"`, Expected: &audit.Row{EventTime: at(0)}},
		{Class: audit.Stale, Entity: `user_id=3, region="r"`, Expected: &audit.Row{EventTime: at(0)}, Stored: &audit.Row{EventTime: at(2)}},
		{
			Class: audit.Different, Entity: `user_id=1, region="r"`, Expected: &audit.Row{EventTime: at(0)}, Stored: &audit.Row{EventTime: at(0)},
			Features: []audit.Difference{{"d", "0.5", "NaN"}, {"s", `"text"`, "null"}},
		},
		{Class: audit.Different, Entity: `user_id=5, region="r"`, Expected: &audit.Row{EventTime: at(1), Deleted: true}, Stored: &audit.Row{EventTime: at(1)}},
		{Class: audit.Extra, Entity: `user_id=6, region="r"`, Stored: &audit.Row{EventTime: at(0)}},
	}, r.Examples)
	require.EqualValues(t, 4, r.Faults())
	require.EqualValues(t, 5, r.Differences())
	err := r.Err()
	require.Equal(t, fault.Precondition, fault.KindOf(err))
	require.ErrorContains(t, err, `feature view "v": of 5 rows that the files say should be online, and 1 others that are, 1 missing, 1 stale, 2 different, 1 extra; for example user_id=2`)
	require.Contains(t, r.Examples[2].String(), `d is NaN and should be 0.5, s is null and should be "text"`)

	r = w.audit(audit.Options{Examples: -1})
	require.Empty(t, r.Examples)
	require.EqualValues(t, 5, r.Differences())
}

// TestGenerationHoldsNothingElse: in a generation, rows that the files do not have are faults.
func TestGenerationHoldsNothingElse(t *testing.T) {
	w := newWorld(t, newRand(), nil, lasting)
	w.addFile(w.simple(1, 0, 1))
	files, err := w.offline.Table(w.view).Files(t.Context())
	require.NoError(t, err)
	w.write(7, w.simple(1, 0, 1))
	r := w.audit(audit.Options{Generation: 7, Files: files})
	require.NoError(t, r.Err())
	require.EqualValues(t, 1, r.Counts.Matching)
	require.EqualValues(t, 1, r.Expected)

	w.write(7, w.simple(2, 0, 2))
	r = w.audit(audit.Options{Generation: 7, Files: files})
	require.EqualValues(t, 1, r.Counts.Extra)
	require.ErrorContains(t, r.Err(), "1 extra")

	// What has come since is in no file that the generation was made of.
	w.addFile(w.simple(3, 0, 3))
	require.EqualValues(t, 0, w.audit(audit.Options{Generation: 7, Files: files}).Counts.Missing)
	require.EqualValues(t, 1, w.audit(audit.Options{Generation: 7}).Counts.Missing)
}

// TestSamples: the same seed chooses the same entities, another seed others, and samples that do not overlap are together all.
func TestSamples(t *testing.T) {
	for name, lines := range map[string][]string{"LATEST": {lasting}, "HISTORY": {lasting, "layout: HISTORY"}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, newRand(), nil, lines...)
			var rows []row
			for user := range int64(400) {
				rows = append(rows, w.simple(user, 0, user), w.simple(user, 2, user))
			}
			w.addFile(rows...)
			w.sync()
			for user := int64(0); user < 400; user += 2 {
				w.remove(0, w.simple(user, 0, 0))
				w.write(0, w.simple(1000+user, 0, 0))
			}
			all := w.audit(audit.Options{Examples: 1000})
			require.EqualValues(t, 200, all.Counts.Extra)

			// What a sample finds is what is found of its entities among all; whose they are is told by the findings.
			part := func(from, share float64, seed uint64) *audit.Report {
				r := w.audit(audit.Options{Sample: share, SampleFrom: from, Seed: seed, Examples: 1000})
				require.Subset(t, all.Examples, r.Examples)
				return r
			}
			var union []audit.Finding
			var expected, matching int64
			for _, at := range [][2]float64{{0, .1}, {.1, .2}, {.3, .3}, {.6, .4}} {
				r := part(at[0], at[1], 5)
				require.InDelta(t, at[1]*float64(all.Expected), r.Expected, float64(all.Expected)/8)
				union, expected, matching = append(union, r.Examples...), expected+r.Expected, matching+r.Counts.Matching
			}
			require.ElementsMatch(t, all.Examples, union)
			require.Equal(t, all.Expected, expected)
			require.Equal(t, all.Counts.Matching, matching)

			third := part(0, .3, 5).Examples
			require.Equal(t, third, part(0, .3, 5).Examples)
			require.NotEqual(t, third, part(0, .3, 6).Examples)
			require.Subset(t, part(0, .5, 5).Examples, third)
		})
	}
}

// TestVersionsThatWerePushed: newer versions take the place of the oldest, and that is told apart.
func TestVersionsThatWerePushed(t *testing.T) {
	w := newWorld(t, newRand(), nil, lasting, "layout: HISTORY", "history_versions: 3")
	w.addFile(w.simple(1, 2, 1), w.simple(1, 3, 2), w.simple(1, 4, 3), w.simple(2, 3, 1), w.simple(2, 4, 1))
	w.sync()
	w.write(0, w.simple(1, 0, 9), w.simple(1, 1, 9), w.simple(2, 0, 9), w.simple(3, 0, 9))
	between := w.simple(2, 3, 8)
	between.event = between.event.(int64) - 1
	w.write(0, between)
	r := w.audit(audit.Options{})
	require.Equal(t, audit.Counts{Matching: 2, Newer: 3, Extra: 2}, r.Counts, "%v", r.Examples)
	require.EqualValues(t, 3, r.Superseded)
	require.Zero(t, r.Faults())
	require.NoError(t, r.Err())

	// A version between others that are stored is missed all the same.
	w.remove(0, w.simple(1, 0, 0))
	w.write(0, w.simple(1, 2, 1), w.simple(1, 4, 3))
	r = w.audit(audit.Options{})
	require.EqualValues(t, 1, r.Counts.Missing)
	require.Equal(t, time.UnixMicro(w.ago(3)).UTC().Format(time.RFC3339Nano), r.Examples[0].Expected.EventTime)
}

// TestRowsExpireMeanwhile: what the store may have dropped by the time it is looked at is not missed.
func TestRowsExpireMeanwhile(t *testing.T) {
	for name, lines := range map[string][]string{"LATEST": {lasting}, "HISTORY": {lasting, "layout: HISTORY"}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, newRand(), nil, lines...)
			old := w.simple(1, 8, 1) // 167 minutes old, kept for 180
			other := w.simple(2, 8, 2)
			w.addFile(old, other, w.simple(3, 0, 3))
			w.sync()
			w.remove(0, old)
			require.EqualValues(t, 1, w.audit(audit.Options{}).Counts.Missing)
			asked := false
			r := w.audit(audit.Options{Now: func() time.Time {
				if !asked {
					asked = true // when it is asked as of when
					return w.now
				}
				return w.now.Add(13*time.Minute - 30*time.Second)
			}})
			require.EqualValues(t, 1, r.Expired)
			require.Equal(t, audit.Counts{Matching: 2}, r.Counts)
		})
	}
}

// TestChangesMeanwhile: what is put right, or changes in the files, while the audit runs is no finding.
func TestChangesMeanwhile(t *testing.T) {
	for name, change := range map[string]func(w *world){
		"the store is put right": func(w *world) {
			w.write(0, w.simple(1, 0, 1))
			w.remove(0, w.simple(9, 0, 0))
		},
		"a sync of new files": func(w *world) {
			w.remove(0, w.simple(9, 0, 0))
			w.addFile(w.simple(1, 0, 7), w.simple(8, 0, 8))
			w.sync()
		},
		"a file takes the place of another": func(w *world) {
			w.remove(0, w.simple(9, 0, 0))
			require.NoError(w, os.Remove(filepath.Join(w.dir, "v", "000.parquet")))
			w.rows = nil
			w.addFile(w.simple(1, 0, 1), w.simple(2, 0, 22))
			w.sync()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, newRand(), nil, lasting)
			w.addFile(w.simple(1, 0, 1), w.simple(2, 0, 2))
			w.sync()
			w.remove(0, w.simple(1, 0, 0))
			w.write(0, w.simple(9, 0, 9))
			require.EqualValues(t, 2, w.audit(audit.Options{}).Differences())
			done := false
			r := w.audit(audit.Options{Progress: func(p audit.Progress) {
				if !done && p.Step != "reading keys" && p.Total == 0 { // both sides have been looked at
					done = true
					change(w)
				}
			}})
			require.True(t, done)
			require.Zero(t, r.Differences(), "%v", r.Examples)
			require.False(t, r.FilesChanged)
		})
	}
}

// TestFilesThatNeverRest: where files keep changing the audit ends all the same, and says so.
func TestFilesThatNeverRest(t *testing.T) {
	w := newWorld(t, newRand(), nil, lasting)
	w.addFile(w.simple(1, 0, 1))
	r := w.audit(audit.Options{Progress: func(p audit.Progress) {
		if p.Step == "comparing" {
			w.addFile(w.simple(int64(w.files), 0, 1))
		}
	}})
	require.True(t, r.FilesChanged)
	require.Positive(t, r.Counts.Missing)
}

func TestRunRefuses(t *testing.T) {
	w := newWorld(t, newRand(), nil, lasting)
	options := audit.Options{View: w.view, Online: w.store, Offline: w.offline}
	for _, o := range []audit.Options{{Sample: -1}, {Sample: 2}, {Sample: math.NaN()}, {Sample: .5, SampleFrom: .6}, {SampleFrom: .1}, {Sample: .1, SampleFrom: -.1}} {
		o.View, o.Online, o.Offline = w.view, w.store, w.offline
		_, err := audit.Run(t.Context(), o)
		require.Equal(t, fault.Invalid, fault.KindOf(err), "%+v", o)
	}
	_, err := audit.Run(t.Context(), audit.Options{View: w.view})
	require.ErrorContains(t, err, "are required")
	_, err = audit.Run(t.Context(), options)
	require.Equal(t, fault.Precondition, fault.KindOf(err), "there are no files: %v", err)
	w.addFile(w.simple(1, 0, 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = audit.Run(ctx, options)
	require.ErrorIs(t, err, context.Canceled)
}
