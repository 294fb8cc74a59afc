package server_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/server"
)

// stubSync answers SyncService: triggers wait until they are cancelled, and what is asked about a view is wrong in a way that the view names.
type stubSync struct {
	twofoldv1.UnimplementedSyncServiceServer
	waiting chan struct{}
}

func (s stubSync) TriggerSync(ctx context.Context, _ *twofoldv1.TriggerSyncRequest) (*twofoldv1.TriggerSyncResponse, error) {
	close(s.waiting)
	<-ctx.Done()
	return nil, ctx.Err()
}

func (s stubSync) GetSyncStatus(_ context.Context, r *twofoldv1.GetSyncStatusRequest) (*twofoldv1.GetSyncStatusResponse, error) {
	switch r.GetFeatureViews()[0] {
	case "undefined":
		return nil, fault.New(fault.NotDefined, "it is not defined")
	case "panic":
		panic("a fault of the service")
	default:
		return nil, errors.New("a cause that stays here")
	}
}

// TestSyncServer has what each of Twofold's servers has: checked requests, errors as statuses, panics that end one call only, health, reflection and metrics; and
// an end that tells who waits.
func TestSyncServer(t *testing.T) {
	stub, metrics, logged := stubSync{waiting: make(chan struct{})}, prometheus.NewRegistry(), &strings.Builder{}
	s, err := server.NewSyncServer(server.SyncOptions{Sync: stub, Metrics: metrics, Logger: slog.New(slog.NewTextHandler(logged, nil)), DrainTimeout: time.Minute})
	require.NoError(t, err)
	_, err = server.NewSyncServer(server.SyncOptions{})
	require.ErrorContains(t, err, "required")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, listener) }()

	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	client := twofoldv1.NewSyncServiceClient(conn)
	code := func(err error) codes.Code { return status.Code(err) }
	ask := func(view string) error {
		_, err := client.GetSyncStatus(t.Context(), &twofoldv1.GetSyncStatusRequest{FeatureViews: []string{view}})
		return err
	}
	require.Equal(t, codes.NotFound, code(ask("undefined")))
	for _, view := range []string{"panic", "internal"} {
		err := ask(view)
		require.Equal(t, codes.Internal, code(err))
		require.NotContains(t, err.Error(), "a fault of the service")
		require.NotContains(t, err.Error(), "a cause that stays here")
	}
	_, err = client.TriggerSync(t.Context(), &twofoldv1.TriggerSyncRequest{Reason: strings.Repeat("x", 1001)})
	require.Equal(t, codes.InvalidArgument, code(err))

	for _, service := range []string{"", "twofold.v1.SyncService"} {
		health, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		require.NoError(t, err)
		require.Equal(t, healthpb.HealthCheckResponse_SERVING, health.GetStatus())
	}
	reflection, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	require.NoError(t, err)
	require.NoError(t, reflection.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}))
	answer, err := reflection.Recv()
	require.NoError(t, err)
	var services []string
	for _, service := range answer.GetListServicesResponse().GetService() {
		services = append(services, service.GetName())
	}
	require.Contains(t, services, "twofold.v1.SyncService")
	require.NotContains(t, services, "twofold.v1.FeatureService")
	require.NoError(t, reflection.CloseSend())
	families, err := metrics.Gather()
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == "grpc_server_handled_total" }))

	waited := make(chan error, 1)
	go func() {
		_, err := client.TriggerSync(t.Context(), &twofoldv1.TriggerSyncRequest{Wait: true})
		waited <- err
	}()
	<-stub.waiting
	stop()
	err = <-waited
	require.Equal(t, codes.Unavailable, code(err))
	require.ErrorContains(t, err, "stopping")
	require.NoError(t, <-served)
	require.Contains(t, logged.String(), "a cause that stays here")
}
