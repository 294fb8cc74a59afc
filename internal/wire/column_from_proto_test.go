package wire

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

const (
	unspecified = twofoldv1.ValueStatus_VALUE_STATUS_UNSPECIFIED
	present     = twofoldv1.ValueStatus_VALUE_STATUS_PRESENT
	null        = twofoldv1.ValueStatus_VALUE_STATUS_NULL
	notFound    = twofoldv1.ValueStatus_VALUE_STATUS_NOT_FOUND
)

func int64s(values ...int64) *twofoldv1.Column_Int64S {
	return &twofoldv1.Column_Int64S{Int64S: &twofoldv1.Int64Array{Values: values}}
}

func int64Lists(lengths []uint32, values ...int64) *twofoldv1.Column_Lists {
	return &twofoldv1.Column_Lists{Lists: &twofoldv1.ListArray{
		Lengths:  lengths,
		Elements: &twofoldv1.ListArray_Int64S{Int64S: &twofoldv1.Int64Array{Values: values}},
	}}
}

func TestColumnFromProtoErrors(t *testing.T) {
	tests := []struct {
		name, field, text string
		column            *twofoldv1.Column
	}{
		{
			"no values", "values",
			`column "k" has no values; set one of bools, int32s, int64s, floats, doubles, strings, binaries, timestamps and lists, also where there are no rows`,
			&twofoldv1.Column{Name: "k"},
		},
		{
			"too few statuses", "statuses", "1 statuses for 2 rows; give one a row, or none where every row is PRESENT",
			&twofoldv1.Column{Values: int64s(1, 2), Statuses: []twofoldv1.ValueStatus{present}},
		},
		{
			"a status of answers", "statuses[1]", "NOT_FOUND is for answers only; use PRESENT or NULL",
			&twofoldv1.Column{Values: int64s(1, 2), Statuses: []twofoldv1.ValueStatus{present, notFound}},
		},
		{
			"no status at all", "statuses[0]", "99 is not a status (twofold.v1.ValueStatus)",
			&twofoldv1.Column{Values: int64s(1), Statuses: []twofoldv1.ValueStatus{99}},
		},
		{
			"a status that wraps to one", "statuses[0]", "257 is not a status (twofold.v1.ValueStatus)",
			&twofoldv1.Column{Values: int64s(1), Statuses: []twofoldv1.ValueStatus{257}},
		},
		{
			"negative status", "statuses[0]", "-1 is not a status (twofold.v1.ValueStatus)",
			&twofoldv1.Column{Values: int64s(1), Statuses: []twofoldv1.ValueStatus{-1}},
		},
		{
			"text", "strings.values[1]", "the text is not valid UTF-8; send it as binaries",
			&twofoldv1.Column{Values: &twofoldv1.Column_Strings{Strings: &twofoldv1.StringArray{Values: []string{"a", "\xff"}}}},
		},
		{
			"list without elements", "lists.elements", "no elements are set; set the field of the element type, also where there are no elements",
			&twofoldv1.Column{Values: &twofoldv1.Column_Lists{Lists: &twofoldv1.ListArray{Lengths: []uint32{0}}}},
		},
		{
			"too few elements", "lists.lengths", "the lengths add up to 4294967297, but there are 2 elements",
			&twofoldv1.Column{Values: int64Lists([]uint32{4294967295, 2}, 1, 2)},
		},
		{
			"too many elements", "lists.lengths", "the lengths add up to 1, but there are 2 elements",
			&twofoldv1.Column{Values: int64Lists([]uint32{1}, 1, 2)},
		},
		{
			"null list with elements", "lists.lengths[0]", "row 0 is NULL, so its list must have no elements",
			&twofoldv1.Column{Values: int64Lists([]uint32{2}, 1, 2), Statuses: []twofoldv1.ValueStatus{null}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, err := ColumnFromProto(test.column)
			wantFault(t, err, fault.Invalid, test.field, test.text)
			_ = c
		})
	}
}

func TestColumnFromProtoReadsUnspecifiedAsPresent(t *testing.T) {
	c, err := ColumnFromProto(&twofoldv1.Column{Values: int64s(7, 8), Statuses: []twofoldv1.ValueStatus{unspecified, null}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]feature.Status{feature.Present, feature.Null}, c.Status); diff != "" {
		t.Error(diff)
	}
	c, err = ColumnFromProto(&twofoldv1.Column{Values: int64s(7)})
	if err != nil || !c.IsPresent(0) {
		t.Errorf("no statuses: %v, %v", c, err)
	}
}

func TestColumnFromProtoClearsNullRows(t *testing.T) {
	statuses := []twofoldv1.ValueStatus{present, null, present}
	numbers := &twofoldv1.Column{Values: int64s(1, 2, 3), Statuses: statuses}
	c, err := ColumnFromProto(numbers)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{1, 0, 3}, c.Int64s); diff != "" {
		t.Error(diff)
	}
	if got := numbers.GetInt64S().GetValues()[1]; got != 2 {
		t.Errorf("the message was changed: %d", got)
	}

	text := &twofoldv1.Column{
		Values:   &twofoldv1.Column_Strings{Strings: &twofoldv1.StringArray{Values: []string{"ab", "hidden", "c"}}},
		Statuses: statuses,
	}
	c, err = ColumnFromProto(text)
	if err != nil {
		t.Fatal(err)
	}
	if string(c.Data) != "abc" || !cmp.Equal(c.Offsets, []int{0, 2, 2, 3}) {
		t.Errorf("data %q, offsets %v", c.Data, c.Offsets)
	}
}

func TestColumnFromProtoTakesZeroRows(t *testing.T) {
	for _, typ := range allTypes() {
		m, err := ColumnToProto("k", feature.NewColumn(typ, 0), 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		c, err := ColumnFromProto(overTheWire(t, m))
		if err != nil || c.Len() != 0 || c.Type != typ {
			t.Errorf("%v: %v, %v", typ, c, err)
		}
	}
}

func TestColumnsFromProto(t *testing.T) {
	one := &twofoldv1.Column{Name: "a", Values: int64s(1, 2)}
	two := &twofoldv1.Column{Name: "b", Values: int64s(3, 4), Statuses: []twofoldv1.ValueStatus{null, present}}
	got, err := ColumnsFromProto("entities", []*twofoldv1.Column{one, two})
	if err != nil {
		t.Fatal(err)
	}
	if got.Rows != 2 || got.Find("b") != got.Columns[1] || got.Find("c") != nil || !cmp.Equal(got.Names, []string{"a", "b"}) {
		t.Errorf("got %+v", got)
	}
	if got, err := ColumnsFromProto("entities", nil); err != nil || got.Rows != 0 {
		t.Errorf("no columns: %v, %v", got, err)
	}

	tests := []struct {
		field, text string
		columns     []*twofoldv1.Column
	}{
		{"entities[0].name", "a column needs a name", []*twofoldv1.Column{{Values: int64s()}}},
		{"entities[1].name", `"a" is the name of entities[0] too; each column is given once`, []*twofoldv1.Column{one, one}},
		{
			"entities[1]", `column "c" has 1 rows, but column "a" has 2; all columns must have the same number of rows`,
			[]*twofoldv1.Column{one, {Name: "c", Values: int64s(1)}},
		},
		{
			"entities[1].statuses[0]", "99 is not a status (twofold.v1.ValueStatus)",
			[]*twofoldv1.Column{one, {Name: "c", Values: int64s(1), Statuses: []twofoldv1.ValueStatus{99}}},
		},
	}
	for _, test := range tests {
		_, err := ColumnsFromProto("entities", test.columns)
		wantFault(t, err, fault.Invalid, test.field, test.text)
	}
	answer := &twofoldv1.Column{Name: "a", Values: int64s(0), Statuses: []twofoldv1.ValueStatus{notFound}}
	if got, err := ResponseColumnsFromProto("columns", []*twofoldv1.Column{answer}); err != nil || got.Columns[0].Status[0] != feature.NotFound {
		t.Errorf("a response: %v, %v", got, err)
	}
}

// FuzzColumnFromProto: any message is refused with a fault of kind Invalid, or read as a column that goes back and forth unchanged.
func FuzzColumnFromProto(f *testing.F) {
	seed := func(m *twofoldv1.Column) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	seed(&twofoldv1.Column{Name: "k"})
	seed(&twofoldv1.Column{Name: "k", Values: int64s(1, 2), Statuses: []twofoldv1.ValueStatus{present, null}})
	seed(&twofoldv1.Column{Name: "k", Values: int64Lists([]uint32{1, 0, 2}, 1, 2, 3), Statuses: []twofoldv1.ValueStatus{present, null, notFound}})
	seed(&twofoldv1.Column{Values: &twofoldv1.Column_Strings{Strings: &twofoldv1.StringArray{Values: []string{"é", ""}}}})
	seed(&twofoldv1.Column{Values: &twofoldv1.Column_Binaries{Binaries: &twofoldv1.BytesArray{Values: [][]byte{{0xff}, nil}}}})
	f.Fuzz(func(t *testing.T, b []byte) {
		m := &twofoldv1.Column{}
		if proto.Unmarshal(b, m) != nil {
			return
		}
		c, err := ResponseColumnFromProto(m)
		if err != nil {
			if fault.KindOf(err) != fault.Invalid {
				t.Fatalf("%v: %v", fault.KindOf(err), err)
			}
			return
		}
		if len(c.Status) != c.Len() {
			t.Fatalf("%d statuses for %d rows", len(c.Status), c.Len())
		}
		back, err := ColumnToProto(m.GetName(), c, 0, c.Len())
		if err != nil {
			t.Fatal(err)
		}
		again, err := ResponseColumnFromProto(overTheWire(t, back))
		if err != nil || !again.Equal(c) {
			t.Fatalf("%v came back as %v, %v", c, again, err)
		}
	})
}

// TestResponseStatuses: an expired row may hold a value, every other row that is not PRESENT holds none; a request has neither.
func TestResponseStatuses(t *testing.T) {
	statuses := []twofoldv1.ValueStatus{
		twofoldv1.ValueStatus_VALUE_STATUS_PRESENT, twofoldv1.ValueStatus_VALUE_STATUS_EXPIRED, twofoldv1.ValueStatus_VALUE_STATUS_UNAVAILABLE,
		twofoldv1.ValueStatus_VALUE_STATUS_NOT_FOUND,
	}
	doubles := &twofoldv1.Column{Values: &twofoldv1.Column_Doubles{Doubles: &twofoldv1.DoubleArray{Values: []float64{1, 2, 3, 4}}}, Statuses: statuses}
	texts := &twofoldv1.Column{Values: &twofoldv1.Column_Strings{Strings: &twofoldv1.StringArray{Values: []string{"a", "b", "c", "d"}}}, Statuses: statuses}
	lists := &twofoldv1.Column{Values: &twofoldv1.Column_Lists{Lists: &twofoldv1.ListArray{
		Lengths: []uint32{1, 2, 0, 0}, Elements: &twofoldv1.ListArray_Int32S{Int32S: &twofoldv1.Int32Array{Values: []int32{1, 2, 3}}},
	}}, Statuses: statuses}
	for _, m := range []*twofoldv1.Column{doubles, texts, lists} {
		c, err := ResponseColumnFromProto(m)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]feature.Status{feature.Present, feature.Expired, feature.Unavailable, feature.NotFound}, c.Status); diff != "" {
			t.Error(diff)
		}
		c.Status = slices.Repeat([]feature.Status{feature.Present}, 4) // to see what lies beneath
		var got []any
		for row := range 4 {
			got = append(got, c.ValueAt(row))
		}
		want := map[feature.Type][]any{
			feature.Double: {1.0, 2.0, 0.0, 0.0}, feature.String: {"a", "b", "", ""}, feature.Int32List: {[]any{int32(1)}, []any{int32(2), int32(3)}, []any{}, []any{}},
		}[c.Type]
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%v: %s", c.Type, diff)
		}
		if _, err := ColumnFromProto(m); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%v as a request: %v", c.Type, err)
		}
	}
	lists.GetLists().Lengths = []uint32{1, 0, 2, 0}
	if _, err := ResponseColumnFromProto(lists); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a list that is not available has elements: %v", err)
	}
}
