package online

import (
	"context"
	"fmt"
	"slices"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

// ScanKeys calls yield with the stored forms of the keys of all entities that have something in one generation of a view, some at a time, in no order and some perhaps more than
// once; yield may keep them. It is Scan for who needs to know neither schema nor values. Of the view only the names of it and its entity, and whether it keeps versions, are
// looked at. An error of yield ends it and is returned as it is.
func (s *Store) ScanKeys(ctx context.Context, view *feature.View, generation uint64, yield func(keys [][]byte) error) error {
	if err := live(ctx, "scan features"); err != nil {
		return err
	}
	if err := checkGeneration(view, generation); err != nil {
		return err
	}
	var own error
	err := s.driver.Scan(ctx, scanOf(view, generation), func(rows []driver.ScannedRow) error {
		keys := make([][]byte, len(rows))
		for i, r := range rows {
			keys[i] = r.Key
		}
		own = yield(keys)
		return own
	})
	if err != nil && own == nil {
		err = fmt.Errorf("scan view %q: %w", view.Name, err)
	}
	return err
}

// Stored reports for each entity whether one generation of a view has a row of it, or a version, be it expired or a deletion. keys has one column for each key of the view's entity, in
// that order, without nulls.
func (s *Store) Stored(ctx context.Context, view *feature.View, generation uint64, keys []*feature.Column) ([]bool, error) {
	if err := live(ctx, "look for rows"); err != nil {
		return nil, err
	}
	if err := checkGeneration(view, generation); err != nil {
		return nil, err
	}
	reads, stored := readsOf(view, StoredName(view.Name, generation), keys, nil), make([]bool, 0, keys[0].Len())
	for some := range slices.Chunk(reads, s.batchSize) {
		rows, err := s.readKept(ctx, some)
		if err != nil {
			return nil, fmt.Errorf("look for rows of view %q: %w", view.Name, err)
		}
		for _, row := range rows {
			stored = append(stored, row != nil)
		}
	}
	return stored, nil
}

// Fingerprint identifies the schema under which rows of a view are written as it is defined.
func Fingerprint(view *feature.View) uint64 { return storedrow.SchemaOf(view).Fingerprint() }

// DropSchemas removes the schemas of a view that has no rows any more, by their fingerprints.
func (s *Store) DropSchemas(ctx context.Context, view string, fingerprints []uint64) error {
	for _, fingerprint := range fingerprints {
		name := schemaName(view, fingerprint)
		if err := s.dropMeta(ctx, name); err != nil {
			return fmt.Errorf("remove a schema of view %q: %w", view, err)
		}
		s.schemas.registered.Delete(name)
	}
	return nil
}

// dropMeta removes a small value, whatever it is.
func (s *Store) dropMeta(ctx context.Context, name string) error {
	for {
		values, err := s.GetMeta(ctx, []string{name})
		if err != nil || values[0] == nil {
			return err
		}
		if _, err := s.SwapMeta(ctx, name, values[0], nil); err != nil {
			return err
		}
	}
}
