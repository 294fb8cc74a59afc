package offline

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
	"slices"
)

// errRLE says that the run-lengths of levels or dictionary indices are damaged.
var errRLE = errors.New("a page's run-lengths are damaged")

// rleReader reads numbers in Parquet's hybrid of run-lengths and bit-packing, as levels and dictionary indices are stored. It makes no room for
// what the bytes promise: callers ask for some numbers at a time.
type rleReader struct {
	b     []byte
	width uint // bits a number, at most 32
	// The run that is being read: left numbers are to come, all of them value, or, where packed is not nil, packed from bit on.
	left   uint64
	value  uint32
	packed []byte
	bit    uint64
}

// newRLE reads b. Numbers of no bits are all 0, whatever b holds.
func newRLE(b []byte, width uint) (rleReader, error) {
	if width > 32 {
		return rleReader{}, errRLE
	}
	r := rleReader{b: b, width: width}
	if width == 0 {
		r.left = math.MaxUint64
	}
	return r, nil
}

// next begins the next run.
func (r *rleReader) next() error {
	header, n := binary.Uvarint(r.b)
	count := header >> 1
	if n <= 0 || count == 0 {
		return errRLE
	}
	r.b = r.b[n:]
	if header&1 == 1 {
		return r.nextPacked(count)
	}
	size := int(r.width+7) / 8
	if size > len(r.b) {
		return errRLE
	}
	r.left, r.value, r.packed = count, 0, nil
	for i, c := range r.b[:size] {
		r.value |= uint32(c) << (8 * i)
	}
	r.b = r.b[size:]
	return nil
}

// nextPacked begins a run of so many groups of 8 numbers. Some writers leave out the bytes that follow the last number of a page.
func (r *rleReader) nextPacked(groups uint64) error {
	size := uint64(len(r.b))
	r.left = size * 8 / uint64(r.width)
	if groups <= size/uint64(r.width) {
		size, r.left = groups*uint64(r.width), groups*8
	}
	if r.left == 0 {
		return errRLE
	}
	r.packed, r.b, r.bit = r.b[:size], r.b[size:], 0
	return nil
}

// same goes n numbers on where they are known to be all the same, and gives that number.
func (r *rleReader) same(n int) (value uint32, ok bool, err error) {
	if r.left == 0 {
		if err := r.next(); err != nil {
			return 0, false, err
		}
	}
	if r.packed != nil || r.left < uint64(n) {
		return 0, false, nil
	}
	r.left -= uint64(n)
	return r.value, true, nil
}

// read fills dst with the next numbers; those of 32 bits as they are.
func (r *rleReader) read(dst []int32) error {
	for len(dst) > 0 {
		if r.left == 0 {
			if err := r.next(); err != nil {
				return err
			}
		}
		n := int(min(r.left, uint64(len(dst))))
		if r.packed == nil {
			fill(dst[:n], int32(r.value))
		} else {
			r.unpack(dst[:n])
		}
		r.left -= uint64(n)
		dst = dst[n:]
	}
	return nil
}

func fill(dst []int32, value int32) {
	for i := range dst {
		dst[i] = value
	}
}

// unpack fills dst from the packed run, which has so many numbers left.
func (r *rleReader) unpack(dst []int32) {
	mask := uint64(1)<<r.width - 1
	bit, width, i := r.bit, uint64(r.width), 0
	// A number lies within the 8 bytes from its first one, as far as there are 8.
	for ; i < len(dst) && bit/8+8 <= uint64(len(r.packed)); i++ {
		dst[i] = int32(binary.LittleEndian.Uint64(r.packed[bit/8:]) >> (bit % 8) & mask)
		bit += width
	}
	for ; i < len(dst); i++ {
		dst[i] = int32(r.packedAt(bit, width))
		bit += width
	}
	r.bit = bit
}

// pick goes n numbers on and appends those at the places, which are ascending, to dst.
func (r *rleReader) pick(dst, places []int32, n int) ([]int32, error) {
	for at := 0; at < n; {
		if r.left == 0 {
			if err := r.next(); err != nil {
				return nil, err
			}
		}
		step := min(r.left, uint64(n-at))
		end := int32(at + int(step))
		for ; len(places) > 0 && places[0] < end; places = places[1:] {
			value := r.value
			if r.packed != nil {
				value = r.packedAt(r.bit+uint64(places[0]-int32(at))*uint64(r.width), uint64(r.width))
			}
			dst = append(dst, int32(value))
		}
		r.pass(step)
		at = int(end)
	}
	return dst, nil
}

// packedAt gives the number of so many bits, at most 32, that begins at a bit of the packed run, which has them all.
func (r *rleReader) packedAt(bit, width uint64) uint32 {
	rest, mask := r.packed[bit/8:], uint64(1)<<width-1
	if len(rest) >= 8 {
		return uint32(binary.LittleEndian.Uint64(rest) >> (bit % 8) & mask)
	}
	var tail [8]byte
	copy(tail[:], rest)
	return uint32(binary.LittleEndian.Uint64(tail[:]) >> (bit % 8) & mask)
}

// readBits sets those of the first n bits of dst, which are clear, where the next n numbers, of one bit each, are 1.
func (r *rleReader) readBits(dst bitmap, n int) error {
	for at := 0; at < n; {
		if r.left == 0 {
			if err := r.next(); err != nil {
				return err
			}
		}
		step := int(min(r.left, uint64(n-at)))
		r.left -= uint64(step)
		end := at + step
		if r.packed == nil && r.value > 1 {
			return errDefinitionLevel(int(r.value))
		}
		for at < end {
			k := min(end-at, 32)
			some := uint64(r.value)<<k - uint64(r.value) // all of k bits, or none
			if r.packed != nil {
				some = uint64(r.packedAt(r.bit, uint64(k)))
				r.bit += uint64(k)
			}
			dst.set(at, some)
			at += k
		}
	}
	return nil
}

// skip goes n numbers on.
func (r *rleReader) skip(n int64) error {
	for left := uint64(n); left > 0; {
		if r.left == 0 {
			if err := r.next(); err != nil {
				return err
			}
		}
		step := min(r.left, left)
		left -= step
		r.pass(step)
	}
	return nil
}

// pass goes n numbers of the present run on, which has as many.
func (r *rleReader) pass(n uint64) {
	r.left -= n
	if r.packed != nil {
		r.bit += n * uint64(r.width)
	}
}

// bitmap says something of each row of a block.
type bitmap []uint64

// cleared gives the bitmap, or a larger one, with at least n clear bits.
func (b bitmap) cleared(n int) bitmap {
	b = slices.Grow(b[:0], (n+63)/64)[:(n+63)/64]
	clear(b)
	return b
}

func (b bitmap) has(i int) bool { return b[i/64]>>(i%64)&1 == 1 }

// set sets the bits from i on that are set in some. They are clear, and there is room for them.
func (b bitmap) set(i int, some uint64) {
	b[i/64] |= some << (i % 64)
	if high := some >> (64 - i%64); i%64 > 0 && high > 0 {
		b[i/64+1] |= high
	}
}

// count is the number of bits that are set.
func (b bitmap) count() (n int) {
	for _, word := range b {
		n += bits.OnesCount64(word)
	}
	return n
}
