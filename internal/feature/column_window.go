package feature

import "unsafe"

// HasWindow reports whether parts of the column can be filled apart from each other: values of variable length cannot.
func (c *Column) HasWindow() bool {
	return c.Type != String && c.Type != Bytes && !c.Type.IsList()
}

// Window returns an empty column whose values are to be rows from to to (exclusive) of c, which has room for them. Windows that do not overlap may be filled by
// several goroutines at once. Put makes the rows part of c.
func (c *Column) Window(from, to int) *Column {
	w := &Column{Type: c.Type, Status: c.Status[from:from:to]}
	switch c.Type {
	case Bool:
		w.Bools = c.Bools[from:from:to]
	case Int32:
		w.Int32s = c.Int32s[from:from:to]
	case Int64, Timestamp:
		w.Int64s = c.Int64s[from:from:to]
	case Float:
		w.Floats = c.Floats[from:from:to]
	case Double:
		w.Doubles = c.Doubles[from:from:to]
	}
	return w
}

// Put makes a window that is full part of c, as the rows from from on. They may have left its memory.
func (c *Column) Put(w *Column, from int) {
	put(&c.Status, w.Status, from)
	switch c.Type {
	case Bool:
		put(&c.Bools, w.Bools, from)
	case Int32:
		put(&c.Int32s, w.Int32s, from)
	case Int64, Timestamp:
		put(&c.Int64s, w.Int64s, from)
	case Float:
		put(&c.Floats, w.Floats, from)
	case Double:
		put(&c.Doubles, w.Doubles, from)
	}
}

// put copies values to their place in the room of dst, unless they are there already.
func put[T any](dst *[]T, values []T, from int) {
	place := (*dst)[from : from+len(values) : cap(*dst)]
	if unsafe.SliceData(place) != unsafe.SliceData(values) {
		copy(place, values)
	}
}

// SetLen says that the first rows rows have been filled by windows.
func (c *Column) SetLen(rows int) {
	c.Status = c.Status[:rows]
	switch c.Type {
	case Bool:
		c.Bools = c.Bools[:rows]
	case Int32:
		c.Int32s = c.Int32s[:rows]
	case Int64, Timestamp:
		c.Int64s = c.Int64s[:rows]
	case Float:
		c.Floats = c.Floats[:rows]
	case Double:
		c.Doubles = c.Doubles[:rows]
	}
}
