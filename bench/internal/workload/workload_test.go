package workload

import (
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
)

func TestParseShape(t *testing.T) {
	s, err := ParseShape("25x10x100")
	if err != nil || s != (Shape{25, 10, 100}) || s.String() != "25x10x100" {
		t.Errorf("got %v, %v", s, err)
	}
	for _, text := range []string{"", "5x10", "5x10x1x1", "5x0x1", "-5x1x1", "axbxc", "5x10x"} {
		if s, err := ParseShape(text); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q was read as %v, %v", text, s, err)
		}
	}
}

func TestLayoutsAreDistinct(t *testing.T) {
	got := Layouts([]Shape{{1, 50, 1}, {5, 10, 1}, {5, 10, 100}, {25, 10, 100}})
	if want := []Layout{{1, 50}, {5, 10}, {25, 10}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestDefinitionsAreValid(t *testing.T) {
	layouts := []Layout{{1, 50}, {25, 10}}
	registry, err := Registry(layouts)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layouts {
		service, err := registry.Service(l.Service())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for v := range l.Views {
			for f := range l.Features {
				names = append(names, l.View(v)+":"+l.Feature(f))
			}
		}
		for i, ref := range service.Features {
			if ref.Name() != names[i] || ref.Feature().Type != feature.Double || !ref.View.IsSynced() {
				t.Errorf("feature %d is %s (%v)", i, ref.Name(), ref.Feature().Type)
			}
		}
		if len(service.Features) != len(names) {
			t.Errorf("%d features, want %d", len(service.Features), len(names))
		}
	}
}

func TestValues(t *testing.T) {
	d, l := Data{Seed: 5, Entities: 4000, BaseMicros: 1e15}, Layout{5, 10}
	nulls, seen := 0, map[float64]bool{}
	for entity := range d.Entities {
		for f := range l.Features {
			value, null := d.Value(l, 3, f, entity)
			if again, nullAgain := d.Value(l, 3, f, entity); again != value || nullAgain != null {
				t.Fatal("a value changed")
			}
			if null {
				nulls++
				continue
			}
			if math.Abs(value) > 1000 {
				t.Fatalf("value %v", value)
			}
			seen[value] = true
		}
		if at := d.EventTimeMicros(l, 3, entity); at > d.BaseMicros || at <= d.BaseMicros-3600_000_000 {
			t.Fatalf("event time %d", at)
		}
	}
	all := d.Entities * l.Features
	if nulls < all/nullOneIn*8/10 || nulls > all/nullOneIn*12/10 {
		t.Errorf("%d of %d values are null, and 1 in %d should be", nulls, all, nullOneIn)
	}
	if len(seen) < all-nulls-1 {
		t.Errorf("%d different values of %d", len(seen), all-nulls)
	}
	a, _ := d.Value(l, 0, 1, 7)
	for name, other := range map[string]float64{
		"seed": first(Data{Seed: 6}.Value(l, 0, 1, 7)), "layout": first(d.Value(Layout{5, 11}, 0, 1, 7)), "view": first(d.Value(l, 1, 1, 7)),
		"feature": first(d.Value(l, 0, 2, 7)), "entity": first(d.Value(l, 0, 1, 8)),
	} {
		if a == other {
			t.Errorf("another %s has the same value", name)
		}
	}
}

func first(v float64, _ bool) float64 { return v }

func TestRequests(t *testing.T) {
	d, s := Data{Seed: 9, Entities: 150}, Shape{5, 10, 100}
	requests, err := d.Requests(s, 20)
	if err != nil {
		t.Fatal(err)
	}
	again, err := d.Requests(s, 20)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range requests {
		if !slices.Equal(r.Body, again[i].Body) {
			t.Errorf("request %d is another the second time", i)
		}
		m := &twofoldv1.GetOnlineFeaturesRequest{}
		if err := proto.Unmarshal(r.Body, m); err != nil {
			t.Fatal(err)
		}
		keys := m.Entities[0].GetInt64S().GetValues()
		if m.FeatureService != "service5x10" || m.Entities[0].Name != KeyName || len(keys) != 100 {
			t.Fatalf("request %d asks for %s with %d keys", i, m.FeatureService, len(keys))
		}
		for row, key := range keys {
			if key != int64(r.Entities[row]) || key < 0 || key >= 150 {
				t.Errorf("row %d is %d and should be %d", row, key, r.Entities[row])
			}
		}
		if slices.Sort(keys); len(slices.Compact(keys)) != 100 {
			t.Errorf("request %d asks for an entity twice", i)
		}
	}
	if slices.Equal(requests[0].Entities, requests[1].Entities) {
		t.Error("two requests are the same")
	}
	if _, err := (Data{Entities: 99}).Requests(s, 1); err == nil || !strings.Contains(err.Error(), "--entities") {
		t.Errorf("more rows than entities gave %v", err)
	}
}

func TestEdgeRequests(t *testing.T) {
	d := Data{Entities: 7}
	requests, err := d.EdgeRequests(Shape{1, 1, 10})
	if err != nil {
		t.Fatal(err)
	}
	entities := requests[0].Entities
	if entities[0] < d.Entities || entities[9] != entities[5] {
		t.Errorf("no missing entity first and no duplicate last: %v", entities)
	}
}

func TestZipf(t *testing.T) {
	d := Data{Seed: 9, Entities: 1000, Zipf: 1.1}
	requests, err := d.Requests(Shape{5, 10, 1}, 20_000)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[int]int{}
	for _, r := range requests {
		counts[r.Entities[0]]++
	}
	var byRank []int
	for _, n := range counts {
		byRank = append(byRank, n)
	}
	slices.Sort(byRank)
	slices.Reverse(byRank)
	// With exponent 1.1 and 1000 ranks the first has 1/5.6 of all, and the second 2^-1.1 of that.
	if first, second := float64(byRank[0]), float64(byRank[1]); first < 3300 || first > 3900 || second/first < 0.40 || second/first > 0.54 {
		t.Errorf("the first ranks have %v and %v of 20000", first, second)
	}
	if other, _ := d.Requests(Shape{1, 50, 1}, 20_000); other[0].Entities[0] == requests[0].Entities[0] && other[1].Entities[0] == requests[1].Entities[0] && other[2].Entities[0] == requests[2].Entities[0] {
		t.Error("two shapes draw the same entities")
	}
	if _, err := d.Requests(Shape{5, 10, 101}, 1); err == nil || !strings.Contains(err.Error(), "--entities") {
		t.Errorf("more entities than a Zipf distribution gives gave %v", err)
	}
}
