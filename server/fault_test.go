package server_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/online/redisstore"
	"github.com/twofold-ml/twofold/internal/testenv"
	"github.com/twofold-ml/twofold/server"
	"github.com/twofold-ml/twofold/server/servertest"
)

// faulty is a store whose reads and pings a test can replace.
type faulty struct {
	driver.Driver
	read atomic.Pointer[func(context.Context) error]
	ping atomic.Pointer[error]
}

func (f *faulty) Read(ctx context.Context, reads []driver.Read) ([][]byte, error) {
	if before := f.read.Load(); before != nil {
		if err := (*before)(ctx); err != nil {
			return nil, err
		}
	}
	return f.Driver.Read(ctx, reads)
}

func (f *faulty) Ping(ctx context.Context) error {
	if err := f.ping.Load(); err != nil {
		return *err
	}
	return f.Driver.Ping(ctx)
}

func (f *faulty) onRead(before func(context.Context) error) { f.read.Store(&before) }

func startFaulty(t *testing.T, changes ...func(*server.Options)) (*servertest.Env, *faulty) {
	f := &faulty{Driver: servertest.Memory(t)}
	env := start(t, func(c *servertest.Config) {
		c.Online = f
		c.Change = func(o *server.Options) {
			o.PingInterval = 5 * time.Millisecond
			for _, change := range changes {
				change(o)
			}
		}
	})
	return env, f
}

func readPrice(ctx context.Context, env *servertest.Env) (*twofoldv1.GetOnlineFeaturesResponse, error) {
	return env.Client.Online(ctx, &twofoldv1.GetOnlineFeaturesRequest{Features: []string{"price:name"}, Entities: []*twofoldv1.Column{client.Strings("item_id", "a")}})
}

// TestStoreFaults checks what a caller sees of each kind of fault of the store: never an answer.
func TestStoreFaults(t *testing.T) {
	env, f := startFaulty(t)
	for kind, code := range map[fault.Kind]codes.Code{
		fault.Unavailable: codes.Unavailable, fault.Precondition: codes.FailedPrecondition, fault.Exhausted: codes.ResourceExhausted,
		fault.Corrupt: codes.DataLoss, fault.Internal: codes.Internal,
	} {
		f.onRead(func(context.Context) error { return fault.New(kind, "the store said so") })
		_, err := readPrice(t.Context(), env)
		st := status.Convert(err)
		if st.Code() != code {
			t.Errorf("%v: got %v", kind, err)
		}
		if hidden := code == codes.Internal; hidden == strings.Contains(st.Message(), "the store said so") {
			t.Errorf("%v: the caller is told %q", kind, st.Message())
		}
		retry := false
		for _, d := range st.Details() {
			_, retry = d.(*errdetails.RetryInfo)
		}
		if retry != (code == codes.Unavailable) {
			t.Errorf("%v: told to try again: %v", kind, retry)
		}
	}
	f.onRead(func(context.Context) error { panic("a bug") })
	if _, err := readPrice(t.Context(), env); status.Code(err) != codes.Internal || strings.Contains(err.Error(), "a bug") {
		t.Errorf("panic: %v", err)
	}
	f.onRead(func(context.Context) error { return nil })
	if _, err := readPrice(t.Context(), env); err != nil {
		t.Errorf("after the faults: %v", err)
	}
}

func TestDeadlineAndCancel(t *testing.T) {
	env, f := startFaulty(t)
	f.onRead(func(ctx context.Context) error {
		<-ctx.Done()
		return fault.New(fault.Unavailable, "read: %w", ctx.Err())
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := readPrice(ctx, env); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
}

// TestFrozenStoreLeavesTimeToSaySo: Redis is given up a little before the caller gives up, so that the caller is told what happened and what to do.
func TestFrozenStoreLeavesTimeToSaySo(t *testing.T) {
	redisServer := testenv.Redis(t)
	store, err := redisstore.Open(redisstore.Options{URL: redisServer.URL})
	if err != nil {
		t.Fatal(err)
	}
	env := servertest.Start(t, servertest.Config{Definitions: twoViews, Online: store})
	ask := func(d time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		_, err := env.Client.Online(ctx, &twofoldv1.GetOnlineFeaturesRequest{Features: []string{"pushed:x"}, Entities: []*twofoldv1.Column{client.Strings("item_id", "a")}})
		return err
	}
	if err := ask(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	redisServer.Freeze(t)
	defer redisServer.Thaw(t)
	err = ask(2 * time.Second) // 100 ms are kept back
	retry := slices.ContainsFunc(status.Convert(err).Details(), func(d any) bool {
		_, ok := d.(*errdetails.RetryInfo)
		return ok
	})
	if status.Code(err) != codes.Unavailable || !retry {
		t.Errorf("got %v, RetryInfo %v", err, retry)
	}
}

// readInBackground begins a read and gives its error when it ends.
func readInBackground(t *testing.T, env *servertest.Env) <-chan error {
	answer := make(chan error, 1)
	go func() {
		_, err := readPrice(t.Context(), env)
		answer <- err
	}()
	return answer
}

// await asks until ok, and fails the test if that takes long: what a server reports over HTTP has no event to wait for.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("waited in vain: " + what)
		}
	}
}

func TestReadinessFollowsTheStore(t *testing.T) {
	env, f := startFaulty(t)
	ready := func() bool { code, _ := get(t, env, "/readyz"); return code == http.StatusOK }
	await(t, "ready", ready)
	sick := errors.New("the store is sick")
	f.ping.Store(&sick)
	await(t, "not ready", func() bool { return !ready() })
	if code, body := get(t, env, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "sick") {
		t.Errorf("%d %s", code, body)
	}
	if err := env.Client.Healthy(t.Context()); err == nil {
		t.Error("gRPC health says that it serves")
	}
	if code, _ := get(t, env, "/healthz"); code != http.StatusOK {
		t.Error("a sick store must not restart the process")
	}
	f.ping.Store(nil)
	await(t, "ready again", ready)
}

// TestStopFinishesCallsUnderWay stops the server while a call is in the store: the call gets its answer.
func TestStopFinishesCallsUnderWay(t *testing.T) {
	env, f := startFaulty(t)
	inStore, goOn := make(chan struct{}), make(chan struct{})
	f.onRead(func(context.Context) error {
		close(inStore)
		<-goOn
		return nil
	})
	answer := readInBackground(t, env)
	<-inStore
	stopped := make(chan error, 1)
	go func() { stopped <- env.Stop() }()
	select {
	case err := <-stopped:
		t.Fatalf("the server did not wait for the call: %v", err)
	case <-time.After(50 * time.Millisecond): // long enough for a server that does not wait to be seen, whatever else runs
	}
	close(goOn)
	if err := <-answer; err != nil {
		t.Errorf("the call under way: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
}

// TestNotReadyWhileStopping: as soon as the server is told to stop, whoever asks or watches is told to go elsewhere, while a call goes on.
func TestNotReadyWhileStopping(t *testing.T) {
	f := &faulty{Driver: servertest.Memory(t)}
	env := start(t, func(c *servertest.Config) {
		c.Online = f
		c.Change = func(o *server.Options) { o.PingInterval, o.DrainTimeout = 5*time.Millisecond, time.Minute }
	})
	conn, err := grpc.NewClient(env.GRPCAddress, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, endWatches := context.WithTimeout(t.Context(), 20*time.Second)
	defer endWatches()
	services := []string{"", twofoldv1.FeatureService_ServiceDesc.ServiceName, twofoldv1.RegistryService_ServiceDesc.ServiceName}
	watches := make([]grpc.ServerStreamingClient[healthpb.HealthCheckResponse], len(services))
	wait := func(want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		for i, service := range services {
			for {
				r, err := watches[i].Recv()
				if err != nil {
					t.Fatalf("watch of %q, until it is %v: %v", service, want, err)
				}
				if r.GetStatus() == want {
					break
				}
			}
		}
	}
	for i, service := range services {
		if watches[i], err = healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{Service: service}); err != nil {
			t.Fatal(err)
		}
	}
	wait(healthpb.HealthCheckResponse_SERVING)

	inStore, goOn := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(release) // the server waits for the call
	f.onRead(func(context.Context) error {
		close(inStore)
		<-goOn
		return nil
	})
	answer := readInBackground(t, env)
	<-inStore
	stopped := make(chan error, 1)
	go func() { stopped <- env.Stop() }()
	await(t, "not ready, and why", func() bool {
		code, body := get(t, env, "/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "stopping")
	})
	wait(healthpb.HealthCheckResponse_NOT_SERVING)
	endWatches()
	release()
	if err := errors.Join(<-answer, <-stopped); err != nil {
		t.Error(err)
	}
}

// TestStopCutsOffStuckCalls stops the server while a call never ends: it is cut off after the drain timeout.
func TestStopCutsOffStuckCalls(t *testing.T) {
	env, f := startFaulty(t, func(o *server.Options) { o.DrainTimeout = 100 * time.Millisecond })
	inStore := make(chan struct{})
	f.onRead(func(ctx context.Context) error {
		close(inStore)
		<-ctx.Done()
		return ctx.Err()
	})
	answer := readInBackground(t, env)
	<-inStore
	if err := env.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if err := <-answer; err == nil {
		t.Error("the stuck call got an answer")
	}
}

// TestFrozenRedis freezes a real Redis: a call gets UNAVAILABLE or DEADLINE_EXCEEDED within its deadline, never NOT_FOUND, and the next call after the
// thaw works.
func TestFrozenRedis(t *testing.T) {
	redis := testenv.Redis(t)
	store, err := redisstore.Open(redisstore.Options{URL: redis.URL})
	if err != nil {
		t.Fatal(err)
	}
	env := start(t, func(c *servertest.Config) { c.Online = store })
	redis.Freeze(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := readPrice(ctx, env); status.Code(err) != codes.Unavailable && status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("frozen: %v", err)
	}
	redis.Thaw(t)
	await(t, "an answer after the thaw", func() bool {
		resp, err := readPrice(t.Context(), env)
		return err == nil && table(t, resp.GetColumns())["price:name"][0] == "apple"
	})
	redis.Kill()
	if _, err := readPrice(t.Context(), env); status.Code(err) != codes.Unavailable {
		t.Errorf("killed: %v", err)
	}
}
