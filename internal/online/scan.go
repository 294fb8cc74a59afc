package online

import (
	"context"
	"fmt"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

// Scanned is some stored rows of one view, or versions. Element i of every column belongs to row i.
type Scanned struct {
	// Keys has one column for each key of the view's entity, in that order.
	Keys []*feature.Column
	// EventTimes is a TIMESTAMP column.
	EventTimes *feature.Column
	// CreatedTimes is a TIMESTAMP column; null is feature.NoCreatedTime.
	CreatedTimes *feature.Column
	// Tombstones says which rows say that their entity was deleted.
	Tombstones []bool
	// Features has one column for each online feature of the view, in definition order: as Read has them, but without regard to the ttl. A feature
	// that was defined after the row was written is NotFound in it, and so are those of a deletion.
	Features []*feature.Column
	// Unreadable are the rows that are stored beside these and cannot be told.
	Unreadable []UnreadableRow
}

// UnreadableRow is a stored row whose key or values cannot be told.
type UnreadableRow struct {
	// Key is the stored form of its entity's key.
	Key []byte
	// EventTime is its event time, where HasEventTime says that it can be told.
	EventTime    feature.EventTime
	HasEventTime bool
	// Err says why: of kind fault.Corrupt where it is damaged, fault.Precondition where a feature was stored as a type that cannot be read as the one that it is
	// defined with.
	Err error
}

// Scan calls yield with all stored rows of one generation of a view, or all versions, in no order, some at a time; yield may keep them. Rows that are
// stored during the whole call are among them, perhaps more than once; those that come or go meanwhile may be there or not.
//
// An error of yield ends the scan and is returned as it is. A row that cannot be read does not: it is told as one of Scanned.Unreadable.
func (s *Store) Scan(ctx context.Context, view *feature.View, generation uint64, yield func(*Scanned) error) error {
	if err := live(ctx, "scan features"); err != nil {
		return err
	}
	if err := checkGeneration(view, generation); err != nil {
		return err
	}
	c, err := newScanner(s, view)
	if err != nil {
		return err
	}
	var own error
	err = s.driver.Scan(ctx, scanOf(view, generation), func(rows []driver.ScannedRow) error {
		some, err := c.decode(ctx, rows)
		if err != nil {
			return err
		}
		own = yield(some)
		return own
	})
	if err != nil && own == nil {
		err = fmt.Errorf("scan view %q: %w", view.Name, err)
	}
	return err
}

func scanOf(view *feature.View, generation uint64) driver.Scan {
	return driver.Scan{Entity: view.Entity.Name, View: StoredName(view.Name, generation), History: view.HistoryVersions > 0}
}

// scanner decodes what one scan finds.
type scanner struct {
	store *Store
	view  planView
	types []feature.Type // of the keys, then of the features
	// unreadable says why the rows of a schema cannot be read.
	unreadable map[uint64]error
}

func newScanner(s *Store, view *feature.View) (*scanner, error) {
	c := &scanner{store: s, view: planView{view: view}, unreadable: map[uint64]error{}}
	selected := feature.SelectedView{View: view}
	for _, key := range view.Entity.Keys {
		c.types = append(c.types, key.Type)
	}
	for i, f := range view.Features {
		if f.Online {
			selected.Features = append(selected.Features, i)
			c.types = append(c.types, f.Type)
		}
	}
	return c, c.view.compile(selected)
}

// newScanned returns empty columns with room for rows: as they are told of, and all of them.
func (c *scanner) newScanned(rows int) (*Scanned, []*feature.Column) {
	columns := feature.NewColumns(append([]feature.Type{feature.Timestamp, feature.Timestamp}, c.types...), rows)
	keys := 2 + len(c.view.view.Entity.Keys)
	return &Scanned{
		EventTimes: columns[0], CreatedTimes: columns[1], Keys: columns[2:keys:keys], Features: columns[keys:], Tombstones: make([]bool, 0, rows),
	}, columns
}

// decode returns rows as columns. An error is about none of them alone: the store cannot be asked for a schema.
func (c *scanner) decode(ctx context.Context, rows []driver.ScannedRow) (*Scanned, error) {
	out, columns := c.newScanned(len(rows))
	for _, r := range rows {
		err := feature.DecodeKey(out.Keys, r.Key)
		if err == nil {
			err = c.append(ctx, out, r.Value)
		}
		if err == nil {
			continue
		}
		if fault.KindOf(err) == fault.Unavailable {
			return nil, err
		}
		for _, column := range columns {
			column.Truncate(len(out.Tombstones))
		}
		event, ok := eventTimeOf(r.Value)
		out.Unreadable = append(out.Unreadable, UnreadableRow{
			Key: r.Key, EventTime: event, HasEventTime: ok, Err: fmt.Errorf("view %q, entity %s %q: %w", c.view.view.Name, c.view.view.Entity.Name, r.Key, err),
		})
	}
	return out, nil
}

// eventTimeOf returns the event time of a stored row, and whether it can be told.
func eventTimeOf(stored []byte) (feature.EventTime, bool) {
	h, err := storedrow.ParseHeader(stored)
	return h.EventTime, err == nil
}

// append appends what a stored row says; after an error in part.
func (c *scanner) append(ctx context.Context, out *Scanned, stored []byte) error {
	h, err := storedrow.ParseHeader(stored)
	if err != nil {
		return damaged(err)
	}
	if h.Tombstone {
		for _, column := range out.Features {
			column.AppendMissing(feature.NotFound)
		}
	} else {
		projection, err := c.projection(ctx, h.Fingerprint)
		if err != nil {
			return err
		}
		if err := projection.Append(stored, out.Features); err != nil {
			return err
		}
	}
	out.EventTimes.AppendInt64(int64(h.EventTime))
	if h.CreatedTime == feature.NoCreatedTime {
		out.CreatedTimes.AppendMissing(feature.Null)
	} else {
		out.CreatedTimes.AppendInt64(int64(h.CreatedTime))
	}
	out.Tombstones = append(out.Tombstones, h.Tombstone)
	return nil
}

// projection returns how to read rows that were written under a schema, or why they cannot be, which is asked once.
func (c *scanner) projection(ctx context.Context, fingerprint uint64) (*storedrow.Projection, error) {
	if err, ok := c.unreadable[fingerprint]; ok {
		return nil, err
	}
	p, err := c.store.projection(ctx, &c.view, fingerprint)
	if err != nil && fault.KindOf(err) != fault.Unavailable {
		c.unreadable[fingerprint] = err
	}
	return p, err
}
