package storedrow

import (
	"encoding/binary"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// The canonical encoding: three tags and fixed-width values at known places, then the other fields in order.
const (
	eventTag       = 1<<3 | 1
	createdTag     = 2<<3 | 1
	fingerprintTag = 3<<3 | 1
	nullsTag       = 4<<3 | 2
	slotsTag       = 5<<3 | 2
	tailTag        = 6<<3 | 2
	tombstoneTag   = 7 << 3
	compressionTag = 8 << 3

	eventAt       = 1
	createdAt     = 10
	fingerprintAt = 19
	headerSize    = 27
)

// Values of TailCompression.
const (
	compressionNone = 0
	compressionZstd = 1
)

// Header is what a row says about itself.
type Header struct {
	EventTime   feature.EventTime
	CreatedTime feature.CreatedTime
	// Fingerprint is that of the schema of the slots; 0 for a tombstone, and only for one.
	Fingerprint uint64
	Tombstone   bool
}

// Newer reports whether h replaces a stored row with header o: it does where its (event time, created time) is greater, and
// at equal times too, unless o is a tombstone and h is not.
func (h Header) Newer(o Header) bool {
	if h.EventTime == o.EventTime && h.CreatedTime == o.CreatedTime {
		return h.Tombstone || !o.Tombstone
	}
	return feature.Newer(h.EventTime, h.CreatedTime, o.EventTime, o.CreatedTime)
}

// ParseHeader reads a row's header. Of a canonical row with values it looks at the first 27 bytes only; that the rest
// is whole is for Projection.Append to find out.
func ParseHeader(b []byte) (Header, error) {
	if hasCanonicalHeader(b) {
		if h := canonicalHeader(b); h.Fingerprint != 0 {
			return h, nil
		}
	}
	m, err := parse(b)
	return m.Header, err
}

func hasCanonicalHeader(b []byte) bool {
	return len(b) >= headerSize && b[eventAt-1] == eventTag && b[createdAt-1] == createdTag && b[fingerprintAt-1] == fingerprintTag
}

func canonicalHeader(b []byte) Header {
	return Header{
		EventTime:   feature.EventTime(binary.LittleEndian.Uint64(b[eventAt:])),
		CreatedTime: feature.CreatedTime(binary.LittleEndian.Uint64(b[createdAt:])),
		Fingerprint: binary.LittleEndian.Uint64(b[fingerprintAt:]),
	}
}

// message is a parsed StoredRow. Its slices share the memory of the parsed bytes, except slots that were not in one piece.
type message struct {
	Header
	nulls, slots, tail []byte
	compression        int32
}

// parse reads a row in any encoding and checks what can be checked without its schema.
func parse(b []byte) (message, error) {
	m, ok := parseCanonical(b)
	if !ok {
		var err error
		if m, err = parseAny(b); err != nil {
			return message{}, err
		}
		if hasCanonicalHeader(b) && !m.sameHeader(canonicalHeader(b)) {
			// ParseHeader, and a store that compares rows, look at the first three fields only.
			return message{}, fault.New(fault.Corrupt, "it begins like a canonical row and has another time or fingerprint further on")
		}
	}
	switch {
	case m.Tombstone != (m.Fingerprint == 0):
		return message{}, fault.New(fault.Corrupt, "tombstone is %v and the schema fingerprint is %016x", m.Tombstone, m.Fingerprint)
	case m.compression != compressionNone && m.compression != compressionZstd:
		return message{}, fault.New(fault.Corrupt, "its tail has the unknown compression %d; it was written by a newer version", m.compression)
	}
	return m, nil
}

func (m *message) sameHeader(h Header) bool {
	return m.EventTime == h.EventTime && m.CreatedTime == h.CreatedTime && m.Fingerprint == h.Fingerprint
}

// parseCanonical reads fields in the order of their numbers, each at most once. It reports false for every other
// encoding, broken ones included.
func parseCanonical(b []byte) (m message, ok bool) {
	if !hasCanonicalHeader(b) {
		return m, false
	}
	m.Header = canonicalHeader(b)
	b = b[headerSize:]
	if m.nulls, b, ok = takeBytes(b, nullsTag); !ok {
		return m, false
	}
	if m.slots, b, ok = takeBytes(b, slotsTag); !ok || len(m.slots)%8 != 0 {
		return m, false
	}
	if m.tail, b, ok = takeBytes(b, tailTag); !ok {
		return m, false
	}
	if len(b) >= 2 && b[0] == tombstoneTag && b[1] <= 1 {
		m.Tombstone = b[1] == 1
		b = b[2:]
	}
	if len(b) >= 2 && b[0] == compressionTag && b[1] < 0x80 {
		m.compression = int32(b[1])
		b = b[2:]
	}
	return m, len(b) == 0
}

// takeBytes takes a length-delimited field off b where b begins with its tag.
func takeBytes(b []byte, tag byte) (value, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != tag {
		return nil, b, true
	}
	size, n := binary.Uvarint(b[1:])
	if n <= 0 || size > uint64(len(b)-1-n) {
		return nil, b, false
	}
	b = b[1+n:]
	return b[:size:size], b[size:], true
}

// parseAny reads any protobuf encoding: fields in any order, left out where zero, the last one of several, slots packed or not.
func parseAny(b []byte) (m message, err error) {
	pieces := 0
	err = eachField(b, func(number protowire.Number, wire protowire.Type, value []byte, bits uint64) error {
		switch tag := uint64(number)<<3 | uint64(wire); tag {
		case eventTag:
			m.EventTime = feature.EventTime(bits)
		case createdTag:
			m.CreatedTime = feature.CreatedTime(bits)
		case fingerprintTag:
			m.Fingerprint = bits
		case nullsTag:
			m.nulls = value
		case slotsTag:
			if len(value)%8 != 0 {
				return fault.New(fault.Corrupt, "its slots take %d bytes, which is not a multiple of 8", len(value))
			}
			m.slots = joinSlots(m.slots, value, pieces)
			pieces++
		case 5<<3 | 1: // one slot that is not packed
			m.slots = joinSlots(m.slots, binary.LittleEndian.AppendUint64(nil, bits), pieces)
			pieces++
		case tailTag:
			m.tail = value
		case tombstoneTag:
			m.Tombstone = bits != 0
		case compressionTag:
			m.compression = int32(bits)
		}
		return nil
	})
	return m, err
}

// joinSlots appends value to slots, in memory of its own from the second piece on.
func joinSlots(slots, value []byte, pieces int) []byte {
	if pieces == 0 {
		return value
	}
	return append(slots[:len(slots):cap(slots)], value...)
}
