package training

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
)

// label is a type of columns that pass through.
type label struct {
	dt arrow.DataType
	// hashName is the name of the type in the content hash.
	hashName string
	// values are texts that a builder of the type reads, with the plain values that they stand for.
	values map[string]any
}

// form is the canonical form of a value that is not null.
func form(parts ...[]byte) []byte { return append([]byte{1}, slices.Concat(parts...)...) }

func le64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }
func le32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }

// nanos is the text of a time for builders.
func nanos(v int64) string { return time.Unix(0, v).UTC().Format("2006-01-02 15:04:05.000000000") }

func labels() []label {
	intsOf := arrow.ListOf(arrow.PrimitiveTypes.Int32)
	return []label{
		{arrow.PrimitiveTypes.Int8, "INT32", map[string]any{"-128": int32(-128), "0": int32(0), "127": int32(127)}},
		{arrow.PrimitiveTypes.Uint64, "uint64", map[string]any{"0": form(le64(0)), "18446744073709551615": form(le64(math.MaxUint64))}},
		{arrow.PrimitiveTypes.Float64, "DOUBLE", map[string]any{"NaN": math.NaN(), "-0": math.Copysign(0, -1), "1.5": 1.5}},
		{arrow.FixedWidthTypes.Boolean, "BOOL", map[string]any{"true": true, "false": false}},
		{arrow.BinaryTypes.LargeString, "STRING", map[string]any{"": "", "a": "a", "été": "été"}},
		{arrow.BinaryTypes.StringView, "STRING", map[string]any{"": "", "a": "a", "longer than twelve bytes": "longer than twelve bytes"}},
		{&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, "STRING", map[string]any{"a": "a", "b": "b", "": ""}},
		{&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Uint32, ValueType: arrow.PrimitiveTypes.Int64}, "INT64", map[string]any{"7": int64(7), "-1": int64(-1)}},
		{&arrow.Decimal128Type{Precision: 10, Scale: 2}, "decimal(10, 2)", map[string]any{
			"12.34": form(le64(1234), le64(0)), "-0.01": form(le64(math.MaxUint64), le64(math.MaxUint64)),
		}},
		{
			arrow.StructOf(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int32, Nullable: true}, arrow.Field{Name: "b", Type: arrow.BinaryTypes.String, Nullable: true}),
			"struct<a: int32 nullable, b: utf8 nullable>", map[string]any{
				`{"a":1,"b":"xy"}`: form(form(le32(1)), form(le64(2), []byte("xy"))), `{"a":null,"b":""}`: form([]byte{0}, form(le64(0))),
			},
		},
		{
			arrow.StructOf(arrow.Field{Name: "ok", Type: arrow.FixedWidthTypes.Boolean, Nullable: true}, arrow.Field{Name: "at", Type: arrow.FixedWidthTypes.Timestamp_ns}),
			"struct<ok: bool nullable, at: timestamp[ns, tz=UTC]>", map[string]any{
				`{"ok":true,"at":"1970-01-01T00:00:00.000000007Z"}`: form(form([]byte{1}), form(le64(7))), `{"ok":false,"at":"1970-01-01T00:00:00Z"}`: form(form([]byte{0}), form(le64(0))),
			},
		},
		{arrow.ListOf(arrow.BinaryTypes.String), "STRING_LIST", map[string]any{`["a","bc"]`: []any{"a", "bc"}, `[]`: []any{}, `["","",""]`: []any{"", "", ""}}},
		{arrow.ListOf(intsOf), "list<item: list<item: int32, nullable>, nullable>", map[string]any{
			`[[1],null,[]]`: form(le64(3), form(le64(1), form(le32(1))), []byte{0}, form(le64(0))), `[]`: form(le64(0)),
		}},
		{arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int32), "map<utf8, int32, items_nullable>", map[string]any{
			`[{"key":"k","value":5}]`: form(le64(1), form(form(le64(1), []byte("k")), form(le32(5)))), `[]`: form(le64(0)),
		}},
		{&arrow.TimestampType{Unit: arrow.Nanosecond}, "TIMESTAMP", map[string]any{nanos(-1): int64(-1), nanos(1999): int64(1)}},
		{arrow.FixedWidthTypes.Date32, "TIMESTAMP", map[string]any{"1970-01-02": int64(86_400_000_000), "1969-12-31": int64(-86_400_000_000)}},
		{&arrow.FixedSizeBinaryType{ByteWidth: 2}, "BYTES", map[string]any{"AP8=": []byte{0, 255}, "AQI=": []byte{1, 2}}},
		{arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, arrow.BinaryTypes.String), "STRING", map[string]any{"a": "a", "b": "b"}},
		{arrow.Null, "null", nil},
	}
}

// keyForms are Arrow types as which keys of a type may come, and how their values are written for builders.
func keyForms(t feature.Type) []arrow.DataType {
	switch t {
	case feature.Int32:
		return []arrow.DataType{arrow.PrimitiveTypes.Int32, &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int16, ValueType: arrow.PrimitiveTypes.Int32}}
	case feature.Int64:
		return []arrow.DataType{arrow.PrimitiveTypes.Int64, arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64)}
	case feature.String:
		return []arrow.DataType{arrow.BinaryTypes.String, arrow.BinaryTypes.LargeString, &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}}
	default:
		return []arrow.DataType{arrow.BinaryTypes.Binary, arrow.BinaryTypes.BinaryView}
	}
}

// keyValues are few, so that many rows match, and chosen so that careless concatenation would confuse them.
func keyValues(t feature.Type) []any {
	switch t {
	case feature.Int32:
		return []any{int32(0), int32(1), int32(-1), int32(math.MaxInt32), int32(math.MinInt32)}
	case feature.Int64:
		return []any{int64(0), int64(1), int64(-1), int64(math.MaxInt64), int64(math.MinInt64)}
	case feature.String:
		return []any{"", "1", "11", "1:1,", "1:1,1"}
	default:
		return []any{[]byte{}, []byte("1"), []byte("11"), []byte{0}, []byte{255, 0}}
	}
}

// builderText is how builders read a key.
func builderText(v any) string {
	if b, ok := v.([]byte); ok {
		return base64.StdEncoding.EncodeToString(b)
	}
	return fmt.Sprint(v)
}

// entityColumn is a column of entity rows: what builders read, nil for a null, and the plain value of each.
type entityColumn struct {
	name     string
	dt       arrow.DataType
	hashName string
	texts    []any
	cells    []any
}

func (c *entityColumn) add(text string, cell any) {
	if cell == nil {
		c.texts, c.cells = append(c.texts, nil), append(c.cells, nil)
	} else {
		c.texts, c.cells = append(c.texts, text), append(c.cells, cell)
	}
}

// trainCase is a training set of some views.
type trainCase struct {
	histories []*history
	spec      Spec
	entities  []*entityColumn
	keys      map[string]*entityColumn
	times     []int64
	schema    *arrow.Schema
}

// moments are few, so that rows tie often; sometimes they reach to the ends of time.
func moments(r *rand.Rand) func() int64 {
	domain, extreme := 1+r.Int64N(12), r.IntN(8) == 0
	return func() int64 {
		if extreme && r.IntN(2) == 0 {
			return oneOf[int64](r, math.MinInt64, math.MinInt64+1, -1, 0, 1, math.MaxInt64-1, math.MaxInt64)
		}
		return r.Int64N(domain) - 3
	}
}

var keyTypes = []feature.Type{feature.Int32, feature.Int64, feature.String, feature.Bytes}

func newTrainCase(t testing.TB, r *rand.Rand) *trainCase {
	c := &trainCase{keys: map[string]*entityColumn{}}
	moment := moments(r)
	keys := make([]feature.Key, 1+r.IntN(4))
	for i := range keys {
		keys[i] = feature.Key{Name: fmt.Sprintf("k%d", i), Type: oneOf(r, keyTypes...)}
	}
	cutoff := r.IntN(3) == 0
	var views []*feature.View
	var names []string
	for v := range 1 + r.IntN(4) {
		view := newView(fmt.Sprintf("v%d", v), randomKeys(r, keys), randomFeatures(r), cutoff || r.IntN(2) == 0)
		view.TTL = oneOf[feature.TTL](r, 0, 0, 1, 2, 5, math.MaxInt64)
		views = append(views, view)
		c.histories = append(c.histories, randomHistory(r, view, moment))
		for i, f := range view.Features {
			if i == 0 || r.IntN(3) > 0 {
				names = append(names, view.Name+":"+f.Name)
			}
		}
	}
	r.Shuffle(len(names), func(i, k int) { names[i], names[k] = names[k], names[i] })
	c.spec = Spec{
		Selection: selectFeatures(t, names, views...), TimeColumn: "at", MaxAge: oneOf[feature.TTL](r, 0, 0, 1, 3), CreatedTimeCutoff: cutoff,
		EventTimes: r.IntN(2) == 0, Statuses: r.IntN(2) == 0,
	}
	if r.IntN(3) == 0 {
		start := moment()
		c.spec.Times = &TimeRange{Start: feature.AsOf(start), End: feature.AsOf(max(start, moment()))}
	}
	c.addEntities(r, moment)
	return c
}

func randomKeys(r *rand.Rand, keys []feature.Key) (chosen []feature.Key) {
	for _, i := range r.Perm(len(keys))[:1+r.IntN(len(keys))] {
		chosen = append(chosen, keys[i])
	}
	return chosen
}

func randomFeatures(r *rand.Rand) []feature.Feature {
	features := make([]feature.Feature, 1+r.IntN(4))
	for i := range features {
		features[i] = feature.Feature{Name: fmt.Sprintf("f%d", i), Type: feature.Bool + feature.Type(r.IntN(16))}
	}
	return features
}

func randomHistory(r *rand.Rand, view *feature.View, moment func() int64) *history {
	h := &history{view: view}
	longest := oneOf(r, 4, 4, 4, 60)
	for range r.IntN(60) {
		row := historyRow{}
		for _, key := range view.Entity.Keys {
			row.keys = append(row.keys, orNull(r, 15, func() any { return oneOf(r, keyValues(key.Type)...) }))
		}
		row.event = orNull(r, 12, func() any { return moment() })
		if view.Source.CreatedTimeColumn != "" {
			row.created = orNull(r, 12, func() any { return moment() })
		}
		for _, f := range view.Features {
			row.values = append(row.values, orNull(r, 6, func() any { return randomValue(r, f.Type, longest) }))
		}
		h.rows = append(h.rows, row)
	}
	return h
}

func orNull(r *rand.Rand, oneIn int, value func() any) any {
	if r.IntN(oneIn) == 0 {
		return nil
	}
	return value()
}

func randomValue(r *rand.Rand, t feature.Type, longest int) any {
	switch t {
	case feature.Bool:
		return r.IntN(2) == 0
	case feature.Int32:
		return r.Int32()
	case feature.Int64, feature.Timestamp:
		return r.Int64()
	case feature.Float:
		return oneOf(r, float32(math.NaN()), float32(math.Inf(1)), float32(math.Copysign(0, -1)), r.Float32())
	case feature.Double:
		return oneOf(r, math.Float64frombits(0x7ff8000000000123), math.Inf(-1), math.Copysign(0, -1), r.Float64())
	case feature.String:
		return strings.Repeat("ü", r.IntN(longest)) + strconv.Itoa(r.IntN(1000))
	case feature.Bytes:
		return append([]byte{0, 255}, make([]byte, r.IntN(longest))...)
	default:
		list := make([]any, r.IntN(3))
		for i := range list {
			list[i] = randomValue(r, t.Elem(), longest)
		}
		return list
	}
}

// addEntities makes the entity rows: keys and time in any place among labels.
func (c *trainCase) addEntities(r *rand.Rand, moment func() int64) {
	rows := r.IntN(60)
	for _, key := range c.spec.Selection.KeyNames {
		column := &entityColumn{name: key.Name, dt: oneOf(r, keyForms(key.Type)...), hashName: key.Type.String()}
		for range rows {
			v := orNull(r, 20, func() any { return oneOf(r, keyValues(key.Type)...) })
			column.add(builderText(v), v)
		}
		c.keys[key.Name] = column
		c.entities = append(c.entities, column)
	}
	at := &entityColumn{name: "at", dt: arrow.FixedWidthTypes.Timestamp_us, hashName: "TIMESTAMP"}
	for range rows {
		v := moment()
		c.times = append(c.times, v)
		at.cells, at.texts = append(at.cells, v), append(at.texts, v)
	}
	c.entities = append(c.entities, at)
	all := labels()
	for i, place := range r.Perm(len(all))[:r.IntN(5)] {
		column := &entityColumn{name: fmt.Sprintf("label%d", i), dt: all[place].dt, hashName: all[place].hashName}
		var texts []string
		for text := range all[place].values {
			texts = append(texts, text)
		}
		slices.Sort(texts)
		for range rows {
			if len(texts) == 0 || r.IntN(5) == 0 {
				column.add("", nil)
			} else {
				text := oneOf(r, texts...)
				column.add(text, all[place].values[text])
			}
		}
		c.entities = append(c.entities, column)
	}
	r.Shuffle(len(c.entities), func(i, k int) { c.entities[i], c.entities[k] = c.entities[k], c.entities[i] })
	// Dups of earlier rows, to the last label.
	for row := range rows {
		if from := r.IntN(row + 1); r.IntN(4) == 0 {
			for _, column := range c.entities {
				column.texts[row], column.cells[row] = column.texts[from], column.cells[from]
			}
			c.times[row] = c.times[from]
		}
	}
	var fields []arrow.Field
	for _, column := range c.entities {
		fields = append(fields, arrow.Field{Name: column.name, Type: column.dt, Nullable: true})
	}
	c.schema = arrow.NewSchema(fields, nil)
}

// record builds some of the entity rows.
func (c *trainCase) record(t testing.TB, from, to int) arrow.RecordBatch {
	t.Helper()
	var arrays []arrow.Array
	for _, column := range c.entities {
		if column.name == "at" {
			times := feature.NewColumn(feature.Timestamp, 0)
			for _, v := range c.times[from:to] {
				times.AppendInt64(v)
			}
			arrays = append(arrays, recordOf(t, []string{"at"}, times).Column(0))
			continue
		}
		arrays = append(arrays, arrayOf(t, column.dt, column.texts[from:to]...))
	}
	return array.NewRecordBatch(c.schema, arrays, int64(to-from))
}

// records are the entity rows in random chunks: some built by themselves, with dictionaries of their own, some cut out of larger ones.
func (c *trainCase) records(t testing.TB, r *rand.Rand) (records []arrow.RecordBatch) {
	whole, rows := c.record(t, 0, len(c.times)), len(c.times)
	most := oneOf(r, 1, 3, 20, rows+1)
	for from := 0; from < rows; {
		to := min(rows, from+r.IntN(most+1))
		if r.IntN(2) == 0 {
			records = append(records, c.record(t, from, to))
		} else {
			records = append(records, whole.NewSlice(int64(from), int64(to)))
		}
		from = to
	}
	return records
}

// kept are the entity rows whose time is in the range.
func (c *trainCase) kept() (rows []int) {
	for row, at := range c.times {
		if times := c.spec.Times; times == nil || feature.AsOf(at) >= times.Start && feature.AsOf(at) < times.End {
			rows = append(rows, row)
		}
	}
	return rows
}

func TestLabelsAreWhatTheyStandFor(t *testing.T) {
	for _, l := range labels() {
		for text, cell := range l.values {
			a := arrayOf(t, l.dt, text)
			h := newTableHash(arrow.NewSchema([]arrow.Field{{Name: "x", Type: l.dt}}, nil))
			require.NoError(t, h.add([]arrow.Array{a}))
			require.Equal(t, contentHash([]plainColumn{{"x", l.hashName, []any{cell}, zeroOf(l.hashName)}}), h.sum(), "%v %s", l.dt, text)
		}
	}
}
