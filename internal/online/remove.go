package online

import (
	"context"
	"fmt"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

// Remove removes what is stored of the entities that keys name, one column for each key of the view's entity, in one generation of the view, whatever its
// age: the row, or all versions. It returns how many entities had something; see driver.Driver for when they may be more. A null key is an error
// of kind fault.Invalid, and nothing is removed. After any other error some are removed; removing the same again is safe, as long as nobody has
// written them again.
func (s *Store) Remove(ctx context.Context, view *feature.View, generation uint64, keys []*feature.Column) (removed int, err error) {
	if err := live(ctx, "remove features"); err != nil {
		return 0, err
	}
	removals, err := removalsOf(view, generation, keys)
	if err != nil {
		return 0, err
	}
	for len(removals) > 0 {
		if err := live(ctx, "remove features"); err != nil {
			return removed, err
		}
		some := removals[:min(s.batchSize, len(removals))]
		n, err := s.driver.Remove(ctx, some)
		removed += n
		if err != nil {
			return removed, fmt.Errorf("remove rows of view %q: %w", view.Name, err)
		}
		removals = removals[len(some):]
	}
	return removed, nil
}

// removalsOf lists what is to be removed.
func removalsOf(view *feature.View, generation uint64, keys []*feature.Column) ([]driver.Removal, error) {
	invalid := func(format string, args ...any) error {
		return fault.New(fault.Invalid, "remove rows of view %q: "+format, append([]any{view.Name}, args...)...)
	}
	if err := checkGeneration(view, generation); err != nil {
		return nil, err
	}
	rows := 0
	if len(keys) > 0 && keys[0] != nil {
		rows = keys[0].Len()
	}
	if err := checkKeys(invalid, view.Entity, keys, rows); err != nil {
		return nil, err
	}
	name, removals := StoredName(view.Name, generation), make([]driver.Removal, rows)
	var arena []byte
	for row := range removals {
		start := len(arena)
		var ok bool
		if arena, ok = feature.AppendKey(arena, keys, row); !ok {
			return nil, invalid("row %d: one of its keys is null, so it belongs to no entity; leave the row out", row)
		}
		key := arena[start:len(arena):len(arena)]
		removals[row] = driver.Removal{Entity: driver.Entity{Name: view.Entity.Name, Key: key}, View: name, History: view.HistoryVersions > 0}
	}
	return removals, nil
}

// RemoveAll removes every row of one generation of a view, or every version, readable or not. Of the view only the names of it and its entity, and whether
// it keeps versions, are looked at. Rows that others write meanwhile may be left. progress, where it is not nil, is told after each batch how many
// entities had something until then; its error ends the call and is returned as it is. After an error some are removed.
func (s *Store) RemoveAll(ctx context.Context, view *feature.View, generation uint64, progress func(removed int) error) (removed int, err error) {
	if err := live(ctx, "remove features"); err != nil {
		return 0, err
	}
	if err := checkGeneration(view, generation); err != nil {
		return 0, err
	}
	scan := scanOf(view, generation)
	var own error
	err = s.driver.Scan(ctx, scan, func(rows []driver.ScannedRow) error {
		removals := make([]driver.Removal, len(rows))
		for i, r := range rows {
			removals[i] = driver.Removal{Entity: driver.Entity{Name: scan.Entity, Key: r.Key}, View: scan.View, History: scan.History}
		}
		n, err := s.driver.Remove(ctx, removals)
		if removed += n; err == nil && progress != nil {
			own = progress(removed)
			err = own
		}
		return err
	})
	if err != nil && own == nil {
		err = fmt.Errorf("remove all rows of view %q: %w", scan.View, err)
	}
	return removed, err
}
