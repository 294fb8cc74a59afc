package main

import (
	"bytes"
	"math"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

var small = history{seed: 7, rows: 4000, entities: 500}

// TestRun runs the whole benchmark on little data: it checks what is stored against the history by itself, so that all that is left to see is the report.
func TestRun(t *testing.T) {
	program := filepath.Join(testFolder, "twofold")
	if out, err := exec.Command("go", "build", "-C", "../..", "-o", program, "./cmd/twofold").CombinedOutput(); err != nil {
		t.Fatalf("build twofold: %v\n%s", err, out)
	}
	o := options{
		twofold: program, versitygw: "../../.tools/versitygw", data: filepath.Join(testFolder, "data"), rows: small.rows, entities: small.entities, seed: small.seed,
		rounds: 2, readings: 1, rate: 100, depth: 100,
	}
	var out bytes.Buffer
	if err := o.run(t.Context(), &out, time.Now()); err != nil {
		t.Fatalf("%v; it printed:\n%s", err, out.String())
	}
	line := regexp.MustCompile(`\nRESULT first_load=[0-9.]+ unchanged_speedup=[0-9.]+ one_percent_speedup=[0-9.]+ one_percent_entities_speedup=[0-9.]+ peak_mb=[1-9][0-9]* p99_during_sync=[0-9.]+\n$`)
	if !line.MatchString(out.String()) {
		t.Errorf("the result line is not as it should be:\n%s", out.String())
	}
	o.rounds, o.readings = 1, 0
	out.Reset()
	if err := o.run(t.Context(), &out, time.Now()); err != nil { // with the data that is there
		t.Fatalf("%v; it printed:\n%s", err, out.String())
	}
	if strings.Contains(out.String(), "p99_during_sync") {
		t.Errorf("latencies are told that were not measured:\n%s", out.String())
	}
}

// storedRows are what a right sync leaves of the first rows of a history.
func storedRows(t *testing.T, h history, newest []int64) (rows []storedRow) {
	for entity, row := range newest {
		if row < 0 {
			continue
		}
		stored := &twofoldv1.StoredRow{EventTimeMicros: h.eventMicros(row), CreatedTimeMicros: h.createdMicros(row), SchemaFingerprint: 1, Nulls: make([]byte, 2)}
		for f := range loaded.Features {
			v, null := h.value(row, f)
			if null {
				stored.Nulls[f/8] |= 1 << (f % 8)
			}
			stored.Slots = append(stored.Slots, math.Float64bits(v))
		}
		value, err := proto.Marshal(stored)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, storedRow{loadedKeyPrefix + strconv.Itoa(entity), loadedView, string(value), h.eventMicros(row)/1000 + 1})
	}
	return rows
}

// TestCheck: no wrong result passes.
func TestCheck(t *testing.T) {
	newest := small.newest(small.rows)
	right := storedRows(t, small, newest)
	if err := small.check(right, newest); err != nil {
		t.Fatal(err)
	}
	other := storedRows(t, history{seed: 8, rows: small.rows, entities: small.entities}, newest)
	for name, spoil := range map[string]func(rows []storedRow) []storedRow{
		"a missing row":      func(rows []storedRow) []storedRow { return rows[1:] },
		"a row too many":     func(rows []storedRow) []storedRow { return append(rows, storedRow{key: loadedKeyPrefix + "500"}) },
		"an entity twice":    func(rows []storedRow) []storedRow { rows[1] = rows[0]; return rows },
		"a key that is none": func(rows []storedRow) []storedRow { rows[3].key = loadedKeyPrefix + "x"; return rows },
		"rows exchanged": func(rows []storedRow) []storedRow {
			rows[1].value, rows[2].value = rows[2].value, rows[1].value
			return rows
		},
		"other values":         func(rows []storedRow) []storedRow { rows[4].value = other[4].value; return rows },
		"another field":        func(rows []storedRow) []storedRow { rows[5].field = "x"; return rows },
		"a value that is none": func(rows []storedRow) []storedRow { rows[6].value = "\xff"; return rows },
		"an early expiry":      func(rows []storedRow) []storedRow { rows[7].expireAt = 1; return rows },
	} {
		if err := small.check(spoil(slices.Clone(right)), newest); err == nil || !strings.Contains(err.Error(), "WRONG RESULT") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := small.check(right, small.newest(small.until(ofAny))); err == nil {
		t.Error("rows of before the change passed for those after it")
	}
	if entities := small.changedEntities(ofFew); entities > small.entities/changedOneIn {
		t.Errorf("the second file that is added has rows of %d entities", entities)
	}
	if entities := small.changedEntities(ofAny); entities <= small.entities/changedOneIn {
		t.Errorf("the first file that is added has rows of %d entities only", entities)
	}
}

// changedEntities is of how many entities an added file has rows.
func (h history) changedEntities(added int) int64 {
	before, after := h.newest(h.until(added)-h.changed()), h.newest(h.until(added))
	changed := int64(0)
	for entity := range before {
		if before[entity] != after[entity] {
			changed++
		}
	}
	return changed
}

func TestResultLine(t *testing.T) {
	b := &bench{rounds: []round{{
		first: load{run: run{elapsed: 10 * time.Second, peakBytes: 300e6}}, unchanged: []run{{elapsed: 100 * time.Millisecond}},
		changed: [addedFiles]load{{run: run{elapsed: time.Second}}, {run: run{elapsed: 200 * time.Millisecond}}}, floor: 8 * time.Second, floorRows: 1000, firstRows: 1000,
	}}}
	if got, want := b.resultLine(), "RESULT first_load=0.80 unchanged_speedup=100.0 one_percent_speedup=10.0 one_percent_entities_speedup=50.0 peak_mb=300"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestBadOptions(t *testing.T) {
	good := options{rows: 1000, entities: 10, rounds: 1, rate: 1, depth: 1}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(o *options){
		"no rows": func(o *options) { o.rows = 0 }, "no rate": func(o *options) { o.rate = 0 }, "no depth": func(o *options) { o.depth = 0 },
		"nothing to measure": func(o *options) { o.rounds = 0 }, "no entities": func(o *options) { o.entities = 0 },
	} {
		o := good
		spoil(&o)
		if o.check() == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
