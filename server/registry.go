package server

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/storedrow"
	"github.com/twofold-ml/twofold/internal/wire"
)

// defaultPageSize is the length of a page whose request names none; see registry_service.proto.
const defaultPageSize = 100

// ListEntities implements twofold.v1.RegistryService.
func (s *Server) ListEntities(_ context.Context, req *twofoldv1.ListEntitiesRequest) (*twofoldv1.ListEntitiesResponse, error) {
	if err := s.validate(req); err != nil {
		return nil, err
	}
	c := s.catalog.Load()
	items, next, err := page(c, c.definitions.Proto.GetEntities(), req)
	return &twofoldv1.ListEntitiesResponse{Entities: items, NextPageToken: next}, err
}

// ListFeatureViews implements twofold.v1.RegistryService.
func (s *Server) ListFeatureViews(_ context.Context, req *twofoldv1.ListFeatureViewsRequest) (*twofoldv1.ListFeatureViewsResponse, error) {
	if err := s.validate(req); err != nil {
		return nil, err
	}
	c := s.catalog.Load()
	items, next, err := page(c, c.definitions.Proto.GetFeatureViews(), req)
	return &twofoldv1.ListFeatureViewsResponse{FeatureViews: items, NextPageToken: next}, err
}

// ListFeatureServices implements twofold.v1.RegistryService.
func (s *Server) ListFeatureServices(_ context.Context, req *twofoldv1.ListFeatureServicesRequest) (*twofoldv1.ListFeatureServicesResponse, error) {
	if err := s.validate(req); err != nil {
		return nil, err
	}
	c := s.catalog.Load()
	items, next, err := page(c, c.definitions.Proto.GetFeatureServices(), req)
	return &twofoldv1.ListFeatureServicesResponse{FeatureServices: items, NextPageToken: next}, err
}

type pageRequest interface {
	GetPageSize() uint32
	GetPageToken() string
}

// page returns the items of one page of a catalog's list and the token of the next, empty on the last.
func page[T any](c *catalog, items []T, req pageRequest) ([]T, string, error) {
	from, hash, err := parsePageToken(req.GetPageToken())
	same := hash == c.registry.Hash()
	if err != nil || (same && from > len(items)) {
		return nil, "", fault.InvalidField("page_token", "is not a token of this list; send the next_page_token of the page before, unchanged")
	}
	if from > 0 && !same {
		return nil, "", fault.InvalidField("page_token", "the definitions have changed since the page before, so that this one would not follow it; list again from the first page")
	}
	size := int(req.GetPageSize())
	if size == 0 {
		size = defaultPageSize
	}
	to := min(from+size, len(items))
	if to == len(items) {
		return items[from:to], "", nil
	}
	return items[from:to], base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(to) + " " + c.registry.Hash())), nil
}

// parsePageToken returns where the page begins, and the hash of the definitions that the token is for.
func parsePageToken(token string) (from int, hash string, err error) {
	if token == "" {
		return 0, "", nil
	}
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return 0, "", err
	}
	number, hash, ok := strings.Cut(string(text), " ")
	if !ok {
		return 0, "", strconv.ErrSyntax
	}
	n, err := strconv.ParseUint(number, 10, 31)
	return int(n), hash, err
}

// Explain implements twofold.v1.RegistryService.
func (s *Server) Explain(_ context.Context, req *twofoldv1.ExplainRequest) (*twofoldv1.ExplainResponse, error) {
	if err := s.validate(req); err != nil {
		return nil, err
	}
	e := explainer{s.catalog.Load(), s.o.Offline}
	switch subject := req.GetSubject().(type) {
	case *twofoldv1.ExplainRequest_Entity:
		return e.entity(subject.Entity)
	case *twofoldv1.ExplainRequest_FeatureView:
		view, err := e.catalog.registry.View(subject.FeatureView)
		if err != nil {
			return nil, err
		}
		refs := make([]feature.Ref, len(view.Features))
		for i := range refs {
			refs[i] = feature.Ref{View: view, Index: i}
		}
		return e.features("Feature view "+view.Name, refs)
	default:
		service, err := e.catalog.registry.Service(req.GetFeatureService())
		if err != nil {
			return nil, err
		}
		return e.features("Feature service "+service.Name, service.Features)
	}
}

// explainer explains what one catalog defines.
type explainer struct {
	catalog *catalog
	offline *offline.Store
}

func (e explainer) entity(name string) (*twofoldv1.ExplainResponse, error) {
	entity, err := e.catalog.registry.Entity(name)
	if err != nil {
		return nil, err
	}
	resp := &twofoldv1.ExplainResponse{Entities: []*twofoldv1.Entity{e.catalog.entityDefinition(entity)}}
	var text strings.Builder
	fmt.Fprintf(&text, "Entity %s. A request names it by %s.\n", name, keyList(entity))
	for _, view := range e.catalog.registry.Views() {
		if view.Entity == entity {
			explained, err := e.view(view, &text)
			if err != nil {
				return nil, err
			}
			resp.FeatureViews = append(resp.FeatureViews, explained)
		}
	}
	resp.Text = text.String()
	return resp, nil
}

// features explains a list of features and all that reading them takes.
func (e explainer) features(title string, refs []feature.Ref) (*twofoldv1.ExplainResponse, error) {
	resp := &twofoldv1.ExplainResponse{}
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %d features.\n", title, len(refs))
	seenViews, seenEntities := map[*feature.View]bool{}, map[*feature.Entity]bool{}
	for _, ref := range refs {
		f := ref.Feature()
		resp.Features = append(resp.Features, &twofoldv1.ExplainedFeature{Name: ref.Name(), Type: wire.TypeToProto(f.Type), Online: f.Online})
		if entity := ref.View.Entity; !seenEntities[entity] {
			seenEntities[entity] = true
			resp.Entities = append(resp.Entities, e.catalog.entityDefinition(entity))
			fmt.Fprintf(&text, "A request names entity %s by %s.\n", entity.Name, keyList(entity))
		}
		if !seenViews[ref.View] {
			seenViews[ref.View] = true
			explained, err := e.view(ref.View, &text)
			if err != nil {
				return nil, err
			}
			resp.FeatureViews = append(resp.FeatureViews, explained)
		}
	}
	resp.Text = text.String()
	return resp, nil
}

func (e explainer) view(view *feature.View, text *strings.Builder) (*twofoldv1.ExplainedView, error) {
	url, err := e.offline.Resolve(view.Source.Path)
	if err != nil {
		return nil, err
	}
	explained := &twofoldv1.ExplainedView{
		Definition: e.catalog.viewDefinition(view), ExpiredRetention: durationpb.New(view.ExpiredRetention), SourceUrl: url,
		SchemaFingerprint: fmt.Sprintf("%016x", storedrow.SchemaOf(view).Fingerprint()),
	}
	fresh := "its rows never expire"
	if view.TTL != 0 {
		fresh = fmt.Sprintf("a row is fresh for %s after its event time", view.TTL.Duration())
	}
	carried := "not synced; rows come by PushFeatures"
	if view.Sync.Enabled {
		explained.SyncInterval = durationpb.New(view.Sync.Interval)
		carried = fmt.Sprintf("synced %s (%v)", view.Sync.When(), view.Sync.Mode)
	}
	fmt.Fprintf(text, "Feature view %s reads %s; %s; %s.\n", view.Name, url, fresh, carried)
	return explained, nil
}

func keyList(e *feature.Entity) string {
	parts := make([]string, len(e.Keys))
	for i, k := range e.Keys {
		parts[i] = fmt.Sprintf("%s (%v)", k.Name, k.Type)
	}
	return strings.Join(parts, " and ")
}

// entityDefinition returns an entity as it was defined.
func (c *catalog) entityDefinition(e *feature.Entity) *twofoldv1.Entity {
	for _, d := range c.definitions.Proto.GetEntities() {
		if d.GetName() == e.Name {
			return d
		}
	}
	return nil
}

// viewDefinition returns a feature view as it was defined.
func (c *catalog) viewDefinition(v *feature.View) *twofoldv1.FeatureView {
	for _, d := range c.definitions.Proto.GetFeatureViews() {
		if d.GetName() == v.Name {
			return d
		}
	}
	return nil
}
