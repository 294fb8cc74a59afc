package offline

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// How columns are fetched from S3.
const (
	// mergeGap is how many unneeded bytes between two columns are fetched to save a request.
	mergeGap = 1 << 20
	// maxFetchBytes is the largest part fetched in one request, and the largest column held in memory whole.
	maxFetchBytes = 64 << 20
	// fetchesAtOnce is how many requests one row group makes at a time.
	fetchesAtOnce = 8
	// remoteAhead and localAhead are how far columns that are not held whole are read ahead.
	remoteAhead = 8 << 20
	localAhead  = 256 << 10
)

// groupReader reads columns of one row group.
type groupReader struct {
	source   *source
	index    int
	object   objectReader
	bindings []binding
	readers  []columnReader
}

// openGroup opens the columns of a row group, fetching them first where they are remote.
func (s *source) openGroup(ctx context.Context, index int, bindings []binding) (_ *groupReader, err error) {
	g := &groupReader{source: s, index: index, bindings: bindings, readers: make([]columnReader, len(bindings))}
	if g.object, err = s.driver.open(ctx, s.object); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	spans, err := g.spans(ctx)
	if err != nil {
		return nil, err
	}
	chunks := s.footer.groups[index].chunks
	for i, b := range bindings {
		if b.constant != nil {
			g.readers[i] = constantReader{b.constant}
			continue
		}
		if g.readers[i], err = openColumn(ctx, spans[i], chunks[b.stored.leaf], b.stored, b.t, nil); err != nil {
			return nil, g.fail(b, err)
		}
	}
	return g, nil
}

// close lets go of the file. It was only read, so there is nothing to fail for.
func (g *groupReader) close() {
	for _, r := range g.readers {
		if r != nil {
			r.close()
		}
	}
	_ = g.object.close()
}

// spans gives the bytes of each stored column.
func (g *groupReader) spans(ctx context.Context) ([]span, error) {
	spans := make([]span, len(g.bindings))
	chunks := g.source.footer.groups[g.index].chunks
	var fetched []int
	for i, b := range g.bindings {
		if b.constant != nil {
			continue
		}
		c := chunks[b.stored.leaf]
		if g.source.object.at.isS3() && c.length <= maxFetchBytes {
			fetched = append(fetched, i)
			continue
		}
		ahead := localAhead
		if g.source.object.at.isS3() {
			ahead = remoteAhead
		}
		spans[i] = &readerSpan{r: g.object, end: c.offset + c.length, ahead: ahead}
	}
	slices.SortFunc(fetched, func(a, b int) int {
		return int(chunks[g.bindings[a].stored.leaf].offset - chunks[g.bindings[b].stored.leaf].offset)
	})
	return spans, g.fetch(ctx, fetched, chunks, spans)
}

// fetch reads the columns at the given places of the bindings, which are in the order of the file, in few requests.
func (g *groupReader) fetch(ctx context.Context, columns []int, chunks []chunk, spans []span) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(fetchesAtOnce)
	for len(columns) > 0 {
		first := chunks[g.bindings[columns[0]].stored.leaf]
		start, end, n := first.offset, first.offset+first.length, 1
		for ; n < len(columns); n++ {
			c := chunks[g.bindings[columns[n]].stored.leaf]
			if c.offset > end+mergeGap || max(end, c.offset+c.length)-start > maxFetchBytes {
				break
			}
			end = max(end, c.offset+c.length)
		}
		run := columns[:n]
		columns = columns[n:]
		group.Go(func() error {
			data := make([]byte, end-start)
			if err := g.object.readAt(ctx, data, start); err != nil {
				return err
			}
			for _, i := range run {
				spans[i] = memorySpan{start, data}
			}
			return nil
		})
	}
	return group.Wait()
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

// gather appends the given rows, ascending and distinct, of column i to dst.
func (g *groupReader) gather(ctx context.Context, i int, rows []int64, dst *feature.Column) error {
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
