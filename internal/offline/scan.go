package offline

import (
	"context"

	"github.com/twofold-ml/twofold/internal/feature"
)

// Scan is one reading of a table: the source that a join or a sync asks for (pit.Source), which remembers what it listed.
type Scan struct {
	table *Table
	files []File
}

// Scan begins a reading of the table. It reads nothing yet.
func (t *Table) Scan() *Scan { return &Scan{table: t} }

// Fragments is Table.Fragments as the join knows it.
func (s *Scan) Fragments(ctx context.Context, within feature.TimeRange) ([]feature.Fragment, int64, error) {
	sources, err := s.table.store.sources(ctx, s.table.view.Source.Path)
	if err != nil {
		return nil, 0, err
	}
	s.files = make([]File, len(sources))
	for i, source := range sources {
		s.files[i] = fileOf(source.object)
	}
	found, pruned, err := s.table.fragments(sources, within)
	if err != nil {
		return nil, 0, err
	}
	fragments := make([]feature.Fragment, len(found))
	for i, f := range found {
		fragments[i] = f
	}
	return fragments, pruned, nil
}

// Files returns the files that the last call of Fragments listed, in the canonical order, those left unread included.
func (s *Scan) Files() []File { return s.files }
