package main

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/testenv"
)

func TestStatus(t *testing.T) {
	d := start(t, replay(t), "serve")
	d.synced(t)
	out := twofold(t, nil, "status", "--runs", "3", "--server", d.grpc).ok(t)
	require.Regexp(t, `(?m)^weather +incremental +3 +2013-12-30T20:5\d:\d\dZ +8m\S+ .* none for 1h\d+m +ok$`, out)
	require.Regexp(t, `(?m)^aircraft +incremental +\d+ .* none, rows do not expire +ok`, out)
	require.Regexp(t, `(?m)^weather +2013-12-30T\S+ +\S+ +start +succeeded +12 of 12 `, out)
	require.NotContains(t, out, "!")

	out = twofold(t, nil, "status", "weather", "-o", "json", "--server", d.grpc).ok(t)
	var answer struct {
		Views []struct{ FeatureView, Problem string }
	}
	require.NoError(t, json.Unmarshal([]byte(out), &answer))
	require.Len(t, answer.Views, 1)
	require.Equal(t, "weather", answer.Views[0].FeatureView)

	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"status", "wether", "--server", d.grpc}, exitFailure, `did you mean "weather"?`},
		{[]string{"status", "--server", "127.0.0.1:1"}, exitUnavailable, "cannot reach a server"},
		{[]string{"status", "-o", "yaml"}, exitUsage, "write table or json"},
		{[]string{"status", "--runs", "-1"}, exitUsage, "--runs: -1 is less than 0"},
	} {
		r := twofold(t, nil, c.args...)
		require.Equal(t, c.code, r.code, strings.Join(c.args, " "))
		require.Contains(t, r.stderr, c.want)
	}
}

// TestStatusOfOtherProcesses: whoever is asked tells the same of what another process has synced, when its next run is due included.
func TestStatusOfOtherProcesses(t *testing.T) {
	redis := testenv.Redis(t)
	env := append(replay(t), "ONLINE_STORE_REDIS="+redis.URL)
	server := start(t, env, "serve")
	r := twofold(t, nil, "status", "--server", server.grpc)
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.out, "! weather: it was never synced")

	twofold(t, env, "sync", "--once").ok(t)
	out := twofold(t, nil, "status", "--server", server.grpc).ok(t)
	require.Regexp(t, `(?m)^weather +incremental +3 +2013-12-30T20:5\S+ +\S+ +succeeded, \S+ ago +in \d+m\d+s +none for 1h\d+m +ok$`, out)
	syncer := start(t, env, "sync")
	syncer.wait(t, `"msg":"synced","feature_view":"weather"`)
	out = twofold(t, nil, "status", "--server", syncer.grpc, "weather", "--runs", "1").ok(t)
	require.Regexp(t, `(?m)^weather +incremental +3 `, out)
	require.Contains(t, out, "no file is new, changed or due since the run of")
	syncer.stop(t, syscall.SIGTERM)
	twofold(t, nil, "status", "--server", server.grpc).ok(t)
	require.Equal(t, exitUnavailable, twofold(t, nil, "status", "--server", syncer.grpc).code)
}

// TestGapRisk puts into words whether features last until the next run has ended.
func TestGapRisk(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		untilGap, next, run time.Duration
		newest              time.Time
		want                string
	}{
		{want: ""},
		{newest: now, untilGap: -1, next: time.Hour, want: "none, rows do not expire"},
		{newest: now, next: time.Hour, want: "expired"},
		{newest: now, untilGap: time.Hour, next: 30 * time.Minute, want: "none for 1h0m"},
		{newest: now, untilGap: time.Hour, next: 30 * time.Minute, run: 31 * time.Minute, want: "gap in 1h0m"},
		{newest: now, untilGap: time.Hour, next: -30 * time.Minute, run: time.Minute, want: "none for 1h0m"},
	} {
		status := &twofoldv1.SyncStatus{NextRunMicros: now.Add(c.next).UnixMicro(), LastRun: &twofoldv1.SyncRun{Elapsed: durationpb.New(c.run)}}
		if !c.newest.IsZero() {
			status.NewestEventMicros = c.newest.UnixMicro()
		}
		if c.untilGap >= 0 {
			status.UntilGap = durationpb.New(c.untilGap)
		}
		require.Equal(t, c.want, gapRisk(status, now), "%+v", c)
	}
}

// TestStatusOfTrouble: a view that could not be synced is pointed out, and scripts see it by the exit code.
func TestStatusOfTrouble(t *testing.T) {
	definitions := writeFile(t, "f.yaml", `
entities: [{name: user, keys: [{name: user_id, type: INT64}]}]
feature_views:
  - name: v
    entity: user
    source: {path: none/*.parquet, event_time_column: at}
    features: [{name: x, type: INT64}]
`)
	d := start(t, []string{"TWOFOLD_DEFINITIONS=" + definitions, "OFFLINE_STORE_PATH=" + t.TempDir(), "TWOFOLD_ONLINE_STORE_PATH=" + t.TempDir(),
		"TWOFOLD_GRPC_ADDRESS=127.0.0.1:0", "TWOFOLD_HTTP_ADDRESS=127.0.0.1:0", "TWOFOLD_LOG_FORMAT=json"}, "serve")
	d.wait(t, `"msg":"sync failed"`)
	r := twofold(t, nil, "status", "--server", d.grpc)
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.out, "! v: the last run failed: ")
	require.Contains(t, r.out, "none/*.parquet")
	require.Contains(t, r.stderr, "not every view is well")
}
