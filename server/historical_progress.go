package server

import (
	"context"
	"sync"
	"time"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/training"
)

// historicalSender sends on one stream, for the call's goroutine and the one that tells the progress.
type historicalSender struct {
	stream historicalStream
	mu     sync.Mutex
}

func (s *historicalSender) send(m *twofoldv1.GetHistoricalFeaturesResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stream.Send(m)
}

// sendEncoded sends a message that is bytes already.
func (s *historicalSender) sendEncoded(m encodedMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stream.SendMsg(m)
}

// tellProgress sends a progress message each interval until the returned function is called, which waits for the last. An interval of 0 sends none.
func (s *historicalSender) tellProgress(ctx context.Context, interval time.Duration, progress *training.Progress) (stop func()) {
	if interval <= 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			message := &twofoldv1.GetHistoricalFeaturesResponse_Progress{Progress: progressMessage(progress.At())}
			if s.send(&twofoldv1.GetHistoricalFeaturesResponse{Message: message}) != nil {
				return // the stream has ended; the call finds out by itself
			}
		}
	}()
	return sync.OnceFunc(func() {
		cancel()
		<-done
	})
}

var phases = map[training.Phase]twofoldv1.HistoricalProgress_Phase{
	training.Reading:   twofoldv1.HistoricalProgress_PHASE_READING_ENTITIES,
	training.Waiting:   twofoldv1.HistoricalProgress_PHASE_WAITING_FOR_MEMORY,
	training.Scanning:  twofoldv1.HistoricalProgress_PHASE_SCANNING,
	training.Gathering: twofoldv1.HistoricalProgress_PHASE_GATHERING,
	training.Sending:   twofoldv1.HistoricalProgress_PHASE_SENDING,
}

func progressMessage(at training.At) *twofoldv1.HistoricalProgress {
	return &twofoldv1.HistoricalProgress{
		Phase: phases[at.Phase], EntityRows: uint64(at.EntityRows), RowsDone: uint64(at.Done), RowsScanned: uint64(at.Scanned),
		FeatureRows: uint64(at.FeatureRows), RowsMatched: uint64(at.Matched), RowGroupsLeft: uint64(at.FragmentsLeft),
		Part: uint32(at.Part), Parts: uint32(at.Parts),
	}
}
