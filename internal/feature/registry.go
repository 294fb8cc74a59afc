package feature

import (
	"fmt"
	"strings"

	"github.com/twofold-ml/twofold/internal/fault"
)

// Registry is one consistent set of definitions. It is not changed after it was built, so it can be read by many
// goroutines and swapped whole.
type Registry struct {
	entities []*Entity
	views    []*View
	services []*Service
	hash     string

	entityByName  map[string]*Entity
	viewByName    map[string]*View
	serviceByName map[string]*Service
}

// NewRegistry builds a registry of checked definitions (see internal/definition, which turns every violation into an error with its
// place). hash identifies the definitions. It panics where names are not unique, which is a bug of the caller.
func NewRegistry(entities []*Entity, views []*View, services []*Service, hash string) *Registry {
	r := &Registry{entities: entities, views: views, services: services, hash: hash}
	r.entityByName = index(entities, func(e *Entity) string { return e.Name })
	r.viewByName = index(views, func(v *View) string { return v.Name })
	r.serviceByName = index(services, func(s *Service) string { return s.Name })
	for _, v := range views {
		v.byName = make(map[string]int, len(v.Features))
		for i, f := range v.Features {
			v.byName[f.Name] = i
		}
		if len(v.byName) != len(v.Features) {
			panic("feature: view " + v.Name + " has two features of the same name")
		}
	}
	return r
}

func index[T any](items []*T, name func(*T) string) map[string]*T {
	byName := make(map[string]*T, len(items))
	for _, item := range items {
		byName[name(item)] = item
	}
	if len(byName) != len(items) {
		panic("feature: two definitions of the same name")
	}
	return byName
}

// Entities returns the entities in the order of the definitions. Not to be changed.
func (r *Registry) Entities() []*Entity { return r.entities }

// Views returns the feature views in the order of the definitions. Not to be changed.
func (r *Registry) Views() []*View { return r.views }

// Services returns the feature services in the order of the definitions. Not to be changed.
func (r *Registry) Services() []*Service { return r.services }

// Hash identifies the definitions: SHA-256, hexadecimal.
func (r *Registry) Hash() string { return r.hash }

// Entity returns the entity of that name, or an error of kind NotDefined that names the nearest one.
func (r *Registry) Entity(name string) (*Entity, error) {
	return lookup(r.entityByName, "entity", name)
}

// View returns the feature view of that name, or an error of kind NotDefined that names the nearest one.
func (r *Registry) View(name string) (*View, error) {
	return lookup(r.viewByName, "feature view", name)
}

// Service returns the feature service of that name, or an error of kind NotDefined that names the nearest one.
func (r *Registry) Service(name string) (*Service, error) {
	return lookup(r.serviceByName, "feature service", name)
}

func lookup[T any](byName map[string]*T, what, name string) (*T, error) {
	if item, ok := byName[name]; ok {
		return item, nil
	}
	names := make([]string, 0, len(byName))
	for n := range byName {
		names = append(names, n)
	}
	return nil, fault.New(fault.NotDefined, "no %s %q is defined%s", what, name, DidYouMean(name, names))
}

// ParseRef resolves "view:feature", or "view:*" to all features of the view in their order.
func (r *Registry) ParseRef(ref string) ([]Ref, error) {
	viewName, featureName, ok := strings.Cut(ref, ":")
	if !ok {
		return nil, fault.InvalidField("features", "%q is not of the form view:feature (or view:* for all of a view)", ref)
	}
	view, err := r.View(viewName)
	if err != nil {
		return nil, err
	}
	if featureName == "*" {
		refs := make([]Ref, len(view.Features))
		for i := range refs {
			refs[i] = Ref{view, i}
		}
		return refs, nil
	}
	i, ok := view.FeatureIndex(featureName)
	if !ok {
		names := make([]string, 0, len(view.Features))
		for _, f := range view.Features {
			names = append(names, f.Name)
		}
		return nil, fault.New(fault.NotDefined, "feature view %q has no feature %q%s", viewName, featureName, DidYouMean(featureName, names))
	}
	return []Ref{{view, i}}, nil
}

// DidYouMean returns `; did you mean "x"?` for the candidate nearest to name, or, where none is near, the candidates
// themselves if they are few; else an empty string. Near is an edit distance of at most a third of the name, or one name within the other.
func DidYouMean(name string, candidates []string) string {
	if best := nearest(strings.ToLower(name), candidates); best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	if len(candidates) > 0 && len(candidates) <= 8 {
		return "; there are: " + strings.Join(sorted(candidates), ", ")
	}
	return ""
}

// maxSuggested is the longest name for which others are suggested: names come from requests, and the distance takes
// time in the square of their length.
const maxSuggested = 128

// nearest returns the candidate nearest to name, which is in lower case; of several, the first by name. It is empty where none is near.
func nearest(name string, candidates []string) string {
	limit := min((len(name)+2)/3, len(name)-1)
	if len(name) > maxSuggested {
		return ""
	}
	best, bestDistance := "", limit+1
	for _, c := range candidates {
		d := distance(name, strings.ToLower(c), limit)
		if d < bestDistance || (d == bestDistance && d <= limit && c < best) {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the edit distance, limit+1 where it is more; a name of three letters or more within the other is at most limit away.
func distance(a, b string, limit int) int {
	d := limit + 1
	if difference := len(a) - len(b); max(difference, -difference) <= limit {
		d = min(d, editDistance(a, b))
	}
	if min(len(a), len(b)) >= 3 && (strings.Contains(a, b) || strings.Contains(b, a)) {
		d = min(d, limit)
	}
	return d
}

// editDistance is Levenshtein's distance in bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
