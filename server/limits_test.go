package server_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/server"
	"github.com/twofold-ml/twofold/server/servertest"
)

// wantLimit checks that a call was refused because of one limit, whether the caller is told to try again, and the field at fault.
func wantLimit(t *testing.T, err error, field, setting string, limit int64, retry bool) {
	t.Helper()
	wantError(t, err, codes.ResourceExhausted, field, fmt.Sprint(limit))
	var quota *errdetails.QuotaFailure_Violation
	retries := false
	for _, d := range status.Convert(err).Details() {
		switch d := d.(type) {
		case *errdetails.QuotaFailure:
			quota = d.GetViolations()[0]
		case *errdetails.RetryInfo:
			retries = d.GetRetryDelay().AsDuration() > 0
		}
	}
	if quota.GetQuotaId() != "limits."+setting || quota.GetQuotaValue() != limit || quota.GetDescription() == "" {
		t.Errorf("the details name the limit %v, want %s", quota, setting)
	}
	if retries != retry {
		t.Errorf("told to try again: %v, want %v", retries, retry)
	}
}

// TestOnlineLimits: a request past a limit is refused before the store is asked, and one just below it is answered.
func TestOnlineLimits(t *testing.T) {
	env, f := startFaulty(t, func(o *server.Options) {
		o.Limits = server.Limits{MaxRows: 300, MaxFeatures: 3, MaxValues: 500, MaxKeyBytes: 10, MaxListElements: 4, MaxMessageBytes: 4096}
	})
	var reads atomic.Int64
	f.onRead(func(context.Context) error {
		reads.Add(1)
		return nil
	})
	online := func(req *twofoldv1.GetOnlineFeaturesRequest) error {
		_, err := env.Client.Online(t.Context(), req)
		return err
	}
	named := func(names []string, columns ...*twofoldv1.Column) *twofoldv1.GetOnlineFeaturesRequest {
		return &twofoldv1.GetOnlineFeaturesRequest{Features: names, Entities: columns, OmitEntities: true}
	}
	items := func(n int) *twofoldv1.Column { return client.Strings("item_id", make([]string, n)...) }
	users := func(n int) *twofoldv1.Column { return client.Int64s("user_id", make([]int64, n)...) }
	lists := func(n uint32) *twofoldv1.Column {
		return &twofoldv1.Column{Name: "more", Values: &twofoldv1.Column_Lists{Lists: &twofoldv1.ListArray{
			Lengths: []uint32{n}, Elements: &twofoldv1.ListArray_Floats{Floats: &twofoldv1.FloatArray{Values: make([]float32, n)}},
		}}}
	}
	one, both := []string{"price:name"}, []string{"price:*"}
	four := []string{"price:name", "profile:age", "price:amount", "clicks:count"}
	timed := func(n int) *twofoldv1.GetOnlineFeaturesRequest {
		req := named(both, items(n))
		req.IncludeEventTimes = true
		return req
	}
	key := strings.Repeat("k", 11)
	for name, c := range map[string]struct {
		within, past   *twofoldv1.GetOnlineFeaturesRequest
		field, setting string
		limit          int64
	}{
		"rows":              {named(one, items(300)), named(one, items(301)), "entities[0]", "max_rows_per_request", 300},
		"rows of another":   {named(one, items(1)), named(one, items(1), users(301)), "entities[1]", "max_rows_per_request", 300},
		"features named":    {named(four[:3], users(1), items(1)), named(four, users(1), items(1)), "features", "max_features_per_request", 3},
		"features by *":     {named(both, items(1)), named([]string{"price:*", "profile:*"}, users(1), items(1)), "features", "max_features_per_request", 3},
		"features served":   {named(one, items(1)), &twofoldv1.GetOnlineFeaturesRequest{FeatureService: "ranking_v1", Entities: []*twofoldv1.Column{users(1), items(1)}}, "feature_service", "max_features_per_request", 3},
		"columns":           {named(one, items(1), users(1), lists(1)), named(one, items(1), users(1), lists(1), client.Bools("x", true)), "entities", "max_features_per_request", 3},
		"values":            {named(both, items(250)), named(both, items(251)), "entities", "max_values_per_request", 500},
		"key":               {named(one, client.Strings("item_id", "a", key[1:])), named(one, client.Strings("item_id", "a", key)), "entities[0].strings.values[1]", "max_key_bytes", 10},
		"key of bytes":      {named(one, items(1), client.Bytes("x", []byte(key))), named(one, client.Bytes("item_id", []byte(key))), "entities[0].binaries.values[0]", "max_key_bytes", 10},
		"list":              {named(one, items(1), lists(4)), named(one, items(1), lists(5)), "entities[1].lists.lengths[0]", "max_list_elements", 4},
		"bytes known ahead": {timed(150), timed(210), "entities", "max_message_bytes", 4096},
	} {
		t.Run(name, func(t *testing.T) {
			if err := online(c.within); err != nil {
				t.Errorf("within the limit: %v", err)
			}
			before := reads.Load()
			wantLimit(t, online(c.past), c.field, c.setting, c.limit, false)
			if reads.Load() != before {
				t.Error("the store was asked")
			}
		})
	}
	_, body := get(t, env, "/metrics")
	for _, line := range []string{`twofold_refused_requests_total{limit="max_key_bytes"} 2`, `twofold_refused_requests_total{limit="max_features_per_request"} 4`} {
		if !strings.Contains(body, line) {
			t.Errorf("/metrics lacks %s", line)
		}
	}
}

func TestPushLimits(t *testing.T) {
	env := start(t, func(c *servertest.Config) {
		c.Change = func(o *server.Options) { o.MaxRows, o.MaxValues, o.MaxKeyBytes = 3, 8, 10 }
	})
	rows := func(users ...int64) *twofoldv1.PushFeaturesRequest {
		req := &twofoldv1.PushFeaturesRequest{FeatureView: "profile", Columns: []*twofoldv1.Column{client.Int64s("user_id", users...)}}
		times, ages, names := make([]time.Time, len(users)), make([]int32, len(users)), make([]string, len(users))
		for i := range times {
			times[i] = now
		}
		req.Columns = append(req.Columns, client.Timestamps("event_timestamp", times...), client.Int32s("age", ages...), client.Strings("name", names...))
		return req
	}
	if resp, err := env.Client.Push(t.Context(), rows(1, 2)); err != nil || resp.GetRowsWritten() != 2 {
		t.Errorf("as many rows as may be: %v, %v", resp, err)
	}
	push := func(req *twofoldv1.PushFeaturesRequest) error {
		_, err := env.Client.Push(t.Context(), req)
		return err
	}
	wantLimit(t, push(rows(3, 4, 5, 6)), "columns[0]", "max_rows_per_request", 3, false)
	wantLimit(t, push(rows(3, 4, 5)), "columns", "max_values_per_request", 8, false)
	if got := age(t, env, 4); got != "NOT_FOUND" {
		t.Errorf("a refused push was stored: age %s", got)
	}
	deletions := rows(3)
	deletions.Tombstones = make([]bool, 4)
	wantLimit(t, push(deletions), "tombstones", "max_rows_per_request", 3, false)
	wantLimit(t, push(&twofoldv1.PushFeaturesRequest{FeatureView: "price", Columns: []*twofoldv1.Column{client.Strings("item_id", strings.Repeat("k", 11))}}),
		"columns[0].strings.values[0]", "max_key_bytes", 10, false)
}

// held is a store whose reads and writes wait while it is told to hold them.
type held struct {
	driver.Driver
	holding          atomic.Bool
	arrived, release chan struct{}
}

func (h *held) Read(ctx context.Context, reads []driver.Read) ([][]byte, error) {
	h.wait()
	return h.Driver.Read(ctx, reads)
}

func (h *held) Write(ctx context.Context, rows []driver.Row) ([]driver.Outcome, error) {
	h.wait()
	return h.Driver.Write(ctx, rows)
}

func (h *held) wait() {
	if h.holding.Load() {
		h.arrived <- struct{}{}
		<-h.release
	}
}

// TestCallsAtOnce: a call past a limit on calls at once is refused at once and told to try again; what has no limit goes on.
func TestCallsAtOnce(t *testing.T) {
	h := &held{Driver: servertest.Memory(t), arrived: make(chan struct{}), release: make(chan struct{})}
	env := start(t, func(c *servertest.Config) {
		c.Online = h
		c.Change = func(o *server.Options) {
			o.MaxConcurrentOnline, o.MaxConcurrentPushes, o.MaxConcurrentHistorical, o.MaxOnlineStreams = 2, 1, 1, 1
		}
	})
	h.holding.Store(true)
	release := sync.OnceFunc(func() {
		h.holding.Store(false)
		close(h.release)
	})
	t.Cleanup(release)
	var calls sync.WaitGroup
	background := func(call func() error) {
		calls.Go(func() {
			if err := call(); err != nil {
				t.Error(err)
			}
		})
		<-h.arrived
	}
	online := func() error {
		_, err := readPrice(t.Context(), env)
		return err
	}
	push := func() error {
		_, err := env.Client.Push(t.Context(), profile(1, time.Minute, 40))
		return err
	}
	stream := rawOnline(t.Context(), t, env)
	ask(t, stream, 1, priceRequest("a"))
	<-h.arrived
	background(online)
	background(push)
	historical := rawStream(t, env)
	send(t, historical, &twofoldv1.GetHistoricalFeaturesRequest{Message: &twofoldv1.GetHistoricalFeaturesRequest_Header{
		Header: &twofoldv1.HistoricalHeader{Features: []string{"price:name"}},
	}})
	await(t, "all calls are under way", func() bool {
		_, body := get(t, env, "/metrics")
		for _, line := range []string{`{kind="online"} 2`, `{kind="online_stream"} 1`, `{kind="push"} 1`, `{kind="historical"} 1`} {
			if !strings.Contains(body, "twofold_calls_in_flight"+line) {
				return false
			}
		}
		return true
	})

	wantLimit(t, online(), "", "max_concurrent_online", 2, true)
	ask(t, stream, 2, priceRequest("a"))
	wantLimit(t, status.ErrorProto(answer(t, stream).GetError()), "", "max_concurrent_online", 2, true)
	wantLimit(t, push(), "", "max_concurrent_pushes", 1, true)
	_, err := rawOnline(t.Context(), t, env).Recv()
	wantLimit(t, err, "", "max_online_streams", 1, true)
	_, err = rawStream(t, env).Recv()
	wantLimit(t, err, "", "max_concurrent_historical", 1, true)
	if _, err := env.Client.Registry().ListEntities(t.Context(), &twofoldv1.ListEntitiesRequest{}); err != nil {
		t.Errorf("the registry: %v", err)
	}
	if code, _ := get(t, env, "/healthz"); code != 200 {
		t.Errorf("/healthz: %d", code)
	}

	release()
	calls.Wait()
	if a := answer(t, stream); a.GetRequestId() != 1 || a.GetResponse() == nil {
		t.Errorf("what was under way: %v", a)
	}
	if err := online(); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if err := push(); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// crowd is a store that counts the most reads at once.
type crowd struct {
	driver.Driver
	inside, most atomic.Int64
}

func (c *crowd) Read(ctx context.Context, reads []driver.Read) ([][]byte, error) {
	n := c.inside.Add(1)
	defer c.inside.Add(-1)
	for {
		most := c.most.Load()
		if n <= most || c.most.CompareAndSwap(most, n) {
			break
		}
	}
	for range 100 { // so that others come meanwhile
		runtime.Gosched()
	}
	return c.Driver.Read(ctx, reads)
}

// TestCrowd: of many requests at once, by calls and by streams, no more than the limit reach the store, each is answered or refused, and none
// takes up room afterwards.
func TestCrowd(t *testing.T) {
	const limit, callers, each = 3, 16, 60
	store := &crowd{Driver: servertest.Memory(t)}
	env := start(t, func(c *servertest.Config) {
		c.Online = store
		c.Change = func(o *server.Options) { o.MaxConcurrentOnline = limit }
	})
	var answered, refused atomic.Int64
	stream := env.Client.OnlineStream(t.Context())
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			for range each {
				var err error
				if caller%2 == 0 {
					_, err = readPrice(t.Context(), env)
				} else {
					_, err = stream.Online(t.Context(), priceRequest("a", "b"))
				}
				switch status.Code(err) {
				case codes.OK:
					answered.Add(1)
				case codes.ResourceExhausted:
					refused.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if most := store.most.Load(); most > limit {
		t.Errorf("%d reads at once", most)
	}
	t.Logf("%d answered, %d refused", answered.Load(), refused.Load())
	if answered.Load()+refused.Load() != callers*each || answered.Load() == 0 {
		t.Errorf("%d answered and %d refused", answered.Load(), refused.Load())
	}
	for range limit { // one after the other: as much room as ever
		if _, err := readPrice(t.Context(), env); err != nil {
			t.Error(err)
		}
	}
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
}

// TestHistoricalFeatureLimit: a training set has the limit on features, too.
func TestHistoricalFeatureLimit(t *testing.T) {
	env := start(t, func(c *servertest.Config) { c.Change = func(o *server.Options) { o.MaxFeatures = 2 } })
	stream := rawStream(t, env)
	send(t, stream, &twofoldv1.GetHistoricalFeaturesRequest{Message: &twofoldv1.GetHistoricalFeaturesRequest_Header{
		Header: &twofoldv1.HistoricalHeader{Features: []string{"price:name", "price:amount", "profile:age"}},
	}})
	_, err := stream.Recv()
	wantLimit(t, err, "header.features", "max_features_per_request", 2, false)
}
