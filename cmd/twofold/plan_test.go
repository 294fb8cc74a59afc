package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/sizing"
	"github.com/twofold-ml/twofold/internal/testenv"
)

const plannedDefinitions = `
entities:
  - name: user
    keys: [{name: user_id, type: INT64}]
feature_views:
  - name: profile
    entity: user
    source: {path: profile, event_time_column: ts}
    sync: {interval: 3600s}
    features:
      - {name: score, type: DOUBLE}
      - {name: text, type: STRING}
  - name: activity
    entity: user
    source: {path: activity, event_time_column: ts}
    ttl: 86400s
    sync: {interval: 3600s}
    features:
      - {name: score, type: DOUBLE}
      - {name: text, type: STRING}
  - name: past
    entity: user
    source: {path: activity, event_time_column: ts}
    ttl: 86400s
    layout: HISTORY
    history_versions: 5
    sync: {interval: 3600s}
    features:
      - {name: score, type: DOUBLE}
`

// plannedStart is when the syncs of these tests think that they run.
var plannedStart = time.Date(2026, 1, 10, 0, 0, 0, 0, time.UTC)

// plannedFile writes a Parquet file of random rows of the last two days.
func plannedFile(t *testing.T, r *rand.Rand, path string, rows, users int) {
	t.Helper()
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "user_id", Type: arrow.PrimitiveTypes.Int64}, {Name: "ts", Type: arrow.FixedWidthTypes.Timestamp_us},
		{Name: "score", Type: arrow.PrimitiveTypes.Float64}, {Name: "text", Type: arrow.BinaryTypes.String},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	for range rows {
		b.Field(0).(*array.Int64Builder).Append(int64(r.IntN(users)))
		age := time.Duration(r.IntN(48))*time.Hour + time.Duration(600+r.IntN(2400))*time.Second // no row expires, at a whole hour, while the test runs
		b.Field(1).(*array.TimestampBuilder).Append(arrow.Timestamp(plannedStart.Add(-age).UnixMicro()))
		b.Field(2).(*array.Float64Builder).Append(r.Float64())
		b.Field(3).(*array.StringBuilder).Append(strings.Repeat("é", r.IntN(30)))
	}
	var out bytes.Buffer
	w, err := offline.NewParquetWriter(&out, schema)
	require.NoError(t, err)
	require.NoError(t, w.Write(b.NewRecordBatch()))
	require.NoError(t, w.Close())
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, out.Bytes(), 0o600))
}

// redisUse returns the memory that Redis uses and its keys that begin so.
func redisUse(t *testing.T, server *testenv.RedisServer, prefix string) (usedBytes int64, keys int) {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer client.Close()
	all := client.Scan(t.Context(), 0, prefix+"*", 10_000).Iterator()
	for all.Next(t.Context()) {
		keys++
	}
	require.NoError(t, all.Err())
	require.NoError(t, client.Close())
	alone := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer alone.Close()
	require.Eventually(t, func() bool {
		info, err := alone.InfoMap(t.Context(), "memory", "clients").Result()
		if err != nil || info["Clients"]["connected_clients"] != "1" {
			return false // buffers of others are memory too
		}
		_, err = fmt.Sscan(info["Memory"]["used_memory"], &usedBytes)
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	return usedBytes, keys
}

// TestPlanIsWhatSyncWrites: entities and memory are those after a real sync.
func TestPlanIsWhatSyncWrites(t *testing.T) {
	dir, seed := t.TempDir(), uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for file := range 4 {
		plannedFile(t, r, fmt.Sprintf("%s/profile/%d.parquet", dir, file), 4000, 9000)
		plannedFile(t, r, fmt.Sprintf("%s/activity/%d.parquet", dir, file), 8000, 12_000)
	}
	server := testenv.Redis(t)
	env := []string{
		"TWOFOLD_DEFINITIONS=" + writeFile(t, "features.yaml", plannedDefinitions), "OFFLINE_STORE_PATH=" + dir,
		"TWOFOLD_CLOCK_START=" + plannedStart.Format(time.RFC3339), "ONLINE_STORE_REDIS=" + server.URL,
	}
	var plan sizing.Plan
	require.NoError(t, json.Unmarshal([]byte(twofold(t, env, "plan", "-o", "json").ok(t)), &plan))
	before, keys := redisUse(t, server, "")
	require.Zero(t, keys, "nothing is written")

	twofold(t, env, "sync", "--once").ok(t)
	after, _ := redisUse(t, server, "")
	_, hashes := redisUse(t, server, "tf:user:")
	_, histories := redisUse(t, server, "tf::history:user:past:")
	t.Logf("measured %d bytes, estimated %d", after-before, plan.MemoryBytes)
	require.Equal(t, []sizing.Keys{{Type: "hash", Entity: "user", Keys: int64(hashes)}, {Type: "zset", Entity: "user", View: "past", Keys: int64(histories)}}, plan.Keys)
	require.InEpsilon(t, after-before, plan.MemoryBytes, .15)

	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer client.Close()
	require.Equal(t, plan.Views[1].Entities.Value, entitiesWith(t.Context(), t, client, "activity"))

	var sampled sizing.Plan
	require.NoError(t, json.Unmarshal([]byte(twofold(t, env, "plan", "-o", "json", "--sample", "2", "--view", "activity").ok(t)), &sampled))
	require.Equal(t, 2, sampled.Views[0].RowGroupsRead)
	require.InEpsilon(t, plan.Views[1].Entities.Value, sampled.Views[0].Entities.Value, .2)
}

// entitiesWith is the number of hashes that have a row of a view.
func entitiesWith(ctx context.Context, t *testing.T, client *redis.Client, view string) (n int64) {
	t.Helper()
	all := client.Scan(ctx, 0, "tf:user:*", 10_000).Iterator()
	pipe := client.Pipeline()
	for all.Next(ctx) {
		pipe.HExists(ctx, all.Val(), view)
	}
	require.NoError(t, all.Err())
	answers, err := pipe.Exec(ctx)
	require.NoError(t, err)
	for _, answer := range answers {
		if answer.(*redis.BoolCmd).Val() {
			n++
		}
	}
	return n
}

func TestPlanTable(t *testing.T) {
	env := replay(t)
	out := twofold(t, env, "plan").ok(t)
	require.Regexp(t, `(?m)^After a sync at 2013-12-30T21:00:\d\dZ$`, out)
	require.Regexp(t, `(?m)^aircraft +LATEST +1 +21\.9 kB +3,322 +3,322 +3,322 +1 +136\.7 +454 kB +`, out)
	require.Regexp(t, `(?m)^weather +INCREMENTAL +15m +3 `, out)
	require.Regexp(t, `(?m)^memory of Redis +\S+ +GB-hours +0\.015 +0\.02$`, out)
	require.Contains(t, out, "note: aircraft_delays: its rows share hashes with those of aircraft")
	require.Contains(t, out, "note: with hash-max-listpack-value and zset-max-listpack-value 1024 in Redis' configuration")
	require.Equal(t, 4, strings.Count(out, "\ntotal "))
	out = twofold(t, env, "plan", "--view", "weather", "--hash-max-listpack-value", "1024", "--price-redis", "1e6", "--replicas", "1", "--change-share", "1").ok(t)
	require.NotContains(t, out, "aircraft")
	require.NotContains(t, out, "hash-max-listpack-value")
	require.Regexp(t, `(?m)^weather +INCREMENTAL +15m +3 .* 3 .* 0\.00333$`, out)
	entries, err := os.ReadDir(dataPath(env))
	require.NoError(t, err)
	require.Empty(t, entries, "the embedded store is not made")
}

// dataPath is the folder of the embedded store in an environment.
func dataPath(env []string) string {
	for _, v := range env {
		if path, ok := strings.CutPrefix(v, "TWOFOLD_ONLINE_STORE_PATH="); ok {
			return path
		}
	}
	return ""
}

func TestPlanRefuses(t *testing.T) {
	env := replay(t)
	usage := map[string][]string{
		"-o: \"xml\" is not known; write table or json":              {"-o", "xml"},
		"an exact count reads all row groups: choose it or a sample": {"--exact", "--sample", "3"},
		"the number of row groups to read is negative (-1)":          {"--sample", "-1"},
		"the share of the entities that change in a run is 1.5":      {"--change-share", "1.5"},
		"a price is -1; it is a number of 0 or more":                 {"--price-redis", "-1"},
		"a price is NaN":                     {"--price-s3-storage", "nan"},
		"the number of replicas is negative": {"--replicas", "-1"},
		"--hash-max-listpack-value: 0 is not a limit of Redis; write 1 or more": {"--hash-max-listpack-value", "0"},
		"unknown flag: --prices": {"--prices", "1"},
	}
	for want, args := range usage {
		r := twofold(t, env, append([]string{"plan"}, args...)...)
		require.Equal(t, exitUsage, r.code, r.stderr)
		require.Contains(t, r.stderr, want)
		require.Empty(t, r.out)
	}
	r := twofold(t, nil, "plan")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "which definitions? Name a file or folder with --definitions")

	r = twofold(t, env, "plan", "--view", "wether")
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, `no feature view "wether" is defined; did you mean "weather"?`)
	r = twofold(t, env, "plan", "--definitions", "nowhere.yaml")
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, "nowhere.yaml")
	r = twofold(t, env, "plan", "--offline-store-path", t.TempDir())
	require.Equal(t, exitFailure, r.code)
	for _, view := range []string{"weather", "aircraft", "carrier_delays", "aircraft_delays"} {
		require.Contains(t, r.stderr, `feature view "`+view+`"`)
	}
	s3 := []string{"AWS_ENDPOINT_URL=http://127.0.0.1:1", "TWOFOLD_S3_ACCESS_KEY_ID=a", "TWOFOLD_S3_SECRET_ACCESS_KEY=hunter2", "AWS_MAX_ATTEMPTS=1"}
	r = twofold(t, append(env, s3...), "plan", "--offline-store-path", "s3://bucket", "--view", "weather")
	require.Equal(t, exitUnavailable, r.code, r.stderr)
	require.Contains(t, r.stderr, "s3://bucket/weather")
	require.NotContains(t, r.stderr, "hunter2")
	disabled := writeFile(t, "off.yaml", strings.ReplaceAll(plannedDefinitions, "sync: {interval: 3600s}", "sync: {enabled: false}"))
	r = twofold(t, env, "plan", "--definitions", disabled)
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, "the definitions have no feature view that is synced")
	r = twofold(t, env, "plan", "--definitions", disabled, "--view", "past")
	require.Contains(t, r.stderr, `feature view "past" takes nothing online: it is not synced (sync.enabled: false)`)
}
