package online

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

// A marker in the store says for each view that a sync has filled it: that an entity without a row has none in the source either. A
// store that was just made, or that lost its data, has no markers, and so cannot pass for one in which nobody is found.

func syncedName(view string) string { return "synced/" + view }

// MarkSynced records that a sync of the view, begun at that time of the logical clock, has carried every row.
func (s *Store) MarkSynced(ctx context.Context, view string, at time.Time) error {
	if err := s.PutMeta(ctx, syncedName(view), []byte(at.UTC().Format(time.RFC3339Nano))); err != nil {
		return fmt.Errorf("mark view %q as synced: %w", view, err)
	}
	return nil
}

// MarkViewSynced is MarkSynced of a view as it is defined: the marker also tells where its rows are kept, so that it does not count for a
// definition by which they are looked for elsewhere (see SameRows).
func (s *Store) MarkViewSynced(ctx context.Context, view *feature.View, at time.Time) error {
	value := at.UTC().Format(time.RFC3339Nano) + " " + rowsOf(view)
	if err := s.PutMeta(ctx, syncedName(view.Name), []byte(value)); err != nil {
		return fmt.Errorf("mark view %q as synced: %w", view.Name, err)
	}
	return nil
}

// Unsynced returns those of the views that were never synced into this store, or not since it lost its data.
func (s *Store) Unsynced(ctx context.Context, views []string) ([]string, error) {
	return s.withoutMarker(ctx, views, func(_ int, marker []byte) bool { return marker != nil })
}

// UnsyncedViews is Unsynced of views as they are defined: one that was synced when its rows were kept elsewhere is not synced. A marker of
// MarkSynced, which does not tell, counts for every definition.
func (s *Store) UnsyncedViews(ctx context.Context, views []*feature.View) ([]string, error) {
	names := make([]string, len(views))
	for i, view := range views {
		names[i] = view.Name
	}
	return s.withoutMarker(ctx, names, func(i int, marker []byte) bool {
		_, rows, told := strings.Cut(string(marker), " ")
		return marker != nil && (!told || rows == rowsOf(views[i]))
	})
}

// withoutMarker returns the views whose marker, nil where there is none, does not count.
func (s *Store) withoutMarker(ctx context.Context, views []string, counts func(i int, marker []byte) bool) ([]string, error) {
	if len(views) == 0 {
		return nil, nil
	}
	names := make([]string, len(views))
	for i, view := range views {
		names[i] = syncedName(view)
	}
	markers, err := s.GetMeta(ctx, names)
	if err != nil {
		return nil, fmt.Errorf("ask which views are synced: %w", err)
	}
	var unsynced []string
	for i, marker := range markers {
		if !counts(i, marker) {
			unsynced = append(unsynced, views[i])
		}
	}
	return unsynced, nil
}

// SameRows reports whether rows of one view that were written under one definition are found under the other: the entity, the types of its keys
// in their order, and the layout decide where a row is kept.
func SameRows(a, b *feature.View) bool { return a.Name == b.Name && rowsOf(a) == rowsOf(b) }

// rowsOf says where a view's rows are kept, for example "user_item(INT64,STRING)".
func rowsOf(view *feature.View) string {
	types := make([]string, len(view.Entity.Keys))
	for i, key := range view.Entity.Keys {
		types[i] = key.Type.String()
	}
	text := view.Entity.Name + "(" + strings.Join(types, ",") + ")"
	if view.HistoryVersions > 0 {
		text += " HISTORY"
	}
	return text
}

// RegisterSchema stores the schema under which rows of the view will be written, whether or not this process has stored it before: the
// store may have lost it.
func (s *Store) RegisterSchema(ctx context.Context, view *feature.View) error {
	schema := storedrow.SchemaOf(view)
	s.schemas.registered.Delete(schemaName(view.Name, schema.Fingerprint()))
	return s.schemas.register(ctx, view.Name, schema)
}
