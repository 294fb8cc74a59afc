package online

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

// Found is what is stored of some entities, one row of each. Element i of every column and slice belongs to entity i.
type Found struct {
	// Stored says of which entities a row is stored that can be read. Elsewhere the columns are NotFound.
	Stored []bool
	// EventTimes is a TIMESTAMP column. It has the time of a row that cannot be read too, where that much can be told.
	EventTimes *feature.Column
	// CreatedTimes is a TIMESTAMP column; null is feature.NoCreatedTime.
	CreatedTimes *feature.Column
	// Tombstones says which rows say that their entity was deleted.
	Tombstones []bool
	// Features are as in Scanned.
	Features []*feature.Column
	// Errs says why a stored row cannot be read, as UnreadableRow.Err; nil where it can, or where none is stored.
	Errs []error
}

// Lookup returns what is stored of the entities that keys name, one column for each key of the view's entity, without nulls, in one generation of the view: as
// Scan does, and so without regard to the ttl, deletions included. Of a view that keeps versions it is the newest version with an event time at or before asOf[i], or
// the newest of all where asOf is nil; of others asOf is not looked at. Versions that were dropped are not stored.
func (s *Store) Lookup(ctx context.Context, view *feature.View, generation uint64, keys []*feature.Column, asOf []feature.AsOf) (*Found, error) {
	if err := live(ctx, "look rows up"); err != nil {
		return nil, err
	}
	if err := checkGeneration(view, generation); err != nil {
		return nil, err
	}
	c, err := newScanner(s, view)
	if err != nil {
		return nil, err
	}
	reads := readsOf(view, StoredName(view.Name, generation), keys, asOf)
	rows, err := s.readKept(ctx, reads)
	if err != nil {
		return nil, fmt.Errorf("look rows of view %q up: %w", view.Name, err)
	}
	return c.found(ctx, reads, rows)
}

// readsOf asks for what is stored of entities under the name of a view, of versions the newest as of asOf, or of all where it is nil.
func readsOf(view *feature.View, name string, keys []*feature.Column, asOf []feature.AsOf) []driver.Read {
	views, reads := []string{name}, make([]driver.Read, keys[0].Len())
	var arena []byte
	for i := range reads {
		start := len(arena)
		arena, _ = feature.AppendKey(arena, keys, i)
		reads[i] = driver.Read{
			Entity: driver.Entity{Name: view.Entity.Name, Key: arena[start:len(arena):len(arena)]}, Views: views, History: view.HistoryVersions > 0, AsOfMicros: math.MaxInt64,
		}
		if asOf != nil {
			reads[i].AsOfMicros = int64(asOf[i])
		}
	}
	return reads
}

// readKept reads one row each. That older versions were dropped is no error: they are not stored.
func (s *Store) readKept(ctx context.Context, reads []driver.Read) ([][]byte, error) {
	if len(reads) == 0 {
		return nil, nil
	}
	asked := reads
	if reads[0].History {
		// An answer in which every read failed tells the reason of the first only. One that cannot fail for dropped versions keeps them apart.
		last := reads[0]
		last.History = false
		asked = append(reads[:len(reads):len(reads)], last)
	}
	rows, err := s.driver.Read(ctx, asked)
	if partial, ok := errors.AsType[*driver.PartialError](err); ok {
		err = nil
		for _, e := range partial.Errs {
			if e != nil && !errors.Is(e, driver.ErrNotKept) {
				return nil, e
			}
		}
	}
	if err == nil && len(rows) != len(asked) {
		err = fault.New(fault.Internal, "the online store answered %d rows where %d were asked for", len(rows), len(asked))
	}
	if err != nil {
		return nil, err
	}
	return rows[:len(reads)], nil
}

// found decodes the answers to reads. An error is about none of them alone.
func (c *scanner) found(ctx context.Context, reads []driver.Read, rows [][]byte) (*Found, error) {
	out, columns := c.newScanned(len(rows))
	found := &Found{
		Stored: make([]bool, len(rows)), EventTimes: out.EventTimes, CreatedTimes: out.CreatedTimes, Features: out.Features, Errs: make([]error, len(rows)),
	}
	missing := columns[2+len(out.Keys):]
	for i, stored := range rows {
		if stored != nil {
			err := c.append(ctx, out, stored)
			if found.Stored[i] = err == nil; found.Stored[i] {
				continue
			}
			if fault.KindOf(err) == fault.Unavailable {
				return nil, err
			}
			entity := reads[i].Entity
			found.Errs[i] = fmt.Errorf("view %q, entity %s %q: %w", c.view.view.Name, entity.Name, entity.Key, err)
		}
		for _, column := range missing {
			column.Truncate(i)
			column.AppendMissing(feature.NotFound)
		}
		out.CreatedTimes.AppendMissing(feature.NotFound)
		if event, ok := eventTimeOf(stored); ok {
			out.EventTimes.AppendInt64(int64(event))
		} else {
			out.EventTimes.AppendMissing(feature.NotFound)
		}
		out.Tombstones = append(out.Tombstones, false)
	}
	found.Tombstones = out.Tombstones
	return found, nil
}
