// Package server answers twofold.v1's gRPC services: features as they are now, features as they were, and what is defined.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/definition"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/training"
)

// Options is what a Server is made of.
type Options struct {
	// Definitions are the features to serve at first; Server.Reload replaces them. Required.
	Definitions *definition.Set
	// Online is the store behind GetOnlineFeatures and PushFeatures. Required. The caller closes it, after Serve.
	Online *online.Store
	// Offline is the store behind GetHistoricalFeatures. Required. The caller closes it, after Serve.
	Offline *offline.Store
	// Now is the clock that decides freshness. Defaults to time.Now.
	Now func() time.Time
	// Logger receives what an operator should know. Defaults to slog.Default().
	Logger *slog.Logger
	// Metrics receives the metrics and is what /metrics serves. Defaults to a registry of the server's own.
	Metrics *prometheus.Registry
	// Limits are what a request and all requests together may ask for.
	Limits
	// DrainTimeout is how long calls under way may go on after the server was told to stop. Defaults to 20 s.
	DrainTimeout time.Duration
	// PingInterval is the time between two checks of the online store's health. Defaults to 2 s.
	PingInterval time.Duration
	// TrainingMemory is the memory that all historical calls together may take, in bytes. Defaults to 1 GiB.
	TrainingMemory int64
	// TrainingMemoryInUse is called with the bytes that historical calls have been given for their joins, whenever that changes. Defaults to nil: nobody is told.
	TrainingMemoryInUse func(bytes int64)
	// EntityPaths and OutputPaths say which files a historical call may name for its entity rows and its result. Default to none.
	EntityPaths, OutputPaths *offline.PathRules
	// TempDir is the folder for entity rows that are not kept in memory. Defaults to the system's.
	TempDir string
	// Sync answers SyncService. Defaults to nil: the service is not served.
	Sync twofoldv1.SyncServiceServer
	// HTTPHandlers answer on further paths of the HTTP listener, by pattern of http.ServeMux. Defaults to none.
	HTTPHandlers map[string]http.Handler
	// MaxEventTimeAhead is how far after the server's clock the event time of a pushed row may be. Defaults to 5 min.
	MaxEventTimeAhead time.Duration
	// ForgottenMaxAge is for how long the server goes by the list of forgotten entities that it has read. Defaults to 2 s, less than syncer.DefaultSettle.
	ForgottenMaxAge time.Duration
}

// WithDefaults returns o with every field that is not set filled in.
func (o Options) WithDefaults() Options {
	setDefault(&o.Logger, slog.Default())
	o.Limits = o.Limits.withDefaults()
	setDefault(&o.DrainTimeout, 20*time.Second)
	setDefault(&o.PingInterval, 2*time.Second)
	setDefault(&o.MaxEventTimeAhead, 5*time.Minute)
	setDefault(&o.ForgottenMaxAge, 2*time.Second)
	setDefault(&o.TrainingMemory, 1<<30)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// refusePaths fills in rules that allow no path.
func (o *Options) refusePaths() (err error) {
	if o.EntityPaths == nil {
		o.EntityPaths, err = o.Offline.PathRules(entityPathsSetting, nil)
	}
	if o.OutputPaths == nil && err == nil {
		o.OutputPaths, err = o.Offline.PathRules(outputPathsSetting, nil)
	}
	return err
}

// Server answers the gRPC services and the HTTP endpoints. Make it with New, run it with Serve.
type Server struct {
	twofoldv1.UnimplementedFeatureServiceServer
	twofoldv1.UnimplementedRegistryServiceServer

	*endpoint

	o         Options
	catalog   atomic.Pointer[catalog]
	metrics   *metrics
	forgotten *forgottenList
	ready     atomic.Pointer[readiness]
	// trainingMemory is shared by all historical calls.
	trainingMemory *training.Budget
	reloading      sync.Mutex // held while a new catalog is made ready
}

// New returns a server of these definitions and stores.
func New(o Options) (*Server, error) {
	o = o.WithDefaults()
	if o.Definitions == nil || o.Online == nil || o.Offline == nil {
		return nil, errors.New("server: Definitions, Online and Offline are required")
	}
	if err := o.refusePaths(); err != nil {
		return nil, err
	}
	m := newMetrics(o.Metrics)
	endpoint, err := newEndpoint(o.Logger, m.calls, newGates(o.Limits, o.Metrics), o.MaxMessageBytes, o.DrainTimeout)
	if err != nil {
		return nil, err
	}
	catalog, err := newCatalog(o.Definitions, m, o.Online, nil)
	if err != nil {
		return nil, err
	}
	s := &Server{endpoint: endpoint, o: o, trainingMemory: training.NewBudget(o.TrainingMemory, o.TrainingMemoryInUse), metrics: m, forgotten: newForgottenList(o.Online)}
	s.catalog.Store(catalog)
	s.setReady(errors.New("starting"))
	if err := o.Metrics.Register(unsyncedCollector{s}); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	return s, nil
}

// Serve answers gRPC calls on one listener and HTTP requests on the other until ctx is done; then it reports not ready, lets
// calls under way finish within the drain timeout, and returns nil. It returns early, with the reason, if a
// listener fails. Both listeners are closed when it returns.
func (s *Server) Serve(ctx context.Context, grpcListener, httpListener net.Listener) error {
	grpcServer := s.newGRPCServer()
	httpServer := &http.Server{Handler: s.httpHandler(), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 2)
	go func() { failed <- wrap("gRPC", grpcServer.Serve(grpcListener)) }()
	go func() { failed <- wrap("HTTP", httpServer.Serve(httpListener)) }()

	pinging, stopPinging := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		s.watchStore(pinging)
	}()

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	stopPinging()
	<-watched // the caller closes the store next
	s.setReady(errors.New("stopping"))
	s.drain(grpcServer)
	closing, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if httpServer.Shutdown(closing) != nil {
		_ = httpServer.Close()
	}
	return err
}

const (
	// streamWorkers are goroutines that answer one call after the other and keep their stacks, which are grown once then and not for each
	// call. Calls beyond them get a goroutine each.
	streamWorkers = 64
	// writeBufferBytes lets an answer of some tens of kilobytes go out in one system call. Idle connections hold no buffer.
	writeBufferBytes = 128 << 10
)

func wrap(what string, err error) error {
	if err == nil || errors.Is(err, http.ErrServerClosed) || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return fmt.Errorf("%s server: %w", what, err)
}

func (s *Server) newGRPCServer() *grpc.Server {
	g := s.newServer(grpc.ForceServerCodecV2(newCodec()), grpc.NumStreamWorkers(streamWorkers), grpc.WriteBufferSize(writeBufferBytes))
	g.RegisterService(featureService(), s)
	twofoldv1.RegisterRegistryServiceServer(g, s)
	if s.o.Sync != nil {
		twofoldv1.RegisterSyncServiceServer(g, syncService{s.o.Sync, s.endpoint})
	}
	return g
}
