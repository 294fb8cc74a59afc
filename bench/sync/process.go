package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/twofold-ml/twofold/bench/internal/process"
	"github.com/twofold-ml/twofold/bench/internal/serving"
)

// run is one run of a process from its start to its end.
type run struct {
	elapsed, cpu time.Duration
	// peakBytes is the greatest resident size.
	peakBytes int64
	// printed is what it wrote.
	printed string
}

// peakInterval is the time between two looks at the memory of a process. The kernel keeps the peak, so that only what a process takes in its last moments can be missed.
const peakInterval = 10 * time.Millisecond

// runToEnd starts a process and waits until it has ended well.
//
// The peak is read while it runs: the figure that the kernel gives afterwards begins with the memory of who started it.
func runToEnd(ctx context.Context, name string, command *exec.Cmd) (r run, err error) {
	begun := time.Now()
	p, err := process.Start(name, command)
	if err != nil {
		return r, err
	}
	tick := time.NewTicker(peakInterval)
	defer tick.Stop()
	for p.Ended() == nil {
		if peak, err := process.PeakBytes(p.PID()); err == nil { // it may have ended this moment
			r.peakBytes = peak
		}
		select {
		case <-p.Exited():
		case <-tick.C:
		case <-ctx.Done():
			p.Stop()
			return r, ctx.Err()
		}
	}
	r.elapsed = time.Since(begun)
	ended := p.Ended()
	r.cpu, r.printed = ended.UserTime()+ended.SystemTime(), p.Output()
	if !ended.Success() {
		return r, p.Failed()
	}
	return r, nil
}

// sync runs twofold sync --once for the synced view.
func (b *bench) sync(ctx context.Context, flags ...string) (run, error) {
	program, err := filepath.Abs(b.o.twofold)
	if err != nil {
		return run{}, fmt.Errorf("find %s: %w", b.o.twofold, err)
	}
	args := []string{"sync", "--once", "--view", loadedView, "--definitions", b.definitions, "--offline-store-path", b.gateway.URL()}
	args = append(append(append(args, b.gateway.Flags()...), strings.Fields(b.o.syncFlags)...), flags...)
	command := exec.Command(program, args...)
	command.Dir = b.folder // where no configuration file is
	command.Env = append(append(serving.Environment(), b.gateway.Environment()...), "ONLINE_STORE_REDIS="+b.redis.URL())
	return runToEnd(ctx, "twofold sync", command)
}
