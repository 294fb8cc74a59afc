package feature

import (
	"bytes"
	"strconv"

	"github.com/twofold-ml/twofold/internal/fault"
)

// DecodeKey is the inverse of AppendKey: it appends to each of dst, columns of the entity's key types in its order, the key that
// stored holds. The error is of kind Corrupt where stored is not what AppendKey would write for these types; the columns may then differ in length.
func DecodeKey(dst []*Column, stored []byte) error {
	rest := stored
	for i, column := range dst {
		part := rest
		if i < len(dst)-1 {
			var ok bool
			if part, rest, ok = cutKeyPart(rest); !ok {
				return badKey(stored, i, "has no length and comma")
			}
		}
		if !column.appendKeyPart(part) {
			return badKey(stored, i, "is not the decimal form of the type "+column.Type.String())
		}
	}
	return nil
}

func badKey(stored []byte, part int, what string) error {
	return fault.New(fault.Corrupt, "stored entity key %q: key %d (counted from 0) %s", stored, part, what)
}

// cutKeyPart splits "2:ab,rest" into "ab" and "rest".
func cutKeyPart(stored []byte) (part, rest []byte, ok bool) {
	length, rest, ok := bytes.Cut(stored, []byte{':'})
	if !ok {
		return nil, nil, false
	}
	n, ok := parseDecimal(length, 64)
	if !ok || n < 0 || n >= int64(len(rest)) || rest[n] != ',' {
		return nil, nil, false
	}
	return rest[:n], rest[n+1:], true
}

// appendKeyPart appends one key from its stored bytes and reports whether they have the form of its type.
func (c *Column) appendKeyPart(part []byte) bool {
	switch c.Type {
	case Int32:
		v, ok := parseDecimal(part, 32)
		c.AppendInt32(int32(v))
		return ok
	case Int64:
		v, ok := parseDecimal(part, 64)
		c.AppendInt64(v)
		return ok
	default:
		c.AppendBytes(part)
		return true
	}
}

// parseDecimal reads an integer in the one form that strconv.AppendInt gives it: no plus, no leading zeros.
func parseDecimal(b []byte, bits int) (int64, bool) {
	v, err := strconv.ParseInt(string(b), 10, bits)
	if err != nil {
		return 0, false
	}
	var scratch [24]byte
	return v, bytes.Equal(strconv.AppendInt(scratch[:0], v, 10), b)
}
