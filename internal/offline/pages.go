package offline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/twofold-ml/twofold/internal/fault"
)

// Bounds of one page. Writers make pages of about 1 MiB; a page holds at least one whole value.
const (
	maxPageBytes       = 256 << 20
	maxPageHeaderBytes = 1 << 20
	// doubtedPageBytes is the size from which on a page must fit what the footer says of the whole column. Below it, the footer need
	// not be right: some writers leave headers out of their sums.
	doubtedPageBytes = 8 << 20
	// pageHeaderGuess is how many bytes are looked at first for a page header.
	pageHeaderGuess = 128
)

// Kinds of pages.
const (
	pageData       = 0
	pageIndex      = 1
	pageDictionary = 2
	pageDataV2     = 3
)

// pageHeader is Parquet's PageHeader, as far as it is needed.
type pageHeader struct {
	kind                     int32
	uncompressed, compressed int32
	values, nulls, rows      int32
	encoding                 int32
	defEncoding, repEncoding int32
	defBytes, repBytes       int32
	isCompressed             bool
	hasBody                  bool
	checksum                 uint32
	hasChecksum              bool
}

// parsePageHeader reads a page header from the start of b and gives its length. errCompactShort asks for more bytes.
func parsePageHeader(b []byte) (h pageHeader, length int, err error) {
	h.isCompressed = true
	r := &compactReader{b: b}
	r.fields(0, func(id int16, kind byte) {
		switch {
		case id == 1 && kind == compactI32:
			h.kind = r.int32()
		case id == 2 && kind == compactI32:
			h.uncompressed = r.int32()
		case id == 3 && kind == compactI32:
			h.compressed = r.int32()
		case id == 4 && kind == compactI32:
			h.checksum, h.hasChecksum = uint32(r.int32()), true
		case kind == compactStruct && (id == 5 || id == 7 || id == 8):
			h.parseBody(r, id)
		default:
			r.skip(kind, 0)
		}
	})
	return h, r.pos, r.err
}

// parseBody reads the header that belongs to the kind of page: id is 5 for data pages, 7 for dictionaries and 8 for data pages V2.
func (h *pageHeader) parseBody(r *compactReader, id int16) {
	targets := map[int16][]*int32{
		5: {&h.values, &h.encoding, &h.defEncoding, &h.repEncoding},
		7: {&h.values, &h.encoding},
		8: {&h.values, &h.nulls, &h.rows, &h.encoding, &h.defBytes, &h.repBytes},
	}[id]
	if (id == 5 && h.kind == pageData) || (id == 7 && h.kind == pageDictionary) || (id == 8 && h.kind == pageDataV2) {
		h.hasBody = true
	}
	r.fields(1, func(field int16, kind byte) {
		switch {
		case kind == compactI32 && field >= 1 && int(field) <= len(targets):
			*targets[field-1] = r.int32()
		case id == 8 && field == 7 && (kind == compactTrue || kind == compactFalse):
			h.isCompressed = kind == compactTrue
		default:
			r.skip(kind, 1)
		}
	})
}

// check compares the header with the bytes and values that the chunk still has.
func (h *pageHeader) check(c chunk, bytesLeft, valuesLeft int64) error {
	switch {
	case h.uncompressed < 0 || h.compressed < 0 || h.uncompressed > maxPageBytes:
		return fmt.Errorf("a page has %d bytes, uncompressed %d; at most %d are read", h.compressed, h.uncompressed, maxPageBytes)
	case h.uncompressed > doubtedPageBytes && int64(h.uncompressed)/2 > c.uncompressed:
		return fmt.Errorf("a page has %d bytes, uncompressed, but the whole column %d", h.uncompressed, c.uncompressed)
	case int64(h.compressed) > bytesLeft:
		return fmt.Errorf("a page has %d bytes, but the column only %d more", h.compressed, bytesLeft)
	case h.kind != pageData && h.kind != pageDataV2 && h.kind != pageDictionary:
		return nil
	case !h.hasBody:
		return errors.New("a page has no header of its kind")
	case h.values < 0:
		return fmt.Errorf("a page has %d values", h.values)
	case h.kind != pageDictionary && int64(h.values) > valuesLeft:
		return fmt.Errorf("a page has %d values, but the column only %d more", h.values, valuesLeft)
	case h.kind == pageDataV2 && (h.defBytes < 0 || h.repBytes < 0 || h.rows < 0 || h.rows > h.values || h.nulls < 0 ||
		int64(h.defBytes)+int64(h.repBytes) > int64(min(h.uncompressed, h.compressed))):
		return errors.New("a page's levels do not fit into it")
	}
	return nil
}

// dataPage is a data page that is checked and decompressed. It is valid until the next one is read.
type dataPage struct {
	pageHeader
	body []byte
	// levels is how many bytes of levels a V2 page begins with.
	levels int
}

// dictionaryPage holds the values that data pages refer to.
type dictionaryPage struct {
	pageHeader
	body []byte
	// starts of its byte arrays, once they are known.
	starts []uint32
}

// pageReader walks the pages of one column chunk, checks them and decompresses them.
type pageReader struct {
	ctx   context.Context
	span  span
	chunk chunk
	descr *schema.Column
	// locations says where the data pages are, nil where that is not known.
	locations []pageLocation

	pos        int64 // of the next page header
	valuesRead int64 // values of the data pages passed
	dictionary *dictionaryPage

	// Rows are known where every row is one value: those of the page read last.
	firstRow, endRow int64

	decompressor decompressor
	buffers      *pageBuffers
}

func newPageReader(ctx context.Context, s span, c chunk, descr *schema.Column, locations []pageLocation) *pageReader {
	return &pageReader{
		ctx: ctx, span: s, chunk: c, descr: descr, locations: locations, pos: c.offset,
		decompressor: decompressor{codec: c.codec}, buffers: takePageBuffers(),
	}
}

// close gives the memory of the pages back: they are not valid any more.
func (p *pageReader) close() {
	p.buffers.release()
	p.buffers, p.dictionary = nil, nil
}

// next gives the next data page that has values; nil is the end. Where every row is one value, pages that end at or before row
// from are passed over without being decompressed, and, where it is known where they are, without being read.
func (p *pageReader) next(from int64) (*dataPage, error) {
	end := p.chunk.offset + p.chunk.length
	for p.valuesRead < p.chunk.values {
		if err := p.ctx.Err(); err != nil {
			return nil, err
		}
		expected := p.seek(from)
		if p.pos >= end {
			break
		}
		header, length, err := p.readHeader(end)
		if err != nil {
			return nil, err
		}
		bodyAt := p.pos + int64(length)
		if err := header.check(p.chunk, end-bodyAt, p.chunk.values-p.valuesRead); err != nil {
			return nil, err
		}
		if expected >= 0 && header.kind != pageData && header.kind != pageDataV2 { // passing it over would lead back to it
			return nil, errors.New("the page index says that a data page is where another one is")
		}
		p.pos = bodyAt + int64(header.compressed)
		switch header.kind {
		case pageDictionary:
			if err := p.readDictionary(header, bodyAt); err != nil {
				return nil, err
			}
		case pageData, pageDataV2:
			p.firstRow, p.endRow = p.valuesRead, p.valuesRead+int64(header.values)
			p.valuesRead = p.endRow
			if p.locations != nil && expected != int64(header.values) {
				return nil, fmt.Errorf("the page index says that a page has %d values, and the page %d", expected, header.values)
			}
			if header.values == 0 || (p.descr.MaxRepetitionLevel() == 0 && p.endRow <= from) {
				continue
			}
			return p.dataPage(header, bodyAt)
		}
	}
	if p.valuesRead < p.chunk.values {
		return nil, fmt.Errorf("its pages end after %d of %d values", p.valuesRead, p.chunk.values)
	}
	return nil, nil
}

// seek goes to the page that row from is in, where the page index knows it, and gives the number of its values; −1 where that is not known.
// The dictionary, which comes before the data pages, is read first.
func (p *pageReader) seek(from int64) (values int64) {
	if p.locations == nil || p.pos < p.locations[0].offset {
		return -1
	}
	from = max(from, p.valuesRead)
	i, found := slices.BinarySearchFunc(p.locations, from, func(l pageLocation, row int64) int { return cmp.Compare(l.firstRow, row) })
	if !found {
		i-- // the first page begins with row 0, so there is one before
	}
	p.pos, p.valuesRead = p.locations[i].offset, p.locations[i].firstRow
	return p.endOf(i) - p.valuesRead
}

// endOf is the row after the last one of a page of the index.
func (p *pageReader) endOf(i int) int64 {
	if i+1 < len(p.locations) {
		return p.locations[i+1].firstRow
	}
	return p.chunk.values
}

// readHeader parses the header at p.pos.
func (p *pageReader) readHeader(end int64) (pageHeader, int, error) {
	for n := int64(pageHeaderGuess); ; n *= 4 {
		n = min(n, end-p.pos)
		b, err := p.span.upTo(p.ctx, p.pos, int(n))
		if err != nil {
			return pageHeader{}, 0, err
		}
		h, length, err := parsePageHeader(b)
		if err == nil {
			return h, length, nil
		}
		if !errors.Is(err, errCompactShort) || int64(len(b)) < n || n == end-p.pos || n >= maxPageHeaderBytes {
			return pageHeader{}, 0, fmt.Errorf("a page header is damaged: %w", err)
		}
	}
}

// readBody reads what follows a page header, and checks it where its writer left a checksum: the CRC-32 of gzip of the bytes as they are in the file,
// levels included (https://github.com/apache/parquet-format/blob/master/README.md#checksumming). Without it, damaged values may be read as other values.
func (p *pageReader) readBody(h pageHeader, at int64) ([]byte, error) {
	raw, err := p.span.at(p.ctx, at, int(h.compressed))
	if err != nil || !h.hasChecksum {
		return raw, err
	}
	if sum := crc32.ChecksumIEEE(raw); sum != h.checksum {
		return nil, fmt.Errorf("a page's checksum is %08x, and its writer left %08x: the file was damaged since, or is not what was written; copy or write it again", sum, h.checksum)
	}
	return raw, nil
}

func (p *pageReader) readDictionary(h pageHeader, at int64) error {
	if p.dictionary != nil {
		return errors.New("it has two dictionaries")
	}
	raw, err := p.readBody(h, at)
	if err != nil {
		return err
	}
	if p.buffers.dictionary, err = p.decompressor.decompress(p.buffers.dictionary, raw, int(h.uncompressed)); err != nil {
		return err
	}
	p.dictionary = &dictionaryPage{pageHeader: h, body: p.buffers.dictionary}
	return checkDictionary(h, p.dictionary.body, p.descr)
}

func (p *pageReader) dataPage(h pageHeader, at int64) (*dataPage, error) {
	raw, err := p.readBody(h, at)
	if err != nil {
		return nil, err
	}
	page := &dataPage{pageHeader: h}
	if h.kind == pageDataV2 {
		page.levels = int(h.defBytes) + int(h.repBytes)
	}
	if p.buffers.body, err = p.decompressBody(h, raw, page.levels); err != nil {
		return nil, err
	}
	page.body = p.buffers.body
	return page, p.checkValues(page)
}

// decompressBody gives the page's bytes. The levels of a V2 page are never compressed.
func (p *pageReader) decompressBody(h pageHeader, raw []byte, levels int) ([]byte, error) {
	body := p.buffers.body
	if h.kind != pageDataV2 {
		return p.decompressor.decompress(body, raw, int(h.uncompressed))
	}
	if !h.isCompressed || p.chunk.codec == codecNone || len(raw) == levels {
		if len(raw) != int(h.uncompressed) {
			return nil, fmt.Errorf("a page has %d bytes, not %d", len(raw), h.uncompressed)
		}
		return append(slices.Grow(body[:0], len(raw)+pagePadding), raw...), nil
	}
	return p.decompressor.decompressAfter(append(body[:0], raw[:levels]...), raw[levels:], int(h.uncompressed)-levels)
}

// checkValues checks the parts of a page that arrow-go's decoders would believe.
func (p *pageReader) checkValues(page *dataPage) error {
	values := page.body[page.levels:]
	if page.kind == pageData {
		var err error
		if values, err = skipLevels(values, page.pageHeader, p.descr); err != nil {
			return err
		}
	}
	if parquet.Encoding(page.encoding) == parquet.Encodings.DeltaByteArray && p.descr.PhysicalType() == parquet.Types.FixedLenByteArray {
		return fault.New(fault.Precondition, "values of a fixed length in the encoding DELTA_BYTE_ARRAY are not supported; write the column with a dictionary or PLAIN")
	}
	if parquet.Encoding(page.encoding) == parquet.Encodings.DeltaByteArray && noDeltas(values) {
		// arrow-go (v18.8.0) leaves bytes of the page before it between the two headers of a page of nulls; no reader finds the second then.
		page.body = append(page.body[:len(page.body)-len(values)], noStrings...)
		return nil
	}
	return checkEncoding(parquet.Encoding(page.encoding), values, int64(page.values))
}

// maxBatch gives how many values may be decoded at once. In delta byte arrays a few bytes can stand for a value as long as the page, so
// as many as are decoded at once can take so many times the page's bytes.
func (p *dataPage) maxBatch() int {
	if parquet.Encoding(p.encoding) != parquet.Encodings.DeltaByteArray {
		return batchRows
	}
	return max(1, min(batchRows, (16<<20)/(len(p.body)+1)))
}
