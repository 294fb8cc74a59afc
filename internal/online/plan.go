package online

import (
	"sync"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

// Plan is what to read for one selection. It depends on the definitions only, so it is compiled once and may be used by
// many requests at once.
type Plan struct {
	selection *feature.Selection
	groups    []group
	views     []planView // as in selection.Views
}

// group is the views of one entity, which are read together.
type group struct {
	entity *feature.Entity
	keys   []int    // indices in selection.KeyNames
	views  []string // names, in the order of the group
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
	p := &Plan{selection: selection, views: make([]planView, len(selection.Views))}
	groupOf := map[*feature.Entity]int{}
	for i, sv := range selection.Views {
		g, ok := groupOf[sv.View.Entity]
		if !ok {
			g = len(p.groups)
			groupOf[sv.View.Entity] = g
			p.groups = append(p.groups, group{entity: sv.View.Entity, keys: sv.Keys})
		}
		v := &p.views[i]
		v.view, v.group, v.position = sv.View, g, len(p.groups[g].views)
		p.groups[g].views = append(p.groups[g].views, sv.View.Name)
		if err := v.compile(sv); err != nil {
			return nil, err
		}
	}
	for c, column := range selection.Columns {
		p.views[column.View].columns[column.Position] = c
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

// request is what one call of Read asks of the driver.
type request struct {
	reads []driver.Read
	// first is, for each group and row, the place in the answer of the row's first view; −1 where a key is null.
	first [][]int
	rows  int // elements of the answer
}

// request lists the reads of a call. An entity that occurs several times is read once.
func (p *Plan) request(keys []*feature.Column, rows int) request {
	r := request{reads: make([]driver.Read, 0, rows*len(p.groups)), first: make([][]int, len(p.groups))}
	own := make([]*feature.Column, 0, len(keys))
	var arena []byte
	for g := range p.groups {
		group := &p.groups[g]
		own = own[:0]
		for _, k := range group.keys {
			own = append(own, keys[k])
		}
		r.first[g] = make([]int, rows)
		var seen map[string]int
		if rows > 1 {
			seen = make(map[string]int, rows)
		}
		for row := range rows {
			start := len(arena)
			var ok bool
			if arena, ok = feature.AppendKey(arena, own, row); !ok {
				arena = arena[:start]
				r.first[g][row] = -1
				continue
			}
			key := arena[start:len(arena):len(arena)]
			if place, ok := seen[string(key)]; ok {
				arena = arena[:start]
				r.first[g][row] = place
				continue
			}
			if seen != nil {
				seen[string(key)] = r.rows
			}
			r.first[g][row] = r.rows
			r.reads = append(r.reads, driver.Read{Entity: driver.Entity{Name: group.entity.Name, Key: key}, Views: group.views})
			r.rows += len(group.views)
		}
	}
	return r
}
