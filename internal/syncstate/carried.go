package syncstate

import (
	"context"
	"errors"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
)

const carriedName = "views"

// Carried returns the views of which syncs have stored rows, by name, in the order of their names.
func (s *Store) Carried(ctx context.Context) ([]*twofoldv1.CarriedView, error) {
	list := &twofoldv1.CarriedViews{}
	if _, err := s.read(ctx, carriedName, list); err != nil {
		return nil, err
	}
	return list.GetViews(), nil
}

// errAsItWas ends a change that changes nothing.
var errAsItWas = errors.New("nothing is changed")

// UpdateCarried changes what is known of one view: change is given that, an empty record where nothing is, and reports whether it has changed it. A record without places is removed.
func (s *Store) UpdateCarried(ctx context.Context, view string, change func(*twofoldv1.CarriedView) bool) error {
	list := &twofoldv1.CarriedViews{}
	err := s.swap(ctx, carriedName, list, func() error {
		at, found := slices.BinarySearchFunc(list.GetViews(), view, func(v *twofoldv1.CarriedView, name string) int { return strings.Compare(v.GetFeatureView(), name) })
		if !found {
			list.Views = slices.Insert(list.Views, at, &twofoldv1.CarriedView{FeatureView: view})
		}
		changed := change(list.Views[at])
		if len(list.Views[at].GetPlaces()) == 0 {
			list.Views = slices.Delete(list.Views, at, at+1)
			changed = found
		}
		if !changed {
			return errAsItWas
		}
		return nil
	})
	if errors.Is(err, errAsItWas) {
		return nil
	}
	return err
}

// PlaceOf is where a view's rows are kept.
func PlaceOf(view *feature.View) *twofoldv1.RowPlace {
	place := &twofoldv1.RowPlace{Entity: view.Entity.Name, History: view.HistoryVersions > 0}
	for _, key := range view.Entity.Keys {
		place.Keys, place.KeyTypes = append(place.Keys, key.Name), append(place.KeyTypes, key.Type.String())
	}
	return place
}

// IsSamePlace reports whether rows of two places are stored under the same names, whatever they are keyed by.
func IsSamePlace(a, b *twofoldv1.RowPlace) bool {
	return a.GetEntity() == b.GetEntity() && a.GetHistory() == b.GetHistory()
}

// IsSameKey reports whether, in the same place, a key means the same entity. Keys that were only named anew do.
func IsSameKey(a, b *twofoldv1.RowPlace) bool {
	if !slices.Equal(a.GetKeyTypes(), b.GetKeyTypes()) {
		return false
	}
	for i, name := range a.GetKeys() {
		if at := slices.Index(b.GetKeys(), name); at >= 0 && at != i { // it stands for another part now
			return false
		}
	}
	return true
}

// ViewAt is a view whose rows are in some place, as far as removing and finding them goes: it has no features. A key type that this version does not know is
// taken for BYTES, which every key can be read as.
func ViewAt(view string, place *twofoldv1.RowPlace) *feature.View {
	entity := &feature.Entity{Name: place.GetEntity()}
	for i, name := range place.GetKeys() {
		t := feature.Bytes
		if i < len(place.GetKeyTypes()) {
			t = typeNamed(place.GetKeyTypes()[i])
		}
		entity.Keys = append(entity.Keys, feature.Key{Name: name, Type: t})
	}
	v := &feature.View{Name: view, Entity: entity}
	if place.GetHistory() {
		v.HistoryVersions = 2 // any number: it keeps versions
	}
	return v
}

func typeNamed(name string) feature.Type {
	for _, t := range []feature.Type{feature.Int32, feature.Int64, feature.String} {
		if t.String() == name {
			return t
		}
	}
	return feature.Bytes
}

// Generations are the numbers of all generations of which rows may be stored, 0 among them.
func Generations(state *twofoldv1.SyncState) []uint64 {
	numbers := []uint64{0, state.GetLive().GetNumber(), state.GetBegunGeneration()}
	for _, g := range slices.Concat(state.GetPrevious(), state.GetRemoving()) {
		numbers = append(numbers, g.GetNumber())
	}
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

// Unserve lists the generations for removal that isThere says true of: none of them is served from then on, or can be returned to.
func Unserve(state *twofoldv1.SyncState, isThere func(g *twofoldv1.Generation) bool) {
	if live := state.GetLive(); live != nil && isThere(live) {
		state.Previous, state.Live = append(state.Previous, live), nil
	}
	state.Previous = slices.DeleteFunc(state.Previous, func(g *twofoldv1.Generation) bool {
		if isThere(g) {
			state.Removing = append(state.Removing, g)
			return true
		}
		return false
	})
}

// Clear forgets what is known of the syncs of the lease's view, once its rows are removed: its runs, its files and its state, of which only numbers stay that must never
// be used again. So a syncer that was cut off before can still write nothing down.
func (s *Store) Clear(ctx context.Context, l *Lease) error {
	files := ""
	known, err := s.Update(ctx, l, func(state *twofoldv1.SyncState) { files = state.GetFiles() })
	if err != nil {
		return err
	}
	if err := s.clearShards(ctx, l.view, int(known.GetShards())); err != nil {
		return err
	}
	if err := s.DropFiles(ctx, files, filesName(l.view, l.number-1), runsName(l.view)); err != nil {
		return err
	}
	_, err = s.Update(ctx, l, func(state *twofoldv1.SyncState) {
		kept := &twofoldv1.SyncState{LeaseNumber: state.GetLeaseNumber(), BegunGeneration: state.GetBegunGeneration()}
		proto.Reset(state)
		proto.Merge(state, kept)
	})
	return err
}
