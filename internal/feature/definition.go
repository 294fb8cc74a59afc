package feature

import "time"

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

// Source is a view's history: Parquet files and the columns that matter in them.
type Source struct {
	// Path is a file, a folder or a glob; relative to the offline store's path unless it is a URL.
	Path              string
	EventTimeColumn   string
	CreatedTimeColumn string
	// KeyColumns has one source column for each key of the entity, in that order.
	KeyColumns []string
}

// Sync is how a view's rows are carried to the online store.
type Sync struct {
	Enabled             bool
	Interval            time.Duration
	BatchSize           int
	ToleratedMissedRuns int
	RunTime             time.Duration
	AllowGaps           bool
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
