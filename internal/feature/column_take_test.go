package feature

import (
	"fmt"
	"testing"
)

// sampleColumn returns a value, a null and two more values of any type.
func sampleColumn(t Type) *Column {
	c := NewColumn(t, 0)
	add := func(v int) {
		switch t {
		case Bool:
			c.AppendBool(v%2 == 1)
		case Int32:
			c.AppendInt32(int32(v))
		case Int64, Timestamp:
			c.AppendInt64(int64(v))
		case Float:
			c.AppendFloat(float32(v))
		case Double:
			c.AppendDouble(float64(v))
		case String, Bytes:
			c.AppendString(fmt.Sprint("value ", v))
		default:
			c.AppendList(func(elem *Column) {
				one := sampleColumn(t.Elem())
				for range v {
					elem.appendElems(one, 0, 1)
				}
			})
		}
	}
	add(3)
	c.AppendMissing(Null)
	add(0)
	add(1)
	return c
}

func TestTakeEqualsAppendFrom(t *testing.T) {
	places := []int{3, -1, 0, 0, 1, 2, -1}
	for typ := Bool; typ <= TimestampList; typ++ {
		src := sampleColumn(typ)
		// Twice, so that the column taken into is not always empty.
		got, want := NewColumn(typ, 0), NewColumn(typ, 0)
		for range 2 {
			got.Take(src, places, Expired)
			for _, i := range places {
				if i < 0 {
					want.AppendMissing(Expired)
				} else {
					want.AppendFrom(src, i)
				}
			}
		}
		if !got.Equal(want) || got.Len() != 2*len(places) {
			t.Errorf("%v: got %v rows, %v; want %v", typ, got.Len(), got, want)
		}
	}
}

func TestTakeOfNothing(t *testing.T) {
	for typ := Bool; typ <= TimestampList; typ++ {
		c := NewColumn(typ, 0)
		c.Take(nil, []int{-1, -1}, NotFound)
		if c.Len() != 2 || c.Status[0] != NotFound || c.Status[1] != NotFound || c.ValueAt(1) != nil {
			t.Errorf("%v: got %v", typ, c)
		}
	}
}
