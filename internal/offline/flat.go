package offline

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"

	"github.com/apache/arrow-go/v18/parquet"

	"github.com/twofold-ml/twofold/internal/feature"
)

// flatReader reads a column with one value, or null, a row.
//
// Pages of the common encodings are read in place: levels and dictionary indices are decoded in blocks, and the values that are wanted
// are taken straight from the page (directValues). All other pages go through arrow-go's decoder. Both ways read in blocks, so that a page which
// promises more values than it has bytes for costs no more than a block.
type flatReader[T physical] struct {
	pages   *pageReader
	column  column
	convert appender[T]
	maxDef  uint32
	// direct opens the pages that can be read in place; nil where none can.
	direct directValues[T]

	row  int64 // the next one
	left int   // rows of the present page that are still to come
	// The present page: either values that are read in place, with their definition levels unless all are present, or a decoder.
	values  valueReader[T]
	levels  rleReader
	hasNull bool // the page may hold nulls, so it has levels
	decoder levelReader[T]
	batch   int // rows that may be decoded at once

	// Memory of one block.
	places, picks   []int32
	before          []int32 // how many are present before each word of present
	defs            []int32
	present         bitmap
	nulls           []bool
	scratch, spaced []T
}

// valueReader gives the values of a page, without the nulls between them.
type valueReader[T physical] interface {
	// take appends to dst those of the next n values that are at the places, which are ascending; all n where places is nil. Then it
	// goes n values on.
	take(dst []T, places []int32, n int) ([]T, error)
	// skip goes n values on.
	skip(n int) error
}

// directValues opens the values of a page in place; nil where they are not of an encoding that can be read so.
type directValues[T physical] func(encoding parquet.Encoding, values []byte, dictionary *dictionaryPage) (valueReader[T], error)

func (r *flatReader[T]) close() { r.pages.close() }

func (r *flatReader[T]) read(dst *feature.Column, n int) error {
	for n > 0 {
		if err := r.load(); err != nil {
			return err
		}
		step := min(n, r.left, r.batch)
		if err := r.block(dst, nil, step); err != nil {
			return err
		}
		n -= step
	}
	return nil
}

func (r *flatReader[T]) gather(dst *feature.Column, rows []int64) error {
	for len(rows) > 0 {
		if err := r.skip(rows[0] - r.row); err != nil {
			return err
		}
		if err := r.load(); err != nil {
			return err
		}
		places, n := r.placesOf(rows)
		if err := r.block(dst, places, n); err != nil {
			return err
		}
		if places != nil {
			n = len(places)
		}
		rows = rows[n:]
	}
	return nil
}

// placesOf gives the places, counted from the next row on, of those of the rows that are in the next block, and the number of rows that the
// block has to have. Places are nil where the rows follow each other without a gap. The first row is the next one.
func (r *flatReader[T]) placesOf(rows []int64) (places []int32, n int) {
	block := min(r.left, r.batch)
	if k := min(len(rows), block); rows[k-1]-r.row == int64(k-1) {
		return nil, k
	}
	places = slices.Grow(r.places[:0], min(len(rows), block))
	for _, row := range rows {
		if row-r.row >= int64(block) {
			break
		}
		places = append(places, int32(row-r.row))
	}
	r.places = places
	return places, int(places[len(places)-1]) + 1
}

func (r *flatReader[T]) skip(n int64) error {
	if n > r.pages.chunk.values-r.row {
		return errRowsMissing
	}
	if n >= int64(r.left) { // the pages before the next row are passed over when it is read
		r.row += n
		r.left = 0
		return nil
	}
	for n > 0 {
		step := int(min(n, int64(r.batch)))
		if err := r.skipBlock(step); err != nil {
			return err
		}
		n -= int64(step)
	}
	return nil
}

func (r *flatReader[T]) finish() error {
	if r.row < r.pages.chunk.values || r.left > 0 {
		return errors.New("it has more rows than the row group")
	}
	return nil
}

// load makes sure that the next row is in the present page.
func (r *flatReader[T]) load() error {
	if r.left > 0 {
		return nil
	}
	page, err := r.pages.next(r.row)
	if err != nil {
		return err
	}
	if page == nil || r.pages.firstRow > r.row || r.pages.endRow <= r.row {
		return errRowsMissing
	}
	if err := r.open(page); err != nil {
		return err
	}
	target := r.row
	r.row, r.left = r.pages.firstRow, int(page.pageHeader.values)
	return r.skip(target - r.row)
}

// open begins a page.
func (r *flatReader[T]) open(page *dataPage) error {
	r.values, r.batch = nil, batchRows
	if r.direct != nil {
		levels, values, ok, err := page.split(r.maxDef > 0)
		if err != nil {
			return err
		}
		if ok {
			if r.values, err = r.direct(parquet.Encoding(page.encoding), values, r.pages.dictionary); err != nil {
				return err
			}
		}
		if r.values != nil {
			r.hasNull = r.maxDef > 0
			r.levels, err = newRLE(levels, uint(bits.Len32(r.maxDef)))
			return err
		}
	}
	given := false
	source := &arrowPages{source: func() (*dataPage, *dictionaryPage, error) {
		if given {
			return nil, nil, nil
		}
		given = true
		return page, r.pages.dictionary, nil
	}}
	decoder, err := newDecoder[T](r.column.descr, source)
	if err != nil {
		return err
	}
	r.decoder.decoder, r.decoder.source, r.decoder.column = decoder, source, r.column
	r.batch = page.maxBatch()
	return nil
}

// split gives the definition levels, where the column has them, and the values of a page of a flat column. It reports false for levels of
// an encoding that only old writers used.
func (p *dataPage) split(hasLevels bool) (levels, values []byte, ok bool, err error) {
	if p.kind == pageDataV2 { // some writers write repetition levels that say nothing
		return p.body[p.repBytes:p.levels], p.body[p.levels:], true, nil
	}
	if !hasLevels {
		return nil, p.body, true, nil
	}
	if parquet.Encoding(p.defEncoding) != parquet.Encodings.RLE {
		return nil, nil, false, nil
	}
	if len(p.body) < 4 {
		return nil, nil, false, errFewValues
	}
	n := int64(binary.LittleEndian.Uint32(p.body))
	if n > int64(len(p.body))-4 {
		return nil, nil, false, errFewValues
	}
	return p.body[4 : 4+n], p.body[4+n:], true, nil
}

// block appends the rows at the places, of the next n rows of the page, and goes n rows on. Places are ascending; nil is all.
func (r *flatReader[T]) block(dst *feature.Column, places []int32, n int) error {
	r.row += int64(n)
	r.left -= n
	if r.values == nil {
		return r.blockByArrow(dst, places, n)
	}
	present, picks, err := r.presence(places, n)
	if err != nil {
		return err
	}
	if r.scratch, err = r.values.take(r.scratch[:0], picks, present); err != nil {
		return err
	}
	return r.append(dst, r.scratch)
}

// presence reads the levels of the next n rows, of which those at the places are wanted. It gives how many are present, and the places among these
// of those that are wanted, nil where that is all. It leaves in r.nulls which of the wanted rows are null; nothing where none is.
func (r *flatReader[T]) presence(places []int32, n int) (present int, picks []int32, err error) {
	r.nulls = r.nulls[:0]
	if !r.hasNull {
		return n, places, nil
	}
	some, err := r.readLevels(n)
	if err != nil {
		return 0, nil, err
	}
	if some == nil {
		return n, places, nil
	}
	if places == nil {
		r.nulls = slices.Grow(r.nulls, n)
		for row := range n {
			r.nulls = append(r.nulls, !some.has(row))
		}
		return some.count(), nil, nil
	}
	r.before = slices.Grow(r.before[:0], len(some))
	for _, word := range some {
		r.before = append(r.before, int32(present))
		present += bits.OnesCount64(word)
	}
	r.nulls, picks = slices.Grow(r.nulls, len(places))[:len(places)], slices.Grow(r.picks[:0], len(places))[:len(places)]
	kept := 0
	for i, place := range places {
		word, bit := some[uint32(place)/64], uint32(place)%64
		picks[kept] = r.before[uint32(place)/64] + int32(bits.OnesCount64(word&(1<<bit-1)))
		isPresent := int(word>>bit) & 1
		r.nulls[i] = isPresent == 0
		kept += isPresent
	}
	r.picks = picks
	return present, picks[:kept], nil
}

// readLevels says which of the next n rows are present; nil is all.
func (r *flatReader[T]) readLevels(n int) (bitmap, error) {
	level, same, err := r.levels.same(n)
	if err != nil || (same && level == r.maxDef) {
		return nil, err
	}
	r.present = r.present.cleared(n)
	switch {
	case same && level > r.maxDef:
		return nil, errDefinitionLevel(int(level))
	case same:
		return r.present, nil
	case r.maxDef == 1:
		return r.present, r.levels.readBits(r.present, n)
	}
	r.defs = slices.Grow(r.defs[:0], n)[:n]
	if err := r.levels.read(r.defs); err != nil {
		return nil, err
	}
	for row, level := range r.defs {
		if uint32(level) == r.maxDef {
			r.present.set(row, 1)
		} else if uint32(level) > r.maxDef {
			return nil, errDefinitionLevel(int(level))
		}
	}
	return r.present, nil
}

// skipBlock goes n rows of the page on.
func (r *flatReader[T]) skipBlock(n int) error {
	r.row += int64(n)
	r.left -= n
	if r.values == nil {
		return r.skipByArrow(n)
	}
	if !r.hasNull {
		return r.values.skip(n)
	}
	some, err := r.readLevels(n)
	if err != nil {
		return err
	}
	if some != nil {
		n = some.count()
	}
	return r.values.skip(n)
}

// skipByArrow is skipBlock for pages that arrow-go decodes. Its own Skip goes round for ever in a page that has fewer values than it says.
func (r *flatReader[T]) skipByArrow(n int) error {
	for n > 0 {
		total, _, err := r.decoder.next(n)
		if err != nil {
			return err
		}
		if total == 0 {
			return errFewValues
		}
		n -= total
	}
	return nil
}

// blockByArrow is block for pages that arrow-go decodes.
func (r *flatReader[T]) blockByArrow(dst *feature.Column, places []int32, n int) error {
	for from := 0; from < n; {
		total, values, err := r.decoder.next(n - from)
		if err != nil {
			return err
		}
		if total == 0 {
			return errFewValues
		}
		var defs []int16
		if len(values) < total {
			defs = r.decoder.defs[:total]
		}
		if places == nil {
			r.markNulls(defs)
		} else {
			count, _ := slices.BinarySearch(places, int32(from+total))
			values = r.pick(values, defs, places[:count], int32(from))
			places = places[count:]
		}
		if err := r.append(dst, values); err != nil {
			return err
		}
		from += total
	}
	return nil
}

// markNulls leaves in r.nulls which rows are null.
func (r *flatReader[T]) markNulls(defs []int16) {
	r.nulls = r.nulls[:0]
	for _, level := range defs {
		r.nulls = append(r.nulls, level != int16(r.maxDef))
	}
}

// pick gives the values at the places, counted from row first on; defs is nil where every row has a value. It leaves in r.nulls
// which of the places are null.
func (r *flatReader[T]) pick(values []T, defs []int16, places []int32, first int32) []T {
	r.nulls, r.scratch = r.nulls[:0], r.scratch[:0]
	row, present := int32(0), 0
	for _, place := range places {
		place -= first
		if defs == nil {
			r.scratch = append(r.scratch, values[place])
			continue
		}
		for ; row < place; row++ {
			if defs[row] == int16(r.maxDef) {
				present++
			}
		}
		isNull := defs[place] != int16(r.maxDef)
		r.nulls = append(r.nulls, isNull)
		if !isNull {
			r.scratch = append(r.scratch, values[present])
		}
	}
	return r.scratch
}

// append puts values, and the nulls that r.nulls says are between them, into dst.
func (r *flatReader[T]) append(dst *feature.Column, values []T) error {
	if len(r.nulls) == len(values) || len(r.nulls) == 0 {
		return r.appendPresent(dst, values)
	}
	if r.direct == nil {
		return r.appendRuns(dst, values)
	}
	// A zero stands where there is no value, as it does in columns; every converter of the types that are read directly keeps it.
	r.spaced = slices.Grow(r.spaced[:0], len(r.nulls))[:len(r.nulls)]
	dst.Status = slices.Grow(dst.Status, len(r.nulls))
	next := 0
	for i, isNull := range r.nulls {
		if isNull {
			var zero T
			r.spaced[i] = zero
			dst.Status = append(dst.Status, feature.Null)
			continue
		}
		r.spaced[i] = values[next]
		dst.Status = append(dst.Status, feature.Present)
		next++
	}
	return r.convert(dst, r.spaced)
}

// appendRuns appends the runs of values between nulls.
func (r *flatReader[T]) appendRuns(dst *feature.Column, values []T) error {
	for i := 0; i < len(r.nulls); {
		run := i
		for run < len(r.nulls) && !r.nulls[run] {
			run++
		}
		if run == i {
			dst.AppendMissing(feature.Null)
			i++
			continue
		}
		if err := r.appendPresent(dst, values[:run-i]); err != nil {
			return err
		}
		values = values[run-i:]
		i = run
	}
	return nil
}

func (r *flatReader[T]) appendPresent(dst *feature.Column, values []T) error {
	dst.Status = append(dst.Status, allPresent[:len(values)]...)
	return r.convert(dst, values)
}

// allPresent are the statuses of a block without nulls.
var allPresent = slices.Repeat([]feature.Status{feature.Present}, batchRows)
