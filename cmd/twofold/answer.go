package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/wire"
)

// answer is an online answer, ready to be printed.
type answer struct {
	asOf  time.Time
	names []string
	// columns are the entity keys first, keys of them, then the features.
	columns []*feature.Column
	// values are the columns with every row PRESENT whose value is shown: expired rows too, where they were asked for.
	values []*feature.Column
	keys   int
	rows   int
	views  []*twofoldv1.ViewMetadata
}

// answerPrinters has a printer for each output format.
var answerPrinters = map[string]func(*answer, io.Writer) error{
	"table": (*answer).table,
	"json":  (*answer).json,
	"csv":   (*answer).csv,
}

// newAnswer converts a response whose first columns are the entity keys. Its expired rows have values if the request said so.
func newAnswer(r *twofoldv1.GetOnlineFeaturesResponse, keys int, expired bool) (*answer, error) {
	a := &answer{asOf: time.UnixMicro(r.GetAsOfMicros()).UTC(), keys: keys, views: r.GetViews()}
	for i, m := range r.GetColumns() {
		c, err := wire.ResponseColumnFromProto(m)
		if err != nil {
			return nil, fault.New(fault.Internal, "the server's column %q cannot be read: %w", m.GetName(), err)
		}
		if i > 0 && c.Len() != a.rows {
			return nil, fault.New(fault.Internal, "the server's column %q has %d rows where others have %d", m.GetName(), c.Len(), a.rows)
		}
		a.rows = c.Len()
		a.names = append(a.names, m.GetName())
		a.columns = append(a.columns, c)
		if expired {
			c = withExpired(c)
		}
		a.values = append(a.values, c)
	}
	if len(a.columns) < keys {
		return nil, fault.New(fault.Internal, "the server left out the entity keys")
	}
	return a, nil
}

// withExpired returns the column with its expired rows made PRESENT.
func withExpired(c *feature.Column) *feature.Column {
	out := *c
	out.Status = slices.Clone(c.Status)
	for i, s := range out.Status {
		if s == feature.Expired {
			out.Status[i] = feature.Present
		}
	}
	return &out
}

// cell returns a value for a table: the value, or its status in brackets, or both where an expired row has its value.
func (a *answer) cell(column, row int) string {
	text := cell(a.values[column], row)
	if a.columns[column].Status[row] == feature.Expired && a.values[column].IsPresent(row) {
		text += " (" + feature.Expired.String() + ")"
	}
	return text
}

// csvCell returns a value, "" where there is none.
func (a *answer) csvCell(column, row int) string { return a.values[column].TextAt(row) }

// faults returns why views could not be read whole, by name.
func (a *answer) faults() map[string]string {
	faults := map[string]string{}
	for _, view := range a.views {
		if view.GetFault() != nil {
			faults[view.GetName()] = view.GetFault().GetMessage()
		}
	}
	return faults
}

// eventTime returns the event time of a view's row, "" where there is none.
func eventTime(view *twofoldv1.ViewMetadata, row int) string {
	if row >= len(view.GetEventTimesMicros()) || view.GetEventTimesMicros()[row] == 0 {
		return ""
	}
	return formatTime(view.GetEventTimesMicros()[row])
}

// widestTable is the most entities that are shown side by side.
const widestTable = 6

// table prints one line a feature where there are few entities, else one line an entity.
func (a *answer) table(w io.Writer) error {
	if a.rows > widestTable {
		return a.long(w)
	}
	head := []string{"feature"}
	for row := range a.rows {
		var entity []string
		for k := range a.keys {
			entity = append(entity, cell(a.columns[k], row))
		}
		head = append(head, strings.Join(entity, " "))
	}
	t := newTable(head...)
	for i := a.keys; i < len(a.columns); i++ {
		t.add(a.line(a.names[i], func(row int) string { return a.cell(i, row) })...)
	}
	for _, view := range a.views {
		if len(view.GetEventTimesMicros()) > 0 {
			t.add(a.line(view.GetName()+" (event time)", func(row int) string { return orNone(eventTime(view, row)) })...)
		}
	}
	if err := t.write(w); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "as of %s\n", a.asOf.Format(time.RFC3339Nano))
	return err
}

func (a *answer) line(name string, value func(row int) string) []string {
	cells := []string{name}
	for row := range a.rows {
		cells = append(cells, value(row))
	}
	return cells
}

func orNone(text string) string {
	if text == "" {
		return "(none)"
	}
	return text
}

// long prints one line an entity.
func (a *answer) long(w io.Writer) error {
	t := newTable(a.head()...)
	for row := range a.rows {
		t.add(a.record(row, a.cell, orNone)...)
	}
	if err := t.write(w); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "as of %s\n", a.asOf.Format(time.RFC3339Nano))
	return err
}

func (a *answer) head() []string {
	head := append([]string(nil), a.names...)
	for _, view := range a.views {
		if len(view.GetEventTimesMicros()) > 0 {
			head = append(head, view.GetName()+":event_timestamp")
		}
	}
	return head
}

func (a *answer) record(row int, value func(column, row int) string, time func(string) string) []string {
	var cells []string
	for i := range a.columns {
		cells = append(cells, value(i, row))
	}
	for _, view := range a.views {
		if len(view.GetEventTimesMicros()) > 0 {
			cells = append(cells, time(eventTime(view, row)))
		}
	}
	return cells
}

// csv prints one record an entity; a value that is not there is an empty cell.
func (a *answer) csv(w io.Writer) error {
	out := csv.NewWriter(w)
	_ = out.Write(a.head()) // Error below has it
	for row := range a.rows {
		_ = out.Write(a.record(row, a.csvCell, func(s string) string { return s })) // as above
	}
	out.Flush()
	return out.Error()
}

// answerJSON is how an answer is written as JSON.
type answerJSON struct {
	AsOf time.Time       `json:"as_of"`
	Rows []answerRowJSON `json:"rows"`
	// Faults says by view why values are UNAVAILABLE.
	Faults map[string]string `json:"faults,omitempty"`
}

type answerRowJSON struct {
	Entity   map[string]any `json:"entity"`
	Features map[string]any `json:"features"`
	// Status has the features that are not PRESENT, whose value is null, unless they are EXPIRED and such values were asked for.
	Status     map[string]string `json:"status,omitempty"`
	EventTimes map[string]string `json:"event_times,omitempty"`
}

func (a *answer) json(w io.Writer) error {
	out := answerJSON{AsOf: a.asOf, Rows: make([]answerRowJSON, a.rows), Faults: a.faults()}
	for row := range a.rows {
		r := answerRowJSON{Entity: map[string]any{}, Features: map[string]any{}, Status: map[string]string{}, EventTimes: map[string]string{}}
		for i, c := range a.columns {
			if i < a.keys {
				r.Entity[a.names[i]] = c.JSONAt(row)
				continue
			}
			r.Features[a.names[i]] = a.values[i].JSONAt(row)
			if !c.IsPresent(row) {
				r.Status[a.names[i]] = c.Status[row].String()
			}
		}
		for _, view := range a.views {
			if t := eventTime(view, row); t != "" {
				r.EventTimes[view.GetName()] = t
			}
		}
		out.Rows[row] = r
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(out)
}
