package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

const longHelp = `Twofold serves machine-learning features from two stores that agree: the freshest row of every
entity from an online store (Redis, or one embedded in the process), and all history, joined
point-in-time, from Parquet files in folders or S3.

Try it:  twofold demo
Settings come from flags, then the environment, then a file; "twofold config" shows them all.

Exit codes: 0 all well, 1 failure, 2 wrong flags, arguments or configuration, 3 a server or store that
cannot be reached (trying again may help), 130 interrupted.`

// The groups of commands in help.
const (
	groupServe  = "serve"
	groupUse    = "use"
	groupDefine = "define"
	groupOther  = "other"
)

// root returns the tree of commands.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "twofold",
		Short:         "A feature store of two stores that agree",
		Long:          longHelp,
		Version:       versionText(),
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddGroup(
		&cobra.Group{ID: groupServe, Title: "Run Twofold:"},
		&cobra.Group{ID: groupUse, Title: "Use features:"},
		&cobra.Group{ID: groupDefine, Title: "Define features:"},
		&cobra.Group{ID: groupOther, Title: "Other:"},
	)
	root.SetHelpCommandGroupID(groupOther)
	root.SetCompletionCommandGroupID(groupOther)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{cmd, err} })
	root.AddCommand(
		a.serveCommand(), a.syncCommand(), a.statusCommand(), a.auditCommand(), a.forgetCommand(), a.demoCommand(), a.healthCommand(),
		a.getCommand(), a.trainCommand(), a.explainCommand(),
		a.initCommand(), a.lintCommand(), a.planCommand(), a.applyCommand(),
		a.configCommand(), a.versionCommand(),
	)
	checkArguments(root)
	return root
}

// checkArguments makes a wrong number of arguments a usage error, for a command and those below it.
func checkArguments(command *cobra.Command) {
	for _, below := range command.Commands() {
		checkArguments(below)
	}
	check := command.Args
	command.Args = func(cmd *cobra.Command, args []string) error {
		if check == nil {
			return nil
		}
		if err := check(cmd, args); err != nil {
			return usageError{cmd, err}
		}
		return nil
	}
}

// version is set by the linker (-X main.version=v1.2.3) where the build does not know it.
var version string

func versionText() string {
	text := version
	if info, ok := debug.ReadBuildInfo(); ok && text == "" {
		text = info.Main.Version
	}
	if text == "" {
		text = "(devel)"
	}
	return fmt.Sprintf("%s %s %s/%s", text, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		GroupID: groupOther,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.out, "twofold", versionText())
			return err
		},
	}
}
