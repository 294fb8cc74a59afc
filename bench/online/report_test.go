package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twofold-ml/twofold/bench/internal/workload"
)

func rounds(throughputs []float64, p99 ...time.Duration) []measurement {
	all := make([]measurement, len(throughputs))
	for i := range all {
		all[i] = measurement{throughput: throughputs[i], p99: p99[i]}
	}
	return all
}

func TestResultLine(t *testing.T) {
	cells := []*cell{
		{shape: workload.Shape{Views: 5, Features: 10, Rows: 100}, concurrency: 8, rounds: [][]measurement{
			rounds([]float64{83, 9, 84}, 121, 1000, 121), rounds([]float64{100, 10, 102}, 100, 900, 100)}},
		{shape: workload.Shape{Views: 1, Features: 50, Rows: 1}, concurrency: 64, rounds: [][]measurement{
			rounds([]float64{200}, 100), rounds([]float64{100}, 200)}},
	}
	want := "RESULT tput_5x10x100_c8=0.83 p99_5x10x100_c8=1.21 tput_1x50x1_c64=2.00 p99_1x50x1_c64=0.50"
	b := &bench{cells: cells, contenders: []contender{{name: ours}, {name: theirs}}}
	if got := b.resultLine(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestReportEndsWithTheResult(t *testing.T) {
	var out bytes.Buffer
	b := &bench{out: &out, contenders: []contender{{name: ours}, {name: theirs}}, cells: []*cell{{shape: workload.Shape{Views: 5, Features: 10, Rows: 1}, concurrency: 1,
		rounds: [][]measurement{{{throughput: 50, p50: time.Millisecond, cpu: 30 * time.Microsecond}}, {{throughput: 100, p50: 2 * time.Millisecond, cpu: 20 * time.Microsecond}}}}}}
	b.report()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "RESULT tput_5x10x1_c1=0.50 ") {
		t.Errorf("the last line is %q", last)
	}
	for _, want := range []string{"5x10x1 1 ours 50.0 1000 0 30.0", "5x10x1 1 floor 100 2000 0 20.0", "ratio 0.50 0.50 - 1.50"} {
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(strings.Join(strings.Fields(line), " "), want) }) {
			t.Errorf("no line has %q:\n%s", want, out.String())
		}
	}
}

func TestMemoryReport(t *testing.T) {
	l := workload.Layout{Views: 5, Features: 10}
	var out bytes.Buffer
	reportMemory(&out, []memoryResult{
		{layout: l, storage: storages[0], listpack: 64, perEntity: 1274.4}, {layout: l, storage: storages[0], listpack: 1024, perEntity: 890},
		{layout: l, storage: storages[1], perEntity: 1320}, {layout: l, storage: storages[2], listpack: 64, perEntity: 1200},
	}, 64)
	want := "RESULT mem_5x10_ours=1274 mem_5x10_ours_listpack1024=890 mem_5x10_strings=1320 mem_5x10_field_per_feature=1200\n"
	if !strings.HasSuffix(out.String(), want) {
		t.Errorf("got %s\nwant %s", out.String(), want)
	}
	if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), "5x10 strings - 1320 264 1.04") {
		t.Errorf("no bytes a row and share of ours:\n%s", out.String())
	}
}

func TestParseMetric(t *testing.T) {
	text := "# HELP go_memstats_mallocs_total x\n# TYPE go_memstats_mallocs_total counter\ngo_memstats_mallocs_total_other 5\n" +
		"go_memstats_mallocs_total 1.234567e+06\n"
	if got, err := parseMetric(text, mallocsMetric); err != nil || got != 1234567 {
		t.Errorf("got %v, %v", got, err)
	}
	for _, text := range []string{"", "# go_memstats_mallocs_total 1\n", "go_memstats_mallocs_total x\n"} {
		if got, err := parseMetric(text, mallocsMetric); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

func FuzzParseMetric(f *testing.F) {
	f.Add("go_memstats_mallocs_total 1.5\n")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := parseMetric(text, mallocsMetric); err == nil && !strings.Contains(text, mallocsMetric+" ") {
			t.Errorf("%q has no such metric", text)
		}
	})
}

func TestConnections(t *testing.T) {
	b := &bench{}
	for concurrency, want := range map[int]int{1: 1, 8: 1, 16: 1, 64: 4} {
		if got := b.connections(concurrency); got != want {
			t.Errorf("%d connections for %d closed loops, want %d", got, concurrency, want)
		}
	}
	b.o.connections = 3
	if got := b.connections(64); got != 3 {
		t.Errorf("--connections 3 gave %d", got)
	}
}

// TestTimesFitTheBudget looks at what is left for each of the 4 measurements of a run whose budget is an hour.
func TestTimesFitTheBudget(t *testing.T) {
	b := &bench{o: latencyOptions{rounds: 2, warmUp: time.Minute, duration: time.Hour, budget: time.Hour}, cells: make([]*cell, 1), contenders: make([]contender, 2), started: time.Now()}
	warmUp, duration := b.times()
	if total := warmUp + duration; warmUp != time.Minute || total > 15*time.Minute || total < 14*time.Minute {
		t.Errorf("%v and %v of an hour for each of 4", warmUp, duration)
	}
	b.measured, b.spent = 2, 10*time.Minute
	if warmUp, duration = b.times(); warmUp+duration > 25*time.Minute || warmUp+duration < 24*time.Minute {
		t.Errorf("%v and %v for each of the last 2, which take 5 minutes more each", warmUp, duration)
	}
	if !b.hasTime() {
		t.Error("an hour is not enough for 2 measurements")
	}
	b.started = time.Now().Add(-51 * time.Minute)
	if b.hasTime() {
		t.Error("9 minutes are enough for 2 measurements that take 5 more each")
	}
	if warmUp, duration = b.times(); warmUp != 0 || duration != leastMeasured {
		t.Errorf("%v and %v where no time is left", warmUp, duration)
	}
	b.o.budget = 0
	if warmUp, duration = b.times(); warmUp != time.Minute || duration != time.Hour || !b.hasTime() {
		t.Errorf("%v and %v without a budget", warmUp, duration)
	}
}

func TestFlagsAreChecked(t *testing.T) {
	good := latencyOptions{shapes: []string{"5x10x1"}, concurrencies: []int{1}, rounds: 1, duration: 1, pool: 1, verify: 1, entities: 10}
	if _, err := good.check(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*latencyOptions){
		"shape": func(o *latencyOptions) { o.shapes = []string{"5x10"} }, "no shape": func(o *latencyOptions) { o.shapes = nil },
		"concurrency": func(o *latencyOptions) { o.concurrencies = []int{8, 0} }, "rounds": func(o *latencyOptions) { o.rounds = 0 },
		"entities": func(o *latencyOptions) { o.shapes = []string{"5x10x11"} }, "duration": func(o *latencyOptions) { o.duration = 0 },
	} {
		o := good
		spoil(&o)
		if _, err := o.check(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
