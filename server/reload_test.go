package server_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/server"
	"github.com/twofold-ml/twofold/server/servertest"
	"github.com/twofold-ml/twofold/syncer"
)

// edit replaces parts of the test's definitions: old, new, old, new.
func edit(t *testing.T, parts ...string) string {
	t.Helper()
	text := definitions
	for i := 0; i < len(parts); i += 2 {
		if !strings.Contains(text, parts[i]) {
			t.Fatalf("no %q", parts[i])
		}
		text = strings.ReplaceAll(text, parts[i], parts[i+1])
	}
	return text
}

func readAge(ctx context.Context, env *servertest.Env, features ...string) (*twofoldv1.GetOnlineFeaturesResponse, error) {
	return env.Client.Online(ctx, &twofoldv1.GetOnlineFeaturesRequest{
		Features: features, Entities: []*twofoldv1.Column{client.Int64s("user_id", 1)}, OmitEntities: true,
	})
}

// TestReload: rows that were written before are read under the new definitions; what is gone is gone, and its counters stay.
func TestReload(t *testing.T) {
	env := start(t)
	if _, err := readAge(t.Context(), env, "profile:age", "profile:name"); err != nil {
		t.Fatal(err)
	}
	if _, err := readPrice(t.Context(), env); err != nil {
		t.Fatal(err)
	}
	env.Reload(t, edit(t,
		"- {name: age, type: INT32}", "- {name: age, type: INT64}\n      - {name: height, type: INT32}", // widened, and added
		"- {name: name, type: STRING}\n      - {name: notes", "- {name: notes", // removed
		"ttl: 24h", "ttl: 48h",
		"  - name: price\n", "  - name: cost\n", "price:*", "cost:*"))
	resp, err := readAge(t.Context(), env, "profile:age", "profile:height")
	if err != nil {
		t.Fatal(err)
	}
	got := table(t, resp.GetColumns())
	if got["profile:age"][0] != "31" || got["profile:height"][0] != "NOT_FOUND" || resp.GetViews()[0].GetTtl().AsDuration() != 48*time.Hour {
		t.Errorf("a row from before: %v, %v", got, resp.GetViews())
	}
	_, err = readAge(t.Context(), env, "profile:name")
	wantError(t, err, codes.NotFound, "", `"name"`)
	_, err = readPrice(t.Context(), env)
	wantError(t, err, codes.NotFound, "", `"price"`)
	if _, err := env.Syncer.RunOnce(t.Context(), syncer.Request{}, "cost"); err != nil {
		t.Fatal(err)
	}
	resp, err = env.Client.Online(t.Context(), &twofoldv1.GetOnlineFeaturesRequest{Features: []string{"cost:name"}, Entities: []*twofoldv1.Column{client.Strings("item_id", "a")}})
	if err != nil || table(t, resp.GetColumns())["cost:name"][0] != "apple" {
		t.Errorf("the view under its new name: %v, %v", resp, err)
	}
	_, body := get(t, env, "/metrics")
	if line := `twofold_online_rows_total{feature_view="price",status="PRESENT"} 1`; !strings.Contains(body, line) {
		t.Errorf("/metrics lacks %s", line)
	}
	if err := env.Server.Reload(t.Context(), nil); err == nil {
		t.Error("no definitions were taken")
	}
}

// pinged counts the checks of a store's health.
type pinged struct {
	driver.Driver
	pings atomic.Int64
}

func (p *pinged) Ping(ctx context.Context) error {
	p.pings.Add(1)
	return p.Driver.Ping(ctx)
}

// TestReloadBringsAView: a view that nobody has carried yet is not answered for, alone, and the server stays ready; once carried, it is like any other.
func TestReloadBringsAView(t *testing.T) {
	store := &pinged{Driver: servertest.Memory(t)}
	env := start(t, func(c *servertest.Config) {
		c.Online = store
		c.Change = func(o *server.Options) { o.PingInterval = 5 * time.Millisecond }
	})
	isReady := func() bool { code, _ := get(t, env, "/readyz"); return code == http.StatusOK }
	await(t, "ready", isReady)
	more := edit(t, "feature_services:\n", `  - name: again
    entity: user
    source: {path: profile.parquet, event_time_column: at}
    features: [{name: age, type: INT32}]
feature_services:
`)
	env.Reload(t, more)
	_, err := readAge(t.Context(), env, "again:age")
	wantError(t, err, codes.Unavailable, "", `"again" has not been synced`)
	if _, err := readAge(t.Context(), env, "profile:age"); err != nil {
		t.Errorf("another view: %v", err)
	}
	// When the third check of the store's health begins, the second has ended, which began after the reload.
	before := store.pings.Load()
	await(t, "checks of the store", func() bool { return store.pings.Load() > before+2 })
	if !isReady() {
		t.Error("a new view takes the others out of service")
	}
	env.Reload(t, strings.ReplaceAll(more, "ttl: 24h", "ttl: 25h")) // it is still new
	if _, err := readAge(t.Context(), env, "again:age"); err == nil {
		t.Error("the view is answered for")
	}

	if _, err := env.Syncer.RunOnce(t.Context(), syncer.Request{}, "again"); err != nil {
		t.Fatal(err)
	}
	resp, err := readAge(t.Context(), env, "again:age")
	if err != nil || table(t, resp.GetColumns())["again:age"][0] != "31" {
		t.Errorf("%v, %v", resp, err)
	}
}

// TestReloadThatKeepsRowsElsewhere: where rows are looked for in another place than they were written to, none is found; nobody may be told that there
// are none.
func TestReloadThatKeepsRowsElsewhere(t *testing.T) {
	for name, other := range map[string]string{
		"layout": edit(t, "    ttl: 24h\n", "    ttl: 24h\n    layout: HISTORY\n"),
		"entity": edit(t, "entities:\n", "entities:\n  - {name: person, keys: [{name: user_id, type: INT64}]}\n", "entity: user\n", "entity: person\n"),
	} {
		t.Run(name, func(t *testing.T) {
			env := start(t)
			for _, text := range []string{other, definitions} {
				env.Reload(t, text)
				_, err := readAge(t.Context(), env, "profile:age")
				wantError(t, err, codes.Unavailable, "", `"profile" has not been synced`)
				if _, err := readPrice(t.Context(), env); err != nil {
					t.Errorf("another view: %v", err)
				}
				if _, err := env.Syncer.RunOnce(t.Context(), syncer.Request{}, "profile"); err != nil {
					t.Fatal(err)
				}
				resp, err := readAge(t.Context(), env, "profile:age")
				if err != nil || table(t, resp.GetColumns())["profile:age"][0] != "31" {
					t.Errorf("%v, %v", resp, err)
				}
			}
		})
	}
}

// TestReloadLeavesCallsAlone: a historical call goes on by the definitions that it began with, and the pages of two lists are not mixed.
func TestReloadLeavesCallsAlone(t *testing.T) {
	env := start(t)
	before := env.Definitions.Hash()
	registry := env.Client.Registry()
	first, err := registry.ListFeatureViews(t.Context(), &twofoldv1.ListFeatureViewsRequest{PageSize: 2})
	if err != nil {
		t.Fatal(err)
	}
	rows := new(servertest.Table).Add("user_id", feature.Int64, 1).Add("event_timestamp", feature.Timestamp, ago(0))
	manifest, err := env.Client.Historical(t.Context(), &twofoldv1.HistoricalHeader{Features: []string{"profile:name"}},
		func(yield func(*twofoldv1.ColumnBatch, error) bool) {
			for batch, err := range batches(t, rows, 1) {
				if !yield(batch, err) {
					return
				}
			}
			// The server has received the rows, so it had taken the header before.
			await(t, "the rows were received", func() bool {
				_, body := get(t, env, "/metrics")
				return strings.Contains(body, `grpc_server_msg_received_total{grpc_method="GetHistoricalFeatures",grpc_service="twofold.v1.FeatureService",grpc_type="bidi_stream"} 2`)
			})
			env.Reload(t, edit(t, "- {name: name, type: STRING}\n      - {name: notes", "- {name: notes"))
		}, func(b *twofoldv1.ColumnBatch) error {
			if got := table(t, b.GetColumns())["profile:name"][0]; got != "Ann" {
				t.Errorf("got %s", got)
			}
			return nil
		})
	if err != nil || manifest.GetDefinitionsHash() != before {
		t.Errorf("%v, %v", manifest, err)
	}
	_, err = registry.ListFeatureViews(t.Context(), &twofoldv1.ListFeatureViewsRequest{PageSize: 2, PageToken: first.GetNextPageToken()})
	wantError(t, err, codes.InvalidArgument, "page_token", "list again from the first page")
}

// TestReloadBesideRequests replaces the definitions while every kind of request is made: each is answered by one of them as a whole.
func TestReloadBesideRequests(t *testing.T) {
	env := start(t)
	other := edit(t, "ttl: 24h", "ttl: 48h", `features: ["clicks:count", "profile:age", "price:*"]`, `features: ["price:amount", "profile:age"]`)
	var answers [2]atomic.Int64
	done := make(chan struct{})
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				resp, err := env.Client.Online(t.Context(), &twofoldv1.GetOnlineFeaturesRequest{FeatureService: "ranking_v1", OmitEntities: true, Entities: []*twofoldv1.Column{
					client.Int64s("user_id", 1), client.Strings("item_id", "a"),
				}})
				if err != nil {
					t.Errorf("a request failed: %v", err)
					return
				}
				var profile *twofoldv1.ViewMetadata
				for _, v := range resp.GetViews() {
					if v.GetName() == "profile" {
						profile = v
					}
				}
				switch ttl := profile.GetTtl().AsDuration(); {
				case len(resp.GetColumns()) == 4 && ttl == 24*time.Hour:
					answers[0].Add(1)
				case len(resp.GetColumns()) == 2 && ttl == 48*time.Hour:
					answers[1].Add(1)
				default:
					t.Errorf("%d columns with a ttl of %v", len(resp.GetColumns()), ttl)
				}
				if _, err := env.Client.Registry().Explain(t.Context(), &twofoldv1.ExplainRequest{
					Subject: &twofoldv1.ExplainRequest_FeatureService{FeatureService: "ranking_v1"},
				}); err != nil {
					t.Errorf("explain: %v", err)
				}
			}
		})
	}
	// As many reloads as it takes for both to have answered often.
	for i := 0; answers[0].Load() < 50 || answers[1].Load() < 50 || i < 50; i++ {
		if i%2 == 0 {
			env.Reload(t, other)
		} else {
			env.Reload(t, definitions)
		}
		before := answers[(i+1)%2].Load()
		await(t, "an answer by the new definitions", func() bool { return t.Failed() || answers[(i+1)%2].Load() > before })
		if t.Failed() {
			break
		}
	}
	close(done)
	load.Wait()
}
