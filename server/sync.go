package server

import (
	"context"
	"errors"

	"google.golang.org/grpc"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
)

// syncService answers SyncService: it checks requests, and ends calls that could go on for ever when the server stops.
type syncService struct {
	twofoldv1.SyncServiceServer
	server *endpoint
}

var errStopping = fault.New(fault.Unavailable, "this server is stopping; ask another")

// untilStopping returns a context that is done when the server stops, with the reason as its cause.
func (s syncService) untilStopping(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-s.server.stopping:
			cancel(errStopping)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// stoppedBy returns errStopping where that is what ended the context, else err.
func stoppedBy(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errStopping) {
		return errStopping
	}
	return err
}

// TriggerSync implements twofoldv1.SyncServiceServer.
func (s syncService) TriggerSync(ctx context.Context, r *twofoldv1.TriggerSyncRequest) (*twofoldv1.TriggerSyncResponse, error) {
	if err := s.server.validate(r); err != nil {
		return nil, err
	}
	ctx, end := s.untilStopping(ctx)
	defer end()
	response, err := s.SyncServiceServer.TriggerSync(ctx, r)
	return response, stoppedBy(ctx, err)
}

// WatchSync implements twofoldv1.SyncServiceServer.
func (s syncService) WatchSync(r *twofoldv1.WatchSyncRequest, stream grpc.ServerStreamingServer[twofoldv1.WatchSyncResponse]) error {
	ctx, end := s.untilStopping(stream.Context())
	defer end()
	return stoppedBy(ctx, s.SyncServiceServer.WatchSync(r, watchStream{stream, ctx}))
}

// watchStream is a stream with another context.
type watchStream struct {
	grpc.ServerStreamingServer[twofoldv1.WatchSyncResponse]
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s watchStream) Context() context.Context { return s.ctx }
