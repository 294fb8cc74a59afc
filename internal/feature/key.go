package feature

import (
	"strconv"
)

// AppendKey appends the stored form of the entity key of one row: the keys in the order of their entity, each but the last as
// its length in decimal, a colon, its bytes and a comma; the last as its bytes alone. Integers are written in decimal, strings and
// bytes as they are. So a single key is stored as itself ("N14228"), and two different rows never share a form
// ("2:ab,c" is not "1:a,bc").
//
// It reports false, and appends nothing of use, where a key is not Present: a row with a null key belongs to no entity.
func AppendKey(dst []byte, keys []*Column, row int) ([]byte, bool) {
	for i, key := range keys {
		if !key.IsPresent(row) {
			return dst, false
		}
		if i == len(keys)-1 {
			return appendKeyPart(dst, key, row), true
		}
		var scratch [24]byte
		part := key.keyBytes(scratch[:0], row)
		dst = strconv.AppendInt(dst, int64(len(part)), 10)
		dst = append(dst, ':')
		dst = append(dst, part...)
		dst = append(dst, ',')
	}
	return dst, true
}

func appendKeyPart(dst []byte, key *Column, row int) []byte {
	switch key.Type {
	case Int32:
		return strconv.AppendInt(dst, int64(key.Int32s[row]), 10)
	case Int64:
		return strconv.AppendInt(dst, key.Int64s[row], 10)
	default:
		return append(dst, key.BytesAt(row)...)
	}
}

// keyBytes returns the bytes of one key part, in scratch where it is a number.
func (c *Column) keyBytes(scratch []byte, row int) []byte {
	if c.Type == String || c.Type == Bytes {
		return c.BytesAt(row)
	}
	return appendKeyPart(scratch, c, row)
}

// KeyBatch is some rows of a source, in row order: who they are about and when. It is what the join and the syncer
// stream; feature values are fetched later, for the rows that win.
type KeyBatch struct {
	// First is the position in the fragment of the first row, from 0; the others follow it without a gap.
	First int64
	// Keys has one column a key of the entity, in that order.
	Keys []*Column
	// EventTimes is a TIMESTAMP column.
	EventTimes *Column
	// CreatedTimes is a TIMESTAMP column, nil where the source has no created time.
	CreatedTimes *Column
	// Deleted is a BOOL column that says which rows delete their entity (tombstones); null is false. It is nil where the view has no such column
	// (Source.DeletedColumn).
	Deleted *Column
}

// Len returns the number of rows.
func (b KeyBatch) Len() int { return b.EventTimes.Len() }
