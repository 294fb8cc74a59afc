package feature

import (
	"slices"
	"strings"

	"github.com/twofold-ml/twofold/internal/fault"
)

// SelectionQuery names features to read. Exactly one of Service and Features is given.
type SelectionQuery struct {
	// Service is the name of a feature service.
	Service string
	// Features are "view:feature" or "view:*".
	Features []string
	// OnlineOnly leaves features that are not online out of "view:*", and refuses them where they are named.
	OnlineOnly bool
	// ShortNames names columns by feature only, and refuses clashes.
	ShortNames bool
}

// Selection is a resolved query: what to read, in which order, under which names. It depends on the definitions only,
// so it may be cached beside its registry.
type Selection struct {
	// Columns in output order.
	Columns []SelectedColumn
	// Views in the order in which the columns first name them.
	Views []SelectedView
	// Entities of those views, each once, in the same order.
	Entities []*Entity
	// KeyNames are the distinct key names of the entities, in order: the columns that a request must give. Keys of two entities that
	// share a name share the column.
	KeyNames []Key
}

// SelectedView is one view of a selection.
type SelectedView struct {
	View *View
	// Features are the indices in View.Features to read, in the order of the columns.
	Features []int
	// Keys are the indices in Selection.KeyNames of the view's entity keys, in their order.
	Keys []int
}

// SelectedColumn is one output column of a selection.
type SelectedColumn struct {
	// Name of the output column.
	Name string
	// View is the index in Selection.Views.
	View int
	// Position is the index in that SelectedView's Features.
	Position int
}

// Select resolves a query.
func (r *Registry) Select(q SelectionQuery) (*Selection, error) {
	refs, err := r.resolve(q)
	if err != nil {
		return nil, err
	}
	s := &Selection{Columns: make([]SelectedColumn, 0, len(refs))}
	viewIndex := map[*View]int{}
	names := make(map[string]Ref, len(refs))
	for _, ref := range refs {
		name := ref.Name()
		if q.ShortNames {
			name = ref.Feature().Name
		}
		if other, ok := names[name]; ok {
			return nil, clash(name, ref, other)
		}
		names[name] = ref
		v, ok := viewIndex[ref.View]
		if !ok {
			v = len(s.Views)
			viewIndex[ref.View] = v
			s.Views = append(s.Views, SelectedView{View: ref.View})
		}
		s.Columns = append(s.Columns, SelectedColumn{name, v, len(s.Views[v].Features)})
		s.Views[v].Features = append(s.Views[v].Features, ref.Index)
	}
	return s, s.collectKeys(names)
}

func (r *Registry) resolve(q SelectionQuery) ([]Ref, error) {
	switch {
	case q.Service != "" && len(q.Features) > 0:
		return nil, fault.InvalidField("feature_service", "give either feature_service or features, not both")
	case q.Service != "":
		service, err := r.Service(q.Service)
		if err != nil {
			return nil, err
		}
		if q.OnlineOnly {
			for _, ref := range service.Features {
				if !ref.Feature().Online {
					return nil, notOnline(ref)
				}
			}
		}
		return service.Features, nil
	case len(q.Features) == 0:
		return nil, fault.InvalidField("features", "nothing is asked for: name a feature_service, or features as view:feature")
	}
	var refs []Ref
	for _, text := range q.Features {
		some, err := r.ParseRef(text)
		if err != nil {
			return nil, err
		}
		if q.OnlineOnly {
			if all := strings.HasSuffix(text, ":*"); !all && !some[0].Feature().Online {
				return nil, notOnline(some[0])
			}
			some = slices.DeleteFunc(some, func(ref Ref) bool { return !ref.Feature().Online })
		}
		refs = append(refs, some...)
	}
	if len(refs) == 0 {
		return nil, fault.New(fault.Precondition, "none of the features of %v are online", q.Features)
	}
	return refs, nil
}

func notOnline(ref Ref) error {
	return fault.New(fault.Precondition, "feature %q is not online (online: false in its definition); it can be read with GetHistoricalFeatures only", ref.Name())
}

func clash(name string, a, b Ref) error {
	if a == b {
		return fault.InvalidField("features", "%q is named twice", a.Name())
	}
	return fault.InvalidField("short_names", "%q and %q would both be named %q; leave short_names out", a.Name(), b.Name(), name)
}

// collectKeys fills Entities, KeyNames and the views' Keys.
func (s *Selection) collectKeys(names map[string]Ref) error {
	place := map[string]int{}
	for v := range s.Views {
		entity := s.Views[v].View.Entity
		if !slices.Contains(s.Entities, entity) {
			s.Entities = append(s.Entities, entity)
		}
		for _, key := range entity.Keys {
			if ref, ok := names[key.Name]; ok {
				return fault.InvalidField("short_names", "%q would be named like the entity key %q; leave short_names out", ref.Name(), key.Name)
			}
			i, ok := place[key.Name]
			if !ok {
				i = len(s.KeyNames)
				place[key.Name] = i
				s.KeyNames = append(s.KeyNames, key)
			} else if s.KeyNames[i].Type != key.Type {
				return fault.New(fault.Precondition, "key %q is %v in one entity and %v in entity %q; ask for their features in two requests",
					key.Name, s.KeyNames[i].Type, key.Type, entity.Name)
			}
			s.Views[v].Keys = append(s.Views[v].Keys, i)
		}
	}
	return nil
}

func sorted(names []string) []string {
	out := slices.Clone(names)
	slices.Sort(out)
	return out
}

// KeyOwner is the name of the first entity with a key of that name; "" where there is none.
func (s *Selection) KeyOwner(key string) string {
	for _, entity := range s.Entities {
		for _, k := range entity.Keys {
			if k.Name == key {
				return entity.Name
			}
		}
	}
	return ""
}
