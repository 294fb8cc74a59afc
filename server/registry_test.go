package server_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

func TestRegistryLists(t *testing.T) {
	env := start(t)
	registry := env.Client.Registry()
	var views []string
	token, pages := "", 0
	for {
		resp, err := registry.ListFeatureViews(t.Context(), &twofoldv1.ListFeatureViewsRequest{PageSize: 2, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range resp.GetFeatureViews() {
			views = append(views, v.GetName())
		}
		pages++
		if token = resp.GetNextPageToken(); token == "" {
			break
		}
	}
	if diff := cmp.Diff([]string{"profile", "price", "clicks"}, views); diff != "" || pages != 2 {
		t.Errorf("%d pages, -want +got:\n%s", pages, diff)
	}
	entities, err := registry.ListEntities(t.Context(), &twofoldv1.ListEntitiesRequest{})
	if err != nil || len(entities.GetEntities()) != 3 || entities.GetNextPageToken() != "" {
		t.Errorf("%v, %v", entities, err)
	}
	services, err := registry.ListFeatureServices(t.Context(), &twofoldv1.ListFeatureServicesRequest{PageSize: 1})
	if err != nil || services.GetFeatureServices()[0].GetName() != "ranking_v1" || services.GetNextPageToken() == "" {
		t.Errorf("%v, %v", services, err)
	}
	for _, bad := range []string{"x", "OTk", "LTE", "%%"} { // not base64, 99, −1, not base64
		_, err := registry.ListEntities(t.Context(), &twofoldv1.ListEntitiesRequest{PageToken: bad})
		wantError(t, err, codes.InvalidArgument, "page_token", "unchanged")
	}
	_, err = registry.ListEntities(t.Context(), &twofoldv1.ListEntitiesRequest{PageSize: 1001})
	wantError(t, err, codes.InvalidArgument, "page_size")
}

func TestExplain(t *testing.T) {
	env := start(t)
	explain := func(req *twofoldv1.ExplainRequest, words ...string) *twofoldv1.ExplainResponse {
		t.Helper()
		resp, err := env.Client.Registry().Explain(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range words {
			if !strings.Contains(resp.GetText(), word) {
				t.Errorf("%q does not say %q", resp.GetText(), word)
			}
		}
		return resp
	}
	service := explain(&twofoldv1.ExplainRequest{Subject: &twofoldv1.ExplainRequest_FeatureService{FeatureService: "ranking_v1"}},
		"4 features", "user_id (INT64) and item_id (STRING)", "fresh for 1h0m0s", "synced every 10m0s", "never expire")
	if len(service.GetFeatures()) != 4 || len(service.GetFeatureViews()) != 3 || len(service.GetEntities()) != 3 {
		t.Errorf("%v", service)
	}
	view := explain(&twofoldv1.ExplainRequest{Subject: &twofoldv1.ExplainRequest_FeatureView{FeatureView: "profile"}}, "profile.parquet")
	v := view.GetFeatureViews()[0]
	if !strings.HasPrefix(v.GetSourceUrl(), "file:///") || len(v.GetSchemaFingerprint()) != 16 || v.GetDefinition().GetName() != "profile" ||
		v.GetSyncInterval().GetSeconds() != 3600 || v.GetExpiredRetention().GetSeconds() != 24*3600 || view.GetFeatures()[2].GetOnline() {
		t.Errorf("%v", view)
	}
	entity := explain(&twofoldv1.ExplainRequest{Subject: &twofoldv1.ExplainRequest_Entity{Entity: "user"}}, "Entity user")
	if len(entity.GetFeatureViews()) != 1 || len(entity.GetFeatures()) != 0 {
		t.Errorf("%v", entity)
	}
	_, err := env.Client.Registry().Explain(t.Context(), &twofoldv1.ExplainRequest{})
	wantError(t, err, codes.InvalidArgument, "subject")
	_, err = env.Client.Registry().Explain(t.Context(), &twofoldv1.ExplainRequest{Subject: &twofoldv1.ExplainRequest_FeatureView{FeatureView: "profil"}})
	wantError(t, err, codes.NotFound, "", `did you mean "profile"`)
}
