package training

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

// TestWorkedExamples runs the examples in testdata; testdata/README.md says how to read and write them. With -rewrite the answers are written
// anew: read what changed before you commit it.
func TestWorkedExamples(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if strings.HasSuffix(path, ".md") {
			return
		}
		var e examples
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return e.run(t, d) })
	})
}

// examples is the state of one file: the views and entity rows that it has so far.
type examples struct {
	histories []*history
	files     map[string][]int
	entities  arrow.RecordBatch
}

func (e *examples) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "features":
		return e.features(t, d)
	case "entities":
		e.entities = exampleRecord(t, d, strings.Split(d.Input, "\n"))
		return counted(int(e.entities.NumRows()))
	case "train":
		return e.train(t, d)
	}
	d.Fatalf(t, "no command %q; there are features, entities and train", d.Cmd)
	return ""
}

// features adds a view, or replaces the view of that name.
func (e *examples) features(t *testing.T, d *datadriven.TestData) string {
	var name, keys, ttl string
	d.ScanArgs(t, "view", &name)
	d.ScanArgs(t, "keys", &keys)
	d.MaybeScanArgs(t, "ttl", &ttl)
	lines := slices.DeleteFunc(strings.Split(d.Input, "\n"), func(line string) bool { return line == "next file" })
	record := exampleRecord(t, d, lines)
	h := &history{view: newView(name, nil, nil, false)}
	h.view.TTL = parseDuration(t, ttl)
	h.rows = make([]historyRow, record.NumRows())
	for i, field := range record.Schema().Fields() {
		c, err := arrowwire.FromArray(record.Column(i))
		require.NoError(t, err)
		isKey := slices.Contains(strings.Split(keys, "+"), field.Name)
		switch {
		case isKey:
			h.view.Entity.Keys = append(h.view.Entity.Keys, feature.Key{Name: field.Name, Type: c.Type})
		case field.Name == "created_time":
			h.view.Source.CreatedTimeColumn = field.Name
		case field.Name != "event_time":
			h.view.Features = append(h.view.Features, feature.Feature{Name: field.Name, Type: c.Type})
		}
		for row := range h.rows {
			cell := c.ValueAt(row)
			switch {
			case isKey:
				h.rows[row].keys = append(h.rows[row].keys, cell)
			case field.Name == "created_time":
				h.rows[row].created = cell
			case field.Name == "event_time":
				h.rows[row].event = cell
			default:
				h.rows[row].values = append(h.rows[row].values, cell)
			}
		}
	}
	e.histories = append(slices.DeleteFunc(e.histories, func(old *history) bool { return old.view.Name == name }), h)
	if e.files == nil {
		e.files = map[string][]int{}
	}
	e.files[name] = fileEnds(strings.Split(d.Input, "\n")[1:])
	return counted(len(h.rows))
}

func counted(rows int) string {
	if rows == 1 {
		return "1 row"
	}
	return fmt.Sprintf("%d rows", rows)
}

// fileEnds are where the files of a history end, the last of them at the number of rows.
func fileEnds(lines []string) (ends []int) {
	rows := 0
	for _, line := range lines {
		if line == "next file" {
			ends = append(ends, rows)
		} else {
			rows++
		}
	}
	return append(ends, rows)
}

// train makes the training set in several ways, which must all give the same answer.
func (e *examples) train(t *testing.T, d *datadriven.TestData) string {
	var first string
	for i, w := range []way{
		{memory: 1 << 30, rowsMemory: 1 << 30, batchRows: 8192},
		{memory: 8 << 10, rowsMemory: 0, batchRows: 2},
		{memory: 4 << 10, rowsMemory: 0, batchRows: 1},
	} {
		answer, err := e.trainOnce(t, d, w)
		if err != nil {
			answer = fmt.Sprintf("error (%v): %v", fault.KindOf(err), err)
		}
		if i == 0 {
			first = answer
		}
		require.Equal(t, first, answer, "%s: %+v", d.Pos, w)
	}
	return first
}

func (e *examples) trainOnce(t *testing.T, d *datadriven.TestData, w way) (string, error) {
	spec := e.spec(t, d)
	spec.BatchRows = w.batchRows
	rows, err := NewEntityRows(spec, tinyBudget(w.memory), unlimited(t))
	if err != nil {
		return "", err
	}
	defer func() { require.NoError(t, rows.Close()) }()
	if d.HasArg("entityless") {
		times := spec.Times
		spec.Times = nil
		err = rows.AppendEvents(t.Context(), feature.EventTime(times.Start), feature.EventTime(times.End))
	} else if err = rows.Start(e.entities.Schema()); err == nil {
		rows.spool.memoryBytes = w.rowsMemory
		err = rows.Append(e.entities)
	}
	if err != nil {
		return "", err
	}
	require.NoError(t, rows.Finish())
	set := NewSet(rows, &Progress{})
	var lines [][]string
	err = Run(t.Context(), set, func(b *Batch) ([][]string, error) { return exampleCells(b) }, func(batch [][]string) error {
		lines = append(lines, batch...)
		return nil
	})
	if err != nil {
		return "", err
	}
	answer := aligned(append([][]string{fieldNames(set.Schema())}, lines...))
	if d.HasArg("manifest") {
		answer += fmt.Sprintf("row_count: %d\nfiltered_rows: %d\n", rows.Len(), rows.Filtered())
		for v, view := range spec.Selection.Views {
			answer += fmt.Sprintf("unmatched_rows of %s: %d\n", view.View.Name, set.Stats(v).Unmatched)
		}
		answer += fmt.Sprintf("content_hash of the entity rows: %s\ncontent_hash: %s\n", rows.Hash(), set.Hash())
	}
	return answer, nil
}

// spec reads the options of train.
func (e *examples) spec(t *testing.T, d *datadriven.TestData) *Spec {
	var features, maxAge, from, to string
	d.MaybeScanArgs(t, "features", &features)
	d.MaybeScanArgs(t, "max_age", &maxAge)
	spec := &Spec{
		TimeColumn: "time", MaxAge: parseDuration(t, maxAge), CreatedTimeCutoff: d.HasArg("created_time_cutoff"),
		EventTimes: d.HasArg("event_times"), Statuses: d.HasArg("statuses"),
	}
	if d.HasArg("from") {
		d.ScanArgs(t, "from", &from)
		d.ScanArgs(t, "to", &to)
		spec.Times = &TimeRange{Start: feature.AsOf(parseTime(t, from)), End: feature.AsOf(parseTime(t, to))}
	}
	names := strings.Split(features, "+")
	var views []*feature.View
	for _, h := range e.histories {
		views = append(views, h.view)
		if features == "" {
			names = append(names, h.view.Name+":*")
		}
	}
	spec.Selection = selectFeatures(t, slices.DeleteFunc(names, func(name string) bool { return name == "" }), views...)
	for _, view := range spec.Selection.Views {
		h := e.histories[slices.IndexFunc(e.histories, func(h *history) bool { return h.view == view.View })]
		spec.Sources = append(spec.Sources, &memorySource{history: h, ends: e.files[h.view.Name], batch: 1 + rand.IntN(4)})
	}
	return spec
}

var exampleCell = regexp.MustCompile(`"[^"]*"|\S+`)

// exampleRecord reads a table: a header of name:TYPE, then rows. Columns of times need no type.
func exampleRecord(t *testing.T, d *datadriven.TestData, lines []string) arrow.RecordBatch {
	var names []string
	var columns []*feature.Column
	for word := range strings.FieldsSeq(lines[0]) {
		name, typeName, _ := strings.Cut(word, ":")
		typ, ok := feature.ParseType(typeName)
		if strings.HasSuffix(name, "time") {
			typ, ok = feature.Timestamp, true
		}
		require.True(t, ok, "%s: %q is not name:TYPE", d.Pos, word)
		names, columns = append(names, name), append(columns, feature.NewColumn(typ, 0))
	}
	for _, line := range lines[1:] {
		cells := exampleCell.FindAllString(line, -1)
		require.Len(t, cells, len(columns), "%s: %q", d.Pos, line)
		for i, cell := range cells {
			appendCell(columns[i], parseCell(t, columns[i].Type, cell))
		}
	}
	return recordOf(t, names, columns...)
}

func parseCell(t *testing.T, typ feature.Type, cell string) any {
	if cell == "null" {
		return nil
	}
	var v any
	var err error
	switch typ {
	case feature.Timestamp:
		v = parseTime(t, cell)
	case feature.Int64:
		v, err = strconv.ParseInt(cell, 10, 64)
	case feature.Double:
		v, err = strconv.ParseFloat(cell, 64)
	case feature.Bool:
		v, err = strconv.ParseBool(cell)
	case feature.String:
		v = strings.Trim(cell, `"`)
	default:
		t.Fatalf("no cells of %v in examples", typ)
	}
	require.NoError(t, err, cell)
	return v
}

// Times of examples are of one day.
const (
	exampleDay    = "2013-01-01T"
	exampleLayout = "2006-01-02T15:04:05.999999"
)

// parseTime reads 10:00, 10:00:00.000001, or the same after a day and a T.
func parseTime(t *testing.T, text string) int64 {
	if !strings.Contains(text, "T") {
		text = exampleDay + text
	}
	if strings.Count(text, ":") == 1 {
		text += ":00"
	}
	at, err := time.Parse(exampleLayout, text)
	require.NoError(t, err)
	return at.UnixMicro()
}

func parseDuration(t *testing.T, text string) feature.TTL {
	if text == "" {
		return 0
	}
	duration, err := time.ParseDuration(text)
	require.NoError(t, err)
	return feature.TTLOf(duration)
}

// exampleCells are the cells of a batch: null for a null, none where no feature row was found.
func exampleCells(b *Batch) ([][]string, error) {
	columns := make([]*feature.Column, len(b.Entities), len(b.Entities)+len(b.Added))
	for i, a := range b.Entities {
		var err error
		if columns[i], err = arrowwire.FromArray(a); err != nil {
			return nil, err
		}
	}
	lines := make([][]string, b.Rows)
	for row := range lines {
		for _, c := range append(columns, b.Added...) {
			lines[row] = append(lines[row], cellText(c, row))
		}
	}
	return lines, nil
}

func cellText(c *feature.Column, row int) string {
	switch {
	case c.Status[row] == feature.NotFound:
		return "none"
	case c.Status[row] == feature.Null:
		return "null"
	case c.Type == feature.Timestamp:
		text := time.UnixMicro(c.Int64s[row]).UTC().Format(exampleLayout)
		return strings.TrimSuffix(strings.TrimPrefix(text, exampleDay), ":00")
	}
	text := fmt.Sprint(c.ValueAt(row))
	if text == "" || strings.Contains(text, " ") {
		return strconv.Quote(text)
	}
	return text
}

// aligned writes a table with aligned columns.
func aligned(lines [][]string) string {
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	for _, line := range lines {
		_, _ = fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	_ = w.Flush()
	return regexp.MustCompile(`(?m) +$`).ReplaceAllString(out.String(), "")
}
