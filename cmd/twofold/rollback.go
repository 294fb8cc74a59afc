package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/config"
	"github.com/twofold-ml/twofold/syncer"
)

func (a *app) rollbackCommand() *cobra.Command {
	var generation uint64
	cmd := &cobra.Command{
		Use:   "rollback VIEW",
		Short: "Serve the last generation of a snapshot view again",
		Long: `Has the online store serve, with one change, the generation of a view before the live one: for a snapshot that passed its checks and is wrong all the same. Servers
follow within seconds. The next run makes a new generation only once a file of the view is new or has changed, so mend the source first, then
sync. What was live stays stored, and --generation returns to it.

Only for views with sync.mode: SNAPSHOT; sync.snapshot.keep_generations says how many generations are kept beside the live one (default 1). Waits for a run of the view that is
under way.`,
		Example: `  twofold sync rollback prices
  twofold sync rollback prices --generation 1795437600`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			loaded, err := a.load(cmd)
			if err != nil {
				return err
			}
			return a.rollback(cmd.Context(), loaded.Config, args[0], generation)
		},
	}
	config.AddFlags(cmd.Flags())
	cmd.Flags().Uint64Var(&generation, "generation", 0, "`number` of the generation to serve (default: the newest before the live one)")
	return cmd
}

func (a *app) rollback(ctx context.Context, c config.Config, view string, generation uint64) error {
	p, set, err := a.openDefined(ctx, c)
	if err != nil {
		return err
	}
	defer p.close()
	s, err := syncer.New(syncer.Options{Registry: set.Registry, Online: p.online, Offline: p.offline, Now: p.now, Logger: p.quiet()})
	if err != nil {
		return err
	}
	returned, err := s.Rollback(ctx, view, generation)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s: serves generation %s again, in place of %s\n", view, generationText(returned.To), generationText(returned.From))
	return nil
}

// generationText tells of a generation, for people.
func generationText(g *twofoldv1.Generation) string {
	return fmt.Sprintf("%d (%d entities, made %s)", g.GetNumber(), g.GetEntities(), time.UnixMicro(g.GetSyncedAtMicros()).UTC().Format(time.RFC3339))
}

// quiet is the process's log without what is no warning.
func (p *process) quiet() *slog.Logger {
	return slog.New(atLeast{p.log.Handler(), slog.LevelWarn})
}
