package pit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

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

// denseRows is how many rows a fragment may have for each item that is sorted by its rank among them: more would take longer to go through, and more memory, than to
// compare the items.
const denseRows = 128

// sortByPosition sorts items, all of one fragment of so many rows, by position. No position occurs twice.
func sortByPosition[T any](items []T, rows int64, position func(T) int64, start int64) {
	if rows > denseRows*int64(len(items)) {
		slices.SortFunc(items, func(a, b T) int { return cmp.Compare(position(a), position(b)) })
		return
	}
	places, r := make([]uint64, len(items)), newRanks(uint64(rows))
	for i, item := range items { // positions lie anywhere in memory, so each is looked up once
		places[i] = uint64(position(item) - start)
		r.mark(places[i])
	}
	r.count()
	sorted := make([]T, len(items))
	for i, item := range items {
		rank, _ := r.of(places[i])
		sorted[rank] = item
	}
	copy(items, sorted)
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
	pool     columnPool // what a fragment is read into

	mu    sync.Mutex
	turns []turn // of the features of variable length
}

// turn is where the values of one feature wait, by their share, until those of the shares before are there; next is the one that comes next.
type turn struct {
	waiting map[int]*feature.Column
	next    int
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
		turns:    make([]turn, len(features)),
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

// run gathers part by part, several at once. Values of fixed width go to their places. Those of variable length join the columns in
// the order of the fragments, and wait in columns of their own until it is their turn; their memory is counted already.
func (g *gatherer) run(ctx context.Context, p *pool) error {
	var shares []*share
	for f := range g.ends {
		if from, to := g.within(f); from < to {
			shares = append(shares, &share{place: len(shares), fragment: f})
		}
	}
	progress := g.scan.progress
	progress.FragmentsLeft.Add(int64(len(shares)))
	progress.Gathering.Store(true)
	err := p.each(ctx, len(shares), func(_ context.Context, i int) error {
		shares[i].rows = g.rank(shares[i].fragment)
		return nil
	})
	if err != nil {
		return err
	}
	parts := g.parts(shares, p.size())
	err = p.each(ctx, len(parts), func(ctx context.Context, i int) error {
		if err := g.part(ctx, parts[i]); err != nil {
			return err
		}
		if parts[i].share.partsLeft.Add(-1) == 0 {
			progress.FragmentsLeft.Add(-1)
		}
		return nil
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

// within returns the range in heads that belongs to a fragment.
func (g *gatherer) within(fragment int) (from, to int) {
	if fragment > 0 {
		from = g.ends[fragment-1]
	}
	return from, g.ends[fragment]
}

// share is the winners of one fragment; place is its place among those that have some.
type share struct {
	place, fragment int
	rows            []int64
	partsLeft       atomic.Int32
}

// part is some features, by their places in gatherer.features, of a share.
type part struct {
	*share
	features []int
}

const (
	// lastParts is into how many parts the last shares are divided, so that no worker has long to do when the others have nothing left.
	lastParts = 4
	// leastPart is the least values of a fragment, read or passed over, that are worth a part of their own.
	leastPart = 1 << 20
)

// parts divides the shares: those that so many workers come to last by features, if they are large.
func (g *gatherer) parts(shares []*share, workers int) (parts []part) {
	all := make([]int, len(g.features))
	for i := range all {
		all[i] = i
	}
	for _, s := range shares {
		n := 1
		if s.place >= len(shares)-workers {
			values := g.scan.history.fragments[s.fragment].NumRows() * int64(len(all))
			n = int(max(1, min(lastParts, int64(len(all)), values/leastPart)))
		}
		s.partsLeft.Store(int32(n))
		for i := range n {
			parts = append(parts, part{s, all[i*len(all)/n : (i+1)*len(all)/n]})
		}
	}
	return parts
}

// part gathers the values of a part.
func (g *gatherer) part(ctx context.Context, p part) error {
	if len(p.features) == 0 {
		return nil
	}
	features := make([]int, len(p.features))
	for i, k := range p.features {
		features[i] = g.features[k]
	}
	from, _ := g.within(p.fragment)
	columns := g.pool.take(g.scan.history.view, features, len(p.rows))
	if err := g.gather(ctx, g.scan.history.fragments[p.fragment], p.rows, features, columns); err != nil {
		return err
	}
	var packed []*feature.Column
	var places []int
	for i, k := range p.features {
		if g.values.columns[k] == nil {
			packed, places = append(packed, columns[i]), append(places, g.values.places[k])
		} else {
			g.inTurn(k, p.place, columns[i])
		}
	}
	g.values.packed.Put(from, places, packed)
	g.pool.give(packed...)
	return nil
}

// columnPool holds columns that have been read, to be read into again.
type columnPool struct {
	mu   sync.Mutex
	free map[feature.Type][]*feature.Column
}

// take returns empty columns, one a feature.
func (p *columnPool) take(view *feature.View, features []int, rows int) []*feature.Column {
	p.mu.Lock()
	defer p.mu.Unlock()
	columns := make([]*feature.Column, len(features))
	for i, f := range features {
		t := view.Features[f].Type
		if free := p.free[t]; len(free) > 0 {
			columns[i], p.free[t] = free[len(free)-1], free[:len(free)-1]
			columns[i].Reset()
		} else {
			columns[i] = feature.NewColumn(t, rows)
		}
	}
	return columns
}

func (p *columnPool) give(columns ...*feature.Column) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free == nil {
		p.free = map[feature.Type][]*feature.Column{}
	}
	for _, c := range columns {
		p.free[c.Type] = append(p.free[c.Type], c)
	}
}

// inTurn appends values of feature k, of variable length: those of this share and those that have waited for it, once those of all shares before are there.
func (g *gatherer) inTurn(k, share int, values *feature.Column) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := &g.turns[k]
	if t.waiting == nil {
		t.waiting = map[int]*feature.Column{}
	}
	for t.waiting[share] = values; t.waiting[t.next] != nil; t.next++ {
		g.values.columns[k].AppendColumn(t.waiting[t.next])
		g.pool.give(t.waiting[t.next])
		delete(t.waiting, t.next)
	}
}

// gather fills columns, which are empty, with rows of a fragment, where there is room for their values of variable length.
func (g *gatherer) gather(ctx context.Context, fragment Fragment, rows []int64, features []int, columns []*feature.Column) error {
	for _, c := range columns {
		c.Limit = g.room.left()
	}
	err := gatherRows(ctx, fragment, rows, features, columns)
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
	from, to := g.within(f)
	heads, best := g.heads[from:to], g.scan.best
	starts := g.scan.history.starts
	sortByPosition(heads, starts[f+1]-starts[f], g.position, starts[f])
	rows := make([]int64, len(heads))
	for i, slot := range heads {
		rows[i] = best[slot].position.row() - starts[f]
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
	return checkedGather(ctx, rows, features, dst, func() error { return f.Gather(ctx, rows, features, dst) })
}

// checkedGather has gather append the values of rows, and refuses an answer that breaks the contract of Gather.
func checkedGather(ctx context.Context, rows []int64, features []int, dst []*feature.Column, gather func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	before := 0
	if len(dst) > 0 {
		before = dst[0].Len()
	}
	if err := gather(); err != nil {
		return err
	}
	for i, c := range dst {
		if got := c.Len() - before; got != len(rows) || len(c.Status) != c.Len() {
			return fault.New(fault.Internal, "the source gives %d values of feature %d for %d rows", got, features[i], len(rows))
		}
	}
	return nil
}
