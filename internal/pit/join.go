package pit

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// ViewJoin asks for features of one view.
type ViewJoin struct {
	// View says what the source's rows look like; its own TTL is not looked at.
	View *feature.View
	// Features to read: indices in View.Features, in the order in which Joined gives them. May be empty, where only the event times matter.
	Features []int
	// Keys are the key columns of the entity rows that name this view's entity, in the order of View.Entity.Keys.
	Keys []int
	// TTL is how old a feature row may be at the time of its entity row; exactly the ttl is allowed. 0 is for ever.
	TTL feature.TTL
	// Source is the history of the view.
	Source Source
}

// Options are the choices that hold for all views of a join.
type Options struct {
	// CreatedTimeCutoff leaves out feature rows that were created after the time of the entity row, so that late corrections do not
	// leak into training. Feature rows without a created time are not used then. Defaults to false.
	CreatedTimeCutoff bool
	// Workers is how many fragments are read at once, over all views. Defaults to GOMAXPROCS.
	Workers int
	// MaxBytes is the most that the values of the rows that won may take, over all views; past it Join fails with ErrTooLarge.
	// Defaults to 0, which is no bound.
	MaxBytes int64
	// Progress is told what was done. Defaults to nil: nobody looks.
	Progress *Progress
}

// Stats says what one view's part of a join has read.
type Stats struct {
	// RowsRead is the number of feature rows whose keys were read.
	RowsRead int64
	// RowsPruned is the number of feature rows left unread, because their fragment, or the part of it that they are in, cannot hold a match.
	RowsPruned int64
	// RowsNull is the number of rows read that can never match: a key, the event time or, with CreatedTimeCutoff, the created time is null.
	RowsNull int64
	// Unmatched is the number of entity rows without a feature row, those with a null key included.
	Unmatched int64
}

// Joined is the result of a join: for each view and entity row, the feature row that won. It is only read, and may be by several goroutines.
type Joined struct {
	rows  int
	views []joinedView
}

type joinedView struct {
	// slotOf has the slot of each entity row, which may be absent, winnerOf the winner of each slot: a row of events and columns, or the row after the last
	// of events, of which values say that it was not found.
	slotOf   []int32
	winnerOf []int32
	events   []feature.EventTime
	values   winnerValues
	stats    Stats
}

// Join finds for each entity row and view the newest feature row of the entity that was true at the row's time:
//
//   - its event time is at most the entity row's time, and at least that time minus the ttl; both inclusive;
//   - with CreatedTimeCutoff its created time is at most the entity row's time as well;
//   - of several, the one with the greatest event time; then the greatest created time; then a tombstone; then the last in the canonical order of the source;
//   - where that one deletes the entity (a tombstone), none: nothing is known of the entity until its next row.
//
// So the result depends only on the rows, not on workers or batches. Memory grows with the entity rows and the winners' values, never with the
// history. An error says which view it is about and keeps the kind that the source gave it; after it, or when ctx is done, nothing
// runs on. Views are read once each, in no particular order; a view for which every key is null is not read at all.
func Join(ctx context.Context, rows *EntityRows, views []ViewJoin, o Options) (*Joined, error) {
	for i := range views {
		if err := views[i].check(rows, o); err != nil {
			return nil, err
		}
	}
	if o.Progress == nil {
		o.Progress = &Progress{}
	}
	var room *allowance
	if o.MaxBytes > 0 {
		room = &allowance{most: o.MaxBytes}
	}
	p := newPool(o.Workers)
	indexes, indexOf, err := newIndexes(ctx, p, rows, views)
	if err != nil {
		return nil, err
	}
	j := &Joined{rows: rows.Len(), views: make([]joinedView, len(views))}
	group, groupCtx := errgroup.WithContext(ctx)
	// A view in flight holds one candidate a slot, so views in flight are bounded too.
	group.SetLimit(p.size())
	for i := range views {
		group.Go(func() error {
			err := fault.Guard(func() (err error) {
				j.views[i], err = joinView(groupCtx, p, indexes[indexOf[i]], &views[i], o, room)
				return err
			})
			if err != nil {
				return fmt.Errorf("feature view %q: %w", views[i].View.Name, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return j, nil
}

// check refuses a join that cannot be right, before anything is read.
func (v *ViewJoin) check(rows *EntityRows, o Options) error {
	name, keys := v.View.Name, v.View.Entity.Keys
	if len(v.Keys) != len(keys) || len(keys) == 0 {
		return fault.New(fault.Internal, "feature view %q: %d key columns for the %d keys of entity %q", name, len(v.Keys), len(keys), v.View.Entity.Name)
	}
	for i, c := range v.Keys {
		if c < 0 || c >= len(rows.keys) {
			return fault.New(fault.Internal, "feature view %q: there is no key column %d", name, c)
		}
		if got, want := rows.keys[c].Type, keys[i].Type; got != want {
			return fault.New(fault.Invalid, "feature view %q: key %q of entity %q is %v; the entity rows give it as %v", name, keys[i].Name, v.View.Entity.Name, want, got)
		}
	}
	for _, f := range v.Features {
		if f < 0 || f >= len(v.View.Features) {
			return fault.New(fault.Internal, "feature view %q: there is no feature %d", name, f)
		}
	}
	if v.TTL < 0 {
		return fault.New(fault.Invalid, "feature view %q: the ttl is negative (%v); 0 is for ever", name, v.TTL.Duration())
	}
	if o.CreatedTimeCutoff && v.View.Source.CreatedTimeColumn == "" {
		return fault.New(fault.Precondition, "feature view %q has no created time, so it cannot be joined as of what was known then; "+
			"name its created time column in the definition, or ask without created_time_cutoff", name)
	}
	return nil
}

// newIndexes builds one index for each distinct list of key columns. indexOf has the index of each view.
func newIndexes(ctx context.Context, p *pool, rows *EntityRows, views []ViewJoin) (indexes []*index, indexOf []int, err error) {
	var distinct [][]int
	for _, v := range views {
		i := slices.IndexFunc(distinct, func(keys []int) bool { return slices.Equal(keys, v.Keys) })
		if i < 0 {
			i = len(distinct)
			distinct = append(distinct, v.Keys)
		}
		indexOf = append(indexOf, i)
	}
	indexes = make([]*index, len(distinct))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(p.size())
	for i, keys := range distinct {
		group.Go(func() error {
			return fault.Guard(func() (err error) {
				indexes[i], err = newIndex(groupCtx, p, rows, keys)
				return err
			})
		})
	}
	return indexes, indexOf, group.Wait()
}

func joinView(ctx context.Context, p *pool, x *index, v *ViewJoin, o Options, room *allowance) (joinedView, error) {
	if x.slots() == 0 {
		return joinedView{slotOf: x.slotOf, stats: Stats{Unmatched: int64(len(x.slotOf))}}, ctx.Err()
	}
	h, err := openHistory(ctx, v.View, v.Source, x.within(v.TTL))
	if err != nil {
		return joinedView{}, err
	}
	o.Progress.Rows.Add(h.rows())
	scan := &viewScan{index: x, history: h, ttl: v.TTL, cutoff: o.CreatedTimeCutoff, progress: o.Progress}
	if err := scan.run(ctx, p); err != nil {
		return joinedView{}, err
	}
	heads, err := scan.resolve(ctx, p)
	if err != nil {
		return joinedView{}, err
	}
	var g *gatherer
	err = p.run(ctx, func() (err error) {
		g, err = newGatherer(scan, v.Features, heads, room)
		return err
	})
	if err != nil {
		return joinedView{}, err
	}
	if err := g.run(ctx, p); err != nil {
		return joinedView{}, err
	}
	joined := joinedView{slotOf: x.slotOf, winnerOf: g.winnerOf, events: g.events, values: g.values}
	joined.stats = Stats{RowsRead: scan.rowsRead.Load(), RowsPruned: h.pruned.Load(), RowsNull: scan.rowsNull.Load()}
	joined.stats.Unmatched, err = joined.unmatched(ctx, p)
	return joined, err
}

func (v *joinedView) unmatched(ctx context.Context, p *pool) (int64, error) {
	var all atomic.Int64
	err := p.shares(ctx, len(v.slotOf), func(from, to int) {
		rows := int64(0)
		for row := from; row < to; row++ {
			if v.winner(row) == len(v.events) {
				rows++
			}
		}
		all.Add(rows)
	})
	return all.Load(), err
}

// winner returns the winner of an entity row: the row after the last of events where there is none.
func (v *joinedView) winner(row int) int {
	slot := v.slotOf[row]
	if slot == absent {
		return len(v.events)
	}
	return int(v.winnerOf[slot])
}

// Rows returns the number of entity rows, which is the number of rows of the result.
func (j *Joined) Rows() int { return j.rows }

// Stats says what was read for a view, by its index in the views of Join.
func (j *Joined) Stats(view int) Stats { return j.views[view].stats }

// Batch appends to dst[i], for the entity rows from fromRow up to but without toRow, the values of the i-th of ViewJoin.Features: Present or
// Null as the winning row has them, NotFound where no row won.
func (j *Joined) Batch(view, fromRow, toRow int, dst []*feature.Column) {
	v := &j.views[view]
	if v.values.packed == nil {
		for _, c := range dst {
			for range toRow - fromRow {
				c.AppendMissing(feature.NotFound)
			}
		}
		return
	}
	v.eachBlock(fromRow, toRow, func(winners []int) {
		for i, c := range dst {
			v.values.take(c, i, winners)
		}
	})
}

// EventTimes appends to dst, a TIMESTAMP column, the event time of the winning row of each entity row in the range of Batch; NotFound
// where no row won.
func (j *Joined) EventTimes(view, fromRow, toRow int, dst *feature.Column) {
	v := &j.views[view]
	v.eachBlock(fromRow, toRow, func(winners []int) {
		for _, w := range winners {
			if w == len(v.events) {
				dst.AppendMissing(feature.NotFound)
			} else {
				dst.AppendInt64(int64(v.events[w]))
			}
		}
	})
}

// rowsAtOnce is how many rows of the result are made at a time: few enough that their winners stay in the nearest cache until all features are taken.
const rowsAtOnce = 256

// eachBlock gives the winners of a range of entity rows, some at a time.
func (v *joinedView) eachBlock(fromRow, toRow int, use func(winners []int)) {
	var block [rowsAtOnce]int
	for row := fromRow; row < toRow; {
		n := min(len(block), toRow-row)
		for i := range n {
			block[i] = v.winner(row + i)
		}
		use(block[:n])
		row += n
	}
}
