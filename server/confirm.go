package server

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
)

// A store that has just lost its data answers like one in which nobody is found, and the marker that would tell is looked at every other second
// only. So an answer in which rows of a synced view are missing is not sent before a look at the markers that began after its rows were
// read: had they been lost by then, the markers would be gone as well. Requests that wait for a look at the same time share one.

// maxRereads is how often a request whose rows are missing is read again because views were synced meanwhile.
const maxRereads = 3

// readOnline reads, and where rows of synced views are missing makes sure that the store has not lost them. The markers must be the same before
// and after: others tell of a sync in between, which may have filled an emptied store again, or of another generation.
func (s *Server) readOnline(ctx context.Context, c *catalog, selection *onlineSelection, keys []*feature.Column, o online.ReadOptions) (*online.Result, error) {
	for range maxRereads {
		generations, before, err := c.unsynced.generations(ctx, selection)
		if err != nil {
			return nil, err
		}
		o.Generations = generations
		result, err := s.o.Online.Read(ctx, selection.plan, keys, o)
		if err != nil || !isMissingSynced(selection, result, o.Unknown) {
			return result, err
		}
		if err := c.unsynced.confirm(ctx); err != nil {
			return nil, err
		}
		unknown, err := c.unsynced.faults(ctx, selection, o)
		if err != nil {
			return nil, err
		}
		if unknown == nil && c.unsynced.known.Load().version == before {
			return result, nil
		}
		result.Release()
		o.Unknown = unknown
	}
	return nil, fault.New(fault.Unavailable, "feature views were synced again and again while this was read, so that rows which are missing cannot be told from lost ones")
}

// lookTimeout bounds a look at the markers; the store's own timeout is shorter.
const lookTimeout = 10 * time.Second

// looks are looks at the markers that requests wait for.
type looks struct {
	mu      sync.Mutex
	running bool
	next    *look // has not begun
}

// look is one look at the markers.
type look struct {
	done chan struct{}
	err  error
}

// confirm returns when the store was asked which views are synced, after confirm was called.
func (u *unsyncedViews) confirm(ctx context.Context) error {
	u.looks.mu.Lock()
	if u.looks.next == nil {
		u.looks.next = &look{done: make(chan struct{})}
	}
	l := u.looks.next
	if !u.looks.running {
		u.begin()
	}
	u.looks.mu.Unlock()
	select {
	case <-l.done:
		return l.err
	case <-ctx.Done():
		return fault.New(fault.Unavailable, "ask whether the rows that are missing were lost: %w", ctx.Err())
	}
}

// begin starts the next look, for those who wait for it by now; the lock is held.
func (u *unsyncedViews) begin() {
	l := u.looks.next
	u.looks.next, u.looks.running = nil, true
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
		defer cancel()
		_, l.err = u.load(ctx)
		close(l.done)
		u.looks.mu.Lock()
		defer u.looks.mu.Unlock()
		if u.looks.running = false; u.looks.next != nil {
			u.begin()
		}
	}()
}

// isMissingSynced reports whether a row of a synced view, one that is not known to be lost, is not there.
func isMissingSynced(selection *onlineSelection, result *online.Result, unknown []error) bool {
	for v, synced := range selection.synced {
		if !synced || (unknown != nil && unknown[v] != nil) {
			continue
		}
		for _, status := range result.Columns[selection.firstColumn[v]].Status {
			if status == feature.NotFound {
				return true
			}
		}
	}
	return false
}

// unsyncedCollector tells which views are not synced, as far as the server knows.
type unsyncedCollector struct{ server *Server }

var unsyncedDesc = prometheus.NewDesc("twofold_unsynced_views", "1 for each feature view that a sync has yet to fill, so that it is answered with UNAVAILABLE.",
	[]string{"feature_view"}, nil)

// Describe implements prometheus.Collector.
func (c unsyncedCollector) Describe(descs chan<- *prometheus.Desc) { descs <- unsyncedDesc }

// Collect implements prometheus.Collector.
func (c unsyncedCollector) Collect(metrics chan<- prometheus.Metric) {
	for name, state := range c.server.catalog.Load().unsynced.known.Load().states {
		if state == online.Unsynced {
			metrics <- prometheus.MustNewConstMetric(unsyncedDesc, prometheus.GaugeValue, 1, name)
		}
	}
}
