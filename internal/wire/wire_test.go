package wire

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
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

// drawColumn draws a column with the given statuses and their rows.
func drawColumn(t *rapid.T, typ feature.Type, statuses []feature.Status) *feature.Column {
	c := feature.NewColumn(typ, 0)
	for range rapid.IntRange(0, 20).Draw(t, "rows") {
		s := rapid.SampledFrom(statuses).Draw(t, "status")
		if s != feature.Present {
			c.AppendMissing(s)
			continue
		}
		if !typ.IsList() {
			drawValue(t, c)
			continue
		}
		c.AppendList(func(elem *feature.Column) {
			for range rapid.IntRange(0, 4).Draw(t, "length") {
				drawValue(t, elem)
			}
		})
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

// overTheWire marshals and unmarshals, so that nothing rests on shared memory.
func overTheWire(t testing.TB, m *twofoldv1.Column) *twofoldv1.Column {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	out := &twofoldv1.Column{}
	if err := proto.Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestColumnRoundTrip(t *testing.T) {
	statuses := []feature.Status{feature.Present, feature.Present, feature.Null, feature.NotFound, feature.Expired}
	for _, typ := range allTypes() {
		t.Run(typ.String(), rapid.MakeCheck(func(rt *rapid.T) {
			c := drawColumn(rt, typ, statuses)
			from := rapid.IntRange(0, c.Len()).Draw(rt, "from")
			to := rapid.IntRange(from, c.Len()).Draw(rt, "to")
			m, err := ColumnToProto("view:f", c, from, to)
			if err != nil {
				rt.Fatal(err)
			}
			got, err := ResponseColumnFromProto(overTheWire(t, m))
			if err != nil {
				rt.Fatal(err)
			}
			want := feature.NewColumn(typ, 0)
			for i := from; i < to; i++ {
				want.AppendFrom(c, i)
			}
			if !got.Equal(want) || m.GetName() != "view:f" || len(m.GetStatuses()) != to-from {
				rt.Fatalf("rows %d to %d of %v came back as %v", from, to, c, got)
			}
		}))
	}
}

func TestColumnToProtoRefusesTextThatIsNotUTF8(t *testing.T) {
	c := feature.NewColumn(feature.String, 0)
	c.AppendString("fine")
	c.AppendString("\xff")
	_, err := ColumnToProto("city", c, 0, 2)
	wantFault(t, err, fault.Corrupt, "", `column "city": the text of row 1 is not valid UTF-8; mend the source, or define the feature as BYTES`)
	if _, err := ColumnToProto("city", c, 0, 1); err != nil {
		t.Errorf("row 0 alone: %v", err)
	}

	list := feature.NewColumn(feature.StringList, 0)
	list.AppendMissing(feature.Null)
	list.AppendList(func(e *feature.Column) { e.AppendString("a") })
	list.AppendList(func(e *feature.Column) { e.AppendString("b"); e.AppendString("\xc3") })
	_, err = ColumnToProto("cities", list, 0, 3)
	wantFault(t, err, fault.Corrupt, "", `column "cities": the text of row 2 is not valid UTF-8; mend the source, or define the feature as BYTES`)
}

func TestColumnToProtoAllocatesAFewTimesWhateverTheLength(t *testing.T) {
	for _, typ := range []feature.Type{feature.Bool, feature.Int32, feature.Int64, feature.Float, feature.Double, feature.Timestamp} {
		c := feature.NewColumn(typ, 0)
		for range 1000 {
			c.AppendMissing(feature.Null)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = ColumnToProto("x", c, 0, 1000) }); n > 2 {
			t.Errorf("%v: %v allocations, want at most 2", typ, n)
		}
	}
}

func TestColumnsToProto(t *testing.T) {
	a, b := feature.NewColumn(feature.Int32, 0), feature.NewColumn(feature.String, 0)
	a.AppendInt32(1)
	b.AppendString("x")
	got, err := ColumnsToProto([]string{"a", "b"}, []*feature.Column{a, b}, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	present := []twofoldv1.ValueStatus{twofoldv1.ValueStatus_VALUE_STATUS_PRESENT}
	want := []*twofoldv1.Column{
		{Name: "a", Values: &twofoldv1.Column_Int32S{Int32S: &twofoldv1.Int32Array{Values: []int32{1}}}, Statuses: present},
		{Name: "b", Values: &twofoldv1.Column_Strings{Strings: &twofoldv1.StringArray{Values: []string{"x"}}}, Statuses: present},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	b.Data[0] = 0xff
	if _, err := ColumnsToProto([]string{"a", "b"}, []*feature.Column{a, b}, 0, 1); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("text that is not UTF-8: %v", err)
	}
}

func TestTypesKeepTheirNumbers(t *testing.T) {
	values := twofoldv1.ValueType(0).Descriptor().Values()
	if values.Len() != len(allTypes())+1 {
		t.Errorf("the contract has %d types, the domain %d", values.Len()-1, len(allTypes()))
	}
	for _, typ := range allTypes() {
		if got, want := TypeToProto(typ).String(), "VALUE_TYPE_"+typ.String(); got != want {
			t.Errorf("%v is %s, want %s", typ, got, want)
		}
		back, err := TypeFromProto(TypeToProto(typ))
		if err != nil || back != typ {
			t.Errorf("%v came back as %v, %v", typ, back, err)
		}
	}
	for _, bad := range []twofoldv1.ValueType{0, 17, -1, 257} {
		if _, err := TypeFromProto(bad); fault.KindOf(err) != fault.Invalid {
			t.Errorf("type %d: %v", bad, err)
		}
	}
}

func TestEntityRoundTrip(t *testing.T) {
	want := &feature.Entity{Name: "pair", Keys: []feature.Key{{Name: "user", Type: feature.Int64}, {Name: "item", Type: feature.String}}}
	got, err := EntityFromProto(EntityToProto(want))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := EntityFromProto(&twofoldv1.Entity{Keys: []*twofoldv1.EntityKey{{Name: "x"}}}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("key without a type: %v", err)
	}
	schema := ColumnSchema("x", feature.FloatList)
	if schema.GetName() != "x" || schema.GetType() != twofoldv1.ValueType_VALUE_TYPE_FLOAT_LIST {
		t.Errorf("ColumnSchema: %v", schema)
	}
}

func wantFault(t *testing.T, err error, kind fault.Kind, field, text string) {
	t.Helper()
	e, ok := err.(*fault.Error)
	if !ok {
		t.Fatalf("got %v, want a fault", err)
	}
	if e.Kind != kind || e.Field != field || e.Err.Error() != text {
		t.Errorf("got %v, field %q: %s\nwant %v, field %q: %s", e.Kind, e.Field, e.Err, kind, field, text)
	}
}
