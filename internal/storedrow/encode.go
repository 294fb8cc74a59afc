package storedrow

import (
	"encoding/binary"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// MaxTailBytes bounds the variable-length values of one row, uncompressed: 64 MiB. A larger row is neither written nor read.
const MaxTailBytes = 64 << 20

// AppendTombstone appends a row that says that the entity was deleted at its event time.
func AppendTombstone(dst []byte, event feature.EventTime, created feature.CreatedTime) []byte {
	return append(appendHeader(dst, event, created, 0), tombstoneTag, 1)
}

// AppendRow appends the canonical encoding of one row: element row of cols, which are the columns of the schema's features in
// their order. A value that is not Present is stored as null. It appends nothing, and returns an error of kind
// fault.Exhausted, where the variable-length values take more than MaxTailBytes.
func AppendRow(dst []byte, schema *Schema, event feature.EventTime, created feature.CreatedTime, cols []*feature.Column, row int) ([]byte, error) {
	tail := 0
	for _, c := range cols {
		tail += tailSize(c, row)
	}
	if tail > MaxTailBytes {
		return dst, fault.New(fault.Exhausted, "the strings, bytes and lists of one row take %d bytes; the limit is %d", tail, MaxTailBytes)
	}
	dst = slices.Grow(dst, headerSize+len(cols)/8+8*len(cols)+tail+24)
	dst = appendHeader(dst, event, created, schema.Fingerprint())
	dst = appendNulls(dst, cols, row)
	if len(cols) == 0 {
		return dst, nil
	}
	dst = append(dst, slotsTag)
	dst = protowire.AppendVarint(dst, uint64(8*len(cols)))
	slots := len(dst)
	dst = dst[:slots+8*len(cols)]
	tailField := len(dst)
	if tail > 0 {
		dst = append(dst, tailTag)
		dst = protowire.AppendVarint(dst, uint64(tail))
	}
	tailStart := len(dst)
	for i, c := range cols {
		slot := uint64(0)
		if c.IsPresent(row) {
			start := len(dst)
			dst, slot = appendValue(dst, c, row)
			if c.Type.Width() == 0 {
				slot = uint64(start-tailStart)<<32 | uint64(len(dst)-start)
			}
		}
		binary.LittleEndian.PutUint64(dst[slots+8*i:], slot)
	}
	return compressTail(dst, tailField, tailStart), nil
}

func appendHeader(dst []byte, event feature.EventTime, created feature.CreatedTime, fingerprint uint64) []byte {
	dst = append(dst, eventTag)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(event))
	dst = append(dst, createdTag)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(created))
	dst = append(dst, fingerprintTag)
	return binary.LittleEndian.AppendUint64(dst, fingerprint)
}

func appendNulls(dst []byte, cols []*feature.Column, row int) []byte {
	last := len(cols) - 1
	for last >= 0 && cols[last].IsPresent(row) {
		last--
	}
	if last < 0 {
		return dst
	}
	size := last/8 + 1
	dst = append(dst, nullsTag)
	dst = protowire.AppendVarint(dst, uint64(size))
	start := len(dst)
	for range size {
		dst = append(dst, 0)
	}
	for i := range last + 1 {
		if !cols[i].IsPresent(row) {
			dst[start+i/8] |= 1 << (i % 8)
		}
	}
	return dst
}

// tailSize returns the bytes that a value takes in the tail.
func tailSize(c *feature.Column, row int) int {
	if c.Type.Width() != 0 || !c.IsPresent(row) {
		return 0
	}
	from, to := c.Offsets[row], c.Offsets[row+1]
	if c.Elem == nil {
		return to - from
	}
	if width := c.Elem.Type.Width(); width != 0 {
		return width * (to - from)
	}
	size := c.Elem.Offsets[to] - c.Elem.Offsets[from]
	for i := from; i < to; i++ {
		size += protowire.SizeVarint(uint64(c.Elem.Offsets[i+1] - c.Elem.Offsets[i]))
	}
	return size
}

// appendValue returns the slot of a fixed-width value, or appends a value of any other type to the tail.
func appendValue(dst []byte, c *feature.Column, row int) ([]byte, uint64) {
	switch c.Type {
	case feature.Bool:
		if c.Bools[row] {
			return dst, 1
		}
		return dst, 0
	case feature.Int32:
		return dst, uint64(int64(c.Int32s[row]))
	case feature.Int64, feature.Timestamp:
		return dst, uint64(c.Int64s[row])
	case feature.Float:
		return dst, uint64(math.Float32bits(c.Floats[row]))
	case feature.Double:
		return dst, math.Float64bits(c.Doubles[row])
	case feature.String, feature.Bytes:
		return append(dst, c.BytesAt(row)...), 0
	default:
		return appendElems(dst, c.Elem, c.Offsets[row], c.Offsets[row+1]), 0
	}
}

func appendElems(dst []byte, elem *feature.Column, from, to int) []byte {
	switch elem.Type {
	case feature.Bool:
		for _, v := range elem.Bools[from:to] {
			one := byte(0)
			if v {
				one = 1
			}
			dst = append(dst, one)
		}
	case feature.Int32:
		for _, v := range elem.Int32s[from:to] {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(v))
		}
	case feature.Int64, feature.Timestamp:
		for _, v := range elem.Int64s[from:to] {
			dst = binary.LittleEndian.AppendUint64(dst, uint64(v))
		}
	case feature.Float:
		for _, v := range elem.Floats[from:to] {
			dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
		}
	case feature.Double:
		for _, v := range elem.Doubles[from:to] {
			dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
		}
	default:
		for i := from; i < to; i++ {
			dst = protowire.AppendBytes(dst, elem.BytesAt(i))
		}
	}
	return dst
}
