package online

import (
	"slices"
	"strconv"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// A view of which each sync makes a whole new set of rows has them in generations, numbered from 1 up, each under a name of its own in the store; readers
// say which one they want. All other views have generation 0 only. The schemas of all generations are stored under the view's own name.

// generationMark stands between a view's name, which cannot have it, and the number of a generation.
const generationMark = "@"

// StoredName returns the name under which a generation of a view's rows is stored: "weather" of generation 0, "weather@7" of generation 7.
func StoredName(view string, generation uint64) string {
	if generation == 0 {
		return view
	}
	return view + generationMark + strconv.FormatUint(generation, 10)
}

// checkGeneration refuses generations of views that cannot have them.
func checkGeneration(view *feature.View, generation uint64) error {
	if generation != 0 && view.HistoryVersions > 0 {
		return fault.New(fault.Invalid, "view %q keeps versions (layout HISTORY), so it has no generations, and %d is asked for", view.Name, generation)
	}
	return nil
}

// generationNames are the names under which some generations of a plan's views are stored.
type generationNames struct {
	generations []uint64   // of each of the plan's views
	groups      [][]string // as group.views
}

// storedNames returns the names under which the generations of the plan's views are stored, group by group; nil where they are the groups' own. Those
// of the last call are kept: generations change seldom.
func (p *Plan) storedNames(generations []uint64) ([][]string, error) {
	if !slices.ContainsFunc(generations, func(g uint64) bool { return g != 0 }) {
		return nil, nil
	}
	if known := p.generations.Load(); known != nil && slices.Equal(known.generations, generations) {
		return known.groups, nil
	}
	if len(generations) != len(p.views) {
		return nil, fault.New(fault.Internal, "%d generations are given for %d views", len(generations), len(p.views))
	}
	names := &generationNames{generations: slices.Clone(generations), groups: make([][]string, len(p.groups))}
	for g := range p.groups {
		names.groups[g] = slices.Clone(p.groups[g].views)
	}
	for i := range p.views {
		v := &p.views[i]
		if err := checkGeneration(v.view, generations[i]); err != nil {
			return nil, err
		}
		names.groups[v.group][v.position] = StoredName(v.view.Name, generations[i])
	}
	p.generations.Store(names)
	return names.groups, nil
}
