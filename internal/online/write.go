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
	if err := live(ctx, "write features"); err != nil {
		return WriteStats{}, err
	}
	if err := rows.check(); err != nil {
		return WriteStats{}, err
	}
	if rows.EventTimes.Len() == 0 {
		return WriteStats{}, nil
	}
	schema := storedrow.SchemaOf(rows.View)
	if err := s.schemas.register(ctx, rows.View.Name, schema); err != nil {
		return WriteStats{}, err
	}
	now, ahead := s.clocks()
	name := StoredName(rows.View.Name, rows.Generation)
	w := writer{store: s, rows: rows, name: name, schema: schema, now: feature.AsOf(now.UnixMicro()), ahead: ahead, batchSize: rows.BatchSize}
	if w.batchSize <= 0 {
		w.batchSize = s.batchSize
	}
	err := w.writeAll(ctx)
	return w.stats, err
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

// writer writes the rows of one call in batches.
type writer struct {
	store  *Store
	rows   Rows
	name   string // of the view in the store
	schema *storedrow.Schema
	now    feature.AsOf
	ahead  time.Duration
	stats  WriteStats

	batchSize int

	batch []driver.Row
	arena []byte // keys and values of batch
}

func (w *writer) writeAll(ctx context.Context) error {
	n := w.rows.EventTimes.Len()
	w.batch = make([]driver.Row, 0, min(n, w.batchSize))
	for row := range n {
		if w.rows.LeaveOut != nil && w.rows.LeaveOut[row] {
			continue
		}
		event := feature.EventTime(w.rows.EventTimes.Int64s[row])
		if w.rows.View.HistoryVersions == 0 && w.rows.View.KeepFor().Expired(event, w.now) {
			w.stats.Expired++
			continue
		}
		if err := w.add(row, event); err != nil {
			return err
		}
		if len(w.batch) == w.batchSize {
			if err := w.flush(ctx); err != nil {
				return err
			}
		}
	}
	return w.flush(ctx)
}

// add puts one row into the batch.
func (w *writer) add(row int, event feature.EventTime) error {
	created := feature.NoCreatedTime
	if c := w.rows.CreatedTimes; c != nil && c.IsPresent(row) {
		created = feature.CreatedTime(c.Int64s[row])
	}
	start := len(w.arena)
	w.arena, _ = feature.AppendKey(w.arena, w.rows.Keys, row)
	key := w.arena[start:len(w.arena):len(w.arena)]
	start = len(w.arena)
	if w.rows.Tombstones != nil && w.rows.Tombstones[row] {
		w.arena = storedrow.AppendTombstone(w.arena, event, created)
	} else {
		var err error
		if w.arena, err = storedrow.AppendRow(w.arena, w.schema, event, created, w.rows.Features, row); err != nil {
			return fault.New(fault.KindOf(err), "write view %q: row %d, entity %s %q: %w", w.rows.View.Name, row, w.rows.View.Entity.Name, key, err)
		}
	}
	w.batch = append(w.batch, driver.Row{
		Entity:         driver.Entity{Name: w.rows.View.Entity.Name, Key: key},
		View:           w.name,
		Value:          w.arena[start:len(w.arena):len(w.arena)],
		ExpireAtMillis: expireAtMillis(event, w.rows.View, w.ahead),
		Versions:       w.rows.View.HistoryVersions,
	})
	return nil
}

// flush writes the batch. After an error the memory of the batch is not used again: a driver that was given up may still read it.
func (w *writer) flush(ctx context.Context) error {
	if len(w.batch) == 0 {
		return nil
	}
	if err := live(ctx, "write features"); err != nil {
		return err
	}
	outcomes, err := w.store.driver.Write(ctx, w.batch)
	if err != nil {
		return err
	}
	if len(outcomes) != len(w.batch) {
		return fault.New(fault.Internal, "the online store gave %d outcomes for %d rows", len(outcomes), len(w.batch))
	}
	for _, o := range outcomes {
		switch o {
		case driver.Written:
			w.stats.Written++
		case driver.Older:
			w.stats.Older++
		case driver.Unchanged:
			w.stats.Unchanged++
		}
	}
	w.batch, w.arena = w.batch[:0], w.arena[:0]
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
