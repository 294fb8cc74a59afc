package flightstest

import (
	stdcmp "cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// TestDataIsInOrder checks what the README promises of the offline store: rows sorted by time in each file, no entity with two rows
// of one instant, each row in the partition of its month, and not one byte more than the repository should carry.
func TestDataIsInOrder(t *testing.T) {
	dir := Dir(t)
	wantRows := map[string]int{"weather": 26_115, "aircraft": 3_322, "carrier_delays": 310_818, "aircraft_delays": 327_345}
	for _, view := range Views() {
		seen := map[string]bool{}
		for _, path := range parquetFiles(t, filepath.Join(dir, "offline", view.path)) {
			columns := readColumns(t, path, view.keyColumn, view.timeColumn)
			keys, times := columns.get(view.keyColumn), columns.get(view.timeColumn)
			_, partition, partitioned := strings.Cut(filepath.Base(filepath.Dir(path)), "month=")
			for i := range keys {
				micros := times[i].(int64)
				if i > 0 && micros < times[i-1].(int64) {
					t.Fatalf("%s: row %d is older than the row before it", path, i)
				}
				if month := time.UnixMicro(micros).UTC().Format("2006-01"); partitioned && month != partition {
					t.Fatalf("%s: row %d is of %s", path, i, month)
				}
				id := fmt.Sprint(keys[i], " ", micros)
				if seen[id] {
					t.Fatalf("%s: row %d: %v has two rows of one instant", path, i, keys[i])
				}
				seen[id] = true
			}
		}
		if len(seen) != wantRows[view.Name] {
			t.Errorf("view %s has %d rows, want %d", view.Name, len(seen), wantRows[view.Name])
		}
	}
	total := int64(0)
	for _, path := range parquetFiles(t, dir) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if total > 8_000_000 {
		t.Errorf("the Parquet files have %d bytes together; keep them under 8,000,000", total)
	}
}

// TestRowsAreDatedWhenTheyWereKnown checks the dates that keep the future out: a weather row is complete after minute 51 of
// its hour; an arrival is known at the end of its minute.
func TestRowsAreDatedWhenTheyWereKnown(t *testing.T) {
	load(t)
	for i, row := range shared.histories[0] {
		if at := time.UnixMicro(row.micros).UTC(); at.Minute() != 52 || at.Second() != 0 {
			t.Fatalf("weather row %d is dated %v", i, at)
		}
	}
	for i, row := range shared.histories[3] {
		if arrived := row.values[0].(int64); row.micros != arrived+time.Minute.Microseconds() {
			t.Fatalf("aircraft_delays row %d is dated %d, its arrival %d", i, row.micros, arrived)
		}
	}
}

// TestArrivalsAreLaterThanDepartures pairs each arrival of aircraft_delays with its flight, and checks that it is dated after the
// flight's scheduled departure: then no flight can meet its own outcome in its features. Flights and arrivals of the same aircraft,
// destination and delay are paired in time order.
func TestArrivalsAreLaterThanDepartures(t *testing.T) {
	load(t)
	type trip struct {
		tail, dest string
		delay      int32
	}
	departures, arrivals := map[trip][]int64{}, map[trip][]int64{}
	for _, f := range shared.flights {
		if f.Arrived && f.TailNumber != "" {
			k := trip{f.TailNumber, f.Dest, f.ArrDelay}
			departures[k] = append(departures[k], f.EventMicros)
		}
	}
	for _, row := range shared.histories[3] {
		k := trip{row.key, row.values[1].(string), row.values[2].(int32)}
		arrivals[k] = append(arrivals[k], row.micros)
	}
	paired, unpaired := 0, 0
	for k, scheduled := range departures {
		arrived := arrivals[k]
		if len(arrived) != len(scheduled) {
			unpaired++ // two arrivals of one aircraft in one minute share a row
			continue
		}
		slices.Sort(scheduled)
		slices.Sort(arrived)
		for i := range scheduled {
			paired++
			if took := time.Duration(arrived[i]-scheduled[i]) * time.Microsecond; took <= 0 || took > 36*time.Hour {
				t.Errorf("%+v: arrived %v after its scheduled departure at %v", k, took, time.UnixMicro(scheduled[i]).UTC())
			}
		}
	}
	if paired != 327_345 || unpaired != 1 {
		t.Errorf("%d arrivals were paired with their flights, want 327,345; %d trips were not, want 1", paired, unpaired)
	}
}

// definitions is the part of the YAML that the oracle repeats.
type definitions struct {
	Entities []struct {
		Name string                        `yaml:"name"`
		Keys []struct{ Name, Type string } `yaml:"keys"`
	} `yaml:"entities"`
	FeatureViews []struct {
		Name   string `yaml:"name"`
		Entity string `yaml:"entity"`
		Source struct {
			Path       string            `yaml:"path"`
			EventTime  string            `yaml:"event_time_column"`
			KeyColumns map[string]string `yaml:"key_columns"`
		} `yaml:"source"`
		TTL      string `yaml:"ttl"`
		Features []struct {
			Name, Type, Column string
			Online             *bool
		} `yaml:"features"`
	} `yaml:"feature_views"`
	FeatureServices []struct {
		Name     string   `yaml:"name"`
		Features []string `yaml:"features"`
	} `yaml:"feature_services"`
}

// TestViewsAreThoseOfTheDefinitions compares the oracle's own list of views and features with the definitions' text.
func TestViewsAreThoseOfTheDefinitions(t *testing.T) {
	d := readDefinitions(t, Dir(t))
	if d.FeatureServices[0].Name != Service {
		t.Errorf("the service is %q, want %q", d.FeatureServices[0].Name, Service)
	}
	var want []View
	for _, name := range d.FeatureServices[0].Features {
		viewName, feature, _ := strings.Cut(name, ":")
		if len(want) == 0 || want[len(want)-1].Name != viewName {
			want = append(want, d.view(t, viewName))
		}
		view := &want[len(want)-1]
		view.Features = append(view.Features, d.features(t, viewName, feature)...)
	}
	if diff := cmp.Diff(want, Views(), cmp.AllowUnexported(View{}, Feature{})); diff != "" {
		t.Errorf("the oracle's views are not those of the definitions (-definitions +oracle):\n%s", diff)
	}
}

// view returns a defined view without its features.
func (d definitions) view(t *testing.T, name string) View {
	t.Helper()
	for _, v := range d.FeatureViews {
		if v.Name != name {
			continue
		}
		view := View{Name: name, path: strings.TrimSuffix(v.Source.Path, "/**/*.parquet"), timeColumn: v.Source.EventTime}
		for _, entity := range d.Entities {
			if entity.Name == v.Entity {
				view.Key = entity.Keys[0].Name
			}
		}
		view.keyColumn = stdcmp.Or(v.Source.KeyColumns[view.Key], view.Key)
		ttl, err := time.ParseDuration(stdcmp.Or(v.TTL, "0s"))
		if err != nil {
			t.Fatalf("view %s: %v", name, err)
		}
		view.TTL = ttl
		return view
	}
	t.Fatalf("the service reads view %q, which is not defined", name)
	return View{}
}

// features returns one feature of a view, or all for "*".
func (d definitions) features(t *testing.T, viewName, name string) []Feature {
	t.Helper()
	var features []Feature
	for _, v := range d.FeatureViews {
		for _, f := range v.Features {
			if v.Name != viewName || (name != "*" && name != f.Name) {
				continue
			}
			if f.Online != nil && !*f.Online {
				t.Errorf("the service reads %s:%s, which is not online", viewName, f.Name)
			}
			features = append(features, Feature{f.Name, f.Type, stdcmp.Or(f.Column, f.Name)})
		}
	}
	return features
}

func readDefinitions(t *testing.T, dir string) definitions {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "definitions", "*.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d definition files: %v", len(paths), err)
	}
	var all definitions
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var one definitions
		if err := yaml.Unmarshal(text, &one); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all.Entities = append(all.Entities, one.Entities...)
		all.FeatureViews = append(all.FeatureViews, one.FeatureViews...)
		all.FeatureServices = append(all.FeatureServices, one.FeatureServices...)
	}
	return all
}
