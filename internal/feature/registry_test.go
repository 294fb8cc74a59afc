package feature

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/twofold-ml/twofold/internal/fault"
)

// testRegistry has two entities that share a key name, one of another type, and a view with features that are not online.
func testRegistry() *Registry {
	airport := &Entity{Name: "airport", Keys: []Key{{"code", String}}}
	gate := &Entity{Name: "gate", Keys: []Key{{"code", String}, {"number", Int32}}}
	runway := &Entity{Name: "runway", Keys: []Key{{"number", Int64}}}
	weather := &View{Name: "weather", Entity: airport, Features: []Feature{
		{Name: "wind", Type: Double, Column: "wind", Online: true},
		{Name: "gust", Type: Double, Column: "gust"},
		{Name: "rain", Type: Double, Column: "rain", Online: true},
	}}
	queue := &View{Name: "queue", Entity: gate, Features: []Feature{{Name: "wind", Type: Int64, Column: "w", Online: true}, {Name: "code", Type: String, Column: "c", Online: true}}}
	surface := &View{Name: "surface", Entity: runway, Features: []Feature{{Name: "ice", Type: Bool, Column: "ice", Online: true}}}
	history := &View{Name: "history", Entity: airport, Features: []Feature{{Name: "old", Type: Bool, Column: "old"}}}
	services := []*Service{
		{Name: "online_v1", Features: []Ref{{queue, 0}, {weather, 2}, {weather, 0}}},
		{Name: "training_v1", Features: []Ref{{weather, 0}, {weather, 1}}},
	}
	return NewRegistry([]*Entity{airport, gate, runway}, []*View{weather, queue, surface, history}, services, "hash")
}

func TestRegistryLookups(t *testing.T) {
	r := testRegistry()
	if r.Hash() != "hash" || len(r.Entities()) != 3 || len(r.Views()) != 4 || len(r.Services()) != 2 {
		t.Errorf("registry %+v", r)
	}
	if e, err := r.Entity("gate"); err != nil || e != r.Entities()[1] {
		t.Errorf("entity: %v, %v", e, err)
	}
	if v, err := r.View("queue"); err != nil || v != r.Views()[1] {
		t.Errorf("view: %v, %v", v, err)
	}
	if s, err := r.Service("training_v1"); err != nil || s != r.Services()[1] {
		t.Errorf("service: %v, %v", s, err)
	}
	weather := r.Views()[0]
	if i, ok := weather.FeatureIndex("rain"); !ok || i != 2 {
		t.Errorf("rain is feature %d, %v", i, ok)
	}
	if _, ok := weather.FeatureIndex("snow"); ok {
		t.Error("there is a feature snow")
	}
}

func TestRegistryNamesTheNearest(t *testing.T) {
	r := testRegistry()
	_, entity := r.Entity("gaet")
	_, view := r.View("Wether")
	_, service := r.Service("training")
	_, feature := r.ParseRef("weather:winds")
	_, nothing := r.ParseRef("weather:zzz")
	_, form := r.ParseRef("weather")
	for _, c := range []struct {
		err  error
		kind fault.Kind
		want string
	}{
		{entity, fault.NotDefined, `no entity "gaet" is defined; did you mean "gate"?`},
		{view, fault.NotDefined, `no feature view "Wether" is defined; did you mean "weather"?`},
		{service, fault.NotDefined, `no feature service "training" is defined; did you mean "training_v1"?`},
		{feature, fault.NotDefined, `feature view "weather" has no feature "winds"; did you mean "wind"?`},
		{nothing, fault.NotDefined, `feature view "weather" has no feature "zzz"; there are: gust, rain, wind`},
		{form, fault.Invalid, `features: "weather" is not of the form view:feature (or view:* for all of a view)`},
	} {
		if c.err == nil || c.err.Error() != c.want || fault.KindOf(c.err) != c.kind {
			t.Errorf("got %v: %v\nwant %v: %s", fault.KindOf(c.err), c.err, c.kind, c.want)
		}
	}
}

func TestNewRegistryRefusesDuplicates(t *testing.T) {
	e := &Entity{Name: "e"}
	view := func(names ...string) *View {
		v := &View{Name: "v", Entity: e}
		for _, n := range names {
			v.Features = append(v.Features, Feature{Name: n})
		}
		return v
	}
	wantPanic(t, func() { NewRegistry([]*Entity{e, {Name: "e"}}, nil, nil, "") })
	wantPanic(t, func() { NewRegistry(nil, []*View{view("a"), view("b")}, nil, "") })
	wantPanic(t, func() { NewRegistry(nil, []*View{view("a", "a")}, nil, "") })
	wantPanic(t, func() { NewRegistry(nil, nil, []*Service{{Name: "s"}, {Name: "s"}}, "") })
	NewRegistry([]*Entity{e}, []*View{view("e", "v")}, []*Service{{Name: "e"}}, "") // names of different kinds may be the same
}

func TestDidYouMean(t *testing.T) {
	many := strings.Fields("a1 a2 a3 a4 a5 a6 a7 a8 a9")
	for _, c := range []struct {
		name       string
		candidates []string
		want       string
	}{
		{"wind", []string{"wind_speed", "rain"}, `; did you mean "wind_speed"?`},
		{"wind_sped", []string{"wind_speed", "wind_dir"}, `; did you mean "wind_speed"?`},
		{"WIND", []string{"rain", "wind"}, `; did you mean "wind"?`},
		{"wnid", []string{"wine", "wind"}, `; did you mean "wind"?`},
		{"bat", []string{"rat", "cat"}, `; did you mean "cat"?`}, // the first by name
		{"time", []string{"code"}, `; there are: code`},          // three letters of four differ
		{"y", []string{"x"}, `; there are: x`},
		{"X", []string{"x"}, `; did you mean "x"?`},
		{"", []string{"x"}, `; there are: x`},
		{"zzz", many, ""},
		{"zzz", nil, ""},
		{strings.Repeat("x", 1000), []string{strings.Repeat("x", 999)}, "; there are: " + strings.Repeat("x", 999)},
	} {
		if got := DidYouMean(c.name, c.candidates); got != c.want {
			t.Errorf("%.20q of %.60v: got %.80q, want %.80q", c.name, c.candidates, got, c.want)
		}
	}
}

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "abd", 1}, {"abc", "ab", 1}, {"ab", "ba", 2},
		{"kitten", "sitting", 3}, {"flaw", "lawn", 2},
	} {
		if got := editDistance(c.a, c.b); got != c.want {
			t.Errorf("%q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestRefs(t *testing.T) {
	r := testRegistry()
	refs, err := r.ParseRef("weather:*")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, ref := range refs {
		names = append(names, ref.Name())
	}
	if diff := cmp.Diff([]string{"weather:wind", "weather:gust", "weather:rain"}, names); diff != "" {
		t.Error(diff)
	}
	one, err := r.ParseRef("weather:gust")
	if err != nil || len(one) != 1 || one[0].Feature().Name != "gust" {
		t.Errorf("one feature: %v, %v", one, err)
	}
}
