package hotcache

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMerge is about an entity of which some rows are in memory already when others come.
func TestMerge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cached(t, newSpy())
		time.Sleep(time.Minute)
		now := c.rows.now()
		v, w := c.views.add("v"), c.views.add("w")
		v.generation.Store(7)
		row := func(of *view, age time.Duration, text string) viewRow {
			return viewRow{view: of, generation: of.generation.Load(), began: now - age, row: []byte(text)}
		}
		outdated := func(r viewRow) viewRow { r.generation--; return r }
		of := func(key string, rows ...viewRow) *entry { return &entry{entity: "user", key: key, rows: rows} }
		for name, tc := range map[string]struct{ stored, came, want *entry }{
			"nothing is in memory":           {nil, of("a", row(v, 0, "v")), of("a", row(v, 0, "v"))},
			"another view is":                {of("a", row(w, 5, "w")), of("a", row(v, 0, "v")), of("a", row(w, 5, "w"), row(v, 0, "v"))},
			"the same view is":               {of("a", row(v, 5, "1")), of("a", row(v, 0, "2")), of("a", row(v, 0, "2"))},
			"one of two is":                  {of("a", row(v, 5, "1"), row(w, 5, "w")), of("a", row(v, 0, "2")), of("a", row(w, 5, "w"), row(v, 0, "2"))},
			"it is too old":                  {of("a", row(w, time.Second+1, "w")), of("a", row(v, 0, "v")), of("a", row(v, 0, "v"))},
			"it is of a generation before":   {of("a", outdated(row(v, 0, "1"))), of("a", row(w, 0, "w")), of("a", row(w, 0, "w"))},
			"what came is too old":           {of("a", row(v, 0, "v")), of("a", row(v, time.Second+1, "v")), nil},
			"one that came is outdated":      {of("a", row(v, 5, "2")), of("a", outdated(row(v, 9, "1")), row(w, 9, "w")), of("a", row(v, 5, "2"), row(w, 9, "w"))},
			"another entity has the hash":    {of("b", row(w, 0, "w")), of("a", row(v, 0, "v")), of("a", row(v, 0, "v"))},
			"an entity of another kind does": {&entry{entity: "x", key: "a", rows: []viewRow{row(w, 0, "w")}}, of("a", row(v, 0, "v")), of("a", row(v, 0, "v"))},
		} {
			hash := c.hashOf("a")
			if c.rows.stored.Invalidate(hash); tc.stored != nil {
				c.rows.stored.Set(hash, tc.stored)
			}
			got := c.rows.merge(hash, tc.came)
			require.Equal(t, tc.want, got, name)
			if got == nil || got == tc.came {
				continue
			}
			first := &got.rows[0].row[0]
			require.NotSame(t, &tc.stored.rows[len(tc.stored.rows)-1].row[0], first, "%s: memory of the old entry is kept", name)
		}
	})
}

// TestRemoveFlight takes flights out of a list in every order.
func TestRemoveFlight(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		flights := []*flight{{hash: 5}, {hash: 5}, {hash: 5}}
		flights[0].next, flights[1].next = flights[1], flights[2]
		s := &shard{flights: map[uint64]*flight{5: flights[0]}}
		left := map[*flight]bool{flights[0]: true, flights[1]: true, flights[2]: true}
		for _, i := range order {
			require.True(t, s.remove(flights[i]), "%v", order)
			require.False(t, s.remove(flights[i]), "%v: it was removed", order)
			delete(left, flights[i])
			got := map[*flight]bool{}
			for f := s.flights[5]; f != nil; f = f.next {
				got[f] = true
			}
			require.Equal(t, left, got, "%v", order)
		}
		require.Empty(t, s.flights)
	}
}
