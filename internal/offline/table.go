package offline

import (
	"context"

	"github.com/twofold-ml/twofold/internal/feature"
)

// File is one version of one Parquet file.
type File struct {
	// URL is file:///… or s3://….
	URL string
	// SizeBytes is its length.
	SizeBytes int64
	// ETag tells versions apart. For a local file it is made of its size and time of modification.
	ETag string
}

func fileOf(o object) File {
	return File{URL: o.at.String(), SizeBytes: o.size, ETag: o.etag}
}

// Table is the history of one feature view. It holds nothing open, and may be used by several goroutines at once.
type Table struct {
	store *Store
	view  *feature.View
	// wants are the keys, the event time, the created time where there is one, and the features.
	wants   []wanted
	keys    int
	created bool
}

// Table gives the history of a view. It reads nothing.
func (s *Store) Table(view *feature.View) *Table {
	t := &Table{store: s, view: view, keys: len(view.Entity.Keys)}
	for i, key := range view.Entity.Keys {
		t.wants = append(t.wants, wanted{view.Source.KeyColumns[i], key.Type, "key", true})
	}
	t.wants = append(t.wants, wanted{view.Source.EventTimeColumn, feature.Timestamp, "event time", true})
	if view.Source.CreatedTimeColumn != "" {
		t.created = true
		t.wants = append(t.wants, wanted{view.Source.CreatedTimeColumn, feature.Timestamp, "created time", true})
	}
	for _, f := range view.Features {
		t.wants = append(t.wants, wanted{f.Column, f.Type, "feature", false})
	}
	return t
}

// keyColumns is the number of columns before the features.
func (t *Table) keyColumns() int { return len(t.wants) - len(t.view.Features) }

// Files lists the files of the view in the canonical order: by the bytes of their URLs. A path that matches nothing is an error of
// kind Precondition.
func (t *Table) Files(ctx context.Context) ([]File, error) {
	at, err := t.store.base.resolve(t.view.Source.Path)
	if err != nil {
		return nil, err
	}
	d, err := t.store.driver(ctx, at)
	if err != nil {
		return nil, err
	}
	objects, err := find(ctx, d, at)
	if err != nil {
		return nil, err
	}
	files := make([]File, len(objects))
	for i, o := range objects {
		files[i] = fileOf(o)
	}
	return files, nil
}

// Fragments lists the files anew and gives their row groups that may hold rows of the range, in the canonical order; pruned is the number
// of rows in the others. It reads the footers, not the data.
//
// All columns of the view are looked up in all files: a key or time that a file lacks, a feature that every file lacks, and a
// column whose type does not fit are errors of kind Precondition. A feature that only some files lack is null there.
func (t *Table) Fragments(ctx context.Context, within feature.TimeRange) (fragments []*Fragment, pruned int64, err error) {
	sources, err := t.store.sources(ctx, t.view.Source.Path)
	if err != nil {
		return nil, 0, err
	}
	return t.fragments(sources, within)
}

// fragments is Fragments over files that are known.
func (t *Table) fragments(sources []*source, within feature.TimeRange) (fragments []*Fragment, pruned int64, err error) {
	path, err := t.store.Resolve(t.view.Source.Path)
	if err != nil {
		return nil, 0, err
	}
	if err := checkAnywhere(path, sources, t.wants); err != nil {
		return nil, 0, err
	}
	for _, s := range sources {
		bindings := make([]binding, len(t.wants))
		for i, w := range t.wants {
			if bindings[i], err = s.bind(w); err != nil {
				return nil, 0, err
			}
		}
		for g, group := range s.footer.groups {
			switch {
			case group.rows == 0:
			case s.mayHold(g, bindings[t.keys], within):
				fragments = append(fragments, &Fragment{table: t, source: s, group: g, bindings: bindings})
			default:
				pruned += group.rows
			}
		}
	}
	return fragments, pruned, nil
}
