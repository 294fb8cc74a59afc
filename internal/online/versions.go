package online

import (
	"context"
	"fmt"
	"math"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

// HaveVersions reports for each entity whether the store has a version of its row in the view, be it a deletion. The view keeps versions; keys has
// one column for each key of its entity, in that order, without nulls.
func (s *Store) HaveVersions(ctx context.Context, view *feature.View, keys []*feature.Column) ([]bool, error) {
	if err := live(ctx, "look for versions"); err != nil {
		return nil, err
	}
	views, reads := []string{view.Name}, make([]driver.Read, keys[0].Len())
	var arena []byte
	for i := range reads {
		start := len(arena)
		arena, _ = feature.AppendKey(arena, keys, i)
		reads[i] = driver.Read{
			Entity: driver.Entity{Name: view.Entity.Name, Key: arena[start:len(arena):len(arena)]}, Views: views, History: true, AsOfMicros: math.MaxInt64,
		}
	}
	rows, err := s.driver.Read(ctx, reads)
	if err != nil {
		return nil, fmt.Errorf("look for versions of view %q: %w", view.Name, err)
	}
	have := make([]bool, len(reads))
	for i, row := range rows {
		have[i] = row != nil
	}
	return have, nil
}
