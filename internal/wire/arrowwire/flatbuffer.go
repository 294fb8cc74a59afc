package arrowwire

import (
	"encoding/binary"

	"github.com/twofold-ml/twofold/internal/fault"
)

// An Arrow message's metadata is a flatbuffer. Its scalars and strings are read within bounds by whoever reads them; what must be
// checked before is what Arrow's reader makes room for (the lengths of vectors), and how often and how deep tables refer
// to tables, which may be the same ones over and over.
//
// See https://arrow.apache.org/docs/format/Columnar.html and Message.fbs, Schema.fbs there.

// table describes the fields of a kind of table that hold more than scalars, by their number.
type table struct {
	// vectors are fields that are vectors of scalars or structs: the bytes of one element.
	vectors map[int]int
	// lists are fields that are vectors of tables.
	lists map[int]*table
	// tables are fields that are tables.
	tables map[int]*table
	// unions are fields that are tables of a kind that the field before them chooses; any other kind holds scalars and strings only.
	unions map[int]map[byte]*table
}

// Numbers of fields that are looked at by themselves.
const (
	messageHeaderType  = 1
	messageHeader      = 2
	messageBodySize    = 3
	schemaFields       = 1
	fieldTypeType      = 2
	fieldDictionary    = 4
	fieldChildren      = 5
	dictionaryData     = 1
	batchBuffers       = 2
	batchVariadicCount = 4
)

// Numbers of message headers and of types.
const (
	headerSchema          = 1
	headerDictionaryBatch = 2
	headerRecordBatch     = 3
	typeBinaryView        = 23
	typeStringView        = 24
)

var (
	plainTable = &table{}
	unionType  = &table{vectors: map[int]int{1: 4}}
	fieldTable = newFieldTable()
	// Field 1 of a schema is its fields, 2 its metadata, 3 its features.
	schemaTable     = &table{lists: map[int]*table{schemaFields: fieldTable, 2: plainTable}, vectors: map[int]int{3: 8}}
	batchTable      = &table{vectors: map[int]int{1: 16, batchBuffers: 16, batchVariadicCount: 8}, tables: map[int]*table{3: plainTable}}
	dictionaryTable = &table{tables: map[int]*table{dictionaryData: batchTable}}
	messageTable    = &table{
		unions: map[int]map[byte]*table{messageHeader: {headerSchema: schemaTable, headerDictionaryBatch: dictionaryTable, headerRecordBatch: batchTable}},
		lists:  map[int]*table{4: plainTable},
	}
)

// newFieldTable describes a field, whose children are fields: 3 is its type, 4 its dictionary, 6 its metadata.
func newFieldTable() *table {
	t := &table{
		unions: map[int]map[byte]*table{3: {14: unionType}},
		tables: map[int]*table{fieldDictionary: {tables: map[int]*table{1: plainTable}}},
	}
	t.lists = map[int]*table{fieldChildren: t, 6: plainTable}
	return t
}

const (
	// maxTables bounds the tables of one message, counted as often as they are referred to.
	maxTables = 1 << 18
	// maxTableDepth bounds how deep they are nested.
	maxTableDepth = 64
)

// messageChecker checks the messages of one stream, in order.
type messageChecker struct {
	// views is the number of columns of views in the schema, −1 before it has come.
	views int
}

// check checks the metadata of one message and returns the size of its body.
func (m *messageChecker) check(buf []byte) (bodyBytes int64, err error) {
	damaged := fault.New(fault.Invalid, "an Arrow message is damaged: its metadata refers to what it does not hold, or to too much")
	c := &flatbufferChecker{buf: buf}
	root, ok := c.offset(0)
	if !ok || !c.table(root, messageTable, 0) {
		return 0, damaged
	}
	header, hasHeader := c.child(root, messageHeader)
	switch kind := c.byteAt(root, messageHeaderType); {
	case !hasHeader:
		return 0, damaged
	case kind == headerSchema && m.views < 0:
		views, ok := c.schemaViews(header)
		if !ok {
			return 0, fault.New(fault.Invalid, "a dictionary of string views or binary views cannot be read; cast it to a dictionary of strings or binaries")
		}
		m.views = views
	case kind == headerRecordBatch:
		ok = c.variadicCounts(header, max(0, m.views))
	case kind == headerDictionaryBatch:
		if data, has := c.child(header, dictionaryData); has {
			ok = c.variadicCounts(data, 0)
		}
	}
	if !ok {
		return 0, damaged
	}
	if at, ok := c.field(root, messageBodySize); ok && at+8 <= len(buf) {
		bodyBytes = int64(binary.LittleEndian.Uint64(buf[at:]))
	}
	return bodyBytes, nil
}

type flatbufferChecker struct {
	buf    []byte
	tables int
}

// offset returns the place that the offset at a place refers to.
func (c *flatbufferChecker) offset(at int) (int, bool) {
	if at < 0 || at+4 > len(c.buf) {
		return 0, false
	}
	to := at + int(binary.LittleEndian.Uint32(c.buf[at:]))
	return to, to+4 <= len(c.buf)
}

// field returns the place of a table's field; false where it is not there. The table has been checked.
func (c *flatbufferChecker) field(at, number int) (int, bool) {
	vtable := at - int(int32(binary.LittleEndian.Uint32(c.buf[at:])))
	size := int(binary.LittleEndian.Uint16(c.buf[vtable:]))
	slot := 4 + 2*number
	if slot+2 > size {
		return 0, false
	}
	offset := int(binary.LittleEndian.Uint16(c.buf[vtable+slot:]))
	return at + offset, offset != 0
}

// table checks a table and all below it.
func (c *flatbufferChecker) table(at int, t *table, depth int) bool {
	c.tables++
	if c.tables > maxTables || depth > maxTableDepth || at+4 > len(c.buf) {
		return false
	}
	vtable := at - int(int32(binary.LittleEndian.Uint32(c.buf[at:])))
	if vtable < 0 || vtable+4 > len(c.buf) || vtable+int(binary.LittleEndian.Uint16(c.buf[vtable:])) > len(c.buf) {
		return false
	}
	for number, size := range t.vectors {
		if at, ok := c.field(at, number); ok {
			if _, _, ok := c.vector(at, size); !ok {
				return false
			}
		}
	}
	for number, kind := range t.lists {
		if at, ok := c.field(at, number); ok && !c.list(at, kind, depth) {
			return false
		}
	}
	for number, kind := range t.tables {
		if at, ok := c.field(at, number); ok && !c.reference(at, kind, depth) {
			return false
		}
	}
	for number, kinds := range t.unions {
		if !c.union(at, number, kinds, depth) {
			return false
		}
	}
	return true
}

// child returns the table in a field. The table that has the field has been checked.
func (c *flatbufferChecker) child(at, number int) (int, bool) {
	if at, ok := c.field(at, number); ok {
		return c.offset(at)
	}
	return 0, false
}

// byteAt returns a field of one byte, 0 where it is not there.
func (c *flatbufferChecker) byteAt(at, number int) byte {
	if at, ok := c.field(at, number); ok && at < len(c.buf) {
		return c.buf[at]
	}
	return 0
}

// schemaViews returns the number of columns, and children of columns, that are string views or binary views. It reports false where
// one is in a dictionary. The schema has been checked.
func (c *flatbufferChecker) schemaViews(schema int) (views int, ok bool) {
	return c.fieldViews(schema, schemaFields, false)
}

// fieldViews is schemaViews for the list of fields in a field of a table.
func (c *flatbufferChecker) fieldViews(at, number int, dictionary bool) (views int, ok bool) {
	at, has := c.field(at, number)
	if !has {
		return 0, true
	}
	first, length, _ := c.vector(at, 4)
	for i := range length {
		field, _ := c.offset(first + 4*i)
		_, encoded := c.field(field, fieldDictionary)
		encoded = encoded || dictionary
		if kind := c.byteAt(field, fieldTypeType); kind == typeStringView || kind == typeBinaryView {
			if encoded {
				return 0, false
			}
			views++
		}
		below, ok := c.fieldViews(field, fieldChildren, encoded)
		if !ok {
			return 0, false
		}
		views += below
	}
	return views, true
}

// variadicCounts checks that a batch says of each column of views how many buffers it has, and not more than there are. The batch has
// been checked.
func (c *flatbufferChecker) variadicCounts(batch, views int) bool {
	at, ok := c.field(batch, batchVariadicCount)
	if !ok {
		return views == 0
	}
	left := uint64(0)
	if at, ok := c.field(batch, batchBuffers); ok {
		_, buffers, _ := c.vector(at, 16)
		left = uint64(buffers)
	}
	first, counts, _ := c.vector(at, 8)
	for i := range counts {
		count := binary.LittleEndian.Uint64(c.buf[first+8*i:])
		if count > left {
			return false
		}
		left -= count
	}
	return counts >= views
}

// vector returns the place of the first element of the vector that the offset at a place refers to, and their number.
func (c *flatbufferChecker) vector(at, elementSize int) (first, length int, ok bool) {
	to, ok := c.offset(at)
	if !ok {
		return 0, 0, false
	}
	length = int(binary.LittleEndian.Uint32(c.buf[to:]))
	first = to + 4
	return first, length, length <= (len(c.buf)-first)/elementSize
}

func (c *flatbufferChecker) list(at int, kind *table, depth int) bool {
	first, length, ok := c.vector(at, 4)
	for i := range length {
		if !ok || !c.reference(first+4*i, kind, depth) {
			return false
		}
	}
	return ok
}

func (c *flatbufferChecker) reference(at int, kind *table, depth int) bool {
	to, ok := c.offset(at)
	return ok && c.table(to, kind, depth+1)
}

func (c *flatbufferChecker) union(at, number int, kinds map[byte]*table, depth int) bool {
	value, ok := c.field(at, number)
	if !ok {
		return true
	}
	choice, ok := c.field(at, number-1)
	if !ok {
		return true
	}
	if choice >= len(c.buf) {
		return false
	}
	kind, ok := kinds[c.buf[choice]]
	if !ok {
		kind = plainTable
	}
	return c.reference(value, kind, depth)
}
