package feature

import (
	"fmt"
	"time"
)

// Entity is what features describe. Its keys together name one entity.
type Entity struct {
	Name string
	Keys []Key
}

// Key is one key of an entity: INT32, INT64, STRING or BYTES.
type Key struct {
	Name string
	Type Type
}

// Feature is one typed column of a view.
type Feature struct {
	Name string
	Type Type
	// Column is the source column, never empty.
	Column string
	// Online is whether the feature is kept in the online store.
	Online bool
}

// View is a table of features of one entity, with every default filled in. It is not changed after it was built.
type View struct {
	Name     string
	Entity   *Entity
	Features []Feature
	TTL      TTL
	// ExpiredRetention is how long an expired row is kept online, to be reported as Expired.
	ExpiredRetention time.Duration
	// HistoryVersions is how many versions of an entity the online store keeps, at least 2; 0 is the newest only (layout LATEST).
	HistoryVersions int
	Source          Source
	Sync            Sync

	byName map[string]int
}

// FeatureIndex returns the index in Features of the feature of that name, and whether there is one.
func (v *View) FeatureIndex(name string) (int, bool) {
	i, ok := v.byName[name]
	return i, ok
}

// OnlineFeatures returns the indices in Features of those that are online, in order.
func (v *View) OnlineFeatures() []int {
	var indices []int
	for i, f := range v.Features {
		if f.Online {
			indices = append(indices, i)
		}
	}
	return indices
}

// IsSynced reports whether the syncer carries the view: it is enabled and has an online feature.
func (v *View) IsSynced() bool {
	return v.Sync.Enabled && len(v.OnlineFeatures()) > 0
}

// KeepFor is how long after its event time a row is kept online: the ttl, while which it is served, and the retention, while which
// it is reported as Expired. 0 is for ever.
func (v *View) KeepFor() TTL {
	if v.TTL == 0 {
		return 0
	}
	return v.TTL + TTLOf(v.ExpiredRetention)
}

// KeepsLastGood reports whether rows stay online, however old, until a sync has succeeded since they were older than KeepFor: the store has no expiry for
// them, and the syncer removes them.
func (v *View) KeepsLastGood() bool { return v.TTL > 0 && v.Sync.Enabled && v.Sync.KeepLastGood }

// Source is a view's history: Parquet files and the columns that matter in them.
type Source struct {
	// Path is a file, a folder or a glob; relative to the offline store's path unless it is a URL.
	Path              string
	EventTimeColumn   string
	CreatedTimeColumn string
	// KeyColumns has one source column for each key of the entity, in that order.
	KeyColumns []string
	// DeletedColumn says of a row that it deletes its entity at its event time; empty is none.
	DeletedColumn string
}

// Sync is how a view's rows are carried to the online store. Field for field it is the definition's (twofold.v1.Sync), with every default filled in.
type Sync struct {
	Enabled bool
	Mode    SyncMode
	// Interval is the time between the starts of two runs; where Cron is set, the longest time between two of its runs.
	Interval time.Duration
	// Cron is the cron expression that says when to run, read in TimeZone; empty where Interval does.
	Cron string
	// TimeZone is never nil.
	TimeZone            *time.Location
	BatchSize           int
	ToleratedMissedRuns int
	RunTime             time.Duration
	// SourceDelay is how long after its event time a row is in the source.
	SourceDelay  time.Duration
	AllowGaps    bool
	BadRows      BadRows
	Snapshot     SnapshotChecks
	KeepLastGood bool
	// AuditBeforePublish compares a generation with the files before it goes live.
	AuditBeforePublish bool
	// KeepRuns is how many runs are remembered, at least 1.
	KeepRuns int
}

// When says in words when runs start: "every 10m0s", or `at "5 3 * * *" Europe/Berlin, at most 25h0m0s apart`.
func (s *Sync) When() string {
	if s.Cron == "" {
		return fmt.Sprintf("every %v", s.Interval)
	}
	return fmt.Sprintf("at %q %v, at most %v apart", s.Cron, s.TimeZone, s.Interval)
}

// SyncMode is how rows get into the online store.
type SyncMode uint8

const (
	// Incremental writes rows of new and changed files over older ones.
	Incremental SyncMode = iota
	// Snapshot makes a whole generation and then serves it in place of the last one.
	Snapshot
)

func (m SyncMode) String() string {
	if m == Snapshot {
		return "SNAPSHOT"
	}
	return "INCREMENTAL"
}

// BadRows says what becomes of rows that cannot be carried.
type BadRows struct {
	Policy BadRowPolicy
	// MaxShare is the share of the rows read past which a run fails, 0 to 1.
	MaxShare float64
	// MaxFuture is how far ahead of the clock an event time may be; negative is any time.
	MaxFuture time.Duration
	// QuarantinePath is the folder of files of bad rows; empty is beside the source.
	QuarantinePath string
}

// BadRowPolicy is what becomes of rows that cannot be carried.
type BadRowPolicy uint8

const (
	// SkipBadRows leaves them out.
	SkipBadRows BadRowPolicy = iota
	// FailOnBadRows fails the run.
	FailOnBadRows
	// QuarantineBadRows leaves them out and writes them to a file.
	QuarantineBadRows
)

// SnapshotChecks says what a generation must be like to go live.
type SnapshotChecks struct {
	MinEntities uint64
	// MaxEntityDrop is the share of the live generation's entities by which it may have fewer, 0 to 1.
	MaxEntityDrop float64
	// MaxNullShare is the largest share of nulls of each of View.Features, 0 to 1.
	MaxNullShare []float64
	// KeepGenerations is how many older generations are kept beside the live one.
	KeepGenerations int
}

// Service is a named list of features.
type Service struct {
	Name string
	// Features in column order.
	Features []Ref
}

// Ref is one feature of one view.
type Ref struct {
	View *View
	// Index of the feature in View.Features.
	Index int
}

// Feature returns the feature that r refers to.
func (r Ref) Feature() Feature { return r.View.Features[r.Index] }

// Name returns "view:feature".
func (r Ref) Name() string { return r.View.Name + ":" + r.Feature().Name }
