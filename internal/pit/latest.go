package pit

import (
	"context"
	"fmt"
	"math"
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
	// MaxEventTime is the latest event time that a row may have: one that is later is bad, and not merely from after AsOf. With it no part of the
	// source is left out for being after AsOf. At least AsOf. Defaults to 0: no event time is too late.
	MaxEventTime feature.EventTime
	// MaxAge leaves out rows whose event time is more than this before AsOf; exactly MaxAge is used. Defaults to 0: rows of any age are used.
	MaxAge feature.TTL
	// Versions is how many rows of each entity are wanted: those of its newest event times, one of each. Defaults to 1: the newest row only.
	Versions int
	// Mine says of an entity, by the stored form of its key (feature.AppendKey), whether its rows are looked at; of rows with a null key it is asked with nil. It is called
	// for every row read, by several goroutines at once, and must not keep the key. Defaults to nil: all are.
	Mine func(key []byte) bool
	// Workers is how many fragments are read at once. Defaults to GOMAXPROCS.
	Workers int
	// Bad is told of each row that was read and cannot be carried, once. It is called by several goroutines at once, of which each is at another fragment; its error
	// ends Latest, or Winners.Batches, and is what they fail with. Bad rows in parts that are left unread stay unknown. Defaults to nil: bad rows are only counted.
	Bad func(BadRows) error
	// Progress is told what was read. Defaults to nil: nobody looks.
	Progress *Progress
}

// LatestStats says what Latest has read. Of RowsRead, what is neither in RowsBad, RowsFuture, RowsOld, RowsForgotten and RowsOthers nor a winner gave way to a newer row.
type LatestStats struct {
	// RowsRead is the number of feature rows whose keys were read.
	RowsRead int64
	// RowsPruned is the number of feature rows left unread, because their fragment, or the part of it that they are in, has no event time in the range.
	RowsPruned int64
	// RowsBad is the number of rows read that cannot be carried, by reason. A winner with an invalid text is counted here, and as a winner no more, once Winners.Batches
	// has found it.
	RowsBad BadCounts
	// RowsFuture is the number of rows read whose event time is after AsOf, but not after MaxEventTime.
	RowsFuture int64
	// RowsOld is the number of rows read whose event time is more than MaxAge before AsOf.
	RowsOld int64
	// RowsForgotten is the number of winners that Winners.Forget has left out; they are winners no more.
	RowsForgotten int64
	// RowsOthers is the number of rows read that LatestOptions.Mine said no to; nothing else is said of them.
	RowsOthers int64
	// Entities is the number of distinct entities with a row that may be used.
	Entities int64
	// Winners is the number of rows found: one an entity, or up to LatestOptions.Versions.
	Winners int64
}

// Latest finds the newest row of each entity as of a moment, by the same order as Join: event time, then created time, then tombstones, then the
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
	if o.MaxEventTime != 0 && int64(o.MaxEventTime) < int64(o.AsOf) {
		return nil, fault.New(fault.Invalid, "the greatest event time (%d) is before the moment asked about (%d)", o.MaxEventTime, o.AsOf)
	}
	if len(view.Entity.Keys) == 0 {
		return nil, fault.New(fault.Internal, "entity %q has no keys", view.Entity.Name)
	}
	h, err := openHistory(ctx, view, source, o.within())
	if err != nil {
		return nil, err
	}
	if o.Progress == nil {
		o.Progress = &Progress{}
	}
	o.Progress.Rows.Add(h.rows())
	p := newPool(o.Workers)
	scan := newLatestScan(h, o)
	if late, ok := source.(LateSource); ok {
		scan.due.later = late.Later(h.within)
	}
	h.within.Max = math.MaxInt64 // of what is read, the rows that are not due yet are told too
	if err := h.scan(ctx, p, scan.visit); err != nil {
		return nil, err
	}
	scan.settle()
	w := newWinners(scan)
	return w, w.sort(ctx, p)
}

// within is the range of event times that is read.
func (o *LatestOptions) within() feature.TimeRange {
	within := feature.TimeRange{Min: earliest(o.AsOf, o.MaxAge), Max: feature.EventTime(o.AsOf)}
	if o.MaxEventTime != 0 {
		within.Max = math.MaxInt64
	}
	return within
}

// latestScan keeps the newest row of each entity. Entities are spread over shards by the hash of their key, so that workers seldom meet.
type latestScan struct {
	history *history
	options LatestOptions
	hasher  hasher
	shards  [shards]shard

	bad                           badRows
	due                           dueTimes
	rowsRead, rowsFuture, rowsOld atomic.Int64
	rowsOthers                    atomic.Int64
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
	l.bad.history, l.bad.told = h, o.Bad
	l.due.history, l.due.fragments = h, make([]dueTime, len(h.fragments))
	for i := range l.shards {
		l.shards[i].entities = newInterner(isIntKey(h.view.Entity.Keys))
	}
	return l
}

func (l *latestScan) visit(s *scratch, first int64, batch feature.KeyBatch) error {
	s.selectComplete(batch, false)
	l.rowsRead.Add(int64(batch.Len()))
	l.options.Progress.Scanned.Add(int64(batch.Len()))
	complete := len(s.rows) == batch.Len()
	others := l.leaveOthers(s, batch)
	if !complete {
		if err := l.bad.addIncomplete(first, batch, others); err != nil {
			return err
		}
	}
	if err := l.bad.takeInvalidText(s, first, batch); err != nil {
		return err
	}
	if err := l.keepUsable(s, first, batch); err != nil {
		return err
	}
	if len(s.rows) == 0 {
		return nil
	}
	s.loadKeys(&l.hasher, batch)
	l.offer(s, first, batch)
	return nil
}

// keepUsable drops the rows that are after AsOf or too old, and counts them.
func (l *latestScan) keepUsable(s *scratch, first int64, batch feature.KeyBatch) error {
	events, most := batch.EventTimes.Int64s, int64(math.MaxInt64)
	if l.options.MaxEventTime != 0 {
		most = int64(l.options.MaxEventTime)
	}
	var future, old int64
	due := int64(math.MaxInt64)
	var tooLate []int64
	kept := s.rows[:0]
	for _, row := range s.rows {
		switch event := events[row]; {
		case event > most:
			tooLate = append(tooLate, first+int64(row))
		case event > int64(l.options.AsOf):
			future++
			due = min(due, event)
		case l.options.MaxAge.Expired(feature.EventTime(event), l.options.AsOf):
			old++
		default:
			kept = append(kept, row)
		}
	}
	s.rows = kept
	l.rowsOld.Add(old)
	if future > 0 {
		l.rowsFuture.Add(future)
		l.due.add(first, feature.EventTime(due))
	}
	return l.bad.add(FutureEventTime, tooLate)
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
