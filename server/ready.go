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

// notReadyInterval is the time between two checks while the server is not ready, so that it is soon ready again.
const notReadyInterval = 250 * time.Millisecond

// watchStore keeps readiness true to the online store's health until ctx is done, and logs each change and each new reason.
func (s *Server) watchStore(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		err := s.ping(ctx)
		if ctx.Err() != nil {
			return
		}
		s.setReady(err)
		state, pause := "ready", s.o.PingInterval
		if err != nil {
			state, pause = err.Error(), min(notReadyInterval, s.o.PingInterval)
		}
		if state != told {
			s.logReady(err)
			told = state
		}
		timer.Reset(pause)
	}
}

func (s *Server) logReady(err error) {
	if err != nil {
		s.o.Logger.Warn("not ready", "reason", err)
		return
	}
	s.o.Logger.Info("ready")
}

// ping returns why online reads would fail: the store does not answer, or a view was not synced into it.
func (s *Server) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.PingInterval)
	defer cancel()
	if err := s.o.Online.Ping(ctx); err != nil {
		return err
	}
	return s.catalog.Load().unsynced.refresh(ctx)
}
