package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/testenv"
)

// auditOf is what audit -o json prints.
type auditOf struct {
	FeatureViews []struct {
		FeatureView string           `json:"feature_view"`
		Layout      string           `json:"layout"`
		Generation  uint64           `json:"generation"`
		Expected    int64            `json:"expected"`
		Counts      map[string]int64 `json:"counts"`
		Faults      int64            `json:"faults"`
		Examples    []struct{ Class, Entity, Reason string }
		Notes       []string `json:"notes"`
	} `json:"feature_views"`
}

// auditJSON runs the command, requires its exit code, and returns what it printed.
func auditJSON(t *testing.T, env []string, code int, args ...string) auditOf {
	t.Helper()
	r := twofold(t, env, append([]string{"audit", "-o", "json"}, args...)...)
	require.Equal(t, code, r.code, "%s%s", r.out, r.stderr)
	var out auditOf
	require.NoError(t, json.Unmarshal([]byte(r.out), &out))
	return out
}

// TestAudit: what is damaged in a real Redis is found, in every view and layout, and nothing else is.
func TestAudit(t *testing.T) {
	dir, seed := t.TempDir(), uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	plannedFile(t, r, dir+"/profile/1.parquet", 4000, 300)
	plannedFile(t, r, dir+"/activity/1.parquet", 8000, 300)
	server := testenv.Redis(t)
	definitions := plannedDefinitions + `
  - name: rates
    entity: user
    source: {path: profile, event_time_column: ts}
    sync: {interval: 3600s, mode: SNAPSHOT}
    features:
      - {name: score, type: DOUBLE}
`
	env := []string{
		"TWOFOLD_DEFINITIONS=" + writeFile(t, "features.yaml", definitions), "OFFLINE_STORE_PATH=" + dir,
		"TWOFOLD_CLOCK_START=" + plannedStart.Format(time.RFC3339), "ONLINE_STORE_REDIS=" + server.URL,
	}
	refused := twofold(t, env, "audit", "rates")
	require.Equal(t, exitFailure, refused.code)
	require.Contains(t, refused.stderr, `feature view "rates" has no live generation in this store`)
	before := auditJSON(t, env, exitFailure, "profile")
	require.Equal(t, before.FeatureViews[0].Expected, before.FeatureViews[0].Counts["missing"])
	require.Contains(t, before.FeatureViews[0].Notes[0], "no sync has carried the view")

	twofold(t, env, "sync", "--once").ok(t)
	clean := auditJSON(t, env, exitOK)
	require.Len(t, clean.FeatureViews, 4)
	for _, v := range clean.FeatureViews {
		require.Positive(t, v.Expected)
		require.Equal(t, v.Expected, v.Counts["matching"], "%+v", v)
		require.Equal(t, v.FeatureView == "rates", v.Generation > 0)
	}
	generation := clean.FeatureViews[3].Generation

	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer client.Close()
	row := client.HGet(t.Context(), "tf:user:8", "profile").Val()
	require.NotEmpty(t, row)
	rates := fmt.Sprintf("rates@%d", generation)
	require.NoError(t, client.HDel(t.Context(), "tf:user:7", "profile", rates).Err())
	require.NoError(t, client.HSet(t.Context(), "tf:user:8", "profile", row[:30]).Err())
	require.NoError(t, client.HSet(t.Context(), "tf:user:9999", "profile", row, rates, client.HGet(t.Context(), "tf:user:8", rates).Val()).Err())
	found := auditJSON(t, env, exitFailure, "profile", "rates", "past")
	profile, ratesFound := found.FeatureViews[0], found.FeatureViews[1]
	require.EqualValues(t, 1, profile.Counts["missing"])
	require.EqualValues(t, 1, profile.Counts["unreadable"])
	require.EqualValues(t, 1, profile.Counts["extra"])
	require.EqualValues(t, 2, profile.Faults, "what may have been pushed is none")
	require.Equal(t, "user_id=7", profile.Examples[0].Entity)
	require.Contains(t, profile.Examples[1].Reason, "damaged")
	require.Contains(t, profile.Notes[0], "only with --strict")
	require.EqualValues(t, 1, ratesFound.Counts["missing"])
	require.EqualValues(t, 2, ratesFound.Faults)
	require.Zero(t, found.FeatureViews[2].Faults)
	require.EqualValues(t, 3, auditJSON(t, env, exitFailure, "profile", "--strict").FeatureViews[0].Faults)

	table := twofold(t, env, "audit", "--examples", "1")
	require.Equal(t, exitFailure, table.code)
	require.Regexp(t, fmt.Sprintf(`(?m)^profile +2026-01-10T00:0\d:\d\dZ +%s +\S+ +1 +0 +0 +0 +1 +1 +0 +0 +\S+ +!$`, grouped(profile.Expected)), table.out)
	require.Regexp(t, fmt.Sprintf(`(?m)^rates, generation %d .* !$`, generation), table.out)
	require.Regexp(t, `(?m)^past .* ok$`, table.out)
	require.Regexp(t, `(?m)^profile +missing +user_id=7: the row of \S+ is not stored$`, table.out)
	require.Contains(t, table.stderr, "the online store does not hold what the files say")

	half := auditJSON(t, env, exitOK, "activity", "--sample", "0.5", "--seed", "3").FeatureViews[0]
	rest := auditJSON(t, env, exitOK, "activity", "--sample", "0.5", "--sample-from", "0.5", "--seed", "3").FeatureViews[0]
	require.Equal(t, clean.FeatureViews[1].Expected, half.Expected+rest.Expected)

	other := auditJSON(t, env, exitFailure, "rates", "--generation", fmt.Sprint(generation+1), "--examples", "0").FeatureViews[0]
	require.Equal(t, other.Expected, other.Counts["missing"])
	require.Empty(t, other.Examples)

	plannedFile(t, r, dir+"/profile/2.parquet", 100, 9000)
	require.Contains(t, auditJSON(t, env, exitFailure, "profile").FeatureViews[0].Notes[0], "1 of 2 files are new, changed or due since the last sync")
	twofold(t, env, "sync", "--once", "--full").ok(t)
	require.NoError(t, client.Del(t.Context(), "tf:user:9999").Err())
	auditJSON(t, env, exitOK, "--strict")
	require.NoError(t, os.RemoveAll(dir+"/profile"))
	part := twofold(t, env, "audit", "profile", "past")
	require.Equal(t, exitFailure, part.code)
	require.Contains(t, part.out, "past ")
	require.Contains(t, part.stderr, "profile")
}

func TestAuditRefuses(t *testing.T) {
	env := replay(t)
	for want, args := range map[string][]string{
		`-o: "xml" is not known; write table or json`:                  {"-o", "xml"},
		"--sample: 0 is not a share of the entities":                   {"--sample", "0"},
		"--sample: NaN is not a share of the entities":                 {"--sample", "nan"},
		"--sample-from: -1 is not in the range":                        {"--sample-from", "-1"},
		"--sample-from: a sample of 0.5 that begins at 0.6 ends":       {"--sample", "0.5", "--sample-from", "0.6"},
		"--examples: -1 is less than 0":                                {"--examples", "-1"},
		"--generation: name one feature view, and a generation of it":  {"--generation", "7"},
		"--generation: name one feature view, and a generation of it ": {"weather", "--generation", "0"},
	} {
		r := twofold(t, env, append([]string{"audit"}, args...)...)
		require.Equal(t, exitUsage, r.code, r.stderr)
		require.Contains(t, r.stderr, strings.TrimSpace(want))
		require.Empty(t, r.out)
	}
	r := twofold(t, env, "audit", "wether")
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, `did you mean "weather"?`)
	r = twofold(t, env, "audit", "weather", "--generation", "7")
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, "has no generations, because it is not synced by snapshots")
	r = twofold(t, env, "audit", "--online-store-redis", "redis://127.0.0.1:1")
	require.Equal(t, exitUnavailable, r.code, r.stderr)
}
