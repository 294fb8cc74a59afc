package training

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/zeebo/xxh3"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

// tableHash identifies the content of a table: its columns' names, types, statuses and values, in order. How the rows came, in which batches and in which
// Arrow form, makes no difference. docs/reference/training-manifest.md specifies the bytes that are hashed; whoever changes them changes that page.
type tableHash struct {
	names   []string
	columns []columnHash
	rows    uint64
}

// columnHash hashes one column: 1 for each row with a value and 0 for each without; the values, zero where there is none; and the lengths
// of values of variable length.
type columnHash struct {
	typeName string
	// encoded says that the type is none of Twofold's, so that appendValue's form of each value is hashed.
	encoded                 bool
	status, values, lengths xxh3.Hasher128
	scratch                 []byte
}

func newTableHash(schema *arrow.Schema) *tableHash {
	h := &tableHash{}
	for _, field := range schema.Fields() {
		c := columnHash{}
		plain := plainType(field.Type)
		if t, err := arrowwire.TypeOf(plain); err == nil && plain.ID() != arrow.UINT64 {
			c.typeName = t.String()
		} else {
			c.typeName, c.encoded = plain.String(), true
		}
		h.names, h.columns = append(h.names, field.Name), append(h.columns, c)
	}
	return h
}

// add hashes the next rows: all columns or, after an error, which names the column, none.
func (h *tableHash) add(arrays []arrow.Array) error {
	columns := make([]*feature.Column, len(arrays))
	for i, a := range arrays {
		var err error
		if columns[i], err = h.columns[i].column(a); err != nil {
			return fmt.Errorf("column %q: %w", h.names[i], err)
		}
	}
	h.addColumns(0, columns)
	if len(arrays) > 0 {
		h.rows += uint64(arrays[0].Len())
	}
	return nil
}

// addColumns hashes the next rows of the columns from first on, which are not counted as rows: add comes with them.
func (h *tableHash) addColumns(first int, columns []*feature.Column) {
	for i, c := range columns {
		h.columns[first+i].add(c)
	}
}

// column converts an array.
func (h *columnHash) column(a arrow.Array) (*feature.Column, error) {
	if h.encoded {
		return encodedColumn(a)
	}
	return arrowwire.FromArray(a)
}

func (h *columnHash) add(c *feature.Column) {
	h.scratch = feature.AppendPresentBytes(h.scratch[:0], c.Status)
	write(&h.status, h.scratch)
	if c.Offsets != nil {
		h.addLengths(c)
	}
	if c.Elem != nil {
		c = c.Elem
	}
	h.addValues(c)
}

// addValues hashes values, or elements of lists, without statuses and lengths.
func (h *columnHash) addValues(c *feature.Column) {
	switch c.Type {
	case feature.Bool:
		h.scratch = h.scratch[:0]
		for _, v := range c.Bools {
			h.scratch = append(h.scratch, oneIf(v))
		}
		write(&h.values, h.scratch)
	case feature.Int32:
		write(&h.values, arrow.Int32Traits.CastToBytes(c.Int32s))
	case feature.Int64, feature.Timestamp:
		write(&h.values, arrow.Int64Traits.CastToBytes(c.Int64s))
	case feature.Float:
		write(&h.values, arrow.Float32Traits.CastToBytes(c.Floats))
	case feature.Double:
		write(&h.values, arrow.Float64Traits.CastToBytes(c.Doubles))
	default:
		write(&h.values, c.Data)
	}
}

// addLengths hashes the length of each row's value, in bytes or in elements; after that of a list of strings or bytes those of its elements. Row by
// row, because how many rows come at once must make no difference.
func (h *columnHash) addLengths(c *feature.Column) {
	h.scratch = h.scratch[:0]
	for i := range c.Len() {
		h.scratch = appendLength(h.scratch, c.Offsets[i+1]-c.Offsets[i])
		if c.Elem == nil || c.Elem.Offsets == nil {
			continue
		}
		for k := c.Offsets[i]; k < c.Offsets[i+1]; k++ {
			h.scratch = appendLength(h.scratch, c.Elem.Offsets[k+1]-c.Elem.Offsets[k])
		}
	}
	write(&h.lengths, h.scratch)
}

// appendLength appends a length as 8 bytes.
func appendLength(dst []byte, length int) []byte {
	return binary.LittleEndian.AppendUint64(dst, uint64(length))
}

func oneIf(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// write hashes bytes. A hash takes any.
func write(h *xxh3.Hasher128, b []byte) { _, _ = h.Write(b) }

// sum returns the hash of all rows so far: 32 hexadecimal digits.
func (h *tableHash) sum() string {
	var all []byte
	text := func(s string) { all = append(appendLength(all, len(s)), s...) }
	all = binary.LittleEndian.AppendUint64(all, h.rows)
	for i := range h.columns {
		c := &h.columns[i]
		text(h.names[i])
		text(c.typeName)
		for _, part := range []*xxh3.Hasher128{&c.status, &c.values, &c.lengths} {
			digest := part.Sum128().Bytes()
			all = append(all, digest[:]...)
		}
	}
	digest := xxh3.Hash128(all).Bytes()
	return hex.EncodeToString(digest[:])
}
