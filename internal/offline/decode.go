package offline

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// batchRows is how many rows are decoded at once.
const batchRows = 8192

// columnReader reads one column of one row group from front to back. It is what stands between this package and the decoder
// of values, so that the decoder can be replaced.
type columnReader interface {
	// read appends the next n rows to dst.
	read(dst *feature.Column, n int) error
	// skip goes n rows further without reading them.
	skip(n int64) error
	// finish checks that no rows are left. Call it after the last row was read or skipped.
	finish() error
}

// openColumn gives the reader of a stored column as type want. It reads nothing yet.
func openColumn(ctx context.Context, s span, c chunk, col column, want feature.Type) (columnReader, error) {
	elem := want
	if col.list {
		elem = want.Elem()
	}
	converter, err := converterFor(col.descr, elem)
	if err != nil {
		return nil, err
	}
	pages := newPageReader(ctx, s, c, col.descr)
	// Deprecated because it trusts its pages; ours are checked before they get there (pagecheck.go).
	decoder := file.NewColumnReader(col.descr, pages, memory.DefaultAllocator, nil) //nolint:staticcheck // see above
	switch d := decoder.(type) {
	case *file.BooleanColumnChunkReader:
		return newReader[bool](d, pages, col, converter), nil
	case *file.Int32ColumnChunkReader:
		return newReader[int32](d, pages, col, converter), nil
	case *file.Int64ColumnChunkReader:
		return newReader[int64](d, pages, col, converter), nil
	case *file.Int96ColumnChunkReader:
		return newReader[parquet.Int96](d, pages, col, converter), nil
	case *file.Float32ColumnChunkReader:
		return newReader[float32](d, pages, col, converter), nil
	case *file.Float64ColumnChunkReader:
		return newReader[float64](d, pages, col, converter), nil
	case *file.ByteArrayColumnChunkReader:
		return newReader[parquet.ByteArray](d, pages, col, converter), nil
	case *file.FixedLenByteArrayColumnChunkReader:
		return newReader[parquet.FixedLenByteArray](d, pages, col, converter), nil
	}
	return nil, fmt.Errorf("its physical type is not known")
}

// chunkDecoder is arrow-go's typed column reader.
type chunkDecoder[T physical] interface {
	HasNext() bool
	Err() error
	ReadBatchInPage(batchSize int64, values []T, defLevels, repLevels []int16) (total int64, valuesRead int, err error)
	Skip(rows int64) (int64, error)
}

// levelReader reads levels and values in batches within a page.
type levelReader[T physical] struct {
	decoder chunkDecoder[T]
	pages   *pageReader
	column  column
	convert appender[T]

	values     []T
	defs, reps []int16
}

func newReader[T physical](d chunkDecoder[T], pages *pageReader, col column, converter any) columnReader {
	r := levelReader[T]{decoder: d, pages: pages, column: col, convert: converter.(appender[T])}
	if col.list {
		return &listReader[T]{levelReader: r}
	}
	return &flatReader[T]{levelReader: r}
}

// next decodes at most n levels of the present or the next page. It gives the number of levels and the values
// that are there. No levels are the end of the chunk.
func (r *levelReader[T]) next(n int) (levels int, values []T, err error) {
	if !r.decoder.HasNext() {
		return 0, nil, r.decoder.Err()
	}
	n = min(n, r.pages.maxBatch())
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
		return 0, nil, errors.New("a page has fewer values than its header says")
	}
	return int(total), r.values[:read], r.checkLevels(int(total), read)
}

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
				return fmt.Errorf("the definition level %d is not possible", d)
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

var errRowsMissing = errors.New("it has fewer rows than the row group")

// flatReader reads a column with one value, or null, a row.
type flatReader[T physical] struct {
	levelReader[T]
	row int64 // the next one
}

func (r *flatReader[T]) read(dst *feature.Column, n int) error {
	for n > 0 {
		total, values, err := r.next(n)
		if err != nil {
			return err
		}
		if total == 0 {
			return errRowsMissing
		}
		if err := r.append(dst, total, values); err != nil {
			return err
		}
		r.row += int64(total)
		n -= total
	}
	return nil
}

// append puts the values, and nulls between them, into dst.
func (r *flatReader[T]) append(dst *feature.Column, total int, values []T) error {
	if len(values) == total {
		return r.appendPresent(dst, values)
	}
	maxDef := r.column.descr.MaxDefinitionLevel()
	for i := 0; i < total; {
		run := i
		for run < total && r.defs[run] == maxDef {
			run++
		}
		if run > i {
			if err := r.appendPresent(dst, values[:run-i]); err != nil {
				return err
			}
			values = values[run-i:]
			i = run
			continue
		}
		dst.AppendMissing(feature.Null)
		i++
	}
	return nil
}

func (r *flatReader[T]) appendPresent(dst *feature.Column, values []T) error {
	for range values {
		dst.Status = append(dst.Status, feature.Present)
	}
	return r.convert(dst, values)
}

// skipStep bounds the levels that arrow-go makes room for when it skips inside a page.
const skipStep = 1 << 15

func (r *flatReader[T]) skip(n int64) error {
	target := r.row + n
	if target > r.pages.chunk.values {
		return errRowsMissing
	}
	if target >= r.pages.endRow {
		// Drop the rest of this page, and let the pages before the target go by unread.
		r.pages.skipTo = target
		if rest := r.pages.endRow - r.row; rest > 0 {
			if err := r.skipInPage(rest); err != nil {
				return err
			}
		}
		r.row = target
		if target == r.pages.chunk.values {
			return nil
		}
		if !r.decoder.HasNext() {
			return errors.Join(r.decoder.Err(), errRowsMissing)
		}
		r.row = r.pages.firstRow
		if r.row > target || r.pages.endRow <= target {
			return errRowsMissing
		}
	}
	for r.row < target {
		if err := r.skipInPage(min(skipStep, target-r.row)); err != nil {
			return err
		}
	}
	return nil
}

// skipInPage skips rows of the present page, which has so many.
func (r *flatReader[T]) skipInPage(n int64) error {
	if _, err := r.decoder.Skip(n); err != nil {
		return err
	}
	r.row += n
	return nil
}

func (r *flatReader[T]) finish() error {
	if r.decoder.HasNext() {
		return errors.New("it has more rows than the row group")
	}
	return r.decoder.Err()
}

// listReader reads a column of lists. A row may go on in the next page, so it is known to be whole only when the next one begins.
type listReader[T physical] struct {
	levelReader[T]
	row int64 // that is being read
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

func (r *listReader[T]) finish() error {
	more, err := r.fill()
	if err == nil && more {
		return errors.New("it has more rows than the row group")
	}
	return err
}
