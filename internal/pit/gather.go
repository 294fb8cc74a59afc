package pit

import (
	"context"
	"errors"
	"fmt"
	"sync"

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
	values   winnerValues
	pool     sync.Pool // of []*feature.Column: what a fragment is read into
}

// winnerValues are the feature values of winners, and one row more, of which they all say that it was not found. Those of fixed width stand row by row in packed,
// the others column by column.
type winnerValues struct {
	packed *feature.Packed
	// For each feature its place in packed, and for those of variable length their column, nil for the others.
	places  []int
	columns []*feature.Column
}

// take appends the values of a feature.
func (v *winnerValues) take(dst *feature.Column, i int, winners []int) {
	if c := v.columns[i]; c != nil {
		dst.Take(c, winners, feature.NotFound)
	} else {
		v.packed.Take(dst, v.places[i], winners)
	}
}

func newGatherer(scan *viewScan, features []int, heads []int32, room *allowance) (*gatherer, error) {
	fixed := winnerBytes(scan.history.view, features)
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
	v := &g.values
	v.places, v.columns = make([]int, len(features)), make([]*feature.Column, len(features))
	var packed []feature.Type
	for i, f := range features {
		t := scan.history.view.Features[f].Type
		if isPacked(t) {
			v.places[i] = len(packed)
			packed = append(packed, t)
		} else {
			v.columns[i] = feature.NewColumn(t, len(heads)+1)
		}
	}
	v.packed = feature.NewPacked(packed, len(heads)+1)
	return g, nil
}

// isPacked reports whether values of a type are of fixed width.
func isPacked(t feature.Type) bool { return t.Width() > 0 }

// winnerBytes is what the values of a winner take, but for what is of variable length.
func winnerBytes(view *feature.View, features []int) (bytes int64) {
	var packed []feature.Type
	for _, f := range features {
		if t := view.Features[f].Type; isPacked(t) {
			packed = append(packed, t)
		} else {
			bytes += variableFixedBytes
		}
	}
	return bytes + int64(feature.PackedBytes(packed))
}

// run gathers fragment by fragment, several at once. Values of fixed width go to their places. Those of variable length join the columns in
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
	for _, c := range g.values.columns {
		if c != nil {
			c.AppendMissing(feature.NotFound)
		}
	}
	g.values.packed.SetStatus(len(g.heads), feature.NotFound)
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
	from, _ := g.share(f)
	columns := g.takeColumns(len(rows))
	defer g.pool.Put(&columns)
	if err := g.gather(ctx, g.scan.history.fragments[f], rows, columns); err != nil {
		return err
	}
	var packed, others []*feature.Column
	for i, c := range columns {
		if g.values.columns[i] == nil {
			packed = append(packed, c)
		} else {
			others = append(others, c)
		}
	}
	g.values.packed.Put(from, packed)
	if len(others) == 0 {
		return nil
	}
	return g.inTurn(ctx, others, turn, next)
}

// takeColumns returns empty columns, one a feature, perhaps those of an earlier fragment.
func (g *gatherer) takeColumns(rows int) []*feature.Column {
	if columns, ok := g.pool.Get().(*[]*feature.Column); ok {
		for _, c := range *columns {
			c.Reset()
		}
		return *columns
	}
	columns := make([]*feature.Column, len(g.features))
	for i, f := range g.features {
		columns[i] = feature.NewColumn(g.scan.history.view.Features[f].Type, rows)
	}
	return columns
}

// inTurn appends columns of variable length to those of all fragments, once turn is closed; then it closes next.
func (g *gatherer) inTurn(ctx context.Context, columns []*feature.Column, turn <-chan struct{}, next chan<- struct{}) error {
	select {
	case <-turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	at := 0
	for _, c := range g.values.columns {
		if c != nil {
			c.AppendColumn(columns[at])
			at++
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
		rows[i] = best[slot].position.row() - g.scan.history.starts[f]
		g.winnerOf[slot] = int32(from + i)
		g.events[from+i] = best[slot].event
	}
	return rows
}

func (g *gatherer) position(slot int32) int64 { return g.scan.best[slot].position.row() }

// spread gives the number of each winner, known at the first slot that it wins, to the slots that follow.
func (g *gatherer) spread() {
	last, none := noPosition, int32(len(g.events))
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
