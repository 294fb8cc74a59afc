package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStatus(t *testing.T) {
	d := start(t, replay(t), "serve")
	d.synced(t)
	out := twofold(t, nil, "status", "--runs", "3", "--server", d.grpc).ok(t)
	require.Regexp(t, `(?m)^weather +incremental +2013-12-30T20:5\d:\d\dZ +`, out)
	require.Regexp(t, `(?m)^aircraft .* for ever +ok`, out)
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
