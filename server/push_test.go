package server_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/server/servertest"
	"github.com/twofold-ml/twofold/syncer"
)

// profile is a push of one row of view profile.
func profile(user int64, event time.Duration, age int32) *twofoldv1.PushFeaturesRequest {
	return &twofoldv1.PushFeaturesRequest{FeatureView: "profile", Columns: []*twofoldv1.Column{
		client.Int64s("user_id", user), client.Timestamps("event_timestamp", now.Add(-event)), client.Int32s("age", age), client.Strings("name", "pushed"),
	}}
}

func age(t *testing.T, env *servertest.Env, user int64) string {
	t.Helper()
	resp, err := env.Client.Online(t.Context(), &twofoldv1.GetOnlineFeaturesRequest{Features: []string{"profile:age"}, Entities: []*twofoldv1.Column{client.Int64s("user_id", user)}})
	if err != nil {
		t.Fatal(err)
	}
	return table(t, resp.GetColumns())["profile:age"][0]
}

func TestPush(t *testing.T) {
	env := start(t)
	push := func(req *twofoldv1.PushFeaturesRequest, want *twofoldv1.PushFeaturesResponse) {
		t.Helper()
		got, err := env.Client.Push(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	push(profile(1, 3*time.Hour, 99), &twofoldv1.PushFeaturesResponse{RowsOlder: 1})
	if got := age(t, env, 1); got != "31" {
		t.Errorf("an older push replaced the row: age %s", got)
	}
	push(profile(1, time.Minute, 40), &twofoldv1.PushFeaturesResponse{RowsWritten: 1})
	push(profile(1, time.Minute, 40), &twofoldv1.PushFeaturesResponse{RowsUnchanged: 1})
	push(profile(7, 1000*time.Hour, 40), &twofoldv1.PushFeaturesResponse{RowsExpired: 1})
	if got := age(t, env, 1); got != "40" {
		t.Errorf("age %s after the push", got)
	}
	if _, err := env.Syncer.RunOnce(t.Context(), syncer.Request{}, "profile"); err != nil {
		t.Fatal(err)
	}
	if got := age(t, env, 1); got != "40" {
		t.Errorf("a sync of older rows replaced the push: age %s", got)
	}
	gone := profile(1, time.Second, 0)
	gone.Tombstones = []bool{true}
	push(gone, &twofoldv1.PushFeaturesResponse{RowsWritten: 1})
	push(profile(1, 2*time.Second, 50), &twofoldv1.PushFeaturesResponse{RowsOlder: 1})
	if got := age(t, env, 1); got != "NOT_FOUND" {
		t.Errorf("age %s after the deletion", got)
	}
}

func TestPushErrors(t *testing.T) {
	env := start(t)
	change := func(f func(*twofoldv1.PushFeaturesRequest)) *twofoldv1.PushFeaturesRequest {
		req := proto.CloneOf(profile(1, time.Minute, 1))
		f(req)
		return req
	}
	cases := map[string]struct {
		req   *twofoldv1.PushFeaturesRequest
		code  codes.Code
		field string
		words []string
	}{
		"no view":         {&twofoldv1.PushFeaturesRequest{}, codes.InvalidArgument, "feature_view", nil},
		"unknown view":    {&twofoldv1.PushFeaturesRequest{FeatureView: "profil"}, codes.NotFound, "", []string{`"profile"`}},
		"feature missing": {change(func(r *twofoldv1.PushFeaturesRequest) { r.Columns = r.Columns[:3] }), codes.InvalidArgument, "columns", []string{`"name"`, "whole"}},
		"time missing":    {change(func(r *twofoldv1.PushFeaturesRequest) { r.EventTimeColumn = "at" }), codes.InvalidArgument, "columns", []string{`"at"`}},
		"wrong type":      {change(func(r *twofoldv1.PushFeaturesRequest) { r.Columns[2] = client.Doubles("age", 1) }), codes.InvalidArgument, "columns[2]", []string{"INT32", "DOUBLE"}},
		"misspelt": {change(func(r *twofoldv1.PushFeaturesRequest) { r.Columns = append(r.Columns, client.Strings("naem", "x")) }),
			codes.InvalidArgument, "columns[4].name", []string{`did you mean "name"`}},
		"offline feature": {change(func(r *twofoldv1.PushFeaturesRequest) { r.Columns = append(r.Columns, client.Strings("notes", "x")) }),
			codes.InvalidArgument, "columns[4].name", []string{"not online"}},
		"from the future": {profile(1, -6*time.Minute, 1), codes.InvalidArgument, "columns", []string{"row 0", "2026-03-01T12:06:00Z", "microseconds"}},
		"tombstones":      {change(func(r *twofoldv1.PushFeaturesRequest) { r.Tombstones = []bool{true, false} }), codes.InvalidArgument, "tombstones", nil},
		"null key": {change(func(r *twofoldv1.PushFeaturesRequest) {
			r.Columns[0].Statuses = []twofoldv1.ValueStatus{twofoldv1.ValueStatus_VALUE_STATUS_NULL}
		}), codes.InvalidArgument, "", []string{"row 0", "user_id"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := env.Client.Push(t.Context(), c.req)
			wantError(t, err, c.code, c.field, c.words...)
		})
	}
}
