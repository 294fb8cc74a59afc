package feature

import (
	"bytes"
	"encoding/binary"
	"unsafe"
)

const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
	// packBits gathers the lowest bits of eight bytes, the first lowest, in the highest byte of its product with them.
	packBits = 0x0102040810204080
)

// AllPresent reports whether every status is Present.
func AllPresent(statuses []Status) bool {
	return bytes.Count(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(statuses))), len(statuses)), []byte{byte(Present)}) == len(statuses) // a Status is a byte
}

// AppendPresentBits appends a bitmap that has a bit for each status, the lowest of a byte first: 1 for Present. Bits behind the last status are 0.
func AppendPresentBits(dst []byte, statuses []Status) []byte {
	for ; len(statuses) >= 8; statuses = statuses[8:] {
		dst = append(dst, byte(eightPresent((*[8]Status)(statuses))*packBits>>56))
	}
	if len(statuses) > 0 {
		var last [8]Status
		copy(last[:], statuses)
		dst = append(dst, byte(eightPresent(&last)*packBits>>56))
	}
	return dst
}

// AppendPresentBytes appends a byte for each status: 1 for Present, 0 for the others.
func AppendPresentBytes(dst []byte, statuses []Status) []byte {
	for ; len(statuses) >= 8; statuses = statuses[8:] {
		dst = binary.LittleEndian.AppendUint64(dst, eightPresent((*[8]Status)(statuses)))
	}
	for _, s := range statuses {
		present := byte(0)
		if s == Present {
			present = 1
		}
		dst = append(dst, present)
	}
	return dst
}

// eightPresent returns a byte for each of eight statuses, the first lowest: 1 for Present, 0 for the others.
func eightPresent(s *[8]Status) uint64 {
	differ := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
	differ ^= uint64(Present) * lowBits
	// The highest bit of a byte is set where the byte is not 0: by itself, or by carrying into it, which no byte does into the next.
	return ^(differ | (differ&^highBits + ^uint64(highBits))) & highBits >> 7
}
