package feature

import "slices"

// Take appends the rows of src, a column of the same type, at the given places; a place of −1 appends a row with status
// missing. src may be nil where every place is −1.
func (c *Column) Take(src *Column, places []int, missing Status) {
	if src == nil {
		for range places {
			c.AppendMissing(missing)
		}
		return
	}
	switch c.Type {
	case Bool:
		c.Bools = takeValues(c.Bools, src.Bools, places)
	case Int32:
		c.Int32s = takeValues(c.Int32s, src.Int32s, places)
	case Int64, Timestamp:
		c.Int64s = takeValues(c.Int64s, src.Int64s, places)
	case Float:
		c.Floats = takeValues(c.Floats, src.Floats, places)
	case Double:
		c.Doubles = takeValues(c.Doubles, src.Doubles, places)
	default:
		c.takeVariable(src, places, missing)
		return
	}
	c.Status = slices.Grow(c.Status, len(places))
	for _, i := range places {
		if i < 0 {
			c.Status = append(c.Status, missing)
		} else {
			c.Status = append(c.Status, src.Status[i])
		}
	}
}

func takeValues[T any](dst, src []T, places []int) []T {
	dst = slices.Grow(dst, len(places))
	for _, i := range places {
		var v T
		if i >= 0 {
			v = src[i]
		}
		dst = append(dst, v)
	}
	return dst
}

// takeVariable is Take for strings, bytes and lists.
func (c *Column) takeVariable(src *Column, places []int, missing Status) {
	if len(c.Offsets) == 0 {
		c.Offsets = append(c.Offsets, 0)
	}
	for _, i := range places {
		switch {
		case i < 0:
			c.AppendMissing(missing)
		case c.Elem == nil:
			c.Status = append(c.Status, src.Status[i])
			c.Data = append(c.Data, src.Data[src.Offsets[i]:src.Offsets[i+1]]...)
			c.Offsets = append(c.Offsets, len(c.Data))
		default:
			c.AppendFrom(src, i)
		}
	}
}
