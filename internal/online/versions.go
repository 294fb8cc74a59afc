package online

import (
	"context"
	"fmt"

	"github.com/twofold-ml/twofold/internal/feature"
)

// HaveVersions reports for each entity whether the store has a version of its row in the view, be it a deletion. The view keeps versions; keys has
// one column for each key of its entity, in that order, without nulls.
func (s *Store) HaveVersions(ctx context.Context, view *feature.View, keys []*feature.Column) ([]bool, error) {
	if err := live(ctx, "look for versions"); err != nil {
		return nil, err
	}
	reads := readsOf(view, view.Name, keys, nil)
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
