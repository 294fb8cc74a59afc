package server_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/server"
	"github.com/twofold-ml/twofold/server/servertest"
)

// noStreamGoroutines waits until no goroutine runs code of a stream, on either side.
func noStreamGoroutines(t *testing.T) {
	t.Helper()
	await(t, "no goroutine of a stream is left", func() bool {
		buffer := make([]byte, 4<<20)
		all := string(buffer[:runtime.Stack(buffer, true)])
		return !strings.Contains(all, "server.(*streamCall)") && !strings.Contains(all, "client.(*onlineCall)")
	})
}

type rawOnlineStream = grpc.BidiStreamingClient[twofoldv1.StreamOnlineFeaturesRequest, twofoldv1.StreamOnlineFeaturesResponse]

// rawOnline opens a stream as a client in any language would, on a connection with small windows, so that little is in flight on the wire.
func rawOnline(ctx context.Context, t *testing.T, env *servertest.Env) rawOnlineStream {
	t.Helper()
	conn, err := grpc.NewClient(env.GRPCAddress, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // nothing is lost with it
	stream, err := twofoldv1.NewFeatureServiceClient(conn).StreamOnlineFeatures(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func priceRequest(items ...string) *twofoldv1.GetOnlineFeaturesRequest {
	return &twofoldv1.GetOnlineFeaturesRequest{Features: []string{"price:name"}, Entities: []*twofoldv1.Column{client.Strings("item_id", items...)}}
}

func ask(t *testing.T, stream rawOnlineStream, id uint64, req *twofoldv1.GetOnlineFeaturesRequest) {
	t.Helper()
	if err := stream.Send(&twofoldv1.StreamOnlineFeaturesRequest{RequestId: id, Request: req}); err != nil {
		t.Fatal(err)
	}
}

func answer(t *testing.T, stream rawOnlineStream) *twofoldv1.StreamOnlineFeaturesResponse {
	t.Helper()
	a, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// randomRequest is a request of any kind, about every third wrong in some way.
func randomRequest(r *rand.Rand) *twofoldv1.GetOnlineFeaturesRequest {
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	users, items := make([]int64, r.IntN(8)), []string{}
	for i := range users {
		users[i] = int64(r.IntN(5))
		items = append(items, pick("a", "b", "zzz", "", "é\x00"))
	}
	req := &twofoldv1.GetOnlineFeaturesRequest{
		IncludeEventTimes: r.IntN(2) == 0, OmitEntities: r.IntN(2) == 0,
		Entities: []*twofoldv1.Column{client.Int64s("user_id", users...), client.Strings("item_id", items...)},
	}
	if r.IntN(2) == 0 {
		req.FeatureService = "ranking_v1"
	} else {
		req.Features = []string{pick("price:name", "price:*", "profile:age"), pick("clicks:count", "profile:name")}
	}
	if r.IntN(3) > 0 {
		return req
	}
	switch r.IntN(8) {
	case 0:
		req.Features, req.FeatureService = []string{pick("price:nam", "prices:name", "price", "profile:notes")}, ""
	case 1:
		req.FeatureService = "rankin_v1"
	case 2:
		req.Entities = req.Entities[:1]
		req.Entities[0].Name = "userid"
	case 3:
		req.MaxStaleness = durationpb.New(time.Duration(-r.IntN(2)))
	case 4:
		req.Entities = []*twofoldv1.Column{client.Int64s("user_id", make([]int64, 20)...), client.Strings("item_id", make([]string, 20)...)}
	case 5:
		req.Entities[1] = client.Strings("item_id", append(items, "uneven")...)
	case 6:
		req.Entities[1] = client.Strings("item_id", strings.Repeat("k", 200))
	case 7:
		return nil
	}
	return req
}

// TestStreamAnswersAsTheUnaryCall asks the same 10,000 requests, many of them wrong, over one stream and by calls of their own.
func TestStreamAnswersAsTheUnaryCall(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	env := start(t, func(c *servertest.Config) {
		c.Change = func(o *server.Options) { o.MaxRows, o.MaxKeyBytes, o.MaxInFlightPerStream = 16, 100, 8 }
	})
	requests := make([]*twofoldv1.GetOnlineFeaturesRequest, 10_000)
	for i := range requests {
		requests[i] = randomRequest(r)
	}
	stream := rawOnline(t.Context(), t, env)
	var sending sync.WaitGroup
	sending.Go(func() {
		for i, req := range requests {
			if err := stream.Send(&twofoldv1.StreamOnlineFeaturesRequest{RequestId: uint64(i), Request: req}); err != nil {
				t.Errorf("request %d: %v", i, err)
				return
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Error(err)
		}
	})
	answered, failed := make([]bool, len(requests)), 0
	for range requests {
		a := answer(t, stream)
		i := a.GetRequestId()
		if answered[i] {
			t.Fatalf("request %d was answered twice", i)
		}
		answered[i] = true
		if a.GetError() != nil {
			failed++
		}
		checkAsUnary(t, env, requests[i], a)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
	sending.Wait()
	if failed < 1000 || failed > 6000 {
		t.Errorf("%d of 10,000 requests failed: this tests too little", failed)
	}
	noStreamGoroutines(t)
}

// checkAsUnary checks that an answer of a stream is what a call of its own gives.
func checkAsUnary(t *testing.T, env *servertest.Env, req *twofoldv1.GetOnlineFeaturesRequest, a *twofoldv1.StreamOnlineFeaturesResponse) {
	t.Helper()
	if req == nil {
		wantError(t, status.ErrorProto(a.GetError()), codes.InvalidArgument, "request")
		return
	}
	want, err := env.Client.Online(t.Context(), req)
	if err != nil {
		if want := status.Convert(err).Proto(); !proto.Equal(want, a.GetError()) {
			t.Fatalf("%v:\n%s", req, cmp.Diff(want, a.GetError(), protocmp.Transform()))
		}
		return
	}
	if !proto.Equal(want, a.GetResponse()) || a.GetError() != nil {
		t.Fatalf("%v: %v\n%s", req, a.GetError(), cmp.Diff(want, a.GetResponse(), protocmp.Transform()))
	}
}

// TestStreamFaults: a fault of the store, and even a bug, is the answer to its request, and the stream goes on.
func TestStreamFaults(t *testing.T) {
	env, f := startFaulty(t)
	stream := rawOnline(t.Context(), t, env)
	for i, c := range []struct {
		fault func(context.Context) error
		code  codes.Code
	}{
		{func(context.Context) error { return fault.New(fault.Unavailable, "the store said so") }, codes.Unavailable},
		{func(context.Context) error { return fault.New(fault.Corrupt, "the store said so") }, codes.DataLoss},
		{func(context.Context) error { return fault.New(fault.Precondition, "the store said \xff\xfe") }, codes.FailedPrecondition},
		{func(context.Context) error { panic("a bug") }, codes.Internal},
		{func(context.Context) error { return errors.New("nobody foresaw it") }, codes.Internal},
		{func(context.Context) error { return nil }, codes.OK},
	} {
		f.onRead(c.fault)
		ask(t, stream, uint64(i), priceRequest("a"))
		a := answer(t, stream)
		st := status.FromProto(a.GetError())
		if a.GetRequestId() != uint64(i) || st.Code() != c.code || strings.Contains(st.Message(), "bug") || strings.Contains(st.Message(), "foresaw") {
			t.Errorf("request %d: %v", i, a)
		}
		retry := false
		for _, d := range st.Details() {
			_, retry = d.(*errdetails.RetryInfo)
		}
		if retry != (c.code == codes.Unavailable) {
			t.Errorf("request %d: told to try again: %v", i, retry)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
	_, body := get(t, env, "/metrics")
	for _, line := range []string{
		`twofold_stream_requests_total{grpc_code="OK"} 1`, `twofold_stream_requests_total{grpc_code="Internal"} 2`,
		`twofold_stream_request_seconds_count 6`, `twofold_calls_in_flight{kind="online_stream"} 0`,
	} {
		if !strings.Contains(body, line) {
			t.Errorf("/metrics lacks %s", line)
		}
	}
	noStreamGoroutines(t)
}

// TestStreamAnswersOutOfOrder: a request that waits for the store holds up no other.
func TestStreamAnswersOutOfOrder(t *testing.T) {
	env, f := startFaulty(t)
	goOn, first := make(chan struct{}), atomic.Bool{}
	f.onRead(func(context.Context) error {
		if first.CompareAndSwap(false, true) {
			<-goOn
		}
		return nil
	})
	stream := rawOnline(t.Context(), t, env)
	ask(t, stream, 7, priceRequest("a"))
	await(t, "the first request is in the store", first.Load)
	ask(t, stream, 8, priceRequest("b"))
	if a := answer(t, stream); a.GetRequestId() != 8 {
		t.Errorf("%v came first", a)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	if a := answer(t, stream); a.GetRequestId() != 7 || a.GetResponse() == nil {
		t.Errorf("after the client closed its side: %v", a)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
}

// TestStreamSlowReader: of a client that sends and hardly reads, the server takes no more than it may hold.
func TestStreamSlowReader(t *testing.T) {
	const requests, inFlight = 200, 4
	env, f := startFaulty(t, func(o *server.Options) { o.MaxInFlightPerStream = inFlight })
	var taken atomic.Int64
	f.onRead(func(context.Context) error {
		taken.Add(1)
		return nil
	})
	stream := rawOnline(t.Context(), t, env)
	items := make([]string, 24) // some 100 KB of answer, more than the client's window
	for i := range items {
		items[i] = strings.Repeat("k", 4096+i)
	}
	var sending sync.WaitGroup
	sending.Go(func() {
		for i := range requests {
			if err := stream.Send(&twofoldv1.StreamOnlineFeaturesRequest{RequestId: uint64(i), Request: priceRequest(items...)}); err != nil {
				t.Errorf("request %d: %v", i, err)
				return
			}
		}
	})
	await(t, "the server has taken what it may", func() bool { return taken.Load() >= inFlight })
	for i := range int64(requests) {
		// Some of an answer is on the wire, and what is written may be as much again as the client's window.
		if n := taken.Load(); n > i+inFlight+3 {
			t.Fatalf("%d requests were taken when %d answers had been read", n, i)
		}
		if a := answer(t, stream); a.GetError() != nil {
			t.Fatal(a.GetError())
		}
	}
	sending.Wait()
}

// TestStreamCancel: the client leaves while its requests are in the store.
func TestStreamCancel(t *testing.T) {
	env, f := startFaulty(t)
	var inside atomic.Int64
	f.onRead(func(ctx context.Context) error {
		inside.Add(1)
		defer inside.Add(-1)
		<-ctx.Done()
		return fault.New(fault.Unavailable, "read: %w", ctx.Err())
	})
	for name, open := range map[string]func() (context.Context, context.CancelFunc){
		"cancel": func() (context.Context, context.CancelFunc) { return context.WithCancel(t.Context()) },
		"deadline": func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), 300*time.Millisecond)
		},
	} {
		ctx, cancel := open()
		stream := rawOnline(ctx, t, env)
		for i := range uint64(40) { // more than are answered at once
			ask(t, stream, i, priceRequest("a"))
		}
		await(t, "requests are in the store", func() bool { return inside.Load() == 32 || ctx.Err() != nil })
		want := codes.DeadlineExceeded
		if name == "cancel" {
			want = codes.Canceled
			cancel()
		}
		var err error
		for err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != want {
			t.Errorf("%s: %v", name, err)
		}
		await(t, "no request is in the store", func() bool { return inside.Load() == 0 })
		noStreamGoroutines(t)
		cancel()
	}
}

// TestStreamEndsWhenTheServerStops: what was taken is answered, what was not is to be asked elsewhere, and the server stops.
func TestStreamEndsWhenTheServerStops(t *testing.T) {
	env, f := startFaulty(t, func(o *server.Options) { o.DrainTimeout = time.Minute })
	inStore, goOn := make(chan struct{}), make(chan struct{})
	f.onRead(func(context.Context) error {
		close(inStore)
		<-goOn
		return nil
	})
	busy, idle := rawOnline(t.Context(), t, env), rawOnline(t.Context(), t, env)
	ask(t, busy, 1, priceRequest("a"))
	ask(t, idle, 2, &twofoldv1.GetOnlineFeaturesRequest{})
	answer(t, idle)
	<-inStore
	stopped := make(chan error, 1)
	go func() { stopped <- env.Stop() }()
	stopping := func(stream rawOnlineStream) {
		t.Helper()
		_, err := stream.Recv()
		wantError(t, err, codes.Unavailable, "", "stopping", "another stream")
		if _, ok := status.Convert(err).Details()[0].(*errdetails.RetryInfo); !ok {
			t.Errorf("no RetryInfo: %v", err)
		}
	}
	stopping(idle)
	close(goOn)
	if a := answer(t, busy); a.GetRequestId() != 1 || a.GetResponse() == nil {
		t.Errorf("what was taken: %v", a)
	}
	stopping(busy)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	noStreamGoroutines(t)
}

// TestStreamIsCutOffWithItsServer: a stream whose request is stuck does not outlast the drain timeout.
func TestStreamIsCutOffWithItsServer(t *testing.T) {
	env, f := startFaulty(t, func(o *server.Options) { o.DrainTimeout = 50 * time.Millisecond })
	inStore := make(chan struct{})
	f.onRead(func(ctx context.Context) error {
		close(inStore)
		<-ctx.Done()
		return ctx.Err()
	})
	stream := rawOnline(t.Context(), t, env)
	ask(t, stream, 1, priceRequest("a"))
	<-inStore
	if err := env.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := stream.Recv(); err == nil {
		t.Error("the stuck request got an answer")
	}
	noStreamGoroutines(t)
}

// TestStreamAnswerTooLarge: strings make an answer larger than could be known, which is the end of its request only.
func TestStreamAnswerTooLarge(t *testing.T) {
	env := start(t, func(c *servertest.Config) { c.Change = func(o *server.Options) { o.MaxMessageBytes = 4096 } })
	items := make([]string, 700)
	for i := range items {
		items[i] = "a"
	}
	req := priceRequest(items...)
	req.OmitEntities = true
	_, unary := env.Client.Online(t.Context(), req)
	wantError(t, unary, codes.ResourceExhausted, "", "limit of 4096")
	stream := rawOnline(t.Context(), t, env)
	ask(t, stream, 1, req)
	wantError(t, status.ErrorProto(answer(t, stream).GetError()), codes.ResourceExhausted, "", "limit of 4096")
	ask(t, stream, 2, priceRequest("a"))
	if a := answer(t, stream); a.GetResponse() == nil {
		t.Errorf("the next request: %v", a)
	}
}

// TestStreamAnswerJustTooLarge: in a stream the id comes on top of what the unary call may send.
func TestStreamAnswerJustTooLarge(t *testing.T) {
	resp, err := start(t).Client.Online(t.Context(), priceRequest("a", strings.Repeat("k", 1000)))
	if err != nil {
		t.Fatal(err)
	}
	env := start(t, func(c *servertest.Config) {
		c.Change = func(o *server.Options) { o.MaxMessageBytes = proto.Size(resp) }
	})
	if _, err := env.Client.Online(t.Context(), priceRequest("a", strings.Repeat("k", 1000))); err != nil {
		t.Errorf("as large as may be: %v", err)
	}
	stream := rawOnline(t.Context(), t, env)
	for id := range uint64(3) {
		ask(t, stream, id<<60, priceRequest("a", strings.Repeat("k", 999)))
		a := answer(t, stream)
		if got := proto.Size(a); got > proto.Size(resp) || a.GetRequestId() != id<<60 {
			t.Errorf("an answer of %d bytes, id %d", got, a.GetRequestId())
		}
	}
}

// TestOnlineStream asks through the Go client, from many goroutines at once.
func TestOnlineStream(t *testing.T) {
	env := start(t)
	stream := env.Client.OnlineStream(t.Context())
	var asking sync.WaitGroup
	for range 8 {
		asking.Go(func() {
			for i := range 100 {
				item := []string{"a", "b", "zzz"}[i%3]
				resp, err := stream.Online(t.Context(), priceRequest(item))
				if err != nil {
					t.Errorf("%s: %v", item, err)
					return
				}
				want, err := env.Client.Online(t.Context(), priceRequest(item))
				if err != nil || !proto.Equal(want, resp) {
					t.Errorf("%s: %v, want %v, %v", item, resp, want, err)
				}
				_, err = stream.Online(t.Context(), priceRequest(item, strings.Repeat("k", 10<<10)))
				if status.Code(err) != codes.ResourceExhausted {
					t.Errorf("a key too long: %v", err)
				}
			}
		})
	}
	asking.Wait()
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
	if _, err := stream.Online(t.Context(), priceRequest("a")); status.Code(err) != codes.Canceled {
		t.Errorf("after Close: %v", err)
	}
	noStreamGoroutines(t)
}
