package flightstest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/xitongsys/parquet-go-source/local"
	"github.com/xitongsys/parquet-go/reader"
)

// record is one feature row.
type record struct {
	key    string
	micros int64
	values []any
}

// valuesOr returns the values, or n times nil where there is no row.
func (r *record) valuesOr(n int) []any {
	if r == nil {
		return make([]any, n)
	}
	return r.values
}

// readView returns all rows of a view, file by file in the order of their names.
func readView(t testing.TB, dir string, view View) []record {
	t.Helper()
	names := []string{view.keyColumn, view.timeColumn}
	for _, f := range view.Features {
		names = append(names, f.column)
	}
	var rows []record
	for _, path := range parquetFiles(t, filepath.Join(dir, "offline", filepath.FromSlash(view.path))) {
		columns := readColumns(t, path, names...)
		keys, times := columns.get(view.keyColumn), columns.get(view.timeColumn)
		var values [][]any
		for _, f := range view.Features {
			values = append(values, columns.get(f.column))
		}
		for i := range keys {
			row := record{key: keys[i].(string), micros: times[i].(int64), values: make([]any, len(values))}
			for c := range values {
				row.values[c] = values[c][i]
			}
			rows = append(rows, row)
		}
	}
	return rows
}

func readFlights(t testing.TB, dir string) []Flight {
	t.Helper()
	columns := readColumns(t, filepath.Join(dir, "flights.parquet"), "event_timestamp", "carrier", "tail_number", "origin", "dest", "arr_delay")
	times, carriers := columns.get("event_timestamp"), columns.get("carrier")
	tails, origins := columns.get("tail_number"), columns.get("origin")
	dests, delays := columns.get("dest"), columns.get("arr_delay")
	flights := make([]Flight, len(times))
	for i := range flights {
		f := Flight{EventMicros: times[i].(int64), Carrier: carriers[i].(string), Origin: origins[i].(string), Dest: dests[i].(string)}
		f.TailNumber, _ = tails[i].(string)
		f.ArrDelay, f.Arrived = delays[i].(int32)
		flights[i] = f
	}
	return flights
}

// parquetFiles returns path itself, or every Parquet file below it.
func parquetFiles(t testing.TB, path string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(path, func(name string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.HasSuffix(name, ".parquet") {
			files = append(files, name)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("flightstest: %d Parquet files at %s: %v", len(files), path, err)
	}
	slices.Sort(files)
	return files
}

// columnSet has the columns of one file.
type columnSet struct {
	t      testing.TB
	path   string
	byName map[string][]any
}

// get returns the values of a column, nil for null.
func (c columnSet) get(name string) []any {
	c.t.Helper()
	values, ok := c.byName[name]
	if !ok {
		c.t.Fatalf("flightstest: %s has no column %q", c.path, name)
	}
	return values
}

// readColumns reads the named columns of a file without nesting.
func readColumns(t testing.TB, path string, names ...string) columnSet {
	t.Helper()
	file, err := local.NewLocalFileReader(path)
	if err != nil {
		t.Fatalf("flightstest: %v", err)
	}
	defer file.Close()
	r, err := reader.NewParquetColumnReader(file, 1)
	if err != nil {
		t.Fatalf("flightstest: %s: %v", path, err)
	}
	defer r.ReadStop()
	set := columnSet{t, path, map[string][]any{}}
	for i := range r.SchemaHandler.GetColumnNum() {
		name := r.SchemaHandler.GetExName(int(i) + 1)
		if !slices.Contains(names, name) {
			continue
		}
		values, _, _, err := r.ReadColumnByIndex(i, r.GetNumRows())
		if err != nil || int64(len(values)) != r.GetNumRows() {
			t.Fatalf("flightstest: %s, column %s: %d values of %d: %v", path, name, len(values), r.GetNumRows(), err)
		}
		set.byName[name] = values
	}
	return set
}
