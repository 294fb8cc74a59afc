package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// SyncOptions is what a SyncServer is made of.
type SyncOptions struct {
	// Sync answers SyncService. Required.
	Sync twofoldv1.SyncServiceServer
	// Logger receives what an operator should know. Defaults to slog.Default().
	Logger *slog.Logger
	// Metrics receives the metrics of calls. Defaults to a registry of the server's own.
	Metrics *prometheus.Registry
	// MaxMessageBytes is the largest message that is received or sent, in bytes. Defaults to 64 MiB.
	MaxMessageBytes int
	// DrainTimeout is how long calls under way may go on after the server was told to stop. Defaults to 20 s.
	DrainTimeout time.Duration
}

// SyncServer answers SyncService for a process that syncs and serves no features, with health and reflection.
type SyncServer struct {
	*endpoint
	sync twofoldv1.SyncServiceServer
}

// NewSyncServer returns a server of these options.
func NewSyncServer(o SyncOptions) (*SyncServer, error) {
	if o.Sync == nil {
		return nil, errors.New("server: Sync is required")
	}
	setDefault(&o.Logger, slog.Default())
	setDefault(&o.MaxMessageBytes, Limits{}.withDefaults().MaxMessageBytes)
	setDefault(&o.DrainTimeout, 20*time.Second)
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	endpoint, err := newEndpoint(o.Logger, newCallMetrics(o.Metrics), &gates{}, o.MaxMessageBytes, o.DrainTimeout)
	if err != nil {
		return nil, err
	}
	return &SyncServer{endpoint, o.Sync}, nil
}

// Serve answers calls until ctx is done; then it lets those under way finish within the drain timeout, and returns nil. It returns early, with the reason, if
// the listener fails. The listener is closed when it returns.
//
// Its health is SERVING as long as it answers calls. How the views stand is GetSyncStatus's to tell.
func (s *SyncServer) Serve(ctx context.Context, listener net.Listener) error {
	g := s.newServer()
	twofoldv1.RegisterSyncServiceServer(g, syncService{s.sync, s.endpoint})
	s.health.SetServingStatus(twofoldv1.SyncService_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	failed := make(chan error, 1)
	go func() { failed <- wrap("gRPC", g.Serve(listener)) }()
	select {
	case <-ctx.Done():
	case err := <-failed:
		s.drain(g)
		return err
	}
	s.drain(g)
	return <-failed
}
