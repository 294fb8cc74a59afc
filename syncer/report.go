package syncer

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/pit"
)

// Report says what one run of one view did. Its counts add up:
//
//	RowsRead = RowsBad + RowsFuture + RowsExpired + RowsSuperseded + RowsForgotten + RowsOtherShards + Versions
//	Versions = Written + Older + Unchanged + Expired        (where Err is nil)
//
// Of a view that keeps the newest row only, Versions = Entities.
type Report struct {
	// ID names the run, among all runs of the view.
	ID string
	// View is the name of the feature view.
	View string
	// Trigger is what started the run, and Cause more of that, for people.
	Trigger twofoldv1.SyncTrigger
	Cause   string
	// Host is the process that ran it.
	Host string
	// Shard is whose entities it carried.
	Shard Shard
	// Outcome is how it stands, or ended.
	Outcome twofoldv1.SyncOutcome
	// Note says why a run did nothing useful, or how many shards are done.
	Note string
	// FilesRead are the files whose rows were read, FilesUnchanged those that were not, because they have been carried before.
	FilesRead, FilesUnchanged int64
	// Started is when the run began, by the syncer's clock; rows from after it are future.
	Started time.Time
	// Elapsed is how long it took.
	Elapsed time.Duration
	// RowsRead are the rows whose keys and times were read.
	RowsRead int64
	// RowsPruned are the rows of files and row groups that were left unread because all of them have expired or are future.
	RowsPruned int64
	// RowsBad are rows left out because they cannot be carried, by reason.
	RowsBad pit.BadCounts
	// RowsFuture are rows left for a later run because their event time is after Started.
	RowsFuture int64
	// RowsExpired are rows that were read and are too old to be kept online: older than the ttl and the view's expired_retention; of a view that
	// keeps versions, those of entities whose rows are all so old.
	RowsExpired int64
	// RowsSuperseded are rows for whose entity the files hold a newer one; of a view that keeps versions, as many newer ones as are carried, or a
	// newer one of the same event time.
	RowsSuperseded int64
	// RowsForgotten are rows that would have been carried, had their entities not been forgotten.
	RowsForgotten int64
	// RowsOtherShards are rows of entities that are not of the shard; nothing else is said of them.
	RowsOtherShards int64
	// Entities is the number of entities for which a row to carry was found.
	Entities int64
	// Versions is the number of rows to carry: one an entity, or, of a view that keeps versions, up to one more than it keeps.
	Versions int64
	// Written, Older, Unchanged and Expired say what became of those rows: stored; not stored because the store has
	// a newer one, or as many newer ones as it keeps; stored already; not stored because it grew too old while the run went on.
	Written, Older, Unchanged, Expired int64
	// Newest is the newest event time found, and Oldest the least of the rows to carry; the zero time where there was no row.
	Newest, Oldest time.Time
	// Generation is the number of the generation that was made, live or not; 0 with mode INCREMENTAL.
	Generation uint64
	// EntitiesDropped is how many entities lost their last good rows, because these were older than the view keeps rows.
	EntitiesDropped int64
	// QuarantineFiles are the files of bad rows that were written.
	QuarantineFiles []string
	// Err is why the run failed; nil where it did not.
	Err error
}

// Lag is how far the newest row found was behind the clock when the run started; 0 where there was no row.
func (r Report) Lag() time.Duration {
	if r.Newest.IsZero() {
		return 0
	}
	return r.Started.Sub(r.Newest)
}

// String returns the report in one line.
func (r Report) String() string {
	switch r.Outcome {
	case twofoldv1.SyncOutcome_SYNC_OUTCOME_NOTHING_NEW:
		return fmt.Sprintf("%s: nothing new in %d files: %s; took %s", r.name(), r.FilesUnchanged, r.Note, r.Elapsed.Round(time.Millisecond))
	case twofoldv1.SyncOutcome_SYNC_OUTCOME_LEASED:
		return fmt.Sprintf("%s: nothing done, because it is being synced by %s", r.name(), r.Note)
	}
	versions := ""
	if r.Versions != r.Entities {
		versions = fmt.Sprintf(" in %d versions", r.Versions)
	}
	line := fmt.Sprintf("%s: read %d rows (%d pruned, %d bad, %d future, %d expired, %d superseded), %d entities%s: %d written, %d older, %d unchanged, %d expired; lag %s, %d files read, %d unchanged, took %s",
		r.name(), r.RowsRead, r.RowsPruned, r.RowsBad.Total(), r.RowsFuture, r.RowsExpired, r.RowsSuperseded, r.Entities, versions, r.Written, r.Older, r.Unchanged, r.Expired,
		r.Lag().Round(time.Second), r.FilesRead, r.FilesUnchanged, r.Elapsed.Round(time.Millisecond))
	if r.Generation != 0 && r.Err == nil {
		line += fmt.Sprintf("; generation %d is live", r.Generation)
	}
	if !r.Shard.isAll() {
		line += fmt.Sprintf("; %d rows are of other shards", r.RowsOtherShards)
		if r.Note != "" {
			line += "; " + r.Note
		}
	}
	if r.EntitiesDropped > 0 {
		line += fmt.Sprintf("; rows of %d entities were too old and are gone", r.EntitiesDropped)
	}
	if r.RowsForgotten > 0 {
		line += fmt.Sprintf("; %d rows of forgotten entities were left out", r.RowsForgotten)
	}
	if len(r.QuarantineFiles) > 0 {
		line += "; bad rows are in " + strings.Join(r.QuarantineFiles, ", ")
	}
	if r.Err != nil {
		line += "; FAILED: " + r.Err.Error()
	}
	return line
}

// name is what was carried: a view, or a shard of it.
func (r Report) name() string {
	if r.Shard.isAll() {
		return r.View
	}
	return r.View + ", shard " + r.Shard.String()
}

// LogValue returns the report as fields of a structured log line, without counts of 0.
func (r Report) LogValue() slog.Value {
	fields := []slog.Attr{slog.String("run", r.ID), slog.String("trigger", r.Trigger.String()), slog.String("outcome", r.Outcome.String())}
	for _, count := range []slog.Attr{
		slog.Int64("files_read", r.FilesRead),
		slog.Int64("files_unchanged", r.FilesUnchanged),
		slog.Int64("rows_read", r.RowsRead),
		slog.Int64("rows_pruned", r.RowsPruned),
		slog.Int64("rows_bad", r.RowsBad.Total()),
		slog.Int64("rows_future", r.RowsFuture),
		slog.Int64("rows_expired", r.RowsExpired),
		slog.Int64("rows_superseded", r.RowsSuperseded),
		slog.Int64("rows_forgotten", r.RowsForgotten),
		slog.Int64("rows_other_shards", r.RowsOtherShards),
		slog.Int64("entities", r.Entities),
		slog.Int64("versions", r.Versions),
		slog.Int64("written", r.Written),
		slog.Int64("older", r.Older),
		slog.Int64("unchanged", r.Unchanged),
		slog.Int64("expired", r.Expired),
		slog.Int64("entities_dropped", r.EntitiesDropped),
		slog.Uint64("generation", r.Generation),
	} {
		if !count.Value.Equal(slog.Int64Value(0)) && !count.Value.Equal(slog.Uint64Value(0)) {
			fields = append(fields, count)
		}
	}
	if shard := r.Shard.String(); shard != "" {
		fields = append(fields, slog.String("shard", shard))
	}
	return slog.GroupValue(append(fields, slog.Duration("lag", r.Lag()), slog.Duration("elapsed", r.Elapsed))...)
}

// failed says that the run ended with an error: what it had to do failed, or ctx was done because the process stops.
func (r *Report) failed(ctx context.Context) {
	r.Outcome = twofoldv1.SyncOutcome_SYNC_OUTCOME_FAILED
	if ctx.Err() != nil {
		r.Outcome, r.Note = twofoldv1.SyncOutcome_SYNC_OUTCOME_STOPPED, "the process was told to stop"
	}
}

func (r *Report) addRead(s pit.LatestStats) {
	r.RowsRead, r.RowsPruned, r.RowsBad, r.RowsFuture = s.RowsRead, s.RowsPruned, s.RowsBad, s.RowsFuture
	r.Entities, r.Versions = s.Entities, s.Winners
	r.RowsExpired, r.RowsForgotten, r.RowsOtherShards = s.RowsOld, s.RowsForgotten, s.RowsOthers
	r.RowsSuperseded = s.RowsRead - s.RowsBad.Total() - s.RowsFuture - s.RowsOld - s.RowsForgotten - s.RowsOthers - s.Winners
}

func (r *Report) addWritten(s online.WriteStats) {
	r.Written += int64(s.Written)
	r.Older += int64(s.Older)
	r.Unchanged += int64(s.Unchanged)
	r.Expired += int64(s.Expired)
}

// addTimes takes the event times of rows to carry into account.
func (r *Report) addTimes(eventTimes *feature.Column) {
	if eventTimes.Len() == 0 {
		return
	}
	newest, oldest := time.UnixMicro(slices.Max(eventTimes.Int64s)).UTC(), time.UnixMicro(slices.Min(eventTimes.Int64s)).UTC()
	if newest.After(r.Newest) {
		r.Newest = newest
	}
	if r.Oldest.IsZero() || oldest.Before(r.Oldest) {
		r.Oldest = oldest
	}
}

// Run is the report as it is remembered and told to others.
func (r Report) Run() *twofoldv1.SyncRun {
	run := &twofoldv1.SyncRun{
		Id: r.ID, FeatureView: r.View, Trigger: r.Trigger, Cause: r.Cause, Outcome: r.Outcome, StartedAtMicros: r.Started.UnixMicro(), Elapsed: durationpb.New(r.Elapsed), Host: r.Host,
		FilesRead: uint64(r.FilesRead), FilesUnchanged: uint64(r.FilesUnchanged),
		RowsRead: uint64(r.RowsRead), RowsPruned: uint64(r.RowsPruned), RowsFuture: uint64(r.RowsFuture), RowsExpired: uint64(r.RowsExpired), RowsSuperseded: uint64(max(0, r.RowsSuperseded)),
		RowsForgotten: uint64(r.RowsForgotten), Entities: uint64(r.Entities), Versions: uint64(r.Versions), Written: uint64(r.Written), Older: uint64(r.Older), Unchanged: uint64(r.Unchanged), Expired: uint64(r.Expired),
		Note: r.Note, QuarantineFiles: r.QuarantineFiles, EntitiesDropped: uint64(r.EntitiesDropped), RowsOtherShards: uint64(r.RowsOtherShards), Shard: r.Shard.String(),
	}
	for reason, rows := range r.RowsBad {
		if rows > 0 {
			if run.RowsBad == nil {
				run.RowsBad = map[string]uint64{}
			}
			run.RowsBad[pit.BadReason(reason).String()] = uint64(rows)
		}
	}
	if !r.Newest.IsZero() {
		run.NewestEventMicros, run.Lag = r.Newest.UnixMicro(), durationpb.New(r.Lag())
	}
	if r.Err != nil && r.Outcome != twofoldv1.SyncOutcome_SYNC_OUTCOME_STOPPED {
		run.Error = r.Err.Error()
	}
	return run
}
