package feature

import (
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// drawColumn draws a column of up to 12 rows of any status.
func drawColumn(t *rapid.T, typ Type) *Column {
	c := NewColumn(typ, rapid.IntRange(0, 3).Draw(t, "room"))
	for range rapid.IntRange(0, 12).Draw(t, "rows") {
		drawRow(t, c)
	}
	return c
}

func drawRow(t *rapid.T, c *Column) {
	s := rapid.SampledFrom([]Status{Present, Present, Present, Null, NotFound, Expired}).Draw(t, "status")
	switch {
	case s != Present:
		c.AppendMissing(s)
	case c.Type.IsList():
		c.AppendList(func(elem *Column) {
			for range rapid.IntRange(0, 3).Draw(t, "length") {
				drawValue(t, elem)
			}
		})
	default:
		drawValue(t, c)
	}
}

func drawValue(t *rapid.T, c *Column) {
	switch c.Type {
	case Bool:
		c.AppendBool(rapid.Bool().Draw(t, "bool"))
	case Int32:
		c.AppendInt32(rapid.Int32().Draw(t, "int32"))
	case Int64, Timestamp:
		c.AppendInt64(rapid.Int64().Draw(t, "int64"))
	case Float:
		c.AppendFloat(math.Float32frombits(rapid.Uint32().Draw(t, "float")))
	case Double:
		c.AppendDouble(math.Float64frombits(rapid.Uint64().Draw(t, "double")))
	case String:
		c.AppendString(rapid.String().Draw(t, "string"))
	default:
		c.AppendBytes(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
	}
}

// values prints rows, so that NaN equals NaN.
func values(c *Column) []string {
	out := make([]string, c.Len())
	for i := range out {
		out[i] = fmt.Sprintf("%v %#v", c.Status[i], c.ValueAt(i))
	}
	return out
}

// forEveryType runs a property test on each type.
func forEveryType(t *testing.T, check func(t *rapid.T, typ Type)) {
	for _, typ := range allTypes() {
		t.Run(typ.String(), rapid.MakeCheck(func(rt *rapid.T) { check(rt, typ) }))
	}
}

func TestAppendFromCopiesEveryRow(t *testing.T) {
	forEveryType(t, func(t *rapid.T, typ Type) {
		src := drawColumn(t, typ)
		dst := NewColumn(typ, 0)
		for i := range src.Len() {
			dst.AppendFrom(src, i)
		}
		if !dst.Equal(src) || !src.Equal(dst) {
			t.Fatalf("%v became %v", values(src), values(dst))
		}
		checkShape(t, dst)
	})
}

func TestAppendColumnCopiesEveryRow(t *testing.T) {
	forEveryType(t, func(t *rapid.T, typ Type) {
		a, b := drawColumn(t, typ), drawColumn(t, typ)
		got := NewColumn(typ, 0)
		got.AppendColumn(a)
		got.AppendColumn(b)
		want := append(values(a), values(b)...)
		if diff := cmp.Diff(want, values(got)); diff != "" {
			t.Fatal(diff)
		}
		checkShape(t, got)
	})
}

func TestTakeTakesTheRowsAsked(t *testing.T) {
	forEveryType(t, func(t *rapid.T, typ Type) {
		src := drawColumn(t, typ)
		places := rapid.SliceOfN(rapid.IntRange(-1, src.Len()-1), 0, 20).Draw(t, "places")
		missing := rapid.SampledFrom([]Status{Null, NotFound, Expired}).Draw(t, "missing")
		got := drawColumn(t, typ)
		want := values(got)
		empty := NewColumn(typ, 0)
		empty.AppendMissing(missing)
		for _, i := range places {
			if i < 0 {
				want = append(want, values(empty)...)
			} else {
				want = append(want, values(src)[i])
			}
		}
		got.Take(src, places, missing)
		if diff := cmp.Diff(want, values(got)); diff != "" {
			t.Fatal(diff)
		}
		checkShape(t, got)
	})
}

// checkShape checks what Column promises of its slices.
func checkShape(t *rapid.T, c *Column) {
	if len(c.Status) != c.Len() {
		t.Fatalf("%d statuses for %d rows", len(c.Status), c.Len())
	}
	if c.Elem != nil && c.Elem.Status != nil {
		t.Fatal("elements have statuses")
	}
	zero := NewColumn(c.Type, 0)
	zero.AppendMissing(Null)
	for i, s := range c.Status {
		if s != Present && !c.equalValue(i, zero, 0) {
			t.Fatalf("row %d is %v and not zero", i, s)
		}
	}
}

func TestEqualSeesEveryDifference(t *testing.T) {
	forEveryType(t, func(t *rapid.T, typ Type) {
		a := drawColumn(t, typ)
		b := NewColumn(typ, 0)
		b.AppendColumn(a)
		drawRow(t, b)
		if a.Equal(b) || b.Equal(a) {
			t.Fatal("a row more is not seen")
		}
		drawRow(t, a)
		last := a.Len() - 1
		same := values(a)[last] == values(b)[last]
		if typ.Elem() != Float && typ.Elem() != Double && a.Equal(b) != same {
			t.Fatalf("%s and %s: equal %v", values(a)[last], values(b)[last], a.Equal(b))
		}
	})
}

func TestEqualComparesBits(t *testing.T) {
	doubles := func(v ...float64) *Column {
		c := NewColumn(Double, 0)
		for _, v := range v {
			c.AppendDouble(v)
		}
		return c
	}
	floats := func(v float32) *Column {
		c := NewColumn(FloatList, 0)
		c.AppendList(func(e *Column) { e.AppendFloat(v) })
		return c
	}
	if !doubles(math.NaN()).Equal(doubles(math.NaN())) {
		t.Error("NaN does not equal itself")
	}
	if doubles(0).Equal(doubles(math.Copysign(0, -1))) {
		t.Error("0 equals −0")
	}
	if floats(0).Equal(floats(float32(math.Copysign(0, -1)))) {
		t.Error("0 equals −0 in a list")
	}
	if doubles().Equal(NewColumn(Float, 0)) {
		t.Error("columns of two types are equal")
	}
	null, notFound := NewColumn(Double, 0), NewColumn(Double, 0)
	null.AppendMissing(Null)
	notFound.AppendMissing(NotFound)
	if null.Equal(notFound) {
		t.Error("two statuses are equal")
	}
}

func TestEqualSeesWhereRowsOfListsEnd(t *testing.T) {
	list := func(lengths ...int) *Column {
		c := NewColumn(Int64List, 0)
		for _, n := range lengths {
			c.AppendList(func(e *Column) {
				for range n {
					e.AppendInt64(7)
				}
			})
		}
		return c
	}
	if list(1, 2).Equal(list(2, 1)) {
		t.Error("[[7] [7 7]] equals [[7 7] [7]]")
	}
}

func TestReset(t *testing.T) {
	forEveryType(t, func(t *rapid.T, typ Type) {
		c := drawColumn(t, typ)
		c.Reset()
		if c.Len() != 0 {
			t.Fatalf("%d rows after Reset", c.Len())
		}
		want := drawColumn(t, typ)
		c.AppendColumn(want)
		if !c.Equal(want) {
			t.Fatalf("%v became %v", values(want), values(c))
		}
	})
}

func TestAppendToAColumnWithoutOffsets(t *testing.T) {
	c := &Column{Type: String}
	c.AppendString("a")
	c.AppendMissing(Null)
	c.AppendBytes([]byte("bc"))
	if diff := cmp.Diff([]string{`PRESENT "a"`, "NULL <nil>", `PRESENT "bc"`}, values(c)); diff != "" {
		t.Error(diff)
	}
}

func TestAppendBytesCopies(t *testing.T) {
	b := []byte("abc")
	c := NewColumn(Bytes, 1)
	c.AppendBytes(b)
	b[0] = 'x'
	if c.StringAt(0) != "abc" {
		t.Errorf("the row is %q", c.StringAt(0))
	}
	got := c.ValueAt(0).([]byte)
	got[0] = 'y'
	if c.StringAt(0) != "abc" {
		t.Error("ValueAt shares memory")
	}
}

func TestValueAt(t *testing.T) {
	c := NewColumn(StringList, 0)
	c.AppendMissing(Null)
	c.AppendList(func(*Column) {})
	c.AppendList(func(e *Column) { e.AppendString("a"); e.AppendString("") })
	got := []any{c.ValueAt(0), c.ValueAt(1), c.ValueAt(2)}
	if diff := cmp.Diff([]any{nil, []any{}, []any{"a", ""}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestNewColumnRefusesNoType(t *testing.T) {
	wantPanic(t, func() { NewColumn(0, 1) })
	wantPanic(t, func() { NewColumn(TimestampList+1, 1) })
}

func TestSizeBytesGrows(t *testing.T) {
	forEveryType(t, func(t *rapid.T, typ Type) {
		c := drawColumn(t, typ)
		before := c.SizeBytes()
		c.AppendMissing(Null)
		if c.SizeBytes() <= before {
			t.Fatalf("%d bytes after a row more than %d bytes", c.SizeBytes(), before)
		}
	})
}
