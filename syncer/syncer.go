// Package syncer carries offline rows to the online store: for each feature view it finds the newest row of every
// entity, or its newest versions, and writes those rows, newest wins.
package syncer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/pit"
)

// Options is what a Syncer is made of.
type Options struct {
	// Registry holds the definitions at first; Syncer.Reload replaces them. Required.
	Registry *feature.Registry
	// Online is the store to write. Required.
	Online *online.Store
	// Offline is the store to read. Required.
	Offline *offline.Store
	// Now is the clock: rows from after it are left for a later run. Defaults to time.Now.
	Now func() time.Time
	// Logger receives what an operator should know. Defaults to slog.Default().
	Logger *slog.Logger
	// OnReport is called after each run of each view, from one goroutine at a time. Defaults to none.
	OnReport func(Report)
	// LossCheckInterval is the time between two looks whether the online store still has what Run carried there; one that was
	// emptied is filled again at once, however long a view's interval. Defaults to 10 s.
	LossCheckInterval time.Duration
}

// Syncer carries views to the online store. Its methods may be called by many goroutines at once; even two
// processes that sync the same view do no harm.
type Syncer struct {
	o           Options
	definitions atomic.Pointer[definitions]
}

// definitions are what a Syncer goes by until they are replaced.
type definitions struct {
	registry *feature.Registry
	// replaced is closed when others have taken their place.
	replaced chan struct{}
}

// New returns a syncer.
func New(o Options) (*Syncer, error) {
	if o.Registry == nil || o.Online == nil || o.Offline == nil {
		return nil, errors.New("syncer: Registry, Online and Offline are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.OnReport == nil {
		o.OnReport = func(Report) {}
	}
	if o.LossCheckInterval <= 0 {
		o.LossCheckInterval = 10 * time.Second
	}
	s := &Syncer{o: o}
	s.definitions.Store(&definitions{o.Registry, make(chan struct{})})
	return s, nil
}

// Reload makes the syncer go by other definitions. Where Run is under way, a view that is new or defined in another way than before is
// carried at once, one that is gone no more, and all others at their times; the run of a view that is under way is finished first.
func (s *Syncer) Reload(registry *feature.Registry) {
	old := s.definitions.Swap(&definitions{registry, make(chan struct{})})
	close(old.replaced)
}

// Views returns the views that are synced: those that are enabled and have an online feature; or, where names are given, these. It is an
// error to name one that is not defined or not synced.
func (s *Syncer) Views(names ...string) ([]*feature.View, error) {
	registry := s.definitions.Load().registry
	if len(names) == 0 {
		return syncedViews(registry), nil
	}
	views := make([]*feature.View, len(names))
	for i, name := range names {
		v, err := registry.View(name)
		if err != nil {
			return nil, err
		}
		if !v.Sync.Enabled {
			return nil, fault.New(fault.Precondition, "feature view %q is not synced: its definition says sync.enabled: false", name)
		}
		if !v.IsSynced() {
			return nil, fault.New(fault.Precondition, "feature view %q has nothing to sync: all its features are online: false", name)
		}
		views[i] = v
	}
	return views, nil
}

func syncedViews(registry *feature.Registry) []*feature.View {
	return slices.DeleteFunc(slices.Clone(registry.Views()), func(v *feature.View) bool { return !v.IsSynced() })
}

// RunOnce syncs the named views, or all, one after the other. A view that fails does not keep the others from being
// synced; the error joins all failures, each naming its view. There is a report for each view, failed ones included.
func (s *Syncer) RunOnce(ctx context.Context, names ...string) ([]Report, error) {
	views, err := s.Views(names...)
	if err != nil {
		return nil, err
	}
	var failures []error
	reports := make([]Report, 0, len(views))
	for _, view := range views {
		report := s.SyncView(ctx, view)
		reports = append(reports, report)
		if report.Err != nil {
			failures = append(failures, report.Err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return reports, errors.Join(failures...)
}

// SyncView syncs one view now. What went wrong is in the report.
func (s *Syncer) SyncView(ctx context.Context, view *feature.View) Report {
	report := Report{View: view.Name, Started: s.o.Now()}
	clock := time.Now()
	report.Err = s.carry(ctx, view, &report)
	report.Elapsed = time.Since(clock)
	s.log(ctx, report)
	s.o.OnReport(report)
	return report
}

func (s *Syncer) log(ctx context.Context, r Report) {
	if r.Err != nil {
		s.o.Logger.ErrorContext(ctx, "sync failed", "feature_view", r.View, "report", r, "error", r.Err)
		return
	}
	s.o.Logger.InfoContext(ctx, "synced", "feature_view", r.View, "report", r)
}

// carry finds the rows to carry and writes them, batch by batch; when all are written it marks the view as synced.
func (s *Syncer) carry(ctx context.Context, view *feature.View, report *Report) error {
	if err := s.o.Online.RegisterSchema(ctx, view); err != nil {
		return err
	}
	winners, err := s.find(ctx, view, feature.AsOf(report.Started.UnixMicro()))
	if err != nil {
		return err
	}
	report.addRead(winners.Stats())
	err = winners.Batches(ctx, gatherRows(view), view.OnlineFeatures(), func(batch pit.WinnerBatch) error {
		stats, err := s.o.Online.Write(ctx, online.Rows{
			View: view, Keys: batch.Keys, EventTimes: batch.EventTimes, CreatedTimes: batch.CreatedTimes, Features: batch.Features,
			BatchSize: view.Sync.BatchSize,
		})
		report.addWritten(stats, batch.EventTimes)
		if err != nil {
			return fmt.Errorf("feature view %q: %w", view.Name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.o.Online.MarkViewSynced(ctx, view, report.Started)
}

// find finds the rows to carry: those that the store would keep had it been given every row of the files.
//
// Of a view that keeps N versions these are the newest N + 1 of each entity: the last tells the store that there are older ones than it
// keeps. How old they are is no matter while any version of the entity is kept. A row that came late and has long expired may belong between two versions that
// are still stored, and a store that was not given it would answer for that moment with the one before it, which is wrong. So
// files are not left unread for their age, as those of other views are; only entities of which nothing is left in the store, and nothing would
// stay there, are left out.
func (s *Syncer) find(ctx context.Context, view *feature.View, asOf feature.AsOf) (*pit.Winners, error) {
	source := s.o.Offline.Table(view).Scan()
	if view.HistoryVersions == 0 {
		return pit.Latest(ctx, view, source, pit.LatestOptions{AsOf: asOf, MaxAge: view.KeepFor()})
	}
	winners, err := pit.Latest(ctx, view, source, pit.LatestOptions{AsOf: asOf, Versions: view.HistoryVersions + 1})
	if err != nil || view.TTL == 0 {
		return winners, err
	}
	return winners, winners.Retain(ctx, view.KeepFor(), func(ctx context.Context, keys []*feature.Column) ([]bool, error) {
		return s.o.Online.HaveVersions(ctx, view, keys)
	})
}

// gatherBytes is about how much of feature values is held at a time.
const gatherBytes = 32 << 20

// gatherRows is how many rows are read at a time: many, because each batch reads its row group again, but no more than about gatherBytes.
func gatherRows(v *feature.View) int {
	rowBytes := 64
	for _, f := range v.Features {
		switch {
		case f.Type.IsList():
			rowBytes += 4096
		case f.Type.Width() > 0:
			rowBytes += 10
		default:
			rowBytes += 40
		}
	}
	return min(max(gatherBytes/rowBytes, v.Sync.BatchSize), 1<<17)
}
