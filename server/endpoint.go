package server

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
)

// endpoint is what stands around the services of each of Twofold's gRPC servers: checks of requests, limits, errors that become statuses, metrics, health,
// reflection, and an end that lets calls under way finish.
type endpoint struct {
	logger          *slog.Logger
	calls           *callMetrics
	gates           *gates
	maxMessageBytes int
	drainTimeout    time.Duration
	validator       protovalidate.Validator
	failures        failureLog
	health          *health.Server
	// stopping is closed by stop when the server begins to drain: calls that could go on for ever end then.
	stopping chan struct{}
	stop     func()
}

func newEndpoint(logger *slog.Logger, calls *callMetrics, gates *gates, maxMessageBytes int, drainTimeout time.Duration) (*endpoint, error) {
	validator, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("server: request validator: %w", err)
	}
	e := &endpoint{
		logger: logger, calls: calls, gates: gates, maxMessageBytes: maxMessageBytes, drainTimeout: drainTimeout, validator: validator, health: health.NewServer(),
		stopping: make(chan struct{}),
	}
	e.stop = sync.OnceFunc(func() { close(e.stopping) })
	return e, nil
}

// newServer returns a server of health and reflection, to which services are added.
func (e *endpoint) newServer(options ...grpc.ServerOption) *grpc.Server {
	unary, stream := e.interceptors()
	g := grpc.NewServer(append(options,
		grpc.MaxRecvMsgSize(e.maxMessageBytes),
		grpc.MaxSendMsgSize(e.maxMessageBytes),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		unary, stream)...)
	healthpb.RegisterHealthServer(g, e.health)
	reflection.Register(g)
	return g
}

// drain stops taking calls and waits for those under way, no longer than the drain timeout.
func (e *endpoint) drain(grpcServer *grpc.Server) {
	e.health.Shutdown()
	e.stop()
	done := make(chan struct{})
	go func() {
		grpcServer.GracefulStop()
		close(done)
	}()
	timeout := time.NewTimer(e.drainTimeout)
	defer timeout.Stop()
	select {
	case <-done:
	case <-timeout.C:
		e.logger.Warn("calls still under way after the drain timeout are cut off", "drain_timeout", e.drainTimeout)
		grpcServer.Stop()
		<-done
	}
}
