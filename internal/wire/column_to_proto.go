package wire

import (
	"unicode/utf8"
	"unsafe"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// ColumnToProto returns rows from to to (exclusive) of c as a message, with one status a row. The message shares memory with c,
// which must not be changed before the message was marshalled. The message itself is one allocation, its statuses one, and
// the strings or lengths of variable-length rows one.
//
// A STRING that is not UTF-8 is an error of kind Corrupt, because no protobuf message can carry it.
func ColumnToProto(name string, c *feature.Column, from, to int) (*twofoldv1.Column, error) {
	m, err := valuesToProto(name, c, from, to)
	if err != nil {
		return nil, err
	}
	m.Name = name
	m.Statuses = statusesToProto(c.Status, from, to)
	return m, nil
}

// ColumnsToProto is ColumnToProto for columns of those names.
func ColumnsToProto(names []string, columns []*feature.Column, from, to int) ([]*twofoldv1.Column, error) {
	out := make([]*twofoldv1.Column, len(columns))
	for i, c := range columns {
		m, err := ColumnToProto(names[i], c, from, to)
		if err != nil {
			return nil, err
		}
		out[i] = m
	}
	return out, nil
}

func statusesToProto(statuses []feature.Status, from, to int) []twofoldv1.ValueStatus {
	out := make([]twofoldv1.ValueStatus, to-from)
	for i, s := range statuses[from:to] {
		out[i] = twofoldv1.ValueStatus(s)
	}
	return out
}

// valuesToProto fills Values. Each case allocates the message, the member of the oneof and the array as one.
func valuesToProto(name string, c *feature.Column, from, to int) (*twofoldv1.Column, error) {
	switch c.Type {
	case feature.Bool:
		m := &struct {
			column twofoldv1.Column
			member twofoldv1.Column_Bools
			array  twofoldv1.BoolArray
		}{}
		m.array.Values, m.member.Bools, m.column.Values = c.Bools[from:to], &m.array, &m.member
		return &m.column, nil
	case feature.Int32:
		m := &struct {
			column twofoldv1.Column
			member twofoldv1.Column_Int32S
			array  twofoldv1.Int32Array
		}{}
		m.array.Values, m.member.Int32S, m.column.Values = c.Int32s[from:to], &m.array, &m.member
		return &m.column, nil
	case feature.Int64:
		m := &struct {
			column twofoldv1.Column
			member twofoldv1.Column_Int64S
			array  twofoldv1.Int64Array
		}{}
		m.array.Values, m.member.Int64S, m.column.Values = c.Int64s[from:to], &m.array, &m.member
		return &m.column, nil
	case feature.Timestamp:
		m := &struct {
			column twofoldv1.Column
			member twofoldv1.Column_Timestamps
			array  twofoldv1.TimestampArray
		}{}
		m.array.Values, m.member.Timestamps, m.column.Values = c.Int64s[from:to], &m.array, &m.member
		return &m.column, nil
	case feature.Float:
		m := &struct {
			column twofoldv1.Column
			member twofoldv1.Column_Floats
			array  twofoldv1.FloatArray
		}{}
		m.array.Values, m.member.Floats, m.column.Values = c.Floats[from:to], &m.array, &m.member
		return &m.column, nil
	case feature.Double:
		m := &struct {
			column twofoldv1.Column
			member twofoldv1.Column_Doubles
			array  twofoldv1.DoubleArray
		}{}
		m.array.Values, m.member.Doubles, m.column.Values = c.Doubles[from:to], &m.array, &m.member
		return &m.column, nil
	default:
		return variableToProto(name, c, from, to)
	}
}

// variableToProto is valuesToProto for the types of variable length.
func variableToProto(name string, c *feature.Column, from, to int) (*twofoldv1.Column, error) {
	switch c.Type {
	case feature.String:
		values, bad := stringsOf(c, from, to)
		if bad >= 0 {
			return nil, notUTF8(name, bad)
		}
		return &twofoldv1.Column{Values: &twofoldv1.Column_Strings{Strings: &twofoldv1.StringArray{Values: values}}}, nil
	case feature.Bytes:
		return &twofoldv1.Column{Values: &twofoldv1.Column_Binaries{Binaries: &twofoldv1.BytesArray{Values: binariesOf(c, from, to)}}}, nil
	default:
		if !c.Type.IsList() {
			return nil, fault.New(fault.Internal, "column %q has no type that can be sent: %v", name, c.Type)
		}
		lists, err := listsToProto(name, c, from, to)
		if err != nil {
			return nil, err
		}
		return &twofoldv1.Column{Values: &twofoldv1.Column_Lists{Lists: lists}}, nil
	}
}

// stringsOf returns the rows as strings that share the column's memory, and the first row that is not UTF-8, −1 if all are.
func stringsOf(c *feature.Column, from, to int) (values []string, bad int) {
	values = make([]string, to-from)
	for i := range values {
		b := c.BytesAt(from + i)
		if !utf8.Valid(b) {
			return nil, from + i
		}
		values[i] = unsafe.String(unsafe.SliceData(b), len(b))
	}
	return values, -1
}

// binariesOf returns the rows as slices of the column's memory, capped so that an append to one cannot reach the next.
func binariesOf(c *feature.Column, from, to int) [][]byte {
	values := make([][]byte, to-from)
	for i := range values {
		b := c.BytesAt(from + i)
		values[i] = b[:len(b):len(b)]
	}
	return values
}

func listsToProto(name string, c *feature.Column, from, to int) (*twofoldv1.ListArray, error) {
	out := &twofoldv1.ListArray{Lengths: make([]uint32, to-from)}
	first, last := 0, 0
	if to > from {
		first, last = c.Offsets[from], c.Offsets[to]
	}
	for i := range out.Lengths {
		out.Lengths[i] = uint32(c.Offsets[from+i+1] - c.Offsets[from+i])
	}
	elem := c.Elem
	switch elem.Type {
	case feature.Bool:
		out.Elements = &twofoldv1.ListArray_Bools{Bools: &twofoldv1.BoolArray{Values: elem.Bools[first:last]}}
	case feature.Int32:
		out.Elements = &twofoldv1.ListArray_Int32S{Int32S: &twofoldv1.Int32Array{Values: elem.Int32s[first:last]}}
	case feature.Int64:
		out.Elements = &twofoldv1.ListArray_Int64S{Int64S: &twofoldv1.Int64Array{Values: elem.Int64s[first:last]}}
	case feature.Timestamp:
		out.Elements = &twofoldv1.ListArray_Timestamps{Timestamps: &twofoldv1.TimestampArray{Values: elem.Int64s[first:last]}}
	case feature.Float:
		out.Elements = &twofoldv1.ListArray_Floats{Floats: &twofoldv1.FloatArray{Values: elem.Floats[first:last]}}
	case feature.Double:
		out.Elements = &twofoldv1.ListArray_Doubles{Doubles: &twofoldv1.DoubleArray{Values: elem.Doubles[first:last]}}
	case feature.String:
		values, bad := stringsOf(elem, first, last)
		if bad >= 0 {
			return nil, notUTF8(name, rowOfElement(c, bad))
		}
		out.Elements = &twofoldv1.ListArray_Strings{Strings: &twofoldv1.StringArray{Values: values}}
	case feature.Bytes:
		out.Elements = &twofoldv1.ListArray_Binaries{Binaries: &twofoldv1.BytesArray{Values: binariesOf(elem, first, last)}}
	}
	return out, nil
}

// rowOfElement returns the row of a list column that element i belongs to.
func rowOfElement(c *feature.Column, i int) int {
	row := 0
	for c.Offsets[row+1] <= i {
		row++
	}
	return row
}

func notUTF8(name string, row int) error {
	return fault.New(fault.Corrupt, "column %q: the text of row %d is not valid UTF-8; mend the source, or define the feature as BYTES", name, row)
}
