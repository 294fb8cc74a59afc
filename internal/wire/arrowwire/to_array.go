package arrowwire

import (
	"math"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// ToArray returns rows from to to (exclusive) of c as an array of DataType(c.Type); rows that are not Present are null.
// Numbers and the bytes of strings are shared with c, which must not be changed while the array is in use. The array is in Go's own
// memory, so it need not be released.
//
// A STRING that is not UTF-8 is an error of kind Corrupt; more than 2 GiB of variable-length values, of kind Exhausted.
func ToArray(c *feature.Column, from, to int) (arrow.Array, error) {
	data, err := toData(c, from, to)
	if err != nil {
		return nil, err
	}
	return array.MakeFromData(data), nil
}

func toData(c *feature.Column, from, to int) (arrow.ArrayData, error) {
	validity, nulls := validityOf(c, from, to)
	buffers := []*memory.Buffer{validity}
	var children []arrow.ArrayData
	switch c.Type {
	case feature.Bool:
		buffers = append(buffers, memory.NewBufferBytes(bitsOf(c.Bools[from:to])))
	case feature.Int32:
		buffers = append(buffers, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(c.Int32s[from:to])))
	case feature.Int64, feature.Timestamp:
		buffers = append(buffers, memory.NewBufferBytes(arrow.Int64Traits.CastToBytes(c.Int64s[from:to])))
	case feature.Float:
		buffers = append(buffers, memory.NewBufferBytes(arrow.Float32Traits.CastToBytes(c.Floats[from:to])))
	case feature.Double:
		buffers = append(buffers, memory.NewBufferBytes(arrow.Float64Traits.CastToBytes(c.Doubles[from:to])))
	case feature.String, feature.Bytes:
		if c.Type == feature.String {
			if err := checkUTF8(c, from, to); err != nil {
				return nil, err
			}
		}
		offsets, first, last, err := offsetsOf(c, from, to)
		if err != nil {
			return nil, err
		}
		buffers = append(buffers, offsets, memory.NewBufferBytes(c.Data[first:last]))
	default:
		offsets, first, last, err := offsetsOf(c, from, to)
		if err != nil {
			return nil, err
		}
		elements, err := toData(c.Elem, first, last)
		if err != nil {
			return nil, err
		}
		buffers, children = append(buffers, offsets), append(children, elements)
	}
	return array.NewData(DataType(c.Type), to-from, buffers, children, nulls, 0), nil
}

// validityOf returns the bitmap of the rows that are Present, nil where all are, and the number of those that are not.
func validityOf(c *feature.Column, from, to int) (*memory.Buffer, int) {
	if c.Status == nil || feature.AllPresent(c.Status[from:to]) {
		return nil, 0
	}
	bits := feature.AppendPresentBits(make([]byte, 0, bitutil.BytesForBits(int64(to-from))), c.Status[from:to])
	return memory.NewBufferBytes(bits), to - from - bitutil.CountSetBits(bits, 0, to-from)
}

// bitsOf returns a bitmap that says which values are true.
func bitsOf(values []bool) []byte {
	bits := make([]byte, bitutil.BytesForBits(int64(len(values))))
	for i := range bits {
		var eight byte
		for k, v := range values[8*i : min(8*i+8, len(values))] {
			if v {
				eight |= 1 << k
			}
		}
		bits[i] = eight
	}
	return bits
}

// offsetsOf returns the offsets of some rows, beginning with 0, and the range of data or elements that they are of.
func offsetsOf(c *feature.Column, from, to int) (offsets *memory.Buffer, first, last int, err error) {
	out := make([]int32, to-from+1)
	if to > from {
		first, last = c.Offsets[from], c.Offsets[to]
	}
	if last-first > math.MaxInt32 {
		return nil, 0, 0, fault.New(fault.Exhausted, "one batch would hold %d bytes or elements of one %v column, and Arrow's limit is 2 GiB; ask for smaller batches", last-first, c.Type)
	}
	for i := range to - from {
		out[i+1] = int32(c.Offsets[from+i+1] - first)
	}
	return memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(out)), first, last, nil
}

// isUTF8 reports whether the values between the offsets are valid: all of them as one text, in which each value begins with a whole character.
func isUTF8(data []byte, offsets []int) bool {
	end := offsets[len(offsets)-1]
	for _, start := range offsets {
		if start < end && !utf8.RuneStart(data[start]) {
			return false
		}
	}
	return utf8.Valid(data[offsets[0]:end])
}

func checkUTF8(c *feature.Column, from, to int) error {
	if to <= from || isUTF8(c.Data, c.Offsets[from:to+1]) {
		return nil
	}
	for i := from; i < to; i++ {
		if !utf8.Valid(c.BytesAt(i)) {
			return fault.New(fault.Corrupt, "the text of row %d is not valid UTF-8; mend the source, or define the feature as BYTES", i)
		}
	}
	return nil
}
