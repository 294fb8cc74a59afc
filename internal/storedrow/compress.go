package storedrow

import (
	"sync"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/twofold-ml/twofold/internal/fault"
)

// minCompressBytes is the tail size from which compression is tried, and compressGain the part of the tail (one in
// compressGain bytes) that it must save to be kept, so that embeddings of random floats do not cost a reader anything.
const (
	minCompressBytes = 512
	compressGain     = 8
)

// zstdEncoder is shared: EncodeAll may be called by many goroutines.
var zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(true))
	if err != nil {
		panic("storedrow: zstd: " + err.Error()) // wrong options, a bug
	}
	return e
})

// zstdDecoder is shared: DecodeAll may be called by many goroutines. It never makes more than MaxTailBytes of one frame.
var zstdDecoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(MaxTailBytes))
	if err != nil {
		panic("storedrow: zstd: " + err.Error())
	}
	return d
})

// tails lends buffers for compressed and decompressed tails.
var tails = sync.Pool{New: func() any { return new([]byte) }}

// maxPooledTail is the largest buffer that is kept for reuse.
const maxPooledTail = 1 << 20

func returnTail(buffer *[]byte) {
	if cap(*buffer) <= maxPooledTail {
		tails.Put(buffer)
	}
}

// compressTail replaces the tail field, which begins at tailField and whose value is row[tailStart:], by a compressed one
// where that is worth it.
func compressTail(row []byte, tailField, tailStart int) []byte {
	size := len(row) - tailStart
	if size < minCompressBytes {
		return row
	}
	buffer := tails.Get().(*[]byte)
	defer returnTail(buffer)
	*buffer = zstdEncoder().EncodeAll(row[tailStart:], (*buffer)[:0])
	if len(*buffer) > size-size/compressGain {
		return row
	}
	row = append(row[:tailField], tailTag)
	row = protowire.AppendBytes(row, *buffer)
	return append(row, compressionTag, compressionZstd)
}

// decompress appends the decompressed tail to dst.
func decompress(dst, tail []byte) ([]byte, error) {
	out, err := zstdDecoder().DecodeAll(tail, dst)
	if err != nil {
		return dst, fault.New(fault.Corrupt, "its tail cannot be decompressed: %w", err)
	}
	if len(out)-len(dst) > MaxTailBytes {
		return dst, fault.New(fault.Corrupt, "its tail is larger than %d bytes", MaxTailBytes)
	}
	return out, nil
}
