package feature

import (
	"encoding/binary"
	"math"
	"slices"
)

// Packed holds values of fixed width row by row: those of one row stand side by side in memory, with their statuses. Who reads whole rows at places all over a
// large table waits for memory once or twice a row, where columns have it wait twice a value.
type Packed struct {
	types   []Type
	offsets []int // of each column in a row; its status stands in statuses
	size    int   // of a row
	data    []byte
}

// NewPacked returns rows of columns of these types, which are of fixed width. Their values are 0, and their status too.
func NewPacked(types []Type, rows int) *Packed {
	p := &Packed{types: types, offsets: make([]int, len(types))}
	for _, width := range []int{8, 4, 1} { // so that every value lies within a word
		for i, t := range types {
			if t.Width() == width {
				p.offsets[i] = p.size
				p.size += width
			}
		}
	}
	p.size = PackedBytes(types)
	p.data = make([]byte, rows*p.size)
	return p
}

// PackedBytes is what one row of columns of these types takes.
func PackedBytes(types []Type) int {
	const word = 8
	bytes := len(types)
	for _, t := range types {
		bytes += t.Width()
	}
	return (bytes + word - 1) / word * word
}

// statusAt is the place of a column's status in a row: statuses come last.
func (p *Packed) statusAt(column int) int { return p.size - len(p.types) + column }

// packedBlock is how many rows are packed at a time: they stay in the processor's nearest cache until all their columns are there.
const packedBlock = 256

// Put sets some columns of the rows from first on, those at the places, to columns, which are all of one length. What does not overlap may be set by several goroutines
// at once.
func (p *Packed) Put(first int, places []int, columns []*Column) {
	if len(columns) == 0 {
		return
	}
	rows := columns[0].Len()
	for from := 0; from < rows; from += packedBlock {
		to := min(from+packedBlock, rows)
		data := p.data[(first+from)*p.size : (first+to)*p.size]
		for i, c := range columns {
			p.put(data, places[i], c, from, to)
		}
	}
}

// put sets a column of some rows.
func (p *Packed) put(data []byte, column int, c *Column, from, to int) {
	at := p.offsets[column]
	switch c.Type {
	case Bool:
		for _, v := range c.Bools[from:to] {
			if data[at] = 0; v {
				data[at] = 1
			}
			at += p.size
		}
	case Int32:
		for _, v := range c.Int32s[from:to] {
			binary.LittleEndian.PutUint32(data[at:], uint32(v))
			at += p.size
		}
	case Float:
		for _, v := range c.Floats[from:to] {
			binary.LittleEndian.PutUint32(data[at:], math.Float32bits(v))
			at += p.size
		}
	case Double:
		for _, v := range c.Doubles[from:to] {
			binary.LittleEndian.PutUint64(data[at:], math.Float64bits(v))
			at += p.size
		}
	default:
		for _, v := range c.Int64s[from:to] {
			binary.LittleEndian.PutUint64(data[at:], uint64(v))
			at += p.size
		}
	}
	at = p.statusAt(column)
	for _, s := range c.Status[from:to] {
		data[at] = byte(s)
		at += p.size
	}
}

// SetStatus sets the status of all values of a row.
func (p *Packed) SetStatus(row int, s Status) {
	for i := range p.types {
		p.data[row*p.size+p.statusAt(i)] = byte(s)
	}
}

// Take appends to dst, of the column's type, the values of the column at some rows.
func (p *Packed) Take(dst *Column, column int, rows []int) {
	at, size, data := p.offsets[column], p.size, p.data
	switch dst.Type {
	case Bool:
		all, added := Extend(dst.Bools, len(rows))
		dst.Bools = all
		for i, row := range rows {
			added[i] = data[row*size+at] != 0
		}
	case Int32:
		all, added := Extend(dst.Int32s, len(rows))
		dst.Int32s = all
		for i, row := range rows {
			added[i] = int32(binary.LittleEndian.Uint32(data[row*size+at:]))
		}
	case Float:
		all, added := Extend(dst.Floats, len(rows))
		dst.Floats = all
		for i, row := range rows {
			added[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[row*size+at:]))
		}
	case Double:
		all, added := Extend(dst.Doubles, len(rows))
		dst.Doubles = all
		for i, row := range rows {
			added[i] = math.Float64frombits(binary.LittleEndian.Uint64(data[row*size+at:]))
		}
	default:
		all, added := Extend(dst.Int64s, len(rows))
		dst.Int64s = all
		for i, row := range rows {
			added[i] = int64(binary.LittleEndian.Uint64(data[row*size+at:]))
		}
	}
	at = p.statusAt(column)
	all, added := Extend(dst.Status, len(rows))
	dst.Status = all
	for i, row := range rows {
		added[i] = Status(data[row*size+at])
	}
}

// Extend returns s with n more values, of which nothing is known, and these alone.
func Extend[T any](s []T, n int) (longer, added []T) {
	longer = slices.Grow(s, n)[:len(s)+n]
	return longer, longer[len(s):]
}
