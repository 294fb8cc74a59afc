package server_test

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/online/redisstore"
	"github.com/twofold-ml/twofold/internal/testenv"
	"github.com/twofold-ml/twofold/server"
	"github.com/twofold-ml/twofold/server/servertest"
	"github.com/twofold-ml/twofold/syncer"
)

const twoViews = `
entities: [{name: item, keys: [{name: item_id, type: STRING}]}]
feature_views:
  - name: price
    entity: item
    source: {path: price.parquet, event_time_column: at}
    sync: {interval: 24h}
    features: [{name: name, type: STRING}]
  - name: pushed
    entity: item
    source: {path: none.parquet, event_time_column: at}
    sync: {enabled: false}
    features: [{name: x, type: INT64}]
`

// TestUnsyncedViewIsNotAnswered empties a real Redis, first and again: until the view has been synced, and after its rows are lost, nobody may be
// told NOT_FOUND; and the syncer fills the store again although its interval is a day.
func TestUnsyncedViewIsNotAnswered(t *testing.T) {
	redisServer := testenv.Redis(t)
	store, err := redisstore.Open(redisstore.Options{URL: redisServer.URL})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	new(servertest.Table).Add("item_id", feature.String, "a").Add("at", feature.Timestamp, ago(time.Hour)).Add("name", feature.String, "apple").
		WriteParquet(t, filepath.Join(dir, "price.parquet"))
	env := servertest.Start(t, servertest.Config{
		Definitions: twoViews, Offline: offline.Config{Path: dir}, Online: store, Now: func() time.Time { return now },
		Change: func(o *server.Options) { o.PingInterval = 20 * time.Millisecond },
	})
	notReady := func() bool {
		code, body := get(t, env, "/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "price")
	}
	await(t, "not ready", notReady)
	_, err = readPrice(t.Context(), env)
	wantError(t, err, codes.Unavailable, "", `"price" has not been synced`)
	resp, err := env.Client.Online(t.Context(), &twofoldv1.GetOnlineFeaturesRequest{Features: []string{"pushed:x"}, Entities: []*twofoldv1.Column{client.Strings("item_id", "a")}})
	if err != nil || table(t, resp.GetColumns())["pushed:x"][0] != "NOT_FOUND" {
		t.Errorf("a view that is not synced: %v, %v", resp, err)
	}

	runs := make(chan syncer.Report, 1)
	s, err := syncer.New(syncer.Options{Registry: env.Definitions.Registry, Online: env.Online, Offline: env.Offline, Now: func() time.Time { return now },
		OnReport: func(r syncer.Report) { runs <- r }, LossCheckInterval: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error)
	go func() { stopped <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	}()
	answered := func() bool {
		resp, err := readPrice(t.Context(), env)
		return err == nil && table(t, resp.GetColumns())["price:name"][0] == "apple"
	}
	<-runs
	await(t, "an answer after the sync", answered)
	await(t, "ready", func() bool { code, _ := get(t, env, "/readyz"); return code == http.StatusOK })

	admin := redis.NewClient(&redis.Options{Addr: redisServer.Addr})
	defer func() { _ = admin.Close() }() // a test's own connection
	if err := admin.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if again := <-runs; again.Written != 1 {
		t.Errorf("after the loss: %v", again)
	}
	await(t, "an answer after the loss", answered)
	schemas, err := admin.Keys(t.Context(), "tf::meta:schema/price/*").Result()
	if err != nil || len(schemas) != 1 {
		t.Errorf("schemas after the loss: %v, %v", schemas, err)
	}
}

// TestLostRowsAreNeverNotFound: between two looks at the store, too, with many asking while it is emptied and filled again: every answer has the
// row, or is UNAVAILABLE.
func TestLostRowsAreNeverNotFound(t *testing.T) {
	redisServer := testenv.Redis(t)
	store, err := redisstore.Open(redisstore.Options{URL: redisServer.URL})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var ticks atomic.Int64
	new(servertest.Table).Add("item_id", feature.String, "a").Add("at", feature.Timestamp, ago(time.Hour)).Add("name", feature.String, "apple").
		WriteParquet(t, filepath.Join(dir, "price.parquet"))
	env := servertest.Start(t, servertest.Config{
		Definitions: twoViews, Offline: offline.Config{Path: dir}, Online: store,
		Now:    func() time.Time { return now.Add(time.Duration(ticks.Add(1)) * time.Microsecond) }, // a clock that moves tells two syncs apart
		Change: func(o *server.Options) { o.PingInterval = time.Hour },                              // no look but those that requests ask for
	})
	raw := redis.NewClient(&redis.Options{Addr: redisServer.Addr})
	defer func() { _ = raw.Close() }() // a test's own connection
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := env.Client.Online(t.Context(), &twofoldv1.GetOnlineFeaturesRequest{
					Features: []string{"price:name"}, Entities: []*twofoldv1.Column{client.Strings("item_id", "a", "nobody")},
				})
				switch {
				case err != nil && status.Code(err) != codes.Unavailable:
					t.Errorf("neither the row nor UNAVAILABLE: %v", err)
				case err == nil && resp.GetColumns()[1].GetStatuses()[0] != twofoldv1.ValueStatus_VALUE_STATUS_PRESENT:
					t.Errorf("a row that was lost is answered with %v", resp.GetColumns()[1].GetStatuses()[0])
				}
			}
		})
	}
	for range 30 {
		if _, err := env.Syncer.RunOnce(t.Context(), syncer.Request{}); err != nil {
			t.Error(err)
		}
		await(t, "the row", func() bool {
			resp, err := readPrice(t.Context(), env)
			return err == nil && table(t, resp.GetColumns())["price:name"][0] == "apple"
		})
		if err := raw.FlushAll(t.Context()).Err(); err != nil {
			t.Error(err)
		}
		if _, err := readPrice(t.Context(), env); status.Code(err) != codes.Unavailable {
			t.Errorf("the first answer after the store was emptied: %v", err)
		}
	}
	close(stop)
	wg.Wait()
}
