package offline

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/twofold-ml/twofold/internal/fault"
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

// object is the inverse of fileOf.
func (f File) object() (object, error) {
	at, ok := locationOf(f.URL)
	if !ok {
		return object{}, fault.New(fault.Invalid, "%q is not the URL of a file", f.URL)
	}
	return object{at: at, size: f.SizeBytes, etag: f.ETag}, nil
}

// Table is the history of one feature view. It holds nothing open, and may be used by several goroutines at once.
type Table struct {
	store *Store
	view  *feature.View
	// wants are the keys, the event time, the created time and the deleted column where there are, and the features.
	wants []wanted
	keys  int
	// created and deleted are the places in wants of these columns, 0 where the view has none.
	created, deleted int
	// keepsBad says that rows that cannot be carried are read too: see Scan.KeepBadRows.
	keepsBad bool
}

// Table gives the history of a view. It reads nothing.
func (s *Store) Table(view *feature.View) *Table {
	t := &Table{store: s, view: view, keys: len(view.Entity.Keys)}
	for i, key := range view.Entity.Keys {
		t.wants = append(t.wants, wanted{view.Source.KeyColumns[i], key.Type, "key", true})
	}
	t.wants = append(t.wants, wanted{view.Source.EventTimeColumn, feature.Timestamp, "event time", true})
	if view.Source.CreatedTimeColumn != "" {
		t.created = len(t.wants)
		t.wants = append(t.wants, wanted{view.Source.CreatedTimeColumn, feature.Timestamp, "created time", true})
	}
	if view.Source.DeletedColumn != "" {
		t.deleted = len(t.wants)
		t.wants = append(t.wants, wanted{view.Source.DeletedColumn, feature.Bool, "deleted", true})
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
// All columns of the view are looked up in all files: a key, a time or a deleted column that a file lacks, a feature that every file lacks, and a
// column whose type does not fit are errors of kind Precondition. A feature that only some files lack is null there.
func (t *Table) Fragments(ctx context.Context, within feature.TimeRange) (fragments []*Fragment, pruned int64, err error) {
	sources, err := t.store.sources(ctx, t.view.Source.Path, nil)
	if err != nil {
		return nil, 0, err
	}
	bound, err := t.bind(sources, sources)
	if err != nil {
		return nil, 0, err
	}
	fragments, pruned = t.fragments(bound, within)
	return fragments, pruned, nil
}

// boundSource is a file, with where the wanted columns come from in it.
type boundSource struct {
	*source
	bindings []binding
}

// bindKey is what bindings depend on: the columns of the file, and the partitions that are wanted.
type bindKey struct {
	columns    *column
	partitions string
}

// bind looks up the wanted columns in files, of the table's all. Files alike share their bindings: there may be a hundred thousand.
func (t *Table) bind(sources, all []*source) ([]boundSource, error) {
	path, err := t.store.Resolve(t.view.Source.Path)
	if err != nil {
		return nil, err
	}
	if err := checkAnywhere(path, all, t.wants); err != nil {
		return nil, err
	}
	known := map[bindKey][]binding{}
	bound := make([]boundSource, len(sources))
	for i, s := range sources {
		key := bindKey{partitions: t.wantedPartitions(s)}
		if len(s.footer.columns) > 0 {
			key.columns = &s.footer.columns[0]
		}
		bindings, ok := known[key]
		if !ok {
			bindings = make([]binding, len(t.wants))
			for k, w := range t.wants {
				if bindings[k], err = s.bind(w); err != nil {
					return nil, err
				}
				bindings[k].stored.anyText = t.keepsBad
			}
			known[key] = bindings
		}
		bound[i] = boundSource{s, bindings}
	}
	return bound, nil
}

// wantedPartitions writes down those partitions of a file that are wanted as columns.
func (t *Table) wantedPartitions(s *source) string {
	var b strings.Builder
	for _, p := range s.partitions {
		if slices.ContainsFunc(t.wants, func(w wanted) bool { return w.name == p.name }) {
			fmt.Fprintf(&b, "%q=%q %v ", p.name, p.value, p.null)
		}
	}
	return b.String()
}

// fragments gives the row groups that may hold rows of the range; pruned is the number of rows in the others.
func (t *Table) fragments(sources []boundSource, within feature.TimeRange) (fragments []*Fragment, pruned int64) {
	for _, s := range sources {
		first := int64(0)
		for g, group := range s.footer.groups {
			switch {
			case group.rows == 0:
			case t.mayHold(s, g, within):
				fragments = append(fragments, &Fragment{table: t, source: s.source, group: g, first: first, bindings: s.bindings})
			default:
				pruned += group.rows
			}
			first += group.rows
		}
	}
	return fragments, pruned
}
