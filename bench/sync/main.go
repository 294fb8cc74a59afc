// Command sync measures twofold sync beside its floor, and what online reads notice of it. ../README.md says what is measured and how.
package main

import (
	"github.com/spf13/cobra"

	"github.com/twofold-ml/twofold/bench/internal/program"
)

func main() { program.Main(root()) }

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench-sync",
		Short: "Measure twofold sync beside raw writes to Redis, and online reads meanwhile",
	}
	cmd.AddCommand(runCommand(), readCommand())
	return cmd
}
