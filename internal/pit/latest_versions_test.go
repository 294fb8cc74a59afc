package pit_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// TestRetainEqualsOracle leaves out random entities among those whose newest row is old, and reads what is left.
func TestRetainEqualsOracle(t *testing.T) {
	eachCase(t, 200, func(t *testing.T, r *rand.Rand) {
		keys := []feature.Key{{Name: "a", Type: keyTypes[r.IntN(4)]}, {Name: "b", Type: keyTypes[r.IntN(4)]}}
		view := newView("v", keys[:1+r.IntN(2)], randomFeatures(r, 2), r.IntN(2) == 0)
		maybeDeletes(r, view)
		moment := moments(r)
		rows := randomTable(r, view, r.IntN(80), 1+r.IntN(6), moment)
		options := pit.LatestOptions{AsOf: feature.AsOf(moment()), Versions: r.IntN(4), Workers: r.IntN(4)}
		w, err := pit.Latest(t.Context(), view, fragmented(r, rows), options)
		if err != nil {
			t.Fatal(err)
		}
		before, all := w.Stats(), identities(rows.keys)
		want, _ := oracleLatest(rows, options)
		newest := map[string]int64{}
		for _, row := range want {
			newest[all[row]] = max(rows.events.Int64s[row], valueOr(newest, all[row], rows.events.Int64s[row]))
		}
		maxAge := randomTTL(r)
		asked, dropped := map[string]bool{}, map[string]bool{}
		if err := w.Retain(t.Context(), maxAge, func(_ context.Context, keys []*feature.Column) ([]bool, error) {
			kept := make([]bool, keys[0].Len())
			for i, id := range identities(keys) {
				if asked[id] {
					t.Errorf("asked twice about %s", id)
				}
				kept[i], asked[id] = r.IntN(2) == 0, true
				dropped[id] = !kept[i]
			}
			return kept, nil
		}); err != nil {
			t.Fatal(err)
		}
		for id, event := range newest {
			if old := maxAge.Expired(feature.EventTime(event), options.AsOf); asked[id] != old {
				t.Errorf("asked about %s: %v; its newest row is old: %v", id, asked[id], old)
			}
		}
		kept := slices.DeleteFunc(slices.Clone(want), func(row int) bool { return dropped[all[row]] })
		checkWinners(t, w, rows, kept, 1+r.IntN(9), []int{1, 0})
		after := before
		after.Winners = int64(len(kept))
		after.RowsOld += int64(len(want) - len(kept))
		for _, drop := range dropped {
			if drop {
				after.Entities--
			}
		}
		if d := cmp.Diff(after, w.Stats()); d != "" {
			t.Errorf("stats (-want +got):\n%s", d)
		}
	})
}

func valueOr(m map[string]int64, id string, fallback int64) int64 {
	if v, ok := m[id]; ok {
		return v
	}
	return fallback
}

// TestRetainFaults: where it is not known who is kept, nobody is left out.
func TestRetainFaults(t *testing.T) {
	view, source := smallSource()
	w, err := pit.Latest(t.Context(), view, source, pit.LatestOptions{AsOf: 100, Versions: 2})
	if err != nil {
		t.Fatal(err)
	}
	before := w.Stats()
	if before.Entities != 4 || before.Winners != 8 {
		t.Fatalf("%+v", before)
	}
	away := errors.New("away")
	if err := w.Retain(t.Context(), 1, func(context.Context, []*feature.Column) ([]bool, error) { return nil, away }); err != away {
		t.Errorf("got %v", err)
	}
	err = w.Retain(t.Context(), 1, func(context.Context, []*feature.Column) ([]bool, error) { return nil, nil })
	if fault.KindOf(err) != fault.Internal || !strings.Contains(err.Error(), "0 were answered") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Retain(ctx, 1, func(context.Context, []*feature.Column) ([]bool, error) { panic("asked") }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if d := cmp.Diff(before, w.Stats()); d != "" {
		t.Errorf("stats (-before +after):\n%s", d)
	}
}

// TestVersionsOfManyRows: whatever the order in which the rows of an entity come, the same ones are found.
func TestVersionsOfManyRows(t *testing.T) {
	view := newView("v", []feature.Key{{Name: "id", Type: feature.Int64}}, []feature.Feature{{Name: "f", Type: feature.Int64}}, false)
	for name, event := range map[string]func(i int) int64{
		"in order":        func(i int) int64 { return int64(i) },
		"in reverse":      func(i int) int64 { return int64(-i) },
		"to and fro":      func(i int) int64 { return int64(i*7919) % 10007 },
		"few event times": func(i int) int64 { return int64(i % 150) },
	} {
		t.Run(name, func(t *testing.T) {
			rows := newTable(view)
			for i := range 6000 {
				rows.keys[0].AppendInt64(int64(i % 3))
				rows.events.AppendInt64(event(i))
				rows.features[0].AppendInt64(int64(i))
			}
			source := &memorySource{}
			for from := 0; from < rows.rows(); from += 1500 {
				source.fragments = append(source.fragments, &memoryFragment{table: rows.slice(from, from+1500), batch: 700, prunes: true})
			}
			o := pit.LatestOptions{AsOf: 5000, Versions: 101, Workers: 3}
			w, err := pit.Latest(t.Context(), view, source, o)
			if err != nil {
				t.Fatal(err)
			}
			want, _ := oracleLatest(rows, o)
			checkWinners(t, w, rows, want, 1000, []int{0})
		})
	}
}
