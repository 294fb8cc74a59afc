package pit_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// eachCase runs check on n random cases. The seed of a case that fails is printed; TWOFOLD_SEED=<seed> runs that case first.
func eachCase(t *testing.T, n int, check func(t *testing.T, r *rand.Rand)) {
	t.Helper()
	base := rand.Uint64() >> 16
	if text := os.Getenv("TWOFOLD_SEED"); text != "" {
		var err error
		if base, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("TWOFOLD_SEED: %v", err)
		}
	}
	t.Logf("seeds from TWOFOLD_SEED=%d", base)
	for i := range n {
		seed := base + uint64(i)
		check(t, rand.New(rand.NewPCG(seed, 0)))
		if t.Failed() {
			t.Fatalf("failed with TWOFOLD_SEED=%d", seed)
		}
	}
}

var keyTypes = []feature.Type{feature.Int32, feature.Int64, feature.String, feature.Bytes}

// moments are few, so that rows tie often; sometimes they reach to the ends of time.
func moments(r *rand.Rand) func() int64 {
	domain := 1 + r.Int64N(12)
	extremes := []int64{math.MinInt64, math.MinInt64 + 1, -1, 0, 1, math.MaxInt64 - 1, math.MaxInt64}
	extreme := r.IntN(8) == 0
	return func() int64 {
		if extreme && r.IntN(2) == 0 {
			return extremes[r.IntN(len(extremes))]
		}
		return r.Int64N(domain) - 3
	}
}

func randomTTL(r *rand.Rand) feature.TTL {
	return []feature.TTL{0, 0, 1, 2, 3, 5, math.MaxInt64 - 1, math.MaxInt64}[r.IntN(8)]
}

// appendKey appends one of a few keys, chosen so that careless concatenation would confuse them.
func appendKey(r *rand.Rand, c *feature.Column, domain, nullOneIn int) {
	if r.IntN(nullOneIn) == 0 {
		c.AppendMissing(feature.Null)
		return
	}
	switch i := r.IntN(domain); c.Type {
	case feature.Int32:
		c.AppendInt32([]int32{0, 1, -1, 11, math.MaxInt32, math.MinInt32}[i])
	case feature.Int64:
		c.AppendInt64([]int64{0, 1, -1, 11, math.MaxInt64, math.MinInt64}[i])
	default:
		c.AppendString([]string{"", "1", "11", "1:1,", ",", "1:1,1"}[i])
	}
}

// appendValue appends a random value or null of any type.
func appendValue(r *rand.Rand, c *feature.Column) {
	if r.IntN(6) == 0 {
		c.AppendMissing(feature.Null)
		return
	}
	if c.Type.IsList() {
		values := feature.NewColumn(c.Type.Elem(), 0)
		c.AppendList(func(elem *feature.Column) {
			for range r.IntN(3) {
				appendScalar(r, values)
				appendElem(elem, values, values.Len()-1)
			}
		})
		return
	}
	appendScalar(r, c)
}

func appendScalar(r *rand.Rand, c *feature.Column) {
	switch c.Type {
	case feature.Bool:
		c.AppendBool(r.IntN(2) == 0)
	case feature.Int32:
		c.AppendInt32(r.Int32())
	case feature.Int64, feature.Timestamp:
		c.AppendInt64(r.Int64())
	case feature.Float:
		c.AppendFloat([]float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Copysign(0, -1)), r.Float32()}[r.IntN(4)])
	case feature.Double:
		c.AppendDouble([]float64{math.NaN(), math.Float64frombits(0x7ff8000000000123), math.Inf(-1), math.Copysign(0, -1), r.Float64()}[r.IntN(5)])
	default:
		c.AppendString(strings.Repeat("x", r.IntN(4)) + strconv.Itoa(r.IntN(1000)))
	}
}

// appendElem appends row i of values to a list's element column.
func appendElem(elem, values *feature.Column, i int) {
	status := elem.Status
	elem.AppendFrom(values, i)
	elem.Status = status
}

// randomTable returns rows rows of a view.
func randomTable(r *rand.Rand, view *feature.View, rows, keyDomain int, moment func() int64) *table {
	t := newTable(view)
	for range rows {
		for _, key := range t.keys {
			appendKey(r, key, keyDomain, 15)
		}
		appendMoment(r, t.events, moment)
		if t.created != nil {
			appendMoment(r, t.created, moment)
		}
		if t.deleted != nil {
			appendDeleted(r, t.deleted)
		}
		for _, f := range t.features {
			appendValue(r, f)
		}
	}
	return t
}

// maybeDeletes gives a view a column of tombstones, or not.
func maybeDeletes(r *rand.Rand, view *feature.View) {
	if r.IntN(2) == 0 {
		view.Source.DeletedColumn = "deleted"
	}
}

func appendDeleted(r *rand.Rand, c *feature.Column) {
	switch r.IntN(5) {
	case 0:
		c.AppendMissing(feature.Null)
	case 1:
		c.AppendBool(true)
	default:
		c.AppendBool(false)
	}
}

func appendMoment(r *rand.Rand, c *feature.Column, moment func() int64) {
	if r.IntN(12) == 0 {
		c.AppendMissing(feature.Null)
	} else {
		c.AppendInt64(moment())
	}
}

// fragmented cuts a table into fragments, empty ones among them, with random batch sizes.
func fragmented(r *rand.Rand, t *table) *memorySource {
	s := &memorySource{}
	from, file, start := 0, 0, 0
	for from < t.rows() || r.IntN(3) == 0 {
		to := min(t.rows(), from+r.IntN(t.rows()+1))
		if r.IntN(3) == 0 {
			file, start = file+1, from
		}
		s.fragments = append(s.fragments, &memoryFragment{
			table: t.slice(from, to), batch: 1 + r.IntN(8), prunes: true, file: fmt.Sprintf("file %d", file), firstRow: int64(from - start),
			batches: r.IntN(2) == 0})
		from = to
	}
	return s
}

func randomFeatures(r *rand.Rand, n int) []feature.Feature {
	features := make([]feature.Feature, n)
	for i := range features {
		features[i] = feature.Feature{Name: fmt.Sprintf("f%d", i), Type: feature.Bool + feature.Type(r.IntN(16))}
	}
	return features
}

// randomCase is a join of some views.
type randomCase struct {
	keys    []feature.Key
	columns []*feature.Column
	times   *feature.Column
	views   []pit.ViewJoin
	tables  []*table
	options pit.Options
}

func newRandomCase(r *rand.Rand) *randomCase {
	c := &randomCase{times: feature.NewColumn(feature.Timestamp, 0)}
	moment := moments(r)
	keyDomain := 1 + r.IntN(6)
	for i := range 1 + r.IntN(4) {
		c.keys = append(c.keys, feature.Key{Name: fmt.Sprintf("k%d", i), Type: keyTypes[r.IntN(len(keyTypes))]})
		c.columns = append(c.columns, feature.NewColumn(c.keys[i].Type, 0))
	}
	for range r.IntN(40) {
		c.times.AppendInt64(moment())
		for _, column := range c.columns {
			appendKey(r, column, keyDomain, 20)
		}
	}
	c.options = pit.Options{CreatedTimeCutoff: r.IntN(3) == 0, Workers: 1 + r.IntN(4)}
	for i := range 1 + r.IntN(3) {
		c.addView(r, i, keyDomain, moment)
	}
	return c
}

func (c *randomCase) addView(r *rand.Rand, i, keyDomain int, moment func() int64) {
	places := r.Perm(len(c.keys))[:1+r.IntN(len(c.keys))]
	keys := make([]feature.Key, len(places))
	for k, place := range places {
		keys[k] = c.keys[place]
	}
	view := newView(fmt.Sprintf("v%d", i), keys, randomFeatures(r, 1+r.IntN(4)), c.options.CreatedTimeCutoff || r.IntN(2) == 0)
	maybeDeletes(r, view)
	t := randomTable(r, view, r.IntN(60), keyDomain, moment)
	c.tables = append(c.tables, t)
	c.views = append(c.views, pit.ViewJoin{
		View: view, Keys: places, TTL: randomTTL(r), Source: fragmented(r, t),
		Features: r.Perm(len(view.Features))[:r.IntN(len(view.Features)+1)],
	})
}

// rows returns the entity rows, appended in random chunks.
func (c *randomCase) rows(t *testing.T, r *rand.Rand) *pit.EntityRows {
	rows := pit.NewEntityRows(c.keys)
	whole := &table{keys: c.columns, events: c.times}
	for from := 0; from < whole.rows(); {
		to := min(whole.rows(), from+r.IntN(whole.rows()+1))
		part := whole.slice(from, to)
		if err := rows.Append(part.keys, part.events); err != nil {
			t.Fatal(err)
		}
		from = to
	}
	return rows
}

// result is everything that a join says, in a form that can be compared.
type result struct {
	columns [][]*feature.Column
	events  []*feature.Column
	stats   []pit.Stats
}

// read reads a whole result, in random batches.
func read(r *rand.Rand, j *pit.Joined, views []pit.ViewJoin) result {
	var out result
	for v, view := range views {
		columns := make([]*feature.Column, len(view.Features))
		for i, f := range view.Features {
			columns[i] = feature.NewColumn(view.View.Features[f].Type, 0)
		}
		events := feature.NewColumn(feature.Timestamp, 0)
		for from := 0; from < j.Rows(); {
			to := min(j.Rows(), from+1+r.IntN(j.Rows()))
			j.Batch(v, from, to, columns)
			j.EventTimes(v, from, to, events)
			from = to
		}
		out.columns = append(out.columns, columns)
		out.events = append(out.events, events)
		out.stats = append(out.stats, j.Stats(v))
	}
	return out
}

// diff says where two results differ in what they hold; stats are not compared.
func (a result) diff(b result) string {
	for v := range a.columns {
		if !a.events[v].Equal(b.events[v]) {
			return fmt.Sprintf("view %d, event times:\n%v\n%v", v, values(a.events[v]), values(b.events[v]))
		}
		for i := range a.columns[v] {
			if !a.columns[v][i].Equal(b.columns[v][i]) {
				return fmt.Sprintf("view %d, feature %d:\n%v\n%v", v, i, values(a.columns[v][i]), values(b.columns[v][i]))
			}
		}
	}
	return ""
}

func values(c *feature.Column) []any {
	out := make([]any, c.Len())
	for i := range out {
		if out[i] = c.ValueAt(i); out[i] == nil {
			out[i] = c.Status[i]
		}
	}
	return out
}

// identity is the key of a row written so that only equal keys are equal; "" where a key is null. It shares nothing with
// feature.AppendKey.
func identity(keys []*feature.Column, row int) string {
	var parts []string
	for _, key := range keys {
		if !key.IsPresent(row) {
			return ""
		}
		parts = append(parts, fmt.Sprintf("%q", fmt.Sprint(key.ValueAt(row))))
	}
	return strings.Join(parts, " ")
}

func identities(keys []*feature.Column) []string {
	out := make([]string, keys[0].Len())
	for row := range out {
		out[row] = identity(keys, row)
	}
	return out
}

func pick(columns []*feature.Column, places []int) []*feature.Column {
	out := make([]*feature.Column, len(places))
	for i, place := range places {
		out[i] = columns[place]
	}
	return out
}

// total returns the rows of the tables, and how many of them could never be used because of a null.
func total(tables []*table, cutoff bool) (rows, nulls int64) {
	for _, t := range tables {
		rows += int64(t.rows())
		for row, id := range identities(t.keys) {
			if id == "" || !t.events.IsPresent(row) || (cutoff && !t.created.IsPresent(row)) {
				nulls++
			}
		}
	}
	return rows, nulls
}

func countMissing(c *feature.Column) (n int64) {
	for _, s := range c.Status {
		if s != feature.Present {
			n++
		}
	}
	return n
}
