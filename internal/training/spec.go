package training

import (
	"fmt"
	"runtime"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

// Spec says what a training set is made of.
type Spec struct {
	// Selection is the features, in the order of the columns.
	Selection *feature.Selection
	// Sources are the histories of the selection's views.
	Sources []pit.Source
	// TimeColumn is the entity-row column that holds each row's own time.
	TimeColumn string
	// MaxAge tightens the views' ttl; 0 leaves them.
	MaxAge feature.TTL
	// CreatedTimeCutoff: see pit.Options.
	CreatedTimeCutoff bool
	// EventTimes adds a column a view: the event time of the row that was joined.
	EventTimes bool
	// Statuses adds a STRING column a feature: PRESENT, NULL or NOT_FOUND.
	Statuses bool
	// Times leaves out entity rows at other times; nil keeps all.
	Times *TimeRange
	// Remote says that sources are read over a network: then more of them are read at once than there are processors, because they wait.
	Remote bool
	// BatchRows is the most rows of a batch, and BatchBytes the size above which it is halved.
	BatchRows, BatchBytes int
}

// remoteWorkers is how many parts of remote sources are read at once for each processor.
const remoteWorkers = 2

// workers is how many parts of the sources are read at once.
func (s *Spec) workers() int {
	if s.Remote {
		return remoteWorkers * runtime.GOMAXPROCS(0)
	}
	return runtime.GOMAXPROCS(0)
}

// TimeRange is a range of times of entity rows: from Start up to but without End.
type TimeRange struct{ Start, End feature.AsOf }

// Column is a column that is added to the entity rows'.
type Column struct {
	Name string
	Type feature.Type
}

// What follows a view's name in the name of its event time column, and a feature column's in that of its statuses.
const (
	eventTimeSuffix = ":event_timestamp"
	statusSuffix    = ":status"
)

// Columns are the columns that a training set adds to those of the entity rows, in their order: features, then event times, then statuses.
func (s *Spec) Columns() []Column {
	var columns []Column
	for _, c := range s.Selection.Columns {
		view := s.Selection.Views[c.View]
		columns = append(columns, Column{c.Name, view.View.Features[view.Features[c.Position]].Type})
	}
	if s.EventTimes {
		for _, v := range s.Selection.Views {
			columns = append(columns, Column{v.View.Name + eventTimeSuffix, feature.Timestamp})
		}
	}
	if s.Statuses {
		for _, c := range s.Selection.Columns {
			columns = append(columns, Column{c.Name + statusSuffix, feature.String})
		}
	}
	return columns
}

// checkOwn refuses options that make two columns of the result one name, and those that a view does not allow.
func (s *Spec) checkOwn() error {
	columns := s.Columns()
	seen := make(map[string]bool, len(columns))
	for _, c := range columns {
		if seen[c.Name] {
			return fault.InvalidField("header", "two columns of the result would be named %q; leave out short_names, include_event_times or include_statuses", c.Name)
		}
		seen[c.Name] = true
	}
	if !s.CreatedTimeCutoff {
		return nil
	}
	for _, view := range s.Selection.Views {
		if view.View.Source.CreatedTimeColumn == "" {
			return fault.New(fault.Precondition, "created_time_cutoff: feature view %q has no created_time_column, so when its rows were written is not known; "+
				"define one or leave the cutoff out", view.View.Name)
		}
	}
	return nil
}

// checkNames refuses columns of entity rows whose names clash, with each other or with columns of the result.
func (s *Spec) checkNames(names []string) error {
	columns := s.Columns()
	own := make(map[string]int, len(columns))
	for i, c := range columns {
		own[c.Name] = i
	}
	seen := make(map[string]bool, len(names))
	for i, name := range names {
		field := fmt.Sprintf("entity_rows.columns[%d].name", i)
		if seen[name] {
			return fault.InvalidField(field, "two columns are named %q", name)
		}
		seen[name] = true
		c, clashes := own[name]
		switch {
		case clashes && c < len(s.Selection.Columns):
			return fault.InvalidField(field, "%q is the name of a feature column of the result; rename it, or leave short_names out", name)
		case clashes:
			return fault.InvalidField(field, "%q is the name of a column of the result; rename it", name)
		}
	}
	return nil
}

// keysAndTimes returns the key columns, in the order of Selection.KeyNames, and the times of some entity rows.
func (s *Spec) keysAndTimes(record arrow.RecordBatch) (keys []*feature.Column, times *feature.Column, err error) {
	schema := record.Schema()
	keys = make([]*feature.Column, len(s.Selection.KeyNames))
	for k, key := range s.Selection.KeyNames {
		at := indexOf(schema, key.Name)
		if at < 0 {
			return nil, nil, fault.InvalidField("entity_rows.columns", "no column %q (%v), a key of entity %q, which the features need%s",
				key.Name, key.Type, s.Selection.KeyOwner(key.Name), feature.DidYouMean(key.Name, fieldNames(schema)))
		}
		c, err := columnOf(record, at)
		if err != nil {
			return nil, nil, err
		}
		if keys[k] = c.As(key.Type); keys[k] == nil {
			return nil, nil, fault.InvalidField(fmt.Sprintf("entity_rows.columns[%d]", at), "key %q must be %v, not %v", key.Name, key.Type, c.Type)
		}
	}
	at := indexOf(schema, s.TimeColumn)
	if at < 0 {
		return nil, nil, fault.InvalidField("entity_rows.columns", "no column %q (TIMESTAMP), the time of each entity row; send it, or name another in header.time_column%s",
			s.TimeColumn, feature.DidYouMean(s.TimeColumn, fieldNames(schema)))
	}
	if times, err = columnOf(record, at); err != nil {
		return nil, nil, err
	}
	if times.Type != feature.Timestamp {
		return nil, nil, fault.InvalidField(fmt.Sprintf("entity_rows.columns[%d]", at), "time column %q must be TIMESTAMP, not %v", s.TimeColumn, times.Type)
	}
	return keys, times, nil
}

// columnOf converts a column of a record.
func columnOf(record arrow.RecordBatch, at int) (*feature.Column, error) {
	c, err := arrowwire.FromArray(record.Column(at))
	if err != nil {
		return nil, fault.InvalidField(fmt.Sprintf("entity_rows.columns[%d]", at), "column %q: %w", record.ColumnName(at), err)
	}
	return c, nil
}

func fieldNames(schema *arrow.Schema) []string {
	names := make([]string, schema.NumFields())
	for i, field := range schema.Fields() {
		names[i] = field.Name
	}
	return names
}

func indexOf(schema *arrow.Schema, name string) int {
	return slices.IndexFunc(schema.Fields(), func(f arrow.Field) bool { return f.Name == name })
}
