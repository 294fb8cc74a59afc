package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/twofold-ml/twofold/internal/config"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the configuration in force, with the source of each value",
		Long: `Prints the configuration that a process would run with here, as YAML, each value with its source
in a comment and secrets hidden. docs/reference/configuration.md says what each setting means.`,
		Example: `  twofold config
  ONLINE_STORE_REDIS=redis://localhost:6379 twofold config --log-level debug
  twofold config > twofold.yaml`,
		GroupID: groupOther,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := a.load(cmd)
			if err != nil {
				return err
			}
			if loaded.File != "" {
				fmt.Fprintf(a.out, "# file: %s\n", loaded.File)
			}
			return loaded.Print(a.out)
		},
	}
	config.AddFlags(cmd.Flags())
	return cmd
}
