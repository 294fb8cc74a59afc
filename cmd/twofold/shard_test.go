package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/testenv"
	"github.com/twofold-ml/twofold/server/servertest"
)

// TestShards carries a view in shards by processes of their own at once, as an Indexed Job does, and then once more as a whole.
func TestShards(t *testing.T) {
	definitions := writeFile(t, "f.yaml", `
entities: [{name: item, keys: [{name: item_id, type: INT64}]}]
feature_views:
  - name: stock
    entity: item
    source: {path: stock, event_time_column: at}
    features: [{name: x, type: INT64}]
  - name: price
    entity: item
    source: {path: stock, event_time_column: at}
    sync: {mode: SNAPSHOT}
    features: [{name: x, type: INT64}]
`)
	dir := t.TempDir()
	env := []string{"TWOFOLD_DEFINITIONS=" + definitions, "OFFLINE_STORE_PATH=" + dir, "ONLINE_STORE_REDIS=" + testenv.Redis(t).URL}
	var items, times []any
	for i := range 500 {
		items, times = append(items, i), append(times, parseTestTime(t, "2026-01-01T00:00:00Z").UnixMicro())
	}
	new(servertest.Table).Add("item_id", feature.Int64, items...).Add("at", feature.Timestamp, times...).Add("x", feature.Int64, items...).
		WriteParquet(t, filepath.Join(dir, "stock", "all.parquet"))

	const n = 3
	var outputs [n]string
	t.Run("job", func(t *testing.T) {
		for i := range n {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				outputs[i] = twofold(t, env, "sync", "--once", "--view", "stock", "--shard", fmt.Sprintf("%d/%d", i, n)).ok(t)
			})
		}
	})
	for _, line := range outputs {
		require.Regexp(t, `(?m)^stock, shard \d/3: read 500 rows .* written, .*; \d+ rows are of other shards; \S+ `, line)
	}
	require.Contains(t, strings.Join(outputs[:], ""), "all 3 shards are done")
	require.Regexp(t, `(?m)^stock: nothing new in 1 files`, twofold(t, env, "sync", "--once", "--view", "stock").ok(t))

	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"sync", "--shard", "0/3"}, exitUsage, "--shard goes with --once"},
		{[]string{"sync", "--once", "--shard", "3/3"}, exitUsage, `"3/3" is no shard`},
		{[]string{"sync", "--once", "--shard", "0/3"}, exitFailure, "cannot be synced in shards"},
	} {
		r := twofold(t, env, c.args...)
		require.Equal(t, c.code, r.code, "%v: %s%s", c.args, r.out, r.stderr)
		require.Contains(t, r.stderr, c.want)
	}
}
