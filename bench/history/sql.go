package main

import (
	"fmt"
	"strings"
	"time"
)

// engine is one of the ways to make the training set that are compared.
type engine string

const (
	// ours is twofold serve, asked by a client.
	ours engine = "twofold"
	// asof is DuckDB's ASOF join as one writes it: of rows with the same key and event time any may be taken.
	asof engine = "duckdb asof"
	// exact is DuckDB's ASOF join with a tie-break: it compares event time, created time, file and row number at once.
	exact engine = "duckdb exact"
	// hashed is DuckDB without its ASOF join: a hash join by key, the greatest of what exact compares for each entity row, and a second
	// look into the files for the values. As exact as exact.
	hashed engine = "duckdb hash"
)

// source is what an engine reads: one pattern of Parquet files for each view.
type source struct {
	entities string
	views    []string
}

// viewName returns the name of a view.
func viewName(view int) string { return fmt.Sprintf("v%d", view+1) }

// featureNames returns the columns that are features.
func featureNames() []string {
	names := make([]string, 0, featureDoubles+1)
	for f := range featureDoubles {
		names = append(names, doubleColumn(f))
	}
	return append(names, stringColumn)
}

// sql returns the engine's query for a source. between, if not empty, is a condition on event_timestamp with which the features are read: what
// somebody may write who knows the times of the entity rows.
func (s source) sql(e engine, between string) string {
	if e == hashed {
		return s.hashSQL(between)
	}
	order, infinite := timeColumn, timeColumn
	if e == exact {
		order = "row(event_timestamp, created, file_index, file_row_number)"
		infinite = "row(event_timestamp, 'infinity'::TIMESTAMP, 0::UBIGINT, 0::BIGINT)"
	}
	var columns, joins strings.Builder
	for v, files := range s.views {
		view := viewName(v)
		for _, f := range featureNames() {
			fmt.Fprintf(&columns, ",\n  CASE WHEN epoch_us(e.event_timestamp) - epoch_us(%s.event_timestamp) <= %d THEN %s.%s END AS \"%s:%s\"", view, ttlMicros, view, f, view, f)
		}
		fmt.Fprintf(&joins, "\nASOF LEFT JOIN (SELECT *, %s AS moment FROM read_parquet('%s')%s) %s ON e.customer_id = %s.customer_id AND e.moment >= %s.moment",
			order, files, where(between), view, view, view)
	}
	return fmt.Sprintf("SELECT e.customer_id, e.event_timestamp, e.label%s\nFROM (SELECT *, %s AS moment FROM read_parquet('%s')) e%s",
		columns.String(), infinite, s.entities, joins.String())
}

func where(condition string) string {
	if condition == "" {
		return ""
	}
	return " WHERE " + condition
}

func (s source) hashSQL(between string) string {
	var winners []string
	var columns, joins strings.Builder
	for v, files := range s.views {
		view := viewName(v)
		winners = append(winners, fmt.Sprintf(`w%s AS (
  SELECT e.label, max(row(f.event_timestamp, f.created, f.file_index, f.file_row_number)) AS newest
  FROM read_parquet('%s') e
  JOIN (SELECT customer_id, event_timestamp, created, file_index, file_row_number FROM read_parquet('%s')%s) f
  ON e.customer_id = f.customer_id AND f.event_timestamp BETWEEN e.event_timestamp - INTERVAL %d DAY AND e.event_timestamp
  GROUP BY e.label)`, view, s.entities, files, where(between), ttlDays))
		for _, f := range featureNames() {
			fmt.Fprintf(&columns, ", %s.%s AS \"%s:%s\"", view, f, view, f)
		}
		fmt.Fprintf(&joins, "\nLEFT JOIN w%s ON e.label = w%s.label LEFT JOIN read_parquet('%s') %s ON %s.file_index = w%s.newest[3] AND %s.file_row_number = w%s.newest[4]",
			view, view, files, view, view, view, view, view)
	}
	return fmt.Sprintf("WITH %s\nSELECT e.customer_id, e.event_timestamp, e.label%s\nFROM read_parquet('%s') e%s",
		strings.Join(winners, ",\n"), columns.String(), s.entities, joins.String())
}

// timesBetween returns the condition that a user who knows that all entity rows lie in [from, to) may put on the features.
func timesBetween(from, to int64) string {
	literal := func(micros int64) string {
		return time.UnixMicro(micros).UTC().Format("TIMESTAMP '2006-01-02 15:04:05.000000'")
	}
	return fmt.Sprintf("event_timestamp BETWEEN %s AND %s", literal(from-ttlMicros), literal(to))
}
