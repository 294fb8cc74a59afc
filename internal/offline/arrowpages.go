package offline

import (
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// chunkDecoder is arrow-go's typed column reader.
type chunkDecoder[T physical] interface {
	HasNext() bool
	Err() error
	ReadBatchInPage(batchSize int64, values []T, defLevels, repLevels []int16) (total int64, valuesRead int, err error)
}

// newDecoder gives arrow-go's reader of the values in pages.
func newDecoder[T physical](descr *schema.Column, pages *arrowPages) (chunkDecoder[T], error) {
	// Deprecated because it trusts its pages; ours are checked before they get there (pagecheck.go).
	decoder, ok := file.NewColumnReader(descr, pages, memory.DefaultAllocator, nil).(chunkDecoder[T]) //nolint:staticcheck // see above
	if !ok {
		return nil, fmt.Errorf("its physical type is not known")
	}
	return decoder, nil
}

// arrowPages gives checked pages to arrow-go's column reader. It implements file.PageReader.
type arrowPages struct {
	// source gives the next data page, nil at the end, and the dictionary, nil where there is none so far.
	source func() (*dataPage, *dictionaryPage, error)

	page, waiting file.Page // waiting comes after the dictionary
	last          *dataPage
	hasDictionary bool
	err           error
}

// Next goes to the next page that has to be decoded.
func (p *arrowPages) Next() bool {
	p.page, p.waiting = p.waiting, nil
	if p.page != nil {
		return true
	}
	if p.err != nil {
		return false
	}
	data, dictionary, err := p.source()
	if p.err = err; err != nil || data == nil {
		return false
	}
	p.last, p.page = data, data.forArrow()
	if dictionary != nil && !p.hasDictionary {
		p.hasDictionary = true
		p.page, p.waiting = dictionary.forArrow(), p.page
	}
	return true
}

func (p *dataPage) forArrow() file.Page {
	buffer := memory.NewBufferBytes(p.body)
	encoding := parquet.Encoding(p.encoding)
	if p.kind == pageDataV2 {
		return file.NewDataPageV2(buffer, p.values, p.nulls, p.rows, encoding, p.defBytes, p.repBytes, p.uncompressed, false)
	}
	return file.NewDataPageV1(buffer, p.values, encoding, parquet.Encoding(p.defEncoding), parquet.Encoding(p.repEncoding), p.uncompressed)
}

func (d *dictionaryPage) forArrow() file.Page {
	return file.NewDictionaryPage(memory.NewBufferBytes(d.body), d.values, parquet.Encoding(d.encoding))
}

// Page gives the page that Next went to.
func (p *arrowPages) Page() file.Page { return p.page }

// Err gives the error that ended the pages.
func (p *arrowPages) Err() error { return p.err }

// GetDictionaryPage is asked for where a data page needs a dictionary that did not come before it.
func (p *arrowPages) GetDictionaryPage() (*file.DictionaryPage, error) { return nil, nil }

// SetMaxPageHeaderSize does nothing: the bound is fixed.
func (p *arrowPages) SetMaxPageHeaderSize(int) {}

// Reset is not supported: these are the pages of one chunk.
func (p *arrowPages) Reset(parquet.BufferedReader, int64, compress.Compression, *file.CryptoContext) {
	p.err = errors.New("a page reader cannot be reset")
}

// SeekToPageWithRow is not supported: pageReader.next passes pages over.
func (p *arrowPages) SeekToPageWithRow(int64) error {
	return errors.New("a page reader cannot seek")
}

// Close drops the page.
func (p *arrowPages) Close() error {
	p.page, p.waiting = nil, nil
	return nil
}

var _ file.PageReader = (*arrowPages)(nil)
