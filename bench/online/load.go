package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/twofold-ml/twofold/bench/internal/workload"
)

const (
	maxBody = 256 << 20 // bytes of an answer
	// callGrace is how long calls may still run when a measurement is over, before they count as failed.
	callGrace = 30 * time.Second
)

// loadOrder is one line of the load generator's input.
type loadOrder struct {
	// Verify asks to decode answers and compare them with what was written; else answers are counted and timed.
	Verify bool
	// Contender is who is asked, for errors and to remember who was verified.
	Contender string
	Target    string
	// Raw says that the answers are stored rows.
	Raw   bool
	Shape string
	// Split is over how many requests of one stream the rows of the shape are divided; 0 asks for all of them in one unary call.
	Split       int
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
	cmd.Flags().Float64Var(&g.data.Zipf, "zipf", 0, "exponent by which entities are drawn; 0 draws all alike")
	cmd.Flags().IntVar(&g.poolSize, "pool", 1024, "number of different requests a shape")
	return cmd
}

// generator keeps what orders share.
type generator struct {
	data     workload.Data
	poolSize int
	pools    map[workload.Shape][]workload.Request
	clients  map[string][]*grpc.ClientConn // by target; later orders use the first of them
	sizes    map[string]sizes              // by contender and shape
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
	if order.Split > 0 {
		shape.Rows /= order.Split
	}
	pool, err := g.pool(shape, max(1, order.Split))
	if err != nil {
		return loadReport{}, err
	}
	connections, err := g.connect(order.Target, order.Connections)
	if err != nil {
		return loadReport{}, err
	}
	t := &target{name: order.Contender, raw: order.Raw, split: order.Split, shape: shape, data: g.data, pool: pool, connections: connections}
	verified := order.Contender + " " + order.Shape
	if order.Verify {
		report, bounds, err := t.verify(ctx, order)
		g.sizes[verified] = bounds
		return report, err
	}
	var ok bool
	if t.bounds, ok = g.sizes[verified]; !ok {
		return loadReport{}, fmt.Errorf("%s was not verified, so it is not measured", verified)
	}
	runtime.GC() // what was before does not disturb this measurement
	return t.measure(ctx, order)
}

// pool returns the requests of a shape, made once: as many as were asked for, fewer where they are large, and always at least atLeast.
func (g *generator) pool(shape workload.Shape, atLeast int) ([]workload.Request, error) {
	if pool, ok := g.pools[shape]; ok && len(pool) >= atLeast {
		return pool, nil
	}
	n := max(atLeast, min(g.poolSize, mostDrawn/shape.Rows), 2)
	if g.data.Zipf > 0 {
		// A pool that is asked again and again would make a cache's hit ratio better than the distribution does.
		n = max(n, leastZipfDrawn/shape.Rows)
	}
	pool, err := g.data.Requests(shape, n)
	if err != nil {
		return nil, err
	}
	g.pools[shape] = pool
	return pool, nil
}

// mostDrawn and leastZipfDrawn bound the entities that all requests of a pool ask for.
const (
	mostDrawn      = 1 << 20
	leastZipfDrawn = 1 << 17
)

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

// target is one contender with one shape of requests.
type target struct {
	name        string
	raw         bool
	split       int
	shape       workload.Shape
	data        workload.Data
	pool        []workload.Request
	connections []*grpc.ClientConn
	bounds      sizes
}

// check compares an answer with what was written.
func (t *target) check(request workload.Request, body []byte) error {
	check := t.data.CheckResponse
	if t.raw {
		check = t.data.CheckRaw
	}
	if err := check(t.shape.Layout(), request, body); err != nil {
		return fmt.Errorf("%s, shape %v: WRONG ANSWER: %w", t.name, t.shape, err)
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
	pool := t.pool[:min(max(order.Requests, order.Split), len(t.pool))]
	answered := make([]sizes, order.Concurrency)
	err = each(ctx, order.Concurrency, func(ctx context.Context, w int) error {
		ask, done, err := t.open(ctx, w)
		if err != nil {
			return err
		}
		defer done()
		for batch := range slices.Chunk(pool[len(pool)*w/order.Concurrency:len(pool)*(w+1)/order.Concurrency], max(1, t.split)) {
			err := ask(ctx, batch, true, func(request workload.Request, size int, body []byte) error {
				answered[w] = answered[w].with(size)
				return t.check(request, body)
			})
			if err != nil {
				return err
			}
		}
		for _, edge := range edges {
			err := ask(ctx, []workload.Request{edge}, true, func(request workload.Request, _ int, body []byte) error { return t.check(request, body) })
			if err != nil {
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

// worker is one closed loop: it sends its next request, or all requests into which that is split, when the last is answered.
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
	ask, done, err := t.open(ctx, number)
	if err != nil {
		return err
	}
	defer done()
	batch := max(1, t.split)
	next := number * len(t.pool) / workers
	keepMost := max(1, keepMost/workers/batch) * batch
	var keep bool
	got := func(request workload.Request, size int, body []byte) error {
		w.bytes += int64(size)
		if size < t.bounds.least || size > t.bounds.most {
			return fmt.Errorf("%s, shape %v: an answer of %d bytes is not plausible, verified ones had %d to %d",
				t.name, t.shape, size, t.bounds.least, t.bounds.most)
		}
		if keep {
			w.kept = append(w.kept, kept{request, slices.Clone(body)})
		}
		return nil
	}
	for before := time.Now(); w.requests == 0 || before.Before(deadline); {
		if next+batch > len(t.pool) {
			next = 0
		}
		keep = w.requests%keepOneIn == 0 && len(w.kept) < keepMost
		if err := ask(ctx, t.pool[next:next+batch], keep, got); err != nil {
			return err
		}
		after := time.Now()
		if err := w.latencies.RecordValue(after.Sub(before).Nanoseconds()); err != nil {
			return fmt.Errorf("a call took %v: %w", after.Sub(before), err)
		}
		before, w.end = after, after
		w.requests++
		next += batch
	}
	return nil
}
