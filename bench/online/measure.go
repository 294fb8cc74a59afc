package main

import (
	"context"
	"time"

	"github.com/twofold-ml/twofold/bench/internal/process"
	"github.com/twofold-ml/twofold/bench/internal/workload"
)

// measurement is what one contender did in one round.
type measurement struct {
	requests   int
	throughput float64 // requests a second
	p50, p99   time.Duration
	cpu        time.Duration // of the server, a request
	redisCPU   time.Duration // of redis-server, a request
	allocs     float64       // heap objects of the server, a request
	bytes      float64       // of an answer
	hitRatio   float64       // of the rows read, those that were in the cache; NaN without one
}

// counters are what is read before and after a measurement.
type counters struct {
	cpu, redisCPU time.Duration
	metrics       metrics
}

// count reads the counters of a server and of Redis.
func (b *bench) count(ctx context.Context, p *part) (counters, error) {
	m, err := p.metrics(ctx)
	if err != nil {
		return counters{}, err
	}
	cpu, err := process.CPUTime(p.PID())
	if err != nil {
		return counters{}, err
	}
	redisCPU, err := process.CPUTime(b.redis.PID())
	return counters{cpu: cpu, redisCPU: redisCPU, metrics: m}, err
}

// order returns what the load generator is to do with one contender.
func (b *bench) order(c contender, shape workload.Shape, concurrency int) loadOrder {
	return loadOrder{Contender: c.name, Target: c.part.GRPC, Raw: c.raw, Shape: shape.String(), Split: c.split, Concurrency: concurrency,
		Connections: b.connections(concurrency)}
}

// measureOne warms one contender up and measures it.
func (b *bench) measureOne(ctx context.Context, who contender, c *cell, warmUp, duration time.Duration) (measurement, error) {
	begun := time.Now()
	p, order := who.part, b.order(who, c.shape, c.concurrency)
	if warmUp > 0 {
		order.Duration = warmUp
		if _, err := b.loader.do(ctx, order); err != nil {
			return measurement{}, err
		}
	}
	// Asking for the allocations allocates too; how much, two questions in a row tell.
	first, err := p.metrics(ctx)
	if err != nil {
		return measurement{}, err
	}
	before, err := b.count(ctx, p)
	if err != nil {
		return measurement{}, err
	}
	order.Duration = duration
	report, err := b.loader.do(ctx, order)
	if err != nil {
		return measurement{}, err
	}
	// CPU times first: the question for the allocations is no part of the measurement.
	cpu, err := process.CPUTime(p.PID())
	if err != nil {
		return measurement{}, err
	}
	after, err := b.count(ctx, p)
	if err != nil {
		return measurement{}, err
	}
	after.cpu = cpu
	b.measured++
	b.spent += time.Since(begun) - warmUp - duration
	n := float64(report.Requests)
	asking := before.metrics.mallocs - first.mallocs
	return measurement{
		requests:   report.Requests,
		throughput: n / report.Elapsed.Seconds(),
		p50:        report.P50,
		p99:        report.P99,
		cpu:        time.Duration(float64(after.cpu-before.cpu) / n),
		redisCPU:   time.Duration(float64(after.redisCPU-before.redisCPU) / n),
		allocs:     max(0, after.metrics.mallocs-before.metrics.mallocs-asking) / n,
		bytes:      float64(report.Bytes) / n,
		hitRatio:   (after.metrics.hits - before.metrics.hits) / (after.metrics.rows - before.metrics.rows),
	}, nil
}
