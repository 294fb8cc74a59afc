package pit_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// TestEventsEqualOracle finds the moments of random tables: rows of the range, without a null, that delete nothing.
func TestEventsEqualOracle(t *testing.T) {
	eachCase(t, 300, func(t *testing.T, r *rand.Rand) {
		keys := []feature.Key{{Name: "a", Type: keyTypes[r.IntN(4)]}, {Name: "b", Type: keyTypes[r.IntN(4)]}}
		moment := moments(r)
		within := feature.TimeRange{Min: feature.EventTime(moment()), Max: feature.EventTime(moment())}
		var views []pit.ViewJoin
		var got, want []string
		for i := range 1 + r.IntN(3) {
			view := newView(fmt.Sprintf("v%d", i), keys[:1+r.IntN(2)], nil, false)
			maybeDeletes(r, view)
			rows := randomTable(r, view, r.IntN(60), 1+r.IntN(6), moment)
			join := pit.ViewJoin{View: view, Source: fragmented(r, rows)}
			for k := range view.Entity.Keys {
				join.Keys = append(join.Keys, k)
			}
			views = append(views, join)
			for row, id := range identities(rows.keys) {
				if at := rows.events; id != "" && at.IsPresent(row) && within.Overlaps(momentOf(at, row)) && !rows.isDeleted(row) {
					want = append(want, fmt.Sprint(id, at.Int64s[row]))
				}
			}
		}
		err := pit.Events(t.Context(), views, within, func(keys []*feature.Column, times *feature.Column, rows []int32) error {
			ids := identities(keys)
			for _, row := range rows {
				got = append(got, fmt.Sprint(ids[row], times.Int64s[row]))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		slices.Sort(want)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("events (-want +got):\n%s", d)
		}
	})
}

func momentOf(times *feature.Column, row int) feature.TimeRange {
	at := feature.EventTime(times.Int64s[row])
	return feature.TimeRange{Min: at, Max: at}
}

// TestDeletionsAreNotOverlooked: a source that does not say which rows are deleted, where the view does, is an error and not a history without deletions.
func TestDeletionsAreNotOverlooked(t *testing.T) {
	view, source := smallSource()
	view.Source.DeletedColumn = "gone"
	join := []pit.ViewJoin{{View: view, Features: []int{0}, Keys: []int{0}, Source: source}}
	for name, call := range map[string]func(ctx context.Context) error{
		"Join": func(ctx context.Context) error {
			_, err := pit.Join(ctx, smallRows(t), join, pit.Options{})
			return err
		},
		"Latest": func(ctx context.Context) error {
			_, err := pit.Latest(ctx, view, source, pit.LatestOptions{AsOf: 2})
			return err
		},
		"Events": func(ctx context.Context) error {
			return pit.Events(ctx, join, feature.AllTime(), func([]*feature.Column, *feature.Column, []int32) error { return nil })
		},
	} {
		if err := call(t.Context()); fault.KindOf(err) != fault.Internal || !strings.Contains(err.Error(), `does not say which rows are deleted, as column "gone" does`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
