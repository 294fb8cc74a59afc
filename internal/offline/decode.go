package offline

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/parquet"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// batchRows is how many rows are decoded at once.
const batchRows = 8192

// maxBatchBytes bounds the text or list elements of one column in a batch.
const maxBatchBytes = 256 << 20

// newBatchColumn makes a column for batches of a number of rows.
func newBatchColumn(t feature.Type, rows int64) *feature.Column {
	c := feature.NewColumn(t, int(min(batchRows, rows)))
	c.Limit = maxBatchBytes
	return c
}

// columnReader reads one column of one row group from front to back.
type columnReader interface {
	// read appends the next n rows to dst.
	read(dst *feature.Column, n int) error
	// skip goes n rows further without reading them.
	skip(n int64) error
	// gather appends rows, which are ascending, distinct and not before the next one, to dst.
	gather(dst *feature.Column, rows []int64) error
	// finish checks that no rows are left. Call it after the last row was read or skipped.
	finish() error
	// close gives back the memory that was read into.
	close()
}

// openColumn gives the reader of a stored column as type want. It reads nothing yet. locations may be nil.
func openColumn(ctx context.Context, s span, c chunk, col column, want feature.Type, locations []pageLocation) (columnReader, error) {
	elem := want
	if col.list {
		elem = want.Elem()
	}
	converter, err := col.converter(elem)
	if err != nil {
		return nil, err
	}
	pages := newPageReader(ctx, s, c, col.descr, locations)
	switch col.descr.PhysicalType() {
	case parquet.Types.Boolean:
		return newReader[bool](pages, col, converter, nil)
	case parquet.Types.Int32:
		return newReader(pages, col, converter, newFixedValues(readInt32s, 4))
	case parquet.Types.Int64:
		return newReader(pages, col, converter, newFixedValues(readInt64s, 8))
	case parquet.Types.Int96:
		return newReader[parquet.Int96](pages, col, converter, nil)
	case parquet.Types.Float:
		return newReader(pages, col, converter, newFixedValues(readFloats, 4))
	case parquet.Types.Double:
		return newReader(pages, col, converter, newFixedValues(readDoubles, 8))
	case parquet.Types.ByteArray:
		return newReader(pages, col, converter, newByteValues)
	case parquet.Types.FixedLenByteArray:
		return newReader[parquet.FixedLenByteArray](pages, col, converter, nil)
	}
	return nil, fmt.Errorf("its physical type is not known")
}

func newReader[T physical](pages *pageReader, col column, converter any, direct directValues[T]) (columnReader, error) {
	convert := converter.(appender[T])
	if !col.list {
		r := &flatReader[T]{pages: pages, column: col, convert: convert, maxDef: uint32(col.descr.MaxDefinitionLevel())}
		if !isNullType(col.descr) {
			r.direct = direct
		}
		return r, nil
	}
	source := &arrowPages{source: func() (*dataPage, *dictionaryPage, error) {
		page, err := pages.next(0)
		return page, pages.dictionary, err
	}}
	decoder, err := newDecoder[T](col.descr, source)
	if err != nil {
		return nil, err
	}
	return &listReader[T]{levelReader: levelReader[T]{decoder: decoder, source: source, column: col}, pages: pages, convert: convert}, nil
}

// levelReader reads levels and values in batches within a page, by arrow-go's decoder.
type levelReader[T physical] struct {
	decoder chunkDecoder[T]
	source  *arrowPages
	column  column

	values     []T
	defs, reps []int16
}

// next decodes at most n levels of the present or the next page. It gives the number of levels and the values
// that are there. No levels are the end of the chunk.
func (r *levelReader[T]) next(n int) (levels int, values []T, err error) {
	if !r.decoder.HasNext() {
		return 0, nil, r.decoder.Err()
	}
	n = min(n, r.source.last.maxBatch())
	if cap(r.values) < n {
		r.values = make([]T, n)
	}
	maxDef, maxRep := r.column.descr.MaxDefinitionLevel(), r.column.descr.MaxRepetitionLevel()
	if maxDef > 0 && cap(r.defs) < n {
		r.defs = make([]int16, n)
	}
	if maxRep > 0 && cap(r.reps) < n {
		r.reps = make([]int16, n)
	}
	r.values, r.defs, r.reps = r.values[:n], r.defs[:min(n, cap(r.defs))], r.reps[:min(n, cap(r.reps))]
	total, read, err := r.decoder.ReadBatchInPage(int64(n), r.values, nonEmpty(r.defs), nonEmpty(r.reps))
	if err != nil {
		return 0, nil, err
	}
	if total <= 0 || total > int64(n) {
		return 0, nil, errFewValues
	}
	return int(total), r.values[:read], r.checkLevels(int(total), read)
}

var errFewValues = errors.New("a page has fewer values than its header says")

// nonEmpty gives nil for levels that the column does not have.
func nonEmpty(levels []int16) []int16 {
	if len(levels) == 0 {
		return nil
	}
	return levels
}

// checkLevels checks that the levels are possible and agree with the number of values.
func (r *levelReader[T]) checkLevels(total, read int) error {
	maxDef, maxRep := r.column.descr.MaxDefinitionLevel(), r.column.descr.MaxRepetitionLevel()
	present := total
	if maxDef > 0 {
		present = 0
		for _, d := range r.defs[:total] {
			if d == maxDef {
				present++
			} else if d < 0 || d > maxDef {
				return errDefinitionLevel(int(d))
			}
		}
	}
	if maxRep > 0 {
		for _, level := range r.reps[:total] {
			if level < 0 || level > maxRep {
				return fmt.Errorf("the repetition level %d is not possible", level)
			}
		}
	}
	if present != read {
		return fmt.Errorf("a page has %d values where its levels say %d", read, present)
	}
	return nil
}

func errDefinitionLevel(level int) error {
	return fmt.Errorf("the definition level %d is not possible", level)
}

var errRowsMissing = errors.New("it has fewer rows than the row group")

// listReader reads a column of lists. A row may go on in the next page, so it is known to be whole only when the next one begins.
type listReader[T physical] struct {
	levelReader[T]
	pages   *pageReader
	convert appender[T]
	row     int64 // that is being read
	// What is decoded and not yet consumed: levels from i on, and the values that go with them.
	i, total int
	pending  []T
	started  bool
}

// fill makes sure that a level is pending; false is the end of the chunk.
func (r *listReader[T]) fill() (bool, error) {
	if r.i < r.total {
		return true, nil
	}
	total, values, err := r.next(batchRows)
	r.i, r.total, r.pending = 0, total, values
	if err != nil || total == 0 {
		r.total = 0
		return false, err
	}
	if !r.started {
		r.started = true
		if r.reps[0] != 0 {
			return false, errors.New("it starts in the middle of a list")
		}
	}
	return true, nil
}

func (r *listReader[T]) read(dst *feature.Column, n int) error {
	for range n {
		if err := r.readRow(dst); err != nil {
			return err
		}
	}
	return nil
}

// readRow appends one row, or drops it where dst is nil.
func (r *listReader[T]) readRow(dst *feature.Column) error {
	more, err := r.fill()
	if err != nil {
		return err
	}
	if !more {
		return errRowsMissing
	}
	first := r.defs[r.i]
	elements := 0
	for start := true; ; start = false {
		more, err := r.fill()
		if err != nil {
			return err
		}
		if !more || (!start && r.reps[r.i] == 0) {
			break
		}
		n, err := r.readElements(dst, start)
		if err != nil {
			return err
		}
		elements += n
	}
	r.row++
	if dst == nil {
		return nil
	}
	if elements == 0 && first < r.column.listLevel {
		dst.AppendMissing(feature.Null)
		return nil
	}
	dst.Status = append(dst.Status, feature.Present)
	dst.Offsets = append(dst.Offsets, dst.Elem.Len())
	return nil
}

// readElements consumes the pending levels up to the start of the next row and gives the number of elements.
func (r *listReader[T]) readElements(dst *feature.Column, start bool) (int, error) {
	maxDef := r.column.descr.MaxDefinitionLevel()
	end := r.i
	elements := 0
	for ; end < r.total && (r.reps[end] != 0 || (start && end == r.i)); end++ {
		switch def := r.defs[end]; {
		case def == maxDef:
			elements++
		case def > r.column.listLevel && dst == nil:
			// a null element, of a row that is not asked for
		case def > r.column.listLevel:
			return 0, fault.New(fault.Precondition,
				"row %d: a list has a null element, which features cannot have; leave such elements out, or write the whole list as null", r.row)
		case r.reps[end] != 0 || elements > 0:
			return 0, fmt.Errorf("row %d: a list goes on after its end", r.row)
		}
	}
	r.i = end
	values := r.pending[:elements]
	r.pending = r.pending[elements:]
	if dst == nil || elements == 0 {
		return elements, nil
	}
	if dst.Limit > 0 && dst.Elem.SizeBytes() > dst.Limit {
		return 0, errPastLimit(dst.Limit)
	}
	return elements, r.convert(dst.Elem, values)
}

func (r *listReader[T]) skip(n int64) error {
	for range n {
		if err := r.readRow(nil); err != nil {
			return err
		}
	}
	return nil
}

func (r *listReader[T]) gather(dst *feature.Column, rows []int64) error {
	for _, row := range rows {
		if err := r.skip(row - r.row); err != nil {
			return err
		}
		if err := r.readRow(dst); err != nil {
			return err
		}
	}
	return nil
}

func (r *listReader[T]) close() { r.pages.close() }

func (r *listReader[T]) finish() error {
	more, err := r.fill()
	if err == nil && more {
		return errors.New("it has more rows than the row group")
	}
	return err
}
