package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/twofold-ml/twofold/bench/internal/redisserver"
	"github.com/twofold-ml/twofold/bench/internal/workload"
)

// latencyOptions are the flags of the latency command.
type latencyOptions struct {
	twofold       string
	shapes        []string
	concurrencies []int
	rounds        int
	duration      time.Duration
	warmUp        time.Duration
	connections   int
	entities      int
	pool          int
	verify        int
	seed          uint64
	listpackValue int
	serveFlags    string
	quick         bool
	stream        bool
	zipf          bool
	cacheFlags    string
	// budget is how long the whole run may take; measurements are shortened to fit. 0 is no bound.
	budget time.Duration
}

// The quick run is to end within 50 s on a busy machine; what is left is for starting and ending.
const (
	quickBudget   = 42 * time.Second
	quickEntities = 10_000
	quickRounds   = 3
	quickPool     = 2048
	quickVerify   = 100
	// leastMeasured is the shortest measurement that says anything.
	leastMeasured = 150 * time.Millisecond
)

func latencyCommand() *cobra.Command {
	o := latencyOptions{}
	cmd := &cobra.Command{
		Use: "latency", Args: cobra.NoArgs,
		Short: "Measure GetOnlineFeatures beside a bare gRPC handler that sends the same Redis commands",
		RunE: func(cmd *cobra.Command, _ []string) error {
			started := time.Now()
			o.focus(cmd)
			if o.quick {
				o.hurry(cmd)
			}
			if !cmd.Flags().Changed("seed") {
				o.seed = uint64(rand.Uint32()) // short enough to be typed
			}
			return runLatency(cmd.Context(), cmd.OutOrStdout(), o, started)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.twofold, "twofold", "bin/twofold", "the program to measure")
	f.StringSliceVar(&o.shapes, "shapes", []string{"1x50x1", "5x10x1", "5x10x100", "25x10x100"}, "shapes of a request: views x features x rows")
	f.IntSliceVar(&o.concurrencies, "concurrency", []int{1, 8, 64}, "closed loops at once")
	f.IntVar(&o.rounds, "rounds", 7, "times that every measurement is made; the median counts")
	f.DurationVar(&o.duration, "duration", 2*time.Second, "length of one measurement")
	f.DurationVar(&o.warmUp, "warm-up", 300*time.Millisecond, "time before each measurement that does not count")
	f.IntVar(&o.connections, "connections", 0, "gRPC connections of the load generator; 0 is one for every 16 closed loops")
	f.IntVar(&o.entities, "entities", 100_000, "entities of each kind, one kind for each views x features")
	f.IntVar(&o.pool, "pool", 8192, "different requests of a shape")
	f.IntVar(&o.verify, "verify", 500, "answers of each side and shape to decode and compare before it is measured")
	f.Uint64Var(&o.seed, "seed", 0, "seed of values and requests (default: a random one, which is printed)")
	f.IntVar(&o.listpackValue, "hash-max-listpack-value", 64, "that setting of redis-server; 64 is its default")
	f.StringVar(&o.serveFlags, "serve-flags", "", `more flags of twofold serve, as one text: --serve-flags="--log-level debug"`)
	f.BoolVar(&o.quick, "quick", false, "end within 50 s: fewer entities, shorter and fewer measurements, all shapes and concurrencies")
	f.BoolVar(&o.stream, "stream", false, "measure 10,000 entities instead: in one request, and in 100 on one stream")
	f.BoolVar(&o.zipf, "zipf", false, "measure the hot-entity cache instead, beside a server without it; entities are drawn with exponent 1.1")
	f.StringVar(&o.cacheFlags, "cache-flags", "--hot-cache-max-bytes 256MiB", "flags of twofold serve that turn the cache on, for --zipf")
	cmd.MarkFlagsMutuallyExclusive("stream", "zipf")
	return cmd
}

// focus sets what --stream and --zipf measure unless it was given.
func (o *latencyOptions) focus(cmd *cobra.Command) {
	set := func(name string, to func()) {
		if !cmd.Flags().Changed(name) {
			to()
		}
	}
	switch {
	case o.stream:
		set("shapes", func() { o.shapes = []string{"5x10x10000"} })
		set("concurrency", func() { o.concurrencies = []int{1} })
	case o.zipf:
		set("shapes", func() { o.shapes = []string{"5x10x1", "5x10x100"} })
	}
}

// hurry sets what the quick run has otherwise, unless it was given.
func (o *latencyOptions) hurry(cmd *cobra.Command) {
	set := func(name string, to func()) {
		if !cmd.Flags().Changed(name) {
			to()
		}
	}
	o.budget = quickBudget
	set("entities", func() { o.entities = quickEntities })
	set("rounds", func() { o.rounds = quickRounds })
	set("pool", func() { o.pool = quickPool })
	set("verify", func() { o.verify = quickVerify })
	if o.stream {
		set("entities", func() { o.entities = 2 * quickEntities })
	}
	set("duration", func() { o.duration = time.Second })
	set("warm-up", func() { o.warmUp = 100 * time.Millisecond })
}

// check reports flags that make no sense together.
func (o *latencyOptions) check() ([]workload.Shape, error) {
	shapes, err := parseShapes(o.shapes)
	if err != nil {
		return nil, err
	}
	for _, c := range o.concurrencies {
		if c < 1 {
			return nil, fmt.Errorf("--concurrency %d: at least one closed loop is needed", c)
		}
	}
	if len(shapes) == 0 || len(o.concurrencies) == 0 || o.rounds < 1 || o.duration <= 0 || o.pool < 1 || o.verify < 1 || o.connections < 0 {
		return nil, errors.New("--shapes, --concurrency, --rounds, --duration, --pool and --verify must not be empty or 0")
	}
	for _, s := range shapes {
		if o.stream && s.Rows%streamSplit != 0 {
			return nil, fmt.Errorf("shape %v: with --stream the rows are divided over %d requests", s, streamSplit)
		}
		if s.Rows > o.entities {
			return nil, fmt.Errorf("shape %v asks for %d entities and --entities says that there are %d", s, s.Rows, o.entities)
		}
	}
	return shapes, nil
}

func parseShapes(texts []string) ([]workload.Shape, error) {
	shapes := make([]workload.Shape, len(texts))
	for i, text := range texts {
		var err error
		if shapes[i], err = workload.ParseShape(text); err != nil {
			return nil, err
		}
	}
	return shapes, nil
}

// contender is one of those that are compared; ratios are of each to the last of them.
type contender struct {
	name string
	// key begins its figures' names in the result line.
	key  string
	part *part
	// raw is whether it answers with stored rows.
	raw bool
	// split is over how many requests on one stream it has the rows of a shape divided; 0 is one unary request.
	split int
}

const (
	// streamSplit is the number of requests that --stream divides the entities over.
	streamSplit = 100
	// zipfExponent is that of --zipf.
	zipfExponent = 1.1
)

// bench is one run of the latency command.
type bench struct {
	o       latencyOptions
	out     io.Writer
	shapes  []workload.Shape
	data    workload.Data
	started time.Time

	redis      *redisserver.Server
	parts      []*part
	contenders []contender
	loader     *loader
	cells      []*cell
	// spent is what measurements took beyond their duration and warm-up, all together.
	spent    time.Duration
	measured int
}

// cell is one shape at one concurrency: some rows of the table.
type cell struct {
	shape       workload.Shape
	concurrency int
	rounds      [][]measurement // of each contender
}

func runLatency(ctx context.Context, out io.Writer, o latencyOptions, started time.Time) error {
	shapes, err := o.check()
	if err != nil {
		return err
	}
	b := &bench{o: o, out: out, shapes: shapes, started: started}
	b.data = workload.Data{Seed: o.seed, Entities: o.entities, BaseMicros: started.Add(-time.Minute).UnixMicro()}
	if o.zipf {
		b.data.Zipf = zipfExponent
	}
	for _, s := range shapes {
		for _, c := range o.concurrencies {
			b.cells = append(b.cells, &cell{shape: s, concurrency: c})
		}
	}
	folder, err := os.MkdirTemp("", "twofold-bench-")
	if err != nil {
		return fmt.Errorf("make a temporary folder: %w", err)
	}
	defer os.RemoveAll(folder)
	defer b.stop()
	if err := b.start(ctx, folder); err != nil {
		return err
	}
	if err := b.verify(ctx); err != nil {
		return err
	}
	if err := b.measure(ctx); err != nil {
		return err
	}
	b.report()
	return nil
}

// start starts every part: Redis with its data, both servers, the load generator.
func (b *bench) start(ctx context.Context, folder string) error {
	var err error
	if b.redis, err = redisserver.Start("--hash-max-listpack-value", fmt.Sprint(b.o.listpackValue)); err != nil {
		return err
	}
	if err := b.describe(ctx); err != nil {
		return err
	}
	if err := b.load(ctx); err != nil {
		return err
	}
	if err := b.startContenders(ctx, folder); err != nil {
		return err
	}
	b.loader, err = startLoader(b.data, b.o.pool)
	return err
}

// startContenders starts those that are compared.
func (b *bench) startContenders(ctx context.Context, folder string) error {
	twofold, err := b.startTwofold(ctx, folder)
	if err != nil {
		return err
	}
	if b.o.zipf {
		cached, err := b.startTwofold(ctx, folder, strings.Fields(b.o.cacheFlags)...)
		if err != nil {
			return err
		}
		b.contenders = []contender{{name: "cache", key: "zipf_", part: cached}, {name: "no cache", part: twofold}}
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	bare, err := startPart(theirs, exec.Command(self, "floor", "--redis", b.redis.Addr, "--shapes", strings.Join(b.o.shapes, ",")))
	if err != nil {
		return err
	}
	b.parts = append(b.parts, bare)
	b.contenders = []contender{{name: ours, part: twofold}, {name: theirs, part: bare, raw: true}}
	if b.o.stream {
		b.contenders = []contender{
			{name: "ours, 1 request", key: "unary_", part: twofold},
			{name: fmt.Sprintf("ours, %d on a stream", streamSplit), key: "stream_", part: twofold, split: streamSplit},
			{name: "floor, 1 request", part: bare, raw: true},
		}
	}
	return nil
}

// startTwofold starts the program under measurement, with further flags.
func (b *bench) startTwofold(ctx context.Context, folder string, more ...string) (*part, error) {
	p, err := startTwofold(ctx, b.o.twofold, b.redis.URL(), folder, workload.Layouts(b.shapes), append(strings.Fields(b.o.serveFlags), more...))
	if err == nil {
		b.parts = append(b.parts, p)
	}
	return p, err
}

// stop ends what was started.
func (b *bench) stop() {
	if b.loader != nil {
		b.loader.stop()
	}
	for _, p := range b.parts {
		p.Stop()
	}
	if b.redis != nil {
		b.redis.Stop()
	}
}

// load writes the entities by the same code that a sync uses.
func (b *bench) load(ctx context.Context) error {
	begun := time.Now()
	if err := b.data.Load(ctx, b.redis.URL(), workload.Layouts(b.shapes)); err != nil {
		return err
	}
	rows := 0
	for _, l := range workload.Layouts(b.shapes) {
		rows += l.Views * b.data.Entities
	}
	took := time.Since(begun)
	fmt.Fprintf(b.out, "loaded %d rows in %.1f s (%.0f rows/s)\n", rows, took.Seconds(), float64(rows)/took.Seconds())
	return nil
}

// verify has everybody's answers compared with what was written. A benchmark must not be able to measure wrong answers.
func (b *bench) verify(ctx context.Context) error {
	verified := 0
	for _, s := range b.shapes {
		for _, c := range b.contenders {
			order := b.order(c, s, max(1, min(verifiers, rowsAtOnce/s.Rows)))
			order.Verify, order.Requests = true, max(1, min(b.o.verify, verifiedRows/s.Rows))
			report, err := b.loader.do(ctx, order)
			if err != nil {
				return b.blame(err)
			}
			verified += report.Verified
		}
	}
	fmt.Fprintf(b.out, "verified %d answers against the values that were written\n", verified)
	return nil
}

const (
	// verifiers is how many answers are verified at once, fewer where they have more than rowsAtOnce rows together: no server should be
	// asked for more than it can answer in time.
	verifiers  = 32
	rowsAtOnce = 30_000
	// verifiedRows bounds the rows of all answers that are verified of a shape.
	verifiedRows = 200_000
)

// blame adds what a server that has ended printed to an error that may come of it.
func (b *bench) blame(err error) error {
	for _, p := range b.parts {
		if failed := p.Failed(); failed != nil {
			return fmt.Errorf("%w\n%w", err, failed)
		}
	}
	return err
}

// loopsPerConnection is how many closed loops share a gRPC connection unless --connections says otherwise.
const loopsPerConnection = 16

func (b *bench) connections(concurrency int) int {
	if b.o.connections > 0 {
		return b.o.connections
	}
	return max(1, concurrency/loopsPerConnection)
}

// measure makes every measurement in each round, those that are compared one right after the other, another of them first each time.
func (b *bench) measure(ctx context.Context) error {
	for _, c := range b.cells {
		c.rounds = make([][]measurement, len(b.contenders))
	}
	for round := range b.o.rounds {
		if !b.hasTime() {
			fmt.Fprintf(b.out, "no time for more rounds: %d of %d were made\n", round, b.o.rounds)
			return nil
		}
		for _, c := range b.cells {
			warmUp, duration := b.times()
			for i := range b.contenders {
				who := (i + round) % len(b.contenders)
				m, err := b.measureOne(ctx, b.contenders[who], c, warmUp, duration)
				if err != nil {
					return b.blame(err)
				}
				c.rounds[who] = append(c.rounds[who], m)
			}
		}
		fmt.Fprintf(b.out, "round %d of %d done after %.0f s\n", round+1, b.o.rounds, time.Since(b.started).Seconds())
	}
	return nil
}

// hasTime reports whether another round fits into the budget, judged by those that were made.
func (b *bench) hasTime() bool {
	if b.o.budget == 0 || b.measured == 0 {
		return true
	}
	shortest := leastMeasured + b.spent/time.Duration(b.measured)
	return time.Since(b.started)+shortest*time.Duration(len(b.cells)*len(b.contenders)) <= b.o.budget
}

// times returns how long the next measurements warm up and last: as asked for, or less where the budget would not be enough.
func (b *bench) times() (warmUp, duration time.Duration) {
	warmUp, duration = b.o.warmUp, b.o.duration
	if b.o.budget == 0 {
		return warmUp, duration
	}
	left := len(b.cells)*len(b.contenders)*b.o.rounds - b.measured
	each := (b.o.budget - time.Since(b.started)) / time.Duration(left)
	if b.measured > 0 {
		each -= b.spent / time.Duration(b.measured)
	}
	if each >= warmUp+duration {
		return warmUp, duration
	}
	warmUp = min(warmUp, each/4)
	return max(warmUp, 0), max(each-warmUp, leastMeasured)
}

// redisClient returns a client for the benchmark's own questions to Redis.
func (b *bench) redisClient() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: b.redis.Addr})
}
