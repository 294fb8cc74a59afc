package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"

	"github.com/twofold-ml/twofold/bench/internal/serving"
	"github.com/twofold-ml/twofold/bench/internal/workload"
)

const (
	// readEntities is how many entities the view has that is read.
	readEntities = 50_000
	// readPool is the number of different requests.
	readPool = 2048
	// readTimeout is how long an answer may take.
	readTimeout = 10 * time.Second
	// slowest is the greatest latency that is told apart.
	slowest = time.Minute
)

// asker asks a server at a fixed rate.
type asker struct {
	server   *serving.Server
	client   *grpc.ClientConn
	data     workload.Data
	requests []*twofoldv1.GetOnlineFeaturesRequest
	bodies   []workload.Request
	rate     int
}

// startAsker starts the server of the view that is read, whose rows must be in Redis.
func (b *bench) startAsker(ctx context.Context, data workload.Data) (*asker, error) {
	server, err := serving.Twofold(serving.Options{
		Name: "twofold serve", Program: b.o.twofold, Folder: b.folder, Definitions: b.history.definitions(), OfflineStore: b.folder,
		Environment: []string{"ONLINE_STORE_REDIS=" + b.redis.URL()},
	})
	if err != nil {
		return nil, err
	}
	a := &asker{server: server, data: data, rate: b.o.rate}
	if a.client, err = grpc.NewClient("passthrough:///"+server.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		server.Stop()
		return nil, err
	}
	if a.bodies, err = data.Requests(readShape, readPool); err == nil {
		err = a.decode()
	}
	if err == nil {
		err = a.ask(ctx, 0, true) // the first answer of a connection takes longer
	}
	if err != nil {
		a.stop()
		return nil, err
	}
	return a, nil
}

func (a *asker) decode() error {
	for _, r := range a.bodies {
		request := &twofoldv1.GetOnlineFeaturesRequest{}
		if err := proto.Unmarshal(r.Body, request); err != nil {
			return fmt.Errorf("decode a request: %w", err)
		}
		a.requests = append(a.requests, request)
	}
	return nil
}

func (a *asker) stop() {
	_ = a.client.Close() // no call is under way
	a.server.Stop()
}

// ask asks once, and compares the answer where it is to be checked.
func (a *asker) ask(ctx context.Context, i int, check bool) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	i %= len(a.requests)
	answer, err := twofoldv1.NewFeatureServiceClient(a.client).GetOnlineFeatures(ctx, a.requests[i])
	if err != nil || !check {
		return err
	}
	body, err := proto.Marshal(answer)
	if err != nil {
		return err
	}
	return a.data.CheckResponse(readShape.Layout(), a.bodies[i], body)
}

// checkedOneIn is how many answers there are to one that is compared with what was written.
const checkedOneIn = 50

// measure asks until done is closed and for at least a while, and returns the latencies in microseconds. Calls start at fixed times, whatever became of those before, and a call's latency runs
// from when it was to start: who waits behind a slow answer has waited too.
func (a *asker) measure(ctx context.Context, atLeast time.Duration, done <-chan struct{}) (*hdrhistogram.Histogram, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var calls sync.WaitGroup
	latencies := hdrhistogram.New(1, slowest.Microseconds(), 3)
	interval := time.Second / time.Duration(a.rate)
	runtime.LockOSThread() // for sleepUntil
	defer runtime.UnlockOSThread()
	for i, next := 0, time.Now(); ; i, next = i+1, next.Add(interval) {
		sleepUntil(next)
		if ctx.Err() != nil {
			calls.Wait()
			return nil, context.Cause(ctx)
		}
		if time.Duration(i)*interval >= atLeast && isClosed(done) {
			calls.Wait()
			return latencies, context.Cause(ctx)
		}
		calls.Go(func() {
			err := a.ask(ctx, i, i%checkedOneIn == 0)
			took := time.Since(next)
			if err != nil {
				cancel(fmt.Errorf("ask for online features: %w", err))
				return
			}
			mu.Lock()
			defer mu.Unlock()
			_ = latencies.RecordValue(min(max(took.Microseconds(), 1), slowest.Microseconds())) // in range
		})
	}
}

// sleepUntil asks the kernel, because Go's own timers may be late by a millisecond, which is more than an answer takes.
func sleepUntil(at time.Time) {
	for left := time.Until(at); left > 0; left = time.Until(at) {
		span := syscall.NsecToTimespec(left.Nanoseconds())
		_ = syscall.Nanosleep(&span, nil) // it may be woken early, and sleeps again
	}
}

func isClosed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}
