package offline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
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

// pageReader walks the pages of one column chunk, checks them, decompresses them, and gives them to arrow-go's column reader. It
// implements file.PageReader.
type pageReader struct {
	ctx   context.Context
	span  span
	chunk chunk
	descr *schema.Column

	pos        int64 // of the next page header
	valuesRead int64 // values of the data pages passed
	page       file.Page
	err        error

	// Rows are known where every row is one value. Pages that end at or before row skipTo are not decompressed.
	firstRow, endRow int64
	skipTo           int64

	decompressor decompressor
	body         []byte
	dictBody     []byte
	largeValues  bool // see maxBatch
}

func newPageReader(ctx context.Context, s span, c chunk, descr *schema.Column) *pageReader {
	return &pageReader{ctx: ctx, span: s, chunk: c, descr: descr, pos: c.offset, decompressor: decompressor{codec: c.codec}}
}

// Next goes to the next page that has to be decoded.
func (p *pageReader) Next() bool {
	p.page = nil
	if p.err != nil {
		return false
	}
	more, err := p.next()
	p.err = err
	return more && err == nil
}

func (p *pageReader) next() (bool, error) {
	end := p.chunk.offset + p.chunk.length
	for p.pos < end && p.valuesRead < p.chunk.values {
		header, length, err := p.readHeader(end)
		if err != nil {
			return false, err
		}
		bodyAt := p.pos + int64(length)
		if err := header.check(p.chunk, end-bodyAt, p.chunk.values-p.valuesRead); err != nil {
			return false, err
		}
		p.pos = bodyAt + int64(header.compressed)
		switch header.kind {
		case pageDictionary:
			p.page, err = p.dictionary(header, bodyAt)
			return err == nil, err
		case pageData, pageDataV2:
			p.firstRow, p.endRow = p.valuesRead, p.valuesRead+int64(header.values)
			p.valuesRead = p.endRow
			if header.values == 0 || (p.descr.MaxRepetitionLevel() == 0 && p.endRow <= p.skipTo) {
				continue
			}
			p.page, err = p.dataPage(header, bodyAt)
			return err == nil, err
		}
	}
	if p.valuesRead < p.chunk.values {
		return false, fmt.Errorf("its pages end after %d of %d values", p.valuesRead, p.chunk.values)
	}
	return false, nil
}

// readHeader parses the header at p.pos.
func (p *pageReader) readHeader(end int64) (pageHeader, int, error) {
	for n := int64(pageHeaderGuess); ; n *= 4 {
		n = min(n, end-p.pos)
		b, err := p.span.at(p.ctx, p.pos, int(n))
		if err != nil {
			return pageHeader{}, 0, err
		}
		h, length, err := parsePageHeader(b)
		if err == nil {
			return h, length, nil
		}
		if !errors.Is(err, errCompactShort) || n == end-p.pos || n >= maxPageHeaderBytes {
			return pageHeader{}, 0, fmt.Errorf("a page header is damaged: %w", err)
		}
	}
}

func (p *pageReader) dictionary(h pageHeader, at int64) (file.Page, error) {
	raw, err := p.span.at(p.ctx, at, int(h.compressed))
	if err != nil {
		return nil, err
	}
	if p.dictBody, err = p.decompressor.decompress(p.dictBody, raw, int(h.uncompressed)); err != nil {
		return nil, err
	}
	if err := checkDictionary(h, p.dictBody, p.descr); err != nil {
		return nil, err
	}
	return file.NewDictionaryPage(memory.NewBufferBytes(p.dictBody), h.values, parquet.Encoding(h.encoding)), nil
}

func (p *pageReader) dataPage(h pageHeader, at int64) (file.Page, error) {
	raw, err := p.span.at(p.ctx, at, int(h.compressed))
	if err != nil {
		return nil, err
	}
	levels := 0
	if h.kind == pageDataV2 {
		levels = int(h.defBytes) + int(h.repBytes)
	}
	if p.body, err = p.decompressBody(h, raw, levels); err != nil {
		return nil, err
	}
	if err := p.checkValues(h, levels); err != nil {
		return nil, err
	}
	buffer := memory.NewBufferBytes(p.body)
	encoding := parquet.Encoding(h.encoding)
	if h.kind == pageDataV2 {
		return file.NewDataPageV2(buffer, h.values, h.nulls, h.rows, encoding, h.defBytes, h.repBytes, h.uncompressed, false), nil
	}
	return file.NewDataPageV1(buffer, h.values, encoding, parquet.Encoding(h.defEncoding), parquet.Encoding(h.repEncoding), h.uncompressed), nil
}

// decompressBody gives the page's bytes. The levels of a V2 page are never compressed.
func (p *pageReader) decompressBody(h pageHeader, raw []byte, levels int) ([]byte, error) {
	if h.kind != pageDataV2 {
		return p.decompressor.decompress(p.body, raw, int(h.uncompressed))
	}
	if !h.isCompressed || p.chunk.codec == codecNone || len(raw) == levels {
		if len(raw) != int(h.uncompressed) {
			return nil, fmt.Errorf("a page has %d bytes, not %d", len(raw), h.uncompressed)
		}
		return append(slices.Grow(p.body[:0], len(raw)+pagePadding), raw...), nil
	}
	return p.decompressor.decompressAfter(append(p.body[:0], raw[:levels]...), raw[levels:], int(h.uncompressed)-levels)
}

// checkValues checks the parts of a page that arrow-go's decoders would believe.
func (p *pageReader) checkValues(h pageHeader, levels int) error {
	values := p.body[levels:]
	if h.kind == pageData {
		var err error
		if values, err = skipLevels(values, h, p.descr); err != nil {
			return err
		}
	}
	p.largeValues = parquet.Encoding(h.encoding) == parquet.Encodings.DeltaByteArray
	return checkEncoding(parquet.Encoding(h.encoding), values, int64(h.values))
}

// maxBatch gives how many values may be decoded at once. In delta byte arrays a few bytes can stand for a value as long as the page, so
// as many as are decoded at once can take so many times the page's bytes.
func (p *pageReader) maxBatch() int {
	if !p.largeValues {
		return batchRows
	}
	return max(1, min(batchRows, (16<<20)/(len(p.body)+1)))
}

// Page gives the page that Next went to.
func (p *pageReader) Page() file.Page { return p.page }

// Err gives the error that ended the pages.
func (p *pageReader) Err() error { return p.err }

// GetDictionaryPage is asked for where a data page needs a dictionary that did not come before it.
func (p *pageReader) GetDictionaryPage() (*file.DictionaryPage, error) { return nil, nil }

// SetMaxPageHeaderSize does nothing: the bound is fixed.
func (p *pageReader) SetMaxPageHeaderSize(int) {}

// Reset is not supported: a page reader belongs to one chunk.
func (p *pageReader) Reset(parquet.BufferedReader, int64, compress.Compression, *file.CryptoContext) {
	p.err = errors.New("a page reader cannot be reset")
}

// SeekToPageWithRow is not supported: skipTo is used instead.
func (p *pageReader) SeekToPageWithRow(int64) error {
	return errors.New("a page reader cannot seek")
}

// Close drops the page.
func (p *pageReader) Close() error {
	p.page = nil
	return nil
}

var _ file.PageReader = (*pageReader)(nil)
var _ io.Closer = (*pageReader)(nil)
