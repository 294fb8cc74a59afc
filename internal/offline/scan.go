package offline

import (
	"context"
	"sync"

	"github.com/twofold-ml/twofold/internal/feature"
)

// Scan is one reading of a table: the source that a join or a sync asks for (pit.Source). It lists the files and reads their footers once, when
// it is first asked, and keeps to that listing: all time ranges are of the same versions of the same files. It may be used by several goroutines at once.
type Scan struct {
	table *Table

	mu      sync.Mutex
	sources []boundSource // nil until the files are listed
	files   []File
	// pinned are the only files that are read, by URL; nil for all that are there.
	pinned map[string]File
	// only are those that are read without a listing, in the canonical order; nil for all.
	only []object
}

// Scan begins a reading of the table. It reads nothing yet.
func (t *Table) Scan() *Scan { return &Scan{table: t} }

// KeepBadRows makes the scan give rows that the syncer cannot carry, so that it can tell of them. Text that is not UTF-8 comes as it is and is no error, and rows are
// not left unread for having no event time, though they may be with other rows of their row group that are. Call it before anything is read.
func (s *Scan) KeepBadRows() {
	table := *s.table
	table.keepsBad = true
	s.table = &table
}

// Fragments is Table.Fragments as the join knows it. It may be asked for several ranges; after an error it lists the files anew.
func (s *Scan) Fragments(ctx context.Context, within feature.TimeRange) ([]feature.Fragment, int64, error) {
	sources, err := s.list(ctx)
	if err != nil {
		return nil, 0, err
	}
	found, pruned := s.table.fragments(sources, within)
	fragments := make([]feature.Fragment, len(found))
	for i, f := range found {
		fragments[i] = f
	}
	return fragments, pruned, nil
}

// IsRemote reports whether the files are read over a network.
func (s *Scan) IsRemote() (bool, error) {
	at, err := s.table.store.base.resolve(s.table.view.Source.Path)
	return err == nil && at.isS3(), err
}

// list gives the files of the reading.
func (s *Scan) list(ctx context.Context) ([]boundSource, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sources != nil {
		return s.sources, nil
	}
	open := s.openListed
	if s.only != nil {
		open = s.openOnly
	}
	sources, all, err := open(ctx)
	if err != nil {
		return nil, err
	}
	s.files = make([]File, len(sources))
	for i, source := range sources {
		s.files[i] = fileOf(source.object)
	}
	if len(all) == 0 {
		s.sources = []boundSource{}
		return s.sources, nil
	}
	s.sources, err = s.table.bind(sources, all)
	return s.sources, err
}

// openListed lists the table and opens its files, or those that are pinned.
func (s *Scan) openListed(ctx context.Context) (sources, all []*source, err error) {
	sources, err = s.table.store.sources(ctx, s.table.view.Source.Path, s.choose)
	return sources, sources, err
}

// Later gives, by the URL of the file, the least event time of the row groups that Fragments leaves out for being after the range (pit.LateSource).
func (s *Scan) Later(within feature.TimeRange) map[string]feature.EventTime {
	s.mu.Lock()
	defer s.mu.Unlock()
	later := map[string]feature.EventTime{}
	for _, source := range s.sources {
		for g := range source.footer.groups {
			times, ok := s.table.timesOf(source, g)
			if !ok || times.Min <= within.Max {
				continue
			}
			url := source.object.at.String()
			if known, ok := later[url]; !ok || times.Min < known {
				later[url] = times.Min
			}
		}
	}
	return later
}

// Files returns the files that Fragments listed, in the canonical order, those left unread included.
func (s *Scan) Files() []File {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files
}
