package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/twofold-ml/twofold/bench/internal/process"
)

// order is what a child process is told on its standard input.
type order struct {
	// SQL and Settings are for DuckDB.
	SQL      string   `json:"sql,omitempty"`
	Settings []string `json:"settings,omitempty"`
	// Target, Entities and Features are for the client: the server's address, the Parquet file of entity rows, what to ask for.
	Target   string   `json:"target,omitempty"`
	Entities string   `json:"entities,omitempty"`
	Features []string `json:"features,omitempty"`
}

// outcome is what a child process answers, as one line of JSON.
type outcome struct {
	Error string `json:"error,omitempty"`
	// Tally of the result.
	Tally tally `json:"tally"`
	// Elapsed from the start of the query or call to the last value.
	Elapsed time.Duration `json:"elapsed"`
	// CPU time of the process meanwhile, in user mode and in the kernel.
	CPU time.Duration `json:"cpu"`
	// PeakBytes is the greatest resident size of the process.
	PeakBytes int64 `json:"peak_bytes"`
}

// childCommand is a subcommand that this program starts for itself, so that work has a process, and so memory and CPU time, of its own.
func childCommand(use, short string, work func(context.Context, order) (timed func() (*tally, error), done func(), err error)) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs, Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var o order
			if err := json.NewDecoder(cmd.InOrStdin()).Decode(&o); err != nil {
				return fmt.Errorf("read the order: %w", err)
			}
			out, err := carryOut(cmd.Context(), o, work)
			if err != nil {
				out = outcome{Error: err.Error()}
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
		},
	}
}

func carryOut(ctx context.Context, o order, work func(context.Context, order) (func() (*tally, error), func(), error)) (outcome, error) {
	timed, done, err := work(ctx, o)
	if err != nil {
		return outcome{}, err
	}
	defer done()
	cpu, begun := ownCPU(), time.Now()
	t, err := timed()
	if err != nil {
		return outcome{}, err
	}
	out := outcome{Tally: *t, Elapsed: time.Since(begun), CPU: ownCPU() - cpu}
	out.PeakBytes, err = process.PeakBytes(os.Getpid())
	return out, err
}

// ownCPU returns the CPU time that this process has used until now.
func ownCPU() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage) // fails for other arguments only
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// runChild starts this program once more with a subcommand, gives it an order and waits for the outcome, or until ctx is done.
func runChild(ctx context.Context, subcommand string, o order) (outcome, error) {
	self, err := os.Executable()
	if err != nil {
		return outcome{}, fmt.Errorf("find this program: %w", err)
	}
	command := exec.Command(self, subcommand)
	in, err := command.StdinPipe()
	if err != nil {
		return outcome{}, fmt.Errorf("start %s: %w", subcommand, err)
	}
	read, write := io.Pipe()
	command.Stdout = write
	child, err := process.Start(subcommand, command)
	if err != nil {
		return outcome{}, err
	}
	defer child.Stop()
	defer context.AfterFunc(ctx, child.Stop)()
	go func() {
		<-child.Exited()
		_ = write.Close() // never fails
	}()
	if err := json.NewEncoder(in).Encode(o); err != nil {
		return outcome{}, fmt.Errorf("give %s its order: %w", subcommand, errors.Join(err, child.Failed()))
	}
	var out outcome
	if err := json.NewDecoder(read).Decode(&out); err != nil {
		if ctx.Err() != nil {
			return outcome{}, ctx.Err()
		}
		return outcome{}, fmt.Errorf("read what %s answers: %w", subcommand, errors.Join(err, child.Failed()))
	}
	if out.Error != "" {
		return outcome{}, fmt.Errorf("%s: %s", subcommand, out.Error)
	}
	return out, nil
}
