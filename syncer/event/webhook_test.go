package event

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/testenv"
)

// post gives the answer of a webhook.
func post(h http.Handler, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/events", strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestWebhook(t *testing.T) {
	b := newBench(t, "v", "s3://b/v")
	h := NewWebhook(WebhookOptions{Intake: b.Intake})
	w := post(h, awsPut)
	assert.Equal(t, http.StatusOK, w.Code)
	assert.Equal(t, "1 events taken, 0 ignored\n", w.Body.String())
	trigger := b.next(t)
	assert.Equal(t, "v", trigger.View)
	assert.Equal(t, "s3://b/v/day=1/a b+c.parquet", trigger.First.URL)
	assert.Equal(t, at("1970-01-01T00:00:01Z"), trigger.First.At)
	assert.Equal(t, sourceWebhook, trigger.First.Source)
	b.queue.Done(trigger, nil)

	assert.Equal(t, http.StatusOK, post(h, awsTest).Code)
	assert.Equal(t, http.StatusOK, post(h, record1("ObjectCreated:Put", "other", "k")).Code)
	assert.Equal(t, 1, b.events(t, sourceWebhook, outcomeRouted))
	assert.Equal(t, 1, b.events(t, sourceWebhook, outcomeIgnored))
	assert.Equal(t, 1, b.events(t, sourceWebhook, outcomeNoView))
}

func TestWebhookBadBodies(t *testing.T) {
	b := newBench(t, "v", "s3://b/v")
	h := NewWebhook(WebhookOptions{Intake: b.Intake, MaxBodyBytes: 2000})
	w := post(h, "hello")
	assert.Equal(t, http.StatusBadRequest, w.Code)
	assert.Contains(t, w.Body.String(), "not a JSON object")
	w = post(h, "[{},"+versitygw+"]")
	assert.Equal(t, http.StatusBadRequest, w.Code)
	assert.Equal(t, 1, b.next(t).Objects, "what can be read is not lost")
	w = post(h, strings.Repeat(" ", 2001))
	assert.Equal(t, http.StatusRequestEntityTooLarge, w.Code)
	assert.Contains(t, w.Body.String(), "2000 bytes")
	r := httptest.NewRequest(http.MethodPost, "/", io.MultiReader(strings.NewReader("{"), errorReader{}))
	broken := httptest.NewRecorder()
	h.ServeHTTP(broken, r)
	assert.Equal(t, http.StatusBadRequest, broken.Code)
	assert.Equal(t, 4, b.events(t, sourceWebhook, outcomeBad))
	assert.Contains(t, b.log.String(), "none of the fields")

	get := httptest.NewRecorder()
	h.ServeHTTP(get, httptest.NewRequest(http.MethodGet, "/", nil))
	assert.Equal(t, http.StatusMethodNotAllowed, get.Code)
	assert.Equal(t, http.MethodPost, get.Header().Get("Allow"))
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestWebhookSecret(t *testing.T) {
	b := newBench(t, "v", "s3://b/v")
	h := NewWebhook(WebhookOptions{Intake: b.Intake, Secret: "opensesame"})
	for _, header := range []string{"", "Bearer", "Bearer ", "Bearer opensesam", "Bearer opensesame2", "opensesame", "Basic opensesame", "Basic b3BlbnNlc2FtZTo="} {
		w := post(h, awsPut, "Authorization", header)
		assert.Equal(t, http.StatusUnauthorized, w.Code, header)
		assert.Equal(t, []string{`Bearer realm="twofold events"`, `Basic realm="twofold events"`}, w.Header().Values("WWW-Authenticate"))
	}
	assert.Zero(t, b.events(t, sourceWebhook, outcomeRouted))
	assert.NotContains(t, b.log.String(), "opensesame")
	assert.Equal(t, http.StatusOK, post(h, awsPut, "Authorization", "bearer  opensesame").Code)
	assert.Equal(t, http.StatusOK, post(h, awsPut, "Authorization", "Basic dHdvZm9sZDpvcGVuc2VzYW1l").Code)
}

func TestWebhookSubscription(t *testing.T) {
	b := newBench(t)
	w := post(NewWebhook(WebhookOptions{Intake: b.Intake}), snsConfirm, "Content-Type", "text/plain; charset=UTF-8")
	assert.Equal(t, http.StatusOK, w.Code)
	assert.Contains(t, b.log.String(), "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&Token=2")
}

// TestWebhookOfVersitygw takes what a real S3 service sends. It sends keys as they are, where S3 itself encodes them.
func TestWebhookOfVersitygw(t *testing.T) {
	b := newBench(t)
	server := httptest.NewServer(NewWebhook(WebhookOptions{Intake: b.Intake, Secret: "opensesame"}))
	defer server.Close()
	t.Setenv("VGW_EVENT_WEBHOOK_URL", strings.Replace(server.URL, "//", "//twofold:opensesame@", 1))
	s3 := testenv.S3(t)
	bucket := s3.Bucket(t)
	for i, key := range []string{"v/1.parquet", "v/day=1/a b.parquet", "v/a+b.parquet", "v/a%2Bb%20c.parquet", "v/ü&?#.parquet"} {
		// The one file of this name, in letters that are in no pattern.
		b.Replace(router(t, "v", "s3://"+bucket+"/"+strings.ReplaceAll(key, "?", "[?]")))
		s3.Put(t, bucket, key, []byte("x"))
		trigger := b.next(t)
		assert.False(t, trigger.Last.Removed, key)
		b.queue.Done(trigger, nil)
		s3.Delete(t, bucket, key)
		trigger = b.next(t)
		assert.True(t, trigger.Last.Removed, key)
		b.queue.Done(trigger, nil)
		assert.Equal(t, 2*(i+1), b.events(t, sourceWebhook, outcomeRouted))
	}
	assert.Zero(t, b.events(t, sourceWebhook, outcomeBad))
	assert.Equal(t, 1, b.events(t, sourceWebhook, outcomeIgnored), "the event that is sent at its start, to try")
}

// TestWebhookAnswersWhenEventsAreQueued posts from many goroutines while runs are under way: each event that was answered has been in a run that
// began after it, once all is done.
func TestWebhookAnswersWhenEventsAreQueued(t *testing.T) {
	b := newBench(t, "v", "s3://b/v")
	server := httptest.NewServer(NewWebhook(WebhookOptions{Intake: b.Intake}))
	defer server.Close()
	const senders, each = 4, 50
	sent := make(chan error)
	for i := range senders {
		go func() {
			for k := range each {
				response, err := http.Post(server.URL, "application/json", strings.NewReader(record1("ObjectCreated:Put", "b", fmt.Sprintf("v/%d-%d.parquet", i, k))))
				if err == nil {
					response.Body.Close()
				}
				if err != nil || response.StatusCode != http.StatusOK {
					sent <- fmt.Errorf("%v %v", response, err)
					return
				}
			}
			sent <- nil
		}()
	}
	ctx, cancel := context.WithCancel(t.Context())
	carried := make(chan int)
	go func() {
		n := 0
		for {
			trigger, err := b.queue.Next(ctx)
			if err != nil {
				carried <- n
				return
			}
			n += trigger.Objects
			b.queue.Done(trigger, nil)
		}
	}()
	for range senders {
		require.NoError(t, <-sent)
	}
	eventually(t, func() bool { _, objects, _ := b.queue.stats(); return objects == 0 }, "an empty queue")
	cancel()
	assert.Equal(t, senders*each, <-carried)
}
