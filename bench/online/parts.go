package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/twofold-ml/twofold/bench/internal/process"
	"github.com/twofold-ml/twofold/bench/internal/serving"
	"github.com/twofold-ml/twofold/bench/internal/workload"
)

// Names of servers.
const (
	ours   = "ours"
	theirs = "floor"
)

// part is a server under measurement.
type part struct{ *serving.Server }

// startPart starts a server and waits until it says where it serves.
func startPart(name string, command *exec.Cmd) (*part, error) {
	s, err := serving.Start(name, command)
	if err != nil {
		return nil, err
	}
	return &part{s}, nil
}

// startTwofold starts the program at path as users do, and waits until it is ready to answer. more are further arguments.
func startTwofold(ctx context.Context, path, redisURL, folder string, layouts []workload.Layout, more []string) (*part, error) {
	s, err := serving.Twofold(serving.Options{
		Name: ours, Program: path, Folder: folder, Definitions: workload.Definitions(layouts), OfflineStore: folder,
		Environment: []string{"ONLINE_STORE_REDIS=" + redisURL}, Args: more,
	})
	if err != nil {
		return nil, err
	}
	if err := s.AwaitReady(ctx); err != nil {
		s.Stop()
		return nil, err
	}
	return &part{s}, nil
}

// mallocsMetric counts the heap objects that a Go program has allocated.
const mallocsMetric = "go_memstats_mallocs_total"

// Metrics of the hot-entity cache: rows that requests read.
const (
	hitsMetric   = `twofold_hot_cache_rows_total{result="hit"}`
	missesMetric = `twofold_hot_cache_rows_total{result="miss"}`
	sharedMetric = `twofold_hot_cache_rows_total{result="shared"}`
)

// metrics are what a server counts.
type metrics struct {
	mallocs    float64 // heap objects allocated until now
	hits, rows float64 // rows read through the cache; 0 where there is none
}

// metrics asks the server what it has counted until now.
func (p *part) metrics(ctx context.Context) (metrics, error) {
	text, err := p.Get(ctx, "/metrics")
	if err != nil {
		return metrics{}, fmt.Errorf("ask %s for its metrics: %w", p.Name, err)
	}
	var m metrics
	if m.mallocs, err = parseMetric(text, mallocsMetric); err != nil {
		return metrics{}, fmt.Errorf("ask %s for its metrics: %w", p.Name, err)
	}
	if m.hits, err = parseMetric(text, hitsMetric); err != nil {
		return m, nil // it has no cache
	}
	m.rows = m.hits
	for _, name := range []string{missesMetric, sharedMetric} {
		n, err := parseMetric(text, name)
		if err != nil {
			return metrics{}, fmt.Errorf("ask %s for its metrics: %w", p.Name, err)
		}
		m.rows += n
	}
	return m, nil
}

// parseMetric returns a metric, named with its labels if it has any, from the Prometheus text format.
func parseMetric(text, name string) (float64, error) {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("/metrics has no %s", name)
}

// loader is the load generator's process, as who gives it orders sees it.
type loader struct {
	process *process.Process
	orders  io.WriteCloser
	reports *bufio.Reader
}

// startLoader starts this program once more, as load generator.
func startLoader(data workload.Data, pool int) (*loader, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	command := exec.Command(self, "load", "--seed", strconv.FormatUint(data.Seed, 10), "--entities", strconv.Itoa(data.Entities),
		"--base-micros", strconv.FormatInt(data.BaseMicros, 10),
		"--zipf", strconv.FormatFloat(data.Zipf, 'g', -1, 64), "--pool", strconv.Itoa(pool))
	orders, err := command.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the load generator: %w", err)
	}
	read, write := io.Pipe()
	command.Stdout = write
	p, err := process.Start("load generator", command)
	if err != nil {
		return nil, err
	}
	go func() {
		<-p.Exited()
		_ = write.CloseWithError(fmt.Errorf("load generator: %w", p.Failed())) // never fails
	}()
	return &loader{process: p, orders: orders, reports: bufio.NewReader(read)}, nil
}

// do gives an order and waits for the report, or until ctx is done; then the loader is of no further use.
func (l *loader) do(ctx context.Context, order loadOrder) (loadReport, error) {
	stop := context.AfterFunc(ctx, l.stop)
	defer stop()
	line, err := json.Marshal(order)
	if err != nil {
		return loadReport{}, err
	}
	if _, err := l.orders.Write(append(line, '\n')); err != nil {
		return loadReport{}, l.failed(ctx, err)
	}
	line, err = l.reports.ReadBytes('\n')
	if err != nil {
		return loadReport{}, l.failed(ctx, err)
	}
	var report loadReport
	if err := json.Unmarshal(line, &report); err != nil {
		return loadReport{}, fmt.Errorf("the load generator answered %q: %w", line, err)
	}
	if report.Error != "" {
		if ctx.Err() != nil { // it was told to stop, and says so
			return loadReport{}, ctx.Err()
		}
		return loadReport{}, errors.New(report.Error)
	}
	return report, nil
}

// stop ends the load generator.
func (l *loader) stop() {
	_ = l.orders.Close() // no orders are left; it may have ended already
	l.process.Stop()
}

func (l *loader) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("talk to the load generator: %w", err)
}
