package pit

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// byFragment groups items by the fragment of their position and returns where in them the share of each fragment ends. The
// order within a share is left to sortByPosition, so that shares can be sorted in parallel.
func byFragment[T any](h *history, items []T, position func(T) int64) (grouped []T, ends []int) {
	ends = make([]int, len(h.fragments))
	if len(h.fragments) == 1 {
		ends[0] = len(items)
		return items, ends
	}
	fragments := make([]int32, len(items))
	for i, item := range items {
		f := h.fragmentOf(position(item))
		fragments[i] = int32(f)
		ends[f]++
	}
	next := 0
	for f, count := range ends {
		ends[f] = next
		next += count
	}
	grouped = make([]T, len(items))
	for i, item := range items {
		f := fragments[i]
		grouped[ends[f]] = item
		ends[f]++
	}
	return grouped, ends
}

// placed is an item with its position from a base on.
type placed[T any] struct {
	position uint64
	item     T
}

// sortByPosition sorts items by position, none of which is less than base or occurs twice. Positions are copied beside the items first: looking them up at each
// step would miss the cache each time.
func sortByPosition[T any](items []T, base int64, position func(T) int64) {
	sorted, most := make([]placed[T], len(items)), uint64(0)
	for i, item := range items {
		at := uint64(position(item) - base)
		sorted[i] = placed[T]{at, item}
		most = max(most, at)
	}
	for i, p := range radixSort(sorted, most) {
		items[i] = p.item
	}
}

// digitBits is how much of a position one pass of radixSort looks at.
const digitBits = 11

// radixSort returns items sorted by positions up to most, digit by digit; it uses the memory of items.
func radixSort[T any](items []placed[T], most uint64) []placed[T] {
	other := make([]placed[T], len(items))
	for shift := 0; shift < 64 && most>>shift > 0; shift += digitBits {
		var starts [1 << digitBits]int
		for i := range items {
			starts[items[i].position>>shift&(1<<digitBits-1)]++
		}
		next := 0
		for digit, count := range starts {
			starts[digit] = next
			next += count
		}
		for i := range items {
			at := &starts[items[i].position>>shift&(1<<digitBits-1)]
			other[*at] = items[i]
			*at++
		}
		items, other = other, items
	}
	return items
}

// gatherer reads the feature values of a view's winners into one column a feature, in the order of their positions.
type gatherer struct {
	scan     *viewScan
	features []int
	room     *allowance

	// heads by fragment, and where each fragment's end. See viewScan.resolve.
	heads []int32
	ends  []int
	// winnerOf is the winner (its place in columns and events) of each slot. Where there is none it is the place after the last winner, where the columns have a
	// row that says so.
	winnerOf []int32
	events   []feature.EventTime
	columns  []*feature.Column
}

func newGatherer(scan *viewScan, features []int, heads []int32, room *allowance) (*gatherer, error) {
	fixed := int64(0)
	for _, f := range features {
		fixed += fixedBytes(scan.history.view.Features[f].Type)
	}
	if err := room.take(fixed * int64(len(heads))); err != nil {
		return nil, err
	}
	scan.progress.Matched.Add(int64(len(heads)))
	g := &gatherer{
		scan:     scan,
		features: features,
		room:     room,
		winnerOf: make([]int32, len(scan.best)),
		events:   make([]feature.EventTime, len(heads)),
	}
	g.heads, g.ends = byFragment(scan.history, heads, g.position)
	g.columns = g.newColumns(len(heads) + 1)
	return g, nil
}

func (g *gatherer) newColumns(rows int) []*feature.Column {
	columns := make([]*feature.Column, len(g.features))
	for i, f := range g.features {
		columns[i] = feature.NewColumn(g.scan.history.view.Features[f].Type, rows)
	}
	return columns
}

// run gathers fragment by fragment, several at once. Values of fixed width go straight to their places in the columns. Those of variable length join the columns in
// the order of the fragments, and wait in columns of their own until it is their turn: no more than one fragment a worker waits.
func (g *gatherer) run(ctx context.Context, p *pool) error {
	var shares []int
	for f := range g.ends {
		if from, to := g.share(f); from < to {
			shares = append(shares, f)
		}
	}
	progress := g.scan.progress
	progress.FragmentsLeft.Add(int64(len(shares)))
	progress.Gathering.Store(true)
	turns := make([]chan struct{}, len(shares)+1)
	for i := range turns {
		turns[i] = make(chan struct{})
	}
	close(turns[0])
	err := p.each(ctx, len(shares), func(ctx context.Context, i int) error {
		defer progress.FragmentsLeft.Add(-1)
		return g.fragment(ctx, shares[i], turns[i], turns[i+1])
	})
	if err != nil {
		return err
	}
	for _, c := range g.columns {
		if c.HasWindow() {
			c.SetLen(len(g.heads))
		}
		c.AppendMissing(feature.NotFound)
	}
	g.spread()
	return nil
}

// share returns the range in heads that belongs to a fragment.
func (g *gatherer) share(fragment int) (from, to int) {
	if fragment > 0 {
		from = g.ends[fragment-1]
	}
	return from, g.ends[fragment]
}

// fragment gathers the winners of one fragment. What must be in order it appends once turn is closed; then it closes next.
func (g *gatherer) fragment(ctx context.Context, f int, turn <-chan struct{}, next chan<- struct{}) error {
	rows := g.rank(f)
	if len(g.features) == 0 {
		return nil
	}
	from, to := g.share(f)
	columns := make([]*feature.Column, len(g.columns))
	for i, c := range g.columns {
		if c.HasWindow() {
			columns[i] = c.Window(from, to)
		} else {
			columns[i] = feature.NewColumn(c.Type, len(rows))
		}
	}
	if err := g.gather(ctx, g.scan.history.fragments[f], rows, columns); err != nil {
		return err
	}
	for i, c := range columns {
		if c.HasWindow() {
			g.columns[i].Put(c, from)
		}
	}
	return g.inTurn(ctx, columns, turn, next)
}

// inTurn appends the columns of variable length, once turn is closed; then it closes next.
func (g *gatherer) inTurn(ctx context.Context, columns []*feature.Column, turn <-chan struct{}, next chan<- struct{}) error {
	if !slices.ContainsFunc(columns, func(c *feature.Column) bool { return !c.HasWindow() }) {
		return nil
	}
	select {
	case <-turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	for i, c := range columns {
		if !c.HasWindow() {
			g.columns[i].AppendColumn(c)
		}
	}
	close(next)
	return nil
}

// gather fills columns, which are empty, with rows of a fragment, where there is room for their values of variable length.
func (g *gatherer) gather(ctx context.Context, fragment Fragment, rows []int64, columns []*feature.Column) error {
	for _, c := range columns {
		c.Limit = g.room.left()
	}
	err := gatherRows(ctx, fragment, rows, g.features, columns)
	if errors.Is(err, feature.ErrLimit) {
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	if err != nil {
		return err
	}
	return g.room.take(variableSize(columns))
}

// variableSize is the memory of the values of variable length.
func variableSize(columns []*feature.Column) (bytes int64) {
	for _, c := range columns {
		bytes += int64(len(c.Data))
		if c.Elem != nil {
			bytes += int64(c.Elem.SizeBytes())
		}
	}
	return bytes
}

// rank sorts a fragment's winners by position, numbers them, and returns their rows in the fragment.
func (g *gatherer) rank(f int) []int64 {
	from, to := g.share(f)
	heads, best := g.heads[from:to], g.scan.best
	sortByPosition(heads, g.scan.history.starts[f], g.position)
	rows := make([]int64, len(heads))
	for i, slot := range heads {
		rows[i] = best[slot].position - g.scan.history.starts[f]
		g.winnerOf[slot] = int32(from + i)
		g.events[from+i] = best[slot].event
	}
	return rows
}

func (g *gatherer) position(slot int32) int64 { return g.scan.best[slot].position }

// spread gives the number of each winner, known at the first slot that it wins, to the slots that follow.
func (g *gatherer) spread() {
	last, none := int64(-1), int32(len(g.events))
	for slot := range g.scan.best {
		position := g.scan.best[slot].position
		switch {
		case position < 0:
			g.winnerOf[slot] = none
		case position == last:
			g.winnerOf[slot] = g.winnerOf[slot-1]
		}
		last = position
	}
}

// gatherRows calls Gather and refuses an answer that breaks its contract.
func gatherRows(ctx context.Context, f Fragment, rows []int64, features []int, dst []*feature.Column) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	before := 0
	if len(dst) > 0 {
		before = dst[0].Len()
	}
	if err := f.Gather(ctx, rows, features, dst); err != nil {
		return err
	}
	for i, c := range dst {
		if got := c.Len() - before; got != len(rows) || len(c.Status) != c.Len() {
			return fault.New(fault.Internal, "the source gives %d values of feature %d for %d rows", got, features[i], len(rows))
		}
	}
	return nil
}
