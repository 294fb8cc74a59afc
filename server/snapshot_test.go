package server_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

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

const priceList = `
entities: [{name: item, keys: [{name: item_id, type: INT64}]}]
feature_views:
  - name: price
    entity: item
    source: {path: price, event_time_column: at}
    sync: {interval: 24h, mode: SNAPSHOT, snapshot: {max_entity_drop: 1}}
    features: [{name: x, type: INT64}]
`

const priceItems = 300

// writePrices writes a list in which every item that there is has the same price: those from first on, until there are count of them or no more.
func writePrices(t testing.TB, dir string, price, first, count int) {
	var items, prices, times []any
	for i := range min(count, priceItems-first) {
		items, prices, times = append(items, first+i), append(prices, price), append(times, ago(time.Hour))
	}
	new(servertest.Table).Add("item_id", feature.Int64, items...).Add("at", feature.Timestamp, times...).Add("x", feature.Int64, prices...).
		WriteParquet(t, filepath.Join(dir, "price", "all.parquet"))
}

func priceListRequest() *twofoldv1.GetOnlineFeaturesRequest {
	items := make([]int64, priceItems)
	for i := range items {
		items[i] = int64(i)
	}
	return &twofoldv1.GetOnlineFeaturesRequest{Features: []string{"price:x"}, Entities: []*twofoldv1.Column{client.Int64s("item_id", items...)}}
}

// TestSnapshotsAreSeenWhole has many clients read all items, over a real Redis, while generation after generation goes live and old ones are removed: each answer is one
// generation's, to the last item, and says which, and no client is told of an older one than it has seen.
func TestSnapshotsAreSeenWhole(t *testing.T) {
	store, err := redisstore.Open(redisstore.Options{URL: testenv.Redis(t).URL})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var clock atomic.Int64
	clock.Store(now.UnixMicro())
	at := func() time.Time { return time.UnixMicro(clock.Load()).UTC() }
	env := servertest.Start(t, servertest.Config{
		Definitions: priceList, Offline: offline.Config{Path: dir}, Online: store, Now: at,
		Change: func(o *server.Options) { o.PingInterval = 5 * time.Millisecond },
	})
	// made has, for each generation, the first item that it has and its price.
	var made sync.Map
	publish := func(price, first int) {
		writePrices(t, dir, price, first, priceItems)
		reports, err := env.Syncer.RunOnce(t.Context(), syncer.Request{})
		if err != nil {
			t.Fatal(err)
		}
		made.Store(reports[0].Generation, [2]int{price, first})
	}
	publish(1, 0)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var readers sync.WaitGroup
	var answers, unknown atomic.Int64
	for range 4 {
		readers.Go(func() {
			last := uint64(0)
			for ctx.Err() == nil {
				resp, err := env.Client.Online(ctx, priceListRequest())
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					t.Errorf("a reader was refused: %v", err)
					return
				}
				generation := resp.GetViews()[0].GetGeneration()
				if generation < last {
					t.Errorf("generation %d after %d", generation, last)
				}
				last = generation
				content, ok := made.Load(generation)
				if !ok { // it went live a moment ago
					unknown.Add(1)
					continue
				}
				answers.Add(1)
				checkPrices(t, resp.GetColumns()[1], content.([2]int))
			}
		})
	}
	for i := range 30 {
		publish(2+i, i%7)
		clock.Add(time.Minute.Microseconds())
	}
	stop()
	readers.Wait()
	if answers.Load() < 30 {
		t.Errorf("only %d answers (and %d of generations that were just made) were looked at", answers.Load(), unknown.Load())
	}
}

// checkPrices checks that items before the first are not found, and all others have the price.
func checkPrices(t *testing.T, c *twofoldv1.Column, content [2]int) {
	for item := range priceItems {
		status, value := client.Status(c, item), c.GetInt64S().GetValues()[item]
		if found := item >= content[1]; (status == twofoldv1.ValueStatus_VALUE_STATUS_PRESENT) != found || (found && value != int64(content[0])) {
			t.Errorf("item %d: %v %d in a generation of price %d from item %d", item, status, value, content[0], content[1])
			return
		}
	}
}

// TestSnapshotRollback: servers follow a rollback; a view of snapshots cannot be pushed to.
func TestSnapshotRollback(t *testing.T) {
	dir := t.TempDir()
	env := servertest.Start(t, servertest.Config{
		Definitions: priceList, Offline: offline.Config{Path: dir}, Now: func() time.Time { return now },
		Change: func(o *server.Options) { o.PingInterval = 5 * time.Millisecond },
	})
	_, err := env.Client.Online(t.Context(), priceListRequest())
	wantError(t, err, codes.Unavailable, "", `"price" has not been synced`)
	for price := range 2 {
		writePrices(t, dir, price, 0, priceItems)
		if _, err := env.Syncer.RunOnce(t.Context(), syncer.Request{}); err != nil {
			t.Fatal(err)
		}
	}
	price := func() string {
		resp, err := env.Client.Online(t.Context(), priceListRequest())
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(resp.GetColumns()[1].GetInt64S().GetValues()[7])
	}
	eventually(t, "the second generation", func() bool { return price() == "1" })
	if _, err := env.Syncer.Rollback(t.Context(), "price", 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first generation", func() bool { return price() == "0" })
	_, err = env.Client.Push(t.Context(), &twofoldv1.PushFeaturesRequest{FeatureView: "price", Columns: []*twofoldv1.Column{
		client.Int64s("item_id", 1), client.Timestamps("event_timestamp", now), client.Int64s("x", 5),
	}})
	wantError(t, err, codes.FailedPrecondition, "", "mode SNAPSHOT")

	// A definition by which the rows are kept elsewhere finds no generation.
	env.Reload(t, strings.ReplaceAll(strings.ReplaceAll(priceList, "name: item,", "name: thing,"), "entity: item", "entity: thing"))
	_, err = env.Client.Online(t.Context(), priceListRequest())
	wantError(t, err, codes.Unavailable, "", `"price" has not been synced`)
}

// eventually polls until something has come about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("%s did not come", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
