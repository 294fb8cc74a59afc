package storedrow

import (
	"encoding/binary"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// appendList appends one list from its bytes in the tail.
func appendList(dst *feature.Column, value []byte) error {
	elem := dst.Elem
	if width := elem.Type.Width(); width != 0 {
		if len(value)%width != 0 {
			return fault.New(fault.Corrupt, "its list of %v takes %d bytes, which is not a multiple of %d", elem.Type, len(value), width)
		}
		if err := appendFixedElems(elem, value, len(value)/width); err != nil {
			return err
		}
	} else {
		for len(value) > 0 {
			one, n := protowire.ConsumeBytes(value)
			if n < 0 {
				return fault.New(fault.Corrupt, "its list of %v ends inside an element", elem.Type)
			}
			elem.Data = append(elem.Data, one...)
			elem.Offsets = append(elem.Offsets, len(elem.Data))
			value = value[n:]
		}
	}
	dst.Status = append(dst.Status, feature.Present)
	dst.Offsets = append(dst.Offsets, elem.Len())
	return nil
}

// appendFixedElems appends n elements of a fixed-width type.
func appendFixedElems(elem *feature.Column, value []byte, n int) error {
	switch elem.Type {
	case feature.Bool:
		for _, b := range value {
			if b > 1 {
				return fault.New(fault.Corrupt, "its list of BOOL has an element %d", b)
			}
			elem.Bools = append(elem.Bools, b == 1)
		}
	case feature.Int32:
		var added []int32
		elem.Int32s, added = extend(elem.Int32s, n)
		for i := range added {
			added[i] = int32(binary.LittleEndian.Uint32(value[4*i:]))
		}
	case feature.Int64, feature.Timestamp:
		var added []int64
		elem.Int64s, added = extend(elem.Int64s, n)
		for i := range added {
			added[i] = int64(binary.LittleEndian.Uint64(value[8*i:]))
		}
	case feature.Float:
		var added []float32
		elem.Floats, added = extend(elem.Floats, n)
		for i := range added {
			added[i] = math.Float32frombits(binary.LittleEndian.Uint32(value[4*i:]))
		}
	case feature.Double:
		var added []float64
		elem.Doubles, added = extend(elem.Doubles, n)
		for i := range added {
			added[i] = math.Float64frombits(binary.LittleEndian.Uint64(value[8*i:]))
		}
	}
	return nil
}

// extend makes s longer by n and returns it and its new part.
func extend[T any](s []T, n int) (all, added []T) {
	s = slices.Grow(s, n)[:len(s)+n]
	return s, s[len(s)-n:]
}
