package online

import (
	"context"
	"time"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

// Rows are rows of one view to write. Element i of every column belongs to row i.
type Rows struct {
	View *feature.View
	// Generation is the generation of the view's rows that they belong to; see StoredName. Defaults to 0.
	Generation uint64
	// Keys has one column for each key of the view's entity, in that order.
	Keys []*feature.Column
	// EventTimes is a TIMESTAMP column.
	EventTimes *feature.Column
	// CreatedTimes is a TIMESTAMP column; nil, or a null in it, is feature.NoCreatedTime.
	CreatedTimes *feature.Column
	// Features has one column for each online feature of the view, in definition order. What is not Present is stored as null.
	Features []*feature.Column
	// Tombstones says which rows delete their entity from the view; the features of such a row are not looked at. nil is none.
	Tombstones []bool
	// LeaveOut says which rows are not written, and count as nothing; they are checked like all others. nil is none.
	LeaveOut []bool
	// BatchSize is the most rows that one call of the driver writes. Defaults to Options.BatchSize.
	BatchSize int
}

// WriteStats says what became of written rows.
type WriteStats struct {
	// Written rows are stored now.
	Written int
	// Older rows gave way to a newer stored one.
	Older int
	// Unchanged rows were stored already.
	Unchanged int
	// Expired rows were not sent to the store: they are older than the view's ttl and ExpiredRetention together. A view that keeps
	// versions has none: an expired row may be what was true between two others.
	Expired int
}

// Add adds o to s.
func (s *WriteStats) Add(o WriteStats) {
	s.Written += o.Written
	s.Older += o.Older
	s.Unchanged += o.Unchanged
	s.Expired += o.Expired
}

// Write stores each row, unless the stored row of its entity is newer: by event time, then created time; at equal times the
// later row wins, and a deletion wins over a row. Rows that are too old at Options.Now to be kept at all (feature.View.KeepFor) are left out; one
// that has expired since less than the retention is stored, so that what a reader is told does not depend on when the row was written.
//
// A row with a null key or a null event time is an error of kind fault.Invalid that names the row, and nothing is written. After
// any other error some of the rows may be stored, as the stats tell for whole batches; writing the same rows again is safe.
//
// The store may drop a row once it has been expired for the view's ExpiredRetention; never, where the view has no ttl or keeps the last good rows. So it is with
// deletions.
//
// Of a view with HistoryVersions each row is stored beside those of other event times, unless so many newer ones are stored. The versions
// of an entity are dropped together, when the newest may be.
func (s *Store) Write(ctx context.Context, rows Rows) (WriteStats, error) {
	p, err := s.newPacker(ctx, rows)
	if err != nil {
		return WriteStats{}, err
	}
	p.batch.rows = make([]driver.Row, 0, min(rows.EventTimes.Len(), p.batchSize))
	err = p.packAll(func() error {
		stats, err := s.writeBatch(ctx, p.batch.rows)
		p.stats.Add(stats)
		p.batch.reset() // after an error its memory is not used again: a driver that was given up may still read it
		return err
	})
	return p.stats, err
}

// newPacker checks the rows, and stores their schema.
func (s *Store) newPacker(ctx context.Context, rows Rows) (*packer, error) {
	if err := live(ctx, "write features"); err != nil {
		return nil, err
	}
	if err := rows.check(); err != nil {
		return nil, err
	}
	now, ahead := s.clocks()
	p := &packer{
		rows: rows, name: StoredName(rows.View.Name, rows.Generation), schema: storedrow.SchemaOf(rows.View), now: feature.AsOf(now.UnixMicro()), ahead: ahead,
		batchSize: rows.BatchSize,
	}
	if p.batchSize <= 0 {
		p.batchSize = s.batchSize
	}
	if rows.EventTimes.Len() == 0 {
		return p, nil
	}
	return p, s.schemas.register(ctx, rows.View.Name, p.schema)
}

// writeBatch has the driver write some rows.
func (s *Store) writeBatch(ctx context.Context, rows []driver.Row) (stats WriteStats, err error) {
	if err := live(ctx, "write features"); err != nil {
		return stats, err
	}
	outcomes, err := s.driver.Write(ctx, rows)
	if err != nil {
		return stats, err
	}
	if len(outcomes) != len(rows) {
		return stats, fault.New(fault.Internal, "the online store gave %d outcomes for %d rows", len(outcomes), len(rows))
	}
	for _, o := range outcomes {
		switch o {
		case driver.Written:
			stats.Written++
		case driver.Older:
			stats.Older++
		case driver.Unchanged:
			stats.Unchanged++
		}
	}
	return stats, nil
}

// check reports what is wrong with the rows.
func (r Rows) check() error {
	if r.View == nil || r.EventTimes == nil || r.EventTimes.Type != feature.Timestamp {
		return fault.New(fault.Invalid, "rows to write need a view and a TIMESTAMP column of event times")
	}
	n := r.EventTimes.Len()
	if err := checkGeneration(r.View, r.Generation); err != nil {
		return err
	}
	if err := checkKeys(r.invalid, r.View.Entity, r.Keys, n); err != nil {
		return err
	}
	if r.CreatedTimes != nil {
		if err := checkColumn(r.invalid, "the column of", "created times", feature.Timestamp, r.CreatedTimes, n); err != nil {
			return err
		}
	}
	at := 0
	for _, f := range r.View.Features {
		if !f.Online {
			continue
		}
		if at == len(r.Features) {
			return r.invalid("%d feature columns are too few: one for each online feature is needed", len(r.Features))
		}
		if err := checkColumn(r.invalid, "feature", f.Name, f.Type, r.Features[at], n); err != nil {
			return err
		}
		at++
	}
	if at != len(r.Features) {
		return r.invalid("%d feature columns where the view has %d online features", len(r.Features), at)
	}
	if r.Tombstones != nil && len(r.Tombstones) != n {
		return r.invalid("%d tombstone marks for %d rows", len(r.Tombstones), n)
	}
	if r.LeaveOut != nil && len(r.LeaveOut) != n {
		return r.invalid("%d marks of what to leave out for %d rows", len(r.LeaveOut), n)
	}
	return r.checkPresent(n)
}

// refusal makes an error of kind fault.Invalid that says what was to be done.
type refusal func(format string, args ...any) error

// checkKeys reports what is wrong with the columns of an entity's keys.
func checkKeys(invalid refusal, entity *feature.Entity, keys []*feature.Column, rows int) error {
	if len(keys) != len(entity.Keys) {
		return invalid("%d key columns where entity %q has %d keys", len(keys), entity.Name, len(entity.Keys))
	}
	for i, key := range entity.Keys {
		if err := checkColumn(invalid, "key", key.Name, key.Type, keys[i], rows); err != nil {
			return err
		}
	}
	return nil
}

func checkColumn(invalid refusal, what, name string, t feature.Type, c *feature.Column, rows int) error {
	if c == nil || c.Type != t {
		return invalid("%s %q is given as another type than %v", what, name, t)
	}
	if c.Len() != rows || len(c.Status) != rows {
		return invalid("%s %q has %d values for %d rows", what, name, c.Len(), rows)
	}
	return nil
}

func (r Rows) checkPresent(rows int) error {
	if len(r.EventTimes.Status) != rows {
		return r.invalid("the event times have %d statuses for %d rows", len(r.EventTimes.Status), rows)
	}
	for row := range rows {
		for i, key := range r.Keys {
			if !key.IsPresent(row) {
				return r.invalid("row %d: its key %q is null, so it belongs to no entity; leave the row out", row, r.View.Entity.Keys[i].Name)
			}
		}
		if !r.EventTimes.IsPresent(row) {
			return r.invalid("row %d: its event time is null; leave the row out", row)
		}
	}
	return nil
}

func (r Rows) invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, "write view %q: "+format, append([]any{r.View.Name}, args...)...)
}

// batch is some rows as the driver takes them.
type batch struct {
	rows  []driver.Row
	arena []byte // their keys and values
}

func (b *batch) reset() { b.rows, b.arena = b.rows[:0], b.arena[:0] }

// packer encodes the rows of one call, batch by batch.
type packer struct {
	rows   Rows
	name   string // of the view in the store
	schema *storedrow.Schema
	now    feature.AsOf
	ahead  time.Duration
	stats  WriteStats

	batchSize int
	batch     batch
}

// packAll calls full whenever the batch has its size, and at last with what is left.
func (p *packer) packAll(full func() error) error {
	for row := range p.rows.EventTimes.Len() {
		if p.rows.LeaveOut != nil && p.rows.LeaveOut[row] {
			continue
		}
		event := feature.EventTime(p.rows.EventTimes.Int64s[row])
		if p.rows.View.HistoryVersions == 0 && p.rows.View.KeepFor().Expired(event, p.now) {
			p.stats.Expired++
			continue
		}
		if err := p.add(row, event); err != nil {
			return err
		}
		if len(p.batch.rows) == p.batchSize {
			if err := full(); err != nil {
				return err
			}
		}
	}
	if len(p.batch.rows) == 0 {
		return nil
	}
	return full()
}

// add puts one row into the batch.
func (p *packer) add(row int, event feature.EventTime) error {
	created := feature.NoCreatedTime
	if c := p.rows.CreatedTimes; c != nil && c.IsPresent(row) {
		created = feature.CreatedTime(c.Int64s[row])
	}
	arena := p.batch.arena
	start := len(arena)
	arena, _ = feature.AppendKey(arena, p.rows.Keys, row)
	key := arena[start:len(arena):len(arena)]
	start = len(arena)
	if p.rows.Tombstones != nil && p.rows.Tombstones[row] {
		arena = storedrow.AppendTombstone(arena, event, created)
	} else {
		var err error
		if arena, err = storedrow.AppendRow(arena, p.schema, event, created, p.rows.Features, row); err != nil {
			return fault.New(fault.KindOf(err), "write view %q: row %d, entity %s %q: %w", p.rows.View.Name, row, p.rows.View.Entity.Name, key, err)
		}
	}
	p.batch.arena = arena
	p.batch.rows = append(p.batch.rows, driver.Row{
		Entity:         driver.Entity{Name: p.rows.View.Entity.Name, Key: key},
		View:           p.name,
		Value:          arena[start:len(arena):len(arena)],
		ExpireAtMillis: expireAtMillis(event, p.rows.View, p.ahead),
		Versions:       p.rows.View.HistoryVersions,
	})
	return nil
}

// farFuture is the end of the year 9999 in microseconds since the Unix epoch; what expires later never does.
const farFuture = 253402300799_000_000

// expireAtMillis returns the wall-clock time from which the store may drop a row: one millisecond after it has been expired for
// the view's retention, later by as much as the wall clock is ahead of the logical one. 0 is never: DropExpired removes the rows of a view that keeps the last good ones.
func expireAtMillis(event feature.EventTime, view *feature.View, ahead time.Duration) int64 {
	if view.TTL == 0 || view.KeepsLastGood() {
		return 0
	}
	// Neither sum can overflow: a float64 is exact enough to see that they are far from a date that could be meant.
	at := float64(event) + float64(view.TTL) + float64(view.ExpiredRetention.Microseconds()) + float64(ahead.Microseconds())
	if at > farFuture {
		return 0
	}
	if at < 0 {
		return 1
	}
	micros := int64(event) + int64(view.TTL) + view.ExpiredRetention.Microseconds() + ahead.Microseconds()
	return (micros+999)/1000 + 1
}
