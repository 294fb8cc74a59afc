package online

import (
	"context"
	"fmt"
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

// Unsynced returns those of the views that were never synced into this store, or not since it lost its data.
func (s *Store) Unsynced(ctx context.Context, views []string) ([]string, error) {
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
		if marker == nil {
			unsynced = append(unsynced, views[i])
		}
	}
	return unsynced, nil
}

// RegisterSchema stores the schema under which rows of the view will be written, whether or not this process has stored it before: the
// store may have lost it.
func (s *Store) RegisterSchema(ctx context.Context, view *feature.View) error {
	schema := storedrow.SchemaOf(view)
	s.schemas.registered.Delete(schemaName(view.Name, schema.Fingerprint()))
	return s.schemas.register(ctx, view.Name, schema)
}
