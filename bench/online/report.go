package main

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"io"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
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
	fmt.Fprintln(b.out, b.title())
	fmt.Fprintf(b.out, "%s, %d cores; server, load generator and redis-server share them\n", process.CPUModel(), runtime.NumCPU())
	fmt.Fprintf(b.out, "ours: %s, grpc %s, go-redis %s; floor: %s, grpc %s, go-redis %s; Redis %s, hash-max-listpack-value %d\n",
		program.GoVersion, version(program, grpcModule), version(program, redisModule),
		runtime.Version(), ownVersion(grpcModule), ownVersion(redisModule), info["redis_version"], b.o.listpackValue)
	fmt.Fprintf(b.out, "seed %d; %d entities of each kind; about %d different requests a shape, none with the same entity twice\n", b.o.seed, b.data.Entities, b.o.pool)
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

// title says what is compared.
func (b *bench) title() string {
	const floor = "a bare grpc-go handler that sends the same Redis commands and returns the stored bytes"
	switch {
	case b.o.stream:
		return fmt.Sprintf("Many entities in one request, and in %d requests on one stream, beside the floor: %s, in one request.", streamSplit, floor)
	case b.o.zipf:
		return fmt.Sprintf("The hot-entity cache (%s) beside a server without it; entities drawn by a Zipf distribution with exponent %v.", b.o.cacheFlags, zipfExponent)
	default:
		return "GetOnlineFeatures beside its floor: " + floor + "."
	}
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

// Columns that the result line has.
var (
	throughputColumn = column{"requests/s", func(m measurement) float64 { return m.throughput }}
	p50Column        = column{"p50 µs", func(m measurement) float64 { return micros(m.p50) }}
	p99Column        = column{"p99 µs", func(m measurement) float64 { return micros(m.p99) }}
)

var columns = []column{
	throughputColumn,
	p50Column,
	p99Column,
	{"CPU µs/req", func(m measurement) float64 { return micros(m.cpu) }},
	{"Redis CPU µs/req", func(m measurement) float64 { return micros(m.redisCPU) }},
	{"allocs/req", func(m measurement) float64 { return m.allocs }},
	{"bytes/req", func(m measurement) float64 { return m.bytes }},
}

// hitColumn is the column of --zipf.
var hitColumn = column{"hit ratio", func(m measurement) float64 { return m.hitRatio }}

// of returns a column's values of one contender, one a round.
func (c column) of(rounds []measurement) []float64 {
	values := make([]float64, len(rounds))
	for i, m := range rounds {
		values[i] = c.value(m)
	}
	return values
}

// ratio returns a column of one contender over that of the last: the median of the rounds' ratios.
func (c *cell) ratio(who int, of column) float64 {
	return stats.MedianRatio(of.of(c.rounds[who]), of.of(c.rounds[len(c.rounds)-1]))
}

// report prints the table and the result line.
func (b *bench) report() {
	base := b.contenders[len(b.contenders)-1].name
	fmt.Fprintf(b.out, "\nmedians of %d rounds; a ratio is the median of the rounds' ratios to %q\n\n", len(b.cells[0].rounds[0]), base)
	shown := columns
	if b.o.zipf {
		shown = append(slices.Clone(columns), hitColumn)
	}
	w := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "shape\tc\tside\t")
	for _, c := range shown {
		fmt.Fprintf(w, "%s\t", c.title)
	}
	fmt.Fprintln(w)
	for _, c := range b.cells {
		b.reportCell(w, c, shown)
	}
	_ = w.Flush() // standard output that cannot be written to has no reader to tell
	fmt.Fprintln(b.out)
	fmt.Fprintln(b.out, b.resultLine())
}

// reportCell prints a row for each contender, and the ratios to the last.
func (b *bench) reportCell(w io.Writer, c *cell, shown []column) {
	for who, contender := range b.contenders {
		fmt.Fprintf(w, "%v\t%d\t%s\t", c.shape, c.concurrency, contender.name)
		for _, column := range shown {
			fmt.Fprintf(w, "%s\t", stats.Digits(stats.Median(column.of(c.rounds[who]))))
		}
		fmt.Fprintln(w)
	}
	for who, contender := range b.contenders[:len(b.contenders)-1] {
		label := "ratio"
		if len(b.contenders) > 2 {
			label += " of " + contender.name
		}
		fmt.Fprintf(w, "\t\t%s\t", label)
		for _, column := range shown {
			if ratio := c.ratio(who, column); math.IsNaN(ratio) {
				fmt.Fprint(w, "-\t")
			} else {
				fmt.Fprintf(w, "%.2f\t", ratio)
			}
		}
		fmt.Fprintln(w)
	}
}

// resultLine returns the line that programs read.
func (b *bench) resultLine() string {
	var line strings.Builder
	line.WriteString("RESULT")
	for _, c := range b.cells {
		for who, contender := range b.contenders[:len(b.contenders)-1] {
			fmt.Fprintf(&line, " %stput_%v_c%d=%.2f", contender.key, c.shape, c.concurrency, c.ratio(who, throughputColumn))
			fmt.Fprintf(&line, " %sp99_%v_c%d=%.2f", contender.key, c.shape, c.concurrency, c.ratio(who, p99Column))
			if b.o.stream {
				fmt.Fprintf(&line, " %sp50_%v_c%d=%.2f", contender.key, c.shape, c.concurrency, c.ratio(who, p50Column))
			}
			if b.o.zipf {
				fmt.Fprintf(&line, " %shits_%v_c%d=%.2f", contender.key, c.shape, c.concurrency, stats.Median(hitColumn.of(c.rounds[who])))
			}
		}
	}
	return line.String()
}
