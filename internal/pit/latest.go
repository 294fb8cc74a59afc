package pit

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// LatestOptions says which rows Latest may use.
type LatestOptions struct {
	// AsOf is the moment that is asked about, inclusive: rows with a later event time are left out. Required.
	AsOf feature.AsOf
	// MaxAge leaves out rows whose event time is more than this before AsOf; exactly MaxAge is used. Defaults to 0: rows of any age are used.
	MaxAge feature.TTL
	// Versions is how many rows of each entity are wanted: those of its newest event times, one of each. Defaults to 1: the newest row only.
	Versions int
	// Workers is how many fragments are read at once. Defaults to GOMAXPROCS.
	Workers int
}

// LatestStats says what Latest has read.
type LatestStats struct {
	// RowsRead is the number of feature rows whose keys were read.
	RowsRead int64
	// RowsPruned is the number of feature rows left unread, because their fragment, or the part of it that they are in, has no event time in the range.
	RowsPruned int64
	// RowsNull is the number of rows read that belong to no entity or no time: a key or the event time is null.
	RowsNull int64
	// RowsFuture is the number of rows read whose event time is after AsOf.
	RowsFuture int64
	// RowsOld is the number of rows read whose event time is more than MaxAge before AsOf.
	RowsOld int64
	// Entities is the number of distinct entities with a row that may be used.
	Entities int64
	// Winners is the number of rows found: one an entity, or up to LatestOptions.Versions.
	Winners int64
}

// Latest finds the newest row of each entity as of a moment, by the same order as Join: event time, then created time, then the
// canonical order of the source. With LatestOptions.Versions it finds the rows that were the newest at the latest moments: of rows of one event time
// the one that comes last in that order, of no others. A row that deletes its entity (a tombstone) is a row like any other, and may be the
// newest: see WinnerBatch.Tombstones. It reads keys and times only and holds them for the winners, at most Versions rows an
// entity; values are read by Winners.Batches. The error names the view and keeps the kind that the source gave it.
func Latest(ctx context.Context, view *feature.View, source Source, o LatestOptions) (*Winners, error) {
	var w *Winners
	err := fault.Guard(func() (err error) {
		w, err = latest(ctx, view, source, o)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("feature view %q: %w", view.Name, err)
	}
	return w, nil
}

func latest(ctx context.Context, view *feature.View, source Source, o LatestOptions) (*Winners, error) {
	if o.MaxAge < 0 {
		return nil, fault.New(fault.Invalid, "the greatest age is negative (%v); 0 is any age", o.MaxAge.Duration())
	}
	if o.Versions < 0 {
		return nil, fault.New(fault.Invalid, "the number of versions is negative (%d); 0 is the newest only", o.Versions)
	}
	if len(view.Entity.Keys) == 0 {
		return nil, fault.New(fault.Internal, "entity %q has no keys", view.Entity.Name)
	}
	h, err := openHistory(ctx, view, source, feature.TimeRange{Min: earliest(o.AsOf, o.MaxAge), Max: feature.EventTime(o.AsOf)})
	if err != nil {
		return nil, err
	}
	p := newPool(o.Workers)
	scan := newLatestScan(h, o)
	if err := h.scan(ctx, p, scan.visit); err != nil {
		return nil, err
	}
	scan.settle()
	w := newWinners(scan)
	return w, w.sort(ctx, p)
}

// latestScan keeps the newest row of each entity. Entities are spread over shards by the hash of their key, so that workers seldom meet.
type latestScan struct {
	history *history
	options LatestOptions
	hasher  hasher
	shards  [shards]shard

	rowsRead, rowsNull, rowsFuture, rowsOld atomic.Int64
}

// shards is a power of two, taken from the high bits of the hash; interner uses the low ones.
const (
	shardBits = 6
	shards    = 1 << shardBits
)

type shard struct {
	mu       sync.Mutex
	entities *interner
	// best of each entity, by its number; with several versions, once settled, those of entity 0 first, the oldest of each first.
	best []candidate
	// versions of each entity, by its number, until settled; and then the number of the entity of each of best. Both are nil where only
	// the newest row is wanted.
	versions []versions
	owners   []int32
}

func newLatestScan(h *history, o LatestOptions) *latestScan {
	l := &latestScan{history: h, options: o, hasher: newHasher()}
	for i := range l.shards {
		l.shards[i].entities = newInterner(isIntKey(h.view.Entity.Keys))
	}
	return l
}

func (l *latestScan) visit(s *scratch, first int64, batch feature.KeyBatch) error {
	s.selectComplete(batch, false)
	l.rowsRead.Add(int64(batch.Len()))
	l.rowsNull.Add(int64(batch.Len() - len(s.rows)))
	l.keepUsable(s, batch)
	if len(s.rows) == 0 {
		return nil
	}
	s.loadKeys(&l.hasher, batch)
	l.offer(s, first, batch)
	return nil
}

// keepUsable drops the rows that are after AsOf or too old, and counts them.
func (l *latestScan) keepUsable(s *scratch, batch feature.KeyBatch) {
	events := batch.EventTimes.Int64s
	var future, old int64
	kept := s.rows[:0]
	for _, row := range s.rows {
		switch event := events[row]; {
		case event > int64(l.options.AsOf):
			future++
		case l.options.MaxAge.Expired(feature.EventTime(event), l.options.AsOf):
			old++
		default:
			kept = append(kept, row)
		}
	}
	s.rows = kept
	l.rowsFuture.Add(future)
	l.rowsOld.Add(old)
}

// offer offers the selected rows to their entities, shard by shard, so that a lock is taken once a batch and shard.
func (l *latestScan) offer(s *scratch, first int64, batch feature.KeyBatch) {
	order, ends := s.byShard()
	// Workers begin at different shards, so that they do not queue up one behind the other.
	begin := int(s.keys.hashes[0] % shards)
	for i := range shards {
		number := (begin + i) % shards
		from := 0
		if number > 0 {
			from = ends[number-1]
		}
		if from == ends[number] {
			continue
		}
		l.shards[number].offer(s, order[from:ends[number]], first, batch, l.options.Versions)
	}
}

func (h *shard) offer(s *scratch, rows []int32, first int64, batch feature.KeyBatch, versions int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for rows := range slices.Chunk(rows, lookAhead) {
		if versions > 1 {
			h.offerVersions(s, rows, first, batch, versions)
		} else {
			h.offerSome(s, rows, first, batch)
		}
	}
}

// offerSome offers at most lookAhead rows.
func (h *shard) offerSome(s *scratch, rows []int32, first int64, batch feature.KeyBatch) {
	numbers := h.entities.internAll(&s.keys, rows)
	for k, i := range rows {
		row := s.rows[i]
		c := candidate{
			event:    feature.EventTime(batch.EventTimes.Int64s[row]),
			created:  createdTime(batch.CreatedTimes, row),
			position: mark(first+int64(row), batch.Deleted, row),
		}
		number := numbers[k]
		if int(number) == len(h.best) {
			h.best = append(h.best, c)
		} else if h.best[number].before(&c) {
			h.best[number] = c
		}
	}
}

// byShard returns the places in rows, those of shard 0 first, and where in them each shard ends. It uses the memory of numbers.
func (s *scratch) byShard() (order []int32, ends [shards]int) {
	for _, hash := range s.keys.hashes {
		ends[hash>>(64-shardBits)]++
	}
	next := 0
	for i, count := range ends {
		ends[i] = next
		next += count
	}
	for i, hash := range s.keys.hashes {
		shard := hash >> (64 - shardBits)
		s.numbers[ends[shard]] = int32(i)
		ends[shard]++
	}
	return s.numbers, ends
}

// winnerRef is one of the best rows of one shard.
type winnerRef struct {
	shard  int32
	number int32
}

func (l *latestScan) best(r winnerRef) *candidate { return &l.shards[r.shard].best[r.number] }

func (l *latestScan) position(r winnerRef) int64 { return l.best(r).position.row() }

// Winners are the newest rows that Latest found. But for Retain they are only read, and may be by several goroutines.
type Winners struct {
	scan *latestScan
	// refs in the order of their positions, and where the share of each fragment ends.
	refs  []winnerRef
	ends  []int
	stats LatestStats
}

func newWinners(l *latestScan) *Winners {
	w := &Winners{scan: l}
	for i := range l.shards {
		for number := range l.shards[i].best {
			w.refs = append(w.refs, winnerRef{int32(i), int32(number)})
		}
	}
	w.refs, w.ends = byFragment(l.history, w.refs, l.position)
	w.stats = LatestStats{
		RowsRead: l.rowsRead.Load(), RowsPruned: l.history.pruned.Load(), RowsNull: l.rowsNull.Load(),
		RowsFuture: l.rowsFuture.Load(), RowsOld: l.rowsOld.Load(), Winners: int64(len(w.refs)),
	}
	for i := range l.shards {
		w.stats.Entities += int64(l.shards[i].entities.count)
	}
	return w
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
		sortByPosition(w.share(f), w.scan.history.starts[f], w.scan.position)
		return nil
	})
}

// Stats says what was read.
func (w *Winners) Stats() LatestStats { return w.stats }

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

// Batches reads the values of the given features (indices in View.Features) and gives the winners in the canonical order of the source, in batches of
// at most batchSize rows (8,192 where it is 0 or less). No batch spans two fragments. An error of yield ends it and is returned as it is; an error of the source
// names the view. It may be called again, and then gives the same.
//
// A fragment is asked once a batch, so a source that cannot skip to a row reads a fragment again for each of its batches: for such sources choose
// large batches.
func (w *Winners) Batches(ctx context.Context, batchSize int, features []int, yield func(WinnerBatch) error) error {
	if batchSize <= 0 {
		batchSize = 8192
	}
	b := w.newBatch(features, min(batchSize, len(w.refs)))
	for f := range w.ends {
		for refs := range slices.Chunk(w.share(f), batchSize) {
			err := fault.Guard(func() error { return w.fill(ctx, &b, f, refs, features) })
			if err != nil {
				return fmt.Errorf("feature view %q: %w", w.scan.history.view.Name, err)
			}
			if err := yield(b); err != nil {
				return err
			}
		}
	}
	return nil
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

// fill replaces the contents of b by the winners refs, all of fragment f.
func (w *Winners) fill(ctx context.Context, b *WinnerBatch, f int, refs []winnerRef, features []int) error {
	for _, c := range slices.Concat(b.Keys, b.Features, []*feature.Column{b.EventTimes, b.CreatedTimes}) {
		c.Reset()
	}
	h := w.scan.history
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
			rows = append(rows, best.position.row()-h.starts[f])
		}
		b.EventTimes.AppendInt64(int64(best.event))
		b.CreatedTimes.AppendInt64(int64(best.created))
		if err := w.scan.shards[r.shard].appendKey(b.Keys, r.number); err != nil {
			return err
		}
	}
	if b.Tombstones == nil {
		return gatherRows(ctx, h.fragments[f], rows, features, b.Features)
	}
	live := w.newFeatures(features, len(rows))
	if len(rows) > 0 {
		if err := gatherRows(ctx, h.fragments[f], rows, features, live); err != nil {
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
