package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/twofold-ml/twofold/bench/internal/workload"
)

// Sides of the comparison.
const (
	ours    = "ours"
	theirs  = "floor"
	maxBody = 256 << 20 // bytes of an answer
	// callGrace is how long calls may still run when a measurement is over, before they count as failed.
	callGrace = 30 * time.Second
)

// loadOrder is one line of the load generator's input.
type loadOrder struct {
	// Verify asks to decode answers and compare them with what was written; else answers are counted and timed.
	Verify      bool
	Side        string
	Target      string
	Shape       string
	Concurrency int
	Connections int
	Duration    time.Duration // of a measurement
	Requests    int           // to verify
}

// loadReport is one line of its output: what came of the order.
type loadReport struct {
	Error    string
	Requests int
	Verified int // answers that were decoded and compared
	Bytes    int64
	Elapsed  time.Duration
	P50, P99 time.Duration
}

// loadCommand is the load generator: a process of its own that obeys orders on its standard input.
func loadCommand() *cobra.Command {
	g := newGenerator(workload.Data{}, 0)
	cmd := &cobra.Command{
		Use: "load", Hidden: true, Args: cobra.NoArgs,
		Short: "Generate load as orders on standard input say",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.obey(cmd.Context(), os.Stdin, os.Stdout)
		},
	}
	cmd.Flags().Uint64Var(&g.data.Seed, "seed", 1, "seed of values and requests")
	cmd.Flags().IntVar(&g.data.Entities, "entities", 1, "number of entities")
	cmd.Flags().Int64Var(&g.data.BaseMicros, "base-micros", 0, "latest event time")
	cmd.Flags().IntVar(&g.poolSize, "pool", 1024, "number of different requests a shape")
	return cmd
}

// generator keeps what orders share.
type generator struct {
	data     workload.Data
	poolSize int
	pools    map[workload.Shape][]workload.Request
	clients  map[string][]*grpc.ClientConn // by target; later orders use the first of them
	sizes    map[string]sizes              // by side and shape
}

func newGenerator(data workload.Data, poolSize int) *generator {
	return &generator{data: data, poolSize: poolSize, pools: map[workload.Shape][]workload.Request{},
		clients: map[string][]*grpc.ClientConn{}, sizes: map[string]sizes{}}
}

// sizes are the bounds of a plausible answer in bytes.
type sizes struct{ least, most int }

// obey reads orders until the input ends.
func (g *generator) obey(ctx context.Context, in io.Reader, out io.Writer) error {
	encoder := json.NewEncoder(out)
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var order loadOrder
		if err := json.Unmarshal(lines.Bytes(), &order); err != nil {
			return fmt.Errorf("read an order: %w", err)
		}
		report, err := g.carryOut(ctx, order)
		if err != nil {
			report.Error = err.Error()
		}
		if err := encoder.Encode(report); err != nil {
			return fmt.Errorf("report: %w", err)
		}
	}
	return lines.Err()
}

func (g *generator) carryOut(ctx context.Context, order loadOrder) (loadReport, error) {
	shape, err := workload.ParseShape(order.Shape)
	if err != nil {
		return loadReport{}, err
	}
	pool, err := g.pool(shape)
	if err != nil {
		return loadReport{}, err
	}
	connections, err := g.connect(order.Target, order.Connections)
	if err != nil {
		return loadReport{}, err
	}
	t := &target{side: order.Side, shape: shape, data: g.data, pool: pool, connections: connections}
	name := order.Side + " " + order.Shape
	if order.Verify {
		report, bounds, err := t.verify(ctx, order)
		g.sizes[name] = bounds
		return report, err
	}
	var ok bool
	if t.bounds, ok = g.sizes[name]; !ok {
		return loadReport{}, fmt.Errorf("%s was not verified, so it is not measured", name)
	}
	runtime.GC() // what was before does not disturb this measurement
	return t.measure(ctx, order)
}

// pool returns the requests of a shape, made once.
func (g *generator) pool(shape workload.Shape) ([]workload.Request, error) {
	if pool, ok := g.pools[shape]; ok {
		return pool, nil
	}
	pool, err := g.data.Requests(shape, g.poolSize)
	if err != nil {
		return nil, err
	}
	g.pools[shape] = pool
	return pool, nil
}

// connect returns that many connections to the target, and keeps them.
func (g *generator) connect(target string, n int) ([]*grpc.ClientConn, error) {
	for len(g.clients[target]) < n {
		c, err := grpc.NewClient("passthrough:///"+target,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(maxBody)))
		if err != nil {
			return nil, fmt.Errorf("connect to %s: %w", target, err)
		}
		g.clients[target] = append(g.clients[target], c)
	}
	return g.clients[target][:n], nil
}

// target is one side with one shape.
type target struct {
	side        string
	shape       workload.Shape
	data        workload.Data
	pool        []workload.Request
	connections []*grpc.ClientConn
	bounds      sizes
}

// call sends one request and waits for its answer.
func (t *target) call(ctx context.Context, worker int, request workload.Request, answer *rawAnswer) error {
	answer.body = nil
	if err := t.connections[worker%len(t.connections)].Invoke(ctx, onlineMethod, request.Body, answer); err != nil {
		return fmt.Errorf("%s, shape %v: %w", t.side, t.shape, err)
	}
	return nil
}

// check compares an answer with what was written.
func (t *target) check(request workload.Request, body []byte) error {
	check := t.data.CheckResponse
	if t.side == theirs {
		check = t.data.CheckRaw
	}
	if err := check(t.shape.Layout(), request, body); err != nil {
		return fmt.Errorf("%s, shape %v: WRONG ANSWER: %w", t.side, t.shape, err)
	}
	return nil
}

// each runs f in order.Concurrency goroutines and returns the first error; the context of the others is done then.
func each(ctx context.Context, workers int, f func(ctx context.Context, worker int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			if err := f(ctx, w); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// verify sends requests, order.Concurrency at a time so that answers could be mixed up, and checks every answer.
func (t *target) verify(ctx context.Context, order loadOrder) (loadReport, sizes, error) {
	ctx, cancel := context.WithTimeout(ctx, callGrace)
	defer cancel()
	edges, err := t.data.EdgeRequests(t.shape)
	if err != nil {
		return loadReport{}, sizes{}, err
	}
	pool := t.pool[:min(order.Requests, len(t.pool))]
	answered := make([]sizes, order.Concurrency)
	err = each(ctx, order.Concurrency, func(ctx context.Context, w int) error {
		answer := rawAnswer{keep: true}
		one := func(request workload.Request) error {
			if err := t.call(ctx, w, request, &answer); err != nil {
				return err
			}
			return t.check(request, answer.body)
		}
		for i := w; i < len(pool); i += order.Concurrency {
			if err := one(pool[i]); err != nil {
				return err
			}
			answered[w] = answered[w].with(answer.size)
		}
		for _, request := range edges {
			if err := one(request); err != nil {
				return err
			}
		}
		return nil
	})
	var all sizes
	for _, s := range answered {
		if s.most > 0 {
			all = all.with(s.least).with(s.most)
		}
	}
	// Rows differ in size by their nulls only.
	bounds := sizes{least: all.least * 9 / 10, most: all.most*11/10 + 8}
	return loadReport{Requests: len(pool), Verified: len(pool) + len(edges)*order.Concurrency}, bounds, err
}

// with returns bounds that size is within.
func (s sizes) with(size int) sizes {
	if s.most == 0 {
		return sizes{size, size}
	}
	return sizes{min(s.least, size), max(s.most, size)}
}

// keepOneIn and keepMost say which answers of a measurement are kept, and checked when the time is over.
const (
	keepOneIn = 97
	keepMost  = 64
)

// kept is an answer to be checked later.
type kept struct {
	request workload.Request
	body    []byte
}

// worker is one closed loop: it sends its next request when the last one is answered.
type worker struct {
	latencies *hdrhistogram.Histogram // nanoseconds
	requests  int
	bytes     int64
	kept      []kept
	end       time.Time // of the last answer
}

// measure runs closed loops for order.Duration.
func (t *target) measure(ctx context.Context, order loadOrder) (loadReport, error) {
	ctx, cancel := context.WithTimeout(ctx, order.Duration+callGrace)
	defer cancel()
	workers := make([]worker, order.Concurrency)
	for w := range workers {
		workers[w].latencies = newHistogram()
	}
	start := time.Now()
	err := each(ctx, order.Concurrency, func(ctx context.Context, w int) error {
		return t.loop(ctx, &workers[w], w, order.Concurrency, start.Add(order.Duration))
	})
	if err != nil {
		return loadReport{}, err
	}
	total := newHistogram()
	report := loadReport{}
	end := start
	for _, w := range workers {
		total.Merge(w.latencies)
		report.Requests += w.requests
		report.Bytes += w.bytes
		if w.end.After(end) {
			end = w.end
		}
		for _, k := range w.kept {
			if err := t.check(k.request, k.body); err != nil {
				return loadReport{}, err
			}
			report.Verified++
		}
	}
	report.Elapsed = end.Sub(start)
	report.P50 = time.Duration(total.ValueAtQuantile(50))
	report.P99 = time.Duration(total.ValueAtQuantile(99))
	return report, nil
}

// newHistogram returns a histogram of latencies in nanoseconds with three significant digits.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(time.Microsecond.Nanoseconds(), time.Minute.Nanoseconds(), 3)
}

// loop sends requests, at least one, until the deadline. The last answer may come later, and counts.
func (t *target) loop(ctx context.Context, w *worker, number, workers int, deadline time.Time) error {
	next := number * len(t.pool) / workers
	keep := max(1, keepMost/workers)
	answer := rawAnswer{}
	for before := time.Now(); w.requests == 0 || before.Before(deadline); {
		request := t.pool[next]
		if next++; next == len(t.pool) {
			next = 0
		}
		answer.keep = w.requests%keepOneIn == 0 && len(w.kept) < keep
		if err := t.call(ctx, number, request, &answer); err != nil {
			return err
		}
		after := time.Now()
		if err := w.latencies.RecordValue(after.Sub(before).Nanoseconds()); err != nil {
			return fmt.Errorf("a call took %v: %w", after.Sub(before), err)
		}
		before, w.end = after, after
		w.requests++
		w.bytes += int64(answer.size)
		if answer.size < t.bounds.least || answer.size > t.bounds.most {
			return fmt.Errorf("%s, shape %v: an answer of %d bytes is not plausible, verified ones had %d to %d",
				t.side, t.shape, answer.size, t.bounds.least, t.bounds.most)
		}
		if answer.keep {
			w.kept = append(w.kept, kept{request, answer.body})
		}
	}
	return nil
}
