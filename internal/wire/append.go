package wire

import (
	"encoding/binary"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/twofold-ml/twofold/internal/feature"
)

// The answers that must be fast are written straight from columns to the bytes of the contract's messages, the same bytes as
// proto.Marshal's (the tests hold them against it): an array of numbers is one copy, as packed fixed-width fields are.

// Field numbers of Column, ListArray and the arrays (proto/twofold/v1/column.proto).
const (
	columnName     protowire.Number = 1
	columnStatuses protowire.Number = 11
	arrayValues    protowire.Number = 1
	listLengths    protowire.Number = 1
)

// valuesField is the field of Column, and of ListArray, that holds values of each type.
var valuesField = [...]protowire.Number{
	feature.Bool: 2, feature.Int32: 3, feature.Int64: 4, feature.Float: 5, feature.Double: 6, feature.String: 7, feature.Bytes: 8, feature.Timestamp: 9,
}

const listsField protowire.Number = 10

// encodedColumn is a column and the sizes of its parts in bytes, which protobuf writes before them.
type encodedColumn struct {
	name           string
	c              *feature.Column
	values         int // of the array's content
	elems, lengths int // of a list's parts
	size           int // of the whole column's content
}

// measure fills the sizes. A STRING that is not UTF-8 is an error of kind Corrupt, because no protobuf message can carry it.
func (e *encodedColumn) measure(name string, c *feature.Column) error {
	*e = encodedColumn{name: name, c: c}
	rows := len(c.Status)
	for bad := range c.InvalidText() {
		return notUTF8(name, bad)
	}
	if c.Type.IsList() {
		e.elems = arraySize(c.Elem, c.Elem.Len())
		for i := range rows {
			e.lengths += protowire.SizeVarint(uint64(c.Offsets[i+1] - c.Offsets[i]))
		}
		e.values = packedSize(e.lengths) + fieldSize(e.elems)
	} else {
		e.values = arraySize(c, rows)
	}
	e.size = fieldSize(e.values) + packedSize(rows)
	if name != "" {
		e.size += fieldSize(len(name))
	}
	return nil
}

// append writes the column's content.
func (e *encodedColumn) append(dst []byte) []byte {
	c, rows := e.c, len(e.c.Status)
	if e.name != "" {
		dst = append(appendHead(dst, columnName, len(e.name)), e.name...)
	}
	if rows > 0 {
		dst = appendHead(dst, columnStatuses, rows)
		dst = append(dst, bytesOf(c.Status)...) // each is a varint of one byte
	}
	if c.Type.IsList() {
		dst = appendHead(dst, listsField, e.values)
		if e.lengths > 0 {
			dst = appendHead(dst, listLengths, e.lengths)
			for i := range rows {
				dst = protowire.AppendVarint(dst, uint64(c.Offsets[i+1]-c.Offsets[i]))
			}
		}
		dst = appendHead(dst, valuesField[c.Elem.Type], e.elems)
		dst = appendArray(dst, c.Elem, c.Elem.Len())
	} else {
		dst = appendHead(dst, valuesField[c.Type], e.values)
		dst = appendArray(dst, c, rows)
	}
	return dst
}

// arraySize is the size of an array message of the first n values.
func arraySize(c *feature.Column, n int) int {
	if width := c.Type.Width(); width > 0 {
		return packedSize(n * width)
	}
	size := n // tags
	for i := range n {
		size += protowire.SizeBytes(c.Offsets[i+1] - c.Offsets[i])
	}
	return size
}

func appendArray(dst []byte, c *feature.Column, n int) []byte {
	if width := c.Type.Width(); width > 0 {
		if n == 0 {
			return dst
		}
		dst = appendHead(dst, arrayValues, n*width)
		return appendFixed(dst, c, n)
	}
	for i := range n {
		dst = append(dst, byte(arrayValues<<3)|byte(protowire.BytesType))
		dst = protowire.AppendBytes(dst, c.BytesAt(i))
	}
	return dst
}

// appendFixed appends the first n values of a fixed-width column: their memory, where that is little-endian already.
func appendFixed(dst []byte, c *feature.Column, n int) []byte {
	switch c.Type {
	case feature.Bool:
		return append(dst, bytesOf(c.Bools[:n])...)
	case feature.Int32:
		return appendLittle(dst, c.Int32s[:n], 4)
	case feature.Float:
		return appendLittle(dst, c.Floats[:n], 4)
	case feature.Double:
		return appendLittle(dst, c.Doubles[:n], 8)
	default:
		return appendLittle(dst, c.Int64s[:n], 8)
	}
}

// littleEndian is whether this machine stores the lowest byte first.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

func appendLittle[T int32 | int64 | float32 | float64](dst []byte, values []T, width int) []byte {
	start := len(dst)
	dst = append(dst, bytesOf(values)...)
	if !littleEndian {
		for i := start; i < len(dst); i += width {
			for a, b := i, i+width-1; a < b; a, b = a+1, b-1 {
				dst[a], dst[b] = dst[b], dst[a]
			}
		}
	}
	return dst
}

// bytesOf returns the memory of values, which hold no pointers.
func bytesOf[T ~uint8 | bool | int32 | int64 | float32 | float64](values []T) []byte {
	var one T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), len(values)*int(unsafe.Sizeof(one)))
}

// fieldSize is the size of a field with that many bytes of content and a number below 16.
func fieldSize(content int) int {
	if content < 0x80 {
		return 2 + content
	}
	return 1 + protowire.SizeBytes(content)
}

// packedSize is fieldSize of a repeated field, which is left out where it is empty.
func packedSize(content int) int {
	if content == 0 {
		return 0
	}
	return fieldSize(content)
}

// appendHead appends the tag and the length of a field with that many bytes of content. Every field here has a number below 16, so that its
// tag is one byte.
func appendHead(dst []byte, field protowire.Number, content int) []byte {
	if content < 0x80 {
		return append(dst, byte(field<<3)|byte(protowire.BytesType), byte(content))
	}
	return protowire.AppendVarint(append(dst, byte(field<<3)|byte(protowire.BytesType)), uint64(content))
}
