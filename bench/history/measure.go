package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/twofold-ml/twofold/bench/internal/process"
	"github.com/twofold-ml/twofold/bench/internal/serving"
)

// measurement is one run of one engine on one case.
type measurement struct {
	elapsed time.Duration
	// peakBytes is the greatest resident size of the engine: of the server, or of the process that DuckDB runs in.
	peakBytes int64
	cpu       time.Duration
	// Of the client that asks the server; DuckDB has its consumer in its own process.
	clientPeakBytes int64
	clientCPU       time.Duration
	tally           tally
}

// duckSettings are the number of threads and where to put what does not fit into memory; everything else is DuckDB's default.
func duckSettings(threads int, temporary string) []string {
	return []string{fmt.Sprintf("SET threads = %d", threads), fmt.Sprintf("SET temp_directory = '%s'", filepath.Join(temporary, "duckdb"))}
}

const duckUse = "duckdb"

// measureDuck runs a query in a DuckDB process of its own.
func measureDuck(ctx context.Context, sql string, threads int, temporary string) (measurement, error) {
	out, err := runChild(ctx, duckUse, order{SQL: sql, Settings: duckSettings(threads, temporary)})
	return measurement{elapsed: out.Elapsed, peakBytes: out.PeakBytes, cpu: out.CPU, tally: out.Tally}, err
}

// definitions returns the definitions of the views, whose sources are the patterns.
func definitions(views []string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "entities:\n  - {name: customer, keys: [{name: %s, type: INT64}]}\nfeature_views:\n", keyColumn)
	for v, files := range views {
		fmt.Fprintf(&b, "  - name: %s\n    entity: customer\n    source: {path: %q, event_time_column: %s, created_time_column: %s}\n    ttl: %ds\n    features:\n",
			viewName(v), files, timeColumn, createdColumn, ttlMicros/1_000_000)
		for f := range featureDoubles {
			fmt.Fprintf(&b, "      - {name: %s, type: DOUBLE}\n", doubleColumn(f))
		}
		fmt.Fprintf(&b, "      - {name: %s, type: STRING}\n", stringColumn)
	}
	return []byte(b.String())
}

// twofold says how the program under measurement is to be run.
type twofold struct {
	program string
	// offlineStore is the folder or URL that the sources are relative to, and environment what it takes to read it.
	offlineStore string
	environment  []string
	// threads is GOMAXPROCS of the server.
	threads int
	// flags are more flags of twofold serve.
	flags []string
	// perf, if not empty, is the file to which perf records a profile of the server during the call.
	perf string
}

// measure runs one call on a server of its own, so that nothing is left of another call, neither in memory nor in caches.
func (w twofold) measure(ctx context.Context, s source) (m measurement, err error) {
	folder, err := os.MkdirTemp("", "twofold-bench-")
	if err != nil {
		return m, fmt.Errorf("make a temporary folder: %w", err)
	}
	defer os.RemoveAll(folder)
	server, err := serving.Twofold(serving.Options{
		Name: "twofold serve", Program: w.program, Folder: folder, Definitions: definitions(s.views), OfflineStore: w.offlineStore,
		Environment: append([]string{fmt.Sprintf("GOMAXPROCS=%d", w.threads)}, w.environment...),
		Args:        append([]string{"--online-store-path", filepath.Join(folder, "online"), "--sync-in-process=false"}, w.flags...),
	})
	if err != nil {
		return m, err
	}
	defer server.Stop()
	o := order{Target: server.GRPC, Entities: s.entities}
	for v := range s.views {
		o.Features = append(o.Features, viewName(v)+":*")
	}
	profile, err := w.profile(server.PID())
	if err != nil {
		return m, err
	}
	defer profile()
	before, err := process.CPUTime(server.PID())
	if err != nil {
		return m, err
	}
	out, err := runChild(ctx, clientUse, o)
	if err != nil {
		if failed := server.Failed(); failed != nil {
			err = fmt.Errorf("%w\n%w", err, failed)
		}
		return m, err
	}
	after, err := process.CPUTime(server.PID())
	if err != nil {
		return m, err
	}
	m = measurement{elapsed: out.Elapsed, cpu: after - before, clientPeakBytes: out.PeakBytes, clientCPU: out.CPU, tally: out.Tally}
	m.peakBytes, err = process.PeakBytes(server.PID())
	return m, err
}

// profile starts perf, where it was asked for, and returns what ends it.
func (w twofold) profile(pid int) (stop func(), err error) {
	if w.perf == "" {
		return func() {}, nil
	}
	path, err := process.Find("perf", "it is part of the package linux-perf")
	if err != nil {
		return nil, err
	}
	p, err := process.Start("perf", exec.Command(path, "record", "--call-graph", "fp", "--freq", "499", "--output", w.perf, "--pid", fmt.Sprint(pid)))
	if err != nil {
		return nil, err
	}
	return p.Stop, nil
}
