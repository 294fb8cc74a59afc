package syncer

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/pit"
)

// Report says what one run of one view did. Its counts add up:
//
//	RowsRead = RowsNull + RowsFuture + RowsExpired + RowsSuperseded + Versions
//	Versions = Written + Older + Unchanged + Expired        (where Err is nil)
//
// Of a view that keeps the newest row only, Versions = Entities.
type Report struct {
	// View is the name of the feature view.
	View string
	// Started is when the run began, by the syncer's clock; rows from after it are future.
	Started time.Time
	// Elapsed is how long it took.
	Elapsed time.Duration
	// RowsRead are the rows whose keys and times were read.
	RowsRead int64
	// RowsPruned are the rows of files and row groups that were left unread because all of them have expired or are future.
	RowsPruned int64
	// RowsNull are rows left out because a key or the event time is null.
	RowsNull int64
	// RowsFuture are rows left for a later run because their event time is after Started.
	RowsFuture int64
	// RowsExpired are rows that were read and are too old to be kept online: older than the ttl and the view's expired_retention; of a view that
	// keeps versions, those of entities whose rows are all so old.
	RowsExpired int64
	// RowsSuperseded are rows for whose entity the files hold a newer one; of a view that keeps versions, as many newer ones as are carried, or a
	// newer one of the same event time.
	RowsSuperseded int64
	// Entities is the number of entities for which a row to carry was found.
	Entities int64
	// Versions is the number of rows to carry: one an entity, or, of a view that keeps versions, up to one more than it keeps.
	Versions int64
	// Written, Older, Unchanged and Expired say what became of those rows: stored; not stored because the store has
	// a newer one, or as many newer ones as it keeps; stored already; not stored because it grew too old while the run went on.
	Written, Older, Unchanged, Expired int64
	// Newest is the newest event time found; the zero time where there was no row.
	Newest time.Time
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
	versions := ""
	if r.Versions != r.Entities {
		versions = fmt.Sprintf(" in %d versions", r.Versions)
	}
	line := fmt.Sprintf("%s: read %d rows (%d pruned, %d null, %d future, %d expired, %d superseded), %d entities%s: %d written, %d older, %d unchanged, %d expired; lag %s, took %s",
		r.View, r.RowsRead, r.RowsPruned, r.RowsNull, r.RowsFuture, r.RowsExpired, r.RowsSuperseded, r.Entities, versions, r.Written, r.Older, r.Unchanged, r.Expired,
		r.Lag().Round(time.Second), r.Elapsed.Round(time.Millisecond))
	if r.Err != nil {
		line += "; FAILED: " + r.Err.Error()
	}
	return line
}

// LogValue returns the report as fields of a structured log line.
func (r Report) LogValue() slog.Value {
	return slog.GroupValue(
		slog.Int64("rows_read", r.RowsRead), slog.Int64("rows_pruned", r.RowsPruned), slog.Int64("rows_null", r.RowsNull),
		slog.Int64("rows_future", r.RowsFuture), slog.Int64("rows_expired", r.RowsExpired), slog.Int64("rows_superseded", r.RowsSuperseded), slog.Int64("entities", r.Entities), slog.Int64("versions", r.Versions),
		slog.Int64("written", r.Written), slog.Int64("older", r.Older), slog.Int64("unchanged", r.Unchanged), slog.Int64("expired", r.Expired),
		slog.Duration("lag", r.Lag()), slog.Duration("elapsed", r.Elapsed))
}

func (r *Report) addRead(s pit.LatestStats) {
	r.RowsRead, r.RowsPruned, r.RowsNull, r.RowsFuture = s.RowsRead, s.RowsPruned, s.RowsNull, s.RowsFuture
	r.Entities, r.Versions = s.Entities, s.Winners
	r.RowsExpired = s.RowsOld
	r.RowsSuperseded = s.RowsRead - s.RowsNull - s.RowsFuture - s.RowsOld - s.Winners
}

func (r *Report) addWritten(s online.WriteStats, eventTimes *feature.Column) {
	r.Written += int64(s.Written)
	r.Older += int64(s.Older)
	r.Unchanged += int64(s.Unchanged)
	r.Expired += int64(s.Expired)
	for _, micros := range eventTimes.Int64s {
		if t := time.UnixMicro(micros).UTC(); t.After(r.Newest) {
			r.Newest = t
		}
	}
}
