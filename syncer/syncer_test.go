package syncer_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/online/redisstore"
	"github.com/twofold-ml/twofold/internal/pit"
	"github.com/twofold-ml/twofold/internal/testenv"
	"github.com/twofold-ml/twofold/server/servertest"
	"github.com/twofold-ml/twofold/syncer"
)

const definitions = `
entities:
  - {name: user, keys: [{name: user_id, type: INT64}]}
feature_views:
  - name: short
    entity: user
    source: {path: "short/*.parquet", event_time_column: at, created_time_column: written}
    ttl: 2h
    expired_retention: 1h
    sync: {interval: 1h, batch_size: 3}
    features: [{name: x, type: INT64}, {name: note, type: STRING, online: false}]
  - name: lasting
    entity: user
    source: {path: lasting.parquet, event_time_column: at}
    features: [{name: y, type: DOUBLE}]
  - name: pushed
    entity: user
    source: {path: none.parquet, event_time_column: at}
    sync: {enabled: false}
    features: [{name: z, type: INT64}]
  - name: offline_only
    entity: user
    source: {path: none.parquet, event_time_column: at}
    sync: {enabled: false}
    features: [{name: w, type: INT64, online: false}]
`

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// clock is a clock that a test moves by hand.
type clock struct{ offset atomic.Int64 }

func (c *clock) Now() time.Time          { return start.Add(time.Duration(c.offset.Load())) }
func (c *clock) Advance(d time.Duration) { c.offset.Add(int64(d)) }

func at(d time.Duration) int64 { return start.Add(d).UnixMicro() }

// environment has files whose every row has a known fate at start.
func environment(t *testing.T) (*servertest.Env, *clock, string) {
	t.Helper()
	dir, c := t.TempDir(), &clock{}
	write := func(name string, users, times, written, xs []any) {
		notes := make([]any, len(users))
		new(servertest.Table).Add("user_id", feature.Int64, users...).Add("at", feature.Timestamp, times...).
			Add("written", feature.Timestamp, written...).Add("x", feature.Int64, xs...).Add("note", feature.String, notes...).
			WriteParquet(t, filepath.Join(dir, "short", name))
	}
	write("1.parquet",
		[]any{1, 1, 2, 3, nil, 4},
		[]any{at(-90 * time.Minute), at(-time.Hour), at(-time.Hour), at(30 * time.Minute), at(-time.Minute), nil},
		[]any{at(0), at(0), at(0), at(0), at(0), at(0)},
		[]any{10, 11, 20, 30, 0, 0})
	write("2.parquet",
		[]any{2, 5, 6, 7},
		[]any{at(-time.Hour), at(-150 * time.Minute), at(-4 * time.Hour), at(-2 * time.Hour)},
		[]any{at(-1 * time.Hour), at(0), at(0), at(0)},
		[]any{21, 50, 60, nil})
	new(servertest.Table).Add("user_id", feature.Int64, 1, 2).Add("at", feature.Timestamp, at(-10000*time.Hour), at(-time.Hour)).Add("y", feature.Double, 1.0, 2.0).
		WriteParquet(t, filepath.Join(dir, "lasting.parquet"))
	env := servertest.Start(t, servertest.Config{Definitions: definitions, Offline: offline.Config{Path: dir}, Now: c.Now})
	return env, c, dir
}

// read returns feature x of users 1 to 7.
func read(t *testing.T, env *servertest.Env) []string {
	t.Helper()
	resp, err := env.Client.Online(t.Context(), &twofoldv1.GetOnlineFeaturesRequest{
		Features: []string{"short:x"}, Entities: []*twofoldv1.Column{client.Int64s("user_id", 1, 2, 3, 4, 5, 6, 7)}, OmitEntities: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	var cells []string
	for i, v := range resp.GetColumns()[0].GetInt64S().GetValues() {
		cell := strings.TrimPrefix(client.Status(resp.GetColumns()[0], i).String(), "VALUE_STATUS_")
		if cell == "PRESENT" {
			cell = fmt.Sprint(v)
		}
		cells = append(cells, cell)
	}
	return cells
}

func TestSyncCarriesTheNewestRowOfEachEntity(t *testing.T) {
	env, c, _ := environment(t)
	reports, err := env.Syncer.RunOnce(t.Context(), syncer.Request{}, "short")
	if err != nil {
		t.Fatal(err)
	}
	r := reports[0]
	want := syncer.Report{
		ID: r.ID, Host: r.Host, Outcome: twofoldv1.SyncOutcome_SYNC_OUTCOME_SUCCEEDED, FilesRead: 2,
		View: "short", Started: start, Elapsed: r.Elapsed, Newest: start.Add(-time.Hour), Oldest: start.Add(-150 * time.Minute),
		RowsRead: 10, RowsBad: pit.BadCounts{pit.NullKey: 1, pit.NullEventTime: 1}, RowsFuture: 1, RowsExpired: 1, RowsSuperseded: 2, Entities: 4, Versions: 4, Written: 4,
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if r.Lag() != time.Hour {
		t.Errorf("lag %v", r.Lag())
	}
	// User 2's row of file 1 was created later; 5 has expired but not for long, 6 for too long; 7's is null.
	if diff := cmp.Diff([]string{"11", "20", "NOT_FOUND", "NOT_FOUND", "EXPIRED", "NOT_FOUND", "NULL"}, read(t, env)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	c.Advance(45 * time.Minute) // 3's row is no longer in the future, 7's has expired
	if _, err := env.Syncer.RunOnce(t.Context(), syncer.Request{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"11", "20", "30", "NOT_FOUND", "EXPIRED", "NOT_FOUND", "EXPIRED"}, read(t, env)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestSyncedRowsKeepTheirCreatedTime: what is pushed with the same event time wins only if it was created no earlier than the synced row.
func TestSyncedRowsKeepTheirCreatedTime(t *testing.T) {
	env, _, _ := environment(t)
	if _, err := env.Syncer.RunOnce(t.Context(), syncer.Request{}, "short"); err != nil {
		t.Fatal(err)
	}
	// User 1's row was created at start.
	for _, push := range []struct {
		created time.Duration
		x       int64
		want    string
	}{{-time.Microsecond, 98, "11"}, {time.Microsecond, 99, "99"}} {
		_, err := env.Client.Push(t.Context(), &twofoldv1.PushFeaturesRequest{FeatureView: "short", CreatedTimeColumn: "written", Columns: []*twofoldv1.Column{
			client.Int64s("user_id", 1), client.Timestamps("event_timestamp", start.Add(-time.Hour)), client.Timestamps("written", start.Add(push.created)), client.Int64s("x", push.x),
		}})
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, env)[0]; got != push.want {
			t.Errorf("pushed as created %v after the synced row: x is %s, want %s", push.created, got, push.want)
		}
	}
}

func TestViewsToSync(t *testing.T) {
	env, _, _ := environment(t)
	views, err := env.Syncer.Views()
	if err != nil || len(views) != 2 || views[0].Name != "short" || views[1].Name != "lasting" {
		t.Errorf("%v, %v", views, err)
	}
	for name, word := range map[string]string{"pushed": "enabled: false", "offline_only": "enabled: false", "shrot": `"short"`} {
		if _, err := env.Syncer.RunOnce(t.Context(), syncer.Request{}, name); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v does not say %s", name, err, word)
		}
	}
}

// TestOneViewFails breaks one view's file: the other is synced all the same, and the error names the file.
func TestOneViewFails(t *testing.T) {
	env, _, dir := environment(t)
	if err := os.WriteFile(filepath.Join(dir, "short", "1.parquet"), []byte("PAR1 this is not Parquet PAR1"), 0o600); err != nil {
		t.Fatal(err)
	}
	reports, err := env.Syncer.RunOnce(t.Context(), syncer.Request{})
	if fault.KindOf(err) != fault.Internal && fault.KindOf(err) != fault.Corrupt {
		t.Errorf("kind %v", fault.KindOf(err))
	}
	if err == nil || !strings.Contains(err.Error(), "1.parquet") || !strings.Contains(err.Error(), `"short"`) {
		t.Errorf("got %v", err)
	}
	if len(reports) != 2 || reports[0].Err == nil || reports[1].Err != nil || reports[1].Written != 2 {
		t.Errorf("reports %v", reports)
	}
}

// TestRun lets the schedule run until every view was synced once, then stops it.
func TestRun(t *testing.T) {
	env, c, _ := environment(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := make(chan string, 2)
	s, err := syncer.New(syncer.Options{Registry: env.Definitions.Registry, Online: env.Online, Offline: env.Offline, Now: c.Now,
		OnReport: func(r syncer.Report) { seen <- r.View }})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	got := map[string]bool{<-seen: true, <-seen: true}
	cancel()
	if err := <-done; err != nil || !got["short"] || !got["lasting"] {
		t.Errorf("%v, %v", got, err)
	}
}

// TestPushAndSyncRace pushes rows while two syncers run, against a real Redis; in the end every entity must have its newest row, whoever wrote it.
func TestPushAndSyncRace(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	const entities, rows = 40, 4000
	newest := map[int64][2]int64{} // time and value by user
	offer := func(user, at, x int64) {
		if best, ok := newest[user]; !ok || at > best[0] {
			newest[user] = [2]int64{at, x}
		}
	}
	used := map[[2]int64]bool{}
	row := func() (user, micros int64) { // no two rows of a user have the same time
		for {
			user, micros = random.Int64N(entities)+1, at(-time.Duration(random.Int64N(int64(time.Hour))))
			if key := [2]int64{user, micros}; !used[key] {
				used[key] = true
				return user, micros
			}
		}
	}
	for f := range 4 {
		var users, times, xs, notes []any
		for i := range rows {
			user, micros := row()
			x := int64(f*rows + i)
			offer(user, micros, x)
			users, times, xs, notes = append(users, user), append(times, micros), append(xs, x), append(notes, nil)
		}
		new(servertest.Table).Add("user_id", feature.Int64, users...).Add("at", feature.Timestamp, times...).Add("written", feature.Timestamp, times...).
			Add("x", feature.Int64, xs...).Add("note", feature.String, notes...).WriteParquet(t, filepath.Join(dir, "short", fmt.Sprint(f)+".parquet"))
	}
	store, err := redisstore.Open(redisstore.Options{URL: testenv.Redis(t).URL})
	if err != nil {
		t.Fatal(err)
	}
	env := servertest.Start(t, servertest.Config{Definitions: definitions, Offline: offline.Config{Path: dir}, Online: store, Now: func() time.Time { return start }})
	var pushes []*twofoldv1.PushFeaturesRequest
	for i := range 300 {
		user, micros := row()
		x := int64(1_000_000 + i)
		offer(user, micros, x)
		pushes = append(pushes, &twofoldv1.PushFeaturesRequest{FeatureView: "short", Columns: []*twofoldv1.Column{
			client.Int64s("user_id", user), client.Timestamps("event_timestamp", time.UnixMicro(micros)), client.Int64s("x", x),
		}})
	}
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			for range 3 {
				if _, err := env.Syncer.RunOnce(t.Context(), syncer.Request{}, "short"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Go(func() {
		for _, push := range pushes {
			if _, err := env.Client.Push(t.Context(), push); err != nil {
				t.Error(err)
			}
		}
	})
	group.Wait()
	var users []int64
	for user := range newest {
		users = append(users, user)
	}
	resp, err := env.Client.Online(t.Context(), &twofoldv1.GetOnlineFeaturesRequest{
		Features: []string{"short:x"}, Entities: []*twofoldv1.Column{client.Int64s("user_id", users...)}, OmitEntities: true, IncludeEventTimes: true})
	if err != nil {
		t.Fatal(err)
	}
	for i, user := range users {
		x, ok := client.Int64(resp.GetColumns()[0], i)
		if got := [2]int64{resp.GetViews()[0].GetEventTimesMicros()[i], x}; !ok || got != newest[user] {
			t.Errorf("user %d: got %v, want %v", user, got, newest[user])
		}
	}
}
