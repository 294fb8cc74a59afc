package feature

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// CarryHash identifies everything in the definition that decides which rows of which files a sync carries and how they are stored: SHA-256,
// hexadecimal. Where it is another, what was carried before has to be carried again. Descriptions, feature services, features that are not
// online and when a sync runs are not part of it.
func (v *View) CarryHash() string {
	type keyForm struct{ Name, Type, Column string }
	type featureForm struct{ Name, Type, Column string }
	form := struct {
		Entity                                string
		Keys                                  []keyForm
		Path, EventTime, CreatedTime, Deleted string
		Features                              []featureForm
		TTLMicros, RetentionMicros            int64
		FutureNanos                           int64
		HistoryVersions                       int
		Mode                                  string
		KeepLastGood                          bool
		BadRows                               BadRowPolicy
		BadShare                              float64
		QuarantinePath                        string
	}{
		Entity: v.Entity.Name, Path: v.Source.Path, EventTime: v.Source.EventTimeColumn, CreatedTime: v.Source.CreatedTimeColumn, Deleted: v.Source.DeletedColumn,
		TTLMicros: int64(v.TTL), RetentionMicros: v.ExpiredRetention.Microseconds(), HistoryVersions: v.HistoryVersions,
		Mode: v.Sync.Mode.String(), KeepLastGood: v.Sync.KeepLastGood,
		BadRows: v.Sync.BadRows.Policy, BadShare: v.Sync.BadRows.MaxShare, FutureNanos: int64(v.Sync.BadRows.MaxFuture), QuarantinePath: v.Sync.BadRows.QuarantinePath,
	}
	for i, key := range v.Entity.Keys {
		form.Keys = append(form.Keys, keyForm{key.Name, key.Type.String(), v.Source.KeyColumns[i]})
	}
	for _, i := range v.OnlineFeatures() {
		f := v.Features[i]
		form.Features = append(form.Features, featureForm{f.Name, f.Type.String(), f.Column})
	}
	text, err := json.Marshal(form)
	if err != nil {
		panic(fmt.Sprintf("feature: view: %v", err)) // the types above have a JSON form
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
