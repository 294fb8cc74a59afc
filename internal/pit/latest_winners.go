package pit

import (
	"context"
	"math"
	"slices"

	"github.com/twofold-ml/twofold/internal/feature"
)

// winnerRef is one of the best rows of one shard.
type winnerRef struct {
	shard  int32
	number int32
}

func (l *latestScan) best(r winnerRef) *candidate { return &l.shards[r.shard].best[r.number] }

func (l *latestScan) position(r winnerRef) int64 { return l.best(r).position.row() }

// Winners are the newest rows that Latest found. Retain, Forget and Batches may leave some out, so that each is for one goroutine, and for no other method meanwhile.
type Winners struct {
	scan *latestScan
	// refs in the order of their positions, and where the share of each fragment ends.
	refs  []winnerRef
	ends  []int
	stats LatestStats
	due   map[string]feature.EventTime
}

func newWinners(l *latestScan) *Winners {
	w := &Winners{scan: l, due: l.due.byFile()}
	for i := range l.shards {
		for number := range l.shards[i].best {
			w.refs = append(w.refs, winnerRef{int32(i), int32(number)})
		}
	}
	w.refs, w.ends = byFragment(l.history, w.refs, l.position)
	bad := l.bad.load()
	w.stats = LatestStats{
		RowsRead: l.rowsRead.Load(), RowsPruned: l.history.pruned.Load(), RowsBad: bad,
		RowsFuture: l.rowsFuture.Load(), RowsOld: l.rowsOld.Load(), RowsOthers: l.rowsOthers.Load(), Winners: int64(len(w.refs)),
	}
	for i := range l.shards {
		w.stats.Entities += int64(l.shards[i].entities.count)
	}
	return w
}

// leaveOut removes winners, and counts those that are left.
func (w *Winners) leaveOut(drop func(winnerRef) bool) {
	kept, from := w.refs[:0], 0
	for f, end := range w.ends {
		for _, r := range w.refs[from:end] {
			if !drop(r) {
				kept = append(kept, r)
			}
		}
		from, w.ends[f] = end, len(kept)
	}
	w.refs = kept
	w.stats.Winners, w.stats.Entities = int64(len(kept)), 0
	counted := make([][]bool, len(w.scan.shards)) // by shard and number of the entity
	for i := range counted {
		counted[i] = make([]bool, w.scan.shards[i].entities.count)
	}
	for _, r := range kept {
		if entity := &counted[r.shard][w.scan.shards[r.shard].owner(r.number)]; !*entity {
			*entity = true
			w.stats.Entities++
		}
	}
}

// EventTimes is the range of the winners' event times; its Min is after its Max where there are none.
func (w *Winners) EventTimes() feature.TimeRange {
	within := feature.TimeRange{Min: math.MaxInt64, Max: math.MinInt64}
	for _, r := range w.refs {
		event := w.scan.best(r).event
		within.Min, within.Max = min(within.Min, event), max(within.Max, event)
	}
	return within
}

// Within leaves out the winners whose event times are not in the range.
func (w *Winners) Within(within feature.TimeRange) {
	w.leaveOut(func(r winnerRef) bool {
		event := w.scan.best(r).event
		return event < within.Min || event > within.Max
	})
}

// share returns the winners of a fragment.
func (w *Winners) share(fragment int) []winnerRef {
	from := 0
	if fragment > 0 {
		from = w.ends[fragment-1]
	}
	return w.refs[from:w.ends[fragment]]
}

func (w *Winners) sort(ctx context.Context, p *pool) error {
	return p.each(ctx, len(w.ends), func(_ context.Context, f int) error {
		starts := w.scan.history.starts
		sortByPosition(w.share(f), starts[f+1]-starts[f], w.scan.position, starts[f])
		return nil
	})
}

// Stats says what was read.
func (w *Winners) Stats() LatestStats { return w.stats }

// Due gives, by the URL of the file, the least event time of the rows that were left for being after LatestOptions.AsOf, those left unread included: until then the file
// has nothing new to give, as long as it does not change. A file without such rows is not in it. What is bad is never due. Of fragments that are no FileFragment, and of a source that is no
// LateSource, nothing is known.
func (w *Winners) Due() map[string]feature.EventTime { return w.due }

// WinnerBatch is some winners of one fragment. It is valid only until yield returns.
type WinnerBatch struct {
	// Keys has one column a key of the entity, in that order; every key is Present.
	Keys []*feature.Column
	// EventTimes and CreatedTimes are TIMESTAMP columns; every time is Present. A row without a created time has NoCreatedTime.
	EventTimes, CreatedTimes *feature.Column
	// Tombstones says of each row whether it deletes its entity at its event time; nil where none does. A tombstone's features are Null: they have not
	// been read.
	Tombstones []bool
	// Features has one column for each of the features asked for, in that order.
	Features []*feature.Column
}

// Len returns the number of rows.
func (b WinnerBatch) Len() int { return b.EventTimes.Len() }

// IsTombstone reports whether a row deletes its entity.
func (b WinnerBatch) IsTombstone(row int) bool { return b.Tombstones != nil && b.Tombstones[row] }

// firstBatch is the most rows of the first batch of Winners.Batches; each of the next may have twice as many.
const firstBatch = 8192

// Batches reads the values of the given features (indices in View.Features) and gives the winners in the canonical order of the source, in batches of
// at most batchSize rows (8,192 where it is 0 or less). No batch spans two fragments. An error of yield ends it and is returned as it is; an error of the source
// names the view. It may be called again, and then gives the same.
//
// A row of which a feature has a text that is not UTF-8 is not among them: it is told to LatestOptions.Bad, left out for good, and Stats says so once Batches has returned. See
// InvalidText for what becomes of its entity.
//
// A fragment that is no BatchFragment, or would take too much memory as one, is asked once a batch: such ones that cannot skip to a row read again for each, so choose
// large batches. The first ones are smaller, so that what becomes of them can begin early.
func (w *Winners) Batches(ctx context.Context, batchSize int, features []int, yield func(WinnerBatch) error) error {
	if batchSize <= 0 {
		batchSize = firstBatch
	}
	b := w.newBatch(features, min(batchSize, len(w.refs)))
	invalid := map[winnerRef]bool{}
	defer w.leaveOutInvalid(invalid)
	size := min(batchSize, firstBatch)
	for f := range w.ends {
		err := w.openShare(f, features).each(func(s *winnerShare) error {
			valid, err := s.next(ctx, &b, size, invalid)
			if size = min(2*size, batchSize); err != nil || valid.Len() == 0 {
				return err
			}
			return yield(valid)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// takeInvalid adds those of the winners refs, which the batch has the values of, whose text is not UTF-8 to invalid, and returns the batch without them.
func (w *Winners) takeInvalid(b WinnerBatch, refs []winnerRef, invalid map[winnerRef]bool) (WinnerBatch, error) {
	var rows []int
	for _, c := range b.Features {
		rows = slices.AppendSeq(rows, c.InvalidText())
	}
	if len(rows) == 0 {
		return b, nil
	}
	slices.Sort(rows)
	rows = slices.Compact(rows)
	positions := make([]int64, len(rows))
	for i, row := range rows {
		positions[i] = w.scan.position(refs[row])
	}
	if err := w.scan.bad.add(InvalidText, positions); err != nil {
		return b, err
	}
	for _, row := range rows {
		invalid[refs[row]] = true
	}
	return b.without(rows), nil
}

// without returns a copy of the batch without the given rows, which are ascending.
func (b WinnerBatch) without(rows []int) WinnerBatch {
	kept := make([]int, 0, b.Len()-len(rows))
	for row := range b.Len() {
		if len(rows) > 0 && rows[0] == row {
			rows = rows[1:]
		} else {
			kept = append(kept, row)
		}
	}
	take := func(c *feature.Column) *feature.Column {
		d := feature.NewColumn(c.Type, len(kept))
		d.Take(c, kept, feature.Null)
		return d
	}
	out := WinnerBatch{EventTimes: take(b.EventTimes), CreatedTimes: take(b.CreatedTimes)}
	for _, c := range b.Keys {
		out.Keys = append(out.Keys, take(c))
	}
	for _, c := range b.Features {
		out.Features = append(out.Features, take(c))
	}
	if b.Tombstones != nil {
		for _, row := range kept {
			out.Tombstones = append(out.Tombstones, b.Tombstones[row])
		}
	}
	return out
}

// leaveOutInvalid removes the winners whose text is not UTF-8.
func (w *Winners) leaveOutInvalid(invalid map[winnerRef]bool) {
	if len(invalid) > 0 {
		w.stats.RowsBad = w.scan.bad.load()
		w.leaveOut(func(r winnerRef) bool { return invalid[r] })
	}
}

func (w *Winners) newBatch(features []int, rows int) WinnerBatch {
	view := w.scan.history.view
	b := WinnerBatch{EventTimes: feature.NewColumn(feature.Timestamp, rows), CreatedTimes: feature.NewColumn(feature.Timestamp, rows)}
	for _, key := range view.Entity.Keys {
		b.Keys = append(b.Keys, feature.NewColumn(key.Type, rows))
	}
	b.Features = w.newFeatures(features, rows)
	return b
}

func (w *Winners) newFeatures(features []int, rows int) []*feature.Column {
	columns := make([]*feature.Column, len(features))
	for i, f := range features {
		columns[i] = feature.NewColumn(w.scan.history.view.Features[f].Type, rows)
	}
	return columns
}

// fill replaces the contents of b by the winners refs of the share.
func (s *winnerShare) fill(ctx context.Context, b *WinnerBatch, refs []winnerRef) error {
	w := s.winners
	for _, c := range slices.Concat(b.Keys, b.Features, []*feature.Column{b.EventTimes, b.CreatedTimes}) {
		c.Reset()
	}
	rows := make([]int64, 0, len(refs))
	b.Tombstones = nil
	for i, r := range refs {
		best := w.scan.best(r)
		if best.position.isTombstone() {
			if b.Tombstones == nil {
				b.Tombstones = make([]bool, len(refs))
			}
			b.Tombstones[i] = true
		} else {
			rows = append(rows, best.position.row()-s.first)
		}
		b.EventTimes.AppendInt64(int64(best.event))
		b.CreatedTimes.AppendInt64(int64(best.created))
		if err := w.scan.shards[r.shard].appendKey(b.Keys, r.number); err != nil {
			return err
		}
	}
	if b.Tombstones == nil {
		return s.gather(ctx, rows, b.Features)
	}
	live := w.newFeatures(s.features, len(rows))
	if len(rows) > 0 {
		if err := s.gather(ctx, rows, live); err != nil {
			return err
		}
	}
	b.spread(live)
	return nil
}

// spread appends the features of the rows that are no tombstones to those of the batch, with a Null for each tombstone.
func (b *WinnerBatch) spread(live []*feature.Column) {
	for i, c := range b.Features {
		next := 0
		for _, isTombstone := range b.Tombstones {
			if isTombstone {
				c.AppendMissing(feature.Null)
				continue
			}
			c.AppendFrom(live[i], next)
			next++
		}
	}
}

// appendTo appends the key of that number to columns of its types.
func (t *interner) appendTo(columns []*feature.Column, number int32) error {
	switch {
	case !t.isInt:
		return feature.DecodeKey(columns, t.key(number))
	case columns[0].Type == feature.Int32:
		columns[0].AppendInt32(int32(t.ints[number]))
	default:
		columns[0].AppendInt64(t.ints[number])
	}
	return nil
}
