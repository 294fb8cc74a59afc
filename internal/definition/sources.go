package definition

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
)

// SourceColumn is one column of a source's Parquet files, partitions included.
type SourceColumn struct {
	// Name of the column.
	Name string
	// Type is the type it has by itself; 0 where it has none.
	Type feature.Type
	// Reason says why it has none; empty where it has one.
	Reason string
	// Nullable is whether it may hold nulls.
	Nullable bool
	// CanRead says why it cannot be read as a type in every file that has it, and how to mend it, or gives nil. Defaults to what
	// Converts says of Type.
	CanRead func(feature.Type) error
	// MissingFiles is in how many files it is not; MissingIn is the first of them.
	MissingFiles int
	MissingIn    string
	// HiddenIn is the first file whose stored column of this name is hidden by the name of a folder; empty where there is none.
	HiddenIn string
}

// SchemaReader tells the columns of a source.
type SchemaReader interface {
	// Columns returns the columns of the files that path names, as it stands in Source.path. Where it names none, the error is
	// fs.ErrNotExist to errors.Is.
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
			c.reportUnread(v, a.err)
			continue
		}
		c.checkSource(v, entities[v.GetEntity()], a.columns)
	}
	slices.SortStableFunc(c.problems, compareProblems)
	return c.problems, nil
}

// reportUnread reports a source that cannot be read. Files that are not there yet are no error of a view that is only pushed to.
func (c *checker) reportUnread(v *twofoldv1.FeatureView, err error) {
	severity, mend := Error, ""
	if sync := v.GetSync(); sync != nil && sync.Enabled != nil && !sync.GetEnabled() && errors.Is(err, fs.ErrNotExist) {
		severity, mend = Warning, "rows can be pushed, but training sets need the files"
	}
	c.report(spot{message: v.GetSource(), field: "path"}, severity, fmt.Sprintf("feature view %q: its source cannot be read: %v", v.GetName(), err), mend)
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
	if s.GetDeletedColumn() != "" {
		sc.checkDeleted(spot{message: s, field: "deleted_column"}, s.GetDeletedColumn())
	}
	for _, k := range e.GetKeys() {
		r := role{what: fmt.Sprintf("key %q", k.GetName()), elsewhere: "source.key_columns", required: true}
		sc.checkColumn(sc.keySpot(s, k), r, keyColumn(s, k.GetName()), feature.Type(k.GetType()))
	}
	for _, f := range v.GetFeatures() {
		at := spot{message: f, field: "name"}
		if f.GetColumn() != "" {
			at.field = "column"
		}
		r := role{what: fmt.Sprintf("feature %q", f.GetName()), elsewhere: "column:"}
		sc.checkColumn(at, r, columnOf(f), feature.Type(f.GetType()))
	}
}

// keySpot is where a key's column is named, or else the source.
func (sc *sourceChecker) keySpot(s *twofoldv1.Source, k *twofoldv1.EntityKey) spot {
	if _, ok := s.GetKeyColumns()[k.GetName()]; ok {
		return spot{message: s, field: "key_columns", key: k.GetName()}
	}
	return spot{message: s}
}

// role is what a view wants of a column.
type role struct {
	// what it is for, in words.
	what string
	// elsewhere is where a column of another name is given; empty where the name is given itself.
	elsewhere string
	// required columns must be in every file; others are null where they are not.
	required bool
	// absent says what it means that some files do not have the column. Defaults to nulls.
	absent string
}

// find returns a column, or reports that there is none, and what is doubtful about the files that it is in.
func (sc *sourceChecker) find(at spot, r role, name string) (SourceColumn, bool) {
	column, ok := sc.columns[name]
	if !ok {
		mend := nearest(name, sc.names)
		if r.elsewhere != "" {
			mend += " (a column of another name is given as " + r.elsewhere + ")"
		}
		sc.report(at, Error, fmt.Sprintf("feature view %q: the source has no column %q for %s", sc.view.GetName(), name, r.what), mend)
		return column, false
	}
	if column.MissingFiles > 0 {
		where := column.MissingIn
		if others := column.MissingFiles - 1; others > 0 {
			where += fmt.Sprintf(" and %d more", others)
		}
		severity, mend := Warning, cmp.Or(r.absent, "its values are null there")
		if r.required {
			severity, mend = Error, "write it in every file, or leave those files out of the source's path"
		}
		sc.report(at, severity, fmt.Sprintf("feature view %q: column %q of the source, for %s, is missing in %s", sc.view.GetName(), name, r.what, where), mend)
	}
	if column.HiddenIn != "" {
		sc.report(at, Warning, fmt.Sprintf("feature view %q: column %q of the source, for %s, is read from the names of folders (%s=…), which hide the column of that name in %s",
			sc.view.GetName(), name, r.what, name, column.HiddenIn), "give one of them another name where they differ")
	}
	return column, true
}

// reportUnreadable reports a column that has no type of its own.
func (sc *sourceChecker) reportUnreadable(at spot, r role, name string, column SourceColumn) {
	sc.report(at, Error, fmt.Sprintf("feature view %q: column %q of the source cannot be read for %s: %s", sc.view.GetName(), name, r.what, column.Reason),
		"write the column as another type, or leave it out")
}

func (sc *sourceChecker) checkTime(at spot, what, name string) {
	column, ok := sc.find(at, role{what: "the " + what, required: true}, name)
	if !ok {
		return
	}
	var refusal error
	if column.CanRead != nil {
		refusal = column.CanRead(feature.Timestamp)
	}
	switch {
	case column.Type == feature.Timestamp && refusal != nil:
		sc.report(at, Error, fmt.Sprintf("feature view %q: the %s is not a TIMESTAMP in every file: %v", sc.view.GetName(), what, refusal), "")
	case column.Type == 0 && (column.CanRead == nil || refusal != nil):
		sc.reportUnreadable(at, role{what: "the " + what}, name, column)
	case column.Type != 0 && column.Type != feature.Timestamp && (column.CanRead == nil || refusal != nil):
		sc.report(at, Error, fmt.Sprintf("feature view %q: the %s column %q is %v, not a TIMESTAMP", sc.view.GetName(), what, name, column.Type), sc.mendTime(name))
	}
}

// checkDeleted checks the column that says which rows delete their entity.
func (sc *sourceChecker) checkDeleted(at spot, name string) {
	column, ok := sc.find(at, role{what: "deletions", absent: "no row there deletes its entity"}, name)
	if !ok {
		return
	}
	why := ""
	switch {
	case column.CanRead != nil:
		if err := column.CanRead(feature.Bool); err != nil {
			why = err.Error()
		}
	case column.Type == 0:
		why = column.Reason
	case column.Type != feature.Bool:
		why = fmt.Sprintf("it is %v", column.Type)
	}
	if why != "" {
		sc.report(at, Error, fmt.Sprintf("feature view %q: column %q of the source, for deletions, cannot be read as BOOL: %s", sc.view.GetName(), name, why),
			"write the column as a BOOL, or name another one")
	}
}

// mendTime names the columns that could be times.
func (sc *sourceChecker) mendTime(name string) string {
	var times []string
	for _, n := range sc.names {
		if sc.columns[n].Type == feature.Timestamp {
			times = append(times, n)
		}
	}
	if len(times) == 0 {
		return "write the column as a Parquet TIMESTAMP or DATE; the source has no column of these types"
	}
	return "name a TIMESTAMP or DATE column; " + nearest(name, times)
}

func (sc *sourceChecker) checkColumn(at spot, r role, name string, want feature.Type) {
	column, ok := sc.find(at, r, name)
	if !ok {
		return
	}
	typeSpot := at
	if at.field == "name" || at.field == "column" {
		typeSpot.field = "type"
	}
	switch {
	case column.CanRead != nil:
		if err := column.CanRead(want); err != nil {
			sc.report(typeSpot, Error, fmt.Sprintf("feature view %q: %s is %v, but %v", sc.view.GetName(), r.what, want, err), "")
		}
	case column.Type == 0:
		sc.reportUnreadable(at, r, name, column)
	case !Converts(column.Type, want):
		sc.report(typeSpot, Error, fmt.Sprintf("feature view %q: %s is %v, but column %q of the source is %v, which does not convert without loss",
			sc.view.GetName(), r.what, want, name, column.Type), fmt.Sprintf("define it as %v, or write the column as %v", column.Type, want))
	}
}
