package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/testenv"
)

// receiptOf reads what -o json prints.
func receiptOf(t *testing.T, text string) *forgetReceipt {
	t.Helper()
	r := &forgetReceipt{}
	require.NoError(t, json.Unmarshal([]byte(text), r))
	return r
}

// TestForget goes the whole way on a real Redis: look, forget, sync, export into another store, and allow again.
func TestForget(t *testing.T) {
	env := replay(t)
	env = append(env, "ONLINE_STORE_REDIS="+testenv.Redis(t).URL)
	twofold(t, env, "sync", "--once").ok(t)

	look := receiptOf(t, twofold(t, env, "forget", "airport", "origin=EWR,JFK", "--dry-run", "-o", "json").ok(t))
	require.True(t, look.DryRun)
	require.False(t, look.Verified)
	require.Equal(t, []forgottenRows{{View: "weather", Entity: "airport", Removed: 2}}, look.Views)
	require.Equal(t, []forgottenEntity{{}, {}}, look.Entities)

	out := twofold(t, env, "forget", "airport", "origin=EWR", "--yes", "--settle", "1ms").ok(t)
	require.Regexp(t, `(?m)^weather +airport +1 entity +0 +0$`, out)
	require.Contains(t, out, "read back: nothing of them is left in the online store")
	require.Regexp(t, `files of feature view weather: file:///\S+/offline/weather`, out)
	require.NotContains(t, out, "EWR")
	again := receiptOf(t, twofold(t, env, "forget", "airport", "--file", writeFile(t, "who.csv", "origin,why\nEWR,asked\nJFK,asked\n"), "--yes", "--settle", "1ms", "--show-keys", "-o", "json").ok(t))
	require.True(t, again.Verified)
	require.Equal(t, 1, again.Listed)
	require.Equal(t, map[string]string{"origin": "EWR"}, again.Entities[0].Keys)
	require.Contains(t, out, again.Entities[0].Hash)
	require.Contains(t, twofold(t, env, "sync", "--once", "--full").ok(t), "2 rows of forgotten entities were left out")

	list := filepath.Join(t.TempDir(), "list.json")
	twofold(t, env, "forget", "--export", list).ok(t)
	text, err := os.ReadFile(list)
	require.NoError(t, err)
	require.NotContains(t, string(text), "EWR")
	other := replay(t)
	twofold(t, other, "sync", "--once").ok(t)
	twofold(t, other, "forget", "--import", list, "--yes", "--settle", "1ms").ok(t)
	require.Equal(t, 0, receiptOf(t, twofold(t, other, "forget", "airport", "origin=EWR,JFK", "--dry-run", "-o", "json").ok(t)).Views[0].Removed)

	require.Contains(t, twofold(t, env, "forget", "airport", "origin=EWR", "--allow", "--yes").ok(t), "1 entry was taken off the list")
	twofold(t, env, "sync", "--once").ok(t)
	require.Equal(t, 1, receiptOf(t, twofold(t, env, "forget", "airport", "origin=EWR,JFK", "--dry-run", "-o", "json").ok(t)).Views[0].Removed)
	twofold(t, env, "forget", "--clear-list", "--yes").ok(t)
	r := twofold(t, env, "forget", "--export", list)
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, "nobody is forgotten")
}

func TestForgetRefuses(t *testing.T) {
	env := replay(t)
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"airport origin=EWR", exitUsage, "say --yes, or look first with --dry-run"},
		{"airport origin=EWR --allow", exitUsage, "say --yes"},
		{"--clear-list", exitUsage, "say --yes"},
		{"", exitUsage, "name the entity"},
		{"origin=EWR", exitUsage, "name the entity"},
		{"airport", exitUsage, "give the keys"},
		{"airport origin=EWR --file x.csv", exitUsage, "choose one"},
		{"airport origin=EWR --export x", exitUsage, "about the whole list"},
		{"--import x --clear-list", exitUsage, "about the whole list"},
		{"--clear-list --dry-run --yes", exitUsage, "leave --dry-run out"},
		{"--import x --dry-run --yes", exitUsage, "leave --dry-run out"},
		{"--clear-list --allow --yes", exitUsage, "leave --allow out"},
		{"--import x --file y.csv --yes", exitUsage, "leave --file out"},
		{"--import x --exact --yes", exitUsage, "leave --exact out"},
		{"airport origin=EWR --dry-run --allow", exitUsage, "do not go together"},
		{"airport origin=EWR --dry-run -o yaml", exitUsage, "text or json"},
		{"airport origin=EWR --yes --settle 0s", exitUsage, "--settle"},
		{"airport orign=EWR --dry-run", exitUsage, `"orign" is not an entity key`},
		{"airprt origin=EWR --dry-run", exitFailure, `did you mean "airport"?`},
		{"airport --file " + writeFile(t, "x.csv", "port\nEWR\n") + " --dry-run", exitFailure, `no column "origin"`},
		{"airport --file " + writeFile(t, "y.csv", "origin,x\n,1\n") + " --dry-run", exitFailure, "origin is null"},
		{"airport --file " + writeFile(t, "z.csv", "origin\n") + " --dry-run", exitFailure, "nobody to forget"},
		{"--import " + writeFile(t, "l.json", "{}") + " --yes", exitFailure, "no list of forgotten entities"},
	} {
		r := twofold(t, env, append([]string{"forget"}, strings.Fields(c.args)...)...)
		require.Equal(t, c.code, r.code, "%s: %s", c.args, r.stderr)
		require.Contains(t, r.stderr, c.want, c.args)
		require.Empty(t, r.out)
	}
}

// TestAsk: only a whole yes is one.
func TestAsk(t *testing.T) {
	for answer, yes := range map[string]bool{"yes\n": true, " yes \n": true, "yes": true, "y\n": false, "no\n": false, "": false, "\n": false} {
		var shown bytes.Buffer
		a := &app{in: strings.NewReader(answer), out: io.Discard, err: &shown}
		err := a.ask(t.Context(), "Remove?")
		require.Equal(t, yes, err == nil, "%q: %v", answer, err)
		require.Equal(t, "Remove? Type yes: ", shown.String())
		if !yes {
			require.ErrorIs(t, err, errUnconfirmed)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	silent, _ := io.Pipe()
	require.ErrorIs(t, (&app{in: silent, out: io.Discard, err: io.Discard}).ask(ctx, "?"), context.Canceled)
}

// FuzzParseForgotten: whatever a file holds, it is a list or is refused.
func FuzzParseForgotten(f *testing.F) {
	f.Add([]byte(`{"key": "pvPzXgqp/D19uFVmKTbyeRrTZgJG3UxTQdmHuly9PEk=", "scopes": [{"keys": ["origin"]}], "hashes": "ZaUQSX3i14W8BokL/3LmFpNgQBZMqEgA1/V7jTx+E0I="}`))
	f.Add([]byte(`{"key": "AA==", "hashes": "AA=="}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := parseForgotten(text)
		if err != nil {
			require.Equal(t, fault.Invalid, fault.KindOf(err), "%v", err)
			return
		}
		_, err = formatJSON(list.Export())
		require.NoError(t, err)
	})
}

// TestSyncRemovesGoneViews: views that are not defined any longer go with --remove-gone at once, else only after the grace; other views stay.
func TestSyncRemovesGoneViews(t *testing.T) {
	env := replay(t)
	twofold(t, env, "sync", "--once").ok(t)
	folder := t.TempDir()
	require.NoError(t, os.CopyFS(folder, os.DirFS(flights+"/definitions")))
	require.NoError(t, os.Remove(filepath.Join(folder, "services.yaml")))
	views, err := os.ReadFile(filepath.Join(folder, "views.yaml"))
	require.NoError(t, err)
	first, _, ok := strings.Cut(string(views), "\n  - name: carrier_delays\n")
	require.True(t, ok)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "views.yaml"), []byte(first+"\n"), 0o600))
	less := append(env, "TWOFOLD_DEFINITIONS="+folder)

	r := twofold(t, less, "sync", "--once")
	require.NotContains(t, r.ok(t), "carrier_delays")
	require.Contains(t, r.stderr, "no longer defined")
	require.Contains(t, r.stderr, `"feature_view":"carrier_delays"`)
	require.NotContains(t, twofold(t, less, "sync", "--once").ok(t), "carrier_delays")
	require.Contains(t, twofold(t, env, "sync", "--once").ok(t), "carrier_delays: nothing new", "it is there again")

	out := twofold(t, less, "sync", "--once", "--remove-gone").ok(t)
	require.Contains(t, out, "carrier_delays: the rows of 15 entities were removed from the online store, because no definition has the view any longer")
	require.Contains(t, out, "weather: nothing new")
	require.Regexp(t, `carrier_delays: read .* 15 written`, twofold(t, env, "sync", "--once").ok(t))

	for _, args := range [][]string{{"--remove-gone"}, {"--once", "--remove-gone", "--view", "weather"}} {
		r := twofold(t, env, append([]string{"sync"}, args...)...)
		require.Equal(t, exitUsage, r.code)
		require.Contains(t, r.stderr, "--remove-gone goes with --once")
	}
}
