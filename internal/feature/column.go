package feature

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"unsafe"
)

// Column is one typed array of values with one status a row. The zero value of a type stands where the status is not
// Present, so that row i is always element i.
//
// Which slices are used depends on Type; the others are nil:
//
//	BOOL Bools · INT32 Int32s · INT64, TIMESTAMP Int64s · FLOAT Floats · DOUBLE Doubles
//	STRING, BYTES: row i is Data[Offsets[i]:Offsets[i+1]]
//	lists: row i is elements Offsets[i] to Offsets[i+1] of Elem, whose Status is nil (list elements are never null)
type Column struct {
	Type    Type
	Status  []Status
	Bools   []bool
	Int32s  []int32
	Int64s  []int64
	Floats  []float32
	Doubles []float64
	// Offsets has one element more than there are rows, the first of them 0. It may be nil where there are no rows.
	Offsets []int
	Data    []byte
	Elem    *Column
	// Limit is the most bytes that a reader of files may put into Data, or into Elem; 0 is any number. A few bytes of a file can stand for many: a reader that would
	// exceed it fails with ErrLimit. Methods of Column do not look at it.
	Limit int
}

// ErrLimit says that values take more than Column.Limit.
var ErrLimit = errors.New("the values take more memory than they may")

// NewColumn returns an empty column with room for rows.
func NewColumn(t Type, rows int) *Column {
	c := &Column{Type: t, Status: make([]Status, 0, rows)}
	c.allocate(rows)
	return c
}

// newElem returns the column of a list's elements: like any other, without statuses.
func newElem(t Type, rows int) *Column {
	c := &Column{Type: t}
	c.allocate(rows)
	return c
}

func (c *Column) allocate(rows int) {
	switch c.Type {
	case Bool:
		c.Bools = make([]bool, 0, rows)
	case Int32:
		c.Int32s = make([]int32, 0, rows)
	case Int64, Timestamp:
		c.Int64s = make([]int64, 0, rows)
	case Float:
		c.Floats = make([]float32, 0, rows)
	case Double:
		c.Doubles = make([]float64, 0, rows)
	case String, Bytes:
		c.Offsets = append(make([]int, 0, rows+1), 0)
	default:
		if !c.Type.IsList() {
			panic(fmt.Sprintf("feature: no column of %v", c.Type))
		}
		c.Offsets = append(make([]int, 0, rows+1), 0)
		c.Elem = newElem(c.Type.Elem(), 0)
	}
}

// Len returns the number of rows (of elements, for the Elem of a list).
func (c *Column) Len() int {
	switch c.Type {
	case Bool:
		return len(c.Bools)
	case Int32:
		return len(c.Int32s)
	case Int64, Timestamp:
		return len(c.Int64s)
	case Float:
		return len(c.Floats)
	case Double:
		return len(c.Doubles)
	default:
		return max(0, len(c.Offsets)-1)
	}
}

// Reset empties the column and keeps its memory.
func (c *Column) Reset() {
	c.Status = c.Status[:0]
	c.Bools = c.Bools[:0]
	c.Int32s = c.Int32s[:0]
	c.Int64s = c.Int64s[:0]
	c.Floats = c.Floats[:0]
	c.Doubles = c.Doubles[:0]
	c.Data = c.Data[:0]
	if c.Offsets != nil {
		c.Offsets = append(c.Offsets[:0], 0)
	}
	if c.Elem != nil {
		c.Elem.Reset()
	}
}

// IsPresent reports whether row i has a value.
func (c *Column) IsPresent(i int) bool { return c.Status[i] == Present }

// BytesAt returns row i of a STRING or BYTES column, without copying.
func (c *Column) BytesAt(i int) []byte { return c.Data[c.Offsets[i]:c.Offsets[i+1]] }

// StringAt returns row i of a STRING or BYTES column without copying: it is valid only while the column is not changed.
func (c *Column) StringAt(i int) string {
	b := c.BytesAt(i)
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// AppendMissing appends a row without a value: Null, NotFound or Expired.
func (c *Column) AppendMissing(s Status) {
	c.Status = append(c.Status, s)
	switch c.Type {
	case Bool:
		c.Bools = append(c.Bools, false)
	case Int32:
		c.Int32s = append(c.Int32s, 0)
	case Int64, Timestamp:
		c.Int64s = append(c.Int64s, 0)
	case Float:
		c.Floats = append(c.Floats, 0)
	case Double:
		c.Doubles = append(c.Doubles, 0)
	default:
		c.closeRow()
	}
}

// closeRow ends a variable-length row at the present end of its data.
func (c *Column) closeRow() {
	end := len(c.Data)
	if c.Elem != nil {
		end = c.Elem.Len()
	}
	if len(c.Offsets) == 0 {
		c.Offsets = append(c.Offsets, 0)
	}
	c.Offsets = append(c.Offsets, end)
}

// AppendBool appends a value to a BOOL column.
func (c *Column) AppendBool(v bool) {
	c.Status = append(c.Status, Present)
	c.Bools = append(c.Bools, v)
}

// AppendInt32 appends a value to an INT32 column.
func (c *Column) AppendInt32(v int32) {
	c.Status = append(c.Status, Present)
	c.Int32s = append(c.Int32s, v)
}

// AppendInt64 appends a value to an INT64 or TIMESTAMP column.
func (c *Column) AppendInt64(v int64) {
	c.Status = append(c.Status, Present)
	c.Int64s = append(c.Int64s, v)
}

// AppendFloat appends a value to a FLOAT column.
func (c *Column) AppendFloat(v float32) {
	c.Status = append(c.Status, Present)
	c.Floats = append(c.Floats, v)
}

// AppendDouble appends a value to a DOUBLE column.
func (c *Column) AppendDouble(v float64) {
	c.Status = append(c.Status, Present)
	c.Doubles = append(c.Doubles, v)
}

// AppendBytes appends a copy of a value to a STRING or BYTES column.
func (c *Column) AppendBytes(v []byte) {
	c.Status = append(c.Status, Present)
	c.Data = append(c.Data, v...)
	c.closeRow()
}

// AppendString appends a value to a STRING or BYTES column.
func (c *Column) AppendString(v string) {
	c.Status = append(c.Status, Present)
	c.Data = append(c.Data, v...)
	c.closeRow()
}

// AppendList appends a list whose elements fill appends to the element column with appendElem… methods or its slices.
func (c *Column) AppendList(fill func(elem *Column)) {
	c.Status = append(c.Status, Present)
	fill(c.Elem)
	c.Elem.Status = nil
	c.closeRow()
}

// AppendFrom appends row i of src, a column of the same type, with its status.
func (c *Column) AppendFrom(src *Column, i int) {
	c.Status = append(c.Status, src.Status[i])
	c.appendValue(src, i)
}

func (c *Column) appendValue(src *Column, i int) {
	switch c.Type {
	case Bool:
		c.Bools = append(c.Bools, src.Bools[i])
	case Int32:
		c.Int32s = append(c.Int32s, src.Int32s[i])
	case Int64, Timestamp:
		c.Int64s = append(c.Int64s, src.Int64s[i])
	case Float:
		c.Floats = append(c.Floats, src.Floats[i])
	case Double:
		c.Doubles = append(c.Doubles, src.Doubles[i])
	case String, Bytes:
		c.Data = append(c.Data, src.BytesAt(i)...)
		c.closeRow()
	default:
		c.Elem.appendElems(src.Elem, src.Offsets[i], src.Offsets[i+1])
		c.closeRow()
	}
}

// appendElems appends elements from to to of src, another list's element column.
func (c *Column) appendElems(src *Column, from, to int) {
	switch c.Type {
	case Bool:
		c.Bools = append(c.Bools, src.Bools[from:to]...)
	case Int32:
		c.Int32s = append(c.Int32s, src.Int32s[from:to]...)
	case Int64, Timestamp:
		c.Int64s = append(c.Int64s, src.Int64s[from:to]...)
	case Float:
		c.Floats = append(c.Floats, src.Floats[from:to]...)
	case Double:
		c.Doubles = append(c.Doubles, src.Doubles[from:to]...)
	default:
		if from == to {
			return
		}
		if len(c.Offsets) == 0 {
			c.Offsets = append(c.Offsets, 0)
		}
		base := len(c.Data) - src.Offsets[from]
		c.Data = append(c.Data, src.Data[src.Offsets[from]:src.Offsets[to]]...)
		for _, end := range src.Offsets[from+1 : to+1] {
			c.Offsets = append(c.Offsets, base+end)
		}
	}
}

// AppendColumn appends all rows of src, a column of the same type, with their statuses.
func (c *Column) AppendColumn(src *Column) {
	c.Status = append(c.Status, src.Status...)
	if src.Elem == nil {
		c.appendElems(src, 0, src.Len())
		return
	}
	base := c.Elem.Len()
	c.Elem.appendElems(src.Elem, 0, src.Elem.Len())
	for i := range src.Len() {
		c.Offsets = append(c.Offsets, base+src.Offsets[i+1])
	}
}

// SizeBytes is the memory that the column's values take, about.
func (c *Column) SizeBytes() int {
	size := len(c.Status) + len(c.Bools) + 4*len(c.Int32s) + 8*len(c.Int64s) + 4*len(c.Floats) + 8*len(c.Doubles) + 8*len(c.Offsets) + len(c.Data)
	if c.Elem != nil {
		size += c.Elem.SizeBytes()
	}
	return size
}

// Equal reports whether both columns have the same type, statuses and values. Numbers are compared by their bits, so that a NaN
// equals itself and −0 does not equal 0.
func (c *Column) Equal(o *Column) bool {
	if c.Type != o.Type || c.Len() != o.Len() || !slices.Equal(c.Status, o.Status) {
		return false
	}
	for i := range c.Len() {
		if !c.equalValue(i, o, i) {
			return false
		}
	}
	return true
}

// EqualAt reports whether row i has the same status and value as row j of o, a column of the same type; see Equal.
func (c *Column) EqualAt(i int, o *Column, j int) bool {
	return c.Status[i] == o.Status[j] && c.equalValue(i, o, j)
}

func (c *Column) equalValue(i int, o *Column, j int) bool {
	switch c.Type {
	case Bool:
		return c.Bools[i] == o.Bools[j]
	case Int32:
		return c.Int32s[i] == o.Int32s[j]
	case Int64, Timestamp:
		return c.Int64s[i] == o.Int64s[j]
	case Float:
		return math.Float32bits(c.Floats[i]) == math.Float32bits(o.Floats[j])
	case Double:
		return math.Float64bits(c.Doubles[i]) == math.Float64bits(o.Doubles[j])
	case String, Bytes:
		return bytes.Equal(c.BytesAt(i), o.BytesAt(j))
	default:
		n := c.Offsets[i+1] - c.Offsets[i]
		if n != o.Offsets[j+1]-o.Offsets[j] {
			return false
		}
		for k := range n {
			if !c.Elem.equalValue(c.Offsets[i]+k, o.Elem, o.Offsets[j]+k) {
				return false
			}
		}
		return true
	}
}

// ValueAt returns row i as a Go value, for printing and tests: nil where it is not Present; otherwise bool, int32, int64,
// float32, float64, string, []byte, or []any of these.
func (c *Column) ValueAt(i int) any {
	if c.Status != nil && c.Status[i] != Present {
		return nil
	}
	switch c.Type {
	case Bool:
		return c.Bools[i]
	case Int32:
		return c.Int32s[i]
	case Int64, Timestamp:
		return c.Int64s[i]
	case Float:
		return c.Floats[i]
	case Double:
		return c.Doubles[i]
	case String:
		return string(c.BytesAt(i))
	case Bytes:
		return append([]byte{}, c.BytesAt(i)...)
	default:
		list := make([]any, 0, c.Offsets[i+1]-c.Offsets[i])
		for k := c.Offsets[i]; k < c.Offsets[i+1]; k++ {
			list = append(list, c.Elem.ValueAt(k))
		}
		return list
	}
}

// As returns the column as another type that holds all its values: as it is where it has that type, INT32 as INT64; else nil.
func (c *Column) As(t Type) *Column {
	switch {
	case c.Type == t:
		return c
	case c.Type == Int32 && t == Int64:
		wide := &Column{Type: Int64, Status: c.Status, Int64s: make([]int64, len(c.Int32s))}
		for i, v := range c.Int32s {
			wide.Int64s[i] = int64(v)
		}
		return wide
	default:
		return nil
	}
}
