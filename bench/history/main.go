// Command history measures GetHistoricalFeatures beside DuckDB's ASOF join. ../README.md says what is measured and how.
package main

import (
	"github.com/spf13/cobra"

	"github.com/twofold-ml/twofold/bench/internal/program"
)

func main() { program.Main(root()) }

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench-history",
		Short: "Measure training sets beside DuckDB's ASOF join",
	}
	cmd.AddCommand(runCommand(), clientCommand(), duckCommand())
	return cmd
}
