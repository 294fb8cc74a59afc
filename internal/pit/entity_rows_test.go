package pit_test

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// column returns a column of INT64 or TIMESTAMP values.
func column(t feature.Type, values ...int64) *feature.Column {
	c := feature.NewColumn(t, len(values))
	for _, v := range values {
		c.AppendInt64(v)
	}
	return c
}

func TestEntityRowsRefuseWhatDoesNotFit(t *testing.T) {
	withNull := column(feature.Timestamp, 1)
	withNull.AppendMissing(feature.Null)
	withoutStatus := column(feature.Int64, 1, 2)
	withoutStatus.Status = nil
	for name, c := range map[string]struct {
		keys  []*feature.Column
		times *feature.Column
		text  string
	}{
		"too few keys":           {nil, column(feature.Timestamp, 1), "0 key columns; there must be 1"},
		"a key of another type":  {[]*feature.Column{column(feature.Timestamp, 1)}, column(feature.Timestamp, 1), `key column "id" of the entity rows is TIMESTAMP; it must be INT64`},
		"a time of another type": {[]*feature.Column{column(feature.Int64, 1)}, column(feature.Int64, 1), "the time column of the entity rows is INT64"},
		"lengths that differ":    {[]*feature.Column{column(feature.Int64, 1, 2)}, column(feature.Timestamp, 1), `key column "id" has 2 values and 2 statuses, and the time column has 1 rows`},
		"no statuses":            {[]*feature.Column{withoutStatus}, column(feature.Timestamp, 1, 2), "2 values and 0 statuses"},
		// The row is counted from the first chunk on.
		"a null time": {[]*feature.Column{column(feature.Int64, 1, 2)}, withNull, "entity row 4 (counted from 0): the time is null"},
	} {
		t.Run(name, func(t *testing.T) {
			rows := pit.NewEntityRows([]feature.Key{{Name: "id", Type: feature.Int64}})
			if err := rows.Append([]*feature.Column{column(feature.Int64, 1, 2, 3)}, column(feature.Timestamp, 1, 2, 3)); err != nil {
				t.Fatal(err)
			}
			err := rows.Append(c.keys, c.times)
			if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want an error of kind invalid with %q", err, c.text)
			}
			if rows.Len() != 3 {
				t.Errorf("%d rows after a chunk that was refused, want 3", rows.Len())
			}
		})
	}
}

func TestJoinRefusesWhatCannotBeRight(t *testing.T) {
	view, source := smallSource()
	good := pit.ViewJoin{View: view, Features: []int{0}, Keys: []int{0}, Source: source}
	for name, c := range map[string]struct {
		change func(*pit.ViewJoin, *pit.Options)
		kind   fault.Kind
		text   string
	}{
		"a key missing":        {func(v *pit.ViewJoin, _ *pit.Options) { v.Keys = nil }, fault.Internal, "0 key columns for the 1 keys"},
		"no such key column":   {func(v *pit.ViewJoin, _ *pit.Options) { v.Keys = []int{1} }, fault.Internal, "there is no key column 1"},
		"no such feature":      {func(v *pit.ViewJoin, _ *pit.Options) { v.Features = []int{1} }, fault.Internal, "there is no feature 1"},
		"a negative ttl":       {func(v *pit.ViewJoin, _ *pit.Options) { v.TTL = -1 }, fault.Invalid, "the ttl is negative"},
		"cutoff without times": {func(_ *pit.ViewJoin, o *pit.Options) { o.CreatedTimeCutoff = true }, fault.Precondition, "has no created time"},
	} {
		t.Run(name, func(t *testing.T) {
			v, o := good, pit.Options{}
			c.change(&v, &o)
			_, err := pit.Join(t.Context(), smallRows(t), []pit.ViewJoin{v}, o)
			if err == nil || fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), `"small"`) {
				t.Errorf("got %v, want an error of kind %v with %q that names the view", err, c.kind, c.text)
			}
		})
	}
	if source.opened.Load() != nil {
		t.Error("a join that cannot be right has opened its source")
	}
}

// TestJoinCutoffWithoutCreatedColumnInAFile has a view with created times, one of whose files lacks the column.
func TestJoinCutoffWithoutCreatedColumnInAFile(t *testing.T) {
	view, source := smallSource()
	view.Source.CreatedTimeColumn = "created_time"
	views := []pit.ViewJoin{{View: view, Keys: []int{0}, Source: source}}
	j, err := pit.Join(t.Context(), smallRows(t), views, pit.Options{CreatedTimeCutoff: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := j.Stats(0), (pit.Stats{RowsRead: 12, RowsNull: 12, Unmatched: 5}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestJoinWithoutFeatures asks for the event times alone.
func TestJoinWithoutFeatures(t *testing.T) {
	view, source := smallSource()
	j, err := pit.Join(t.Context(), smallRows(t), []pit.ViewJoin{{View: view, Keys: []int{0}, Source: source}}, pit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := feature.NewColumn(feature.Timestamp, 0)
	j.EventTimes(0, 0, j.Rows(), got)
	want := column(feature.Timestamp, 2, 2, 2, 2)
	want.AppendMissing(feature.NotFound)
	if !got.Equal(want) {
		t.Errorf("got %v, want %v", values(got), values(want))
	}
}

// windowSource keeps the range that it was asked for.
type windowSource struct {
	*memorySource
	asked feature.TimeRange
}

func (s *windowSource) Fragments(ctx context.Context, within feature.TimeRange) ([]pit.Fragment, int64, error) {
	s.asked = within
	return s.memorySource.Fragments(ctx, within)
}

func TestRangeAskedOfTheSource(t *testing.T) {
	for _, c := range []struct {
		times []int64
		ttl   feature.TTL
		want  feature.TimeRange
	}{
		{[]int64{50, 20, 90}, 5, feature.TimeRange{Min: 15, Max: 90}},
		{[]int64{50, 20, 90}, 0, feature.TimeRange{Min: math.MinInt64, Max: 90}},
		{[]int64{math.MinInt64 + 3, math.MaxInt64}, 10, feature.AllTime()},
	} {
		view, source := smallSource()
		asked := &windowSource{memorySource: source}
		rows := pit.NewEntityRows(view.Entity.Keys)
		// A row with a null key needs no history, whenever it was.
		keys, times := feature.NewColumn(feature.Int64, 0), column(feature.Timestamp, 0)
		keys.AppendMissing(feature.Null)
		for _, at := range c.times {
			keys.AppendInt64(1)
			times.AppendInt64(at)
		}
		if err := rows.Append([]*feature.Column{keys}, times); err != nil {
			t.Fatal(err)
		}
		_, err := pit.Join(t.Context(), rows, []pit.ViewJoin{{View: view, Keys: []int{0}, TTL: c.ttl, Source: asked}}, pit.Options{})
		if err != nil || asked.asked != c.want {
			t.Errorf("times %v, ttl %d: asked for %v (error %v), want %v", c.times, c.ttl, asked.asked, err, c.want)
		}
	}
}
