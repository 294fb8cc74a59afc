package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// oracle makes the training set of a case as one would explain it, with the rows as they follow from the seed.
func oracle(c benchCase) *tally {
	t := &tally{}
	for _, f := range entitySchema().Fields() {
		t.Columns = append(t.Columns, columnTally{Name: f.Name})
	}
	for v := range c.views {
		for _, f := range featureNames() {
			t.Columns = append(t.Columns, columnTally{Name: viewName(v) + ":" + f})
		}
	}
	byKey := make([]map[int64][]int64, len(c.views)) // places of rows
	for v, view := range c.views {
		byKey[v] = map[int64][]int64{}
		for place := range view.rows {
			key := view.event(view.place(place)).key
			byKey[v][key] = append(byKey[v][key], place)
		}
	}
	names := segmentNames()
	for i := range c.entities.rows {
		key, at := c.entities.row(i)
		t.start(1)
		for column, value := range []int64{key, at, i} {
			t.int64s(column, []int64{value}, validity{})
		}
		for v, view := range c.views {
			addWinner(t, 3+v*(featureDoubles+1), view, newest(view, byKey[v][key], at), names)
		}
		t.finish()
	}
	return t
}

// newest returns the row that is joined, -1 for none.
func newest(view table, places []int64, at int64) int64 {
	best := int64(-1)
	for _, place := range places {
		row := view.place(place)
		e := view.event(row)
		if e.eventMicros > at || at-e.eventMicros > ttlMicros {
			continue
		}
		if best >= 0 {
			if b := view.event(best); e.eventMicros < b.eventMicros || e.eventMicros == b.eventMicros && e.createdMicros < b.createdMicros {
				continue
			}
		}
		best = row
	}
	return best
}

var null = validity{bits: []byte{0}}

func addWinner(t *tally, column int, view table, row int64, names []string) {
	for f := range featureDoubles {
		v, ok := 0.0, false
		if row >= 0 {
			v, ok = view.double(row, f)
		}
		t.doubles(column+f, []float64{v}, nullUnless(ok))
	}
	number, ok := 0, false
	if row >= 0 {
		number, ok = view.segment(row)
	}
	t.strings(column+featureDoubles, func(int) string { return names[number] }, nullUnless(ok))
}

func nullUnless(ok bool) validity {
	if ok {
		return validity{}
	}
	return null
}

// buildTwofold builds the program under measurement, once for all tests.
func buildTwofold(t *testing.T) string {
	t.Helper()
	program, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

var built = sync.OnceValues(func() (string, error) {
	program := filepath.Join(testFolder, "twofold")
	if out, err := exec.Command("go", "build", "-C", "../..", "-o", program, "./cmd/twofold").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build twofold: %w\n%s", err, out)
	}
	return program, nil
})

func newBench(t *testing.T, o options) *bench {
	t.Helper()
	folder := t.TempDir()
	b := &bench{o: o, out: io.Discard, begun: time.Now(), folder: folder, data: filepath.Join(folder, "data")}
	t.Cleanup(b.stop)
	return b
}

// TestEnginesAgree has small cases of every kind measured: all engines must have what the oracle has, except for the ties of the plain ASOF join.
func TestEnginesAgree(t *testing.T) {
	b := newBench(t, options{twofold: buildTwofold(t), threads: 2})
	view := table{seed: 21, rows: 8000}
	shuffled, other := view, table{seed: 22, rows: 5000}
	shuffled.shuffled = true
	cases := []benchCase{
		{name: "1kx1k", views: []table{view}, entities: entityTable{rows: 3000, of: view}, rounds: 2},
		{name: shuffledCase, views: []table{shuffled}, entities: entityTable{rows: 3000, of: view}, rounds: 1},
		{name: prunedCase, views: []table{view}, entities: entityTable{rows: 500, of: view, recent: true}, rounds: 1, times: true},
		{name: fiveViewsCase, views: []table{view, other}, entities: entityTable{rows: 3000, of: view}, rounds: 1},
	}
	if err := b.measureGroup(t.Context(), cases); err != nil {
		t.Fatal(err)
	}
	for _, r := range b.results {
		if d := r.truth.differences(oracle(r.benchCase)); d != "" {
			t.Errorf("%s differs from the oracle: %s", r.name, d)
		}
		for who, rounds := range r.rounds {
			if len(rounds) != r.benchCase.rounds {
				t.Errorf("%s: %s was measured %d times", r.name, r.contenders[who].name, len(rounds))
			}
			for _, m := range rounds {
				if m.elapsed <= 0 || m.peakBytes < million || (m.clientPeakBytes > 0) != (r.contenders[who].engine == ours) {
					t.Errorf("%s: %s: %+v", r.name, r.contenders[who].name, m)
				}
			}
		}
	}
	b.report()
}

// TestThroughS3 reads a small table through an S3 service.
func TestThroughS3(t *testing.T) {
	program := "../../.tools/versitygw"
	if named := os.Getenv("VERSITYGW"); named != "" {
		program = named
	}
	if strings.Contains(os.Getenv("TWOFOLD_TEST_SKIP"), "s3") {
		t.Skip("TWOFOLD_TEST_SKIP names s3")
	}
	b := newBench(t, options{twofold: buildTwofold(t), versitygw: program, threads: 2, only: onlyTwofold})
	view := table{seed: 21, rows: 8000}
	c := benchCase{name: "8kx1k", views: []table{view}, entities: entityTable{rows: 1000, of: view}, rounds: 1, s3: true}
	if err := b.measureGroup(t.Context(), []benchCase{c}); err != nil {
		t.Fatal(err)
	}
	r := b.results[0]
	if d := r.truth.differences(oracle(c)); d != "" || len(r.contenders) != 2 {
		t.Errorf("%d contenders, %s", len(r.contenders), d)
	}
}

func TestWrongResultsAreFound(t *testing.T) {
	r := &result{benchCase: benchCase{entities: entityTable{rows: 2}}}
	row, other := [3]any{1, 1.5, "one"}, [3]any{2, 2.5, "two"}
	if err := r.verify(contender{engine: exact}, rowsOf(1, row)); err == nil {
		t.Error("a row that is lacking was not found")
	}
	for _, e := range []engine{exact, ours, hashed} {
		if err := r.verify(contender{engine: e}, rowsOf(1, row, other)); err != nil {
			t.Error(err)
		}
	}
	wrong := rowsOf(1, row, row)
	if err := r.verify(contender{engine: ours}, wrong); err == nil || !strings.Contains(err.Error(), "WRONG RESULT") {
		t.Errorf("got %v", err)
	}
	if err := r.verify(contender{engine: asof}, wrong); err != nil {
		t.Errorf("a plain ASOF join may have other rows: %v", err)
	}
}

func TestFailuresOfDuckDB(t *testing.T) {
	d, err := openDuck()
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	for sql, want := range map[string]string{
		"SELEC 1": "syntax error",
		"SELECT * FROM read_parquet('/no/such/file')":                   "No files found",
		"SELECT error('too late') FROM range(100000) WHERE range > 9e4": "too late",
		"SELECT 1::SMALLINT": "type",
	} {
		if _, err := d.consume(sql); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", sql, err)
		}
	}
	if _, err := runChild(t.Context(), duckUse, order{SQL: "SELEC 1"}); err == nil || !strings.Contains(err.Error(), "syntax error") {
		t.Errorf("got %v", err)
	}
	if _, err := openDuck("SET threads = 'many'"); err == nil {
		t.Error("a setting that cannot be was taken")
	}
}

func TestCases(t *testing.T) {
	o := caseOptions{seed: 1, rounds: 3, s3: true, prunedRows: recordRows}
	for name, want := range map[string]string{
		"10Mx1M":      "10M × 1M, time order",
		"2Mx200k":     "2M × 200k, time order",
		"7x3":         "7 × 3, time order",
		shuffledCase:  "10M × 1M, shuffled",
		prunedCase:    "10M × 19k of the last 7 days, time order",
		fiveViewsCase: "5 × 2M × 1M, time order",
	} {
		if c, err := newCase(name, o); err != nil || c.title() != want || c.rounds != 3 || !c.s3 {
			t.Errorf("%s: %q, %+v, %v", name, c.title(), c, err)
		}
	}
	large, err := newCase("100Mx1M", o)
	if err != nil || large.rounds != 1 || large.s3 {
		t.Errorf("%+v, %v", large, err)
	}
	for _, name := range []string{"", "10M", "0x1", "1x0", "10Gx1M", "-1x1", "9999999x1"} {
		if _, err := newCase(name, o); err == nil {
			t.Errorf("%q is taken for a case", name)
		}
	}
	small, _ := newCase("2Mx1M", o)
	if got := groups([]benchCase{small, large, small}); len(got) != 2 || len(got[0]) != 2 || got[1][0].name != "100Mx1M" {
		t.Errorf("got %v", got)
	}
}

func TestOptions(t *testing.T) {
	for _, args := range []string{"--rounds 0", "--threads 0", "--only x", "--cases x", "--cases 1kx1k,1kx1k", "--quick --full", "--twofold /no/such/program"} {
		cmd := root()
		cmd.SetArgs(append([]string{"run"}, strings.Fields(args)...))
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		if err := cmd.ExecuteContext(t.Context()); err == nil {
			t.Errorf("%s is taken", args)
		}
	}
}

// measured returns a result with one round of these seconds and megabytes.
func measured(name string, rows int64, seconds, megabytes []float64) *result {
	t := table{rows: rows}
	r := &result{benchCase: benchCase{name: name, views: []table{t}, entities: entityTable{rows: 5, of: t}}}
	r.contenders = []contender{{name: "twofold", engine: ours}, {name: "asof", key: asofKey}, {name: "exact", key: exactKey}, {name: "S3", key: s3Key}}
	for i := range r.contenders {
		m := measurement{elapsed: time.Duration(seconds[i] * float64(time.Second)), peakBytes: int64(megabytes[i] * million)}
		r.rounds = append(r.rounds, []measurement{m})
	}
	return r
}

func TestResultLine(t *testing.T) {
	results := []*result{
		measured(shuffledCase, 9, []float64{1, 2, 3, 1.5}, []float64{100, 200, 500, 100}),
		measured("10Mx1M", 9, []float64{2, 4, 8, 3}, []float64{100, 200, 400, 100}),
		measured(prunedCase, 9, []float64{1, 10, 20, 3}, []float64{100, 200, 400, 100}),
	}
	want := "RESULT 10Mx1M_speed_exact=4.00 10Mx1M_speed_asof=2.00 10Mx1M_mem=0.25 pruned_speed=20.00 s3_over_local=1.50 " +
		"shuffled_speed_exact=3.00 shuffled_speed_asof=2.00 shuffled_mem=0.20 shuffled_s3_over_local=1.50 " +
		"pruned_speed_asof=10.00 pruned_mem=0.25 pruned_s3_over_local=3.00"
	if got := resultLine(results); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestPlot(t *testing.T) {
	ones := []float64{1, 1, 1, 1}
	results := []*result{
		measured("100Mx1M", 100*million, ones, []float64{310, 18000, 20000, 0}),
		measured("10Mx1M", 10*million, ones, []float64{300, 2000, 2500, 0}),
		measured(prunedCase, 10*million, ones, []float64{1, 1, 1, 1}),
	}
	lines := curve(results)
	if len(lines) != 3 || lines[2].name != "twofold serve" || lines[2].points[0] != (point{10, 300}) || lines[2].points[1] != (point{100, 310}) {
		t.Fatalf("got %+v", lines)
	}
	b := newBench(t, options{plot: filepath.Join(t.TempDir(), "plot.svg")})
	if err := b.plot(); err == nil {
		t.Error("a plot of nothing was written")
	}
	b.results = results
	if err := b.plot(); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(b.o.plot)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	polylines := 0
	for decoder := xml.NewDecoder(file); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "polyline" {
			polylines++
		}
	}
	if polylines != len(lines) {
		t.Errorf("%d lines are drawn", polylines)
	}
}
