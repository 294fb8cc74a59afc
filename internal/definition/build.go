package definition

import (
	"strings"
	"time"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
)

// build turns checked definitions into the domain and fills in every default.
func build(defs *twofoldv1.Definitions, defaults Defaults, timetables timetables, hash string) *feature.Registry {
	entities := make([]*feature.Entity, 0, len(defs.GetEntities()))
	entityByName := map[string]*feature.Entity{}
	for _, e := range defs.GetEntities() {
		entity := &feature.Entity{Name: e.GetName()}
		for _, k := range e.GetKeys() {
			entity.Keys = append(entity.Keys, feature.Key{Name: k.GetName(), Type: feature.Type(k.GetType())})
		}
		entities = append(entities, entity)
		entityByName[entity.Name] = entity
	}
	views := make([]*feature.View, 0, len(defs.GetFeatureViews()))
	viewByName := map[string]indexedView{}
	for _, v := range defs.GetFeatureViews() {
		view := buildView(v, entityByName[v.GetEntity()])
		view.Sync = buildSync(v, defaults, timetables)
		views = append(views, view)
		viewByName[view.Name] = newIndexedView(view)
	}
	services := make([]*feature.Service, 0, len(defs.GetFeatureServices()))
	for _, s := range defs.GetFeatureServices() {
		services = append(services, buildService(s, viewByName))
	}
	return feature.NewRegistry(entities, views, services, hash)
}

// indexedView is a view whose features can be found by name before it is part of a registry.
type indexedView struct {
	*feature.View
	byName map[string]int
}

func newIndexedView(v *feature.View) indexedView {
	byName := make(map[string]int, len(v.Features))
	for i, f := range v.Features {
		byName[f.Name] = i
	}
	return indexedView{v, byName}
}

func buildView(v *twofoldv1.FeatureView, entity *feature.Entity) *feature.View {
	ttl := v.GetTtl().AsDuration()
	view := &feature.View{
		Name:             v.GetName(),
		Entity:           entity,
		Features:         make([]feature.Feature, 0, len(v.GetFeatures())),
		TTL:              feature.TTLOf(ttl),
		ExpiredRetention: min(ttl, maxExpiredRetention),
		HistoryVersions:  historyVersions(v),
		Source: feature.Source{
			Path:              v.GetSource().GetPath(),
			EventTimeColumn:   v.GetSource().GetEventTimeColumn(),
			CreatedTimeColumn: v.GetSource().GetCreatedTimeColumn(),
			DeletedColumn:     v.GetSource().GetDeletedColumn(),
		},
	}
	if v.GetExpiredRetention() != nil {
		view.ExpiredRetention = v.GetExpiredRetention().AsDuration().Round(time.Microsecond)
	}
	for _, k := range entity.Keys {
		view.Source.KeyColumns = append(view.Source.KeyColumns, keyColumn(v.GetSource(), k.Name))
	}
	for _, f := range v.GetFeatures() {
		view.Features = append(view.Features, feature.Feature{
			Name: f.GetName(), Type: feature.Type(f.GetType()), Column: columnOf(f), Online: isOnline(f),
		})
	}
	return view
}

// historyVersions returns how many versions of an entity a view keeps; 0 with layout LATEST.
func historyVersions(v *twofoldv1.FeatureView) int {
	switch {
	case v.GetLayout() != twofoldv1.OnlineLayout_ONLINE_LAYOUT_HISTORY:
		return 0
	case v.GetHistoryVersions() == 0:
		return defaultHistoryVersions
	default:
		return int(v.GetHistoryVersions())
	}
}

func buildService(s *twofoldv1.FeatureServiceDefinition, views map[string]indexedView) *feature.Service {
	service := &feature.Service{Name: s.GetName(), Features: make([]feature.Ref, 0, len(s.GetFeatures()))}
	for _, ref := range s.GetFeatures() {
		viewName, name, _ := strings.Cut(ref, ":")
		view := views[viewName]
		if name != "*" {
			service.Features = append(service.Features, feature.Ref{View: view.View, Index: view.byName[name]})
			continue
		}
		for i := range view.Features {
			service.Features = append(service.Features, feature.Ref{View: view.View, Index: i})
		}
	}
	return service
}
