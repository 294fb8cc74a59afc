package training

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// hashOf is the hash of one column of chunks.
func hashOf(t testing.TB, name string, chunks ...arrow.Array) string {
	t.Helper()
	h := newTableHash(arrow.NewSchema([]arrow.Field{{Name: name, Type: chunks[0].DataType()}}, nil))
	for _, chunk := range chunks {
		require.NoError(t, h.add([]arrow.Array{chunk}))
	}
	return h.sum()
}

func dictionary(values arrow.DataType) arrow.DataType {
	return &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int16, ValueType: values}
}

// TestHashIsTheSameInEveryArrowForm: what Twofold reads as the same column is the same content.
func TestHashIsTheSameInEveryArrowForm(t *testing.T) {
	words := []any{"a", nil, "", "longer than twelve bytes", "a"}
	numbers := []any{"1", nil, "-128", "1"}
	for name, group := range map[string]struct {
		values []any
		types  []arrow.DataType
	}{
		"STRING": {words, []arrow.DataType{
			arrow.BinaryTypes.String, arrow.BinaryTypes.LargeString, arrow.BinaryTypes.StringView, dictionary(arrow.BinaryTypes.String),
			arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, arrow.BinaryTypes.String),
		}},
		"INT32": {numbers, []arrow.DataType{arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int32, dictionary(arrow.PrimitiveTypes.Int32)}},
		"INT64": {[]any{"1", "4294967295", nil}, []arrow.DataType{arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Uint32}},
		"FLOAT": {[]any{"1.5", nil, "-0"}, []arrow.DataType{arrow.PrimitiveTypes.Float32, arrow.FixedWidthTypes.Float16}},
		"TIMESTAMP": {[]any{"1969-12-31T00:00:00", nil, "2013-01-01T00:00:00"}, []arrow.DataType{
			&arrow.TimestampType{Unit: arrow.Second}, &arrow.TimestampType{Unit: arrow.Millisecond}, &arrow.TimestampType{Unit: arrow.Microsecond}, &arrow.TimestampType{Unit: arrow.Nanosecond},
		}},
		"STRING_LIST": {[]any{`["a","bc"]`, nil, `[]`, `["",""]`}, []arrow.DataType{
			arrow.ListOf(arrow.BinaryTypes.String), arrow.LargeListOf(arrow.BinaryTypes.String), arrow.ListOf(arrow.BinaryTypes.StringView),
		}},
		"decimal": {[]any{"1.50", nil, "-0.01"}, []arrow.DataType{&arrow.Decimal128Type{Precision: 5, Scale: 2}, dictionary(&arrow.Decimal128Type{Precision: 5, Scale: 2})}},
	} {
		t.Run(name, func(t *testing.T) {
			want := hashOf(t, "x", arrayOf(t, group.types[0], group.values...))
			for _, dt := range group.types {
				require.Equal(t, want, hashOf(t, "x", arrayOf(t, dt, group.values...)), "%v", dt)
				var rows []arrow.Array
				for _, value := range group.values {
					rows = append(rows, arrayOf(t, dt, value))
				}
				require.Equal(t, want, hashOf(t, "x", rows...), "%v, row by row", dt)
			}
		})
	}
}

// TestHashTellsContentsApart has pairs that differ in one thing.
func TestHashTellsContentsApart(t *testing.T) {
	ints, text, lists := arrow.PrimitiveTypes.Int64, arrow.BinaryTypes.String, arrow.ListOf(arrow.BinaryTypes.String)
	seen := map[string]string{}
	for what, hash := range map[string]string{
		"1, 2":                       hashOf(t, "x", arrayOf(t, ints, "1", "2")),
		"another order":              hashOf(t, "x", arrayOf(t, ints, "2", "1")),
		"another name":               hashOf(t, "y", arrayOf(t, ints, "1", "2")),
		"a row more":                 hashOf(t, "x", arrayOf(t, ints, "1", "2", "0")),
		"a null more":                hashOf(t, "x", arrayOf(t, ints, "1", "2", nil)),
		"a null in another place":    hashOf(t, "x", arrayOf(t, ints, nil, "1", "2")),
		"no rows":                    hashOf(t, "x", arrayOf(t, ints)),
		"a narrower type":            hashOf(t, "x", arrayOf(t, arrow.PrimitiveTypes.Int32, "1", "2")),
		"an unsigned type":           hashOf(t, "x", arrayOf(t, arrow.PrimitiveTypes.Uint64, "1", "2")),
		"a time":                     hashOf(t, "x", arrayOf(t, arrow.FixedWidthTypes.Duration_us, "1us", "2us")),
		"text":                       hashOf(t, "x", arrayOf(t, text, "1", "2")),
		"bytes":                      hashOf(t, "x", arrayOf(t, arrow.BinaryTypes.Binary, "MQ==", "Mg==")),
		"the same text cut at 2":     hashOf(t, "x", arrayOf(t, text, "12", "")),
		"the same text cut at 0":     hashOf(t, "x", arrayOf(t, text, "", "12")),
		"a null instead of no text":  hashOf(t, "x", arrayOf(t, text, nil, "12")),
		"a list of 1, 2":             hashOf(t, "x", arrayOf(t, lists, `["1","2"]`, `[]`)),
		"lists of 1 and 2":           hashOf(t, "x", arrayOf(t, lists, `["1"]`, `["2"]`)),
		"a list of 12":               hashOf(t, "x", arrayOf(t, lists, `["12"]`, `[]`)),
		"a list of 12 and no text":   hashOf(t, "x", arrayOf(t, lists, `["12",""]`, `[]`)),
		"a list of no text and 12":   hashOf(t, "x", arrayOf(t, lists, `["","12"]`, `[]`)),
		"a null list":                hashOf(t, "x", arrayOf(t, lists, `["12",""]`, nil)),
		"decimals":                   hashOf(t, "x", arrayOf(t, &arrow.Decimal128Type{Precision: 5, Scale: 2}, "1.50")),
		"the same digits of another": hashOf(t, "x", arrayOf(t, &arrow.Decimal128Type{Precision: 5, Scale: 1}, "15.0")),
		"0":                          hashOf(t, "x", arrayOf(t, arrow.PrimitiveTypes.Float64, "0")),
		"-0":                         hashOf(t, "x", arrayOf(t, arrow.PrimitiveTypes.Float64, "-0")),
		"NaN":                        hashOf(t, "x", arrayOf(t, arrow.PrimitiveTypes.Float64, "NaN")),
	} {
		if other, ok := seen[hash]; ok {
			t.Errorf("%s and %s have the same hash", what, other)
		}
		seen[hash] = what
	}
}

// TestHashOfRandomChange changes one cell of random tables.
func TestHashOfRandomChange(t *testing.T) {
	eachSeed(t, 200, func(t *testing.T, r *rand.Rand) {
		typ := feature.Bool + feature.Type(r.IntN(16))
		var cells []any
		for range 1 + r.IntN(20) {
			cells = append(cells, orNull(r, 4, func() any { return randomValue(r, typ, 4) }))
		}
		hash := func() string {
			c := feature.NewColumn(typ, 0)
			for _, cell := range cells {
				appendCell(c, cell)
			}
			return hashOf(t, "x", recordOf(t, []string{"x"}, c).Column(0))
		}
		before := hash()
		require.Equal(t, contentHash([]plainColumn{{"x", typ.String(), cells, zeroOf(typ.String())}}), before)
		row := r.IntN(len(cells))
		old := cells[row]
		for text(cells[row]) == text(old) {
			cells[row] = orNull(r, 4, func() any { return randomValue(r, typ, 4) })
		}
		require.NotEqual(t, before, hash(), "row %d: %v became %v", row, old, cells[row])
	})
}

// TestHashOfStructWithNaN: values that JSON cannot say are values like any other.
func TestHashOfStructWithNaN(t *testing.T) {
	dt := arrow.StructOf(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Float64})
	b := array.NewStructBuilder(memory.DefaultAllocator, dt)
	for _, v := range []float64{math.NaN(), 1} {
		b.Append(true)
		b.FieldBuilder(0).(*array.Float64Builder).Append(v)
	}
	a := b.NewArray()
	want := contentHash([]plainColumn{{"x", "struct<a: float64>", []any{form(form(valueBytes(math.NaN()))), form(form(valueBytes(1.0)))}, nil}})
	require.Equal(t, want, hashOf(t, "x", a))
	require.Equal(t, want, hashOf(t, "x", array.NewSlice(a, 0, 1), array.NewSlice(a, 1, 2)))
}

// TestHashRefuses: an error names the column, and nothing of the rows is hashed.
func TestHashRefuses(t *testing.T) {
	child := arrayOf(t, arrow.PrimitiveTypes.Int32, "1")
	union, err := array.NewSparseUnionFromArrays(arrayOf(t, arrow.PrimitiveTypes.Int8, "0"), []arrow.Array{child})
	require.NoError(t, err)
	decimals := arrayOf(t, &arrow.Decimal128Type{Precision: 5, Scale: 2}, "1.50")
	broken := array.MakeFromData(array.NewDataWithDictionary(
		dictionary(decimals.DataType()), 1, []*memory.Buffer{nil, memory.NewBufferBytes([]byte{100, 0})}, 0, 0, decimals.Data().(*array.Data)))
	for name, c := range map[string]struct {
		a    arrow.Array
		text string
	}{
		"union":        {union, `column "y": values of Arrow type sparse_union<`},
		"damage":       {broken, `column "y": the Arrow array is damaged`},
		"null element": {arrayOf(t, arrow.ListOf(arrow.PrimitiveTypes.Int32), `[1, null]`), `column "y": row 0: the list has a null element`},
	} {
		t.Run(name, func(t *testing.T) {
			h := newTableHash(arrow.NewSchema([]arrow.Field{{Name: "x", Type: child.DataType()}, {Name: "y", Type: c.a.DataType()}}, nil))
			before := h.sum()
			err := h.add([]arrow.Array{child, c.a})
			require.ErrorContains(t, err, c.text)
			require.Equal(t, fault.Invalid, fault.KindOf(err))
			require.Equal(t, before, h.sum())
		})
	}
}
