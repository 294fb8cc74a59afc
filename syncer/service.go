package syncer

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
)

// Service serves SyncService for a Syncer. Its errors have the kinds of the fault package; who serves it turns them into codes.
type Service struct {
	twofoldv1.UnimplementedSyncServiceServer
	// Syncer is asked. Required.
	Syncer *Syncer
	// WatchInterval is the time between two looks at the runs for WatchSync. Defaults to 500 ms.
	WatchInterval time.Duration
}

// TriggerSync implements twofoldv1.SyncServiceServer.
func (s *Service) TriggerSync(ctx context.Context, r *twofoldv1.TriggerSyncRequest) (*twofoldv1.TriggerSyncResponse, error) {
	reports, err := s.Syncer.Trigger(ctx, Request{Trigger: twofoldv1.SyncTrigger_SYNC_TRIGGER_REQUEST, Cause: r.GetReason(), Full: r.GetFull()}, r.GetWait(), r.GetFeatureViews()...)
	if err != nil {
		return nil, err
	}
	response := &twofoldv1.TriggerSyncResponse{}
	for _, report := range reports {
		response.Runs = append(response.Runs, report.Run())
	}
	return response, nil
}

// ListSyncRuns implements twofoldv1.SyncServiceServer.
func (s *Service) ListSyncRuns(ctx context.Context, r *twofoldv1.ListSyncRunsRequest) (*twofoldv1.ListSyncRunsResponse, error) {
	runs, err := s.Syncer.Runs(ctx, int(r.GetLimit()), r.GetFeatureViews()...)
	if err != nil {
		return nil, err
	}
	return &twofoldv1.ListSyncRunsResponse{Runs: runs}, nil
}

// GetSyncStatus implements twofoldv1.SyncServiceServer.
func (s *Service) GetSyncStatus(ctx context.Context, r *twofoldv1.GetSyncStatusRequest) (*twofoldv1.GetSyncStatusResponse, error) {
	statuses, err := s.Syncer.Status(ctx, r.GetFeatureViews()...)
	if err != nil {
		return nil, err
	}
	return &twofoldv1.GetSyncStatusResponse{Views: statuses, NowMicros: s.Syncer.o.Now().UnixMicro()}, nil
}

// WatchSync implements twofoldv1.SyncServiceServer. It looks at what the store remembers, and so sees the runs of every process.
func (s *Service) WatchSync(r *twofoldv1.WatchSyncRequest, stream grpc.ServerStreamingServer[twofoldv1.WatchSyncResponse]) error {
	interval := s.WatchInterval
	if interval <= 0 {
		interval = 500 * time.Millisecond
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var known map[string]*twofoldv1.SyncRun // by view and id; nil at first
	for {
		runs, err := s.Syncer.Runs(stream.Context(), 0, r.GetFeatureViews()...)
		if err != nil {
			return err
		}
		changed, now := changedRuns(runs, known)
		known = now
		for _, run := range changed {
			if err := stream.Send(&twofoldv1.WatchSyncResponse{Run: run}); err != nil {
				return err
			}
		}
		select {
		case <-stream.Context().Done():
			return fault.New(fault.Unavailable, "watch: %w", stream.Context().Err())
		case <-ticker.C:
		}
	}
}

// changedRuns returns the runs, which come the latest first, that are not as they were known, the earliest first, and what is known now. Where nothing was known it
// is the last run of each view.
func changedRuns(runs []*twofoldv1.SyncRun, known map[string]*twofoldv1.SyncRun) (changed []*twofoldv1.SyncRun, now map[string]*twofoldv1.SyncRun) {
	now = make(map[string]*twofoldv1.SyncRun, len(runs))
	seen := map[string]bool{}
	for _, run := range runs {
		key := run.GetFeatureView() + "/" + run.GetId()
		now[key] = run
		if (known != nil && !proto.Equal(known[key], run)) || (known == nil && !seen[run.GetFeatureView()]) {
			changed = append(changed, run)
		}
		seen[run.GetFeatureView()] = true
	}
	slices.Reverse(changed)
	return changed, now
}
