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

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/pit"
	"github.com/twofold-ml/twofold/internal/syncstate"
	"github.com/twofold-ml/twofold/syncer/event"
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
	// OnProgress is called now and then while a run is under way, but not when it ends; by one goroutine at a time. Defaults to none.
	OnProgress func(Progress)
	// ProgressInterval is the time between two calls of OnProgress, the first of which comes that long after a run has begun. Defaults to 10 s.
	ProgressInterval time.Duration
	// Events are those that Run syncs views for, beside their schedules. Defaults to nil: there are none.
	Events *event.Queue
	// LossCheckInterval is the time between two looks whether the online store still has what Run carried there; one that was
	// emptied is filled again at once, however long a view's interval. Defaults to 10 s.
	LossCheckInterval time.Duration
	// LeaseDuration is how long after this process has died others may sync its views. Defaults to 15 s.
	LeaseDuration time.Duration
	// GenerationGrace is how long the rows of a generation stay after another took its place, so that no reader still asks for it. Readers refuse to answer by what
	// they learnt more than 30 s ago; the rest is for clocks that differ. Defaults to 5 min.
	GenerationGrace time.Duration
	// RemovedViewsGrace is how long after a view has gone from the definitions its rows are removed (see RemoveGone). Defaults to 10 min; negative is never.
	RemovedViewsGrace time.Duration
}

// Syncer carries views to the online store. Its methods may be called by many goroutines at once; even two
// processes that sync the same view do no harm.
type Syncer struct {
	o     Options
	state *syncstate.Store
	// holder says which process this is.
	holder      string
	definitions atomic.Pointer[definitions]
	schedule    atomic.Pointer[schedule] // of Run, nil where it is not under way
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
	if o.GenerationGrace <= 0 {
		o.GenerationGrace = 5 * time.Minute
	}
	if o.ProgressInterval <= 0 {
		o.ProgressInterval = 10 * time.Second
	}
	if o.LossCheckInterval <= 0 {
		o.LossCheckInterval = 10 * time.Second
	}
	if o.RemovedViewsGrace == 0 {
		o.RemovedViewsGrace = 10 * time.Minute
	}
	s := &Syncer{o: o, state: syncstate.New(o.Online), holder: holder()}
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

// Request says how views are to be synced, and why.
type Request struct {
	// Trigger is what asks for it.
	Trigger twofoldv1.SyncTrigger
	// Cause says more of that, for people. May be empty.
	Cause string
	// Full carries every file, also those that have been carried and have not changed.
	Full bool
	// Shard has only the entities of one of several shards carried, which RunOnce and SyncView can do. The view counts as synced once all shards have been. Defaults to
	// the zero Shard: all entities.
	Shard Shard
	// Wait waits while another process syncs the view; else the run ends with the outcome LEASED.
	Wait bool
}

// RunOnce syncs the named views, or all, one after the other. A view that fails does not keep the others from being
// synced; the error joins all failures, each naming its view. There is a report for each view, failed ones included.
func (s *Syncer) RunOnce(ctx context.Context, r Request, names ...string) ([]Report, error) {
	views, err := s.Views(names...)
	if err != nil {
		return nil, err
	}
	var failures []error
	reports := make([]Report, 0, len(views))
	for _, view := range views {
		report := s.SyncView(ctx, view, r)
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
func (s *Syncer) SyncView(ctx context.Context, view *feature.View, r Request) Report {
	report := Report{
		ID: runID(), View: view.Name, Trigger: r.Trigger, Cause: r.Cause, Host: s.holder, Started: s.o.Now(), Shard: r.Shard, Outcome: twofoldv1.SyncOutcome_SYNC_OUTCOME_RUNNING,
	}
	clock := time.Now()
	report.Err = s.lease(ctx, view, &report, r, clock)
	report.Elapsed = time.Since(clock)
	s.log(ctx, report)
	s.o.OnReport(report)
	return report
}

func (s *Syncer) log(ctx context.Context, r Report) {
	switch {
	case r.Outcome == twofoldv1.SyncOutcome_SYNC_OUTCOME_STOPPED:
		s.o.Logger.InfoContext(ctx, "sync stopped, because the process is; the next run carries what is left", "feature_view", r.View, "report", r)
	case r.Err != nil:
		s.o.Logger.ErrorContext(ctx, "sync failed", "feature_view", r.View, "report", r, "error", r.Err)
	case r.Outcome == twofoldv1.SyncOutcome_SYNC_OUTCOME_LEASED:
		s.o.Logger.InfoContext(ctx, "not synced: another process is at it", "feature_view", r.View, "holder", r.Note)
	default:
		s.o.Logger.InfoContext(ctx, "synced", "feature_view", r.View, "report", r)
	}
}

// lease runs a view under its lease and remembers the run, which began when the clock was at clock.
func (s *Syncer) lease(ctx context.Context, view *feature.View, report *Report, r Request, clock time.Time) error {
	if err := s.enterShard(ctx, view, r.Shard); err != nil {
		report.failed(ctx)
		return err
	}
	lease, err := s.state.Acquire(ctx, r.Shard.stateName(view), s.leaseOptions(r.Wait))
	if held, ok := errors.AsType[*syncstate.HeldError](err); ok {
		report.Outcome, report.Note = twofoldv1.SyncOutcome_SYNC_OUTCOME_LEASED, held.Holder
		return nil
	}
	if err != nil {
		report.failed(ctx)
		return err
	}
	report.Started = s.o.Now() // waiting may have taken a while, and what came meanwhile is carried
	err = s.state.PutRun(lease.Context(), report.Run(), r.Shard.keepRuns(view), true)
	if err == nil {
		err = s.carryLeased(lease.Context(), lease, view, report, r)
	}
	if cause := context.Cause(lease.Context()); err != nil && ctx.Err() == nil && cause != nil {
		err = cause
	}
	if err == nil && !r.Shard.isAll() {
		if err = lease.Release(ctx); err == nil { // who holds the view's lease may wait for it
			err = s.finishShards(ctx, view, report)
		}
	}
	switch {
	case err != nil:
		report.failed(ctx)
	case report.Outcome == twofoldv1.SyncOutcome_SYNC_OUTCOME_RUNNING:
		report.Outcome = twofoldv1.SyncOutcome_SYNC_OUTCOME_SUCCEEDED
	}
	report.Err, report.Elapsed = err, time.Since(clock)
	s.end(ctx, view, report, lease)
	return err
}

// leaseOptions say how this process takes leases.
func (s *Syncer) leaseOptions(wait bool) syncstate.LeaseOptions {
	return syncstate.LeaseOptions{Holder: s.holder, Duration: s.o.LeaseDuration, Wait: wait}
}

// carryLeased carries a view, or the shard of it that the lease is for.
func (s *Syncer) carryLeased(ctx context.Context, lease *syncstate.Lease, view *feature.View, report *Report, r Request) error {
	if !r.Shard.isAll() {
		return s.carryShard(ctx, lease, view, report, r)
	}
	if err := s.noteLasting(ctx, lease, view); err != nil {
		return err
	}
	if err := s.carry(ctx, lease, view, report, r.Full); err != nil {
		return err
	}
	return s.dropExpired(ctx, lease, view, report)
}

// endTimeout bounds what is still done after a run, whatever ended it.
const endTimeout = 5 * time.Second

// end remembers how a run ended and gives its lease back. That the store does not take it does not change how the run ended.
func (s *Syncer) end(ctx context.Context, view *feature.View, report *Report, lease *syncstate.Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	err := errors.Join(s.state.PutRun(ctx, report.Run(), report.Shard.keepRuns(view), false), lease.Release(ctx))
	if err != nil && report.Err == nil {
		s.o.Logger.WarnContext(ctx, "the run is over, but the online store could not be told", "feature_view", view.Name, "error", err)
	}
}

// carry finds the rows to carry and writes them, batch by batch; when all are written it has the view served, and remembers the files.
func (s *Syncer) carry(ctx context.Context, lease *syncstate.Lease, view *feature.View, report *Report, full bool) error {
	state, err := s.begin(ctx, lease, view)
	if err != nil {
		return err
	}
	if err := s.enter(ctx, lease, view); err != nil {
		return err
	}
	asOf := feature.AsOf(report.Started.UnixMicro())
	p, err := s.newPlan(ctx, view, state, asOf, full)
	if err != nil {
		return err
	}
	p.progress = &runProgress{}
	defer s.follow(view, p.progress)()
	report.FilesRead, report.FilesUnchanged = int64(len(p.read)), int64(len(p.all)-len(p.read))
	switch {
	case len(p.read) == 0:
		err = s.nothingNew(ctx, lease, report, state)
	case view.Sync.Mode == feature.Snapshot:
		err = s.publish(ctx, lease, view, p, asOf, report)
	default:
		err = s.upsert(ctx, lease, view, p, asOf, report)
	}
	if ctx.Err() != nil {
		return err
	}
	return errors.Join(err, s.removeGenerations(ctx, lease, view))
}

// begin takes the state for this lease: from now on an earlier one changes nothing. What earlier ones left is cleared away, or listed for that.
func (s *Syncer) begin(ctx context.Context, lease *syncstate.Lease, view *feature.View) (*twofoldv1.SyncState, error) {
	dropped := ""
	state, err := s.state.Update(ctx, lease, func(state *twofoldv1.SyncState) {
		dropped = syncstate.SetCarrying(state, view.CarryHash())
		if view.Sync.Mode == feature.Snapshot {
			syncstate.KeepLive(state)
		} else {
			syncstate.DropGeneration(state, 0) // they are to be served, or to be written again
		}
		s.retire(view, state)
	})
	if err != nil {
		return nil, err
	}
	return state, errors.Join(s.state.DropOrphan(ctx, lease, state), s.state.DropFiles(ctx, dropped))
}

// nothingNew ends a run without a file to read.
func (s *Syncer) nothingNew(ctx context.Context, lease *syncstate.Lease, report *Report, state *twofoldv1.SyncState) error {
	report.Outcome = twofoldv1.SyncOutcome_SYNC_OUTCOME_NOTHING_NEW
	report.Note = fmt.Sprintf("no file is new, changed or due since the run of %s", time.UnixMicro(state.GetSyncedAtMicros()).UTC().Format(time.RFC3339))
	if syncstate.IsReturned(state) {
		report.Note += fmt.Sprintf("; generation %d is served, to which the view was returned", state.GetLive().GetNumber())
	}
	report.Newest = timeOf(state.GetNewestEventMicros())
	_, err := s.state.Update(ctx, lease, func(state *twofoldv1.SyncState) { state.SyncedAtMicros = report.Started.UnixMicro() })
	return err
}

// upsert writes rows over older ones, and then marks the view as synced.
func (s *Syncer) upsert(ctx context.Context, lease *syncstate.Lease, view *feature.View, p *plan, asOf feature.AsOf, report *Report) error {
	if err := s.putMark(ctx, view.Name, p); err != nil {
		return err
	}
	due, err := s.write(ctx, view, p, asOf, report)
	if err != nil {
		return err
	}
	if err := s.checkMark(ctx, view.Name, p); err != nil {
		return err
	}
	if err := s.o.Online.MarkViewSynced(ctx, view, report.Started); err != nil {
		return err
	}
	return s.remember(ctx, lease, view, p, due, report, func(state *twofoldv1.SyncState) {
		syncstate.ReplaceSnapshots(state, s.o.Now())
		noteOldest(state, report)
	})
}

// write carries the rows of a plan's files, and returns the least event time of those that were left for later, for each file that has some.
func (s *Syncer) write(ctx context.Context, view *feature.View, p *plan, asOf feature.AsOf, report *Report) (due map[string]feature.EventTime, err error) {
	if err := s.o.Online.RegisterSchema(ctx, view); err != nil {
		return nil, err
	}
	bad := &badRows{view: view}
	winners, due, err := s.find(ctx, view, p, asOf, bad)
	if err != nil {
		return nil, err
	}
	report.addRead(winners.Stats())
	p.progress.toWrite.Store(report.Versions)
	if err := bad.check(report.RowsBad, report.RowsRead-report.RowsOtherShards); err != nil {
		return nil, err
	}
	if err := s.writeWinners(ctx, view, winners, p, report); err != nil {
		return nil, err
	}
	report.addRead(winners.Stats()) // texts that are not UTF-8 have shown only now
	if err := bad.check(report.RowsBad, report.RowsRead-report.RowsOtherShards); err != nil {
		return nil, err
	}
	if len(bad.byFile) > 0 {
		if report.QuarantineFiles, err = bad.putAside(ctx, s.o.Offline, p.read, report.ID); err != nil {
			return nil, err
		}
	}
	return due, nil
}

// writeWinners writes the rows that were found; it returns when all are stored.
func (s *Syncer) writeWinners(ctx context.Context, view *feature.View, winners *pit.Winners, p *plan, report *Report) error {
	bulk := s.o.Online.Bulk(ctx, func(rows int) { p.progress.written.Add(int64(rows)) })
	err := winners.Batches(ctx, pit.GatherRows(view), view.OnlineFeatures(), func(batch pit.WinnerBatch) error {
		report.addTimes(batch.EventTimes)
		p.content.add(batch)
		err := bulk.Write(online.Rows{
			View: view, Keys: batch.Keys, EventTimes: batch.EventTimes, CreatedTimes: batch.CreatedTimes, Features: batch.Features, Tombstones: batch.Tombstones,
			BatchSize: view.Sync.BatchSize, Generation: report.Generation,
		})
		if err != nil {
			return fmt.Errorf("feature view %q: %w", view.Name, err)
		}
		return nil
	})
	stats, writeErr := bulk.Close()
	report.addWritten(stats)
	if err == nil && writeErr != nil {
		err = fmt.Errorf("feature view %q: %w", view.Name, writeErr)
	}
	return err
}

// remember writes down what has been carried, once all of it is stored, and what else change does to the state, at once.
func (s *Syncer) remember(
	ctx context.Context, lease *syncstate.Lease, view *feature.View, p *plan, due map[string]feature.EventTime, report *Report, change func(*twofoldv1.SyncState),
) error {
	if len(p.read) > 0 {
		if err := s.putWritten(ctx, p.shard.stateName(view), p); err != nil {
			return err
		}
	}
	name, err := s.state.PutFiles(ctx, lease, p.done(due))
	if err != nil {
		return err
	}
	return s.nameFiles(ctx, lease, view, name, func(state *twofoldv1.SyncState) {
		newest := report.Newest
		if !p.whole && state.GetNewestEventMicros() > 0 && timeOf(state.GetNewestEventMicros()).After(newest) {
			newest = timeOf(state.GetNewestEventMicros())
		}
		state.NewestEventMicros = microsOf(newest)
		state.SyncedAtMicros, state.Mark = report.Started.UnixMicro(), p.mark
		change(state)
	})
}

// nameFiles has a state name a list of files that were carried by this definition, and changes it at once. What it named before is removed.
func (s *Syncer) nameFiles(ctx context.Context, lease *syncstate.Lease, view *feature.View, name string, change func(*twofoldv1.SyncState)) error {
	before, overtaken := "", false
	_, err := s.state.Update(ctx, lease, func(state *twofoldv1.SyncState) {
		if overtaken = state.GetCarryingHash() != view.CarryHash(); overtaken {
			return
		}
		before = state.GetFiles()
		state.Files, state.DefinitionHash = name, view.CarryHash()
		state.HistoryVersions, state.Rows = uint32(view.HistoryVersions), online.RowsOf(view)
		change(state)
	})
	switch {
	case err != nil:
		return err
	case overtaken:
		return fault.New(fault.Unavailable, "feature view %q: shards of it were carried by another definition meanwhile; the next run carries every file again", view.Name)
	case before == name:
		return nil
	}
	return s.state.DropFiles(ctx, before)
}

// timeOf is a time in microseconds since the Unix epoch, the zero time where it is 0.
func timeOf(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}

// microsOf is the inverse of timeOf.
func microsOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// newestOfAll finds the rows of a source that the store would keep.
//
// Of a view that keeps N versions these are the newest N + 1 of each entity: the last tells the store that there are older ones than it
// keeps. How old they are is no matter while any version of the entity is kept. A row that came late and has long expired may belong between two versions that
// are still stored, and a store that was not given it would answer for that moment with the one before it, which is wrong. So
// files are not left unread for their age, as those of other views are; only entities of which nothing is left in the store, and nothing would
// stay there, are left out.
func (s *Syncer) newestOfAll(ctx context.Context, view *feature.View, source pit.Source, asOf feature.AsOf, p *plan, bad *badRows) (*pit.Winners, error) {
	o := pit.OnlineRows(view, asOf)
	o.Bad, o.Mine, o.Progress = bad.take, p.shard.mine(), &p.progress.read
	if view.HistoryVersions == 0 {
		return pit.Latest(ctx, view, source, o)
	}
	o.Versions++
	winners, err := pit.Latest(ctx, view, source, o)
	if err != nil || view.TTL == 0 {
		return winners, err
	}
	return winners, winners.Retain(ctx, view.KeepFor(), func(ctx context.Context, keys []*feature.Column) ([]bool, error) {
		return s.o.Online.HaveVersions(ctx, view, keys)
	})
}
