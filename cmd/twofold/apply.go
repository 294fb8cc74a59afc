package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/twofold-ml/twofold/internal/config"
	"github.com/twofold-ml/twofold/internal/definition"
	"github.com/twofold-ml/twofold/internal/fault"
)

// applyOptions are the flags of apply.
type applyOptions struct{ skipSources, dryRun, allowBreaking bool }

func (a *app) applyCommand() *cobra.Command {
	var o applyOptions
	cmd := &cobra.Command{
		Use:   "apply [PATH]",
		Short: "Publish definitions in the online store, for every server and syncer that uses it",
		Long: `Checks a file or folder of feature definitions as "twofold lint" does, shows what changes, and publishes them in the online
store. Servers and syncers that are given no definitions of their own read them there, when they start and while they run.

A change that makes requests or models fail that worked before is refused, unless --allow-breaking says that it is meant.`,
		Example: `  ONLINE_STORE_REDIS=redis://localhost:6379 OFFLINE_STORE_PATH=s3://features twofold apply features/
  twofold apply features/ --dry-run`,
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
			return a.apply(cmd.Context(), path, loaded.Config, o)
		},
	}
	config.AddFlags(cmd.Flags(), "definitions", "offline_store_path", "s3", "online_store", "feature_sync_interval", "log")
	cmd.Flags().BoolVar(&o.skipSources, "offline", false, "do not check against the Parquet files")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "show what would change, and publish nothing")
	cmd.Flags().BoolVar(&o.allowBreaking, "allow-breaking", false, "publish even if requests or models that worked before fail")
	return cmd
}

func (a *app) apply(ctx context.Context, path string, c config.Config, o applyOptions) error {
	set, err := a.check(ctx, path, c, o.skipSources, a.err)
	if err != nil {
		return err
	}
	p, err := a.open(ctx, c)
	if err != nil {
		return err
	}
	defer p.close()
	old, err := p.published(ctx)
	if _, ok := errors.AsType[*definition.ProblemsError](err); ok {
		a.complain("warning: the published definitions are no longer valid, so that nothing is known of what changes")
	} else if fault.KindOf(err) == fault.Corrupt && o.allowBreaking {
		a.complain("warning: the published definitions cannot be read, so that nothing is known of what changes; they are replaced")
	} else if fault.KindOf(err) == fault.Corrupt {
		return fmt.Errorf("%w; nothing was published: --allow-breaking replaces them", err)
	} else if err != nil {
		return err
	}
	if old != nil && old.Hash() == set.Hash() {
		_, err := fmt.Fprintf(a.out, "nothing to do: these definitions are published already in %s\n", p.onlineName)
		return err
	}
	if err := a.showChanges(definition.Diff(old, set), o); err != nil || o.dryRun {
		return err
	}
	encoded, err := set.Marshal()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := p.online.PutMeta(ctx, publishedDefinitions, encoded); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "published in %s; servers and syncers that run take them within their definitions_reload_interval\n", p.onlineName)
	return err
}

// showChanges prints the changes, and refuses breaking ones that are not allowed.
func (a *app) showChanges(changes []definition.Change, o applyOptions) error {
	breaking := 0
	for _, change := range changes {
		fmt.Fprintln(a.out, change)
		if change.Breaking {
			breaking++
		}
	}
	if breaking == 0 || o.allowBreaking {
		return nil
	}
	return fault.New(fault.Precondition, "%s; nothing was published: undo them, give what is new a name of its own, or say with --allow-breaking that they are meant",
		count(breaking, "change is breaking", "changes are breaking"))
}
