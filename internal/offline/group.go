package offline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// groupReader reads columns of one row group.
type groupReader struct {
	source   *source
	index    int
	object   objectReader
	bindings []binding
	// locations are where the pages of each column are, nil where that is not known.
	locations [][]pageLocation
	spans     []columnSpan
	fetcher   *fetcher // nil where the object is local
	readers   []columnReader
}

// columnSpan is the bytes of one column; close says that it is read no more.
type columnSpan interface {
	span
	close()
}

// newGroupReader opens the file of a row group. It reads nothing yet.
func (s *source) newGroupReader(ctx context.Context, index int, bindings []binding) (*groupReader, error) {
	object, err := s.driver.open(ctx, s.object)
	if err != nil {
		return nil, err
	}
	return &groupReader{
		source: s, index: index, object: object, bindings: bindings, locations: make([][]pageLocation, len(bindings)),
		spans: make([]columnSpan, len(bindings)), readers: make([]columnReader, len(bindings)),
	}, nil
}

func (g *groupReader) chunk(i int) chunk {
	return g.source.footer.groups[g.index].chunks[g.bindings[i].stored.leaf]
}

// uncompressed is what the columns take in memory, about; what a file says of it is not checked here.
func (g *groupReader) uncompressed() (bytes int64) {
	for i, b := range g.bindings {
		if b.constant == nil {
			bytes += min(max(g.chunk(i).uncompressed, 0), maxOpenBytes+1)
		}
	}
	return bytes
}

// prepare says which rows are going to be read, nil for all, and begins to fetch their bytes where they are remote. Where inLockstep is
// set all columns are read side by side, else one after the other in the order of inFileOrder.
func (g *groupReader) prepare(ctx context.Context, rows selection, inLockstep bool) {
	var remote []needs
	var columns []int
	for i, b := range g.bindings {
		if b.constant != nil {
			continue
		}
		c := g.chunk(i)
		ranges := neededOf(c, g.locations[i], rows)
		if !g.source.object.at.isS3() {
			g.spans[i] = newReaderSpan(g.object, ranges)
			continue
		}
		columns = append(columns, i)
		remote = append(remote, needs{ranges, func(offset int64) float64 { return float64(offset-c.offset) / float64(c.length) }})
	}
	if len(columns) == 0 {
		return
	}
	var spans []*fetchedSpan
	g.fetcher, spans = newFetcher(ctx, g.object, remote, inLockstep)
	for k, i := range columns {
		g.spans[i] = spans[k]
	}
}

// open opens a column, once prepare was called.
func (g *groupReader) open(ctx context.Context, i int) error {
	b := g.bindings[i]
	if b.constant != nil {
		g.readers[i] = constantReader{b.constant}
		return nil
	}
	var err error
	if g.readers[i], err = openColumn(ctx, g.spans[i], g.chunk(i), b.stored, b.t, g.locations[i]); err != nil {
		g.readers[i] = nil
		return g.fail(b, err)
	}
	return nil
}

// openGroup opens columns of a row group of which all rows are read side by side.
func (s *source) openGroup(ctx context.Context, index int, bindings []binding) (*groupReader, error) {
	g, err := s.newGroupReader(ctx, index, bindings)
	if err != nil {
		return nil, err
	}
	return g, g.openAll(ctx, nil)
}

// openAll opens all columns, to be read side by side. After an error the group is closed.
func (g *groupReader) openAll(ctx context.Context, rows selection) error {
	g.prepare(ctx, rows, true)
	for i := range g.bindings {
		if err := g.open(ctx, i); err != nil {
			g.close()
			return err
		}
	}
	return nil
}

// inFileOrder gives the columns in the order of their bytes in the file.
func (g *groupReader) inFileOrder() []int {
	order := make([]int, len(g.bindings))
	offsets := make([]int64, len(g.bindings))
	for i, b := range g.bindings {
		order[i] = i
		if b.constant == nil {
			offsets[i] = g.chunk(i).offset
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(offsets[a], offsets[b]) })
	return order
}

// close lets go of the file. It was only read, so there is nothing to fail for.
func (g *groupReader) close() {
	for i := range g.readers {
		g.closeColumn(i)
	}
	if g.fetcher != nil {
		g.fetcher.close()
	}
	_ = g.object.close()
}

func (g *groupReader) closeColumn(i int) {
	if g.readers[i] != nil {
		g.readers[i].close()
		g.readers[i] = nil
	}
	if g.spans[i] != nil {
		g.spans[i].close()
		g.spans[i] = nil
	}
}

// locate reads where the pages of the columns are, as far as the file says so.
func (g *groupReader) locate(ctx context.Context) error {
	_, err := g.readIndexes(ctx, -1)
	return err
}

// readIndexes is locate, which also gives the index of the values of column times, where there is a sound one and times is not negative.
func (g *groupReader) readIndexes(ctx context.Context, times int) (index columnIndex, err error) {
	ranges := make([]byteRange, len(g.bindings)+1)
	for i, b := range g.bindings {
		if b.constant == nil && b.stored.descr.MaxRepetitionLevel() == 0 {
			ranges[i] = g.chunk(i).offsetIndex
		}
	}
	if times >= 0 {
		ranges[len(g.bindings)] = g.chunk(times).columnIndex
	}
	read, err := readIndexes(ctx, g.object, ranges)
	if err != nil {
		return columnIndex{}, err
	}
	for i := range g.bindings {
		if read[i] == nil {
			continue
		}
		if locations, ok := parseOffsetIndex(read[i], g.chunk(i)); ok {
			g.locations[i] = locations
		}
	}
	if b := read[len(g.bindings)]; b != nil {
		if parsed, ok := parseColumnIndex(b); ok {
			index = parsed
		}
	}
	return index, nil
}

// read appends the next n rows of every column to dst.
func (g *groupReader) read(dst []*feature.Column, n int) error {
	for i, r := range g.readers {
		if err := guard(func() error { return r.read(dst[i], n) }); err != nil {
			return g.fail(g.bindings[i], err)
		}
	}
	return nil
}

// finish checks that all columns end here.
func (g *groupReader) finish() error {
	for i, r := range g.readers {
		if err := guard(r.finish); err != nil {
			return g.fail(g.bindings[i], err)
		}
	}
	return nil
}

// skip goes n rows of every column further.
func (g *groupReader) skip(n int64) error {
	for i, r := range g.readers {
		if err := guard(func() error { return r.skip(n) }); err != nil {
			return g.fail(g.bindings[i], err)
		}
	}
	return nil
}

// gather appends the given rows, ascending and distinct, of column i, which is open, to dst.
func (g *groupReader) gather(i int, rows []int64, dst *feature.Column) error {
	err := guard(func() error { return g.readers[i].gather(dst, rows) })
	if err != nil {
		return g.fail(g.bindings[i], err)
	}
	return nil
}

// guard runs a decoder, and turns its panic into an error. It runs on the caller's goroutine, where decoders run too.
func guard(decode func() error) (err error) {
	defer recoverAs(&err)
	return decode()
}

// fail says where a column could not be read. What has no kind of its own is damage in the file.
func (g *groupReader) fail(b binding, err error) error {
	where := fmt.Sprintf("%s, row group %d, column %q", g.source.object.at, g.index, b.name)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", where, err)
	}
	kind := fault.KindOf(err)
	if kind == fault.Internal {
		kind = fault.Corrupt
	}
	return fault.New(kind, "%s: %w", where, err)
}

// constantReader reads a column that has the same value in every row.
type constantReader struct{ value *feature.Column }

func (r constantReader) read(dst *feature.Column, n int) error {
	for range n {
		dst.AppendFrom(r.value, 0)
	}
	return nil
}

func (r constantReader) gather(dst *feature.Column, rows []int64) error {
	return r.read(dst, len(rows))
}

func (constantReader) skip(int64) error { return nil }
func (constantReader) close()           {}
func (constantReader) finish() error    { return nil }
