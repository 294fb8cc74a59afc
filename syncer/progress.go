package syncer

import (
	"sync/atomic"
	"time"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// Progress is how far a run is.
type Progress struct {
	// View is the name of the feature view.
	View string
	// RowsRead is how many rows' keys and times have been read, of RowsToRead in the files that are read. Parts of files may be left unread, so that the first stays below the
	// second. RowsToRead is 0 until the files have been opened.
	RowsRead, RowsToRead int64
	// RowsWritten is how many rows have been given to the store, of RowsToWrite, which is 0 until all has been read.
	RowsWritten, RowsToWrite int64
}

// runProgress counts what a run has done.
type runProgress struct {
	read             pit.Progress
	toWrite, written atomic.Int64
}

// follow tells OnProgress how far a run is, until the function that it returns is called.
func (s *Syncer) follow(view *feature.View, p *runProgress) (stop func()) {
	if s.o.OnProgress == nil {
		return func() {}
	}
	stopping, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(s.o.ProgressInterval)
		defer tick.Stop()
		for {
			select {
			case <-stopping:
				return
			case <-tick.C:
				s.o.OnProgress(Progress{
					View: view.Name, RowsRead: p.read.Scanned.Load(), RowsToRead: p.read.Rows.Load(), RowsWritten: p.written.Load(), RowsToWrite: p.toWrite.Load(),
				})
			}
		}
	}()
	return func() {
		close(stopping)
		<-stopped
	}
}
