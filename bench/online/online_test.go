package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/twofold-ml/twofold/internal/testenv"

	"github.com/twofold-ml/twofold/bench/internal/serving"
	"github.com/twofold-ml/twofold/bench/internal/workload"
)

// timeout is for what takes milliseconds on a machine that is not busy.
const timeout = 30 * time.Second

// startFloor loads a Redis, serves the floor in this process and returns where.
func startFloor(t *testing.T, data workload.Data, shape workload.Shape) serving.Line {
	t.Helper()
	server := testenv.Redis(t)
	layouts := []workload.Layout{shape.Layout()}
	if err := data.Load(t.Context(), server.URL, layouts); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	read, write := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- serveFloor(ctx, server.Addr, layouts, write) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the floor ended with %v", err)
		}
	})
	var at serving.Line
	if err := json.NewDecoder(read).Decode(&at); err != nil {
		t.Fatal(err)
	}
	return at
}

// obey gives orders to a load generator and returns its reports.
func obey(t *testing.T, data workload.Data, orders ...loadOrder) []loadReport {
	t.Helper()
	var in, out bytes.Buffer
	for _, o := range orders {
		if err := json.NewEncoder(&in).Encode(o); err != nil {
			t.Fatal(err)
		}
	}
	if err := newGenerator(data, 50).obey(t.Context(), &in, &out); err != nil {
		t.Fatal(err)
	}
	reports := make([]loadReport, len(orders))
	decoder := json.NewDecoder(&out)
	for i := range reports {
		if err := decoder.Decode(&reports[i]); err != nil {
			t.Fatal(err)
		}
	}
	return reports
}

// TestFloor loads rows with the product's code, and has the load generator verify and measure the floor on them.
func TestFloor(t *testing.T) {
	data := workload.Data{Seed: 11, Entities: 300, BaseMicros: time.Now().UnixMicro()}
	for _, shape := range []workload.Shape{{Views: 5, Features: 10, Rows: 20}, {Views: 1, Features: 50, Rows: 1}} {
		at := startFloor(t, data, shape)
		verify := loadOrder{Verify: true, Contender: theirs, Raw: true, Target: at.GRPC, Shape: shape.String(), Concurrency: 8, Connections: 2, Requests: 40}
		measure := loadOrder{Contender: theirs, Raw: true, Target: at.GRPC, Shape: shape.String(), Concurrency: 4, Connections: 2, Duration: 30 * time.Millisecond}
		reports := obey(t, data, measure, verify, measure)
		if !strings.Contains(reports[0].Error, "was not verified") {
			t.Errorf("%v: it was measured before it was verified: %+v", shape, reports[0])
		}
		if r := reports[1]; r.Error != "" || r.Requests != 40 || r.Verified != 48 {
			t.Errorf("%v: verified: %+v", shape, r)
		}
		r := reports[2]
		if r.Error != "" || r.Requests < 4 || r.Verified < 4 || r.Elapsed < measure.Duration || r.P50 <= 0 || r.P99 < r.P50 {
			t.Errorf("%v: measured: %+v", shape, r)
		}
		if mean := int(r.Bytes) / r.Requests; mean < shape.Rows*shape.Views*8*shape.Features {
			t.Errorf("%v: an answer has %d bytes, less than its values", shape, mean)
		}
		if n, err := (&part{&serving.Server{Name: theirs, HTTP: at.HTTP}}).metrics(t.Context()); err != nil || n.mallocs < 1000 || n.rows != 0 {
			t.Errorf("allocations: %v, %v", n, err)
		}
	}
}

// TestWrongAnswersAreFound expects other values than were written.
func TestWrongAnswersAreFound(t *testing.T) {
	data := workload.Data{Seed: 11, Entities: 100, BaseMicros: time.Now().UnixMicro()}
	shape := workload.Shape{Views: 2, Features: 3, Rows: 2}
	at := startFloor(t, data, shape)
	order := loadOrder{Verify: true, Contender: theirs, Raw: true, Target: at.GRPC, Shape: shape.String(), Concurrency: 2, Connections: 1, Requests: 10}
	wrong := data
	wrong.Seed++
	if r := obey(t, wrong, order)[0]; !strings.Contains(r.Error, "WRONG ANSWER") {
		t.Errorf("values of another seed passed: %+v", r)
	}
	order.Raw = false // the floor's rows are no answer of ours
	if r := obey(t, data, order)[0]; !strings.Contains(r.Error, "WRONG ANSWER") {
		t.Errorf("the floor's answer passed for ours: %+v", r)
	}
	order = loadOrder{Contender: theirs, Raw: true, Target: at.GRPC, Shape: shape.String(), Concurrency: 2, Connections: 1, Duration: time.Millisecond}
	g := newGenerator(data, 10)
	g.sizes[order.Contender+" "+order.Shape] = sizes{1, 10}
	if _, err := g.carryOut(t.Context(), order); err == nil || !strings.Contains(err.Error(), "not plausible") {
		t.Errorf("an answer of another size gave %v", err)
	}
	g = newGenerator(wrong, 10)
	g.sizes[order.Contender+" "+order.Shape] = sizes{1, 10_000}
	if _, err := g.carryOut(t.Context(), order); err == nil || !strings.Contains(err.Error(), "WRONG ANSWER") {
		t.Errorf("wrong values while measuring gave %v", err)
	}
}

func TestFailedCallsAreFound(t *testing.T) {
	data := workload.Data{Seed: 11, Entities: 100, BaseMicros: time.Now().UnixMicro()}
	at := startFloor(t, data, workload.Shape{Views: 2, Features: 3, Rows: 2})
	g := newGenerator(data, 10)
	order := loadOrder{Contender: theirs, Raw: true, Target: at.GRPC, Shape: "7x3x2", Concurrency: 2, Connections: 1, Duration: time.Millisecond}
	g.sizes[order.Contender+" "+order.Shape] = sizes{1, 10_000}
	if _, err := g.carryOut(t.Context(), order); err == nil || !strings.Contains(err.Error(), "InvalidArgument") {
		t.Errorf("a status that is not OK gave %v", err)
	}
}

// TestMemory loads each storage in a Redis of its own and measures it.
func TestMemory(t *testing.T) {
	testenv.Redis(t) // the test is skipped or fails as others do where there is no Redis
	data := workload.Data{Seed: 11, Entities: 400, BaseMicros: time.Now().UnixMicro()}
	l := workload.Layout{Views: 3, Features: 10}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	for _, s := range storages {
		for _, v := range variants(l, s, []int{64}) {
			size, err := measureMemory(ctx, io.Discard, v, data)
			if err != nil {
				t.Fatal(err)
			}
			if least := float64(3 * 10 * 8); size < least || size > 10*least {
				t.Errorf("%s: %v bytes an entity, and its values alone have %v", s.name, size, least)
			}
		}
	}
}
