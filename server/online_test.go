package server_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/wire"
	"github.com/twofold-ml/twofold/server"
	"github.com/twofold-ml/twofold/server/servertest"
)

// table prints columns as a reader would write them down: the value, or the status where there is none.
func table(t *testing.T, columns []*twofoldv1.Column) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, m := range columns {
		c, err := wire.ResponseColumnFromProto(m)
		if err != nil {
			t.Fatal(err)
		}
		cells := []string{}
		for i := range c.Len() {
			if c.IsPresent(i) {
				cells = append(cells, fmt.Sprint(c.ValueAt(i)))
			} else {
				cells = append(cells, c.Status[i].String())
			}
		}
		out[m.GetName()] = cells
	}
	return out
}

func names(columns []*twofoldv1.Column) []string {
	var names []string
	for _, c := range columns {
		names = append(names, c.GetName())
	}
	return names
}

func TestOnline(t *testing.T) {
	env := start(t)
	resp, err := env.Client.Online(t.Context(), &twofoldv1.GetOnlineFeaturesRequest{
		FeatureService: "ranking_v1",
		Entities:       []*twofoldv1.Column{client.Strings("item_id", "a", "b", "a", "c", "b"), client.Int64s("user_id", 1, 2, 1, 3, 9)},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"item_id": {"a", "b", "a", "c", "b"}, "user_id": {"1", "2", "1", "3", "9"},
		"clicks:count": {"7", "EXPIRED", "7", "NOT_FOUND", "NOT_FOUND"},
		"profile:age":  {"31", "NULL", "31", "EXPIRED", "NOT_FOUND"},
		"price:amount": {"1.5", "2.5", "1.5", "NOT_FOUND", "2.5"},
		"price:name":   {"apple", "bread", "apple", "NOT_FOUND", "bread"},
	}
	if diff := cmp.Diff(want, table(t, resp.GetColumns())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"item_id", "user_id", "clicks:count", "profile:age", "price:amount", "price:name"}, names(resp.GetColumns())); diff != "" {
		t.Errorf("order, -want +got:\n%s", diff)
	}
	if resp.GetAsOfMicros() != now.UnixMicro() || len(resp.GetViews()) != 3 || resp.GetViews()[0].GetName() != "clicks" || resp.GetViews()[0].GetEventTimesMicros() != nil {
		t.Errorf("views: %v", resp.GetViews())
	}
	if resp.GetViews()[0].GetTtl().AsDuration() != time.Hour || resp.GetViews()[2].GetTtl() != nil {
		t.Errorf("ttls: %v", resp.GetViews())
	}
}

func TestOnlineOptions(t *testing.T) {
	env := start(t)
	users := []*twofoldv1.Column{client.Int32s("user_id", 1, 2)} // INT32 is widened
	resp, err := env.Client.Online(t.Context(), &twofoldv1.GetOnlineFeaturesRequest{
		Features: []string{"profile:*"}, Entities: users, ShortNames: true, OmitEntities: true, IncludeEventTimes: true,
		MaxStaleness: durationpb.New(90 * time.Minute),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"age": {"EXPIRED", "NULL"}, "name": {"EXPIRED", "Bob"}} // notes is not online
	if diff := cmp.Diff(want, table(t, resp.GetColumns())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]int64{ago(2 * time.Hour), ago(time.Hour)}, resp.GetViews()[0].GetEventTimesMicros()); diff != "" {
		t.Errorf("event times, -want +got:\n%s", diff)
	}
	if got := resp.GetViews()[0].GetTtl().AsDuration(); got != 90*time.Minute {
		t.Errorf("the ttl that was applied is said to be %v", got)
	}
	loose, err := env.Client.Online(t.Context(), &twofoldv1.GetOnlineFeaturesRequest{
		Features: []string{"profile:name"}, Entities: []*twofoldv1.Column{client.Int64s("user_id", 3)}, MaxStaleness: durationpb.New(1000 * time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := table(t, loose.GetColumns())["profile:name"]; got[0] != "EXPIRED" || loose.GetViews()[0].GetTtl().AsDuration() != 24*time.Hour {
		t.Errorf("max_staleness extended the ttl: %v", got)
	}
}

// TestSelectionsAreKeptApart: a selection is resolved once and kept, and must not answer for one that differs from it only a little.
func TestSelectionsAreKeptApart(t *testing.T) {
	env := start(t)
	entities := []*twofoldv1.Column{client.Strings("item_id", "a")}
	for range 2 {
		for _, c := range []struct {
			features []string
			short    bool
			want     []string
		}{
			{[]string{"price:name", "price:amount"}, false, []string{"price:name", "price:amount"}},
			{[]string{"price:name", "price:amount"}, true, []string{"name", "amount"}},
			{[]string{"price:amount", "price:name"}, true, []string{"amount", "name"}},
			{[]string{"price:amount"}, true, []string{"amount"}},
			{[]string{"price:*"}, false, []string{"price:amount", "price:name"}},
		} {
			resp, err := env.Client.Online(t.Context(), &twofoldv1.GetOnlineFeaturesRequest{Features: c.features, ShortNames: c.short, Entities: entities, OmitEntities: true})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, names(resp.GetColumns())); diff != "" {
				t.Errorf("%v, short %v, -want +got:\n%s", c.features, c.short, diff)
			}
			for i, name := range c.want {
				want := map[bool]string{true: "apple", false: "1.5"}[strings.HasSuffix(name, "name")]
				if got := table(t, resp.GetColumns())[c.want[i]]; got[0] != want {
					t.Errorf("%v: %s is %v", c.features, name, got)
				}
			}
		}
	}
}

func TestOnlineNullKeyAndNoRows(t *testing.T) {
	env := start(t)
	null := client.Strings("item_id", "a", "")
	null.Statuses = []twofoldv1.ValueStatus{twofoldv1.ValueStatus_VALUE_STATUS_PRESENT, twofoldv1.ValueStatus_VALUE_STATUS_NULL}
	resp, err := env.Client.Online(t.Context(), &twofoldv1.GetOnlineFeaturesRequest{Features: []string{"price:name"}, Entities: []*twofoldv1.Column{null}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"apple", "NOT_FOUND"}, table(t, resp.GetColumns())["price:name"]); diff != "" {
		t.Error(diff)
	}
	resp, err = env.Client.Online(t.Context(), &twofoldv1.GetOnlineFeaturesRequest{Features: []string{"price:name"}, Entities: []*twofoldv1.Column{client.Strings("item_id")}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string][]string{"item_id": {}, "price:name": {}}, table(t, resp.GetColumns())); diff != "" {
		t.Error(diff)
	}
}

func TestOnlineErrors(t *testing.T) {
	env := start(t, func(c *servertest.Config) { c.Change = func(o *server.Options) { o.MaxRows = 3 } })
	items := []*twofoldv1.Column{client.Strings("item_id", "a")}
	cases := map[string]struct {
		req   *twofoldv1.GetOnlineFeaturesRequest
		code  codes.Code
		field string
		words []string
	}{
		"nothing asked":     {&twofoldv1.GetOnlineFeaturesRequest{Entities: items}, codes.InvalidArgument, "features", []string{"feature_service"}},
		"both asked":        {&twofoldv1.GetOnlineFeaturesRequest{FeatureService: "ranking_v1", Features: []string{"price:name"}}, codes.InvalidArgument, "feature_service", []string{"not both"}},
		"unknown service":   {&twofoldv1.GetOnlineFeaturesRequest{FeatureService: "rankin_v1"}, codes.NotFound, "", []string{`"ranking_v1"`}},
		"unknown view":      {&twofoldv1.GetOnlineFeaturesRequest{Features: []string{"prices:name"}}, codes.NotFound, "", []string{`did you mean "price"`}},
		"unknown feature":   {&twofoldv1.GetOnlineFeaturesRequest{Features: []string{"price:amonut"}}, codes.NotFound, "", []string{`did you mean "amount"`}},
		"no colon":          {&twofoldv1.GetOnlineFeaturesRequest{Features: []string{"price"}}, codes.InvalidArgument, "features", []string{"view:feature"}},
		"named twice":       {&twofoldv1.GetOnlineFeaturesRequest{Features: []string{"price:name", "price:*"}, Entities: items}, codes.InvalidArgument, "features", []string{"twice"}},
		"short name clash":  {&twofoldv1.GetOnlineFeaturesRequest{Features: []string{"price:name", "profile:name"}, ShortNames: true}, codes.InvalidArgument, "short_names", []string{"price:name", "profile:name"}},
		"offline feature":   {&twofoldv1.GetOnlineFeaturesRequest{Features: []string{"profile:notes"}}, codes.FailedPrecondition, "", []string{"not online"}},
		"offline service":   {&twofoldv1.GetOnlineFeaturesRequest{FeatureService: "training_v1"}, codes.FailedPrecondition, "", []string{"profile:notes"}},
		"key missing":       {&twofoldv1.GetOnlineFeaturesRequest{Features: []string{"clicks:count"}, Entities: items}, codes.InvalidArgument, "entities", []string{`"user_id"`, "user_item"}},
		"key misspelt":      {&twofoldv1.GetOnlineFeaturesRequest{Features: []string{"price:name"}, Entities: []*twofoldv1.Column{client.Strings("itemid", "a")}}, codes.InvalidArgument, "entities", []string{`did you mean "itemid"`}},
		"key of wrong type": {&twofoldv1.GetOnlineFeaturesRequest{Features: []string{"price:name"}, Entities: []*twofoldv1.Column{client.Int64s("item_id", 1)}}, codes.InvalidArgument, "entities[0]", []string{"STRING", "INT64"}},
		"key twice":         {&twofoldv1.GetOnlineFeaturesRequest{Features: []string{"price:name"}, Entities: append(items, items...)}, codes.InvalidArgument, "entities[1].name", []string{"item_id"}},
		"no values":         {&twofoldv1.GetOnlineFeaturesRequest{Features: []string{"price:name"}, Entities: []*twofoldv1.Column{{Name: "item_id"}}}, codes.InvalidArgument, "entities[0].values", nil},
		"uneven":            {&twofoldv1.GetOnlineFeaturesRequest{Features: []string{"clicks:count"}, Entities: append(items, client.Int64s("user_id", 1, 2))}, codes.InvalidArgument, "entities[1]", []string{"2 rows"}},
		"too many rows":     {&twofoldv1.GetOnlineFeaturesRequest{Features: []string{"price:name"}, Entities: []*twofoldv1.Column{client.Strings("item_id", "a", "b", "c", "d")}}, codes.ResourceExhausted, "entities[0]", []string{"limit of 3"}},
		"negative age":      {&twofoldv1.GetOnlineFeaturesRequest{Features: []string{"price:name"}, MaxStaleness: durationpb.New(-1)}, codes.InvalidArgument, "max_staleness", nil},
		"zero age":          {&twofoldv1.GetOnlineFeaturesRequest{Features: []string{"price:name"}, MaxStaleness: durationpb.New(0)}, codes.InvalidArgument, "max_staleness", nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := env.Client.Online(t.Context(), c.req)
			wantError(t, err, c.code, c.field, c.words...)
		})
	}
}

func toProto(t *testing.T, name string, c *feature.Column, from, to int) *twofoldv1.Column {
	t.Helper()
	m, err := wire.ColumnToProto(name, c, from, to)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
