package offline

import (
	"context"
	"fmt"
)

// span gives the bytes of one column chunk by their place in the file.
type span interface {
	// at gives n bytes; they are valid until the next call, and not to be changed.
	at(ctx context.Context, offset int64, n int) ([]byte, error)
}

// memorySpan is a part of a file that is in memory.
type memorySpan struct {
	start int64
	bytes []byte
}

func (s memorySpan) at(_ context.Context, offset int64, n int) ([]byte, error) {
	from := offset - s.start
	if from < 0 || n < 0 || from > int64(len(s.bytes))-int64(n) {
		return nil, fmt.Errorf("bytes %d to %d are not in the column", offset, offset+int64(n))
	}
	return s.bytes[from : from+int64(n)], nil
}

// readerSpan reads from the object as it goes, some way ahead.
type readerSpan struct {
	r      objectReader
	end    int64 // of the chunk: nothing past it is read
	ahead  int
	start  int64 // of the buffer
	buffer []byte
}

func (s *readerSpan) at(ctx context.Context, offset int64, n int) ([]byte, error) {
	if offset < 0 || n < 0 || int64(n) > s.end-offset {
		return nil, fmt.Errorf("bytes %d to %d are not in the column", offset, offset+int64(n))
	}
	if from := offset - s.start; from >= 0 && from <= int64(len(s.buffer))-int64(n) {
		return s.buffer[from : from+int64(n)], nil
	}
	want := int(min(int64(max(n, s.ahead)), s.end-offset))
	if cap(s.buffer) < want {
		s.buffer = make([]byte, want)
	}
	s.start, s.buffer = offset, s.buffer[:want]
	if err := s.r.readAt(ctx, s.buffer, offset); err != nil {
		s.buffer = s.buffer[:0]
		return nil, err
	}
	return s.buffer[:n], nil
}
