package offline

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// codec is Parquet's CompressionCodec.
type codec int32

const (
	codecNone   codec = 0
	codecSnappy codec = 1
	codecGzip   codec = 2
	codecLZO    codec = 3
	codecBrotli codec = 4
	codecLZ4    codec = 5
	codecZstd   codec = 6
	codecLZ4Raw codec = 7
)

// pagePadding is how many bytes of room pages have after their end. arrow-go's decoders convert the place where the values end to a pointer to a
// value, which must not point past the memory of the page.
const pagePadding = 64

// decompressor decompresses the pages of one column. No more than the promised bytes are ever made, whatever the
// compressed ones say: that is why it is not left to the decoder.
type decompressor struct{ codec codec }

// decompress gives the size bytes of a page, in buffer where they fit.
func (d *decompressor) decompress(buffer, raw []byte, size int) ([]byte, error) {
	return d.decompressAfter(buffer[:0], raw, size)
}

// decompressAfter appends the size bytes of a page.
func (d *decompressor) decompressAfter(dst, raw []byte, size int) ([]byte, error) {
	start := len(dst)
	dst = slices.Grow(dst, size+pagePadding)
	if d.codec == codecNone {
		if len(raw) != size {
			return nil, fmt.Errorf("an uncompressed page has %d bytes, not %d", len(raw), size)
		}
		return append(dst, raw...), nil
	}
	dst = dst[:start+size]
	n, err := d.fill(dst[start:], raw)
	if err != nil {
		return nil, fmt.Errorf("a page cannot be decompressed: %w", err)
	}
	if n != size {
		return nil, fmt.Errorf("a page decompresses to %d bytes, not %d", n, size)
	}
	return dst, nil
}

var errTooLong = errors.New("it is longer than its header says")

// fill decompresses raw into dst and gives the number of bytes. More bytes than dst has are an error.
func (d *decompressor) fill(dst, raw []byte) (int, error) {
	switch d.codec {
	case codecSnappy:
		n, err := snappy.DecodedLen(raw)
		if err != nil {
			return 0, err
		}
		if n > len(dst) {
			return 0, errTooLong
		}
		_, err = snappy.Decode(dst, raw)
		return n, err
	case codecZstd:
		return fillZstd(dst, raw)
	case codecLZ4Raw:
		return lz4.UncompressBlock(raw, dst)
	case codecGzip:
		r, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			return 0, err
		}
		return fillFrom(dst, r)
	case codecBrotli:
		return fillFrom(dst, brotli.NewReader(bytes.NewReader(raw)))
	default:
		return 0, fmt.Errorf("compression %v is not supported; write the file with zstd, snappy, gzip, brotli or LZ4_RAW", d.codec)
	}
}

// String gives the name of the codec.
func (c codec) String() string {
	names := [...]string{"UNCOMPRESSED", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4 (Hadoop framing)", "ZSTD", "LZ4_RAW"}
	if c >= 0 && int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("codec %d", int32(c))
}

// zstdDecoders holds decoders that are not in use. A decoder in a pool starts no goroutines.
var zstdDecoders = sync.Pool{New: func() any {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPageBytes), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(fmt.Sprintf("offline: zstd: %v", err)) // the options above are wrong
	}
	return decoder
}}

func fillZstd(dst, raw []byte) (int, error) {
	decoder := zstdDecoders.Get().(*zstd.Decoder)
	defer zstdDecoders.Put(decoder)
	out, err := decoder.DecodeAll(raw, dst[:0:len(dst)])
	return len(out), err
}

// fillFrom reads all of r, which must not have more bytes than dst.
func fillFrom(dst []byte, r io.Reader) (int, error) {
	n, err := io.ReadFull(r, dst)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return n, nil // shorter: the caller compares
	}
	if err != nil {
		return n, err
	}
	var extra [1]byte
	switch more, err := r.Read(extra[:]); {
	case more > 0:
		return n, errTooLong
	case err != nil && !errors.Is(err, io.EOF):
		return n, err
	}
	return n, nil
}
