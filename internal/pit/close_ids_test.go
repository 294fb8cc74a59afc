package pit_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// TestJoinOfIDsThatLieCloseTogether has ids of a narrow range somewhere among all integers, its ends included, and feature rows of ids in it, beside it and
// far from it.
func TestJoinOfIDsThatLieCloseTogether(t *testing.T) {
	eachCase(t, 500, func(t *testing.T, r *rand.Rand) {
		typ, least, most := feature.Int64, int64(math.MinInt64), int64(math.MaxInt64)
		if r.IntN(2) == 0 {
			typ, least, most = feature.Int32, math.MinInt32, math.MaxInt32
		}
		width := 1 + r.Int64N(400)
		base := []int64{least, most - width, -width / 2, 0, 1 << 30}[r.IntN(5)]
		appendID := func(c *feature.Column, id int64) {
			if typ == feature.Int64 {
				c.AppendInt64(id)
			} else {
				c.AppendInt32(int32(id))
			}
		}
		c := &randomCase{keys: []feature.Key{{Name: "id", Type: typ}}, columns: []*feature.Column{feature.NewColumn(typ, 0)}, times: feature.NewColumn(feature.Timestamp, 0)}
		moment := moments(r)
		for range r.IntN(200) {
			c.times.AppendInt64(moment())
			if r.IntN(20) == 0 {
				c.columns[0].AppendMissing(feature.Null)
			} else {
				appendID(c.columns[0], base+r.Int64N(width))
			}
		}
		view := newView("v", c.keys, randomFeatures(r, 1), false)
		rows := newTable(view)
		for range r.IntN(400) {
			id := base + r.Int64N(width)
			switch r.IntN(8) {
			case 0:
				id = max(least, min(most, id-width)) // wraps around at the ends of INT64, which is another id as well
			case 1:
				id = []int64{least, most, 0, -1}[r.IntN(4)]
			}
			appendID(rows.keys[0], id)
			appendMoment(r, rows.events, moment)
			appendValue(r, rows.features[0])
		}
		c.tables = []*table{rows}
		c.options.Workers = 1 + r.IntN(4)
		c.views = []pit.ViewJoin{{View: view, Keys: []int{0}, TTL: randomTTL(r), Source: fragmented(r, rows), Features: []int{0}}}
		j, err := pit.Join(t.Context(), c.rows(t, r), c.views, c.options)
		if err != nil {
			t.Fatal(err)
		}
		if d := read(r, j, c.views).diff(oracleJoin(c)); d != "" {
			t.Errorf("got, then want: %s", d)
		}
	})
}
