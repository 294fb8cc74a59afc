package server_test

import (
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/server/servertest"
	"github.com/twofold-ml/twofold/syncer"
)

const definitions = `
entities:
  - {name: user, keys: [{name: user_id, type: INT64}]}
  - {name: item, keys: [{name: item_id, type: STRING}]}
  - {name: user_item, keys: [{name: user_id, type: INT64}, {name: item_id, type: STRING}]}
feature_views:
  - name: profile
    entity: user
    source: {path: profile.parquet, event_time_column: at, created_time_column: written}
    ttl: 24h
    sync: {interval: 1h}
    features:
      - {name: age, type: INT32}
      - {name: name, type: STRING}
      - {name: notes, type: STRING, online: false}
  - name: price
    entity: item
    source: {path: price.parquet, event_time_column: at}
    features: [{name: amount, type: DOUBLE}, {name: name, type: STRING}]
  - name: clicks
    entity: user_item
    source: {path: clicks.parquet, event_time_column: at}
    ttl: 1h
    sync: {interval: 10m}
    features: [{name: count, type: INT64}]
feature_services:
  - {name: ranking_v1, features: ["clicks:count", "profile:age", "price:*"]}
  - {name: training_v1, features: ["profile:*"]}
`

// now is the clock of these tests.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) int64 { return now.Add(-d).UnixMicro() }

// start runs a server over some files and stored rows.
func start(t *testing.T, changes ...func(*servertest.Config)) *servertest.Env {
	t.Helper()
	dir := t.TempDir()
	new(servertest.Table).
		Add("user_id", feature.Int64, 1, 1, 2, 3).
		Add("at", feature.Timestamp, ago(30*time.Hour), ago(2*time.Hour), ago(time.Hour), ago(26*time.Hour)).
		Add("written", feature.Timestamp, ago(30*time.Hour), ago(time.Hour), nil, ago(20*time.Hour)).
		Add("age", feature.Int32, int32(30), int32(31), nil, int32(50)).
		Add("name", feature.String, "ann", "Ann", "Bob", "Zoë").
		Add("notes", feature.String, "n1", "n2", nil, "n4").
		WriteParquet(t, filepath.Join(dir, "profile.parquet"))
	new(servertest.Table).
		Add("item_id", feature.String, "a", "b").
		Add("at", feature.Timestamp, ago(1000*time.Hour), ago(time.Hour)).
		Add("amount", feature.Double, 1.5, 2.5).
		Add("name", feature.String, "apple", "bread").
		WriteParquet(t, filepath.Join(dir, "price.parquet"))
	new(servertest.Table).
		Add("user_id", feature.Int64, 1, 2).
		Add("item_id", feature.String, "a", "b").
		Add("at", feature.Timestamp, ago(time.Minute), ago(90*time.Minute)).
		Add("count", feature.Int64, 7, 9).
		WriteParquet(t, filepath.Join(dir, "clicks.parquet"))
	config := servertest.Config{Definitions: definitions, Offline: offline.Config{Path: dir}, Now: func() time.Time { return now }}
	for _, change := range changes {
		change(&config)
	}
	env := servertest.Start(t, config)
	if _, err := env.Syncer.RunOnce(t.Context(), syncer.Request{}); err != nil {
		t.Fatal(err)
	}
	return env
}

// wantError checks a call's code, that its text holds every word, and the field that its details name.
func wantError(t *testing.T, err error, code codes.Code, field string, words ...string) {
	t.Helper()
	st := status.Convert(err)
	if st.Code() != code {
		t.Fatalf("got %v (%v), want %v", st.Code(), err, code)
	}
	for _, word := range words {
		if !strings.Contains(st.Message(), word) {
			t.Errorf("%q does not say %q", st.Message(), word)
		}
	}
	got := ""
	for _, d := range st.Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			got = bad.GetFieldViolations()[0].GetField()
		}
	}
	if got != field {
		t.Errorf("the details name field %q, want %q", got, field)
	}
}

func get(t *testing.T, env *servertest.Env, path string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + env.HTTPAddress + path)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestHTTP(t *testing.T) {
	env := start(t)
	await(t, "healthy", func() bool { return env.Client.Healthy(t.Context()) == nil })
	if code, body := get(t, env, "/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("/healthz: %d %s", code, body)
	}
	if code, body := get(t, env, "/readyz"); code != http.StatusOK {
		t.Errorf("/readyz: %d %s", code, body)
	}
	if _, err := env.Client.Online(t.Context(), &twofoldv1.GetOnlineFeaturesRequest{
		Features: []string{"price:amount"}, Entities: []*twofoldv1.Column{client.Strings("item_id", "a", "zzz")},
	}); err != nil {
		t.Fatal(err)
	}
	_, body := get(t, env, "/metrics")
	for _, line := range []string{
		`twofold_online_rows_total{feature_view="price",status="PRESENT"} 1`,
		`twofold_online_rows_total{feature_view="price",status="NOT_FOUND"} 1`,
		`grpc_server_handled_total{grpc_code="OK",grpc_method="GetOnlineFeatures"`,
	} {
		if !strings.Contains(body, line) {
			t.Errorf("/metrics lacks %s", line)
		}
	}
}
