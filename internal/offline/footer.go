package offline

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"github.com/apache/arrow-go/v18/parquet/metadata"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// Bounds that no sound file comes near, and past which a file is refused rather than believed.
const (
	// maxFooterBytes bounds the metadata of one file.
	maxFooterBytes = 128 << 20
	// maxSchemaDepth bounds how deep columns are nested.
	maxSchemaDepth = 64
	// maxRowGroupRows bounds the rows of one row group, and the values of one of its columns.
	maxRowGroupRows = 1 << 40
)

const (
	magic          = "PAR1"
	magicEncrypted = "PARE"
	// tailBytes is how much of the end of a file is read first: most footers fit.
	tailBytes = 64 << 10
)

// footer is what is kept of the checked metadata of one file: there may be a hundred thousand of them at once.
type footer struct {
	// columns are shared by all files of one schema.
	columns []column
	groups  []rowGroup
	rows    int64
}

// rowGroup is the checked layout of one row group.
type rowGroup struct {
	rows   int64
	chunks []chunk
	// times are of the columns of times that have sound statistics.
	times []leafTimes
}

// leafTimes is the least and the greatest time of one column.
type leafTimes struct {
	leaf  int
	times feature.TimeRange
}

// chunk says where one column of one row group is.
type chunk struct {
	offset, length int64
	values         int64
	uncompressed   int64
	// Where the page index of the column is; empty where there is none.
	columnIndex, offsetIndex byteRange
	codec                    codec
}

// sizeBytes is the memory that the footer takes, about, without what it shares.
func (f *footer) sizeBytes() int {
	size := int(unsafe.Sizeof(*f))
	for _, g := range f.groups {
		size += int(unsafe.Sizeof(g)) + len(g.chunks)*int(unsafe.Sizeof(chunk{})) + len(g.times)*int(unsafe.Sizeof(leafTimes{}))
	}
	return size
}

// corrupt makes an error of kind Corrupt about a whole file.
func corrupt(o object, format string, args ...any) error {
	return fault.New(fault.Corrupt, "%s is not a readable Parquet file: %w", o.at, fmt.Errorf(format, args...))
}

// readFooter reads and checks the metadata of a file. schemas are those of files that were read before.
func readFooter(ctx context.Context, r objectReader, o object, schemas *schemaCache) (*footer, error) {
	tail := freeBuffers.Get().(*[]byte)
	defer freeBuffers.Put(tail)
	raw, err := readFooterBytes(ctx, r, o, tail)
	if err != nil {
		return nil, err
	}
	schema, err := checkFooter(raw)
	if err != nil {
		return nil, corrupt(o, "its metadata is damaged: %w", err)
	}
	f, err := parseFooter(raw, schema, o.size, schemas)
	if err != nil {
		return nil, corrupt(o, "%w", err)
	}
	return f, nil
}

// readFooterBytes gives the serialized metadata: the end of the file is metadata, its length, and "PAR1". It is read into buffer where it fits.
func readFooterBytes(ctx context.Context, r objectReader, o object, buffer *[]byte) ([]byte, error) {
	if o.size == 0 {
		return nil, corrupt(o, "it is empty")
	}
	if o.size < int64(len(magic))*2+4 {
		return nil, corrupt(o, "it has only %d bytes; was it cut off?", o.size)
	}
	*buffer = slices.Grow((*buffer)[:0], tailBytes)
	tail := (*buffer)[:min(o.size, tailBytes)]
	if err := r.readAt(ctx, tail, o.size-int64(len(tail))); err != nil {
		return nil, err
	}
	switch end := string(tail[len(tail)-4:]); end {
	case magic:
	case magicEncrypted:
		return nil, fault.New(fault.Precondition, "%s is encrypted; encrypted Parquet files are not supported", o.at)
	default:
		return nil, corrupt(o, "it ends in %q where Parquet files end in %q; was it cut off, or is it of another format?", end, magic)
	}
	length := int64(binary.LittleEndian.Uint32(tail[len(tail)-8:]))
	if length == 0 || length > o.size-12 || length > maxFooterBytes {
		return nil, corrupt(o, "its metadata is said to have %d bytes, in a file of %d", length, o.size)
	}
	if n := int64(len(tail)) - 8; length <= n {
		return tail[n-length : n], nil
	}
	raw := make([]byte, length)
	if err := r.readAt(ctx, raw, o.size-8-length); err != nil {
		return nil, err
	}
	return raw, nil
}

// checkFooter walks the serialized FileMetaData so that a generated reader, which allocates as it is told, is told no lies. It gives the
// part that describes the schema.
func checkFooter(raw []byte) (schema []byte, err error) {
	r := &compactReader{b: raw}
	r.fields(0, func(id int16, kind byte) {
		if id == 2 && kind == compactList {
			start := r.pos
			checkSchemaElements(r)
			schema = raw[start:r.pos]
			return
		}
		r.skip(kind, 0)
	})
	return schema, r.err
}

// checkSchemaElements walks the flattened tree of the schema: each group says how many of the following elements are its children.
func checkSchemaElements(r *compactReader) {
	size, elem := r.list()
	if elem != compactStruct || size == 0 {
		r.fail(errCompactBroken)
		return
	}
	open := []int{1} // children still to come, of each group that is open
	for i := range size {
		if len(open) == 0 || len(open) > maxSchemaDepth {
			r.fail(errCompactBroken)
			return
		}
		children := 0
		r.fields(1, func(id int16, kind byte) {
			if id == 5 && kind == compactI32 {
				children = int(r.int32())
				return
			}
			r.skip(kind, 1)
		})
		if r.err != nil {
			return
		}
		if children < 0 || children > size-1-i {
			r.fail(fmt.Errorf("a column has %d children", children))
			return
		}
		open[len(open)-1]--
		if children > 0 {
			open = append(open, children)
		}
		for len(open) > 0 && open[len(open)-1] == 0 {
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		r.fail(errors.New("the schema lacks columns"))
	}
}

// parseFooter parses checked metadata and checks what it says against the size of the file.
func parseFooter(raw, schema []byte, fileSize int64, schemas *schemaCache) (f *footer, err error) {
	defer recoverAs(&err)
	meta, err := metadata.NewFileMetaData(raw, nil)
	if err != nil {
		return nil, err
	}
	meta.SetSourceFileSize(fileSize)
	if meta.IsSetEncryptionAlgorithm() {
		return nil, errors.New("it is encrypted, which is not supported")
	}
	f = &footer{columns: schemas.columns(schema, meta.Schema)}
	for g := range meta.NumRowGroups() {
		group, err := parseRowGroup(meta, g, fileSize, f.columns)
		if err != nil {
			return nil, fmt.Errorf("row group %d: %w", g, err)
		}
		f.groups = append(f.groups, group)
		f.rows += group.rows
	}
	return f, nil
}

func parseRowGroup(meta *metadata.FileMetaData, g int, fileSize int64, columns []column) (rowGroup, error) {
	m := meta.RowGroup(g)
	leaves := meta.Schema.NumColumns()
	if m.NumRows() < 0 || m.NumRows() > maxRowGroupRows {
		return rowGroup{}, fmt.Errorf("it has %d rows", m.NumRows())
	}
	if m.NumColumns() != leaves {
		return rowGroup{}, fmt.Errorf("it has %d columns, the schema %d", m.NumColumns(), leaves)
	}
	group := rowGroup{rows: m.NumRows(), chunks: make([]chunk, leaves)}
	for i := range leaves {
		descr := meta.Schema.Column(i)
		c, err := m.ColumnChunk(i)
		if err != nil {
			return rowGroup{}, fmt.Errorf("column %q: %w", descr.Path(), err)
		}
		if group.chunks[i], err = parseChunk(c, group.rows, fileSize); err != nil {
			return rowGroup{}, fmt.Errorf("column %q: %w", descr.Path(), err)
		}
		if meta.WriterVersion().LessThan(metadata.Parquet816FixedVersion) {
			group.chunks[i].pad(fileSize)
		}
		if c.Type() != descr.PhysicalType() {
			return rowGroup{}, fmt.Errorf("column %q is %v here, but %v in the schema", descr.Path(), c.Type(), descr.PhysicalType())
		}
		if descr.MaxRepetitionLevel() == 0 && group.chunks[i].values != group.rows {
			return rowGroup{}, fmt.Errorf("column %q has %d values for %d rows", descr.Path(), group.chunks[i].values, group.rows)
		}
	}
	for _, c := range columns {
		if c.natural != feature.Timestamp {
			continue
		}
		if times, ok := timesOf(meta, g, c); ok {
			group.times = append(group.times, leafTimes{c.leaf, times})
		}
	}
	return group, nil
}

func parseChunk(m *metadata.ColumnChunkMetaData, rows, fileSize int64) (chunk, error) {
	start := m.DataPageOffset()
	if m.HasDictionaryPage() && m.DictionaryPageOffset() > 0 {
		start = min(start, m.DictionaryPageOffset())
	}
	c := chunk{
		offset:       start,
		length:       m.TotalCompressedSize(),
		values:       m.NumValues(),
		uncompressed: m.TotalUncompressedSize(),
		columnIndex:  indexRange(m.GetColumnIndexLocation(), fileSize),
		offsetIndex:  indexRange(m.GetOffsetIndexLocation(), fileSize),
		codec:        codec(m.Compression()),
	}
	switch {
	case m.FilePath() != "":
		return c, fmt.Errorf("its values are in another file (%q), which is not supported", m.FilePath())
	case m.CryptoMetadata() != nil:
		return c, errors.New("it is encrypted, which is not supported")
	case c.values < 0 || c.values > maxRowGroupRows:
		return c, fmt.Errorf("it is said to have %d values", c.values)
	case rows == 0:
		// Nothing is read of it, and writers say all sorts of things about where it is: pyarrow puts its data page at byte 0.
		return chunk{values: c.values, codec: c.codec}, nil
	case c.offset < int64(len(magic)) || c.length <= 0 || c.length > fileSize-8 || c.offset > fileSize-8-c.length:
		return c, fmt.Errorf("it is said to take %d bytes from byte %d, in a file of %d; was the file cut off?", c.length, c.offset, fileSize)
	case c.uncompressed < 0:
		return c, fmt.Errorf("its uncompressed size is said to be %d", c.uncompressed)
	}
	return c, nil
}

// indexRange gives where a part of the page index is; nowhere, where it is not in the file.
func indexRange(l *metadata.IndexLocation, fileSize int64) byteRange {
	if l == nil || l.Offset < int64(len(magic)) || l.Length <= 0 || l.Length > maxIndexBytes || l.Offset > fileSize-8-int64(l.Length) {
		return byteRange{}
	}
	return byteRange{l.Offset, l.Offset + int64(l.Length)}
}

// dictionaryHeaderBytes is what old writers can have left out of a column's length.
const dictionaryHeaderBytes = 100

// pad makes up for parquet-mr before 1.2.9, which did not count the header of the dictionary. What follows the last page is not read.
func (c *chunk) pad(fileSize int64) {
	c.length += max(0, min(dictionaryHeaderBytes, fileSize-8-c.offset-c.length))
}

// recoverAs turns a panic of a decoder into an error. Use it deferred.
func recoverAs(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the decoder gave up: %v", p)
	}
}
