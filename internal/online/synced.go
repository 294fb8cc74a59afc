package online

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

// A marker in the store says for each view that a sync has filled it: that an entity without a row has none in the source either. A
// store that was just made, or that lost its data, has no markers, and so cannot pass for one in which nobody is found.

func syncedName(view string) string { return "synced/" + view }

// Of a view with mode SNAPSHOT it is the record of its syncs that says so, by the generation that is live: what is served changes with it at once.

func stateName(view string) string { return "sync/" + view }

// markerName is the name of the small value that says whether a view is synced.
func markerName(view *feature.View) string {
	if view.Sync.Mode == feature.Snapshot {
		return stateName(view.Name)
	}
	return syncedName(view.Name)
}

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
	value := at.UTC().Format(time.RFC3339Nano) + " " + RowsOf(view)
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
	names := make([]string, len(views))
	for i, view := range views {
		names[i] = syncedName(view)
	}
	markers, err := s.markers(ctx, names)
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
	states, _, version, err = s.LiveStates(ctx, views)
	return states, version, err
}

// LiveStates is SyncStates which also tells the generation of each view that is to be read, all as of one moment: 0 of a view that has no generations, or none
// that is live.
func (s *Store) LiveStates(ctx context.Context, views []*feature.View) (states []SyncState, generations []uint64, version string, err error) {
	names := make([]string, len(views))
	for i, view := range views {
		names[i] = markerName(view)
	}
	markers, err := s.markers(ctx, names)
	if err != nil {
		return nil, nil, "", err
	}
	states, generations = make([]SyncState, len(views)), make([]uint64, len(views))
	for i, view := range views {
		if view.Sync.Mode != feature.Snapshot {
			states[i] = stateOf(view, markers[i])
			continue
		}
		if states[i], generations[i], err = liveOf(view, markers[i]); err != nil {
			return nil, nil, "", err
		}
		// What else the record tells is no matter.
		markers[i] = []byte(strconv.FormatUint(generations[i], 10))
	}
	return states, generations, string(bytes.Join(markers, []byte{'\n'})), nil
}

// liveOf reads the record of a view's syncs, nil for none.
func liveOf(view *feature.View, record []byte) (SyncState, uint64, error) {
	state := &twofoldv1.SyncState{}
	if err := proto.Unmarshal(record, state); err != nil {
		return Unsynced, 0, fault.New(fault.Corrupt, "what the online store has under %q is damaged (%w); remove it, and the next sync makes a new generation", stateName(view.Name), err)
	}
	live := state.GetLive()
	if live == nil || live.GetRows() != RowsOf(view) {
		return Unsynced, 0, nil
	}
	return Synced, live.GetNumber(), nil
}

// stateOf reads a marker, nil for none.
func stateOf(view *feature.View, marker []byte) SyncState {
	_, rows, told := strings.Cut(string(marker), " ")
	switch {
	case marker == nil:
		return Unsynced
	case view.HistoryVersions == 0:
		if told && rows != RowsOf(view) {
			return Unsynced
		}
		return Synced
	}
	count, ok := strings.CutPrefix(rows, RowsOf(view)+" ")
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

// markers returns the small value of each name, nil for none.
func (s *Store) markers(ctx context.Context, names []string) ([][]byte, error) {
	if len(names) == 0 {
		return nil, nil
	}
	markers, err := s.GetMeta(ctx, names)
	if err != nil {
		return nil, fmt.Errorf("ask which views are synced: %w", err)
	}
	return markers, nil
}

// historyLayout ends the place of rows of layout HISTORY.
const historyLayout = " HISTORY"

// SameRows reports whether rows of one view that were written under one definition are found under the other: the entity, the types of its keys
// in their order, and the layout decide where a row is kept.
func SameRows(a, b *feature.View) bool { return a.Name == b.Name && RowsOf(a) == RowsOf(b) }

// RowsOf says where a view's rows are kept, for example "user_item(INT64,STRING)".
func RowsOf(view *feature.View) string {
	types := make([]string, len(view.Entity.Keys))
	for i, key := range view.Entity.Keys {
		types[i] = key.Type.String()
	}
	text := view.Entity.Name + "(" + strings.Join(types, ",") + ")"
	if view.HistoryVersions > 0 {
		text += historyLayout
	}
	return text
}

// ViewAt returns what RemoveAll needs to know of a view whose rows are kept there, as RowsOf says it.
func ViewAt(name, rows string) (*feature.View, error) {
	entity, layout, ok := strings.Cut(rows, "(")
	if !ok || entity == "" {
		return nil, fault.New(fault.Corrupt, "view %q: rows are said to be kept at %q, which is no place", name, rows)
	}
	view := &feature.View{Name: name, Entity: &feature.Entity{Name: entity}}
	if strings.HasSuffix(layout, historyLayout) {
		view.HistoryVersions = 1
	}
	return view, nil
}

// Unmark takes away the marker of MarkViewSynced: from then on the view, with mode INCREMENTAL, is not synced.
func (s *Store) Unmark(ctx context.Context, view string) error {
	for {
		markers, err := s.markers(ctx, []string{syncedName(view)})
		if err != nil || markers[0] == nil {
			return err
		}
		if gone, err := s.SwapMeta(ctx, syncedName(view), markers[0], nil); gone || err != nil {
			return err
		}
	}
}

// RegisterSchema stores the schema under which rows of the view will be written, whether or not this process has stored it before: the
// store may have lost it.
func (s *Store) RegisterSchema(ctx context.Context, view *feature.View) error {
	schema := storedrow.SchemaOf(view)
	s.schemas.registered.Delete(schemaName(view.Name, schema.Fingerprint()))
	return s.schemas.register(ctx, view.Name, schema)
}
