package feature

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// Hash identifies everything in the definitions that decides what the selection's columns hold: SHA-256, hexadecimal, over names, types, keys, ttls
// and where the rows are. Descriptions, sync settings and definitions that the selection does not touch are not part of it.
func (s *Selection) Hash() string {
	type featureForm struct{ Output, Name, Type, Column string }
	type viewForm struct {
		Name, Path, EventTime, CreatedTime string
		Keys, KeyColumns                   []string
		TTLMicros                          int64
		Features                           []featureForm
	}
	views := make([]viewForm, len(s.Views))
	for i, v := range s.Views {
		view := v.View
		views[i] = viewForm{
			Name: view.Name, Path: view.Source.Path, EventTime: view.Source.EventTimeColumn, CreatedTime: view.Source.CreatedTimeColumn,
			KeyColumns: view.Source.KeyColumns, TTLMicros: int64(view.TTL),
		}
		for _, key := range view.Entity.Keys {
			views[i].Keys = append(views[i].Keys, fmt.Sprintf("%s %v", key.Name, key.Type))
		}
	}
	for _, c := range s.Columns {
		f := s.Views[c.View].View.Features[s.Views[c.View].Features[c.Position]]
		views[c.View].Features = append(views[c.View].Features, featureForm{c.Name, f.Name, f.Type.String(), f.Column})
	}
	text, err := json.Marshal(views)
	if err != nil {
		panic(fmt.Sprintf("feature: selection: %v", err)) // the types above have a JSON form
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
