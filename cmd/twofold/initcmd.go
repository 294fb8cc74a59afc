package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/twofold-ml/twofold/internal/config"
	"github.com/twofold-ml/twofold/internal/definition"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/offline"
)

func (a *app) initCommand() *cobra.Command {
	var hints definition.Hints
	var out string
	cmd := &cobra.Command{
		Use:   "init SOURCE",
		Short: "Write a first definition from the columns of Parquet files",
		Long: `Reads the schema of a Parquet file, a folder or a glob of them, relative to the offline store or as a URL, and writes a
first definition: an entity, a feature view of all columns and a feature service. Keys and times are guessed by name and
type, unless flags name them; what cannot be guessed is left as a TODO.`,
		Example: `  twofold init users.parquet --offline-store-path /data/parquet > features/users.yaml
  twofold init 's3://features/users/**/*.parquet' --key user_id --event-time updated_at --out features/users.yaml`,
		GroupID: groupDefine,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			loaded, err := a.load(cmd)
			if err != nil {
				return err
			}
			return a.initialize(cmd.Context(), loaded.Config, args[0], out, hints)
		},
	}
	config.AddFlags(cmd.Flags(), "offline_store_path", "s3")
	f := cmd.Flags()
	f.StringVar(&hints.View, "view", "", "name of the feature view (default by the source's name)")
	f.StringVar(&hints.Entity, "entity", "", "name of the entity (default by its key's name)")
	f.StringSliceVar(&hints.Keys, "key", nil, "key `column`; more than one for a composite key (default a guess)")
	f.StringVar(&hints.EventTimeColumn, "event-time", "", "`column` of the event time (default a guess)")
	f.StringVar(&hints.CreatedTimeColumn, "created-time", "", "`column` of the created time (default a guess)")
	f.StringVarP(&out, "out", "o", "-", "`file` to write, which must not be there yet; - is standard output")
	return cmd
}

func (a *app) initialize(ctx context.Context, c config.Config, source, out string, hints definition.Hints) error {
	store, err := offline.Open(ctx, offline.Config{Path: c.OfflineStorePath, S3: s3Config(c)})
	if err != nil {
		return err
	}
	defer store.Close()
	columns, err := sourceColumns{store}.Columns(ctx, source)
	if err != nil {
		return err
	}
	text, err := definition.Infer(source, columns, hints)
	if err != nil {
		return err
	}
	if out == "-" {
		_, err := a.out.Write(text)
		return err
	}
	if _, err := os.Stat(out); err == nil {
		return fault.New(fault.Precondition, "%s is there already; give --out another name, or remove it", out)
	}
	if err := a.writeOutput(ctx, out, s3Config(c), offline.CreateOptions{}, text); err != nil {
		return err
	}
	fmt.Fprintf(a.err, "wrote %s; read it through, then check it with `twofold lint %s`\n", out, out)
	return nil
}
