package main

import (
	"debug/buildinfo"
	"fmt"
	"io"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/twofold-ml/twofold/bench/internal/process"
	"github.com/twofold-ml/twofold/bench/internal/stats"
)

// Ends of names in the result line.
const (
	asofKey  = "asof"
	exactKey = "exact"
	hashKey  = "hash"
	timesKey = "_times"
	s3Key    = "s3_over_local"
)

const duckModule = "github.com/duckdb/duckdb-go/v2"

// describe prints what is measured, on what, and with what.
func (b *bench) describe() error {
	program, err := buildinfo.ReadFile(b.o.twofold)
	if err != nil {
		return fmt.Errorf("read the build information of %s: %w; build it with make build", b.o.twofold, err)
	}
	version, err := duckVersion()
	if err != nil {
		return err
	}
	fmt.Fprintln(b.out, "GetHistoricalFeatures beside DuckDB on the same Parquet files; both results are read to the last value.")
	fmt.Fprintf(b.out, "%s, %d cores; server and client share them\n", process.CPUModel(), runtime.NumCPU())
	fmt.Fprintf(b.out, "ours: %s, asked through gRPC for Arrow, GOMAXPROCS %d; DuckDB %s by duckdb-go %s, streamed through its C API, %d threads\n",
		program.GoVersion, b.o.threads, version, duckModuleVersion(), b.o.threads)
	fmt.Fprintf(b.out, "seed %d; a view: INT64 key, event and created time, %d doubles, 1 string; about %d rows a key over %d days, ttl %d days\n",
		b.o.seed, featureDoubles, rowsAKey, spanDays, ttlDays)
	return nil
}

// duckVersion asks the library that is linked.
func duckVersion() (string, error) {
	d, err := openDuck()
	if err != nil {
		return "", err
	}
	defer d.close()
	return d.version(), nil
}

func duckModuleVersion() string {
	own, ok := debug.ReadBuildInfo()
	if ok {
		for _, m := range own.Deps {
			if m.Path == duckModule {
				return m.Version
			}
		}
	}
	return "unknown"
}

// column is one column of the report's table.
type column struct {
	title string
	value func(benchCase, measurement) float64
}

func megabytes(bytes int64) float64 { return float64(bytes) / million }

// Columns that the result line has.
var (
	secondsColumn = column{"seconds", func(_ benchCase, m measurement) float64 { return m.elapsed.Seconds() }}
	peakColumn    = column{"peak MB", func(_ benchCase, m measurement) float64 { return megabytes(m.peakBytes) }}
)

var columns = []column{
	secondsColumn,
	{"M rows/s", func(c benchCase, m measurement) float64 {
		return float64(c.featureRows()) / million / m.elapsed.Seconds()
	}},
	peakColumn,
	{"CPU s", func(_ benchCase, m measurement) float64 { return m.cpu.Seconds() }},
	{"client MB", func(_ benchCase, m measurement) float64 { return orNone(megabytes(m.clientPeakBytes)) }},
	{"client CPU s", func(_ benchCase, m measurement) float64 { return orNone(m.clientCPU.Seconds()) }},
}

// orNone shows what DuckDB does not have as such.
func orNone(v float64) float64 {
	if v == 0 {
		return math.NaN()
	}
	return v
}

// of returns a column's values of one contender, one a round.
func (r *result) of(who int, c column) []float64 {
	values := make([]float64, len(r.rounds[who]))
	for i, m := range r.rounds[who] {
		values[i] = c.value(r.benchCase, m)
	}
	return values
}

// find returns the contender of a key; "" is ours on the local disk.
func (r *result) find(key string) (who int, ok bool) {
	for i, c := range r.contenders {
		if c.key == key {
			return i, true
		}
	}
	return 0, false
}

// over returns a column of one contender over that of another: the median of the rounds' ratios, NaN where one of them was not measured.
func (r *result) over(key, base string, c column) float64 {
	a, ok := r.find(key)
	b, okBase := r.find(base)
	if !ok || !okBase {
		return math.NaN()
	}
	return stats.MedianRatio(r.of(a, c), r.of(b, c))
}

// report prints the table and the result line.
func (b *bench) report() {
	fmt.Fprint(b.out, "\nmedians of the rounds; M rows/s are million feature rows of the sources a second\n\n")
	for _, r := range b.results {
		b.reportCase(r)
	}
	fmt.Fprintln(b.out, resultLine(b.results))
}

func (b *bench) reportCase(r *result) {
	fmt.Fprintf(b.out, "%s: %s, %d rounds, content %s\n", r.name, r.title(), len(r.rounds[0]), r.content())
	w := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "\t")
	for _, c := range columns {
		fmt.Fprintf(w, "%s\t", c.title)
	}
	fmt.Fprint(w, "time / ours\tpeak / ours\t\n")
	for who, c := range r.contenders {
		r.reportContender(w, who, c)
	}
	_ = w.Flush() // standard output that cannot be written to has no reader to tell
	fmt.Fprintln(b.out)
}

func (r *result) reportContender(w io.Writer, who int, c contender) {
	fmt.Fprintf(w, "%s\t", c.name)
	for _, column := range columns {
		fmt.Fprintf(w, "%s\t", stats.Digits(stats.Median(r.of(who, column))))
	}
	fmt.Fprintf(w, "%s\t%s\t\n", ratio(r.over(c.key, "", secondsColumn)), ratio(r.over(c.key, "", peakColumn)))
}

// ratio formats a ratio.
func ratio(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return fmt.Sprintf("%.2f", v)
}

// content names what all exact contenders had.
func (r *result) content() string {
	if r.truth == nil {
		return "unknown"
	}
	return fmt.Sprintf("%016x", r.truth.Content)
}

// figure is a name and value of the result line.
type figure struct {
	name  string
	value float64
}

// figures returns what the result line has of a case. Speeds are DuckDB's time over ours; mem is our peak memory over DuckDB's.
func (r *result) figures() []figure {
	speed, mem := r.name+"_speed_", r.name+"_mem"
	exactSpeed, s3 := speed+exactKey, r.name+"_"+s3Key
	switch r.name {
	case prunedCase:
		exactSpeed = "pruned_speed"
	case recordCases[0]:
		s3 = s3Key
	}
	all := []figure{
		{exactSpeed, r.over(exactKey, "", secondsColumn)},
		{speed + asofKey, r.over(asofKey, "", secondsColumn)},
		{mem, r.over("", exactKey, peakColumn)},
		{speed + hashKey, r.over(hashKey, "", secondsColumn)},
		{mem + "_" + hashKey, r.over("", hashKey, peakColumn)},
		{speed + exactKey + timesKey, r.over(exactKey+timesKey, "", secondsColumn)},
		{speed + hashKey + timesKey, r.over(hashKey+timesKey, "", secondsColumn)},
		{s3, r.over(s3Key, "", secondsColumn)},
	}
	return slices.DeleteFunc(all, func(f figure) bool { return math.IsNaN(f.value) })
}

// mainFigures come first in the result line.
var mainFigures = []string{"10Mx1M_speed_exact", "10Mx1M_speed_asof", "10Mx1M_mem", "pruned_speed", s3Key}

// resultLine returns the line that programs read.
func resultLine(results []*result) string {
	var all []figure
	for _, r := range results {
		all = append(all, r.figures()...)
	}
	place := func(f figure) int {
		if i := slices.Index(mainFigures, f.name); i >= 0 {
			return i
		}
		return len(mainFigures)
	}
	slices.SortStableFunc(all, func(a, b figure) int { return place(a) - place(b) })
	line := &strings.Builder{}
	line.WriteString("RESULT")
	for _, f := range all {
		fmt.Fprintf(line, " %s=%.2f", f.name, f.value)
	}
	return line.String()
}
