package syncer_test

import (
	"context"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/pit"
	"github.com/twofold-ml/twofold/server/servertest"
	"github.com/twofold-ml/twofold/syncer"
)

// countingDriver counts the rows that are written.
type countingDriver struct {
	driver.Driver
	rows atomic.Int64
}

func (d *countingDriver) Write(ctx context.Context, rows []driver.Row) ([]driver.Outcome, error) {
	d.rows.Add(int64(len(rows)))
	return d.Driver.Write(ctx, rows)
}

// TestExpiredVersions: entities of which nothing is kept any more are left out, so that a run does not send them again and again; all versions of the others
// are carried, however old.
func TestExpiredVersions(t *testing.T) {
	dir := t.TempDir()
	new(servertest.Table).
		Add("user_id", feature.Int64, 1, 1, 2, 2, 3, 3, 3, nil).
		Add("at", feature.Timestamp, at(-100*time.Hour), at(-time.Hour), at(-100*time.Hour), at(-5*time.Hour), at(-90*time.Hour), at(-80*time.Hour), at(-7*time.Hour), at(0)).
		Add("written", feature.Timestamp, at(0), at(0), at(0), at(0), at(0), at(0), at(0), at(0)).
		Add("x", feature.Int64, 10, 11, 20, 21, 30, 31, 32, 0).
		WriteParquet(t, filepath.Join(dir, "v", "1.parquet"))
	d := &countingDriver{Driver: servertest.Memory(t)}
	env := servertest.Start(t, servertest.Config{Definitions: historyDefinitions(2, "ttl: 2h\n    expired_retention: 1h"), Offline: offline.Config{Path: dir}, Online: d,
		Now: func() time.Time { return start }})
	// User 3 was pushed a row that is later than all that the files have.
	_, err := env.Client.Push(t.Context(), &twofoldv1.PushFeaturesRequest{FeatureView: "v", Columns: []*twofoldv1.Column{
		client.Int64s("user_id", 3), client.Timestamps("event_timestamp", start.Add(-time.Minute)), client.Int64s("x", 33)}})
	require.NoError(t, err)
	d.rows.Store(0)

	run := func() syncer.Report {
		t.Helper()
		reports, err := env.Syncer.RunOnce(t.Context(), syncer.Request{})
		require.NoError(t, err)
		require.Equal(t, reports[0].Versions, d.rows.Swap(0))
		return reports[0]
	}
	r := run()
	want := syncer.Report{
		ID: r.ID, Host: r.Host, Outcome: twofoldv1.SyncOutcome_SYNC_OUTCOME_SUCCEEDED, FilesRead: 1,
		View: "v", Started: start, Elapsed: r.Elapsed, Newest: start.Add(-time.Hour), Oldest: start.Add(-100 * time.Hour),
		RowsRead: 8, RowsBad: pit.BadCounts{pit.NullKey: 1}, RowsExpired: 2, Entities: 2, Versions: 5, Written: r.Written, Older: 5 - r.Written,
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if line := r.String(); !strings.Contains(line, "2 expired, 0 superseded), 2 entities in 5 versions:") {
		t.Errorf("the report says %q", line)
	}
	again := run()
	if again.Written != 0 || again.Unchanged != 1 || again.Older != 4 {
		t.Errorf("again: %v", again)
	}
	// Once there is something newer of user 2, its older rows are carried too.
	_, err = env.Client.Push(t.Context(), &twofoldv1.PushFeaturesRequest{FeatureView: "v", Columns: []*twofoldv1.Column{
		client.Int64s("user_id", 2), client.Timestamps("event_timestamp", start), client.Int64s("x", 22)}})
	require.NoError(t, err)
	d.rows.Store(0)
	if third := run(); third.Entities != 3 || third.Versions != 7 || third.RowsExpired != 0 || third.Written != 0 {
		t.Errorf("after a push: %v", third)
	}
}

// TestAnotherDefinitionsMarker: where another syncer has carried a view by another definition of it, a syncer carries it again soon, however long the view's
// interval: until then nobody could be answered.
func TestAnotherDefinitionsMarker(t *testing.T) {
	env, c, _ := environment(t)
	runs := make(chan syncer.Report, 8)
	s, err := syncer.New(syncer.Options{Registry: env.Definitions.Registry, Online: env.Online, Offline: env.Offline, Now: c.Now,
		OnReport: func(r syncer.Report) {
			if r.View == "short" {
				runs <- r
			}
		}, LossCheckInterval: 5 * time.Millisecond})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	require.NoError(t, (<-runs).Err)

	view, err := env.Definitions.Registry.View("short")
	require.NoError(t, err)
	other := *view
	other.HistoryVersions = 3
	require.NoError(t, env.Online.MarkViewSynced(t.Context(), &other, start))
	require.NoError(t, (<-runs).Err)
	require.NotEqual(t, "UNAVAILABLE", read(t, env)[0])
	cancel()
	require.NoError(t, <-done)
}
