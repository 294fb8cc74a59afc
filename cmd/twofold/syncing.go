package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/twofold-ml/twofold/internal/config"
	"github.com/twofold-ml/twofold/internal/definition"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/server"
	"github.com/twofold-ml/twofold/syncer"
)

// syncing is a process that syncs until it is stopped: a syncer with its events and its listeners.
type syncing struct {
	process *process
	syncer  *syncer.Syncer
	status  *syncStatus
	events  *syncEvents
	// reloader looks after the definitions.
	reloader *reloader
	http     net.Listener
	// grpc is nil where no gRPC is served; server then too.
	grpc   net.Listener
	server *server.SyncServer
}

// newSyncing makes the syncer and opens its listeners, so that a port that is taken shows before anything is synced.
func (p *process) newSyncing(set *definition.Set, metrics *prometheus.Registry) (*syncing, error) {
	d := &syncing{process: p, status: newSyncStatus(metrics, p.now)}
	var err error
	if d.events, err = p.newSyncEvents(metrics); err != nil {
		return nil, err
	}
	if d.syncer, err = p.newSyncer(set, d.status, d.events, p.loggedProgress()); err != nil {
		return nil, err
	}
	if d.http, err = listen(p.config.HTTPAddress, "http-address"); err != nil {
		return nil, err
	}
	address := p.config.SyncGRPCAddress
	if address == "" || address == config.NoAddress {
		return d, nil
	}
	d.server, err = server.NewSyncServer(server.SyncOptions{
		Sync: &syncer.Service{Syncer: d.syncer}, Logger: p.log, Metrics: metrics, MaxMessageBytes: int(p.config.Limits.MaxMessageBytes), DrainTimeout: p.config.DrainTimeout,
	})
	if err == nil {
		d.grpc, err = listen(address, "sync-grpc-address")
	}
	if err != nil {
		return nil, errors.Join(err, d.http.Close())
	}
	return d, nil
}

// run runs every view on its schedule and for its events, reloads definitions, and serves, until ctx is done or one of these fails.
func (d *syncing) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.serveHTTP(ctx) })
	where := []any{"http", d.http.Addr().String()}
	if d.grpc != nil {
		where = append(where, "grpc", d.grpc.Addr().String())
		group.Go(func() error { return d.server.Serve(ctx, d.grpc) })
	}
	group.Go(func() error { return d.events.run(ctx) })
	group.Go(func() error {
		if err := d.events.await(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		return d.syncer.Run(ctx)
	})
	group.Go(func() error {
		d.reloader.run(ctx)
		return nil
	})
	d.process.log.Info("syncing", where...)
	err := group.Wait()
	d.process.log.Info("stopped")
	return err
}

const (
	// httpReadTimeout bounds how long a request may take to come: those of a webhook are small.
	httpReadTimeout = 30 * time.Second
	// httpStopTimeout is how long requests may go on after the process was told to stop.
	httpStopTimeout = time.Second
)

// serveHTTP serves health, metrics and the webhook until ctx is done.
func (d *syncing) serveHTTP(ctx context.Context) error {
	h := &http.Server{Handler: d.status.handler(d.events.handlers()), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: httpReadTimeout}
	failed := make(chan error, 1)
	go func() { failed <- h.Serve(d.http) }()
	select {
	case err := <-failed:
		return fmt.Errorf("HTTP server: %w", err)
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), httpStopTimeout)
	defer cancel()
	if h.Shutdown(ending) != nil {
		_ = h.Close() // what it answers now helps nobody
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("HTTP server: %w", err)
	}
	return nil
}

// reload makes the process go by other definitions.
func (d *syncing) reload(ctx context.Context, set *definition.Set) error {
	return reloadSyncer(ctx, d.syncer, d.status, d.events, set)
}

// reloadSyncer makes a syncer and its events go by other definitions: the events first, so that none is missed between the first run of a view and them.
func reloadSyncer(ctx context.Context, s *syncer.Syncer, status *syncStatus, events *syncEvents, set *definition.Set) error {
	views := slices.DeleteFunc(slices.Clone(set.Registry.Views()), func(v *feature.View) bool { return !v.IsSynced() })
	if err := events.route(views); err != nil {
		return err
	}
	if err := events.await(ctx); err != nil {
		return err
	}
	status.expect(views) // before any of them can have run
	s.Reload(set.Registry)
	return nil
}
