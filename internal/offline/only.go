package offline

import (
	"cmp"
	"context"
	"slices"

	"github.com/twofold-ml/twofold/internal/fault"
)

// Only makes the scan read exactly these files of the table, in the versions that Table.Files listed, and without listing them again. They are read in the canonical
// order, whatever the order in which they are given, so that of rows of equal times the same one wins as among all files; none is no rows. Call it before Fragments, which
// fails with kind Unavailable, then or when rows are read, where a file was replaced or removed since it was listed.
//
// What is null in files that lack a column does not depend on the choice: a feature that none of these files has is looked for in all others, which takes
// a listing then, and is an error only where none has it.
func (s *Scan) Only(files []File) error {
	at, err := s.table.store.base.resolve(s.table.view.Source.Path)
	if err != nil {
		return err
	}
	s.only = make([]object, len(files))
	for i, f := range files {
		o, err := f.object()
		if err != nil {
			return err
		}
		if o.at.bucket != at.bucket {
			return fault.New(fault.Invalid, "the file %s is none of %s", f.URL, at)
		}
		s.only[i] = o
	}
	slices.SortFunc(s.only, func(a, b object) int { return cmp.Compare(a.at.path, b.at.path) })
	for i := 1; i < len(s.only); i++ {
		if s.only[i].at == s.only[i-1].at {
			return fault.New(fault.Invalid, "the file %s is listed twice", s.only[i].at)
		}
	}
	return nil
}

// openOnly opens the files that Only chose; all are those that tell whether a column is anywhere.
func (s *Scan) openOnly(ctx context.Context) (sources, all []*source, err error) {
	store, path := s.table.store, s.table.view.Source.Path
	at, err := store.base.resolve(path)
	if err != nil {
		return nil, nil, err
	}
	d, err := store.driver(ctx, at)
	if err != nil {
		return nil, nil, err
	}
	sources, err = store.openSources(ctx, d, at, s.only)
	if err != nil || len(sources) == 0 {
		return nil, nil, err
	}
	if slices.ContainsFunc(s.table.wants, func(w wanted) bool { return !w.isAnywhere(sources) }) {
		all, err = store.sources(ctx, path, nil)
		return sources, all, err
	}
	return sources, sources, nil
}
