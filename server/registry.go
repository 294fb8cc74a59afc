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
	items, next, err := page(s.catalog.definitions.Proto.GetEntities(), req)
	return &twofoldv1.ListEntitiesResponse{Entities: items, NextPageToken: next}, err
}

// ListFeatureViews implements twofold.v1.RegistryService.
func (s *Server) ListFeatureViews(_ context.Context, req *twofoldv1.ListFeatureViewsRequest) (*twofoldv1.ListFeatureViewsResponse, error) {
	if err := s.validate(req); err != nil {
		return nil, err
	}
	items, next, err := page(s.catalog.definitions.Proto.GetFeatureViews(), req)
	return &twofoldv1.ListFeatureViewsResponse{FeatureViews: items, NextPageToken: next}, err
}

// ListFeatureServices implements twofold.v1.RegistryService.
func (s *Server) ListFeatureServices(_ context.Context, req *twofoldv1.ListFeatureServicesRequest) (*twofoldv1.ListFeatureServicesResponse, error) {
	if err := s.validate(req); err != nil {
		return nil, err
	}
	items, next, err := page(s.catalog.definitions.Proto.GetFeatureServices(), req)
	return &twofoldv1.ListFeatureServicesResponse{FeatureServices: items, NextPageToken: next}, err
}

type pageRequest interface {
	GetPageSize() uint32
	GetPageToken() string
}

// page returns the items of one page and the token of the next, empty on the last.
func page[T any](items []T, req pageRequest) ([]T, string, error) {
	from, err := parsePageToken(req.GetPageToken())
	if err != nil || from > len(items) {
		return nil, "", fault.InvalidField("page_token", "is not a token of this list; send the next_page_token of the page before, unchanged")
	}
	size := int(req.GetPageSize())
	if size == 0 {
		size = defaultPageSize
	}
	to := min(from+size, len(items))
	if to == len(items) {
		return items[from:to], "", nil
	}
	return items[from:to], base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(to))), nil
}

func parsePageToken(token string) (int, error) {
	if token == "" {
		return 0, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(text), 10, 31)
	return int(n), err
}

// Explain implements twofold.v1.RegistryService.
func (s *Server) Explain(_ context.Context, req *twofoldv1.ExplainRequest) (*twofoldv1.ExplainResponse, error) {
	if err := s.validate(req); err != nil {
		return nil, err
	}
	switch subject := req.GetSubject().(type) {
	case *twofoldv1.ExplainRequest_Entity:
		return s.explainEntity(subject.Entity)
	case *twofoldv1.ExplainRequest_FeatureView:
		view, err := s.catalog.registry.View(subject.FeatureView)
		if err != nil {
			return nil, err
		}
		refs := make([]feature.Ref, len(view.Features))
		for i := range refs {
			refs[i] = feature.Ref{View: view, Index: i}
		}
		return s.explainFeatures("Feature view "+view.Name, refs)
	default:
		service, err := s.catalog.registry.Service(req.GetFeatureService())
		if err != nil {
			return nil, err
		}
		return s.explainFeatures("Feature service "+service.Name, service.Features)
	}
}

func (s *Server) explainEntity(name string) (*twofoldv1.ExplainResponse, error) {
	entity, err := s.catalog.registry.Entity(name)
	if err != nil {
		return nil, err
	}
	resp := &twofoldv1.ExplainResponse{Entities: []*twofoldv1.Entity{s.entityDefinition(entity)}}
	var text strings.Builder
	fmt.Fprintf(&text, "Entity %s. A request names it by %s.\n", name, keyList(entity))
	for _, view := range s.catalog.registry.Views() {
		if view.Entity == entity {
			explained, err := s.explainView(view, &text)
			if err != nil {
				return nil, err
			}
			resp.FeatureViews = append(resp.FeatureViews, explained)
		}
	}
	resp.Text = text.String()
	return resp, nil
}

// explainFeatures explains a list of features and all that reading them takes.
func (s *Server) explainFeatures(title string, refs []feature.Ref) (*twofoldv1.ExplainResponse, error) {
	resp := &twofoldv1.ExplainResponse{}
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %d features.\n", title, len(refs))
	seenViews, seenEntities := map[*feature.View]bool{}, map[*feature.Entity]bool{}
	for _, ref := range refs {
		f := ref.Feature()
		resp.Features = append(resp.Features, &twofoldv1.ExplainedFeature{Name: ref.Name(), Type: wire.TypeToProto(f.Type), Online: f.Online})
		if entity := ref.View.Entity; !seenEntities[entity] {
			seenEntities[entity] = true
			resp.Entities = append(resp.Entities, s.entityDefinition(entity))
			fmt.Fprintf(&text, "A request names entity %s by %s.\n", entity.Name, keyList(entity))
		}
		if !seenViews[ref.View] {
			seenViews[ref.View] = true
			explained, err := s.explainView(ref.View, &text)
			if err != nil {
				return nil, err
			}
			resp.FeatureViews = append(resp.FeatureViews, explained)
		}
	}
	resp.Text = text.String()
	return resp, nil
}

func (s *Server) explainView(view *feature.View, text *strings.Builder) (*twofoldv1.ExplainedView, error) {
	url, err := s.o.Offline.Resolve(view.Source.Path)
	if err != nil {
		return nil, err
	}
	explained := &twofoldv1.ExplainedView{
		Definition: s.viewDefinition(view), ExpiredRetention: durationpb.New(view.ExpiredRetention), SourceUrl: url,
		SchemaFingerprint: fmt.Sprintf("%016x", storedrow.SchemaOf(view).Fingerprint()),
	}
	fresh := "its rows never expire"
	if view.TTL != 0 {
		fresh = fmt.Sprintf("a row is fresh for %s after its event time", view.TTL.Duration())
	}
	carried := "not synced; rows come by PushFeatures"
	if view.Sync.Enabled {
		explained.SyncInterval = durationpb.New(view.Sync.Interval)
		carried = fmt.Sprintf("synced every %s", view.Sync.Interval)
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
func (s *Server) entityDefinition(e *feature.Entity) *twofoldv1.Entity {
	for _, d := range s.catalog.definitions.Proto.GetEntities() {
		if d.GetName() == e.Name {
			return d
		}
	}
	return nil
}

// viewDefinition returns a feature view as it was defined.
func (s *Server) viewDefinition(v *feature.View) *twofoldv1.FeatureView {
	for _, d := range s.catalog.definitions.Proto.GetFeatureViews() {
		if d.GetName() == v.Name {
			return d
		}
	}
	return nil
}
