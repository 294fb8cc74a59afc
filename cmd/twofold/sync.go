package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/config"
	"github.com/twofold-ml/twofold/internal/definition"
	"github.com/twofold-ml/twofold/syncer"
)

func (a *app) syncCommand() *cobra.Command {
	var once, full, removeGone bool
	var views []string
	var shard string
	cmd := &cobra.Command{
		Use:   "sync",
		Short: "Carry features from the offline store to the online store",
		Long: `For each feature view, finds the newest row of every entity and writes those rows to the online store, newest wins, so
that a run may be repeated or race with another. Each run reports what became of every row.

Without --once it runs every view on its interval until it is stopped, and at once when an event tells that a file of it has come (--events-webhook-secret, --events-kafka-brokers,
--events-folders-enabled). It takes definitions that change without a restart (at once on SIGHUP), serves /healthz, /readyz (ready when the last run of every view succeeded), /metrics
and the webhook over HTTP on :7072, and SyncService over gRPC on :7073: "twofold status --server localhost:7073". With --once it runs every view once, prints one line
a view, and exits with an error if one failed (3 where a store cannot be reached, else 1): for a CronJob or a pipeline.

Rows of views that are no longer defined are removed from the online store once removed_views_grace has passed, by this process or, with --once, by
a later one (not with --view or --shard); --remove-gone does so at once.

With --once --shard I/N it carries only the entities of one of N shares, so that N processes carry a large view together, for example those of a Kubernetes Indexed Job; the
view counts as synced once each of them has.`,
		Example: `  twofold sync
  twofold sync --events-folders-enabled true
  twofold sync --once
  twofold sync --once --view weather --view carrier_delays
  twofold sync --once --view carrier_delays --shard 0/8`,
		GroupID: groupServe,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(views) > 0 && !once {
				return usagef(cmd, "--view goes with --once")
			}
			if full && !once {
				return usagef(cmd, "--full goes with --once")
			}
			if removeGone && (!once || len(views) > 0 || shard != "") {
				return usagef(cmd, "--remove-gone goes with --once, and not with --view or --shard")
			}
			o := syncOptions{once: once, full: full, removeGone: removeGone, views: views}
			if shard != "" {
				if !once {
					return usagef(cmd, "--shard goes with --once")
				}
				var err error
				if o.shard, err = syncer.ParseShard(shard); err != nil {
					return usagef(cmd, "--shard: %v", err)
				}
			}
			loaded, err := a.load(cmd)
			if err != nil {
				return err
			}
			if loaded.Source("http_address") == config.FromDefault {
				loaded.HTTPAddress = config.SyncHTTPAddress
			}
			return a.sync(cmd.Context(), loaded.Config, o)
		},
	}
	config.AddFlags(cmd.Flags())
	cmd.Flags().BoolVar(&once, "once", false, "sync every view once and exit")
	cmd.Flags().BoolVar(&full, "full", false, "with --once: carry every file again, also those that have not changed")
	cmd.Flags().BoolVar(&removeGone, "remove-gone", false, "with --once: remove the rows of views that are no longer defined at once")
	cmd.Flags().StringVar(&shard, "shard", "", "with --once: only the entities of one of several `shards`, index/count, for example 0/8; in an Indexed Job $(JOB_COMPLETION_INDEX)/8")
	cmd.Flags().StringSliceVar(&views, "view", nil, "with --once: only these feature `views`")
	cmd.AddCommand(a.rollbackCommand())
	return cmd
}

// syncOptions are the flags of sync.
type syncOptions struct {
	once, full, removeGone bool
	views                  []string
	shard                  syncer.Shard
}

func (a *app) sync(ctx context.Context, c config.Config, o syncOptions) error {
	if a.yield != nil {
		a.yield()
	}
	var signals chan os.Signal
	if !o.once {
		var stop func()
		signals, stop = catchReloads()
		defer stop()
	}
	p, set, err := a.openDefined(ctx, c)
	if err != nil {
		return err
	}
	defer p.close()
	p.greet(ctx, set)
	if o.once && c.Log.Level != "debug" {
		p.log = p.quiet() // each run that succeeds has its line on standard output
	}
	metrics := prometheus.NewRegistry()
	if p.breaker != nil {
		metrics.MustRegister(p.breaker)
	}
	if o.once {
		progress, line := a.onceProgress()
		s, err := p.newSyncer(set, newSyncStatus(metrics, p.now), nil, progress)
		if err != nil {
			return err
		}
		return a.syncOnce(ctx, s, line, o)
	}
	d, err := p.newSyncing(set, metrics)
	if err != nil {
		return err
	}
	d.reloader = p.newReloader(set, signals, metrics, d.reload)
	return d.run(ctx)
}

// newSyncer returns a syncer that reports to status and goes by events, which may be nil; o says how its progress is told.
func (p *process) newSyncer(set *definition.Set, status *syncStatus, events *syncEvents, o syncer.Options) (*syncer.Syncer, error) {
	o.Registry, o.Online, o.Offline, o.Now, o.Logger = set.Registry, p.online, p.offline, p.now, p.log
	o.OnReport, o.Events, o.RemovedViewsGrace = status.add, events.queued(), p.removedViewsGrace()
	s, err := syncer.New(o)
	if err != nil {
		return nil, err
	}
	all, err := s.Views()
	if err != nil {
		return nil, err
	}
	status.expect(all)
	return s, events.route(all)
}

// removedViewsGrace is the setting as a Syncer takes it.
func (p *process) removedViewsGrace() time.Duration {
	if p.config.RemovedViewsGrace == 0 {
		return -1
	}
	return p.config.RemovedViewsGrace
}

// syncOnce runs the views once and prints a line for each, in place of that of their progress; where all were run, also for each view that was removed.
func (a *app) syncOnce(ctx context.Context, s *syncer.Syncer, progress *progressLine, o syncOptions) error {
	reports, err := s.RunOnce(ctx, syncer.Request{Trigger: twofoldv1.SyncTrigger_SYNC_TRIGGER_START, Full: o.full, Wait: true, Shard: o.shard}, o.views...)
	progress.finish()
	for _, report := range reports {
		if report.Err == nil {
			fmt.Fprintln(a.out, report)
		}
	}
	if len(o.views) > 0 || o.shard != (syncer.Shard{}) || ctx.Err() != nil {
		return err
	}
	removed, goneErr := s.RemoveGone(ctx, o.removeGone)
	for _, r := range removed {
		fmt.Fprintln(a.out, r)
	}
	return errors.Join(err, goneErr)
}
