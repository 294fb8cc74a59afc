// Package program is what the main functions of all benchmarks do.
package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Main runs a command with its subcommands and ends the process: with 1 after an error, which is printed.
func Main(root *cobra.Command) {
	root.SilenceUsage, root.SilenceErrors = true, true
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends the benchmark in order, its processes included; a second one ends it at once.
	context.AfterFunc(ctx, stop)
	err := root.ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}
