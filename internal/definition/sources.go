package definition

import (
	"context"
	"fmt"
	"slices"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
)

// SourceColumn is one column of a source's Parquet files, partitions included.
type SourceColumn struct {
	// Name of the column.
	Name string
	// Type is the type it is read as; 0 where it cannot be read.
	Type feature.Type
	// Reason says why it cannot be read; empty where it can.
	Reason string
	// Nullable is whether it may hold nulls.
	Nullable bool
}

// SchemaReader tells the columns of a source.
type SchemaReader interface {
	// Columns returns the columns of the files that path names, as it stands in Source.path.
	Columns(ctx context.Context, path string) ([]SourceColumn, error)
}

// Converts reports whether a source column of type from may be defined as type to: the same, or one that holds every value of it. BYTES
// and STRING are each other's, where the bytes are UTF-8; lists convert as their elements do.
func Converts(from, to feature.Type) bool {
	if from.IsList() != to.IsList() {
		return false
	}
	from, to = from.Elem(), to.Elem()
	switch from {
	case to:
		return from.Valid()
	case feature.Int32:
		return to == feature.Int64 || to == feature.Double
	case feature.Float:
		return to == feature.Double
	case feature.Bytes:
		return to == feature.String
	case feature.String:
		return to == feature.Bytes
	default:
		return false
	}
}

// CheckSources checks the views against the columns of their sources. The problems are sorted by place; a source that cannot be
// read is one of them. An error is returned only where ctx is done.
func (s *Set) CheckSources(ctx context.Context, reader SchemaReader) ([]Problem, error) {
	c := &checker{places: s.places, refused: map[spot]bool{}}
	type answer struct {
		columns []SourceColumn
		err     error
	}
	answers := map[string]answer{}
	entities := make(map[string]*twofoldv1.Entity, len(s.Proto.GetEntities()))
	for _, e := range s.Proto.GetEntities() {
		entities[e.GetName()] = e
	}
	for _, v := range s.Proto.GetFeatureViews() {
		path := v.GetSource().GetPath()
		a, ok := answers[path]
		if !ok {
			a.columns, a.err = reader.Columns(ctx, path)
			if err := ctx.Err(); err != nil {
				return nil, fmt.Errorf("check the source of feature view %q: %w", v.GetName(), err)
			}
			answers[path] = a
		}
		if a.err != nil {
			c.report(spot{message: v.GetSource(), field: "path"}, Error,
				fmt.Sprintf("feature view %q: its source cannot be read: %v", v.GetName(), a.err), "")
			continue
		}
		c.checkSource(v, entities[v.GetEntity()], a.columns)
	}
	slices.SortStableFunc(c.problems, compareProblems)
	return c.problems, nil
}

// sourceChecker checks one view against its source.
type sourceChecker struct {
	*checker
	view    *twofoldv1.FeatureView
	columns map[string]SourceColumn
	names   []string
}

func (c *checker) checkSource(v *twofoldv1.FeatureView, e *twofoldv1.Entity, columns []SourceColumn) {
	sc := sourceChecker{checker: c, view: v, columns: make(map[string]SourceColumn, len(columns))}
	for _, column := range columns {
		sc.columns[column.Name] = column
		sc.names = append(sc.names, column.Name)
	}
	s := v.GetSource()
	sc.checkTime(spot{message: s, field: "event_time_column"}, "event time", s.GetEventTimeColumn())
	if s.GetCreatedTimeColumn() != "" {
		sc.checkTime(spot{message: s, field: "created_time_column"}, "created time", s.GetCreatedTimeColumn())
	}
	for _, k := range e.GetKeys() {
		sc.checkColumn(sc.keySpot(s, k), fmt.Sprintf("key %q", k.GetName()), keyColumn(s, k.GetName()), feature.Type(k.GetType()), "source.key_columns")
	}
	for _, f := range v.GetFeatures() {
		at := spot{message: f, field: "name"}
		if f.GetColumn() != "" {
			at.field = "column"
		}
		sc.checkColumn(at, fmt.Sprintf("feature %q", f.GetName()), columnOf(f), feature.Type(f.GetType()), "column:")
	}
}

// keySpot is where a key's column is named, or else the source.
func (sc *sourceChecker) keySpot(s *twofoldv1.Source, k *twofoldv1.EntityKey) spot {
	if _, ok := s.GetKeyColumns()[k.GetName()]; ok {
		return spot{message: s, field: "key_columns", key: k.GetName()}
	}
	return spot{message: s}
}

// find returns a column that can be read, or reports why there is none.
func (sc *sourceChecker) find(at spot, what, name, elsewhere string) (SourceColumn, bool) {
	column, ok := sc.columns[name]
	switch {
	case !ok:
		mend := nearest(name, sc.names)
		if elsewhere != "" {
			mend += " (a column of another name is given as " + elsewhere + ")"
		}
		sc.report(at, Error, fmt.Sprintf("feature view %q: the source has no column %q for %s", sc.view.GetName(), name, what), mend)
		return column, false
	case column.Type == 0:
		sc.report(at, Error, fmt.Sprintf("feature view %q: column %q of the source cannot be read for %s: %s", sc.view.GetName(), name, what, column.Reason),
			"write the column as another type, or leave it out")
		return column, false
	}
	return column, true
}

func (sc *sourceChecker) checkTime(at spot, what, name string) {
	column, ok := sc.find(at, "the "+what, name, "")
	if !ok || column.Type == feature.Timestamp {
		return
	}
	var times []string
	for _, n := range sc.names {
		if sc.columns[n].Type == feature.Timestamp {
			times = append(times, n)
		}
	}
	mend := "write the column as a Parquet TIMESTAMP or DATE; the source has no column of these types"
	if len(times) > 0 {
		mend = "name a TIMESTAMP or DATE column; " + nearest(name, times)
	}
	sc.report(at, Error, fmt.Sprintf("feature view %q: the %s column %q is %v, not a TIMESTAMP", sc.view.GetName(), what, name, column.Type), mend)
}

func (sc *sourceChecker) checkColumn(at spot, what, name string, want feature.Type, elsewhere string) {
	column, ok := sc.find(at, what, name, elsewhere)
	if !ok || Converts(column.Type, want) {
		return
	}
	if at.field == "name" || at.field == "column" {
		at.field = "type"
	}
	sc.report(at, Error, fmt.Sprintf("feature view %q: %s is %v, but column %q of the source is %v, which does not convert without loss",
		sc.view.GetName(), what, want, name, column.Type), fmt.Sprintf("define it as %v, or write the column as %v", column.Type, want))
}
