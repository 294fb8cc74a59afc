package offline

import (
	"errors"
	"math"
)

// Thrift's compact protocol, as far as Parquet footers and page headers use it. It is read here, before any decoder
// sees it, because generated readers believe the sizes that they find.

// Types of the compact protocol.
const (
	compactTrue   = 1
	compactFalse  = 2
	compactByte   = 3
	compactI16    = 4
	compactI32    = 5
	compactI64    = 6
	compactDouble = 7
	compactBinary = 8
	compactList   = 9
	compactSet    = 10
	compactMap    = 11
	compactStruct = 12
)

// maxCompactDepth is how deep structs may be nested; Parquet's own are at most 7 deep.
const maxCompactDepth = 32

// errCompactShort says that the bytes end inside a message; more bytes may mend it.
var errCompactShort = errors.New("the metadata ends too early")

var errCompactBroken = errors.New("the metadata is not valid Thrift")

// compactReader reads one message. The first error stays.
type compactReader struct {
	b   []byte
	pos int
	err error
}

func (r *compactReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *compactReader) byte() byte {
	if r.err != nil {
		return 0
	}
	if r.pos >= len(r.b) {
		r.fail(errCompactShort)
		return 0
	}
	r.pos++
	return r.b[r.pos-1]
}

func (r *compactReader) uvarint() uint64 {
	var v uint64
	for shift := 0; shift < 64; shift += 7 {
		c := r.byte()
		if r.err != nil {
			return 0
		}
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v
		}
	}
	r.fail(errCompactBroken)
	return 0
}

func (r *compactReader) int64() int64 {
	v := r.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

func (r *compactReader) int32() int32 {
	v := r.int64()
	if v < math.MinInt32 || v > math.MaxInt32 {
		r.fail(errCompactBroken)
		return 0
	}
	return int32(v)
}

// bytes steps over n bytes.
func (r *compactReader) bytes(n uint64) {
	if r.err != nil {
		return
	}
	if n > uint64(len(r.b)-r.pos) {
		r.fail(errCompactShort)
		return
	}
	r.pos += int(n)
}

// size reads the number of elements of a container. Each takes at least a byte, so more than the remaining bytes cannot be: a
// reader that makes room for so many first is safe.
func (r *compactReader) size(n uint64) int {
	if r.err == nil && n > uint64(len(r.b)-r.pos) {
		r.fail(errCompactShort)
		return 0
	}
	return int(n)
}

func (r *compactReader) list() (size int, elem byte) {
	head := r.byte()
	n := uint64(head >> 4)
	if n == 15 {
		n = r.uvarint()
	}
	return r.size(n), head & 0x0f
}

// fields calls field for each field of a struct; it has to read or skip the value. For booleans the type is the value.
func (r *compactReader) fields(depth int, field func(id int16, kind byte)) {
	if depth > maxCompactDepth {
		r.fail(errCompactBroken)
		return
	}
	var id int64
	for r.err == nil {
		head := r.byte()
		if head == 0 || r.err != nil {
			return
		}
		if delta := head >> 4; delta != 0 {
			id += int64(delta)
		} else {
			id = r.int64()
		}
		if id < math.MinInt16 || id > math.MaxInt16 {
			r.fail(errCompactBroken)
			return
		}
		field(int16(id), head&0x0f)
	}
}

// skip steps over a value of a field.
func (r *compactReader) skip(kind byte, depth int) {
	switch kind {
	case compactTrue, compactFalse:
	case compactByte:
		r.bytes(1)
	case compactI16, compactI32, compactI64:
		r.uvarint()
	case compactDouble:
		r.bytes(8)
	case compactBinary:
		r.bytes(r.uvarint())
	case compactList, compactSet:
		size, elem := r.list()
		for range size {
			r.skipElem(elem, depth+1)
		}
	case compactMap:
		r.skipMap(depth + 1)
	case compactStruct:
		r.fields(depth+1, func(_ int16, kind byte) { r.skip(kind, depth+1) })
	default:
		r.fail(errCompactBroken)
	}
}

func (r *compactReader) skipMap(depth int) {
	size := r.size(r.uvarint())
	if size == 0 || r.err != nil {
		return
	}
	kinds := r.byte()
	for range size {
		r.skipElem(kinds>>4, depth)
		r.skipElem(kinds&0x0f, depth)
	}
}

// skipElem steps over an element of a container, where a boolean takes a byte.
func (r *compactReader) skipElem(kind byte, depth int) {
	if r.err != nil || depth > maxCompactDepth {
		r.fail(errCompactBroken)
		return
	}
	if kind == compactTrue || kind == compactFalse {
		r.bytes(1)
		return
	}
	r.skip(kind, depth)
}
