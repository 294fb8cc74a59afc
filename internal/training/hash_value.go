package training

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// plainType is a type without the encodings that only save room: of a dictionary or a run-end encoding, the type of its values.
func plainType(t arrow.DataType) arrow.DataType {
	switch t := t.(type) {
	case *arrow.DictionaryType:
		return plainType(t.ValueType)
	case *arrow.RunEndEncodedType:
		return plainType(t.Encoded())
	default:
		return t
	}
}

// encodedColumn returns the appendValue form of each value of an array. An array that contradicts itself is an error of kind Invalid.
func encodedColumn(a arrow.Array) (c *feature.Column, err error) {
	defer func() {
		if r := recover(); r != nil {
			c, err = nil, fault.New(fault.Invalid, "the Arrow array is damaged: %v", r)
		}
	}()
	c = feature.NewColumn(feature.Bytes, a.Len())
	var value []byte
	for i := range a.Len() {
		if value, err = appendValue(value[:0], a, i); err != nil {
			return nil, err
		}
		if value[0] == nullMark {
			c.AppendMissing(feature.Null)
		} else {
			c.AppendBytes(value)
		}
	}
	return c, nil
}

// The first byte of the form of a value.
const (
	nullMark  = 0
	valueMark = 1
)

// appendValue appends the canonical form of one value of any Arrow type but a union: a byte that is 0 for a null and 1 for a value; then of a value of fixed width
// its bytes, of a string or bytes their length and themselves, of a list or map the number of its elements and their forms, of a struct the
// forms of its fields. docs/reference/training-manifest.md specifies it.
func appendValue(dst []byte, a arrow.Array, i int) ([]byte, error) {
	switch a := a.(type) {
	case *array.Dictionary:
		if a.IsValid(i) {
			return appendValue(dst, a.Dictionary(), a.GetValueIndex(i))
		}
	case *array.RunEndEncoded:
		return appendValue(dst, a.Values(), a.GetPhysicalIndex(i))
	case array.ExtensionArray:
		return appendValue(dst, a.Storage(), i)
	}
	if a.IsNull(i) || a.DataType().ID() == arrow.NULL {
		return append(dst, nullMark), nil
	}
	dst = append(dst, valueMark)
	switch a := a.(type) {
	case *array.Struct:
		var err error
		for f := 0; f < a.NumField() && err == nil; f++ {
			dst, err = appendValue(dst, a.Field(f), i)
		}
		return dst, err
	case array.ListLike:
		from, to := a.ValueOffsets(i)
		dst = appendLength(dst, int(to-from))
		var err error
		for k := from; k < to && err == nil; k++ {
			dst, err = appendValue(dst, a.ListValues(), int(k))
		}
		return dst, err
	case *array.Boolean:
		return append(dst, oneIf(a.Value(i))), nil
	case interface{ Value(int) string }:
		return append(appendLength(dst, len(a.Value(i))), a.Value(i)...), nil
	case interface{ Value(int) []byte }:
		return append(appendLength(dst, len(a.Value(i))), a.Value(i)...), nil
	}
	fixed, ok := a.DataType().(arrow.FixedWidthDataType)
	if !ok {
		return nil, fault.New(fault.Invalid, "values of Arrow type %v cannot be passed through; cast the column to another type, or leave it out", a.DataType())
	}
	width, at := fixed.BitWidth()/8, a.Data().Offset()+i
	return append(dst, a.Data().Buffers()[1].Bytes()[at*width:(at+1)*width]...), nil
}
