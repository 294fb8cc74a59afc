// Package flightstest is the oracle of the flights example: what the feature service departure_delay_v1 must answer,
// found without any of Twofold's own code. It reads the committed Parquet with another reader (xitongsys/parquet-go), joins in
// the plainest way that is right, and is itself held against pandas (expected.json) and against a scan of every row.
package flightstest

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"testing"
	"time"
)

// Service is the feature service that the oracle answers for.
const Service = "departure_delay_v1"

// View is one feature view as the service reads it.
type View struct {
	// Name of the view.
	Name string
	// Key is the entity key, as it stands in requests and in flights.parquet.
	Key string
	// TTL is 0 for ever.
	TTL time.Duration
	// Features that are in the service, in its order.
	Features []Feature

	// path, below offline/, keyColumn and timeColumn say where the rows are.
	path, keyColumn, timeColumn string
}

// Feature is one feature of a view.
type Feature struct {
	// Name of the feature, without its view.
	Name string
	// Type in the words of the definitions, for example "DOUBLE".
	Type string

	column string
}

// Views returns the views of the service in its order. They are written down here, and compared with the definitions
// by a test, because the oracle must not learn them from the code that it checks.
func Views() []View {
	return []View{
		{
			Name: "weather", Key: "origin", TTL: 2 * time.Hour,
			path: "weather", keyColumn: "origin", timeColumn: "observed_at",
			Features: []Feature{
				{"temp", "DOUBLE", "temp"}, {"humid", "DOUBLE", "humid"}, {"wind_dir", "DOUBLE", "wind_dir"},
				{"wind_speed", "DOUBLE", "wind_speed"}, {"wind_gust", "DOUBLE", "wind_gust"},
				{"precip", "DOUBLE", "precip"}, {"visibility", "DOUBLE", "visib"},
			},
		},
		{
			Name: "aircraft", Key: "tail_number", TTL: 0,
			path: "aircraft/registry.parquet", keyColumn: "tailnum", timeColumn: "registered_at",
			Features: []Feature{
				{"year_built", "INT32", "year_built"}, {"manufacturer", "STRING", "manufacturer"}, {"model", "STRING", "model"},
				{"engines", "INT32", "engines"}, {"seats", "INT32", "seats"}, {"engine", "STRING", "engine"},
			},
		},
		{
			Name: "carrier_delays", Key: "carrier", TTL: 24 * time.Hour,
			path: "carrier_delays", keyColumn: "carrier", timeColumn: "arrived_at",
			Features: []Feature{
				{"last_arr_delay", "INT32", "last_arr_delay"}, {"arrivals_3h", "INT64", "arrivals_3h"},
				{"mean_arr_delay_3h", "DOUBLE", "mean_arr_delay_3h"}, {"arrivals_24h", "INT64", "arrivals_24h"},
				{"mean_arr_delay_24h", "DOUBLE", "mean_arr_delay_24h"}, {"late_share_24h", "FLOAT", "late_share_24h"},
			},
		},
		{
			Name: "aircraft_delays", Key: "tail_number", TTL: 7 * 24 * time.Hour,
			path: "aircraft_delays.parquet", keyColumn: "tail_number", timeColumn: "arrived_at",
			Features: []Feature{
				{"last_arrived_at", "TIMESTAMP", "last_arrived_at"}, {"last_dest", "STRING", "last_dest"},
				{"last_arr_delay", "INT32", "last_arr_delay"}, {"last_was_late", "BOOL", "last_was_late"},
				{"arrivals_7d", "INT64", "arrivals_7d"}, {"mean_arr_delay_7d", "DOUBLE", "mean_arr_delay_7d"},
			},
		},
	}
}

// Features returns the names of the service's features, "view:feature", in its order: the columns of a Row.
func Features() []string {
	var names []string
	for _, view := range Views() {
		for _, f := range view.Features {
			names = append(names, view.Name+":"+f.Name)
		}
	}
	return names
}

// Flight is one row of flights.parquet.
type Flight struct {
	// EventMicros is the scheduled departure: microseconds since the Unix epoch, UTC.
	EventMicros int64
	Carrier     string
	// TailNumber is empty where it is null.
	TailNumber string
	Origin     string
	Dest       string
	// ArrDelay is one of the labels: minutes, 0 unless Arrived.
	ArrDelay int32
	// Arrived is false for flights that were cancelled or diverted.
	Arrived bool
}

// key returns the value of the entity key of that name, "" where it is null.
func (f Flight) key(name string) string {
	switch name {
	case "origin":
		return f.Origin
	case "carrier":
		return f.Carrier
	case "tail_number":
		return f.TailNumber
	}
	panic("flightstest: no key " + name)
}

// Row is one flight with the features that were true at its scheduled departure.
type Row struct {
	Flight Flight
	// matches has the feature row of each view, nil where there is none.
	matches []*record
}

// Values returns the values of the service's features in the order of Features, nil for one that is absent: no row, an expired row or a
// null. Types: float64, float32, int64 (TIMESTAMP too, microseconds), int32, bool, string.
func (r Row) Values() []any {
	values := make([]any, 0, 32)
	for i, view := range Views() {
		values = append(values, r.matches[i].valuesOr(len(view.Features))...)
	}
	return values
}

// EventMicros returns the event time of the joined row of Views()[view], and whether there is one.
func (r Row) EventMicros(view int) (int64, bool) {
	if r.matches[view] == nil {
		return 0, false
	}
	return r.matches[view].micros, true
}

// Expected returns what the join must give for each flight of flights.parquet, in the order of the file. dir is that of the example;
// see Dir. It takes a few seconds.
func Expected(t testing.TB, dir string) []Row {
	t.Helper()
	views := Views()
	histories := make([][]record, len(views))
	for v, view := range views {
		histories[v] = readView(t, dir, view)
	}
	return join(readFlights(t, dir), histories)
}

// join finds the row of each view, given in the order of Views, for each flight.
func join(flights []Flight, histories [][]record) []Row {
	rows := make([]Row, len(flights))
	for i, flight := range flights {
		rows[i] = Row{flight, make([]*record, len(histories))}
	}
	for v, view := range Views() {
		history := byEntity(histories[v])
		for i, flight := range flights {
			rows[i].matches[v] = newest(history[flight.key(view.Key)], flight.EventMicros, view.TTL)
		}
	}
	return rows
}

// byEntity groups rows by key and sorts each group by time.
func byEntity(rows []record) map[string][]*record {
	groups := map[string][]*record{}
	for i := range rows {
		groups[rows[i].key] = append(groups[rows[i].key], &rows[i])
	}
	for _, group := range groups {
		slices.SortStableFunc(group, func(a, b *record) int { return cmp.Compare(a.micros, b.micros) })
	}
	return groups
}

// newest returns the last row of an entity's that is not after the moment, unless it is older than the ttl then.
func newest(history []*record, atMicros int64, ttl time.Duration) *record {
	later := sort.Search(len(history), func(i int) bool { return history[i].micros > atMicros })
	if later == 0 {
		return nil
	}
	row := history[later-1]
	if ttl > 0 && atMicros-row.micros > ttl.Microseconds() {
		return nil
	}
	return row
}

// Dir returns the folder of the example, found from the working folder upwards.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		example := filepath.Join(dir, "examples", "flights")
		if _, err := os.Stat(filepath.Join(example, "flights.parquet")); err == nil {
			return example
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("flightstest: examples/flights/flights.parquet is in no folder above the working folder")
		}
		dir = parent
	}
}
