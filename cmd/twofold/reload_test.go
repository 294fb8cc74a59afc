package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/config"
	"github.com/twofold-ml/twofold/internal/definition"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/testenv"
)

// Two versions of the definitions whose answers differ in columns, in their order and in the ttl.
var (
	versionA = airports + "      - {name: dewp, type: DOUBLE}\n" + `feature_services:
  - {name: model, features: ["weather:temp", "weather:humid"]}
`
	versionB = replace(replace(versionA, "ttl: 7200s", "ttl: 10800s"), `["weather:temp", "weather:humid"]`, `["weather:humid", "weather:dewp", "weather:temp"]`)
	answerA  = "weather:temp,weather:humid 2h0m0s"
	answerB  = "weather:humid,weather:dewp,weather:temp 3h0m0s"
)

// withAircraft adds a view to definitions.
func withAircraft(text string) string {
	text = replace(text, "feature_views:\n", "  - name: aircraft\n    keys: [{name: tail_number, type: STRING}]\nfeature_views:\n")
	return replace(text, "feature_services:\n", `  - name: aircraft
    entity: aircraft
    source: {path: aircraft/registry.parquet, event_time_column: registered_at, key_columns: {tail_number: tailnum}}
    features: [{name: model, type: STRING}]
feature_services:
`)
}

// swap replaces a file's text at once, as an editor or a deployment does.
func swap(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

// reloading is the environment of a process with these definitions, which looks at them so often.
func reloading(t *testing.T, definitions, interval string) []string {
	return append(without(replay(t), "TWOFOLD_DEFINITIONS="), "TWOFOLD_DEFINITIONS="+definitions, "TWOFOLD_DEFINITIONS_RELOAD_INTERVAL="+interval)
}

// model asks for the service of versionA and versionB, and returns which columns and ttl the answer has.
func model(ctx context.Context, c twofoldv1.FeatureServiceClient) (string, error) {
	resp, err := c.GetOnlineFeatures(ctx, &twofoldv1.GetOnlineFeaturesRequest{
		FeatureService: "model", Entities: []*twofoldv1.Column{client.Strings("origin", "EWR", "JFK")}, OmitEntities: true,
	})
	if err != nil {
		return "", err
	}
	var names []string
	for _, column := range resp.GetColumns() {
		names = append(names, column.GetName())
		for row := range 2 {
			if status := client.Status(column, row); status != twofoldv1.ValueStatus_VALUE_STATUS_PRESENT {
				return "", errors.New(column.GetName() + ": " + status.String())
			}
		}
	}
	return strings.Join(names, ",") + " " + resp.GetViews()[0].GetTtl().AsDuration().String(), nil
}

// TestReloadUnderLoad: while definitions are replaced fifty times, every request is answered, by one version as a whole; and a request after a
// reload by the version that it brought.
func TestReloadUnderLoad(t *testing.T) {
	file := writeFile(t, "f.yaml", versionA)
	d := start(t, reloading(t, file, "0"), "serve")
	d.wait(t, `"msg":"synced","feature_view":"weather"`)
	conn, err := grpc.NewClient(d.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	features := twofoldv1.NewFeatureServiceClient(conn)

	var a, b atomic.Int64
	loading, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for range 2 {
		load.Go(func() {
			for loading.Err() == nil {
				switch got, err := model(t.Context(), features); {
				case err != nil:
					t.Errorf("a request failed: %v", err)
					return
				case got == answerA:
					a.Add(1)
				case got == answerB:
					b.Add(1)
				default:
					t.Errorf("the answer is of neither version: %s", got)
				}
			}
		})
	}
	for i := range 50 {
		text, want := versionB, answerB
		if i%2 == 1 {
			text, want = versionA, answerA
		}
		mark := d.logged()
		swap(t, file, text)
		require.NoError(t, d.cmd.Process.Signal(syscall.SIGHUP))
		d.waitAfter(t, mark, `"msg":"definitions reloaded"`)
		got, err := model(t.Context(), features)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	stop()
	load.Wait()
	require.Positive(t, a.Load())
	require.Positive(t, b.Load())
	_, metrics := fetch(t, d.http, "/metrics")
	require.Contains(t, metrics, `twofold_definitions_reloads_total{result="success"} 50`)
	require.Contains(t, metrics, `twofold_definitions_reloads_total{result="failure"} 0`)
	require.Equal(t, 1, strings.Count(metrics, "\ntwofold_definitions_info{"))
	d.stop(t, syscall.SIGTERM)
}

// TestReloadOfFolder: a folder as Kubernetes mounts it, whose files are links through a link that is switched. What is broken is told of and changes
// nothing.
func TestReloadOfFolder(t *testing.T) {
	folder := t.TempDir()
	mount := func(version, text string) {
		require.NoError(t, os.Mkdir(filepath.Join(folder, version), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(folder, version, "f.yaml"), []byte(text), 0o600))
		require.NoError(t, os.Symlink(version, filepath.Join(folder, "..data_tmp")))
		require.NoError(t, os.Rename(filepath.Join(folder, "..data_tmp"), filepath.Join(folder, "..data")))
	}
	mount("..1", versionA)
	require.NoError(t, os.Symlink("..data/f.yaml", filepath.Join(folder, "f.yaml")))
	d := start(t, reloading(t, folder, "0.02"), "serve")
	d.wait(t, `"msg":"ready"`)
	ask := []string{"get", "model", "origin=EWR", "-o", "csv", "--server", d.grpc}
	require.Contains(t, twofold(t, nil, ask...).ok(t), "origin,weather:temp,weather:humid\n")

	mount("..2", versionB)
	d.wait(t, `"msg":"definitions reloaded"`)
	require.Contains(t, d.wait(t, `"msg":"definitions: breaking change"`), "features added: weather:dewp")
	require.Contains(t, d.wait(t, `"msg":"definitions: change"`), "ttl 2h → 3h")
	require.Contains(t, twofold(t, nil, ask...).ok(t), "origin,weather:humid,weather:dewp,weather:temp\n")

	mount("..3", replace(replace(versionA, "entity: airport", "entity: airprot"), "ttl: 7200s", "tll: 7200s"))
	d.wait(t, filepath.Join(folder, "f.yaml")+`:6:13: `)
	d.wait(t, filepath.Join(folder, "f.yaml")+`:8:5: `)
	mark := d.logged()
	require.NoError(t, d.cmd.Process.Signal(syscall.SIGHUP))
	d.waitAfter(t, mark, `"msg":"definitions reload failed`)
	require.Contains(t, twofold(t, nil, ask...).ok(t), "origin,weather:humid,weather:dewp,weather:temp\n", "the definitions before stay in force")
	code, _ := fetch(t, d.http, "/readyz")
	require.Equal(t, http.StatusOK, code)
	_, metrics := fetch(t, d.http, "/metrics")
	require.Contains(t, metrics, "\ntwofold_definitions_last_reload_successful 0\n")
	require.Contains(t, metrics, `twofold_definitions_reloads_total{result="failure"} 2`, "one for the change, one for SIGHUP")

	mark = d.logged()
	mount("..4", versionA)
	d.waitAfter(t, mark, `"msg":"definitions reloaded"`)
	require.Contains(t, twofold(t, nil, ask...).ok(t), "origin,weather:temp,weather:humid\n")
	require.Eventually(t, func() bool { // the log tells it first
		_, metrics := fetch(t, d.http, "/metrics")
		return strings.Contains(metrics, "\ntwofold_definitions_last_reload_successful 1\n")
	}, time.Minute, 10*time.Millisecond)
	d.stop(t, syscall.SIGTERM)
}

// TestReloadOfPublished: servers and syncers take what is published while they run. A view that nobody has carried yet is no reason to
// stop answering for the others; a Redis that lost the definitions none to forget them.
func TestReloadOfPublished(t *testing.T) {
	redis := testenv.Redis(t)
	env := append(reloading(t, "", "0.02"), "ONLINE_STORE_REDIS="+redis.URL)
	env = without(env, "TWOFOLD_DEFINITIONS=")
	twofold(t, env, "apply", writeFile(t, "f.yaml", versionA)).ok(t)
	twofold(t, env, "sync", "--once").ok(t)
	d := start(t, env, "serve")
	d.wait(t, `"msg":"ready"`)
	weather := []string{"get", "model", "origin=EWR", "-o", "csv", "--server", d.grpc}
	aircraft := []string{"get", "-f", "aircraft:model", "tail_number=N514UA", "-o", "csv", "--server", d.grpc}

	more := withAircraft(versionA)
	require.Contains(t, twofold(t, env, "apply", writeFile(t, "f.yaml", more)).ok(t), "servers and syncers that run take them")
	require.Contains(t, d.wait(t, "new feature views are not synced yet"), `"aircraft"`)
	d.wait(t, `"msg":"definitions reloaded"`)
	r := twofold(t, nil, aircraft...)
	require.Equal(t, exitUnavailable, r.code, r.stderr)
	require.Contains(t, r.stderr, `feature view "aircraft" has not been synced`)
	twofold(t, nil, weather...).ok(t)
	code, body := fetch(t, d.http, "/readyz")
	require.Equal(t, http.StatusOK, code, body)

	syncer := start(t, env, "sync")
	syncer.wait(t, `"msg":"synced","feature_view":"aircraft"`)
	require.Contains(t, twofold(t, nil, aircraft...).ok(t), "757-222")

	// The syncer takes a change too: the renamed view is carried, and the one that is gone is no longer a reason not to be ready.
	renamed := strings.ReplaceAll(strings.ReplaceAll(more, "name: aircraft\n    entity", "name: airframe\n    entity"), "aircraft:model", "airframe:model")
	twofold(t, env, "apply", "--allow-breaking", writeFile(t, "f.yaml", renamed)).ok(t)
	syncer.wait(t, `"msg":"synced","feature_view":"airframe"`)
	require.Eventually(t, func() bool { // the log tells it first
		code, _ := fetch(t, syncer.http, "/readyz")
		return code == http.StatusOK
	}, time.Minute, 10*time.Millisecond)
	_, metrics := fetch(t, syncer.http, "/metrics")
	require.Contains(t, metrics, `twofold_sync_last_success_timestamp_seconds{feature_view="airframe"}`)
	require.NotContains(t, metrics, `twofold_sync_last_success_timestamp_seconds{feature_view="aircraft"}`)
	require.Contains(t, d.wait(t, `"msg":"definitions: breaking change"`), `removed feature view \"aircraft\"`)
	syncer.stop(t, syscall.SIGINT)

	mark := d.logged()
	redis.Kill()
	d.waitAfter(t, mark, "the definitions cannot be looked at")
	redis.Restart(t)
	d.waitAfter(t, mark, "none are published in the online store")
	require.Equal(t, 1, strings.Count(d.log(), "the definitions cannot be looked at"))
	twofold(t, env, "apply", writeFile(t, "f.yaml", renamed)).ok(t)
	d.waitAfter(t, mark, "the definitions can be read again, and are as they were")
	require.Eventually(t, func() bool { // the log tells it first
		_, metrics := fetch(t, d.http, "/metrics")
		return strings.Contains(metrics, "\ntwofold_definitions_last_reload_successful 1\n")
	}, time.Minute, 10*time.Millisecond)
	d.stop(t, syscall.SIGTERM)
}

// TestDefinitionsInS3: lint, apply and serve read definitions from S3, and serve takes other objects there.
func TestDefinitionsInS3(t *testing.T) {
	s3 := testenv.S3(t)
	bucket := s3.Bucket(t)
	s3.Put(t, bucket, "defs/f.yaml", []byte(versionA))
	s3.Put(t, bucket, "defs/readme.txt", []byte("no definitions"))
	url := "s3://" + bucket + "/defs"
	env := append(reloading(t, url, "0.02"), "AWS_ENDPOINT_URL="+s3.Endpoint, "AWS_REGION="+s3.Region,
		"AWS_ACCESS_KEY_ID="+s3.AccessKey, "AWS_SECRET_ACCESS_KEY="+s3.SecretKey)
	require.Contains(t, twofold(t, env, "lint").ok(t), url+": 1 entity")
	require.Contains(t, twofold(t, env, "lint", url+"/f.yaml", "--offline").ok(t), "all well")
	require.Contains(t, twofold(t, env, "apply", "--dry-run", url).ok(t), `added feature view "weather"`)
	r := twofold(t, env, "lint", url+"/nowhere")
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, "there is no such file, and no .yaml or .yml file in a folder of that name")

	d := start(t, env, "serve")
	d.wait(t, `"msg":"ready"`)
	s3.Put(t, bucket, "defs/f.yaml", []byte(versionB))
	d.wait(t, `"msg":"definitions reloaded"`)
	ask := []string{"get", "model", "origin=EWR", "-o", "csv", "--server", d.grpc}
	want := "origin,weather:humid,weather:dewp,weather:temp\n"
	require.Contains(t, twofold(t, nil, ask...).ok(t), want)
	s3.Put(t, bucket, "defs/f.yaml", []byte("entities: ["))
	d.wait(t, url+"/f.yaml:1:")
	s3.Delete(t, bucket, "defs/f.yaml")
	d.wait(t, "there is no such file, and no .yaml or .yml file in a folder of that name")
	require.Contains(t, twofold(t, nil, ask...).ok(t), want)
	d.stop(t, syscall.SIGTERM)
}

// looks is a reloader over a file, which the test makes look.
type looks struct {
	*reloader
	path  string
	log   bytes.Buffer
	taken []string
	// fail is what taking fails with.
	fail error
}

func newLooks(t *testing.T, text string) *looks {
	l := &looks{path: writeFile(t, "f.yaml", text)}
	c := config.Defaults()
	p := &process{config: c, log: slog.New(slog.NewJSONHandler(&l.log, nil)), source: &definitionSource{path: l.path}}
	set, err := p.definitions(t.Context())
	require.NoError(t, err)
	l.reloader = p.newReloader(set, nil, prometheus.NewRegistry(), func(_ context.Context, set *definition.Set) error {
		if l.fail == nil {
			l.taken = append(l.taken, set.Hash())
		}
		return l.fail
	})
	return l
}

// valueOf returns the value of a counter or gauge.
func valueOf(t *testing.T, m prometheus.Metric) int {
	t.Helper()
	var out dto.Metric
	require.NoError(t, m.Write(&out))
	return int(out.GetCounter().GetValue() + out.GetGauge().GetValue())
}

// expect compares the counters, and the number of lines that the log has had since it was asked last.
func (l *looks) expect(t *testing.T, taken, successes, failures, healthy, lines int) {
	t.Helper()
	m := l.metrics
	got := []int{
		len(l.taken), valueOf(t, m.reloads.WithLabelValues("success")), valueOf(t, m.reloads.WithLabelValues("failure")),
		valueOf(t, m.last), strings.Count(l.log.String(), "\n"),
	}
	require.Equal(t, []int{taken, successes, failures, healthy, lines}, got, l.log.String())
	l.log.Reset()
}

func TestReloaderTakesWhatHasSettled(t *testing.T) {
	l := newLooks(t, versionA)
	require.True(t, l.look(t.Context(), false))
	l.expect(t, 0, 0, 0, 1, 0)
	swap(t, l.path, versionB)
	require.False(t, l.look(t.Context(), false), "seen once")
	swap(t, l.path, versionB+"# another\n")
	require.False(t, l.look(t.Context(), false), "another was seen once")
	l.expect(t, 0, 0, 0, 1, 0)
	require.True(t, l.look(t.Context(), false))
	l.expect(t, 1, 1, 0, 1, 3) // the ttl, the service, and that they were taken
	require.Equal(t, l.current.Hash(), l.taken[0])
	swap(t, l.path, versionA)
	require.True(t, l.look(t.Context(), true), "who asks does not wait")
	l.expect(t, 2, 2, 0, 1, 3)
	require.True(t, l.look(t.Context(), true))
	require.Contains(t, l.log.String(), "nothing is defined in another way")
	l.expect(t, 3, 3, 0, 1, 1)
}

func TestReloaderTellsOnce(t *testing.T) {
	l := newLooks(t, versionA)
	twice := func() {
		l.look(t.Context(), false)
		l.look(t.Context(), false)
	}
	swap(t, l.path, replace(versionA, "entity: airport", "entity: airprot"))
	twice()
	require.Contains(t, l.log.String(), l.path+":6:13: ")
	l.expect(t, 0, 0, 1, 0, 2) // that they were refused, and the problem
	twice()
	l.expect(t, 0, 0, 1, 0, 0)
	l.look(t.Context(), true)
	l.expect(t, 0, 0, 2, 0, 2)

	require.NoError(t, os.Rename(l.path, l.path+".away"))
	twice()
	require.Contains(t, l.log.String(), "there is no definition file or folder")
	l.expect(t, 0, 0, 3, 0, 1)
	require.NoError(t, os.Rename(l.path+".away", l.path))
	twice()
	l.expect(t, 0, 0, 3, 0, 1) // they can be read again, and are refused still

	swap(t, l.path, versionA)
	twice()
	l.expect(t, 1, 1, 3, 1, 1)

	l.fail = errors.New("cannot")
	swap(t, l.path, versionB)
	twice()
	require.Contains(t, l.log.String(), "cannot")
	l.expect(t, 1, 1, 4, 0, 1)

	many := "entities:\n" + strings.Repeat("  - {name: X, keys: [{name: k, type: STRING}]}\n", 3*maxLoggedLines)
	swap(t, l.path, many)
	twice()
	l.expect(t, 1, 1, 5, 0, maxLoggedLines+2)
}

// A store that is away is no change of the definitions, and is told of once however its error reads.
func TestReloaderOfStoreThatIsAway(t *testing.T) {
	l := newLooks(t, versionA)
	away := func(text string, asked bool) { l.unreadable(fault.New(fault.Unavailable, "%s", text), asked) }
	away("from port 1", false)
	away("from port 2", false)
	l.expect(t, 0, 0, 0, 1, 1)
	away("from port 3", true)
	l.expect(t, 0, 0, 1, 0, 1)
	l.look(t.Context(), false)
	l.expect(t, 0, 0, 1, 1, 1)
	var line struct{ Level, Msg string }
	away("from port 4", false)
	require.NoError(t, json.Unmarshal(l.log.Bytes(), &line))
	require.Equal(t, "WARN", line.Level)
}
