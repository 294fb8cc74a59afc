package feature

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/twofold-ml/twofold/internal/fault"
)

func columnNames(s *Selection) []string {
	var names []string
	for _, c := range s.Columns {
		names = append(names, c.Name)
	}
	return names
}

func TestSelectColumns(t *testing.T) {
	for name, c := range map[string]struct {
		query SelectionQuery
		want  []string
	}{
		"in the order asked": {
			SelectionQuery{Features: []string{"weather:rain", "queue:wind", "weather:wind"}},
			[]string{"weather:rain", "queue:wind", "weather:wind"},
		},
		"in the order of the service":   {SelectionQuery{Service: "online_v1", OnlineOnly: true}, []string{"queue:wind", "weather:rain", "weather:wind"}},
		"all":                           {SelectionQuery{Features: []string{"weather:*"}}, []string{"weather:wind", "weather:gust", "weather:rain"}},
		"all that are online":           {SelectionQuery{Features: []string{"weather:*"}, OnlineOnly: true}, []string{"weather:wind", "weather:rain"}},
		"short names":                   {SelectionQuery{Features: []string{"weather:*"}, ShortNames: true}, []string{"wind", "gust", "rain"}},
		"training, not online":          {SelectionQuery{Service: "training_v1"}, []string{"weather:wind", "weather:gust"}},
		"all, where some view has none": {SelectionQuery{Features: []string{"weather:wind", "surface:*"}, OnlineOnly: true}, []string{"weather:wind", "surface:ice"}},
	} {
		s, err := testRegistry().Select(c.query)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(c.want, columnNames(s)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// Every column must lead back to the feature that it is named after.
func TestSelectionHoldsTogether(t *testing.T) {
	s, err := testRegistry().Select(SelectionQuery{Features: []string{"weather:rain", "queue:wind", "weather:wind", "queue:code"}})
	if err != nil {
		t.Fatal(err)
	}
	var names, views, entities []string
	for _, c := range s.Columns {
		v := s.Views[c.View]
		names = append(names, Ref{v.View, v.Features[c.Position]}.Name())
	}
	for _, v := range s.Views {
		views = append(views, v.View.Name)
	}
	for _, e := range s.Entities {
		entities = append(entities, e.Name)
	}
	if diff := cmp.Diff(columnNames(s), names); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"weather", "queue"}, views); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"airport", "gate"}, entities); diff != "" {
		t.Error(diff)
	}
	// The two entities share the key code.
	if diff := cmp.Diff([]Key{{"code", String}, {"number", Int32}}, s.KeyNames); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([][]int{{0}, {0, 1}}, [][]int{s.Views[0].Keys, s.Views[1].Keys}); diff != "" {
		t.Error(diff)
	}
}

func TestSelectErrors(t *testing.T) {
	for name, c := range map[string]struct {
		query SelectionQuery
		kind  fault.Kind
		want  string
	}{
		"both":                     {SelectionQuery{Service: "online_v1", Features: []string{"weather:wind"}}, fault.Invalid, "feature_service: give either feature_service or features, not both"},
		"neither":                  {SelectionQuery{}, fault.Invalid, "features: nothing is asked for: name a feature_service, or features as view:feature"},
		"unknown service":          {SelectionQuery{Service: "online"}, fault.NotDefined, `no feature service "online" is defined; did you mean "online_v1"?`},
		"unknown view":             {SelectionQuery{Features: []string{"weather:wind", "wetter:wind"}}, fault.NotDefined, `no feature view "wetter" is defined; did you mean "weather"?`},
		"not of the form":          {SelectionQuery{Features: []string{"wind"}}, fault.Invalid, `features: "wind" is not of the form view:feature (or view:* for all of a view)`},
		"twice":                    {SelectionQuery{Features: []string{"weather:wind", "weather:*"}}, fault.Invalid, `features: "weather:wind" is named twice`},
		"not online":               {SelectionQuery{Features: []string{"weather:gust"}, OnlineOnly: true}, fault.Precondition, `feature "weather:gust" is not online (online: false in its definition); it can be read with GetHistoricalFeatures only`},
		"a service not all online": {SelectionQuery{Service: "training_v1", OnlineOnly: true}, fault.Precondition, `feature "weather:gust" is not online (online: false in its definition); it can be read with GetHistoricalFeatures only`},
		"nothing online":           {SelectionQuery{Features: []string{"history:*"}, OnlineOnly: true}, fault.Precondition, `none of the features of [history:*] are online`},
		"short names that clash":   {SelectionQuery{Features: []string{"weather:wind", "queue:wind"}, ShortNames: true}, fault.Invalid, `short_names: "queue:wind" and "weather:wind" would both be named "wind"; leave short_names out`},
		"short name of a key":      {SelectionQuery{Features: []string{"queue:code"}, ShortNames: true}, fault.Invalid, `short_names: "queue:code" would be named like the entity key "code"; leave short_names out`},
		"keys of two types":        {SelectionQuery{Features: []string{"queue:wind", "surface:ice"}}, fault.Precondition, `key "number" is INT32 in one entity and INT64 in entity "runway"; ask for their features in two requests`},
	} {
		_, err := testRegistry().Select(c.query)
		if err == nil || fault.KindOf(err) != c.kind || err.Error() != c.want {
			t.Errorf("%s: got %v: %v\nwant %v: %s", name, fault.KindOf(err), err, c.kind, c.want)
		}
	}
}
