package server_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/server/servertest"
	"github.com/twofold-ml/twofold/syncer"
)

// pastDefinitions has a view that keeps two versions, one that keeps ten for four hours after their time, and one that keeps the newest row.
const pastDefinitions = `
entities: [{name: user, keys: [{name: user_id, type: INT64}]}]
feature_views:
  - name: score
    entity: user
    source: {path: "score/*.parquet", event_time_column: at, created_time_column: written}
    layout: HISTORY
    history_versions: 2
    features: [{name: x, type: INT64}]
  - name: session
    entity: user
    source: {path: session.parquet, event_time_column: at}
    layout: HISTORY
    ttl: 2h
    expired_retention: 2h
    sync: {interval: 1h}
    features: [{name: pages, type: INT64}]
  - name: latest
    entity: user
    source: {path: latest.parquet, event_time_column: at}
    features: [{name: y, type: INT64}]
`

// past is a server with files of the views above.
type past struct {
	*servertest.Env
	t   *testing.T
	dir string
}

// scored adds a file of scores.
func (p past) scored(name string, users, hoursAgo, xs []any) {
	p.t.Helper()
	times := make([]any, len(hoursAgo))
	for i, hours := range hoursAgo {
		times[i] = now.UnixMicro() - int64(hours.(int))*time.Hour.Microseconds()
	}
	new(servertest.Table).Add("user_id", feature.Int64, users...).Add("at", feature.Timestamp, times...).Add("written", feature.Timestamp, times...).
		Add("x", feature.Int64, xs...).WriteParquet(p.t, filepath.Join(p.dir, "score", name))
}

func startPast(t *testing.T, definitions string) past {
	t.Helper()
	p := past{t: t, dir: t.TempDir()}
	// User 1 has four versions, of which two are kept, user 2 one, and user 3 two, the later one null.
	p.scored("b.parquet", []any{1, 1, 1, 1, 2, 3, 3}, []any{40, 30, 20, 10, 10, 8, 6}, []any{140, 130, 120, 110, 210, 308, nil})
	new(servertest.Table).Add("user_id", feature.Int64, 1, 1, 1, 2).
		Add("at", feature.Timestamp, ago(50*time.Hour), ago(210*time.Minute), ago(30*time.Minute), ago(150*time.Minute)).
		Add("pages", feature.Int64, 1, 2, 3, 4).WriteParquet(t, filepath.Join(p.dir, "session.parquet"))
	new(servertest.Table).Add("user_id", feature.Int64, 1).Add("at", feature.Timestamp, ago(time.Hour)).Add("y", feature.Int64, 7).
		WriteParquet(t, filepath.Join(p.dir, "latest.parquet"))
	p.Env = servertest.Start(t, servertest.Config{Definitions: definitions, Offline: offline.Config{Path: p.dir}, Now: func() time.Time { return now }})
	p.sync()
	return p
}

func (p past) sync() {
	p.t.Helper()
	if _, err := p.Syncer.RunOnce(p.t.Context(), syncer.Request{}); err != nil {
		p.t.Fatal(err)
	}
}

// request asks for a feature of some users as of so long ago.
func request(feature string, back time.Duration, users ...int64) *twofoldv1.GetOnlineFeaturesRequest {
	return &twofoldv1.GetOnlineFeaturesRequest{
		Features: []string{feature}, Entities: []*twofoldv1.Column{client.Int64s("user_id", users...)}, OmitEntities: true, IncludeEventTimes: true, AsOfMicros: client.AsOf(now.Add(-back)),
	}
}

// cells returns the first column of an answer, and after each value how many hours ago its row was true.
func (p past) cells(req *twofoldv1.GetOnlineFeaturesRequest) []string {
	p.t.Helper()
	resp, err := p.Client.Online(p.t.Context(), req)
	if err != nil {
		p.t.Fatal(err)
	}
	if req.AsOfMicros != nil && resp.GetAsOfMicros() != req.GetAsOfMicros() {
		p.t.Errorf("asked as of %d, answered as of %d", req.GetAsOfMicros(), resp.GetAsOfMicros())
	}
	cells := table(p.t, resp.GetColumns())[req.GetFeatures()[0]]
	for i, event := range resp.GetViews()[0].GetEventTimesMicros() {
		if event != 0 {
			cells[i] += fmt.Sprintf(" (%v)", now.Sub(time.UnixMicro(event)))
		}
	}
	return cells
}

func (p past) wantCells(req *twofoldv1.GetOnlineFeaturesRequest, want ...string) {
	p.t.Helper()
	if diff := cmp.Diff(want, p.cells(req)); diff != "" {
		p.t.Errorf("%v, -want +got:\n%s", req, diff)
	}
}

func TestAsOf(t *testing.T) {
	p := startPast(t, pastDefinitions)
	p.wantCells(request("score:x", 0, 1, 2, 3, 4, 1), "110 (10h0m0s)", "210 (10h0m0s)", "NULL (6h0m0s)", "NOT_FOUND", "110 (10h0m0s)")
	p.wantCells(request("score:x", 7*time.Hour, 1, 2, 3), "110 (10h0m0s)", "210 (10h0m0s)", "308 (8h0m0s)")
	p.wantCells(request("score:x", 10*time.Hour, 1, 2, 3), "110 (10h0m0s)", "210 (10h0m0s)", "NOT_FOUND")
	p.wantCells(request("score:x", 10*time.Hour+time.Microsecond, 1, 2, 3), "120 (20h0m0s)", "NOT_FOUND", "NOT_FOUND")
	p.wantCells(request("score:x", 20*time.Hour, 1, 2), "120 (20h0m0s)", "NOT_FOUND")
	newest := request("score:x", 0, 1, 3)
	newest.AsOfMicros = nil
	p.wantCells(newest, "110 (10h0m0s)", "NULL (6h0m0s)")

	// What user 1 was before the older of the two kept versions is not known; of user 2 it is: nothing.
	_, err := p.Client.Online(t.Context(), request("score:x", 20*time.Hour+time.Microsecond, 2, 1))
	wantError(t, err, codes.FailedPrecondition, "", `"score"`, "dropped", "history_versions")
	partial := request("score:x", 30*time.Hour, 2, 1)
	partial.AllowPartial = true
	p.wantCells(partial, "NOT_FOUND", "UNAVAILABLE")
	resp, err := p.Client.Online(t.Context(), partial)
	if err != nil {
		t.Fatal(err)
	}
	if f := resp.GetViews()[0].GetFault(); codes.Code(f.GetCode()) != codes.FailedPrecondition || !strings.Contains(f.GetMessage(), "dropped") {
		t.Errorf("the fault is %v", f)
	}
}

// TestAsOfWithTTL: freshness, too, is decided as of the moment.
func TestAsOfWithTTL(t *testing.T) {
	p := startPast(t, pastDefinitions)
	p.wantCells(request("session:pages", 0, 1, 2, 3), "3 (30m0s)", "EXPIRED (2h30m0s)", "NOT_FOUND")
	p.wantCells(request("session:pages", 40*time.Minute, 1, 2), "EXPIRED (3h30m0s)", "4 (2h30m0s)")
	p.wantCells(request("session:pages", 3*time.Hour, 1), "2 (3h30m0s)")
	expired := request("session:pages", 40*time.Minute, 1)
	expired.IncludeExpired = true
	resp, err := p.Client.Online(t.Context(), expired)
	if err != nil {
		t.Fatal(err)
	}
	if c := resp.GetColumns()[0]; c.GetInt64S().GetValues()[0] != 2 || client.Status(c, 0) != twofoldv1.ValueStatus_VALUE_STATUS_EXPIRED {
		t.Errorf("got %v", c)
	}
	// A row of 50 hours ago would have been dropped by now, so nobody can say that there was none.
	_, err = p.Client.Online(t.Context(), request("session:pages", 4*time.Hour, 1))
	wantError(t, err, codes.FailedPrecondition, "", `"session"`)
	_, err = p.Client.Online(t.Context(), request("session:pages", 49*time.Hour, 3))
	wantError(t, err, codes.FailedPrecondition, "", "expired_retention")
}

func TestAsOfErrors(t *testing.T) {
	p := startPast(t, pastDefinitions)
	_, err := p.Client.Online(t.Context(), request("latest:y", time.Minute, 1))
	wantError(t, err, codes.FailedPrecondition, "", `"latest"`, "layout: HISTORY")
	both := request("score:x", time.Minute, 1)
	both.Features = append(both.Features, "latest:y")
	both.AllowPartial = true
	_, err = p.Client.Online(t.Context(), both)
	wantError(t, err, codes.FailedPrecondition, "", `"latest"`)
	_, err = p.Client.Online(t.Context(), request("score:x", -time.Microsecond, 1))
	wantError(t, err, codes.InvalidArgument, "as_of_micros", "later than this server's clock")
}

// TestLateRowsReachTheStore: a row that comes late takes its place among the kept versions; one that is older than these does not, but the store
// learns of it.
func TestLateRowsReachTheStore(t *testing.T) {
	p := startPast(t, pastDefinitions)
	p.scored("a.parquet", []any{1, 2, 2, 2, 3}, []any{15, 9, 9, 30, 30}, []any{115, 1, 209, 230, 330})
	reports, err := p.Syncer.RunOnce(t.Context(), syncer.Request{}, "score")
	if err != nil {
		t.Fatal(err)
	}
	// Of user 1 three versions are carried: of 10, 15 and 20 hours ago. The last is older than the two that are kept, as is the oldest of each of the others.
	// Of user 3 the two of 6 and 8 hours ago are outside the new file's range of times: they were carried before, and are left as they are.
	// Rows are written in any order: the one of 20 hours ago is still there, unchanged, where it is written before that of 15 hours ago.
	if r := reports[0]; r.Entities != 3 || r.Versions != 7 || r.Written != 2 || r.Unchanged+r.Older != 5 || r.Older < 2 || r.Older > 3 || r.RowsSuperseded != 5 {
		t.Errorf("%v", r)
	}
	p.wantCells(request("score:x", 12*time.Hour, 1), "115 (15h0m0s)")
	p.wantCells(request("score:x", 9*time.Hour, 1, 2), "110 (10h0m0s)", "209 (9h0m0s)")
}

// TestPushVersions pushes row by row: each is a version of its own, wherever it belongs.
func TestPushVersions(t *testing.T) {
	p := startPast(t, pastDefinitions)
	push := func(back time.Duration, x int64, deleted bool, want *twofoldv1.PushFeaturesResponse) {
		t.Helper()
		got, err := p.Client.Push(t.Context(), &twofoldv1.PushFeaturesRequest{FeatureView: "score", Tombstones: []bool{deleted}, Columns: []*twofoldv1.Column{
			client.Int64s("user_id", 5), client.Timestamps("event_timestamp", now.Add(-back)), client.Int64s("x", x),
		}})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	written, older := &twofoldv1.PushFeaturesResponse{RowsWritten: 1}, &twofoldv1.PushFeaturesResponse{RowsOlder: 1}
	push(time.Hour, 501, false, written)
	push(3*time.Hour, 503, false, written)
	push(3*time.Hour, 503, false, &twofoldv1.PushFeaturesResponse{RowsUnchanged: 1})
	p.wantCells(request("score:x", 3*time.Hour, 5), "503 (3h0m0s)")
	p.wantCells(request("score:x", 4*time.Hour, 5), "NOT_FOUND")
	push(4*time.Hour, 504, false, older)
	_, err := p.Client.Online(t.Context(), request("score:x", 4*time.Hour, 5))
	wantError(t, err, codes.FailedPrecondition, "", "dropped")

	push(2*time.Hour, 0, true, written) // in the place of that of 3 hours ago
	p.wantCells(request("score:x", 90*time.Minute, 5), "NOT_FOUND")
	p.wantCells(request("score:x", 0, 5), "501 (1h0m0s)")
	push(2*time.Hour, 502, false, older) // at equal times a deletion wins
	p.sync()
	p.wantCells(request("score:x", 90*time.Minute, 5), "NOT_FOUND")
	p.wantCells(request("score:x", 0, 5, 1), "501 (1h0m0s)", "110 (10h0m0s)")
}

// TestPushBetweenSyncedVersions: what a sync carried and what was pushed make one history.
func TestPushBetweenSyncedVersions(t *testing.T) {
	p := startPast(t, strings.Replace(pastDefinitions, "history_versions: 2", "history_versions: 4", 1))
	if _, err := p.Client.Push(t.Context(), &twofoldv1.PushFeaturesRequest{FeatureView: "score", Columns: []*twofoldv1.Column{
		client.Int64s("user_id", 1, 1), client.Timestamps("event_timestamp", now.Add(-15*time.Hour), now), client.Int64s("x", 115, 100),
	}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for back, want := range map[int]string{0: "100 (0s)", 1: "110 (10h0m0s)", 12: "115 (15h0m0s)", 16: "120 (20h0m0s)"} {
			p.wantCells(request("score:x", time.Duration(back)*time.Hour, 1), want)
		}
		_, err := p.Client.Online(t.Context(), request("score:x", 25*time.Hour, 1))
		wantError(t, err, codes.FailedPrecondition, "", "dropped")
		p.sync()
	}
}

// TestLayoutChanges: after a change of layout nobody is told NOT_FOUND until the view was synced again; with more versions than before it is answered
// for as it is now, and as it was once it was synced again.
func TestLayoutChanges(t *testing.T) {
	latest := strings.Replace(pastDefinitions, "    layout: HISTORY\n    history_versions: 2\n", "", 1)
	versions := func(n int) string {
		return strings.Replace(pastDefinitions, "history_versions: 2", fmt.Sprintf("history_versions: %d", n), 1)
	}
	p := startPast(t, latest)
	newest := request("score:x", 0, 1)
	newest.AsOfMicros = nil
	earlier := request("score:x", 15*time.Hour, 1)
	unavailable := func(req *twofoldv1.GetOnlineFeaturesRequest, word string) {
		t.Helper()
		_, err := p.Client.Online(t.Context(), req)
		wantError(t, err, codes.Unavailable, "", `"score"`, word)
		req.Features = []string{"score:x", "session:pages"}
		req.AllowPartial = true
		resp, err := p.Client.Online(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if got := table(t, resp.GetColumns())["score:x"]; got[0] != "UNAVAILABLE" || codes.Code(resp.GetViews()[0].GetFault().GetCode()) != codes.Unavailable {
			t.Errorf("got %v, %v", got, resp.GetViews())
		}
		req.Features, req.AllowPartial = []string{"score:x"}, false
	}
	// Moments at which the other view is known, so that a partial answer has something to say.
	recent := request("score:x", time.Minute, 1)
	p.wantCells(newest, "110 (10h0m0s)")

	p.Reload(t, versions(2))
	unavailable(newest, "has not been synced")
	unavailable(recent, "has not been synced")
	p.sync()
	p.wantCells(newest, "110 (10h0m0s)")
	p.wantCells(earlier, "120 (20h0m0s)")

	p.Reload(t, versions(3))
	p.wantCells(newest, "110 (10h0m0s)")
	unavailable(recent, "raised to 3")
	p.wantCells(newest, "110 (10h0m0s)")
	// A row between two that the store had dropped must not pass for what was true after them.
	if _, err := p.Client.Push(t.Context(), &twofoldv1.PushFeaturesRequest{FeatureView: "score", Columns: []*twofoldv1.Column{
		client.Int64s("user_id", 1), client.Timestamps("event_timestamp", now.Add(-35*time.Hour)), client.Int64s("x", 135),
	}}); err != nil {
		t.Fatal(err)
	}
	_, err := p.Client.Online(t.Context(), request("score:x", 25*time.Hour, 1))
	wantError(t, err, codes.Unavailable, "", "raised to 3")
	p.sync()
	p.wantCells(request("score:x", 25*time.Hour, 1), "130 (30h0m0s)")

	p.Reload(t, versions(2))
	p.wantCells(earlier, "120 (20h0m0s)")
	p.Reload(t, latest)
	unavailable(newest, "has not been synced")
	p.sync()
	p.wantCells(newest, "110 (10h0m0s)")
}
