package arrowwire

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

func allTypes() []feature.Type {
	var types []feature.Type
	for t := feature.Bool; t <= feature.TimestampList; t++ {
		types = append(types, t)
	}
	return types
}

func drawColumn(t *rapid.T, typ feature.Type) *feature.Column {
	statuses := []feature.Status{feature.Present, feature.Present, feature.Present, feature.Null, feature.NotFound, feature.Expired}
	c := feature.NewColumn(typ, 0)
	for range rapid.IntRange(0, 20).Draw(t, "rows") {
		s := rapid.SampledFrom(statuses).Draw(t, "status")
		switch {
		case s != feature.Present:
			c.AppendMissing(s)
		case typ.IsList():
			c.AppendList(func(elem *feature.Column) {
				for range rapid.IntRange(0, 4).Draw(t, "length") {
					drawValue(t, elem)
				}
			})
		default:
			drawValue(t, c)
		}
	}
	return c
}

func drawValue(t *rapid.T, c *feature.Column) {
	switch c.Type {
	case feature.Bool:
		c.AppendBool(rapid.Bool().Draw(t, "bool"))
	case feature.Int32:
		c.AppendInt32(rapid.Int32().Draw(t, "int32"))
	case feature.Int64, feature.Timestamp:
		c.AppendInt64(rapid.Int64().Draw(t, "int64"))
	case feature.Float:
		c.AppendFloat(math.Float32frombits(rapid.Uint32().Draw(t, "float")))
	case feature.Double:
		c.AppendDouble(math.Float64frombits(rapid.Uint64().Draw(t, "double")))
	case feature.String:
		c.AppendString(rapid.String().Draw(t, "string"))
	case feature.Bytes:
		c.AppendBytes(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
	}
}

// throughIPC writes and reads the array as an Arrow stream, as clients do.
func throughIPC(t testing.TB, arr arrow.Array) arrow.Array {
	t.Helper()
	var buffer bytes.Buffer
	schema := arrow.NewSchema([]arrow.Field{{Name: "c", Type: arr.DataType(), Nullable: true}}, nil)
	w := ipc.NewWriter(&buffer, ipc.WithSchema(schema))
	if err := w.Write(array.NewRecordBatch(schema, []arrow.Array{arr}, int64(arr.Len()))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := ipc.NewReader(&buffer)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Next() {
		t.Fatal(r.Err())
	}
	return r.RecordBatch().Column(0)
}

func TestRoundTrip(t *testing.T) {
	for _, typ := range allTypes() {
		t.Run(typ.String(), rapid.MakeCheck(func(rt *rapid.T) {
			c := drawColumn(rt, typ)
			from := rapid.IntRange(0, c.Len()).Draw(rt, "from")
			to := rapid.IntRange(from, c.Len()).Draw(rt, "to")
			arr, err := ToArray(c, from, to)
			if err != nil {
				rt.Fatal(err)
			}
			if err := array.ValidateFull(arr); err != nil {
				rt.Fatal(err)
			}
			want := feature.NewColumn(typ, 0)
			for i := from; i < to; i++ {
				if c.IsPresent(i) {
					want.AppendFrom(c, i)
				} else {
					want.AppendMissing(feature.Null)
				}
			}
			for _, arr := range []arrow.Array{arr, throughIPC(t, arr)} {
				got, err := FromArray(arr)
				if err != nil {
					rt.Fatal(err)
				}
				if !got.Equal(want) {
					rt.Fatalf("rows %d to %d of %v came back as %v", from, to, c, got)
				}
			}
			skip := rapid.IntRange(0, to-from).Draw(rt, "slice")
			sliced, err := FromArray(array.NewSlice(arr, int64(skip), int64(to-from)))
			if err != nil {
				rt.Fatal(err)
			}
			wantTail := feature.NewColumn(typ, 0)
			for i := skip; i < want.Len(); i++ {
				wantTail.AppendFrom(want, i)
			}
			if !sliced.Equal(wantTail) {
				rt.Fatalf("rows %d on of %v came back as %v", skip, want, sliced)
			}
		}))
	}
}

func TestFieldsAndTypes(t *testing.T) {
	for _, typ := range allTypes() {
		field := Field("x", typ)
		back, err := TypeOf(field.Type)
		if err != nil || back != typ || !field.Nullable || field.Name != "x" {
			t.Errorf("%v: %v, %v, %v", typ, field, back, err)
		}
	}
	if got, want := DataType(feature.TimestampList).String(), "list<item: timestamp[us, tz=UTC], nullable>"; got != want {
		t.Errorf("TIMESTAMP_LIST is %s, want %s", got, want)
	}
}

// parse builds an array from JSON, Arrow's own way of writing test data.
func parse(t *testing.T, dt arrow.DataType, json string) arrow.Array {
	t.Helper()
	arr, _, err := array.FromJSON(memory.DefaultAllocator, dt, strings.NewReader(json))
	if err != nil {
		t.Fatal(err)
	}
	return arr
}

func TestFromArrayConverts(t *testing.T) {
	timestamp := func(unit arrow.TimeUnit, zone string) arrow.DataType {
		return &arrow.TimestampType{Unit: unit, TimeZone: zone}
	}
	tests := []struct {
		dt   arrow.DataType
		json string
		typ  feature.Type
		want []any
	}{
		{arrow.PrimitiveTypes.Int8, `[-128, null, 127]`, feature.Int32, []any{int32(-128), nil, int32(127)}},
		{arrow.PrimitiveTypes.Int16, `[-32768, 32767]`, feature.Int32, []any{int32(-32768), int32(32767)}},
		{arrow.PrimitiveTypes.Uint8, `[0, 255]`, feature.Int32, []any{int32(0), int32(255)}},
		{arrow.PrimitiveTypes.Uint16, `[0, 65535]`, feature.Int32, []any{int32(0), int32(65535)}},
		{arrow.PrimitiveTypes.Uint32, `[0, 4294967295]`, feature.Int64, []any{int64(0), int64(4294967295)}},
		{arrow.PrimitiveTypes.Uint64, `[0, null, 9223372036854775807]`, feature.Int64, []any{int64(0), nil, int64(math.MaxInt64)}},
		{arrow.FixedWidthTypes.Float16, `[1.5, null]`, feature.Float, []any{float32(1.5), nil}},
		{arrow.BinaryTypes.LargeString, `["é", null, ""]`, feature.String, []any{"é", nil, ""}},
		{arrow.BinaryTypes.StringView, `["short", null, "longer than twelve bytes"]`, feature.String, []any{"short", nil, "longer than twelve bytes"}},
		{arrow.BinaryTypes.LargeBinary, `["AP8=", null]`, feature.Bytes, []any{[]byte{0, 255}, nil}},
		{arrow.BinaryTypes.BinaryView, `["AP8="]`, feature.Bytes, []any{[]byte{0, 255}}},
		{&arrow.FixedSizeBinaryType{ByteWidth: 2}, `["AP8=", null]`, feature.Bytes, []any{[]byte{0, 255}, nil}},
		{timestamp(arrow.Second, ""), `[-1, null, 2]`, feature.Timestamp, []any{int64(-1_000_000), nil, int64(2_000_000)}},
		{timestamp(arrow.Millisecond, "UTC"), `[-1, 2]`, feature.Timestamp, []any{int64(-1000), int64(2000)}},
		{timestamp(arrow.Microsecond, "Europe/Berlin"), `[-1, 2]`, feature.Timestamp, []any{int64(-1), int64(2)}},
		{timestamp(arrow.Nanosecond, ""), `[-1, -1000, -1001, 1999]`, feature.Timestamp, []any{int64(-1), int64(-1), int64(-2), int64(1)}},
		{arrow.FixedWidthTypes.Date32, `["1970-01-02", null, "1969-12-31"]`, feature.Timestamp, []any{int64(86_400_000_000), nil, int64(-86_400_000_000)}},
		{arrow.FixedWidthTypes.Date64, `["1970-01-02"]`, feature.Timestamp, []any{int64(86_400_000_000)}},
		{
			&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String},
			`["a", "b", null, "a"]`, feature.String, []any{"a", "b", nil, "a"},
		},
		{arrow.LargeListOf(arrow.PrimitiveTypes.Int16), `[[1, 2], null, []]`, feature.Int32List, []any{[]any{int32(1), int32(2)}, nil, []any{}}},
		{
			arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Float32), `[[1, 2], null, [3, 4]]`, feature.FloatList,
			[]any{[]any{float32(1), float32(2)}, nil, []any{float32(3), float32(4)}},
		},
		{arrow.ListOf(timestamp(arrow.Second, "")), `[[1], [2, 3]]`, feature.TimestampList, []any{[]any{int64(1_000_000)}, []any{int64(2_000_000), int64(3_000_000)}}},
		{arrow.ListOf(arrow.BinaryTypes.LargeString), `[null, ["a", ""]]`, feature.StringList, []any{nil, []any{"a", ""}}},
		{
			extensions.NewUUIDType(), `["0000002a-0000-4000-8000-0000000000ff", null]`, feature.String,
			[]any{"0000002a-0000-4000-8000-0000000000ff", nil},
		},
		{extensions.NewBool8Type(), `[true, null, false]`, feature.Bool, []any{true, nil, false}},
		{arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, arrow.BinaryTypes.String), `["a", "a", null, "b"]`, feature.String, []any{"a", "a", nil, "b"}},
	}
	for _, test := range tests {
		t.Run(test.dt.String(), func(t *testing.T) {
			arr := parse(t, test.dt, test.json)
			whole, err := FromArray(arr)
			if err != nil {
				t.Fatal(err)
			}
			wantValues(t, whole, test.typ, test.want)
			tail, err := FromArray(array.NewSlice(arr, 1, int64(arr.Len())))
			if err != nil {
				t.Fatal(err)
			}
			wantValues(t, tail, test.typ, test.want[1:])
		})
	}
}

func wantValues(t *testing.T, c *feature.Column, typ feature.Type, want []any) {
	t.Helper()
	got := make([]any, c.Len())
	for i := range got {
		got[i] = c.ValueAt(i)
	}
	if diff := cmp.Diff(want, got); diff != "" || c.Type != typ {
		t.Errorf("%v, want %v:\n%s", c.Type, typ, diff)
	}
}

func TestFromArrayErrors(t *testing.T) {
	notUTF8 := array.NewStringBuilder(memory.DefaultAllocator)
	notUTF8.Append("a")
	notUTF8.Append("\xff")
	tests := []struct {
		name string
		arr  arrow.Array
		want string
	}{
		{"uint64", parse(t, arrow.PrimitiveTypes.Uint64, `[1, 9223372036854775808]`), "row 1: 9223372036854775808 is more than an INT64 holds; cast the column to float64 or to a string"},
		{"seconds", parse(t, &arrow.TimestampType{Unit: arrow.Second}, `[9223372036854775]`), "row 0: the time 9223372036854775 is out of range: in microseconds it does not fit 64 bits"},
		{"milliseconds", parse(t, &arrow.TimestampType{Unit: arrow.Millisecond}, `[0, -9223372036854776]`), "row 1: the time -9223372036854776 is out of range: in microseconds it does not fit 64 bits"},
		{"text", notUTF8.NewArray(), "row 1: the text is not valid UTF-8; send it as binary"},
		{"null element", parse(t, arrow.ListOf(arrow.PrimitiveTypes.Int32), `[[1], [2, null]]`), "row 1: the list has a null element, which a feature cannot hold; drop or fill it"},
		{"list of lists", parse(t, arrow.ListOf(arrow.ListOf(arrow.PrimitiveTypes.Int32)), `[]`), "Arrow type list<item: list<item: int32, nullable>, nullable> is a list of lists, which cannot be read; flatten it to one list a row"},
		{"null", array.NewNull(1), "Arrow type null cannot be read; all its values are null and it has no type: cast it to the type that is meant"},
		{"decimal", parse(t, &arrow.Decimal128Type{Precision: 5, Scale: 2}, `["1.50"]`), "Arrow type decimal(5, 2) cannot be read; cast it to float64, to a string, or to an integer of its smallest unit"},
		{"duration", parse(t, arrow.FixedWidthTypes.Duration_s, `[]`), "Arrow type duration[s] cannot be read; cast it to int64"},
		{"struct", parse(t, arrow.StructOf(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int32}), `[]`), "Arrow type struct<a: int32> cannot be read; give each of its fields a column of its own"},
		{"map", parse(t, arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int32), `[]`), "Arrow type map<utf8, int32, items_nullable> cannot be read; give its keys and its values a list column each"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := FromArray(test.arr)
			if err == nil || fault.KindOf(err) != fault.Invalid || err.Error() != test.want {
				t.Errorf("got %v: %v\nwant %s", fault.KindOf(err), err, test.want)
			}
		})
	}
}

func TestFromArrayReadsTheFarthestTimes(t *testing.T) {
	got, err := FromArray(parse(t, &arrow.TimestampType{Unit: arrow.Second}, `[9223372036854, -9223372036854]`))
	if err != nil {
		t.Fatal(err)
	}
	wantValues(t, got, feature.Timestamp, []any{int64(9223372036854_000_000), int64(-9223372036854_000_000)})
}

// A null row of a list may have elements behind it, which are nobody's.
func TestFromArraySkipsElementsOfNullLists(t *testing.T) {
	elements := parse(t, arrow.PrimitiveTypes.Int32, `[1, null, 3, 4]`)
	offsets := memory.NewBufferBytes(arrow.Int32Traits.CastToBytes([]int32{0, 1, 3, 4}))
	data := array.NewData(arrow.ListOf(arrow.PrimitiveTypes.Int32), 3, []*memory.Buffer{memory.NewBufferBytes([]byte{0b101}), offsets}, []arrow.ArrayData{elements.Data()}, 1, 0)
	got, err := FromArray(array.MakeFromData(data))
	if err != nil {
		t.Fatal(err)
	}
	wantValues(t, got, feature.Int32List, []any{[]any{int32(1)}, nil, []any{int32(4)}})
}

func TestFromArrayRefusesDamage(t *testing.T) {
	offsets := memory.NewBufferBytes(arrow.Int32Traits.CastToBytes([]int32{0, 2, 1 << 20}))
	elements := parse(t, arrow.PrimitiveTypes.Int32, `[1, 2]`)
	list := array.NewData(arrow.ListOf(arrow.PrimitiveTypes.Int32), 2, []*memory.Buffer{nil, offsets}, []arrow.ArrayData{elements.Data()}, 0, 0)
	indices := memory.NewBufferBytes([]byte{0, 100})
	dictionary := array.NewDataWithDictionary(
		&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Uint8, ValueType: arrow.PrimitiveTypes.Int32},
		2, []*memory.Buffer{nil, indices}, 0, 0, elements.Data().(*array.Data))
	// Row 1 is null and goes back, so that rows 0 and 2 would share their elements.
	back := memory.NewBufferBytes(arrow.Int32Traits.CastToBytes([]int32{0, 2, 0, 2}))
	sharing := array.NewData(arrow.ListOf(arrow.PrimitiveTypes.Int32), 3, []*memory.Buffer{memory.NewBufferBytes([]byte{0b101}), back}, []arrow.ArrayData{elements.Data()}, 1, 0)
	for name, data := range map[string]arrow.ArrayData{"list": list, "dictionary": dictionary, "sharing": sharing} {
		_, err := FromArray(array.MakeFromData(data))
		if fault.KindOf(err) != fault.Invalid || !strings.HasPrefix(err.Error(), "the Arrow array is damaged: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFromArrayLimitsExpansion(t *testing.T) {
	ends := parse(t, arrow.PrimitiveTypes.Int64, `[1099511627776]`)
	runs := array.NewRunEndEncodedArray(ends, parse(t, arrow.PrimitiveTypes.Int32, `[1]`), 1<<40, 0)
	if _, err := FromArray(runs); fault.KindOf(err) != fault.Exhausted {
		t.Errorf("a run of 2^40 rows: %v", err)
	}
	text := array.NewStringBuilder(memory.DefaultAllocator)
	text.Append(strings.Repeat("x", 1<<16))
	dictionary := array.NewDictionaryArray(
		&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Uint8, ValueType: arrow.BinaryTypes.String},
		array.NewUint8Data(array.NewData(arrow.PrimitiveTypes.Uint8, 1<<16, []*memory.Buffer{nil, memory.NewBufferBytes(make([]byte, 1<<16))}, nil, 0, 0)),
		text.NewArray())
	if _, err := FromArray(dictionary); fault.KindOf(err) != fault.Exhausted {
		t.Errorf("a dictionary that expands to 4 GiB: %v", err)
	}
}

func TestToArrayRefusesTextThatIsNotUTF8(t *testing.T) {
	c := feature.NewColumn(feature.String, 0)
	c.AppendString("a")
	c.AppendString("\xff")
	if _, err := ToArray(c, 0, 2); fault.KindOf(err) != fault.Corrupt || !strings.Contains(err.Error(), "row 1 ") {
		t.Errorf("got %v", err)
	}
	list := feature.NewColumn(feature.StringList, 0)
	list.AppendList(func(e *feature.Column) { e.AppendString("\xff") })
	if _, err := ToArray(list, 0, 1); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("a list: %v", err)
	}
}

// fuzzTypes are the Arrow types that FuzzFromArray builds arrays of.
var fuzzTypes = []arrow.DataType{
	arrow.FixedWidthTypes.Boolean, arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Uint64, arrow.PrimitiveTypes.Float64,
	arrow.FixedWidthTypes.Float16, arrow.FixedWidthTypes.Date32, &arrow.TimestampType{Unit: arrow.Second}, arrow.BinaryTypes.String,
	arrow.BinaryTypes.LargeBinary, arrow.BinaryTypes.StringView, &arrow.FixedSizeBinaryType{ByteWidth: 3}, extensions.NewUUIDType(),
	arrow.ListOf(arrow.PrimitiveTypes.Int8), arrow.LargeListOf(arrow.PrimitiveTypes.Int8), arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Int8),
	&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Uint8, ValueType: arrow.PrimitiveTypes.Int8},
}

// FuzzFromArray: an array whose buffers contradict its length and each other never crashes the process.
func FuzzFromArray(f *testing.F) {
	for i := range fuzzTypes {
		f.Add(uint8(i), uint16(2), uint8(0), []byte{1}, []byte{0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0}, []byte("abc"))
		f.Add(uint8(i), uint16(2), uint8(1), []byte{}, []byte{0, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, []byte{})
	}
	f.Fuzz(func(t *testing.T, typ uint8, rows uint16, offset uint8, validity, first, second []byte) {
		arr := damagedArray(fuzzTypes[int(typ)%len(fuzzTypes)], int(rows), int(offset), validity, first, second)
		if arr == nil {
			return
		}
		c, err := FromArray(arr)
		if err == nil && (len(c.Status) != c.Len() || c.Len() != arr.Len()) {
			t.Fatalf("%d rows of %v came back as %d with %d statuses", arr.Len(), arr.DataType(), c.Len(), len(c.Status))
		}
		if err != nil && fault.KindOf(err) != fault.Invalid {
			t.Fatalf("%v: %v", fault.KindOf(err), err)
		}
	})
}

// damagedArray returns an array of these buffers, nil where Arrow itself notices (by a panic).
func damagedArray(dt arrow.DataType, rows, offset int, validity, first, second []byte) (arr arrow.Array) {
	defer func() { _ = recover() }()
	// Arrow casts buffers that are shorter than one value, which the race detector takes for an overrun unless there is room behind.
	first = append(first, make([]byte, 16)...)[:len(first)]
	buffers := []*memory.Buffer{nil}
	if len(validity) > 0 {
		buffers[0] = memory.NewBufferBytes(validity)
	}
	child := array.NewData(arrow.PrimitiveTypes.Int8, len(second), []*memory.Buffer{nil, memory.NewBufferBytes(second)}, nil, 0, 0)
	switch dt.ID() {
	case arrow.LIST, arrow.LARGE_LIST:
		buffers = append(buffers, memory.NewBufferBytes(first))
		return array.MakeFromData(array.NewData(dt, rows, buffers, []arrow.ArrayData{child}, array.UnknownNullCount, offset))
	case arrow.FIXED_SIZE_LIST:
		return array.MakeFromData(array.NewData(dt, rows, buffers, []arrow.ArrayData{child}, array.UnknownNullCount, offset))
	case arrow.DICTIONARY:
		buffers = append(buffers, memory.NewBufferBytes(first))
		return array.MakeFromData(array.NewDataWithDictionary(dt, rows, buffers, array.UnknownNullCount, offset, child))
	case arrow.STRING, arrow.LARGE_BINARY, arrow.STRING_VIEW:
		buffers = append(buffers, memory.NewBufferBytes(first), memory.NewBufferBytes(second))
	default:
		buffers = append(buffers, memory.NewBufferBytes(first))
	}
	return array.MakeFromData(array.NewData(dt, rows, buffers, nil, array.UnknownNullCount, offset))
}
