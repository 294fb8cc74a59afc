package offline

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"

	"github.com/apache/arrow-go/v18/parquet"
	"golang.org/x/sync/errgroup"

	"github.com/twofold-ml/twofold/internal/feature"
)

// The page index of a file says where the pages of a column are (OffsetIndex) and what their least and greatest values are (ColumnIndex). It is
// read as a hint. One that cannot be parsed, that does not fit the column's place in the file, or whose times lie outside those that the
// footer states for the row group, is taken for none: then everything is read, as in a file without an index. What a page that is read
// says of itself is held against the index, and a difference is an error of kind Corrupt (pageReader.next). So a page index
// can make reading slower, and a file can be refused, but rows do not get mixed up. As with a footer's statistics, a range of times that is well-formed
// and false is believed.

// maxIndexBytes bounds the page index of one column of one row group; a page takes about 10 bytes of it.
const maxIndexBytes = 16 << 20

// indexGap is how many unneeded bytes between two parts of a page index are read to save a request.
const indexGap = 64 << 10

// pageLocation says where a data page begins: its header in the file, its first row in the row group.
type pageLocation struct {
	offset   int64
	firstRow int64
}

// parseOffsetIndex gives where the pages of a chunk of a flat column are; false where that cannot be so.
func parseOffsetIndex(b []byte, c chunk) (locations []pageLocation, ok bool) {
	r := &compactReader{b: b}
	r.fields(0, func(id int16, kind byte) {
		if id != 1 || kind != compactList || locations != nil {
			r.skip(kind, 0)
			return
		}
		size, elem := r.list()
		if elem != compactStruct {
			r.fail(errCompactBroken)
			return
		}
		locations = make([]pageLocation, 0, size)
		for range size {
			locations = append(locations, parseLocationOf(r))
			if r.err != nil {
				return
			}
		}
	})
	return locations, r.err == nil && fits(locations, c)
}

func parseLocationOf(r *compactReader) pageLocation {
	l := pageLocation{-1, -1}
	r.fields(1, func(id int16, kind byte) {
		switch {
		case id == 1 && kind == compactI64:
			l.offset = r.int64()
		case id == 3 && kind == compactI64:
			l.firstRow = r.int64()
		default:
			// The size of a page is not used: some writers leave its header out of it. The next page's offset says as much.
			r.skip(kind, 1)
		}
	})
	return l
}

// fits reports whether pages are in order and within the chunk.
func fits(locations []pageLocation, c chunk) bool {
	if len(locations) == 0 || locations[0].firstRow != 0 {
		return false
	}
	offset, row := c.offset-1, int64(-1)
	for _, l := range locations {
		if l.offset <= offset || l.firstRow <= row {
			return false
		}
		offset, row = l.offset, l.firstRow
	}
	return offset < c.offset+c.length && row < c.values
}

// columnIndex has the least and the greatest value of each page, as they are stored. Pages of nulls only have none.
type columnIndex struct {
	nulls      []bool
	mins, maxs [][]byte
}

// parseColumnIndex reads a ColumnIndex; what it gives points into b.
func parseColumnIndex(b []byte) (index columnIndex, ok bool) {
	r := &compactReader{b: b}
	r.fields(0, func(id int16, kind byte) {
		switch {
		case kind != compactList:
			r.skip(kind, 0)
		case id == 1:
			index.nulls = parseBools(r)
		case id == 2:
			index.mins = parseBinaries(r)
		case id == 3:
			index.maxs = parseBinaries(r)
		default:
			r.skip(kind, 0)
		}
	})
	return index, r.err == nil && len(index.mins) == len(index.nulls) && len(index.maxs) == len(index.nulls)
}

func parseBools(r *compactReader) []bool {
	size, elem := r.list()
	if elem != compactTrue && elem != compactFalse {
		r.fail(errCompactBroken)
		return nil
	}
	values := make([]bool, size)
	for i := range values {
		values[i] = r.byte() == compactTrue
	}
	return values
}

func parseBinaries(r *compactReader) [][]byte {
	size, elem := r.list()
	if elem != compactBinary {
		r.fail(errCompactBroken)
		return nil
	}
	var values [][]byte
	for range size {
		n := r.uvarint()
		start := r.pos
		if r.bytes(n); r.err != nil {
			return nil
		}
		values = append(values, r.b[start:r.pos])
	}
	return values
}

// rowRange are the rows from from up to but without to.
type rowRange struct{ from, to int64 }

// pagesWithin gives the rows of the pages that may hold a time in the range, and of those without any time where nulls is set; false where the index says nothing
// sound. times is what the footer says of all pages.
func (x columnIndex) pagesWithin(c column, locations []pageLocation, rows int64, times, within feature.TimeRange, nulls bool) (kept []rowRange, ok bool) {
	if len(locations) == 0 || len(x.nulls) != len(locations) {
		return nil, false
	}
	for i, l := range locations {
		to := rows
		if i+1 < len(locations) {
			to = locations[i+1].firstRow
		}
		wanted := nulls // rows without an event time are never joined
		if !x.nulls[i] {
			page, ok := timesOfBytes(c, x.mins[i], x.maxs[i])
			if !ok || page.Min < times.Min || page.Max > times.Max {
				return nil, false
			}
			wanted = page.Overlaps(within)
		}
		if !wanted {
			continue
		}
		if n := len(kept); n > 0 && kept[n-1].to == l.firstRow {
			kept[n-1].to = to
		} else {
			kept = append(kept, rowRange{l.firstRow, to})
		}
	}
	return kept, true
}

// timesOfBytes gives the times between two stored values of a column of times.
func timesOfBytes(c column, least, most []byte) (feature.TimeRange, bool) {
	switch {
	case c.descr.PhysicalType() == parquet.Types.Int64 && len(least) == 8 && len(most) == 8:
		return timesBetween(c, int64(binary.LittleEndian.Uint64(least)), int64(binary.LittleEndian.Uint64(most)))
	case c.descr.PhysicalType() == parquet.Types.Int32 && len(least) == 4 && len(most) == 4:
		return timesBetween(c, int64(int32(binary.LittleEndian.Uint32(least))), int64(int32(binary.LittleEndian.Uint32(most))))
	}
	return feature.TimeRange{}, false
}

// selection is some rows of a row group.
type selection interface {
	// overlaps reports whether there is a row from from up to but without to.
	overlaps(from, to int64) bool
}

// rowList are rows, ascending.
type rowList []int64

func (l rowList) overlaps(from, to int64) bool {
	i, _ := slices.BinarySearch(l, from)
	return i < len(l) && l[i] < to
}

// rowRanges are ranges of rows, ascending and apart.
type rowRanges []rowRange

func (l rowRanges) overlaps(from, to int64) bool {
	i, _ := slices.BinarySearchFunc(l, from, func(r rowRange, row int64) int { return cmp.Compare(r.to, row+1) })
	return i < len(l) && l[i].from < to
}

// neededOf gives the bytes of a chunk that the rows need: the whole chunk where it is not known where its pages are.
func neededOf(c chunk, locations []pageLocation, rows selection) []byteRange {
	if locations == nil || rows == nil {
		return []byteRange{{c.offset, c.offset + c.length}}
	}
	var needed []byteRange
	add := func(from, to int64) {
		if n := len(needed); n > 0 && needed[n-1].to == from {
			needed[n-1].to = to
		} else if from < to {
			needed = append(needed, byteRange{from, to})
		}
	}
	add(c.offset, locations[0].offset) // the dictionary
	for i, l := range locations {
		endRow, end := c.values, c.offset+c.length
		if i+1 < len(locations) {
			endRow, end = locations[i+1].firstRow, locations[i+1].offset
		}
		if rows.overlaps(l.firstRow, endRow) {
			add(l.offset, end)
		}
	}
	return needed
}

// readIndexes reads parts of a page index: those of ranges that have a length. The bytes are nil for the others.
func readIndexes(ctx context.Context, object objectReader, ranges []byteRange) ([][]byte, error) {
	order := make([]int, 0, len(ranges))
	for i, r := range ranges {
		if r.from < r.to {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(ranges[a].from, ranges[b].from) })
	read := make([][]byte, len(ranges))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(fetchesAtOnce)
	for len(order) > 0 {
		merged, n := ranges[order[0]], 1
		for ; n < len(order); n++ {
			next := ranges[order[n]]
			if next.from > merged.to+indexGap || next.to-merged.from > maxIndexBytes {
				break
			}
			merged.to = max(merged.to, next.to)
		}
		run := order[:n]
		order = order[n:]
		group.Go(func() error {
			b := make([]byte, merged.to-merged.from)
			if err := object.readAt(ctx, b, merged.from); err != nil {
				return err
			}
			for _, i := range run {
				read[i] = b[ranges[i].from-merged.from : ranges[i].to-merged.from]
			}
			return nil
		})
	}
	return read, group.Wait()
}
