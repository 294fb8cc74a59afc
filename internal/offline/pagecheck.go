package offline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// maxDeltaBlock bounds the values of a block of delta encoding; writers use 128 to 4096. Decoders make room for a block at once.
const maxDeltaBlock = 1 << 16

// checkDictionary checks that a dictionary has the values that its header promises.
func checkDictionary(h pageHeader, body []byte, descr *schema.Column) error {
	width := 0
	switch descr.PhysicalType() {
	case parquet.Types.Int32, parquet.Types.Float:
		width = 4
	case parquet.Types.Int64, parquet.Types.Double:
		width = 8
	case parquet.Types.Int96:
		width = 12
	case parquet.Types.FixedLenByteArray:
		width = descr.TypeLength()
	case parquet.Types.ByteArray:
		width = 4
	}
	if int64(h.values)*int64(width) > int64(len(body)) {
		return fmt.Errorf("a dictionary of %d values has only %d bytes", h.values, len(body))
	}
	return nil
}

// skipLevels gives the values of a V1 data page, after its repetition and definition levels.
func skipLevels(b []byte, h pageHeader, descr *schema.Column) ([]byte, error) {
	for _, levels := range []struct {
		max      int16
		encoding int32
	}{{descr.MaxRepetitionLevel(), h.repEncoding}, {descr.MaxDefinitionLevel(), h.defEncoding}} {
		if levels.max == 0 {
			continue
		}
		var n uint64
		switch parquet.Encoding(levels.encoding) {
		case parquet.Encodings.RLE:
			if len(b) < 4 {
				return nil, errors.New("a page ends inside its levels")
			}
			n = 4 + uint64(binary.LittleEndian.Uint32(b))
		case parquet.Encodings.BitPacked:
			n = (uint64(h.values)*uint64(bits.Len16(uint16(levels.max))) + 7) / 8
		default:
			return nil, fmt.Errorf("a page's levels have the unknown encoding %d", levels.encoding)
		}
		if n > uint64(len(b)) {
			return nil, errors.New("a page ends inside its levels")
		}
		b = b[n:]
	}
	return b, nil
}

// checkEncoding checks the headers inside the values of a page for sizes that a decoder would make room for.
func checkEncoding(encoding parquet.Encoding, values []byte, count int64) error {
	switch encoding {
	case parquet.Encodings.DeltaBinaryPacked, parquet.Encodings.DeltaLengthByteArray:
		_, err := checkDelta(values, count, false)
		return err
	case parquet.Encodings.DeltaByteArray:
		rest, err := checkDelta(values, count, true)
		if err != nil {
			return err
		}
		_, err = checkDelta(rest, count, false)
		return err
	default:
		return nil
	}
}

// noStrings is DELTA_BYTE_ARRAY of no values: for prefixes and for suffixes, blocks of 128 numbers in 4 parts, 0 numbers, the first 0.
var noStrings = []byte{0x80, 0x01, 4, 0, 0, 0x80, 0x01, 4, 0, 0}

// noDeltas tells whether the header of delta encoding says that no numbers follow.
func noDeltas(b []byte) bool {
	for range 2 { // the sizes of blocks and of their parts
		_, n := binary.Uvarint(b)
		if n <= 0 {
			return false
		}
		b = b[n:]
	}
	total, n := binary.Uvarint(b)
	return n > 0 && total == 0
}

var errDelta = errors.New("a page's delta encoding is damaged")

// checkDelta checks the header of DELTA_BINARY_PACKED numbers and, where wanted, steps over them to what follows.
func checkDelta(b []byte, count int64, step bool) ([]byte, error) {
	if len(b) == 0 && count == 0 {
		return nil, nil
	}
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			b = nil
			return 0
		}
		b = b[n:]
		return v
	}
	block, miniBlocks, total := next(), next(), next()
	if block == 0 || block > maxDeltaBlock || miniBlocks == 0 || block%miniBlocks != 0 || total > uint64(count) {
		return nil, fmt.Errorf("%w: blocks of %d values in %d parts, %d values", errDelta, block, miniBlocks, total)
	}
	next() // the first value
	if !step {
		return b, nil
	}
	perMini := block / miniBlocks
	for left := int64(total) - 1; left > 0; {
		next() // the least delta
		if uint64(len(b)) < miniBlocks {
			return nil, errDelta
		}
		widths := b[:miniBlocks]
		b = b[miniBlocks:]
		for _, width := range widths {
			if left <= 0 {
				break
			}
			n := (uint64(width)*perMini + 7) / 8
			if n > uint64(len(b)) {
				return nil, errDelta
			}
			b = b[n:]
			left -= int64(perMini)
		}
	}
	return b, nil
}
