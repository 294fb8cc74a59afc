package main

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// gaps is a view whose ttl and sync are to be written in.
func gaps(ttl, sync string) string {
	return replace(replace(airports, "ttl: 7200s", "ttl: "+ttl), "sync: {interval: 900s}", "sync: "+sync)
}

// TestLintDrawsGaps: where features would be absent, lint says so and draws it; so does the syncer, which does not start.
func TestLintDrawsGaps(t *testing.T) {
	for _, tc := range []struct{ name, ttl, sync, words, marks, runs string }{
		{
			"interval", "2h", "{interval: 6h}", "ttl 2h, sync every 6h: absent 4h of every 6h; set sync.interval to at most 1h or ttl to at least 12h",
			"=======.............=======.............=======.............",
			"^0                  ^6h                 ^12h",
		},
		{
			// Rows are written at 02:00, so they are an hour old at 03:00; those of the day before expire at 02:30.
			"daily", "24h30m", `{cron: "0 3 * * *", source_delay: 1h}`, "absent 02:30–03:00 (30m) every day",
			"======.=====================================================",
			"00:00  ^03:00                                               24:00",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := writeFile(t, "f.yaml", gaps(tc.ttl, tc.sync))
			r := twofold(t, offlineFlights(), "lint", file)
			require.Equal(t, exitFailure, r.code, r.out)
			require.Contains(t, r.out, tc.words)
			require.Contains(t, r.out, "^\n      "+tc.marks+"\n      "+tc.runs+"\n      = served   . absent   ^ a run starts\n")

			env := append(offlineFlights(), "TWOFOLD_ONLINE_STORE_PATH="+t.TempDir(), "TWOFOLD_DEFINITIONS="+file)
			r = twofold(t, env, "sync", "--once")
			require.Equal(t, exitFailure, r.code, r.stderr)
			require.Contains(t, r.stderr, tc.words)
			require.Contains(t, r.stderr, tc.marks+"\n")

			accepted := writeFile(t, "f.yaml", gaps(tc.ttl, strings.Replace(tc.sync, "}", ", allow_gaps: true}", 1)))
			out := twofold(t, offlineFlights(), "lint", accepted).ok(t)
			require.Contains(t, out, "warning: ")
			require.Contains(t, out, tc.marks)
			require.Contains(t, out, "all well")
		})
	}
	half := twofold(t, offlineFlights(), "lint", writeFile(t, "f.yaml", gaps("2h", "{interval: 1h}"))).ok(t)
	require.NotContains(t, half, "absent")
	byDefault := twofold(t, offlineFlights(), "lint", writeFile(t, "f.yaml", gaps("2h", "{}"))).ok(t)
	require.NotContains(t, byDefault, "absent", "the interval is half the ttl")
}

// TestGapsAreLogged: a process that starts with gaps that were accepted says so and draws them, and one that is given others later refuses them, with the drawing.
func TestGapsAreLogged(t *testing.T) {
	marks := `definitions: | =======.............=======.............=======.............`
	file := writeFile(t, "f.yaml", gaps("2h", "{interval: 6h, allow_gaps: true}"))
	d := start(t, append(without(replay(t), "TWOFOLD_DEFINITIONS="), "TWOFOLD_DEFINITIONS="+file, "TWOFOLD_DEFINITIONS_RELOAD_INTERVAL=0"), "sync")
	log := d.log()
	require.Contains(t, log, "absent 4h of every 6h")
	require.Contains(t, log, `"level":"WARN","msg":"`+marks+`"`)
	require.Contains(t, log, `"msg":"definitions: | ^0                  ^6h                 ^12h"`)

	mark := d.logged()
	require.NoError(t, os.WriteFile(file, []byte(gaps("2h", "{interval: 6h}")), 0o600))
	require.NoError(t, d.cmd.Process.Signal(syscall.SIGHUP))
	d.waitAfter(t, mark, `"msg":"definitions reload failed`)
	d.waitAfter(t, mark, `"level":"ERROR","msg":"`+marks+`"`)
	d.stop(t, syscall.SIGTERM)
}

// TestExplainSaysWhen: explain shows mode, cron and zone where it shows how often a view is synced.
func TestExplainSaysWhen(t *testing.T) {
	text := gaps("26h", `{cron: "5 3 * * *", time_zone: Europe/Berlin}`)
	d := start(t, append(without(replay(t), "TWOFOLD_DEFINITIONS="), "TWOFOLD_DEFINITIONS="+writeFile(t, "f.yaml", text)), "serve")
	require.Contains(t, twofold(t, nil, "explain", "--server", d.grpc, "weather").ok(t),
		`synced at "5 3 * * *" Europe/Berlin, at most 25h0m0s apart`)
}
