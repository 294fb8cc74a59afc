package main

import (
	"context"
	"errors"
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
	var o lintOptions
	cmd := &cobra.Command{
		Use:   "lint [PATH]",
		Short: "Check definitions, against each other and against the Parquet files",
		Long: `Checks a file or folder of feature definitions: names, types, ttl against the times of the syncs, and every column against the
Parquet files that the views name. Each problem is printed as file:line:column, with the mend, and the line itself. Where features would be
absent between two syncs it is an error, unless the view says allow_gaps: true, and a timeline draws when:

  ttl 2h, sync every 6h: absent 4h of every 6h
  =======.............=======.............=======.............
  ^0                  ^6h                 ^12h

Where a Redis is configured, or with --against, it also compares them with the definitions that are published or that stand elsewhere. A feature
whose type has changed is an error, because rows that are stored cannot be read as the new type (unless it holds every value of the old one): give
the changed feature a new name. Other changes that break requests or models are warnings.

Exits 1 if there is an error; a warning is no error.`,
		Example: `  twofold lint features/
  twofold lint features/ --offline-store-path s3://features
  twofold lint features.yaml --offline
  twofold lint features/ --against /srv/features-of-the-last-release`,
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
			return a.lint(cmd.Context(), path, loaded.Config, o)
		},
	}
	config.AddFlags(cmd.Flags(), "definitions", "offline_store_path", "s3", "online_store", "feature_sync_interval", "log")
	cmd.Flags().BoolVar(&o.skipStores, "offline", false, "read neither the Parquet files nor what is published")
	cmd.Flags().StringVar(&o.against, "against", "", "`definitions` to compare with: a file, folder or s3:// URL, or \"published\" (default published, where a Redis is configured)")
	return cmd
}

// lintOptions are the flags of lint.
type lintOptions struct {
	skipStores bool
	against    string
}

func (a *app) lint(ctx context.Context, path string, c config.Config, o lintOptions) error {
	set, problems, err := a.problems(ctx, path, c, o.skipStores)
	if err != nil {
		return err
	}
	compared := ""
	if set != nil {
		base, what, err := a.base(ctx, c, o)
		if err != nil {
			return err
		}
		if base != nil {
			problems = append(problems, set.CheckAgainst(base, what)...)
			compared = ", compared with " + what
		}
	}
	if err := printProblems(a.out, problems); err != nil {
		return err
	}
	r := set.Registry
	_, err = fmt.Fprintf(a.out, "%s: %s, %s and %s, all well%s\n", path, count(len(r.Entities()), "entity", "entities"),
		count(len(r.Views()), "feature view", "feature views"), count(len(r.Services()), "feature service", "feature services"), compared)
	return err
}

// againstPublished is the value of --against that means what is in the online store.
const againstPublished = "published"

// base returns the definitions to compare with and what they are called, nil where there are none.
func (a *app) base(ctx context.Context, c config.Config, o lintOptions) (*definition.Set, string, error) {
	published := o.against == againstPublished || (o.against == "" && !c.Embedded() && !o.skipStores)
	switch {
	case published && c.Embedded():
		return nil, "", fault.New(fault.Invalid, "--against published: no Redis is configured (ONLINE_STORE_REDIS), so there is nothing to compare with; name it, or leave --against out")
	case published:
		set, err := a.publishedBase(ctx, c)
		if err == nil && set == nil && o.against != "" {
			err = fault.New(fault.Precondition, "--against published: there are no valid definitions in the online store to compare with; publish some with `twofold apply`, or leave --against out")
		}
		return set, "the published definitions", err
	case o.against == "":
		return nil, "", nil
	}
	var source definitionSource
	source.path = o.against
	if isObject(o.against) {
		store, err := offline.Open(ctx, offline.Config{Path: c.OfflineStorePath, S3: s3Config(c)})
		if err != nil {
			return nil, "", err
		}
		defer store.Close()
		source.offline = store
	}
	found, err := source.content(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("--against: %w", err)
	}
	set, err := found.parse(definition.Defaults{SyncInterval: c.FeatureSyncInterval})
	if err != nil {
		return nil, "", fmt.Errorf("--against: %w", err)
	}
	return set, o.against, nil
}

// publishedBase returns the definitions in the online store, nil where none are published or where they are no longer valid.
func (a *app) publishedBase(ctx context.Context, c config.Config) (*definition.Set, error) {
	p, err := a.open(ctx, c)
	if err != nil {
		return nil, err
	}
	defer p.close()
	set, err := p.published(ctx)
	if _, ok := errors.AsType[*definition.ProblemsError](err); ok {
		a.complain("warning: the published definitions are no longer valid, so that nothing is known of what changes")
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("compare with the published definitions (--offline leaves it out): %w", err)
	}
	return set, nil
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

// check reads definitions and prints every problem to w. The error counts them.
func (a *app) check(ctx context.Context, path string, c config.Config, skipSources bool, w io.Writer) (*definition.Set, error) {
	set, problems, err := a.problems(ctx, path, c, skipSources)
	if err != nil {
		return nil, err
	}
	return set, printProblems(w, problems)
}

// problems reads the definitions of a path, which is not empty, and returns every problem; a nil set where they cannot be used.
func (a *app) problems(ctx context.Context, path string, c config.Config, skipSources bool) (*definition.Set, []definition.Problem, error) {
	var store *offline.Store
	if !skipSources || isObject(path) {
		var err error
		if store, err = offline.Open(ctx, offline.Config{Path: c.OfflineStorePath, S3: s3Config(c)}); err != nil {
			return nil, nil, err
		}
		defer store.Close()
	}
	found, err := (&definitionSource{path: path, offline: store}).content(ctx)
	if err != nil {
		return nil, nil, err
	}
	set, err := found.parse(definition.Defaults{SyncInterval: c.FeatureSyncInterval})
	if problems, ok := err.(*definition.ProblemsError); ok { //nolint:errorlint // Parse returns it bare
		return nil, problems.Problems, nil
	}
	if err != nil {
		return nil, nil, err
	}
	problems := slices.Clone(set.Warnings)
	if !skipSources {
		found, err := set.CheckSources(ctx, sourceColumns{store})
		if err != nil {
			return nil, nil, err
		}
		problems = append(problems, found...)
	}
	return set, problems, nil
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
