package feature

// NewColumns returns an empty column of each type with room for rows. All statuses are one piece of memory, and so are all values of one
// width, so that many columns cost few allocations.
func NewColumns(types []Type, rows int) []*Column {
	columns, pointers := make([]Column, len(types)), make([]*Column, len(types))
	statuses := make([]Status, len(types)*rows)
	var counts [TimestampList + 1]int
	for _, t := range types {
		counts[t]++
	}
	var (
		bools   = make([]bool, counts[Bool]*rows)
		int32s  = make([]int32, counts[Int32]*rows)
		int64s  = make([]int64, (counts[Int64]+counts[Timestamp])*rows)
		floats  = make([]float32, counts[Float]*rows)
		doubles = make([]float64, counts[Double]*rows)
	)
	for i, t := range types {
		c := &columns[i]
		pointers[i] = c
		c.Type, c.Status = t, cut(&statuses, rows)
		switch t {
		case Bool:
			c.Bools = cut(&bools, rows)
		case Int32:
			c.Int32s = cut(&int32s, rows)
		case Int64, Timestamp:
			c.Int64s = cut(&int64s, rows)
		case Float:
			c.Floats = cut(&floats, rows)
		case Double:
			c.Doubles = cut(&doubles, rows)
		default:
			c.allocate(rows)
		}
	}
	return pointers
}

// cut takes room for n elements off the front of a slab.
func cut[T any](slab *[]T, n int) []T {
	piece := (*slab)[:0:n]
	*slab = (*slab)[n:]
	return piece
}

// Truncate leaves the first rows rows, of a column that may have been appended to in part: its values and statuses need not be of one length.
func (c *Column) Truncate(rows int) {
	c.Status = c.Status[:min(rows, len(c.Status))]
	switch c.Type {
	case Bool:
		c.Bools = c.Bools[:min(rows, len(c.Bools))]
	case Int32:
		c.Int32s = c.Int32s[:min(rows, len(c.Int32s))]
	case Int64, Timestamp:
		c.Int64s = c.Int64s[:min(rows, len(c.Int64s))]
	case Float:
		c.Floats = c.Floats[:min(rows, len(c.Floats))]
	case Double:
		c.Doubles = c.Doubles[:min(rows, len(c.Doubles))]
	default:
		c.truncateVariable(rows)
	}
}

// truncateVariable cuts the data and elements back to the end of the last row.
func (c *Column) truncateVariable(rows int) {
	if rows+1 < len(c.Offsets) {
		c.Offsets = c.Offsets[:rows+1]
	}
	end := 0
	if len(c.Offsets) > 0 {
		end = c.Offsets[len(c.Offsets)-1]
	}
	if c.Elem != nil {
		c.Elem.Truncate(end)
	} else {
		c.Data = c.Data[:end]
	}
}
