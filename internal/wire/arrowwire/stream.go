package arrowwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/twofold-ml/twofold/internal/fault"
)

// Limits bound what one message of an Arrow stream may take.
type Limits struct {
	// MetadataBytes is the largest metadata: a schema, or the layout of a batch. Defaults to 16 MiB.
	MetadataBytes int
	// BodyBytes is the largest body, and the largest buffer that a compressed one may expand to. Defaults to 256 MiB.
	BodyBytes int
}

func (l Limits) withDefaults() Limits {
	if l.MetadataBytes <= 0 {
		l.MetadataBytes = 16 << 20
	}
	if l.BodyBytes <= 0 {
		l.BodyBytes = 256 << 20
	}
	return l
}

// NewReader returns a reader of an Arrow IPC stream from outside. Arrow's own reader makes room for whatever a message says
// it holds, and a program that asks for more memory than there is cannot recover; here each message is checked against its own size
// and the limits before Arrow sees it. Arrow may still panic on damaged bytes, here and in the reader's methods: recover from it.
func NewReader(r io.Reader, limits Limits) (*ipc.Reader, error) {
	limits = limits.withDefaults()
	return ipc.NewReader(&checkedStream{in: r, limits: limits, checks: messageChecker{views: -1}},
		ipc.WithAllocator(&boundedAllocator{max: limits.BodyBytes}),
		ipc.WithMetadataSizeLimit(int64(limits.MetadataBytes)), ipc.WithBodySizeLimit(int64(limits.BodyBytes)))
}

// boundedAllocator panics where one buffer is too large, as Arrow's reader lets nothing else reach it in time.
type boundedAllocator struct {
	memory.GoAllocator
	max int
}

// Allocate is memory.Allocator's.
func (a *boundedAllocator) Allocate(size int) []byte {
	a.check(size)
	return a.GoAllocator.Allocate(size)
}

// Reallocate is memory.Allocator's.
func (a *boundedAllocator) Reallocate(size int, b []byte) []byte {
	a.check(size)
	return a.GoAllocator.Reallocate(size, b)
}

func (a *boundedAllocator) check(size int) {
	const padding = 1024 // Arrow rounds sizes up.
	if size < 0 || size > a.max+padding {
		panic(fmt.Sprintf("a buffer of %d bytes is larger than the limit of %d", size, a.max))
	}
}

// checkedStream passes a stream of messages on, each after a check of its metadata.
type checkedStream struct {
	in     io.Reader
	limits Limits
	checks messageChecker
	// head is what is left of the checked prefix and metadata; body is the bytes of the body that follow it.
	head []byte
	body int64
	err  error
}

// Read is io.Reader's.
func (s *checkedStream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if s.err == nil && len(s.head) == 0 && s.body == 0 {
		s.err = s.next()
	}
	switch {
	case len(s.head) > 0:
		n := copy(p, s.head)
		s.head = s.head[n:]
		return n, nil
	case s.err != nil:
		return 0, s.err
	}
	n, err := s.in.Read(p[:min(int64(len(p)), s.body)])
	s.body -= int64(n)
	if err != nil && s.body > 0 && errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && n == 0 {
		s.err = err
	}
	return n, s.err
}

const continuation = 0xFFFFFFFF

// next reads and checks the prefix and the metadata of the next message.
func (s *checkedStream) next() error {
	prefix := make([]byte, 4, 8)
	if _, err := io.ReadFull(s.in, prefix); err != nil {
		return err
	}
	size := binary.LittleEndian.Uint32(prefix)
	if size == continuation {
		prefix = prefix[:8]
		if err := readRest(s.in, prefix[4:]); err != nil {
			return err
		}
		size = binary.LittleEndian.Uint32(prefix[4:])
	}
	s.head = prefix
	if size == 0 {
		return io.EOF // after the end-of-stream marker
	}
	if uint64(size) > uint64(s.limits.MetadataBytes) {
		s.head = nil
		return fault.New(fault.Exhausted, "an Arrow message has %d bytes of metadata, and the limit is %d", size, s.limits.MetadataBytes)
	}
	head := make([]byte, len(prefix)+int(size))
	copy(head, prefix)
	if err := readRest(s.in, head[len(prefix):]); err != nil {
		s.head = nil
		return err
	}
	body, err := s.checks.check(head[len(prefix):])
	if err == nil && (body < 0 || body > int64(s.limits.BodyBytes)) {
		err = fault.New(fault.Exhausted, "an Arrow message has a body of %d bytes, and the limit is %d; send smaller batches", body, s.limits.BodyBytes)
	}
	if err != nil {
		s.head = nil
		return err
	}
	s.head, s.body = head, body
	return nil
}

// readRest fills b with what has to follow: the end of the input is none of the stream here, but says that it was cut off.
func readRest(in io.Reader, b []byte) error {
	_, err := io.ReadFull(in, b)
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
