package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/twofold-ml/twofold/internal/config"
	"github.com/twofold-ml/twofold/internal/definition"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/server"
	"github.com/twofold-ml/twofold/syncer"
)

func (a *app) serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve features over gRPC, with health and metrics over HTTP",
		Long: `Serves online features, training sets and the registry over gRPC (health and reflection included), and /healthz,
/readyz and /metrics over HTTP.

With nothing configured it uses an online store embedded in the process, kept in ./twofold-data, and syncs it itself.
With ONLINE_STORE_REDIS it uses Redis, which "twofold sync" fills.

Definitions that change are taken without a restart, at once on SIGHUP. Those that cannot be used are told of in the log and in metrics, and the
ones before stay in force.

On SIGINT or SIGTERM it reports not ready, lets calls in flight finish within --drain-timeout, and exits 0.`,
		Example: `  twofold serve --definitions features/ --offline-store-path /data/parquet
  ONLINE_STORE_REDIS=redis://localhost:6379 OFFLINE_STORE_PATH=s3://features twofold serve`,
		GroupID: groupServe,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := a.load(cmd)
			if err != nil {
				return err
			}
			return a.serve(cmd.Context(), loaded.Config)
		},
	}
	config.AddFlags(cmd.Flags())
	return cmd
}

func (a *app) serve(ctx context.Context, c config.Config) error {
	tuneCollector()
	signals, stop := catchReloads()
	defer stop()
	p, set, err := a.openDefined(ctx, c)
	if err != nil {
		return err
	}
	defer p.close()
	p.greet(ctx, set)
	s, err := p.newServing(set)
	if err != nil {
		return err
	}
	s.reloader = p.newReloader(set, signals, s.metrics, s.reload)
	return s.run(ctx)
}

// serving is a server with its listeners and its syncer.
type serving struct {
	process    *process
	server     *server.Server
	metrics    *prometheus.Registry
	grpc, http net.Listener
	// syncer runs where syncs is set; else it only tells what another process has done.
	syncer *syncer.Syncer
	syncs  bool
	status *syncStatus
	// events start syncs, where it syncs and was told to take some; else nil.
	events *syncEvents
	// reloader is nil where the definitions stay as they are.
	reloader *reloader
}

// newServing makes the server and opens its listeners, so that a port that is taken shows before anything is served.
func (p *process) newServing(set *definition.Set) (*serving, error) {
	c := p.config
	metrics := prometheus.NewRegistry()
	if p.hotCache != nil {
		metrics.MustRegister(p.hotCache)
	}
	if p.breaker != nil {
		metrics.MustRegister(p.breaker)
	}
	s := &serving{process: p, metrics: metrics, syncs: c.Syncs()}
	options := server.Options{
		Definitions: set, Online: p.online, Offline: p.offline, Now: p.now, Logger: p.log, Metrics: metrics,
		Limits: serverLimits(c.Limits), DrainTimeout: c.DrainTimeout, TempDir: c.Historical.TempDir, TrainingMemoryInUse: tuneForTraining(),
	}
	err := p.allowPaths(&options)
	if err != nil {
		return nil, err
	}
	if options.TrainingMemory, err = trainingMemory(c.Memory); err != nil {
		return nil, err
	}
	if err := s.newSyncer(set); err != nil {
		return nil, err
	}
	options.Sync, options.HTTPHandlers = &syncer.Service{Syncer: s.syncer}, s.events.handlers()
	s.server, err = server.New(options)
	if err != nil {
		return nil, err
	}
	if s.grpc, err = listen(c.GRPCAddress, "grpc-address"); err != nil {
		return nil, err
	}
	if s.http, err = listen(c.HTTPAddress, "http-address"); err != nil {
		_ = s.grpc.Close() // nothing was served on it
		return nil, err
	}
	return s, nil
}

// newSyncer makes the syncer. Its metrics are shown where it runs.
func (s *serving) newSyncer(set *definition.Set) (err error) {
	registry := prometheus.NewRegistry()
	if s.syncs {
		registry = s.metrics
		if s.events, err = s.process.newSyncEvents(registry); err != nil {
			return err
		}
	}
	s.status = newSyncStatus(registry, s.process.now)
	s.syncer, err = s.process.newSyncer(set, s.status, s.events, s.process.loggedProgress())
	return err
}

// allowPaths says which files historical calls may name.
func (p *process) allowPaths(o *server.Options) (err error) {
	if o.EntityPaths, err = p.offline.PathRules("historical.entity_paths", p.config.Historical.EntityPaths.Items()); err != nil {
		return configError{err}
	}
	if o.OutputPaths, err = p.offline.PathRules("historical.output_paths", p.config.Historical.OutputPaths.Items()); err != nil {
		return configError{err}
	}
	return nil
}

func serverLimits(l config.Limits) server.Limits {
	return server.Limits{
		MaxRows: l.MaxRowsPerRequest, MaxFeatures: l.MaxFeaturesPerRequest, MaxValues: l.MaxValuesPerRequest, MaxKeyBytes: int(l.MaxKeyBytes),
		MaxListElements: l.MaxListElements, MaxMessageBytes: int(l.MaxMessageBytes), MaxEntityRows: l.MaxEntityRowsPerStream,
		MaxConcurrentOnline: l.MaxConcurrentOnline, MaxOnlineStreams: l.MaxOnlineStreams, MaxInFlightPerStream: l.MaxInFlightPerStream,
		MaxConcurrentPushes: l.MaxConcurrentPushes, MaxConcurrentHistorical: l.MaxConcurrentHistorical,
	}
}

// run serves until ctx is done.
func (s *serving) run(ctx context.Context) error {
	log := s.process.log
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	synced := make(chan error, 1)
	go func() {
		var err error
		if s.syncs && s.events.await(ctx) == nil {
			err = s.syncer.Run(ctx)
		}
		synced <- err
	}()
	sourced := make(chan error, 1)
	go func() {
		err := s.events.run(ctx)
		if err != nil {
			stop()
		}
		sourced <- err
	}()
	var reloads sync.WaitGroup
	if s.reloader != nil {
		reloads.Go(func() { s.reloader.run(ctx) })
	}
	log.Info("serving", "grpc", s.grpc.Addr().String(), "http", s.http.Addr().String(), "syncs", s.syncs)
	err := s.server.Serve(ctx, s.grpc, s.http)
	stop()
	reloads.Wait()
	err = errors.Join(err, <-synced, <-sourced)
	log.Info("stopped")
	return err
}

// reload makes server and syncer go by other definitions.
func (s *serving) reload(ctx context.Context, set *definition.Set) error {
	if err := s.server.Reload(ctx, set); err != nil {
		return err
	}
	return reloadSyncer(ctx, s.syncer, s.status, s.events, set)
}

// listen opens a listener.
func listen(address, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fault.New(fault.Precondition, "cannot listen on %s: %w; stop what uses it, or choose another with --%s", address, lastError(err), flag)
	}
	return l, nil
}

// lastError returns the innermost cause of a network error: "address already in use".
func lastError(err error) error {
	for {
		inner, ok := err.(interface{ Unwrap() error })
		if !ok || inner.Unwrap() == nil {
			return err
		}
		err = inner.Unwrap()
	}
}

// localAddress returns an address on which a client of this machine reaches a listener.
func localAddress(l net.Listener) string {
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return l.Addr().String()
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "localhost"
	}
	return fmt.Sprintf("%s:%s", host, port)
}
