package feature

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

// carried is a view with something in every field.
func carried() *View {
	return &View{
		Name: "weather", Entity: &Entity{Name: "airport", Keys: []Key{{"code", String}, {"terminal", Int64}}},
		Features:         []Feature{{"wind", Double, "wind", true}, {"gust", Float, "wind_gust", false}, {"rain", Int32, "rain", true}},
		TTL:              TTLOf(time.Hour),
		ExpiredRetention: time.Hour,
		HistoryVersions:  3,
		Source:           Source{"weather/*.parquet", "time", "written", []string{"origin", "terminal"}, "gone"},
		Sync: Sync{
			Enabled: true, Interval: time.Minute, Cron: "5 3 * * *", TimeZone: time.UTC, BatchSize: 500, ToleratedMissedRuns: 1, RunTime: time.Second, SourceDelay: time.Second,
			BadRows:  BadRows{QuarantineBadRows, 0.5, time.Hour, "bad"},
			Snapshot: SnapshotChecks{1, 0.5, []float64{1, 1, 1}, 1}, KeepLastGood: true, AuditBeforePublish: true, KeepRuns: 20,
		},
	}
}

func TestCarryHash(t *testing.T) {
	changes := map[string]func(v *View){
		"entity":              func(v *View) { v.Entity.Name = "place" },
		"key name":            func(v *View) { v.Entity.Keys[0].Name = "iata" },
		"key type":            func(v *View) { v.Entity.Keys[1].Type = Int32 },
		"key column":          func(v *View) { v.Source.KeyColumns[0] = "code" },
		"order of keys":       func(v *View) { slices.Reverse(v.Entity.Keys); slices.Reverse(v.Source.KeyColumns) },
		"path":                func(v *View) { v.Source.Path = "weather" },
		"event time column":   func(v *View) { v.Source.EventTimeColumn = "at" },
		"created time column": func(v *View) { v.Source.CreatedTimeColumn = "" },
		"deleted column":      func(v *View) { v.Source.DeletedColumn = "" },
		"feature name":        func(v *View) { v.Features[0].Name = "wind_speed" },
		"feature type":        func(v *View) { v.Features[0].Type = Float },
		"feature column":      func(v *View) { v.Features[0].Column = "wind_speed" },
		"order of features":   func(v *View) { slices.Reverse(v.Features) },
		"a feature online":    func(v *View) { v.Features[1].Online = true },
		"a feature offline":   func(v *View) { v.Features[2].Online = false },
		"ttl":                 func(v *View) { v.TTL++ },
		"expired_retention":   func(v *View) { v.ExpiredRetention = 0 },
		"layout":              func(v *View) { v.HistoryVersions = 0 },
		"history_versions":    func(v *View) { v.HistoryVersions = 4 },
		"mode":                func(v *View) { v.Sync.Mode = Snapshot },
		"keep_last_good":      func(v *View) { v.Sync.KeepLastGood = false },
		"bad rows' policy":    func(v *View) { v.Sync.BadRows.Policy = FailOnBadRows },
		"max_share":           func(v *View) { v.Sync.BadRows.MaxShare = 1 },
		"max_future":          func(v *View) { v.Sync.BadRows.MaxFuture = 0 },
		"any future":          func(v *View) { v.Sync.BadRows.MaxFuture = -1 },
		"quarantine_path":     func(v *View) { v.Sync.BadRows.QuarantinePath = "" },
	}
	seen := map[string]string{carried().CarryHash(): "nothing"}
	for name, change := range changes {
		v := carried()
		change(v)
		hash := v.CarryHash()
		if other, ok := seen[hash]; ok {
			t.Errorf("a change of %s has the hash of a change of %s", name, other)
		}
		seen[hash] = name
	}
	for name, change := range map[string]func(v *View){
		"name":                  func(v *View) { v.Name = "weather_v2" },
		"offline feature":       func(v *View) { v.Features[1] = Feature{"other", String, "other", false} },
		"offline feature's end": func(v *View) { v.Features = append(v.Features, Feature{"other", String, "other", false}) },
		"enabled":               func(v *View) { v.Sync.Enabled = false },
		"interval":              func(v *View) { v.Sync.Interval = time.Hour },
		"cron":                  func(v *View) { v.Sync.Cron = "" },
		"time_zone":             func(v *View) { v.Sync.TimeZone = time.FixedZone("x", 60) },
		"batch_size":            func(v *View) { v.Sync.BatchSize = 1 },
		"tolerated_missed_runs": func(v *View) { v.Sync.ToleratedMissedRuns = 0 },
		"run_time":              func(v *View) { v.Sync.RunTime = 0 },
		"source_delay":          func(v *View) { v.Sync.SourceDelay = 0 },
		"allow_gaps":            func(v *View) { v.Sync.AllowGaps = true },
		"snapshot's checks":     func(v *View) { v.Sync.Snapshot = SnapshotChecks{} },
		"audit":                 func(v *View) { v.Sync.AuditBeforePublish = false },
		"keep_runs":             func(v *View) { v.Sync.KeepRuns = 1 },
	} {
		v := carried()
		change(v)
		if v.CarryHash() != carried().CarryHash() {
			t.Errorf("a change of %s changes the hash", name)
		}
	}
}

// TestCarryHashKnowsEveryField fails where a definition has got a field: decide whether it is part of CarryHash, and say so in TestCarryHash.
func TestCarryHashKnowsEveryField(t *testing.T) {
	for typ, want := range map[reflect.Type]int{
		reflect.TypeFor[View](): 9, reflect.TypeFor[Entity](): 2, reflect.TypeFor[Key](): 2, reflect.TypeFor[Feature](): 4, reflect.TypeFor[Source](): 5,
		reflect.TypeFor[Sync](): 15, reflect.TypeFor[BadRows](): 4, reflect.TypeFor[SnapshotChecks](): 4,
	} {
		if typ.NumField() != want {
			t.Errorf("%v has %d fields, not %d", typ, typ.NumField(), want)
		}
	}
}
