package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Wrong command lines and wrong configuration exit 2, say what is wrong and how to mend it, and touch nothing.
func TestUsageErrors(t *testing.T) {
	for _, tc := range []struct {
		args []string
		env  []string
		want string
	}{
		{args: []string{"sevre"}, want: `unknown command "sevre" for "twofold"`},
		{args: []string{"serve", "extra"}, want: "unknown command \"extra\" for \"twofold serve\""},
		{args: []string{"serve", "--grpc-adress", ":1"}, want: "unknown flag: --grpc-adress"},
		{args: []string{"serve", "--grpc-address", "7070"}, want: `grpc_address (flag --grpc-address): "7070" is not an address to listen on; write :port or host:port`},
		{args: []string{"serve", "--drain-timeout", "soon"}, want: `drain_timeout (flag --drain-timeout): "soon" is not a duration`},
		{args: []string{"serve"}, env: []string{"FEATURE_SYNC_INTERVAL=often"}, want: `feature_sync_interval (env FEATURE_SYNC_INTERVAL): "often" is not a duration; write seconds`},
		{args: []string{"serve"}, env: []string{"ONLINE_STORE_REDIS=http://u:hunter2@h"}, want: "online_store.redis (env ONLINE_STORE_REDIS): its scheme is neither redis://"},
		{args: []string{"serve"}, env: []string{"ONLINE_STORE_REDIS=redis://:hunter2#hunter2@h:6379"}, want: "online_store.redis (env ONLINE_STORE_REDIS): its user or password cannot be read"},
		{args: []string{"serve"}, env: []string{"ONLINE_STORE_REDIS=redis://:hunter2@h?nonsense=1"}, want: "online_store.redis: the Redis URL cannot be understood"},
		{args: []string{"serve"}, env: []string{"AWS_ENDPOINT_URL=http://me:hunter2@h:7080"}, want: "s3.endpoint (env AWS_ENDPOINT_URL): it has a user or password"},
		{args: []string{"serve", "--config", "nowhere.yaml"}, want: "nowhere.yaml"},
		{args: []string{"sync", "--view", "weather"}, want: "--view goes with --once"},
		{args: []string{"get"}, want: "requires at least 1 arg"},
		{args: []string{"get", "origin=EWR"}, want: "name a feature service, or features with --features"},
		{args: []string{"get", "s", "-f", "a:b", "k=1"}, want: `both the feature service "s" and --features are given`},
		{args: []string{"get", "-f", "ab", "k=1"}, want: `"ab" is not view:feature`},
		{args: []string{"get", "s", "EWR"}, want: `"EWR" is not an entity key; write key=value`},
		{args: []string{"get", "s", "k=1", "-o", "xml"}, want: `-o: "xml" is not known; write table, json or csv`},
		{args: []string{"get", "s", "k=1", "--max-staleness", "-1s"}, want: "--max-staleness: -1s is less than 0"},
		{args: []string{"get", "s", `k="a`}, want: "put double quotes around a value that has a comma"},
		{args: []string{"get", "s", "k=1", "--server", "here"}, want: `server (flag --server): "here" is not a server's address`},
		{args: []string{"train", "s"}, want: "--entities is missing"},
		{args: []string{"train", "s", "-e", "rows.csv"}, want: "--out is missing"},
		{args: []string{"train", "s", "-e", "rows.txt", "-o", "x.csv"}, want: "the format of rows.txt cannot be told from its name; say it with --entities-format"},
		{args: []string{"train", "s", "-e", "rows.csv", "-o", "x.csv", "--format", "xml"}, want: `--format: "xml" is not known`},
		{args: []string{"train", "s", "-e", "rows.csv", "--server-entities", "rows.csv", "-o", "x.csv"}, want: "both --entities and --server-entities are given; choose one"},
		{args: []string{"train", "s", "-e", "rows.csv", "--entityless", "--start", "2013", "--end", "2014-01-01", "-o", "x.csv"}, want: "leave it out, or the file of entity rows"},
		{args: []string{"train", "s", "--entityless", "--end", "2014-01-01", "-o", "x.csv"}, want: "--entityless needs --start and --end"},
		{args: []string{"train", "s", "--entityless", "--start", "2014", "--end", "2014-01-01", "-o", "x.csv"}, want: `--start: "2014" is not a time`},
		{args: []string{"train", "s", "--entityless", "--start", "2014-01-01", "--end", "2014-01-01", "-o", "x.csv"}, want: "no time is in the range: --start 2014-01-01 is not before --end 2014-01-01"},
		{args: []string{"train", "s", "--entityless", "--start", "2013-01-01", "--end", "2014-01-01", "-o", "x.csv", "--type", "a=INT64"}, want: "with --entityless there is none"},
		{args: []string{"train", "s", "-e", "rows.csv", "-o", "x.csv", "--server-out", "x.parquet"}, want: "both --out and --server-out are given; choose one"},
		{args: []string{"train", "s", "-e", "rows.csv", "--server-out", "x.csv", "--format", "csv"}, want: "the server writes Parquet; leave --format out"},
		{args: []string{"train", "s", "-e", "rows.csv", "-o", "x.csv", "--overwrite"}, want: "--overwrite goes with --server-out"},
		{args: []string{"train", "s", "-e", "rows.csv", "-o", "rows.csv"}, want: "--out is the file of entity rows itself"},
		{args: []string{"train", "s", "-e", "rows.csv", "-o", "-", "--save-manifest", "-"}, want: "the manifest goes to a file only"},
		{args: []string{"train", "s", "-e", "rows.csv", "-o", "x.csv", "--save-manifest", "x.csv"}, want: "x.csv is a file of rows already"},
		{args: []string{"train", "s", "-e", "rows.csv", "-o", "x.csv", "--manifest", "m.json"}, want: `--manifest says what to join, so leave "s" out`},
		{args: []string{"train", "--manifest", "m.json", "--statuses"}, want: "--statuses is an option of the training set, which --manifest repeats as it was"},
		{args: []string{"train", "--manifest", "m.json", "--format", "csv"}, want: "--format goes with --out"},
		{args: []string{"train", "s", "-e", "-", "-o", "-", "--type", "zip"}, want: `--type: "zip" is not column=TYPE`},
		{args: []string{"explain", "view", "weather", "temp"}, want: "write nothing, or what to explain: twofold explain view weather"},
		{args: []string{"explain", "view"}, want: "which view? Write its name: twofold explain view NAME"},
		{args: []string{"get", "prices:p", "k=1"}, want: `"prices:p" is not the name of a feature service; features are named with a flag: --features prices:p`},
		{args: []string{"train", "prices:*", "-e", "-", "-o", "-"}, want: "--features prices:*"},
		{args: []string{"explain", "table", "weather"}, want: `"table" cannot be explained; write entity, view or service`},
		{args: []string{"explain", "-o", "xml"}, want: `-o: "xml" is not known`},
		{args: []string{"lint"}, want: "which definitions? Name a file or folder: twofold lint features/"},
		{args: []string{"health", "--url", "localhost"}, want: `--url: "localhost" is not a URL`},
		{args: []string{"init"}, want: "accepts 1 arg(s), received 0"},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) {
			r := twofold(t, tc.env, tc.args...)
			require.Equal(t, exitUsage, r.code, r.stderr)
			require.Contains(t, r.stderr, tc.want)
			require.NotContains(t, r.stderr, "hunter2")
			require.Empty(t, r.out)
			for line := range strings.Lines(r.stderr) {
				require.True(t, strings.HasPrefix(line, "twofold: "), line)
			}
		})
	}
}

func TestNoServer(t *testing.T) {
	for _, args := range [][]string{{"health"}, {"explain"}, {"get", "s", "k=1"}, {"train", "s", "-e", "-", "-o", "-"}} {
		r := twofold(t, nil, append(args, "--server", "localhost:1")...)
		require.Equal(t, exitUnavailable, r.code, args)
		require.Regexp(t, "^twofold: cannot reach a server at localhost:1 \\(.*connection refused\\); start one with `twofold serve`, or name another with --server\n$", r.stderr, args)
	}
	r := twofold(t, nil, "get", "s", "k=1", "--server", "nowhere.invalid:1", "--timeout", "5s")
	require.Equal(t, exitUnavailable, r.code)
	require.Contains(t, r.stderr, "nowhere.invalid:1")
	r = twofold(t, nil, "health", "--url", "http://localhost:1/readyz")
	require.Equal(t, exitUnavailable, r.code)
	require.Contains(t, r.stderr, "cannot reach http://localhost:1/readyz")
}

func TestConfig(t *testing.T) {
	file := writeFile(t, "c.yaml", "drain_timeout: 5\n")
	out := twofold(t, []string{"ONLINE_STORE_REDIS=redis://u:hunter2@h", "TWOFOLD_CONFIG=" + file}, "config", "--log-level", "debug").ok(t)
	require.Regexp(t, `(?m)^  redis: +redis://u:\*\*\*@h +# env ONLINE_STORE_REDIS$`, out)
	require.Regexp(t, `(?m)^drain_timeout: +5s +# file .*c.yaml:1$`, out)
	require.Regexp(t, `(?m)^  level: +debug +# flag --log-level$`, out)
	require.NotContains(t, out, "hunter2")
	r := twofold(t, []string{"TWOFOLD_DRAIN_TIMOUT=1s"}, "config")
	require.Zero(t, r.code)
	require.Contains(t, r.stderr, "twofold: warning: environment variable TWOFOLD_DRAIN_TIMOUT is not a setting; did you mean \"TWOFOLD_DRAIN_TIMEOUT\"?")
}

func TestHelpAndVersion(t *testing.T) {
	help := twofold(t, nil, "--help").ok(t)
	require.Contains(t, help, "Exit codes: 0 all well, 1 failure, 2 wrong flags")
	require.Equal(t, help, twofold(t, nil).ok(t), "without a command there is help")
	require.Regexp(t, `^twofold .* go1\.`, twofold(t, nil, "version").ok(t))
	a := &app{in: nil, out: os.Stdout, err: os.Stderr}
	for _, c := range a.root().Commands() {
		out := twofold(t, nil, c.Name(), "--help").ok(t)
		require.Contains(t, out, "twofold "+c.Name())
		if c.Name() != "version" && c.Name() != "help" && c.Name() != "completion" {
			require.Contains(t, out, "Examples:", c.Name())
			require.NotEmpty(t, c.GroupID, c.Name())
		}
	}
}
