package offline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"

	"github.com/twofold-ml/twofold/internal/feature"
)

// fixedValue are the stored values of a fixed width that are read in place.
type fixedValue interface {
	int32 | int64 | float32 | float64
	physical
}

// fixedReader appends the values of b at the places (all of them where places is nil) to dst. b holds every one of them.
type fixedReader[T fixedValue] func(dst []T, b []byte, places []int32) []T

// appendFixed appends all values of b, which are so many bytes wide.
func appendFixed[T fixedValue](dst []T, b []byte, width int) []T {
	dst, all := feature.Extend(dst, len(b)/width)
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 { // memory has the lowest byte first, as files do
		copy(arrow.GetBytes(all), b)
		return dst
	}
	_, _ = binary.Decode(b, binary.LittleEndian, all) // fails for fewer bytes only
	return dst
}

func readInt32s(dst []int32, b []byte, places []int32) []int32 {
	if places != nil {
		for _, i := range places {
			dst = append(dst, int32(binary.LittleEndian.Uint32(b[4*int(i):])))
		}
		return dst
	}
	return appendFixed(dst, b, 4)
}

func readInt64s(dst []int64, b []byte, places []int32) []int64 {
	if places != nil {
		for _, i := range places {
			dst = append(dst, int64(binary.LittleEndian.Uint64(b[8*int(i):])))
		}
		return dst
	}
	return appendFixed(dst, b, 8)
}

func readFloats(dst []float32, b []byte, places []int32) []float32 {
	if places != nil {
		for _, i := range places {
			dst = append(dst, math.Float32frombits(binary.LittleEndian.Uint32(b[4*int(i):])))
		}
		return dst
	}
	return appendFixed(dst, b, 4)
}

func readDoubles(dst []float64, b []byte, places []int32) []float64 {
	if places != nil {
		for _, i := range places {
			dst = append(dst, math.Float64frombits(binary.LittleEndian.Uint64(b[8*int(i):])))
		}
		return dst
	}
	return appendFixed(dst, b, 8)
}

// newFixedValues gives what opens pages of values of a fixed width.
func newFixedValues[T fixedValue](read fixedReader[T], width int) directValues[T] {
	return func(encoding parquet.Encoding, values []byte, dictionary *dictionaryPage) (valueReader[T], error) {
		switch encoding {
		case parquet.Encodings.Plain:
			return &fixedValues[T]{b: values, width: width, read: read}, nil
		case parquet.Encodings.PlainDict, parquet.Encodings.RLEDict:
			indices, err := openIndices(values, dictionary)
			if err != nil {
				return nil, err
			}
			return &fixedDictionary[T]{indexReader: indices, b: dictionary.body, read: read}, nil
		}
		return nil, nil
	}
}

// fixedValues are PLAIN values of a fixed width.
type fixedValues[T fixedValue] struct {
	b     []byte // from the next value on
	width int
	read  fixedReader[T]
}

func (v *fixedValues[T]) take(dst []T, places []int32, n int) ([]T, error) {
	size := n * v.width
	if size > len(v.b) {
		return nil, errFewValues
	}
	dst = v.read(slices.Grow(dst, wantedOf(places, n)), v.b[:size], places)
	v.b = v.b[size:]
	return dst, nil
}

func (v *fixedValues[T]) skip(n int) error {
	if n*v.width > len(v.b) {
		return errFewValues
	}
	v.b = v.b[n*v.width:]
	return nil
}

// wantedOf is how many values take appends.
func wantedOf(places []int32, n int) int {
	if places == nil {
		return n
	}
	return len(places)
}

// indexReader reads the dictionary indices of a page.
type indexReader struct {
	rle   rleReader
	count uint32 // of the dictionary's values
	picks []int32
}

var errDictionary = errors.New("a page refers to a dictionary that is not there")

// openIndices begins the indices of a page: a byte says how many bits each has.
func openIndices(values []byte, dictionary *dictionaryPage) (*indexReader, error) {
	if dictionary == nil {
		return nil, errDictionary
	}
	if e := parquet.Encoding(dictionary.encoding); e != parquet.Encodings.Plain && e != parquet.Encodings.PlainDict {
		return nil, fmt.Errorf("a dictionary has the encoding %v", e)
	}
	if len(values) == 0 { // a page of nulls only
		return &indexReader{}, nil
	}
	rle, err := newRLE(values[1:], uint(values[0]))
	return &indexReader{rle: rle, count: uint32(dictionary.pageHeader.values)}, err
}

// next reads the next n indices and gives those at the places.
func (r *indexReader) next(places []int32, n int) (picks []int32, err error) {
	r.picks = slices.Grow(r.picks[:0], wantedOf(places, n))
	if places != nil {
		r.picks, err = r.rle.pick(r.picks, places, n)
	} else {
		r.picks = r.picks[:n]
		err = r.rle.read(r.picks)
	}
	if err != nil {
		return nil, err
	}
	for _, index := range r.picks {
		if uint32(index) >= r.count {
			return nil, fmt.Errorf("a page refers to value %d of a dictionary of %d", uint32(index), r.count)
		}
	}
	return r.picks, nil
}

func (r *indexReader) skip(n int) error { return r.rle.skip(int64(n)) }

// fixedDictionary are indices of values of a fixed width.
type fixedDictionary[T fixedValue] struct {
	*indexReader
	b    []byte // of the dictionary; checkDictionary has seen that all its values are there
	read fixedReader[T]
}

func (v *fixedDictionary[T]) take(dst []T, places []int32, n int) ([]T, error) {
	indices, err := v.next(places, n)
	if err != nil || len(indices) == 0 { // no places, where read would take none to be all
		return dst, err
	}
	return v.read(slices.Grow(dst, len(indices)), v.b, indices), nil
}

// newByteValues opens pages of byte arrays.
func newByteValues(encoding parquet.Encoding, values []byte, dictionary *dictionaryPage) (valueReader[parquet.ByteArray], error) {
	switch encoding {
	case parquet.Encodings.Plain:
		return &byteValues{b: values}, nil
	case parquet.Encodings.PlainDict, parquet.Encodings.RLEDict:
		indices, err := openIndices(values, dictionary)
		if err != nil {
			return nil, err
		}
		starts, err := dictionary.byteStarts()
		return &byteDictionary{indexReader: indices, b: dictionary.body, starts: starts}, err
	}
	return nil, nil
}

// byteValues are PLAIN byte arrays: each its length in 4 bytes, then its bytes.
type byteValues struct{ b []byte }

func (v *byteValues) take(dst []parquet.ByteArray, places []int32, n int) ([]parquet.ByteArray, error) {
	dst = slices.Grow(dst, wantedOf(places, n))
	if places == nil {
		for range n {
			value, ok := v.next()
			if !ok {
				return nil, errFewValues
			}
			dst = append(dst, value)
		}
		return dst, nil
	}
	at := 0
	for _, place := range places {
		if err := v.skip(int(place) - at); err != nil {
			return nil, err
		}
		value, ok := v.next()
		if !ok {
			return nil, errFewValues
		}
		dst = append(dst, value)
		at = int(place) + 1
	}
	return dst, v.skip(n - at)
}

func (v *byteValues) next() ([]byte, bool) {
	if len(v.b) < 4 {
		return nil, false
	}
	n := int64(binary.LittleEndian.Uint32(v.b))
	if n > int64(len(v.b))-4 {
		return nil, false
	}
	value := v.b[4 : 4+n : 4+n]
	v.b = v.b[4+n:]
	return value, true
}

func (v *byteValues) skip(n int) error {
	for range n {
		if _, ok := v.next(); !ok {
			return errFewValues
		}
	}
	return nil
}

// byteStarts finds where the values of a dictionary of byte arrays begin.
func (d *dictionaryPage) byteStarts() ([]uint32, error) {
	if d.starts != nil {
		return d.starts, nil
	}
	v := byteValues{d.body}
	d.starts = make([]uint32, d.pageHeader.values) // checkDictionary has seen that each has 4 bytes
	for i := range d.starts {
		d.starts[i] = uint32(len(d.body) - len(v.b))
		if _, ok := v.next(); !ok {
			return nil, errFewValues
		}
	}
	return d.starts, nil
}

// byteDictionary are indices of byte arrays.
type byteDictionary struct {
	*indexReader
	b      []byte
	starts []uint32
}

func (v *byteDictionary) take(dst []parquet.ByteArray, places []int32, n int) ([]parquet.ByteArray, error) {
	indices, err := v.next(places, n)
	if err != nil {
		return nil, err
	}
	dst = slices.Grow(dst, len(indices))
	for _, index := range indices {
		value, _ := (&byteValues{v.b[v.starts[index]:]}).next()
		dst = append(dst, value)
	}
	return dst, nil
}
