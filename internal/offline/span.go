package offline

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// span gives the bytes of one column chunk by their place in the file, from front to back.
type span interface {
	// at gives n bytes; they are valid until the next call, and not to be changed.
	at(ctx context.Context, offset int64, n int) ([]byte, error)
	// upTo gives at most n bytes: fewer where the part of the column that may be read ends before.
	upTo(ctx context.Context, offset int64, n int) ([]byte, error)
}

// byteRange is a part of a file.
type byteRange struct{ from, to int64 }

func errNotInColumn(offset int64, n int) error {
	return fmt.Errorf("bytes %d to %d are not among those of the column", offset, offset+int64(n))
}

// rangeAt gives the range that an offset is in. Ranges are ascending and do not touch.
func rangeAt(ranges []byteRange, offset int64) (byteRange, bool) {
	i, found := slices.BinarySearchFunc(ranges, offset, func(r byteRange, offset int64) int {
		switch {
		case r.to <= offset:
			return -1
		case r.from > offset:
			return 1
		}
		return 0
	})
	if !found {
		return byteRange{}, false
	}
	return ranges[i], true
}

// readerSpan reads from the object as it goes, some way ahead.
type readerSpan struct {
	r      objectReader
	ranges []byteRange // nothing else is read
	start  int64       // of the buffer
	buffer []byte
}

// How far local files are read ahead: where reading goes on, and where it goes to another page, which may be passed over too.
const (
	localAhead  = 256 << 10
	localGlance = 4 << 10
)

var freeBuffers = sync.Pool{New: func() any { return new([]byte) }}

func newReaderSpan(r objectReader, ranges []byteRange) *readerSpan {
	return &readerSpan{r: r, ranges: ranges, buffer: (*freeBuffers.Get().(*[]byte))[:0]}
}

// close gives the buffer back.
func (s *readerSpan) close() {
	if b := s.buffer; cap(b) <= maxKeptBuffer {
		freeBuffers.Put(&b)
	}
	s.buffer = nil
}

func (s *readerSpan) at(ctx context.Context, offset int64, n int) ([]byte, error) {
	b, err := s.upTo(ctx, offset, n)
	if err == nil && len(b) < n {
		err = errNotInColumn(offset, n)
	}
	return b, err
}

func (s *readerSpan) upTo(ctx context.Context, offset int64, n int) ([]byte, error) {
	r, ok := rangeAt(s.ranges, offset)
	if !ok || n < 0 {
		return nil, errNotInColumn(offset, n)
	}
	n = int(min(int64(n), r.to-offset))
	from := offset - s.start
	if from >= 0 && from <= int64(len(s.buffer))-int64(n) {
		return s.buffer[from : from+int64(n)], nil
	}
	// What is in the buffer already moves to its front.
	kept, ahead := 0, localGlance
	if from >= 0 && from < int64(len(s.buffer)) {
		kept, ahead = copy(s.buffer, s.buffer[from:]), localAhead
	}
	want := int(min(int64(max(n, ahead)), r.to-offset))
	s.start, s.buffer = offset, slices.Grow(s.buffer[:kept], want-kept)[:want]
	if err := s.r.readAt(ctx, s.buffer[kept:], offset+int64(kept)); err != nil {
		s.buffer = s.buffer[:0]
		return nil, err
	}
	return s.buffer[:n], nil
}
