package config_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/twofold-ml/twofold/internal/config"
	"github.com/twofold-ml/twofold/internal/fault"
)

var rewrite = flag.Bool("rewrite", false, "write docs/reference/configuration.md anew")

// load reads a configuration of the given flags, environment and file text.
func load(t *testing.T, args, env []string, file string) (*config.Loaded, error) {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.AddFlags(fs)
	require.NoError(t, fs.Parse(args))
	in := config.Input{Flags: fs, Environ: append([]string{"PATH=/bin"}, env...)}
	if file != "" {
		in.File = filepath.Join(t.TempDir(), "c.yaml")
		require.NoError(t, os.WriteFile(in.File, []byte(file), 0o600))
	}
	return config.Load(in)
}

func TestDefaultsAreValidAndComplete(t *testing.T) {
	require.NoError(t, config.Defaults().Validate())
	l, err := load(t, nil, nil, "")
	require.NoError(t, err)
	require.Equal(t, config.Defaults(), l.Config)
	require.True(t, l.Embedded())
	require.True(t, l.Syncs(), "the embedded store is synced by serve itself")
	for _, f := range config.Fields() {
		require.Equal(t, config.FromDefault, l.Source(f.Key), f.Key)
	}
}

// Every field says what it is and what its default is, and a default that is not a sentence is the real one.
func TestEveryFieldIsDocumented(t *testing.T) {
	defaults := config.Defaults()
	for _, f := range config.Fields() {
		_, said, ok := strings.Cut(f.Doc, "Defaults to ")
		require.True(t, ok, "%s: its comment %q does not say its default", f.Key, f.Doc)
		if text := f.Text(defaults); text != "" && text != "." {
			normal := map[string]string{"5m": "300s"}
			if n, ok := normal[text]; ok {
				text = n
			}
			require.Regexp(t, "^"+regexp.QuoteMeta(text)+"[.,]", said, f.Key)
		}
	}
	require.Greater(t, len(config.Fields()), 20)
}

func TestPrecedence(t *testing.T) {
	file := "drain_timeout: 1s\nhttp_address: :1\ngrpc_address: :2\nlog:\n  level: debug\n"
	env := []string{"TWOFOLD_HTTP_ADDRESS=:3", "TWOFOLD_GRPC_ADDRESS=:4", "TWOFOLD_LOG_FORMAT="}
	l, err := load(t, []string{"--grpc-address", ":5"}, env, file)
	require.NoError(t, err)
	require.Equal(t, time.Second, l.DrainTimeout)
	require.Equal(t, ":3", l.HTTPAddress)
	require.Equal(t, ":5", l.GRPCAddress)
	require.EqualValues(t, "debug", l.Log.Level)
	require.EqualValues(t, "text", l.Log.Format, "a variable set to nothing is not set")
	require.EqualValues(t, "flag --grpc-address", l.Source("grpc_address"))
	require.EqualValues(t, "env TWOFOLD_HTTP_ADDRESS", l.Source("http_address"))
	require.EqualValues(t, "file "+l.File+":5", l.Source("log.level"))
	require.EqualValues(t, "default", l.Source("log.format"))
}

// companions sets the settings that one setting needs beside it: the halves of a pair of keys need each other.
func companions(key string) []string {
	var others []string
	for _, together := range []map[string]string{
		{"s3.access_key_id": "x", "s3.secret_access_key": "x"},
		{"events.kafka.sasl": "plain", "events.kafka.user": "x", "events.kafka.password": "x"},
		{"events.kafka.tls_cert_file": "x", "events.kafka.tls_key_file": "x"},
		{"events.kafka.brokers": "h:1", "events.kafka.topic": "x"},
	} {
		if _, ok := together[key]; !ok && (key != "s3.session_token" || together["s3.access_key_id"] == "") {
			continue
		}
		for other, text := range together {
			if other != key {
				others = append(others, "TWOFOLD_"+strings.ToUpper(strings.ReplaceAll(other, ".", "_"))+"="+text)
			}
		}
	}
	return others
}

// Every setting can be set in every place, so that no field is forgotten by one of them.
func TestEveryFieldFromEverySource(t *testing.T) {
	samples := map[string]string{
		"duration": "7s", "time": "2013-07-01T12:00:00Z", "size": "3MiB", "number": "77", "secret": "s3cr3t", "url": "redis://u:s3cr3t@h:1/2",
		"size|share": "25%", "list": "a,b", "auto|true|false": "false", "true|false": "true", "debug|info|warn|error": "error", "text|json": "json",
	}
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.AddFlags(fs)
	for _, f := range config.Fields() {
		text, ok := samples[fs.Lookup(f.Flag).Value.Type()]
		if !ok {
			text = map[string]string{"grpc_address": "h:1", "http_address": "h:2", "server": "h:3", "s3.endpoint": "http://h:4",
				"sync_grpc_address": "h:5", "events.webhook.path": "/x", "events.kafka.sasl": "plain"}[f.Key]
		}
		if f.Key == "events.kafka.brokers" {
			text = "a:1,b:2"
		}
		if text == "" {
			text = "sample"
		}
		others := companions(f.Key)
		file := ""
		for depth, name := range strings.Split(f.Key, ".") {
			file += "\n" + strings.Repeat("  ", depth) + name + ":"
		}
		file += " " + text + "\n"
		want := strings.ReplaceAll(strings.ReplaceAll(text, "u:s3cr3t", "u:***"), "s3cr3t", "***")
		check := func(source string, l *config.Loaded, err error) {
			t.Helper()
			require.NoError(t, err, "%s from %s", f.Key, source)
			require.Equal(t, want, f.Text(l.Config), "%s from %s", f.Key, source)
			require.Contains(t, l.Source(f.Key), source, f.Key)
		}
		l, err := load(t, []string{"--" + f.Flag + "=" + text}, others, "")
		check("flag --"+f.Flag, l, err)
		l, err = load(t, nil, append(others, f.Env+"="+text), "")
		check("env "+f.Env, l, err)
		for _, alias := range f.Aliases {
			l, err = load(t, nil, append(others, alias+"="+text), "")
			check("env "+alias, l, err)
		}
		l, err = load(t, nil, others, file)
		check("file ", l, err)
	}
}

func TestWellKnownNames(t *testing.T) {
	l, err := load(t, nil, []string{
		"OFFLINE_STORE_PATH=s3://features", "ONLINE_STORE_REDIS=redis://redis:6379", "FEATURE_SYNC_INTERVAL=300", "AWS_ENDPOINT_URL=http://s3:7080",
	}, "")
	require.NoError(t, err)
	require.Equal(t, "s3://features", l.OfflineStorePath)
	require.Equal(t, "redis://redis:6379", l.OnlineStore.Redis.Reveal())
	require.Equal(t, 300*time.Second, l.FeatureSyncInterval)
	require.Equal(t, "http://s3:7080", l.S3.Endpoint)
	require.True(t, l.UsesPathStyle())
	require.False(t, l.Embedded())
	require.False(t, l.Syncs())
	require.Empty(t, l.Warnings)
}

func TestWarnings(t *testing.T) {
	l, err := load(t, nil, []string{
		"TWOFOLD_FEATURE_SYNC_INTERVAL=1m", "FEATURE_SYNC_INTERVAL=300", "TWOFOLD_GRPC_ADRESS=:1", "TWOFOLD_COLOUR=red",
		"TWOFOLD_SERVICE_HOST=10.0.0.1", "TWOFOLD_SERVER_SERVICE_PORT_GRPC=7070", "TWOFOLD_PORT=tcp://10.0.0.1:7070", "TWOFOLD_SERVER_PORT_7070_TCP_ADDR=10.0.0.1",
		"TWOFOLD_TEST_SKIP=s3", "TWOFOLD_SEED=1", "TWOFOLD_CONFIG=" + os.DevNull,
		"AWS_ENDPOINT_URL=http://a", "AWS_ENDPOINT_URL_S3=http://b",
	}, "")
	require.NoError(t, err)
	require.Equal(t, time.Minute, l.FeatureSyncInterval)
	require.Equal(t, "http://b", l.S3.Endpoint)
	require.Equal(t, []string{
		"environment variable TWOFOLD_COLOUR is not a setting; `twofold config` lists all settings",
		"environment variable TWOFOLD_GRPC_ADRESS is not a setting; did you mean \"TWOFOLD_GRPC_ADDRESS\"?",
		"TWOFOLD_FEATURE_SYNC_INTERVAL overrules FEATURE_SYNC_INTERVAL, which is set to something else; unset one of them",
	}, l.Warnings)
}

func TestErrorsNameSettingSourceAndMend(t *testing.T) {
	for _, tc := range []struct {
		name, file, want string
		args, env        []string
	}{
		{name: "duration", env: []string{"FEATURE_SYNC_INTERVAL=soon"}, want: `feature_sync_interval (env FEATURE_SYNC_INTERVAL): "soon" is not a duration; write seconds, for example 300, or a number with a unit, for example 5m`},
		{name: "duration NaN", env: []string{"FEATURE_SYNC_INTERVAL=NaN"}, want: `"NaN" is not a duration`},
		{name: "duration too long", env: []string{"FEATURE_SYNC_INTERVAL=1e300"}, want: `"1e300" is not a duration`},
		{name: "interval 0", args: []string{"--feature-sync-interval=0"}, want: "feature_sync_interval (flag --feature-sync-interval): 0s is not more than 0"},
		{name: "definitions", args: []string{"--definitions=https://x/y"}, want: `definitions (flag --definitions): "https://x/y" is neither a file or folder nor an s3:// URL`},
		{name: "definitions without bucket", args: []string{"--definitions=s3:///y"}, want: `"s3:///y" names no bucket; write s3://bucket/file.yaml or s3://bucket/prefix`},
		{name: "reload", args: []string{"--definitions-reload-interval=-5"}, want: "definitions_reload_interval (flag --definitions-reload-interval): -5s is less than 0; write 0 to reload on SIGHUP only"},
		{name: "drain", args: []string{"--drain-timeout=-1s"}, want: "drain_timeout (flag --drain-timeout): -1s is less than 0"},
		{name: "size", file: "limits: {max_message_bytes: 64MB}", want: `"64MB" is not a size`},
		{name: "size overflow", file: "limits: {max_message_bytes: 9999999999999GiB}", want: `is not a size`},
		{name: "size range", file: "limits: {max_message_bytes: 4GiB}", want: `c.yaml:1): 4GiB is not from 64KiB to 2147483647`},
		{name: "hot cache size", args: []string{"--hot-cache-max-bytes=256"}, want: "hot_cache.max_bytes (flag --hot-cache-max-bytes): 256 is less than 1MiB; write a size with its unit, for example 256MiB, or 0"},
		{name: "breaker failures", args: []string{"--online-store-breaker-failures=0"}, want: "online_store.breaker.failures (flag --online-store-breaker-failures): 0 is not from 1 to 1000000"},
		{name: "breaker percent", file: "online_store: {breaker: {failure_percent: 101}}", want: "online_store.breaker.failure_percent (file"},
		{name: "breaker interval", env: []string{"TWOFOLD_ONLINE_STORE_BREAKER_PROBE_INTERVAL=0"}, want: "online_store.breaker.probe_interval (env"},
		{name: "breaker patience", file: "online_store: {breaker: {patience: -1}}", want: "online_store.breaker.patience (file"},
		{name: "breaker switch", file: "online_store: {breaker: {enabled: maybe}}", want: "online_store.breaker.enabled (file"},
		{name: "sync rate", file: "sync: {max_rows_per_second: -1}", want: "sync.max_rows_per_second (file"},
		{name: "hot cache staleness", file: "hot_cache: {max_staleness: 0}", want: "hot_cache.max_staleness (file"},
		{name: "number", file: "limits:\n  max_rows_per_request: many", want: `c.yaml:2): "many" is not a whole number`},
		{name: "rows 0", args: []string{"--limits-max-rows-per-request=0"}, want: "0 is not from 1 to 10000000"},
		{name: "time", args: []string{"--clock-start=yesterday"}, want: `"yesterday" is not an RFC 3339 time`},
		{name: "toggle", args: []string{"--sync-in-process=maybe"}, want: `"maybe" is not known; write auto, true or false`},
		{name: "level", env: []string{"TWOFOLD_LOG_LEVEL=loud"}, want: `log.level (env TWOFOLD_LOG_LEVEL): "loud" is not known; write debug, info, warn or error`},
		{name: "offline scheme", env: []string{"OFFLINE_STORE_PATH=gs://b"}, want: `offline_store_path (env OFFLINE_STORE_PATH): "gs://b" is neither a folder nor a file:// or s3:// URL`},
		{name: "no bucket", env: []string{"OFFLINE_STORE_PATH=s3:///x"}, want: `names no bucket`},
		{name: "endpoint", env: []string{"AWS_ENDPOINT_URL=localhost:7080"}, want: `s3.endpoint (env AWS_ENDPOINT_URL): "localhost:7080" is not an endpoint`},
		{name: "half a key", env: []string{"TWOFOLD_S3_ACCESS_KEY_ID=me"}, want: "s3.access_key_id (env TWOFOLD_S3_ACCESS_KEY_ID): it goes with s3.secret_access_key"},
		{name: "token alone", env: []string{"TWOFOLD_S3_SESSION_TOKEN=t"}, want: "it goes with s3.access_key_id"},
		{name: "redis scheme", env: []string{"ONLINE_STORE_REDIS=http://:hunter2@h"}, want: "online_store.redis (env ONLINE_STORE_REDIS): its scheme is neither redis:// nor rediss://"},
		{name: "redis no host", env: []string{"ONLINE_STORE_REDIS=redis://"}, want: "it names no host"},
		{name: "redis no URL", env: []string{"ONLINE_STORE_REDIS=hunter2"}, want: "it is not a URL"},
		{name: "redis unknown kind", env: []string{"ONLINE_STORE_REDIS=redis+x://u:hunter2@h"}, want: "its scheme is neither"},
		{name: "redis user no host", env: []string{"ONLINE_STORE_REDIS=redis://u:hunter2@/0"}, want: "it names no host"},
		{name: "redis number sign", env: []string{"ONLINE_STORE_REDIS=redis://:hun#hunter2@h:6379"}, want: "its user or password cannot be read; write / ? # @ : and % in them percent-encoded"},
		{name: "redis number sign in user", env: []string{"ONLINE_STORE_REDIS=redis://hunter2#x@h:6379"}, want: "its user or password cannot be read"},
		{name: "redis percent", env: []string{"ONLINE_STORE_REDIS=redis://:hunter2%zz@h:6379"}, want: "its user or password cannot be read"},
		{name: "redis slash", env: []string{"ONLINE_STORE_REDIS=redis://:hunter2/x@h:6379"}, want: "one of its hosts or ports is not valid"},
		{name: "redis port", env: []string{"ONLINE_STORE_REDIS=redis://u:hunter2@h:port"}, want: "one of its hosts or ports is not valid"},
		{name: "redis port too large", env: []string{"ONLINE_STORE_REDIS=redis://u:hunter2@h:65536"}, want: "one of its hosts or ports is not valid"},
		{name: "redis hosts", env: []string{"ONLINE_STORE_REDIS=redis://u:hunter2@h:1,g:2"}, want: "it has several hosts"},
		{name: "redis node", env: []string{"ONLINE_STORE_REDIS=redis+cluster://u:hunter2@h:1,g:x"}, want: "one of its hosts or ports is not valid"},
		{name: "redis master", env: []string{"ONLINE_STORE_REDIS=redis+sentinel://u:hunter2@h:1"}, want: "it names no master"},
		{name: "redis database", env: []string{"ONLINE_STORE_REDIS=redis://u:hunter2@h/first"}, want: "not the number of a database"},
		{name: "endpoint with a password", env: []string{"AWS_ENDPOINT_URL=http://me:hunter2@h:7080"}, want: "s3.endpoint (env AWS_ENDPOINT_URL): it has a user or password before an @; set s3.access_key_id and s3.secret_access_key instead"},
		{name: "endpoint that does not parse", env: []string{"AWS_ENDPOINT_URL=http://me:hun%zhunter2@h:7080"}, want: "it has a user or password before an @"},
		{name: "prefix", args: []string{"--online-store-redis-key-prefix={a}"}, want: "would change the cluster slot"},
		{name: "prefix empty", args: []string{"--online-store-redis-key-prefix="}, want: "it is empty"},
		{name: "no store", args: []string{"--online-store-path="}, want: "online_store.redis too"},
		{name: "listen", args: []string{"--grpc-address=7070"}, want: `"7070" is not an address to listen on`},
		{name: "port", args: []string{"--grpc-address=:http"}, want: `"http" is not a port; write a number from 0 to 65535`},
		{name: "same port", args: []string{"--http-address=:7070"}, want: "is grpc_address too"},
		{name: "server", args: []string{"--server=:7070"}, want: "is not a server's address"},
		{name: "sync address", file: "sync_grpc_address: x", want: `sync_grpc_address (file`},
		{name: "sync same port", args: []string{"--sync-grpc-address=:9", "--http-address=:9"}, want: `":9" is http_address too`},
		{name: "debounce", file: "events: {debounce: 0}", want: "events.debounce (file"},
		{name: "wait", file: "events: {debounce: 2m}", want: "events.max_wait (default): 1m is less than events.debounce, 2m"},
		{name: "webhook", file: "events: {webhook: {enabled: maybe}}", want: "events.webhook.enabled (file"},
		{name: "webhook path", file: "events: {webhook: {path: events}}", want: `"events" is not a path for events`},
		{name: "webhook pattern", file: "events: {webhook: {path: '/{x}'}}", want: "has characters that are not for a path"},
		{name: "webhook path taken", file: "events: {webhook: {path: /metrics}}", want: `"/metrics" is taken`},
		{name: "webhook body", file: "events: {webhook: {max_body_bytes: 1}}", want: "1 is not from 1KiB to 1GiB"},
		{name: "broker", file: "events: {kafka: {brokers: [a, 'b:1'], topic: t}}", want: `"a" is not a broker's address`},
		{name: "topic", env: []string{"TWOFOLD_EVENTS_KAFKA_BROKERS=a:1"}, want: "events.kafka.topic (default): it is empty, and events.kafka.brokers is set"},
		{name: "group", args: []string{"--events-kafka-group="}, want: "name a consumer group"},
		{name: "TLS", file: "events: {kafka: {tls: false, tls_ca_file: x}}", want: "events.kafka.tls (file"},
		{name: "half a certificate", file: "events: {kafka: {tls_key_file: x}}", want: "it goes with events.kafka.tls_key_file"},
		{name: "SASL", file: "events: {kafka: {sasl: md5, user: u, password: hunter2}}", want: `"md5" is not known; write plain, scram-sha-256 or scram-sha-512`},
		{name: "no password", file: "events: {kafka: {sasl: plain, user: u}}", want: "it goes with events.kafka.user and events.kafka.password"},
		{name: "password alone", env: []string{"TWOFOLD_EVENTS_KAFKA_PASSWORD=hunter2"}, want: "it goes with events.kafka.user and events.kafka.password"},
		{name: "folders", file: "events: {folders: {enabled: auto}}", want: `"auto" is not known; write true or false`},
		{name: "settle", file: "events: {folders: {settle: 0, poll_interval: -1}}", want: "events.folders.poll_interval"},
		{name: "unknown key", file: "grpc_adress: :1", want: `c.yaml:1:1: unknown setting "grpc_adress"; did you mean "grpc_address"?`},
		{name: "unknown nested key", file: "s3:\n  regoin: x", want: `c.yaml:2:3: unknown setting "s3.regoin"; did you mean "s3.region"?`},
		{name: "flat key", file: "s3_endpoint: x", want: `did you mean "s3.endpoint"?`},
		{name: "far key", file: "qqqqqqqq: x", want: "`twofold config` lists all settings"},
		{name: "twice", file: "server: a:1\nserver: b:1", want: "c.yaml:2:1: server is set twice"},
		{name: "mapping for value", file: "server: {a: b}", want: "c.yaml:1:9: server must be one value"},
		{name: "value for mapping", file: "s3: yes", want: "c.yaml:1:5: s3 must hold keys with values"},
		{name: "list", file: "- a", want: "the file must hold keys with values"},
		{name: "two documents", file: "server: a:1\n---\nserver: b:1", want: "one YAML document"},
		{name: "not YAML", file: "a: b: c", want: "c.yaml"},
		{name: "large file", file: "#" + strings.Repeat("x", 1<<20), want: "is larger than 1MiB"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := load(t, tc.args, tc.env, tc.file)
			require.ErrorContains(t, err, tc.want)
			require.Equal(t, fault.Invalid, fault.KindOf(err))
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestAllErrorsAtOnce(t *testing.T) {
	_, err := load(t, []string{"--grpc-address=x", "--drain-timeout=-1"}, nil, "")
	require.ErrorContains(t, err, "grpc_address")
	require.ErrorContains(t, err, "drain_timeout")
}

func TestNamedFileMustBeThere(t *testing.T) {
	t.Chdir(t.TempDir())
	_, err := load(t, []string{"--config", "nowhere.yaml"}, nil, "")
	require.ErrorContains(t, err, "nowhere.yaml")
	_, err = load(t, nil, []string{"TWOFOLD_CONFIG=elsewhere.yaml"}, "")
	require.ErrorContains(t, err, "elsewhere.yaml")

	l, err := load(t, nil, nil, "")
	require.NoError(t, err)
	require.Empty(t, l.File)
	require.NoError(t, os.WriteFile(config.DefaultFile, []byte("server: h:9\ns3:\n"), 0o600))
	l, err = load(t, nil, nil, "")
	require.NoError(t, err)
	require.Equal(t, config.DefaultFile, l.File)
	require.Equal(t, "h:9", l.Server)
}

func TestSecretsNeverPrint(t *testing.T) {
	secrets := []any{
		config.NewSecret("hunter2"), config.NewSecretURL("redis://u:hunter2@h:6379/0?master_password=hunter2"), config.NewSecretURL("hunter2"),
		config.NewSecretURL("redis:hunter2"), config.NewSecretURL("redis://:hunter2@h"), config.NewSecretURL("re dis://u:hunter2@h"),
		config.NewSecretURL("redis://u:a/b?c@hunter2@h"), config.NewSecretURL("redis://u:%hunter2@h"), config.NewSecretURL("u:hunter2@h://x"),
		config.NewSecretURL("redis+sentinel://u:hunter2@h:1,g:2/master?sentinel_password=hunter2&db=1"),
		struct{ Key config.Secret }{config.NewSecret("hunter2")},
	}
	for _, s := range secrets {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			out := fmt.Sprintf(verb, s)
			require.NotContains(t, out, "hunter2", verb)
			require.NotContains(t, strings.ToLower(out), "68756e74657232", verb)
		}
		asJSON, err := json.Marshal(s)
		require.NoError(t, err)
		require.NotContains(t, string(asJSON), "hunter2")
		asYAML, err := yaml.Marshal(s)
		require.NoError(t, err)
		require.NotContains(t, string(asYAML), "hunter2")
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", s)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", s)
		require.NotContains(t, log.String(), "hunter2")
	}
	require.Equal(t, "redis://u:***@h:6379/0?master_password=***", secrets[1].(config.SecretURL).String())
	require.Equal(t, "redis+sentinel://u:***@h:1,g:2/master?sentinel_password=***&db=1", secrets[len(secrets)-2].(config.SecretURL).String())
	require.Empty(t, config.Secret{}.String())
	require.Empty(t, config.SecretURL{}.String())
}

// What Print writes reads back as the same configuration, but for the secrets.
func TestPrintReadsBack(t *testing.T) {
	l, err := load(t, []string{"--log-format=json", "--clock-start=2013-07-01T12:00:00.5Z"}, []string{
		"ONLINE_STORE_REDIS=redis://u:hunter2@h", "OFFLINE_STORE_PATH=a: b # c", "TWOFOLD_S3_ACCESS_KEY_ID=007", "TWOFOLD_S3_SECRET_ACCESS_KEY=hunter2",
	}, "")
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, l.Print(&out))
	require.NotContains(t, out.String(), "hunter2")
	require.Regexp(t, `(?m)^  redis: +redis://u:\*\*\*@h +# env ONLINE_STORE_REDIS$`, out.String())
	require.Regexp(t, `(?m)^grpc_address: +:7070 +# default$`, out.String())
	require.Regexp(t, `(?m)^  max_rows_per_request: +10000 +# default$`, out.String())

	back, err := load(t, nil, nil, out.String())
	require.NoError(t, err)
	for _, f := range config.Fields() {
		if diff := cmp.Diff(f.Text(l.Config), f.Text(back.Config)); diff != "" {
			t.Errorf("%s: %s\n%s", f.Key, diff, out.String())
		}
	}
}

// The name of a flag's value is its kind, whatever its text quotes.
func TestFlagsNameTheirValues(t *testing.T) {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.AddFlags(fs)
	for _, f := range config.Fields() {
		flag := fs.Lookup(f.Flag)
		name, usage := pflag.UnquoteUsage(flag)
		require.Equal(t, flag.Value.Type(), name, f.Key)
		require.Equal(t, flag.Usage, usage, f.Key)
	}
}

// Redis URLs of every form are well.
func TestRedisURLs(t *testing.T) {
	for _, url := range []string{
		"redis://h", "redis://h/", "rediss://h:6379/15?pool_size=3", "redis://:p%23%40%2F@h", "redis://u@h", "redis://[::1]:6379", "redis+cluster://a:1,b:2,c",
		"rediss+sentinel://u:p@a:1,b/master?db=2", "redis://u:a:b@h",
	} {
		_, err := load(t, nil, []string{"ONLINE_STORE_REDIS=" + url}, "")
		require.NoError(t, err, url)
	}
}

func TestFlagsOfSomeKeysOnly(t *testing.T) {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.AddFlags(fs, "server", "log")
	var names []string
	fs.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	require.Equal(t, []string{"config", "log-format", "log-level", "server"}, names)
	require.Contains(t, fs.FlagUsages(), "(default localhost:7070)")
	require.NotContains(t, fs.FlagUsages(), "Defaults to")
}

// What is left to the process is chosen by what else is set.
func TestEventSwitches(t *testing.T) {
	for _, c := range []struct {
		file                string
		webhook, kafka, tls bool
	}{
		{file: "{}"},
		{file: "events: {webhook: {secret: x}}", webhook: true},
		{file: "events: {webhook: {secret: x, enabled: false}}"},
		{file: "events: {webhook: {enabled: true}}", webhook: true},
		{file: "events: {kafka: {brokers: 'a:1, b:2', topic: t}}", kafka: true},
		{file: "events: {kafka: {tls_ca_file: x}}", tls: true},
		{file: "events: {kafka: {tls: true}}", tls: true},
	} {
		l, err := load(t, nil, nil, c.file)
		require.NoError(t, err, c.file)
		require.Equal(t, []bool{c.webhook, c.kafka, c.tls}, []bool{l.Events.UsesWebhook(), l.Events.UsesKafka(), l.Events.Kafka.UsesTLS()}, c.file)
	}
	for _, none := range []string{"sync_grpc_address: none", "sync_grpc_address: ''"} {
		_, err := load(t, nil, nil, none)
		require.NoError(t, err)
	}
}

func TestReference(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "reference", "configuration.md")
	if *rewrite {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(config.Reference()), 0o644))
	}
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	if diff := cmp.Diff(config.Reference(), string(got)); diff != "" {
		t.Errorf("%s is not what the comments say; run: go test ./internal/config -run TestReference -rewrite\n%s", path, diff)
	}
}

func FuzzFile(f *testing.F) {
	f.Add("s3:\n  region: x\n")
	f.Add("a: &x [*x]")
	f.Add("? {a: b}\n: c")
	f.Add("log: {level: debug, level: info}")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "c.yaml")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		l, err := config.Load(config.Input{File: path, Environ: []string{"A=b"}})
		if err == nil {
			require.NoError(t, l.Validate())
		} else {
			require.Equal(t, fault.Invalid, fault.KindOf(err))
		}
	})
}

func TestMemory(t *testing.T) {
	for text, want := range map[string]int64{"50%": 500 << 20, "0.5%": 5 << 20, "100%": 1000 << 20, "64MiB": 64 << 20, "2GiB": 2 << 30, " 25 %": 250 << 20} {
		l, err := load(t, []string{"--memory", text}, nil, "")
		require.NoError(t, err, text)
		require.Equal(t, want, l.Memory.Of(1000<<20), text)
	}
	for _, text := range []string{"", "0%", "101%", "-1%", "much", "63MiB", "NaN%", "5"} {
		_, err := load(t, []string{"--memory=" + text}, nil, "")
		require.ErrorContains(t, err, "memory (flag --memory)", text)
	}
}

func TestLists(t *testing.T) {
	for _, file := range []string{"historical:\n  entity_paths: a, s3://b/c ,,d\n", "historical:\n  entity_paths: [a, \"s3://b/c\", d]\n", "historical:\n  entity_paths:\n  - a\n  - s3://b/c\n  - d\n"} {
		l, err := load(t, nil, nil, file)
		require.NoError(t, err, file)
		require.Equal(t, []string{"a", "s3://b/c", "d"}, l.Historical.EntityPaths.Items(), file)
	}
	require.Empty(t, config.Defaults().Historical.OutputPaths.Items())
	for _, file := range []string{"historical:\n  entity_paths: [[a], b]\n", "historical:\n  entity_paths: [\"a,b\"]\n", "historical:\n  entity_paths: {a: b}\n", "s3:\n  region: [a]\n"} {
		_, err := load(t, nil, nil, file)
		require.Error(t, err, file)
	}
}
