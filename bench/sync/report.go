package main

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"math"
	"runtime"
	"strings"
	"text/tabwriter"

	"github.com/twofold-ml/twofold/bench/internal/process"
	"github.com/twofold-ml/twofold/bench/internal/redisserver"
	"github.com/twofold-ml/twofold/bench/internal/stats"
)

// describe prints what is measured, on what, and with what.
func (b *bench) describe(ctx context.Context) error {
	program, err := buildinfo.ReadFile(b.o.twofold)
	if err != nil {
		return fmt.Errorf("read the build information of %s: %w; build it with make build", b.o.twofold, err)
	}
	server, err := redisserver.Info(ctx, b.client, "server")
	if err != nil {
		return err
	}
	fmt.Fprintln(b.out, "twofold sync from Parquet in S3 into Redis, beside HSET and PEXPIREAT of the same keys and bytes from memory by one client.")
	fmt.Fprintf(b.out, "%s, %d cores, which all processes share; %s, Redis %s\n", process.CPUModel(), runtime.NumCPU(), program.GoVersion, server["redis_version"])
	fmt.Fprintf(b.out, "seed %d; a row: INT64 key, event and created time, %d doubles; floor: %d rows a pipeline; %d online requests/s of %v\n",
		b.o.seed, loaded.Features, b.o.depth, b.o.rate, readShape)
	return nil
}

// of returns a figure of every round.
func (b *bench) of(figure func(round) float64) []float64 {
	values := make([]float64, len(b.rounds))
	for i, r := range b.rounds {
		values[i] = figure(r)
	}
	return values
}

func firstSeconds(r round) float64 { return r.first.elapsed.Seconds() }
func firstRate(r round) float64    { return float64(r.firstRows) / r.first.elapsed.Seconds() }
func floorRate(r round) float64    { return float64(r.floorRows) / r.floor.Seconds() }

// addedSeconds is the time of the sync that found an added file.
func addedSeconds(added int) func(round) float64 {
	return func(r round) float64 { return r.changed[added].elapsed.Seconds() }
}

// unchangedSeconds is the median of the round's runs that found nothing new.
func unchangedSeconds(r round) float64 {
	values := make([]float64, len(r.unchanged))
	for i, u := range r.unchanged {
		values[i] = u.elapsed.Seconds()
	}
	return stats.Median(values)
}

// p99Ratios are the latencies during a sync over the quiet ones, one a round.
func (b *bench) p99Ratios() []float64 {
	ratios := make([]float64, len(b.readings))
	for i, r := range b.readings {
		ratios[i] = float64(r.busy.ValueAtQuantile(99)) / float64(r.quiet.ValueAtQuantile(99))
	}
	return ratios
}

// peak is the greatest memory of a sync in any round.
func (b *bench) peak() float64 {
	most := math.NaN()
	add := func(r *run) {
		if mb := float64(r.peakBytes) / million; math.IsNaN(most) || mb > most {
			most = mb
		}
	}
	for i := range b.rounds {
		add(&b.rounds[i].first.run)
	}
	for i := range b.readings {
		add(&b.readings[i].load)
	}
	return most
}

// report prints the tables and the result line.
func (b *bench) report() {
	if len(b.rounds) > 0 {
		b.reportLoads()
	}
	if len(b.readings) > 0 {
		b.reportReadings()
	}
	if b.full != nil {
		fmt.Fprintf(b.out, "\n%d rows: %.1f s, peak %.0f MB, CPU %.1f s\n", int64(fullRows), b.full.elapsed.Seconds(), float64(b.full.peakBytes)/million, b.full.cpu.Seconds())
	}
	fmt.Fprintf(b.out, "\n%s\n", b.resultLine())
}

func (b *bench) reportLoads() {
	fmt.Fprintf(b.out, "\nmedians of %d rounds; CPU of Redis and of the S3 service is what they used meanwhile\n\n", len(b.rounds))
	w := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "\tseconds\trows/s written\tpeak MB\tCPU s\tRedis CPU s\tS3 CPU s\t\n")
	line := func(name string, of func(round) load, rate func(round) float64) {
		values := []float64{
			stats.Median(b.of(func(r round) float64 { return of(r).elapsed.Seconds() })), stats.Median(b.of(rate)),
			stats.Median(b.of(func(r round) float64 { return float64(of(r).peakBytes) / million })),
			stats.Median(b.of(func(r round) float64 { return of(r).cpu.Seconds() })),
			stats.Median(b.of(func(r round) float64 { return of(r).redisCPU })), stats.Median(b.of(func(r round) float64 { return of(r).gatewayCPU })),
		}
		writeLine(w, name, values)
	}
	none := func(round) float64 { return math.NaN() }
	line("first load", func(r round) load { return r.first }, firstRate)
	line("nothing new", func(r round) load { return load{run: r.unchanged[0], redisCPU: math.NaN(), gatewayCPU: math.NaN()} }, none)
	line("1 % changed", func(r round) load { return r.changed[ofAny] }, none)
	line("of 1 % of the entities", func(r round) load { return r.changed[ofFew] }, none)
	line("floor", func(r round) load {
		return load{run: run{elapsed: r.floor}, redisCPU: math.NaN(), gatewayCPU: math.NaN()}
	}, floorRate)
	for _, alone := range []struct {
		name string
		run  *run
	}{{"reading alone: keys and times", b.keys}, {"reading alone: all", b.reading}} {
		writeLine(w, alone.name, []float64{alone.run.elapsed.Seconds(), math.NaN(), float64(alone.run.peakBytes) / million, alone.run.cpu.Seconds(), math.NaN(), math.NaN()})
	}
	_ = w.Flush() // standard output that cannot be written to has no reader to tell
	reading := b.reading.elapsed.Seconds() / stats.Median(b.of(firstSeconds))
	fmt.Fprintf(b.out, "\nreading alone takes %.2f of the time of a first load\n", reading)
}

func writeLine(w *tabwriter.Writer, name string, values []float64) {
	fmt.Fprintf(w, "%s\t", name)
	for _, v := range values {
		if v == 0 {
			v = math.NaN() // not measured
		}
		fmt.Fprintf(w, "%s\t", stats.Digits(v))
	}
	fmt.Fprint(w, "\t\n")
}

func (b *bench) reportReadings() {
	fmt.Fprintf(b.out, "\nlatencies of online reads in µs, quiet and during a first load, of %d rounds\n\n", len(b.readings))
	w := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "\tquiet\tduring a sync\tratio\t\n")
	for _, quantile := range []float64{50, 90, 99, 99.9} {
		quiet, busy := make([]float64, len(b.readings)), make([]float64, len(b.readings))
		for i, r := range b.readings {
			quiet[i], busy[i] = float64(r.quiet.ValueAtQuantile(quantile)), float64(r.busy.ValueAtQuantile(quantile))
		}
		fmt.Fprintf(w, "p%v\t%s\t%s\t%.2f\t\n", quantile, stats.Digits(stats.Median(quiet)), stats.Digits(stats.Median(busy)), stats.MedianRatio(busy, quiet))
	}
	_ = w.Flush() // as above
	syncs := make([]float64, len(b.readings))
	for i, r := range b.readings {
		syncs[i] = r.load.elapsed.Seconds()
	}
	fmt.Fprintf(b.out, "\nthe sync took %s s meanwhile\n", stats.Digits(stats.Median(syncs)))
}

// resultLine returns the line that programs read.
func (b *bench) resultLine() string {
	var line strings.Builder
	line.WriteString("RESULT")
	add := func(name, format string, value float64) {
		if !math.IsNaN(value) {
			fmt.Fprintf(&line, " %s="+format, name, value)
		}
	}
	add("first_load", "%.2f", stats.MedianRatio(b.of(firstRate), b.of(floorRate)))
	add("unchanged_speedup", "%.1f", stats.MedianRatio(b.of(firstSeconds), b.of(unchangedSeconds)))
	add("one_percent_speedup", "%.1f", stats.MedianRatio(b.of(firstSeconds), b.of(addedSeconds(ofAny))))
	add("one_percent_entities_speedup", "%.1f", stats.MedianRatio(b.of(firstSeconds), b.of(addedSeconds(ofFew))))
	add("peak_mb", "%.0f", b.peak())
	if b.full != nil {
		add("peak_mb_50M", "%.0f", float64(b.full.peakBytes)/million)
	}
	add("p99_during_sync", "%.2f", stats.Median(b.p99Ratios()))
	return line.String()
}
