package online

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
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
// definition by which they are looked for elsewhere (see SameRows), and how many versions.
func (s *Store) MarkViewSynced(ctx context.Context, view *feature.View, at time.Time) error {
	value := at.UTC().Format(time.RFC3339Nano) + " " + rowsOf(view)
	if view.HistoryVersions > 0 {
		value += " " + strconv.Itoa(view.HistoryVersions)
	}
	if err := s.PutMeta(ctx, syncedName(view.Name), []byte(value)); err != nil {
		return fmt.Errorf("mark view %q as synced: %w", view.Name, err)
	}
	return nil
}

// Unsynced returns those of the views that were never synced into this store, or not since it lost its data.
func (s *Store) Unsynced(ctx context.Context, views []string) ([]string, error) {
	markers, err := s.markers(ctx, views)
	if err != nil {
		return nil, err
	}
	var unsynced []string
	for i, marker := range markers {
		if marker == nil {
			unsynced = append(unsynced, views[i])
		}
	}
	return unsynced, nil
}

// SyncState is how far a view has been synced.
type SyncState uint8

const (
	// Unsynced means that a row that is not stored may be there in the source.
	Unsynced SyncState = iota
	// SyncedShallow means that the newest rows are stored, but that fewer versions were carried than the view now keeps. The store fills up
	// with older ones in any order, and some that belong between them it had dropped before: until the view is synced again it must not be
	// asked for an earlier moment.
	SyncedShallow
	// Synced means that what is not stored is not there.
	Synced
)

// SyncStates returns the state of each view as it is defined: one that was synced when its rows were kept elsewhere is Unsynced. A marker of
// MarkSynced, which tells nothing, counts for layout LATEST, the only one when there were no others.
//
// The version is another whenever the store was emptied, or a view synced, in between.
func (s *Store) SyncStates(ctx context.Context, views []*feature.View) (states []SyncState, version string, err error) {
	names := make([]string, len(views))
	for i, view := range views {
		names[i] = view.Name
	}
	markers, err := s.markers(ctx, names)
	if err != nil {
		return nil, "", err
	}
	states = make([]SyncState, len(views))
	for i, view := range views {
		states[i] = stateOf(view, markers[i])
	}
	return states, string(bytes.Join(markers, []byte{'\n'})), nil
}

// stateOf reads a marker, nil for none.
func stateOf(view *feature.View, marker []byte) SyncState {
	_, rows, told := strings.Cut(string(marker), " ")
	switch {
	case marker == nil:
		return Unsynced
	case view.HistoryVersions == 0:
		if told && rows != rowsOf(view) {
			return Unsynced
		}
		return Synced
	}
	count, ok := strings.CutPrefix(rows, rowsOf(view)+" ")
	versions, err := strconv.Atoi(count)
	switch {
	case !ok || err != nil:
		return Unsynced
	case versions < view.HistoryVersions:
		return SyncedShallow
	default:
		return Synced
	}
}

// markers returns the marker of each view, nil for none.
func (s *Store) markers(ctx context.Context, views []string) ([][]byte, error) {
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
	return markers, nil
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
