package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/testenv"
	"github.com/twofold-ml/twofold/server/servertest"
)

// eventViews are definitions of some views, each of the files in a folder of its name, that are otherwise synced once an hour.
func eventViews(names ...string) string {
	text := "entities: [{name: user, keys: [{name: user_id, type: INT64}]}]\nfeature_views:\n"
	for _, name := range names {
		text += fmt.Sprintf("  - {name: %[1]s, entity: user, source: {path: %[1]s/, event_time_column: at}, sync: {interval: 1h}, features: [{name: x, type: INT64}]}\n", name)
	}
	return text
}

// userFile writes a file with a row of one user.
func userFile(t *testing.T, path string, user int64) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	part := filepath.Join(filepath.Dir(path), ".part") // so that the file is there at once, and tells of itself once
	new(servertest.Table).Add("user_id", feature.Int64, user).Add("at", feature.Timestamp, time.Now().Add(-time.Minute).UnixMicro()).Add("x", feature.Int64, user).WriteParquet(t, part)
	require.NoError(t, os.Rename(part, path))
}

// eventsEnv is the environment of a syncer that takes events soon.
func eventsEnv(t *testing.T, offline, definitions string, more ...string) []string {
	return append([]string{
		"TWOFOLD_DEFINITIONS=" + definitions, "TWOFOLD_DEFINITIONS_RELOAD_INTERVAL=50ms", "OFFLINE_STORE_PATH=" + offline, "TWOFOLD_ONLINE_STORE_PATH=" + t.TempDir(),
		"TWOFOLD_GRPC_ADDRESS=127.0.0.1:0", "TWOFOLD_HTTP_ADDRESS=127.0.0.1:0", "TWOFOLD_LOG_FORMAT=json", "TWOFOLD_EVENTS_DEBOUNCE=50ms",
	}, more...)
}

// ran waits for a run of a view that began after that many lines of the log, for a reason, and returns its line.
func (d *daemon) ran(t *testing.T, first int, view, trigger string) string {
	t.Helper()
	for {
		line := d.waitAfter(t, first, `"msg":"synced","feature_view":"`+view+`"`)
		if strings.Contains(line, `"trigger":"SYNC_TRIGGER_`+trigger+`"`) {
			return line
		}
		for first++; ; first++ { // past that line
			d.mu.Lock()
			past := d.lines[first-1] == line
			d.mu.Unlock()
			if past {
				break
			}
		}
	}
}

// runs asks a process for the runs of a view, the latest first.
func runs(t *testing.T, d *daemon, view string) []*twofoldv1.SyncRun {
	t.Helper()
	c, err := client.Dial(d.grpc)
	require.NoError(t, err)
	defer c.Close()
	listed, err := c.Sync().ListSyncRuns(t.Context(), &twofoldv1.ListSyncRunsRequest{FeatureViews: []string{view}})
	require.NoError(t, err)
	return listed.GetRuns()
}

// TestFolderEvents: a file that is put into a watched folder has its view synced, and no other; so has one of a view that a reload has brought.
func TestFolderEvents(t *testing.T) {
	for _, command := range []string{"sync", "serve"} {
		t.Run(command, func(t *testing.T) {
			lake, definitions := t.TempDir(), writeFile(t, "f.yaml", eventViews("a", "b"))
			userFile(t, filepath.Join(lake, "a", "1.parquet"), 1)
			userFile(t, filepath.Join(lake, "b", "1.parquet"), 1)
			d := start(t, eventsEnv(t, lake, definitions, "TWOFOLD_EVENTS_FOLDERS_ENABLED=true", "TWOFOLD_EVENTS_FOLDERS_SETTLE=50ms"), command)
			d.ran(t, 0, "a", "START")
			d.ran(t, 0, "b", "START")
			before := d.logged()
			userFile(t, filepath.Join(lake, "a", "2.parquet"), 2)
			line := d.ran(t, before, "a", "EVENT")
			require.Contains(t, line, `"files_read":1,"files_unchanged":1`)
			require.Contains(t, line, `"written":1`)
			last := runs(t, d, "a")[0]
			require.Equal(t, twofoldv1.SyncTrigger_SYNC_TRIGGER_EVENT, last.GetTrigger())
			require.Equal(t, "folder: "+filepath.Join(lake, "a", "2.parquet")+" came", last.GetCause())
			require.Len(t, runs(t, d, "b"), 1)
			require.Contains(t, twofold(t, nil, "status", "a", "--runs", "1", "--server", d.grpc).ok(t), "  event (folder: "+filepath.Join(lake, "a", "2.parquet")+" came)  ")

			userFile(t, filepath.Join(lake, "c", "1.parquet"), 1)
			require.NoError(t, os.WriteFile(definitions, []byte(eventViews("a", "b", "c")), 0o600))
			d.ran(t, before, "c", "DEFINITIONS")
			userFile(t, filepath.Join(lake, "c", "2.parquet"), 2)
			d.ran(t, before, "c", "EVENT")
			_, metrics := fetch(t, d.http, "/metrics")
			require.Contains(t, metrics, `twofold_sync_events_total{outcome="routed",source="folder"} 2`)
			require.Contains(t, metrics, "twofold_sync_event_queue_objects 0")
			d.stop(t, syscall.SIGTERM)
			require.NotContains(t, d.log(), `"level":"ERROR"`)
		})
	}
}

// s3Note is an event notification as versitygw sends it.
func s3Note(bucket, key string) string {
	return fmt.Sprintf(`{"Records":[{"eventVersion":"2.2","eventSource":"aws:s3","awsRegion":"","eventTime":"2026-01-02T03:04:05Z","eventName":"s3:ObjectCreated:Put",`+
		`"s3":{"s3SchemaVersion":"1.0","configurationId":"webhook-global","bucket":{"name":%q},"object":{"key":%q,"size":1}}}]}`, bucket, key)
}

// lake is a bucket with files of the views a and b.
func eventBucket(t *testing.T) (s3 *testenv.S3Server, bucket string, put func(key string, user int64), env []string) {
	t.Helper()
	s3 = testenv.S3(t)
	bucket = s3.Bucket(t)
	put = func(key string, user int64) {
		path := filepath.Join(t.TempDir(), "x.parquet")
		userFile(t, path, user)
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		s3.Put(t, bucket, key, data)
	}
	put("a/1.parquet", 1)
	put("b/1.parquet", 1)
	env = eventsEnv(t, "s3://"+bucket, writeFile(t, "f.yaml", eventViews("a", "b")), "AWS_ENDPOINT_URL="+s3.Endpoint, "AWS_REGION="+s3.Region,
		"AWS_ACCESS_KEY_ID="+s3.AccessKey, "AWS_SECRET_ACCESS_KEY="+s3.SecretKey)
	return s3, bucket, put, env
}

// TestWebhookEvents: a notification has the view synced that it concerns, and only with the secret, which is told to nobody.
func TestWebhookEvents(t *testing.T) {
	_, bucket, put, env := eventBucket(t)
	env = append(env, "TWOFOLD_EVENTS_WEBHOOK_SECRET=opensesame", "TWOFOLD_EVENTS_WEBHOOK_PATH=/s3/events", "TWOFOLD_LOG_LEVEL=debug")
	d := start(t, env, "sync")
	d.ran(t, 0, "a", "START")
	d.ran(t, 0, "b", "START")
	post := func(secret, body string) int {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+d.http+"/s3/events", strings.NewReader(body))
		require.NoError(t, err)
		request.Header.Set("Authorization", "Bearer "+secret)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}
	put("b/2.parquet", 2)
	require.Equal(t, http.StatusUnauthorized, post("sesame", s3Note(bucket, "a/2.parquet")))
	require.Equal(t, http.StatusRequestEntityTooLarge, post("opensesame", strings.Repeat(" ", 1<<20+1)))
	require.Equal(t, http.StatusOK, post("opensesame", s3Note(bucket, "elsewhere/2.parquet")))
	require.Equal(t, http.StatusOK, post("opensesame", s3Note(bucket, "b/2.parquet")))
	require.Contains(t, d.ran(t, 0, "b", "EVENT"), `"written":1`)
	require.Len(t, runs(t, d, "a"), 1)
	d.stop(t, syscall.SIGTERM)
	require.NotContains(t, d.log(), "opensesame")

	config := twofold(t, env, "config").ok(t)
	require.NotContains(t, config, "opensesame")
	require.Regexp(t, `webhook\.secret: +['"]?\*\*\*`, config)
}

// TestKafkaEvents takes notifications from a topic; TestKafkaEventsOfARealBroker does so from Apache Kafka itself.
func TestKafkaEvents(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "s3-events"))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	testKafkaEvents(t, cluster.ListenAddrs()[0])
}

func TestKafkaEventsOfARealBroker(t *testing.T) {
	testKafkaEvents(t, testenv.Kafka(t).Addr)
}

func testKafkaEvents(t *testing.T, broker string) {
	_, bucket, put, env := eventBucket(t)
	kafka, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.DefaultProduceTopic("s3-events"))
	require.NoError(t, err)
	t.Cleanup(kafka.Close)
	admin := kadm.NewClient(kafka)
	topics, err := admin.ListTopics(t.Context(), "s3-events")
	require.NoError(t, err)
	if !topics.Has("s3-events") {
		_, err = admin.CreateTopic(t.Context(), 1, 1, nil, "s3-events")
		require.NoError(t, err)
	}
	d := start(t, append(env, "TWOFOLD_EVENTS_KAFKA_BROKERS="+broker, "TWOFOLD_EVENTS_KAFKA_TOPIC=s3-events", "TWOFOLD_EVENTS_KAFKA_GROUP=ours"), "sync")
	d.ran(t, 0, "a", "START")
	d.ran(t, 0, "b", "START")
	put("a/2.parquet", 2)
	require.NoError(t, kafka.ProduceSync(t.Context(), kgo.StringRecord(s3Note(bucket, "a/2.parquet"))).FirstErr())
	require.Contains(t, d.ran(t, 0, "a", "EVENT"), `"written":1`)
	require.Len(t, runs(t, d, "b"), 1)
	for begun := time.Now(); ; <-time.After(10 * time.Millisecond) {
		offsets, err := admin.FetchOffsets(t.Context(), "ours")
		require.NoError(t, err)
		if at, ok := offsets.Lookup("s3-events", 0); ok && at.At == 1 {
			break
		}
		require.Less(t, time.Since(begun), time.Minute, "the offset is not committed")
	}
	d.stop(t, syscall.SIGTERM)
	require.NotContains(t, d.log(), `"level":"ERROR"`)
}

// Sources that cannot be are told of at the start, by the setting that is wrong.
func TestEventSettingsThatCannotBe(t *testing.T) {
	definitions := writeFile(t, "f.yaml", eventViews("a"))
	kafka := []string{"TWOFOLD_EVENTS_KAFKA_BROKERS=127.0.0.1:1", "TWOFOLD_EVENTS_KAFKA_TOPIC=t"}
	for want, env := range map[string][]string{
		"events.kafka.tls_ca_file: open nowhere.pem":                append(kafka, "TWOFOLD_EVENTS_KAFKA_TLS_CA_FILE=nowhere.pem"),
		"has no certificate in PEM":                                 append(kafka, "TWOFOLD_EVENTS_KAFKA_TLS_CA_FILE="+definitions),
		"events.kafka.tls_cert_file, tls_key_file: open no.crt":     append(kafka, "TWOFOLD_EVENTS_KAFKA_TLS_CERT_FILE=no.crt", "TWOFOLD_EVENTS_KAFKA_TLS_KEY_FILE=no.key"),
		`"/metrics" is taken; write another path, for example /eve`: {"TWOFOLD_EVENTS_WEBHOOK_PATH=/metrics"},
	} {
		r := twofold(t, eventsEnv(t, t.TempDir(), definitions, env...), "sync")
		require.Equal(t, exitUsage, r.code, r.stderr)
		require.Contains(t, r.stderr, want)
	}
}
