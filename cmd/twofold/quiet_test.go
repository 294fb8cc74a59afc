package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every line on standard error is ours: a library that logs by itself does so through the log, at level debug.
func TestLibrariesLogThroughOurs(t *testing.T) {
	env := append(replay(t), "ONLINE_STORE_REDIS=redis://127.0.0.1:1")
	for _, level := range []string{"info", "debug"} {
		r := twofold(t, append(env, "TWOFOLD_LOG_LEVEL="+level), "sync", "--once", "--view", "weather")
		require.Equal(t, exitUnavailable, r.code, r.stderr)
		for line := range strings.Lines(r.stderr) {
			require.True(t, strings.HasPrefix(line, "twofold: ") || json.Valid([]byte(line)), line)
		}
		require.Equal(t, level == "debug", strings.Contains(r.stderr, `"level":"DEBUG","msg":"redis client: `), r.stderr)
	}
}

// A run once has its line on standard output, and not another in the log.
func TestSyncOnceReportsOnce(t *testing.T) {
	env := replay(t)
	r := twofold(t, env, "sync", "--once", "--view", "weather")
	require.Regexp(t, `^weather: read \d+ rows.*\n$`, r.ok(t))
	require.NotContains(t, r.stderr, `"msg":"synced"`)
	require.Contains(t, r.stderr, `"msg":"definitions read"`)
	r = twofold(t, append(env, "TWOFOLD_LOG_LEVEL=debug"), "sync", "--once", "--view", "weather")
	require.Regexp(t, `^weather: `, r.ok(t))
	require.Contains(t, r.stderr, `"msg":"synced"`)
}

// A name alone is explained where it is one thing's only.
func TestExplainNames(t *testing.T) {
	file := writeFile(t, "f.yaml", airports+`feature_services:
  - name: all_v1
    features: ["weather:*"]
  - name: airport
    features: ["weather:temp"]
`)
	d := start(t, append(without(replay(t), "TWOFOLD_DEFINITIONS="), "TWOFOLD_DEFINITIONS="+file), "serve")
	explain := func(args ...string) result {
		return twofold(t, nil, append([]string{"explain", "--server", d.grpc}, args...)...)
	}
	require.Equal(t, explain("view", "weather").ok(t), explain("weather").ok(t))
	require.Equal(t, explain("service", "all_v1", "-o", "json").ok(t), explain("all_v1", "-o", "json").ok(t))
	r := explain("airport")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, `"airport" is the name of entity and service; say which: twofold explain entity airport`)
	r = explain("waether")
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, `no entity, feature view or feature service "waether" is defined; did you mean "weather"?`)
}
