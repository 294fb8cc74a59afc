package main

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/twofold-ml/twofold/bench/internal/process"
	"github.com/twofold-ml/twofold/bench/internal/redisserver"
	"github.com/twofold-ml/twofold/bench/internal/stats"
)

// describe prints what is measured, on what, and with what.
func (b *bench) describe(ctx context.Context) error {
	client := b.redisClient()
	defer client.Close()
	info, err := redisserver.Info(ctx, client, "server")
	if err != nil {
		return err
	}
	program, err := buildinfo.ReadFile(b.o.twofold)
	if err != nil {
		return fmt.Errorf("read the build information of %s: %w; build it with make build", b.o.twofold, err)
	}
	fmt.Fprintf(b.out, "GetOnlineFeatures beside its floor: a bare grpc-go handler that sends the same Redis commands and returns the stored bytes.\n")
	fmt.Fprintf(b.out, "%s, %d cores; server, load generator and redis-server share them\n", process.CPUModel(), runtime.NumCPU())
	fmt.Fprintf(b.out, "ours: %s, grpc %s, go-redis %s; floor: %s, grpc %s, go-redis %s; Redis %s, hash-max-listpack-value %d\n",
		program.GoVersion, version(program, grpcModule), version(program, redisModule),
		runtime.Version(), ownVersion(grpcModule), ownVersion(redisModule), info["redis_version"], b.o.listpackValue)
	fmt.Fprintf(b.out, "seed %d; %d entities of each kind; %d different requests a shape, none with the same entity twice\n", b.o.seed, b.data.Entities, b.o.pool)
	connections := make([]string, len(b.o.concurrencies))
	for i, c := range b.o.concurrencies {
		connections[i] = fmt.Sprintf("%d for c%d", b.connections(c), c)
	}
	fmt.Fprintf(b.out, "load generator: closed loops, gRPC connections: %s; it sends encoded requests and does not decode measured answers:\n"+
		"it checks status and size of each, and the values of a sample when the time is over\n", strings.Join(connections, ", "))
	fmt.Fprintf(b.out, "%d rounds of %v each, warm-up %v", b.o.rounds, b.o.duration, b.o.warmUp)
	if b.o.budget > 0 {
		fmt.Fprintf(b.out, ", shortened to end within 50 s (quick: for a first look, not for the record)")
	}
	fmt.Fprintln(b.out)
	return nil
}

// Modules whose versions are told.
const (
	grpcModule  = "google.golang.org/grpc"
	redisModule = "github.com/redis/go-redis/v9"
)

func ownVersion(module string) string {
	own, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return version(own, module)
}

func version(program *debug.BuildInfo, module string) string {
	for _, m := range program.Deps {
		if m.Path == module {
			return m.Version
		}
	}
	return "unknown"
}

// column is one column of the report's table.
type column struct {
	title string
	value func(measurement) float64
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

var columns = []column{
	{"requests/s", func(m measurement) float64 { return m.throughput }},
	{"p50 µs", func(m measurement) float64 { return micros(m.p50) }},
	{"p99 µs", func(m measurement) float64 { return micros(m.p99) }},
	{"CPU µs/req", func(m measurement) float64 { return micros(m.cpu) }},
	{"Redis CPU µs/req", func(m measurement) float64 { return micros(m.redisCPU) }},
	{"allocs/req", func(m measurement) float64 { return m.allocs }},
	{"bytes/answer", func(m measurement) float64 { return m.bytes }},
}

// of returns a column's values of one side, one a round.
func (c column) of(rounds []measurement) []float64 {
	values := make([]float64, len(rounds))
	for i, m := range rounds {
		values[i] = c.value(m)
	}
	return values
}

// ratio returns ours over the floor's: the median of the rounds' ratios.
func (c *cell) ratio(of column) float64 {
	return stats.MedianRatio(of.of(c.rounds[0]), of.of(c.rounds[1]))
}

// report prints the table and the result line.
func (b *bench) report() {
	fmt.Fprintf(b.out, "\nmedians of %d rounds; a ratio is the median of the rounds' ratios, ours over the floor's\n\n", len(b.cells[0].rounds[0]))
	w := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "shape\tc\tside\t")
	for _, c := range columns {
		fmt.Fprintf(w, "%s\t", c.title)
	}
	fmt.Fprintln(w)
	for _, c := range b.cells {
		for side := range c.rounds {
			fmt.Fprintf(w, "%v\t%d\t%s\t", c.shape, c.concurrency, b.sides[side].side)
			for _, column := range columns {
				fmt.Fprintf(w, "%s\t", stats.Digits(stats.Median(column.of(c.rounds[side]))))
			}
			fmt.Fprintln(w)
		}
		fmt.Fprint(w, "\t\tratio\t")
		for _, column := range columns {
			fmt.Fprintf(w, "%.2f\t", c.ratio(column))
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // standard output that cannot be written to has no reader to tell
	fmt.Fprintln(b.out)
	fmt.Fprintln(b.out, resultLine(b.cells))
}

// resultLine returns the line that programs read.
func resultLine(cells []*cell) string {
	var line strings.Builder
	line.WriteString("RESULT")
	for _, c := range cells {
		fmt.Fprintf(&line, " tput_%v_c%d=%.2f p99_%v_c%d=%.2f", c.shape, c.concurrency, c.ratio(columns[0]), c.shape, c.concurrency, c.ratio(columns[2]))
	}
	return line.String()
}
