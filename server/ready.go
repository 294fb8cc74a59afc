package server

import (
	"context"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// readiness is whether the server can answer online reads now, and if not, why not.
type readiness struct{ err error }

func (s *Server) setReady(err error) {
	s.ready.Store(&readiness{err})
	state := healthpb.HealthCheckResponse_SERVING
	if err != nil {
		state = healthpb.HealthCheckResponse_NOT_SERVING
	}
	s.health.SetServingStatus("", state)
	s.health.SetServingStatus(twofoldv1.FeatureService_ServiceDesc.ServiceName, state)
	s.health.SetServingStatus(twofoldv1.RegistryService_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
}

// watchStore keeps readiness true to the online store's health until ctx is done.
func (s *Server) watchStore(ctx context.Context) {
	ticker := time.NewTicker(s.o.PingInterval)
	defer ticker.Stop()
	var last error
	for first := true; ; first = false {
		err := s.ping(ctx)
		if ctx.Err() != nil {
			return
		}
		s.setReady(err)
		switch {
		case err != nil && (first || last == nil):
			s.o.Logger.Error("online store does not answer; online reads fail until it does", "error", err)
		case err == nil && last != nil:
			s.o.Logger.Info("online store answers again")
		}
		last = err
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (s *Server) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.PingInterval)
	defer cancel()
	return s.o.Online.Ping(ctx)
}
