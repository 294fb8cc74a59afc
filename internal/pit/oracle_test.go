package pit_test

import (
	"math/rand/v2"
	"testing"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// oracleJoin is the join as one would explain it: for each entity row look at every feature row.
func oracleJoin(c *randomCase) result {
	var out result
	for v, view := range c.views {
		t := c.tables[v]
		entities, rows := identities(pick(c.columns, view.Keys)), identities(t.keys)
		columns := make([]*feature.Column, len(view.Features))
		for i, f := range view.Features {
			columns[i] = feature.NewColumn(view.View.Features[f].Type, 0)
		}
		events := feature.NewColumn(feature.Timestamp, 0)
		for e, entity := range entities {
			best := -1
			for row := range rows {
				if entity != "" && rows[row] == entity && usable(t, row, c.times.Int64s[e], view.TTL, c.options.CreatedTimeCutoff) &&
					(best < 0 || !newer(t, best, row)) {
					best = row
				}
			}
			if best >= 0 && t.isDeleted(best) {
				best = -1
			}
			appendWinner(events, t.events, best)
			for i, f := range view.Features {
				appendWinner(columns[i], t.features[f], best)
			}
		}
		out.columns = append(out.columns, columns)
		out.events = append(out.events, events)
	}
	return out
}

func appendWinner(dst, src *feature.Column, row int) {
	if row < 0 {
		dst.AppendMissing(feature.NotFound)
	} else {
		dst.AppendFrom(src, row)
	}
}

func usable(t *table, row int, at int64, ttl feature.TTL, cutoff bool) bool {
	if !t.events.IsPresent(row) || t.events.Int64s[row] > at {
		return false
	}
	if cutoff && (!t.created.IsPresent(row) || t.created.Int64s[row] > at) {
		return false
	}
	// at is not before the event, so the difference fits an unsigned integer.
	return ttl == 0 || uint64(at)-uint64(t.events.Int64s[row]) <= uint64(ttl)
}

// newer reports whether row a of a table has a later event time than row b, or the same and a later created time, or the same and is a tombstone where b is none.
func newer(t *table, a, b int) bool {
	if t.events.Int64s[a] != t.events.Int64s[b] {
		return t.events.Int64s[a] > t.events.Int64s[b]
	}
	if t.created != nil && createdOf(t, a) != createdOf(t, b) {
		return createdOf(t, a) > createdOf(t, b)
	}
	return t.isDeleted(a) && !t.isDeleted(b)
}

func createdOf(t *table, row int) int64 {
	if !t.created.IsPresent(row) {
		return int64(feature.NoCreatedTime)
	}
	return t.created.Int64s[row]
}

func TestJoinEqualsOracle(t *testing.T) {
	eachCase(t, 2000, func(t *testing.T, r *rand.Rand) {
		c := newRandomCase(r)
		j, err := pit.Join(t.Context(), c.rows(t, r), c.views, c.options)
		if err != nil {
			t.Fatal(err)
		}
		got, want := read(r, j, c.views), oracleJoin(c)
		if d := got.diff(want); d != "" {
			t.Errorf("got, then want: %s", d)
		}
		for v, view := range c.views {
			checkStats(t, got.stats[v], view.Source.(*memorySource), c, want.events[v])
		}
	})
}

func checkStats(t *testing.T, got pit.Stats, s *memorySource, c *randomCase, events *feature.Column) {
	var want pit.Stats
	want.Unmatched = countMissing(events)
	// A source is not opened where no entity row has a key.
	if opened := s.opened.Load(); opened != nil {
		want.RowsRead, want.RowsNull = total(opened.tables(), c.options.CreatedTimeCutoff)
		for _, f := range s.fragments {
			want.RowsPruned += f.NumRows()
		}
		want.RowsPruned -= want.RowsRead
	}
	if got != want {
		t.Errorf("stats: got %+v, want %+v", got, want)
	}
}

// TestJoinIsInvariant joins the same rows cut into other fragments and batches, with other workers and chunks.
func TestJoinIsInvariant(t *testing.T) {
	eachCase(t, 150, func(t *testing.T, r *rand.Rand) {
		c := newRandomCase(r)
		first, err := pit.Join(t.Context(), c.rows(t, r), c.views, c.options)
		if err != nil {
			t.Fatal(err)
		}
		want := read(r, first, c.views)
		for range 4 {
			for v := range c.views {
				c.views[v].Source = fragmented(r, c.tables[v])
			}
			c.options.Workers = r.IntN(6)
			j, err := pit.Join(t.Context(), c.rows(t, r), c.views, c.options)
			if err != nil {
				t.Fatal(err)
			}
			if d := read(r, j, c.views).diff(want); d != "" {
				t.Errorf("got, then want: %s", d)
			}
		}
	})
}

// TestJoinOfPermutedEntityRows joins the entity rows in the opposite order and expects the opposite result: no entity row
// depends on another.
func TestJoinOfPermutedEntityRows(t *testing.T) {
	eachCase(t, 150, func(t *testing.T, r *rand.Rand) {
		c := newRandomCase(r)
		first, err := pit.Join(t.Context(), c.rows(t, r), c.views, c.options)
		if err != nil {
			t.Fatal(err)
		}
		order := make([]int, c.times.Len())
		for i := range order {
			order[i] = len(order) - 1 - i
		}
		turn := func(src *feature.Column) *feature.Column {
			dst := feature.NewColumn(src.Type, src.Len())
			dst.Take(src, order, feature.Null)
			return dst
		}
		want := read(r, first, c.views)
		for v := range want.events {
			want.events[v] = turn(want.events[v])
			for i := range want.columns[v] {
				want.columns[v][i] = turn(want.columns[v][i])
			}
		}
		c.times = turn(c.times)
		for i := range c.columns {
			c.columns[i] = turn(c.columns[i])
		}
		second, err := pit.Join(t.Context(), c.rows(t, r), c.views, c.options)
		if err != nil {
			t.Fatal(err)
		}
		if d := read(r, second, c.views).diff(want); d != "" {
			t.Errorf("got, then want: %s", d)
		}
	})
}
