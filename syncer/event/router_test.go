package event

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRouter(t *testing.T) {
	r := router(t, "clicks", "s3://b/clicks/", "all", "s3://b", "twice", "s3://b/clicks/*.parquet", "twice", "s3://b/**", "local", "/data/*.parquet", "one", "/data/x.parquet")
	for url, want := range map[string][]string{
		"s3://b/clicks/1.parquet": {"clicks", "all", "twice"},
		"s3://b/x/1.parquet":      {"all", "twice"},
		"s3://c/clicks/1.parquet": nil,
		"/data/x.parquet":         {"local", "one"},
		"/data/x/y.parquet":       nil,
	} {
		assert.Equal(t, want, r.Views(url), url)
	}
	assert.Equal(t, []string{"/data", "/data/x.parquet"}, r.localRoots())
	assert.Empty(t, NewRouter().Views("s3://b/x"))
}

func TestIntakeCountsWhatHasNoView(t *testing.T) {
	b := newBench(t, "v", "s3://b/v", "w", "s3://b/v/*.parquet")
	tickets := b.offer(sourceWebhook, Object{URL: "s3://b/v/1.parquet"}, Object{URL: "s3://b/other"}, Object{URL: "s3://b/v/2.parquet"})
	assert.Len(t, tickets, 4)
	assert.Equal(t, 2, b.events(t, sourceWebhook, outcomeRouted))
	assert.Equal(t, 1, b.events(t, sourceWebhook, outcomeNoView))
	for _, view := range []string{"v", "w"} {
		trigger, ok := b.queue.Take(view)
		require.True(t, ok)
		assert.Equal(t, 2, trigger.Objects)
		assert.Equal(t, sourceWebhook, trigger.First.Source)
		assert.False(t, trigger.First.At.IsZero())
	}
}

func TestIntakeReplace(t *testing.T) {
	b := newBench(t, "v", "s3://b/v", "gone", "s3://b/gone")
	kept, gone := b.offer(sourceKafka, Object{URL: "s3://b/v/1.parquet"}), b.offer(sourceKafka, Object{URL: "s3://b/gone/1.parquet"})
	_, replaced := b.current()
	b.Replace(router(t, "v", "s3://b/v", "new", "s3://b/new"))
	<-replaced
	assert.True(t, b.queue.isSettled(gone[0]))
	assert.False(t, b.queue.isSettled(kept[0]))
	assert.Len(t, b.offer(sourceKafka, Object{URL: "s3://b/new/1.parquet"}), 1)
	assert.Empty(t, b.offer(sourceKafka, Object{URL: "s3://b/gone/1.parquet"}))
}

func TestMetricsOfTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, "v", "s3://b/v", "w", "s3://b/*/w.parquet")
		assert.Zero(t, b.metric(t, "twofold_sync_event_queue_oldest_seconds"))
		b.offer(sourceWebhook, Object{URL: "s3://b/v/1.parquet"}, Object{URL: "s3://b/v/w.parquet"})
		after(90 * time.Second)
		assert.Equal(t, 2.0, b.metric(t, "twofold_sync_event_queue_views"))
		assert.Equal(t, 3.0, b.metric(t, "twofold_sync_event_queue_objects"))
		assert.Equal(t, 90.0, b.metric(t, "twofold_sync_event_queue_oldest_seconds"))
	})
}
