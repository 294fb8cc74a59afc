// Command online measures GetOnlineFeatures beside its floor, and what an entity costs in Redis. ../README.md says what is
// measured and how.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends the benchmark in order, its processes included; a second one ends it at once.
	context.AfterFunc(ctx, stop)
	err := root().ExecuteContext(ctx)
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

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "bench-online",
		Short:         "Measure online reads beside their floor, and what an entity costs in Redis",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(latencyCommand(), memoryCommand(), floorCommand(), loadCommand())
	return cmd
}
