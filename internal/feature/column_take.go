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
	for ; c.Elem == nil && len(places) > takenAtOnce; places = places[takenAtOnce:] {
		c.takeBytes(src, places[:takenAtOnce], missing)
	}
	if c.Elem == nil {
		c.takeBytes(src, places, missing)
		return
	}
	for _, i := range places {
		if i < 0 {
			c.AppendMissing(missing)
		} else {
			c.AppendFrom(src, i)
		}
	}
}

// takenAtOnce is how many values of variable length are looked up before any is copied, so that the processor waits for the memory of all at once.
const takenAtOnce = 256

// takeBytes is takeVariable for at most takenAtOnce strings or bytes.
func (c *Column) takeBytes(src *Column, places []int, missing Status) {
	var starts [takenAtOnce]int
	size := len(c.Data)
	offsets := slices.Grow(c.Offsets, len(places))
	for k, i := range places {
		if i >= 0 {
			starts[k] = src.Offsets[i]
			size += src.Offsets[i+1] - starts[k]
			c.Status = append(c.Status, src.Status[i])
		} else {
			c.Status = append(c.Status, missing)
		}
		offsets = append(offsets, size)
	}
	from := len(c.Data)
	c.Data = slices.Grow(c.Data, size-from)[:size]
	for k, end := range offsets[len(c.Offsets):] {
		copy(c.Data[from:end], src.Data[starts[k]:])
		from = end
	}
	c.Offsets = offsets
}
