package main

import (
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/testenv"
)

// The tour that README promises, with the program as it is built: three requests, every answer compared with pandas'.
func TestDemoExit(t *testing.T) {
	if underRace {
		t.Skip("a year of flights takes minutes under the race detector; TestTrainFormats takes the same path with few rows")
	}
	out := twofold(t, []string{"ONLINE_STORE_REDIS=redis://nowhere.invalid", "TWOFOLD_DEFINITIONS=nowhere"}, "demo", "--exit", "--example", flights).ok(t)
	require.Contains(t, out, "ok 1 of 3: gRPC, by the server's own reflection: 75 values of 3 entities")
	require.Contains(t, out, "ok 2 of 3: twofold get: 3 entities")
	require.Contains(t, out, "ok 3 of 3: twofold train: 336776 rows, 29 feature columns")
}

func TestDemoRunsUntilStopped(t *testing.T) {
	env := []string{"TWOFOLD_GRPC_ADDRESS=127.0.0.1:0", "TWOFOLD_HTTP_ADDRESS=127.0.0.1:0", "TWOFOLD_LOG_FORMAT=json", "TWOFOLD_LOG_LEVEL=info"}
	d := start(t, env, "demo", "--example", flights)
	twofold(t, nil, "health", "--server", d.grpc).ok(t)
	d.stop(t, syscall.SIGINT)
}

func TestDemoWithoutExample(t *testing.T) {
	r := twofold(t, nil, "demo", "--example", t.TempDir())
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, "run this in a clone of the repository, or name its examples/flights with --example")
}

func TestServeGetStop(t *testing.T) {
	d := start(t, replay(t), "serve")
	require.Contains(t, d.log(), "using the embedded online store, because no Redis is configured")
	d.synced(t)
	d.wait(t, `"msg":"ready"`)
	twofold(t, nil, "health", "--server", d.grpc).ok(t)

	out := twofold(t, nil, "get", "departure_delay_v1", "origin=EWR", "carrier=UA", "tail_number=N514UA,N8894A,none", "-o", "json", "--server", d.grpc).ok(t)
	var answer answerJSON
	require.NoError(t, json.Unmarshal([]byte(out), &answer))
	require.Len(t, answer.Rows, 3)
	require.Equal(t, map[string]any{"origin": "EWR", "carrier": "UA", "tail_number": "N8894A"}, answer.Rows[1].Entity)
	require.InDelta(t, 35.06, answer.Rows[0].Features["weather:temp"], 0)
	require.Equal(t, "BOEING", answer.Rows[0].Features["aircraft:manufacturer"])
	require.Empty(t, answer.Rows[0].Status)
	require.Equal(t, "NULL", answer.Rows[1].Status["aircraft:year_built"])
	require.Equal(t, "EXPIRED", answer.Rows[1].Status["aircraft_delays:arrivals_7d"])
	require.Equal(t, "NOT_FOUND", answer.Rows[2].Status["aircraft:model"])
	require.Empty(t, answer.Rows[0].EventTimes)

	for path, want := range map[string]string{
		"/healthz": "ok", "/readyz": "ready", "/metrics": `twofold_sync_rows_total{feature_view="weather",outcome="written"} 3`,
	} {
		code, body := fetch(t, d.http, path)
		require.Equal(t, http.StatusOK, code, path)
		require.Contains(t, body, want, path)
	}

	table := twofold(t, nil, "get", "-f", "weather:temp,weather:wind_gust", "origin=EWR,XXX", "--event-times", "--server", d.grpc).ok(t)
	require.Regexp(t, `(?m)^weather:temp +35\.06 +\(NOT_FOUND\)$`, table)
	require.Regexp(t, `(?m)^weather \(event time\) +2013-12-30T20:52:00Z +\(none\)$`, table)
	stale := twofold(t, nil, "get", "-f", "weather:temp", "origin=EWR", "--max-staleness", "1m", "--server", d.grpc).ok(t)
	require.Regexp(t, `(?m)^weather:temp +\(EXPIRED\)$`, stale)
	long := twofold(t, nil, "get", "-f", "weather:temp", "origin=EWR,JFK,LGA,EWR,JFK,LGA,EWR", "--server", d.grpc).ok(t)
	require.Regexp(t, `(?m)^origin +weather:temp$`, long)
	csv := twofold(t, nil, "get", "-f", "weather:temp", "origin=EWR,XXX", "-o", "csv", "--event-times", "--server", d.grpc).ok(t)
	require.Equal(t, "origin,weather:temp,weather:event_timestamp\nEWR,35.06,2013-12-30T20:52:00Z\nXXX,,\n", csv)

	d.stop(t, syscall.SIGTERM)
}

func TestExplainAndCompletion(t *testing.T) {
	d := start(t, replay(t), "serve")
	list := twofold(t, nil, "explain", "--server", d.grpc).ok(t)
	require.Regexp(t, `(?m)^view +weather +9 features of airport, ttl 2h\. `, list)
	require.Regexp(t, `(?m)^service +departure_delay_v1 +Inputs of a model`, list)
	all := twofold(t, nil, "explain", "-o", "json", "--server", d.grpc).ok(t)
	require.Contains(t, all, `"name": "departure_delay_v1"`)
	require.Contains(t, twofold(t, nil, "explain", "view", "weather", "--server", d.grpc).ok(t), "weather")
	require.Contains(t, twofold(t, nil, "explain", "service", "departure_delay_v1", "-o", "json", "--server", d.grpc).ok(t), `"name": "weather:temp"`)
	r := twofold(t, nil, "explain", "view", "wether", "--server", d.grpc)
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, `did you mean "weather"?`)

	require.Contains(t, twofold(t, nil, "__complete", "get", "--server", d.grpc, "dep").ok(t), "departure_delay_v1\tInputs of a model")
	keys := twofold(t, nil, "__complete", "get", "--server", d.grpc, "departure_delay_v1", "origin=EWR", "").ok(t)
	require.Contains(t, keys, "carrier=\n")
	require.NotContains(t, keys, "origin=\n")
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		require.Contains(t, twofold(t, nil, "completion", shell).ok(t), "twofold")
	}
}

// A call that is under way when the process is told to stop finishes, and the process then exits 0.
func TestDrain(t *testing.T) {
	d := start(t, replay(t), "serve")
	conn, err := grpc.NewClient(d.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	stream, err := twofoldv1.NewFeatureServiceClient(conn).GetHistoricalFeatures(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(&twofoldv1.GetHistoricalFeaturesRequest{Message: &twofoldv1.GetHistoricalFeaturesRequest_Header{
		Header: &twofoldv1.HistoricalHeader{Features: []string{"weather:temp"}},
	}}))
	health, err := healthpb.NewHealthClient(conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	waitStatus(t, health, healthpb.HealthCheckResponse_SERVING)

	require.NoError(t, d.cmd.Process.Signal(syscall.SIGTERM))
	waitStatus(t, health, healthpb.HealthCheckResponse_NOT_SERVING)
	require.NoError(t, stream.Send(&twofoldv1.GetHistoricalFeaturesRequest{Message: &twofoldv1.GetHistoricalFeaturesRequest_EntityRows{
		EntityRows: &twofoldv1.EntityRows{Rows: &twofoldv1.EntityRows_Columns{Columns: &twofoldv1.ColumnBatch{Columns: []*twofoldv1.Column{
			client.Strings("origin", "EWR"), client.Timestamps("event_timestamp", parseTestTime(t, "2013-07-01T12:00:00Z")),
		}}}},
	}}))
	require.NoError(t, stream.CloseSend())
	manifest := false
	for {
		message, err := stream.Recv()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		manifest = message.GetManifest().GetRowCount() == 1
	}
	require.True(t, manifest)
	// The watch of the health is a call under way too; it ends with its caller.
	require.NoError(t, conn.Close())
	d.exits(t)
}

// A call that does not end is cut off after the drain timeout; the process exits 0 all the same.
func TestDrainTimeout(t *testing.T) {
	d := start(t, append(replay(t), "TWOFOLD_DRAIN_TIMEOUT=0.1"), "serve")
	conn, err := grpc.NewClient(d.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	stream, err := twofoldv1.NewFeatureServiceClient(conn).GetHistoricalFeatures(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(&twofoldv1.GetHistoricalFeaturesRequest{Message: &twofoldv1.GetHistoricalFeaturesRequest_Header{
		Header: &twofoldv1.HistoricalHeader{Features: []string{"weather:temp"}},
	}}))
	// Another call on the connection says that the server has taken the stream.
	_, err = healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	d.stop(t, syscall.SIGTERM)
	_, err = stream.Recv()
	require.Equal(t, codes.Unavailable, status.Code(err), err)
	require.Contains(t, d.log(), "cut off")
}

func waitStatus(t *testing.T, watch grpc.ServerStreamingClient[healthpb.HealthCheckResponse], want healthpb.HealthCheckResponse_ServingStatus) {
	t.Helper()
	for {
		r, err := watch.Recv()
		require.NoError(t, err)
		if r.GetStatus() == want {
			return
		}
	}
}

// Definitions are published in Redis, synced by one process and served by another; then Redis dies.
func TestRedis(t *testing.T) {
	redis := testenv.Redis(t)
	env := append(replay(t), "ONLINE_STORE_REDIS="+redis.URL)
	unpublished := without(env, "TWOFOLD_DEFINITIONS=")

	r := twofold(t, unpublished, "serve")
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, "publish some with `twofold apply --definitions FOLDER`, or name files with --definitions")

	require.Contains(t, twofold(t, env, "apply", "--dry-run").ok(t), `added feature view "weather"`)
	require.NotContains(t, twofold(t, env, "apply", "--dry-run").ok(t), "published")
	require.Contains(t, twofold(t, env, "apply").ok(t), "published in")
	require.Contains(t, twofold(t, env, "apply").ok(t), "nothing to do")

	require.Regexp(t, `^weather: read \d+ rows`, twofold(t, unpublished, "sync", "--once", "--view", "weather").ok(t))
	require.Regexp(t, `^weather: nothing new in 12 files`, twofold(t, unpublished, "sync", "--once", "--view", "weather").ok(t))
	require.Regexp(t, `0 written, 0 older, 3 unchanged`, twofold(t, unpublished, "sync", "--once", "--full", "--view", "weather").ok(t))

	syncer := start(t, unpublished, "sync")
	syncer.synced(t)
	twofold(t, nil, "health", "--url", "http://"+syncer.http+"/readyz").ok(t)
	code, metrics := fetch(t, syncer.http, "/metrics")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, metrics, `twofold_sync_failures_total{feature_view="aircraft"} 0`)

	server := start(t, unpublished, "serve")
	get := []string{"get", "departure_delay_v1", "origin=EWR", "carrier=UA", "tail_number=N514UA", "--server", server.grpc}
	require.Contains(t, twofold(t, nil, get...).ok(t), "757-222")
	require.NotContains(t, server.log(), `"msg":"synced"`, "with Redis, syncing is left to the syncer")

	killed := server.logged()
	redis.Kill()
	r = twofold(t, nil, get...)
	require.Equal(t, exitUnavailable, r.code, r.stderr)
	require.NotContains(t, r.out, "NOT_FOUND", "a fault never looks like an answer")
	server.wait(t, `"msg":"not ready"`)
	require.Equal(t, exitUnavailable, twofold(t, nil, "health", "--server", server.grpc).code)
	require.Equal(t, exitUnavailable, twofold(t, nil, "health", "--url", "http://"+server.http+"/readyz").code)
	r = twofold(t, env, "sync", "--once", "--view", "weather")
	require.Equal(t, exitUnavailable, r.code, r.stderr)
	r = twofold(t, unpublished, "serve")
	require.Equal(t, exitUnavailable, r.code, r.stderr)

	redis.Restart(t)
	// This Redis persists nothing: until the syncer, which notices, has filled it again, nobody is told NOT_FOUND.
	server.wait(t, `"reason":"not synced yet: `)
	server.waitAfter(t, killed, `"msg":"ready"`)
	require.Contains(t, twofold(t, nil, get...).ok(t), "757-222")
	server.stop(t, syscall.SIGTERM)
	syncer.stop(t, syscall.SIGINT)
}

// The same path with the offline store in S3.
func TestOfflineStoreInS3(t *testing.T) {
	s3 := testenv.S3(t)
	bucket := s3.Bucket(t)
	putFolder(t, s3, bucket, "lake/flights", filepath.Join(flights, "offline"))
	env := append(without(replay(t), "OFFLINE_STORE_PATH="), "OFFLINE_STORE_PATH=s3://"+bucket+"/lake/flights",
		"AWS_ENDPOINT_URL="+s3.Endpoint, "AWS_REGION="+s3.Region, "AWS_ACCESS_KEY_ID="+s3.AccessKey, "AWS_SECRET_ACCESS_KEY="+s3.SecretKey)
	require.Contains(t, twofold(t, env, "lint").ok(t), "all well")
	d := start(t, env, "serve")
	d.synced(t)
	require.Contains(t, twofold(t, nil, "get", "departure_delay_v1", "origin=EWR", "carrier=UA", "tail_number=N514UA", "--server", d.grpc).ok(t), "757-222")
	d.stop(t, syscall.SIGTERM)

	wrong := append(without(env, "AWS_SECRET_ACCESS_KEY="), "AWS_SECRET_ACCESS_KEY=wrong")
	r := twofold(t, wrong, "lint")
	require.Equal(t, exitFailure, r.code)
	require.NotContains(t, r.out+r.stderr, "wrong", "a secret is not repeated")
}

func TestPortsThatAreTaken(t *testing.T) {
	d := start(t, replay(t), "serve")
	env := append(replay(t), "TWOFOLD_GRPC_ADDRESS="+d.grpc)
	r := twofold(t, env, "serve")
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, "cannot listen on "+d.grpc+": address already in use; stop what uses it, or choose another with --grpc-address")
}

func TestEmbeddedStoreInUse(t *testing.T) {
	env := replay(t)
	start(t, env, "serve")
	r := twofold(t, env, "sync", "--once")
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, "another twofold process has the embedded store")
}
