package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twofold-ml/twofold/bench/internal/process"
	"github.com/twofold-ml/twofold/bench/internal/workload"
)

// startTimeout is how long a server may take to be ready on a busy machine.
const startTimeout = 20 * time.Second

// servingLine is the line by which a server says where it serves.
type servingLine struct {
	Message string `json:"msg"`
	GRPC    string `json:"grpc"`
	HTTP    string `json:"http"`
}

// Names of servers.
const (
	ours   = "ours"
	theirs = "floor"
)

// part is a server under measurement.
type part struct {
	name    string
	process *process.Process
	grpc    string // host:port
	http    string // host:port of /metrics
}

// startPart starts a server and waits until it says where it serves.
func startPart(name string, command *exec.Cmd) (*part, error) {
	p, err := process.Start(name, command)
	if err != nil {
		return nil, err
	}
	var at servingLine
	_, err = p.Await(startTimeout, func(line string) bool {
		return json.Unmarshal([]byte(line), &at) == nil && at.Message == "serving" && at.GRPC != ""
	})
	if err != nil {
		p.Stop()
		return nil, err
	}
	return &part{name: name, process: p, grpc: at.GRPC, http: at.HTTP}, nil
}

// startTwofold starts the program at path as users do, and waits until it is ready to answer. more are further arguments.
func startTwofold(ctx context.Context, path, redisURL, folder string, layouts []workload.Layout, more []string) (*part, error) {
	definitions := filepath.Join(folder, "definitions.yaml")
	if err := os.WriteFile(definitions, workload.Definitions(layouts), 0o600); err != nil {
		return nil, fmt.Errorf("write the definitions: %w", err)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", path, err)
	}
	args := []string{"serve", "--definitions", definitions, "--offline-store-path", folder, "--grpc-address", "127.0.0.1:0",
		"--http-address", "127.0.0.1:0", "--log-format", "json"}
	command := exec.Command(path, append(args, more...)...)
	command.Dir = folder // no configuration file is there
	command.Env = append(withoutSettings(os.Environ()), "ONLINE_STORE_REDIS="+redisURL)
	p, err := startPart(ours, command)
	if err != nil {
		return nil, err
	}
	if err := p.awaitReady(ctx); err != nil {
		p.process.Stop()
		return nil, err
	}
	return p, nil
}

// withoutSettings leaves out of an environment what would configure Twofold, so that a benchmark measures the same everywhere.
func withoutSettings(environment []string) []string {
	var kept []string
	for _, variable := range environment {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "TWOFOLD_") || strings.HasPrefix(name, "ONLINE_STORE_") || strings.HasPrefix(name, "OFFLINE_STORE_") ||
			name == "FEATURE_SYNC_INTERVAL" {
			continue
		}
		kept = append(kept, variable)
	}
	return kept
}

// awaitReady asks /readyz until it says yes.
func (p *part) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := get(ctx, "http://"+p.http+"/readyz")
		if err == nil {
			return nil
		}
		if failed := p.process.Failed(); failed != nil {
			return failed
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s was not ready within %v: %w; it printed:\n%s", p.name, startTimeout, err, p.process.Output())
		}
	}
}

// get returns the body of a successful HTTP answer.
func get(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %s: %s", url, response.Status, strings.TrimSpace(string(body)))
	}
	return string(body), err
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
	text, err := get(ctx, "http://"+p.http+"/metrics")
	if err != nil {
		return metrics{}, fmt.Errorf("ask %s for its metrics: %w", p.name, err)
	}
	var m metrics
	if m.mallocs, err = parseMetric(text, mallocsMetric); err != nil {
		return metrics{}, fmt.Errorf("ask %s for its metrics: %w", p.name, err)
	}
	if m.hits, err = parseMetric(text, hitsMetric); err != nil {
		return m, nil // it has no cache
	}
	m.rows = m.hits
	for _, name := range []string{missesMetric, sharedMetric} {
		n, err := parseMetric(text, name)
		if err != nil {
			return metrics{}, fmt.Errorf("ask %s for its metrics: %w", p.name, err)
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
