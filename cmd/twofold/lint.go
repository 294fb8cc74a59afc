package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/twofold-ml/twofold/internal/config"
	"github.com/twofold-ml/twofold/internal/definition"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/offline"
)

func (a *app) lintCommand() *cobra.Command {
	var skipSources bool
	cmd := &cobra.Command{
		Use:   "lint [PATH]",
		Short: "Check definitions, against each other and against the Parquet files",
		Long: `Checks a file or folder of feature definitions: names, types, ttl against sync interval, and every column against the
Parquet files that the views name. Each problem is printed as file:line:column, with the mend, and the line itself.

Exits 1 if there is an error; a warning is no error.`,
		Example: `  twofold lint features/
  twofold lint features/ --offline-store-path s3://features
  twofold lint features.yaml --offline`,
		GroupID: groupDefine,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			loaded, err := a.load(cmd)
			if err != nil {
				return err
			}
			path, err := definitionsPath(cmd, args, loaded.Config)
			if err != nil {
				return err
			}
			set, err := a.check(cmd.Context(), path, loaded.Config, skipSources, a.out)
			if err != nil {
				return err
			}
			r := set.Registry
			_, err = fmt.Fprintf(a.out, "%s: %s, %s and %s, all well\n", path,
				count(len(r.Entities()), "entity", "entities"), count(len(r.Views()), "feature view", "feature views"), count(len(r.Services()), "feature service", "feature services"))
			return err
		},
	}
	config.AddFlags(cmd.Flags(), "definitions", "offline_store_path", "s3", "feature_sync_interval")
	cmd.Flags().BoolVar(&skipSources, "offline", false, "do not read the Parquet files")
	return cmd
}

// definitionsPath is the argument, else what the configuration names.
func definitionsPath(cmd *cobra.Command, args []string, c config.Config) (string, error) {
	switch {
	case len(args) == 1:
		return args[0], nil
	case c.Definitions != "":
		return c.Definitions, nil
	default:
		return "", usagef(cmd, "which definitions? Name a file or folder: %s features/", cmd.CommandPath())
	}
}

func count[N int | uint64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// check reads definitions of a path, which is not empty, and prints every problem to w. The error counts them.
func (a *app) check(ctx context.Context, path string, c config.Config, skipSources bool, w io.Writer) (*definition.Set, error) {
	var store *offline.Store
	if !skipSources || isObject(path) {
		var err error
		if store, err = offline.Open(ctx, offline.Config{Path: c.OfflineStorePath, S3: s3Config(c)}); err != nil {
			return nil, err
		}
		defer store.Close()
	}
	found, err := (&definitionSource{path: path, offline: store}).content(ctx)
	if err != nil {
		return nil, err
	}
	set, err := found.parse(definition.Defaults{SyncInterval: c.FeatureSyncInterval})
	if problems, ok := err.(*definition.ProblemsError); ok { //nolint:errorlint // Parse returns it bare
		return nil, printProblems(w, problems.Problems)
	}
	if err != nil {
		return nil, err
	}
	problems := slices.Clone(set.Warnings)
	if !skipSources {
		found, err := set.CheckSources(ctx, sourceColumns{store})
		if err != nil {
			return nil, err
		}
		problems = append(problems, found...)
	}
	return set, printProblems(w, problems)
}

// printProblems prints problems; the error counts those that are errors.
func printProblems(w io.Writer, problems []definition.Problem) error {
	failures := 0
	for _, p := range problems {
		if p.Severity == definition.Error {
			failures++
		}
		if _, err := fmt.Fprintln(w, p.Detail()); err != nil {
			return err
		}
	}
	if failures > 0 {
		return fault.New(fault.Invalid, "the definitions have %s", count(failures, "error", "errors"))
	}
	return nil
}

// sourceColumns tells definitions what Parquet files hold.
type sourceColumns struct{ store *offline.Store }

// Columns implements definition.SchemaReader.
func (s sourceColumns) Columns(ctx context.Context, path string) ([]definition.SourceColumn, error) {
	schema, err := s.store.Schema(ctx, path)
	if err != nil {
		return nil, err
	}
	columns := make([]definition.SourceColumn, len(schema.Columns))
	for i, c := range schema.Columns {
		columns[i] = definition.SourceColumn{
			Name: c.Name, Type: c.Type, Reason: c.Reason, Nullable: c.Nullable, CanRead: c.CanRead,
			MissingFiles: c.MissingFiles, MissingIn: c.MissingIn, HiddenIn: c.HiddenIn,
		}
	}
	return columns, nil
}
