package definition

import (
	"time"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
)

// The defaults of sync that are not the zero value.
const (
	defaultBatchSize       = 500
	defaultKeepRuns        = 20
	defaultMaxBadShare     = 1
	defaultMinEntities     = 1
	defaultMaxEntityDrop   = 0.5
	defaultMaxNullShare    = 1
	defaultKeepGenerations = 1
)

// anyFuture is the max_future of bad rows of a definition that does not say.
const anyFuture = time.Duration(-1)

// buildSync says how a view is carried, with every default filled in.
func buildSync(v *twofoldv1.FeatureView, defaults Defaults, timetables timetables) feature.Sync {
	s := v.GetSync()
	sync := feature.Sync{
		Enabled:             isSynced(v),
		Interval:            syncInterval(v, defaults),
		TimeZone:            time.UTC,
		BatchSize:           orDefault(s.GetBatchSize(), defaultBatchSize),
		ToleratedMissedRuns: int(s.GetToleratedMissedRuns()),
		RunTime:             s.GetRunTime().AsDuration(),
		SourceDelay:         s.GetSourceDelay().AsDuration(),
		AllowGaps:           s.GetAllowGaps(),
		BadRows:             buildBadRows(s.GetBadRows()),
		Snapshot:            buildSnapshotChecks(v, s.GetSnapshot()),
		KeepLastGood:        s.GetKeepLastGood(),
		AuditBeforePublish:  s.GetAudit() == twofoldv1.SyncAudit_SYNC_AUDIT_BEFORE_PUBLISH,
		KeepRuns:            orDefault(s.GetKeepRuns(), defaultKeepRuns),
	}
	if s.GetMode() == twofoldv1.SyncMode_SYNC_MODE_SNAPSHOT {
		sync.Mode = feature.Snapshot
	}
	if t := timetables.of(s); t != nil {
		sync.Cron, sync.TimeZone = t.schedule.String(), t.zone
		sync.Interval = time.Duration(t.longest(1).Seconds) * time.Second
	}
	return sync
}

func buildBadRows(b *twofoldv1.BadRows) feature.BadRows {
	rows := feature.BadRows{MaxShare: defaultMaxBadShare, MaxFuture: anyFuture, QuarantinePath: b.GetQuarantinePath()}
	switch b.GetPolicy() {
	case twofoldv1.BadRowPolicy_BAD_ROW_POLICY_FAIL:
		rows.Policy = feature.FailOnBadRows
	case twofoldv1.BadRowPolicy_BAD_ROW_POLICY_QUARANTINE:
		rows.Policy = feature.QuarantineBadRows
	default:
		rows.Policy = feature.SkipBadRows
	}
	if b != nil && b.MaxShare != nil {
		rows.MaxShare = b.GetMaxShare()
	}
	if b.GetMaxFuture() != nil {
		rows.MaxFuture = b.GetMaxFuture().AsDuration()
	}
	return rows
}

func buildSnapshotChecks(v *twofoldv1.FeatureView, s *twofoldv1.SnapshotChecks) feature.SnapshotChecks {
	checks := feature.SnapshotChecks{
		MinEntities: defaultMinEntities, MaxEntityDrop: defaultMaxEntityDrop, KeepGenerations: defaultKeepGenerations,
		MaxNullShare: make([]float64, len(v.GetFeatures())),
	}
	for i, f := range v.GetFeatures() {
		checks.MaxNullShare[i] = defaultMaxNullShare
		if share, ok := s.GetMaxNullShare()[f.GetName()]; ok {
			checks.MaxNullShare[i] = share
		}
	}
	if s == nil {
		return checks
	}
	if s.MinEntities != nil {
		checks.MinEntities = s.GetMinEntities()
	}
	if s.MaxEntityDrop != nil {
		checks.MaxEntityDrop = s.GetMaxEntityDrop()
	}
	if s.KeepGenerations != nil {
		checks.KeepGenerations = int(s.GetKeepGenerations())
	}
	return checks
}

// orDefault returns a number, or its default where it is not given.
func orDefault(n uint32, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return int(n)
}
