// Command online measures GetOnlineFeatures beside its floor, and what an entity costs in Redis. ../README.md says what is
// measured and how.
package main

import (
	"github.com/spf13/cobra"

	"github.com/twofold-ml/twofold/bench/internal/program"
)

func main() { program.Main(root()) }

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench-online",
		Short: "Measure online reads beside their floor, and what an entity costs in Redis",
	}
	cmd.AddCommand(latencyCommand(), memoryCommand(), floorCommand(), loadCommand())
	return cmd
}
