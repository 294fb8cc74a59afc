package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/testenv"
	"github.com/twofold-ml/twofold/server/servertest"
)

// TestRollback makes two generations and returns to the first and to the second, as an operator does.
func TestRollback(t *testing.T) {
	definitions := writeFile(t, "f.yaml", `
entities: [{name: item, keys: [{name: item_id, type: INT64}]}]
feature_views:
  - name: price
    entity: item
    source: {path: price, event_time_column: at}
    sync: {mode: SNAPSHOT}
    features: [{name: x, type: INT64}]
  - name: stock
    entity: item
    source: {path: price, event_time_column: at}
    features: [{name: x, type: INT64}]
`)
	dir := t.TempDir()
	env := []string{"TWOFOLD_DEFINITIONS=" + definitions, "OFFLINE_STORE_PATH=" + dir, "ONLINE_STORE_REDIS=" + testenv.Redis(t).URL}
	write := func(items ...any) {
		times := make([]any, len(items))
		for i := range times {
			times[i] = parseTestTime(t, "2026-01-01T00:00:00Z").UnixMicro()
		}
		new(servertest.Table).Add("item_id", feature.Int64, items...).Add("at", feature.Timestamp, times...).Add("x", feature.Int64, items...).
			WriteParquet(t, filepath.Join(dir, "price", "all.parquet"))
	}
	write(1, 2, 3)
	require.Regexp(t, `(?m)^price: .* 3 written, .*; generation \d+ is live$`, twofold(t, env, "sync", "--once").ok(t))
	write(1, 2)
	twofold(t, env, "sync", "--once").ok(t)

	out := twofold(t, env, "sync", "rollback", "price").ok(t)
	require.Regexp(t, `^price: serves generation \d+ \(3 entities, made \S+Z\) again, in place of \d+ \(2 entities, made \S+Z\)\n$`, out)
	require.Contains(t, twofold(t, env, "sync", "--once", "--view", "price").ok(t), "to which the view was returned")

	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"price"}, exitFailure, "no generation before"},
		{[]string{"price", "--generation", "7"}, exitFailure, "generation 7 is not stored"},
		{[]string{"stock"}, exitFailure, "rollback needs sync.mode: SNAPSHOT"},
		{[]string{"prize"}, exitFailure, `did you mean "price"?`},
		{nil, exitUsage, "accepts 1 arg(s), received 0"},
	} {
		r := twofold(t, env, append([]string{"sync", "rollback"}, c.args...)...)
		require.Equal(t, c.code, r.code, "%v: %s%s", c.args, r.out, r.stderr)
		require.Contains(t, r.stderr, c.want)
	}
}
