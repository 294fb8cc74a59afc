package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/testenv"
)

const airports = `entities:
  - name: airport
    keys: [{name: origin, type: STRING}]
feature_views:
  - name: weather
    entity: airport
    source: {path: weather, event_time_column: observed_at}
    ttl: 7200s
    sync: {interval: 900s}
    features:
      - {name: temp, type: DOUBLE}
      - {name: humid, type: DOUBLE}
`

func offlineFlights() []string {
	return []string{"OFFLINE_STORE_PATH=" + flights + "/offline"}
}

func TestLint(t *testing.T) {
	file := writeFile(t, "f.yaml", airports)
	require.Equal(t, file+": 1 entity, 1 feature view and 0 feature services, all well\n", twofold(t, offlineFlights(), "lint", file).ok(t))
	require.Contains(t, twofold(t, append(offlineFlights(), "TWOFOLD_DEFINITIONS="+file), "lint").ok(t), "all well")
	require.Contains(t, twofold(t, nil, "lint", file, "--offline").ok(t), "all well", "without the files")

	for _, tc := range []struct{ name, text, want string }{
		{"unknown entity", replace(airports, "entity: airport", "entity: airprot"), `:6:13: `},
		{"duplicate", replace(airports, "name: humid", "name: temp"), `:12:16: `},
		{"unknown field", replace(airports, "ttl:", "tll:"), `:8:5: `},
		{"YAML", "entities: [", `:1:`},
		{"missing column", replace(airports, "name: humid", "name: humidity"), `:12:16: `},
		{"type", replace(airports, "{name: temp, type: DOUBLE}", "{name: temp, type: INT32}"), `:11:28: `},
		{"gap", replace(airports, "interval: 900s", "interval: 21600s"), `:9:`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := writeFile(t, "f.yaml", tc.text)
			r := twofold(t, offlineFlights(), "lint", file)
			require.Equal(t, exitFailure, r.code, r.out)
			require.Contains(t, r.out, file+tc.want)
			require.Regexp(t, `(?m)^ +\| +\^`, r.out, "the place is shown")
			require.Regexp(t, `^twofold: the definitions have \d+ errors?\n$`, r.stderr)
		})
	}
	r := twofold(t, nil, "lint", filepath.Join(t.TempDir(), "nowhere"))
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, "there is no definition file or folder")
}

func TestApplyRefusesBreakingChanges(t *testing.T) {
	env := append(offlineFlights(), "TWOFOLD_ONLINE_STORE_PATH="+t.TempDir())
	require.Contains(t, twofold(t, env, "apply", writeFile(t, "f.yaml", airports)).ok(t), "published")

	added := replace(airports, "      - {name: humid", "      - {name: precip, type: DOUBLE}\n      - {name: humid")
	require.Contains(t, twofold(t, env, "apply", writeFile(t, "f.yaml", added)).ok(t), `added feature "weather:precip"`)

	breaking := writeFile(t, "f.yaml", airports) // precip is gone
	r := twofold(t, env, "apply", breaking)
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.out, `removed feature "weather:precip" (breaking: `)
	require.Contains(t, r.stderr, "1 change is breaking; nothing was published")
	require.Contains(t, twofold(t, env, "apply", writeFile(t, "f.yaml", added)).ok(t), "nothing to do", "nothing was published")
	require.Contains(t, twofold(t, env, "apply", breaking, "--allow-breaking").ok(t), "published")

	wrong := writeFile(t, "f.yaml", replace(airports, "entity: airport", "entity: airprot"))
	r = twofold(t, env, "apply", wrong)
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, wrong+":6:13: ")
	require.Contains(t, twofold(t, env, "apply", breaking).ok(t), "nothing to do")
}

// TestLintAgainst: what rows were stored under is compared with, at the place of what is wrong.
func TestLintAgainst(t *testing.T) {
	base := writeFile(t, "base.yaml", airports)
	changed := writeFile(t, "f.yaml", replace(airports, "{name: temp, type: DOUBLE}", "{name: temp, type: STRING}"))
	r := twofold(t, nil, "lint", "--offline", "--against", base, changed)
	require.Equal(t, exitFailure, r.code, r.out)
	require.Contains(t, r.out, changed+`:11:28: feature view "weather": feature "temp" is STRING here and DOUBLE in `+base)
	require.Contains(t, r.out, "give the changed feature a new name, for example temp_v2 with column: temp")
	renamed := writeFile(t, "f.yaml", replace(airports, "{name: temp, type: DOUBLE}", "{name: temp_v2, column: temp, type: STRING}"))
	out := twofold(t, nil, "lint", "--offline", "--against", base, renamed).ok(t)
	require.Contains(t, out, `warning: compared with `+base+`: removed feature "weather:temp"`)
	require.Contains(t, out, "all well, compared with "+base)
	r = twofold(t, nil, "lint", "--offline", "--against", base+"x", renamed)
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, "--against: there is no definition file or folder")
	r = twofold(t, nil, "lint", "--offline", "--against", writeFile(t, "bad.yaml", "entities: ["), renamed)
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, "bad.yaml:1:")

	redis := testenv.Redis(t)
	env := append(offlineFlights(), "ONLINE_STORE_REDIS="+redis.URL)
	require.NotContains(t, twofold(t, env, "lint", base).ok(t), "compared", "nothing is published")
	twofold(t, env, "apply", base).ok(t)
	require.Contains(t, twofold(t, env, "lint", base).ok(t), "all well, compared with the published definitions")
	r = twofold(t, env, "lint", changed)
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.out, `DOUBLE in the published definitions`)
	twofold(t, env, "lint", "--offline", changed).ok(t)
	redis.Kill()
	r = twofold(t, env, "lint", base)
	require.Equal(t, exitUnavailable, r.code, r.stderr)
	require.Contains(t, r.stderr, "compare with the published definitions (--offline leaves it out)")
}

func TestInit(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "weather.yaml")
	r := twofold(t, offlineFlights(), "init", "weather", "--key", "origin", "--event-time", "observed_at", "--entity", "airport", "--out", out)
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, twofold(t, offlineFlights(), "lint", out).ok(t), "all well")
	text, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Contains(t, string(text), "{name: temp, type: DOUBLE}")

	r = twofold(t, offlineFlights(), "init", "weather", "--out", out)
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, "is there already")
	require.Contains(t, twofold(t, offlineFlights(), "init", "weather").ok(t), "feature_views:", "standard output")
	r = twofold(t, offlineFlights(), "init", "nowhere.parquet")
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, "nowhere.parquet")
}
