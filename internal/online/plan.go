package online

import (
	"sync"
	"sync/atomic"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

// Plan is what to read for one selection. It depends on the definitions only, so it is compiled once and may be used by
// many requests at once.
type Plan struct {
	selection *feature.Selection
	groups    []group
	views     []planView     // as in selection.Views
	types     []feature.Type // of selection.Columns
	// generations are those that were last asked for and are not all 0; nil before.
	generations atomic.Pointer[generationNames]
	scratches   sync.Pool // *scratch
	results     sync.Pool // *Result
}

// group is the views of one entity and one layout, which are read together.
type group struct {
	entity  *feature.Entity
	history bool
	keys    []int    // indices in selection.KeyNames
	views   []string // names, in the order of the group
}

// planView is one view of a plan.
type planView struct {
	view     *feature.View
	group    int
	position int // in group.views
	wanted   []storedrow.Feature
	columns  []int // of each wanted feature in selection.Columns

	current     uint64   // fingerprint of rows written under the definition as it is now
	projections sync.Map // fingerprint → *storedrow.Projection
}

// NewPlan compiles a selection. A selected feature that is not online is an error of kind fault.Precondition.
func NewPlan(selection *feature.Selection) (*Plan, error) {
	p := &Plan{selection: selection, views: make([]planView, len(selection.Views)), types: make([]feature.Type, len(selection.Columns))}
	type kind struct {
		entity  *feature.Entity
		history bool
	}
	groupOf := map[kind]int{}
	for i, sv := range selection.Views {
		k := kind{sv.View.Entity, sv.View.HistoryVersions > 0}
		g, ok := groupOf[k]
		if !ok {
			g = len(p.groups)
			groupOf[k] = g
			p.groups = append(p.groups, group{entity: k.entity, history: k.history, keys: sv.Keys})
		}
		v := &p.views[i]
		v.view, v.group, v.position = sv.View, g, len(p.groups[g].views)
		p.groups[g].views = append(p.groups[g].views, sv.View.Name)
		if err := v.compile(sv); err != nil {
			return nil, err
		}
	}
	for c, column := range selection.Columns {
		v := &p.views[column.View]
		v.columns[column.Position] = c
		p.types[c] = v.wanted[column.Position].Type
	}
	return p, nil
}

func (v *planView) compile(sv feature.SelectedView) error {
	for _, i := range sv.Features {
		f := sv.View.Features[i]
		if !f.Online {
			return fault.New(fault.Precondition, "feature \"%s:%s\" is not online (online: false in its definition)", sv.View.Name, f.Name)
		}
		v.wanted = append(v.wanted, storedrow.Feature{Name: f.Name, Type: f.Type})
	}
	v.columns = make([]int, len(v.wanted))
	schema := storedrow.SchemaOf(sv.View)
	projection, err := storedrow.NewProjection(sv.View.Name, schema, v.wanted)
	if err != nil {
		return err
	}
	v.current = schema.Fingerprint()
	v.projections.Store(v.current, projection)
	return nil
}

// check returns the number of entities that the keys name, or what is wrong with the keys.
func (p *Plan) check(keys []*feature.Column) (rows int, err error) {
	names := p.selection.KeyNames
	if len(keys) != len(names) {
		return 0, fault.New(fault.Invalid, "the request gives %d entity keys, and the selected features need %d", len(keys), len(names))
	}
	for i, key := range keys {
		if key.Type != names[i].Type {
			return 0, fault.New(fault.Invalid, "entity key %q is %v and is given as %v", names[i].Name, names[i].Type, key.Type)
		}
		if key.Len() != keys[0].Len() || len(key.Status) != key.Len() {
			return 0, fault.New(fault.Invalid, "entity key %q has %d values and key %q has %d: every key needs one value an entity",
				names[i].Name, key.Len(), names[0].Name, keys[0].Len())
		}
	}
	if len(keys) == 0 {
		return 0, nil
	}
	return keys[0].Len(), nil
}
