package pit_test

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/cockroachdb/datadriven"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// TestSpec runs the specifications in testdata; testdata/README.md says how to read and write them. With -rewrite the answers are written
// anew: read what changed before you commit it.
func TestSpec(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if strings.HasSuffix(path, ".md") {
			return
		}
		var s spec
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.run(t, d) })
	})
}

// spec is the state of one file: the views and entity rows that it has defined so far.
type spec struct {
	views    []*specView
	entities specTable
}

type specView struct {
	view  *feature.View
	ttl   feature.TTL
	files []*table
}

func (s *spec) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "features":
		return s.defineFeatures(t, d)
	case "entities":
		s.entities = parseTable(t, d, strings.Split(d.Input, "\n"))
		return counted(s.entities.columns[0].Len(), "row", "rows")
	case "join":
		return s.join(t, d)
	case "latest":
		return s.latest(t, d)
	}
	d.Fatalf(t, "no command %q; there are features, entities, join and latest", d.Cmd)
	return ""
}

// defineFeatures adds a view, or replaces the view of that name.
func (s *spec) defineFeatures(t *testing.T, d *datadriven.TestData) string {
	var name, keys string
	ttl := "forever"
	d.ScanArgs(t, "view", &name)
	d.MaybeScanArgs(t, "ttl", &ttl)
	d.ScanArgs(t, "keys", &keys)
	v := &specView{ttl: parseTTL(t, d, ttl)}
	lines := strings.Split(d.Input, "\n")
	rows := 0
	for from := 1; from <= len(lines); {
		to := from
		for to < len(lines) && lines[to] != "next file" {
			to++
		}
		file := parseTable(t, d, append([]string{lines[0]}, lines[from:to]...))
		view, tab := file.asView(t, d, name, strings.Split(keys, "+"))
		v.view = view
		v.files = append(v.files, tab)
		rows += tab.rows()
		from = to + 1
	}
	answer := counted(rows, "row", "rows") + " in " + counted(len(v.files), "file", "files")
	for i, old := range s.views {
		if old.view.Name == name {
			s.views[i] = v
			return answer
		}
	}
	s.views = append(s.views, v)
	return answer
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// variants are ways to read the same rows. All must give the same answer.
var variants = []struct{ workers, batch int }{{1, 1 << 20}, {1, 1}, {4, 1}, {4, 2}}

// join joins all views to the entity rows.
func (s *spec) join(t *testing.T, d *datadriven.TestData) string {
	var answers []string
	for _, variant := range variants {
		options := pit.Options{CreatedTimeCutoff: d.HasArg("created_time_cutoff"), Workers: variant.workers}
		answers = append(answers, s.joinOnce(t, d, options, variant.batch))
		if last := answers[len(answers)-1]; last != answers[0] {
			t.Fatalf("%s: %+v gives\n%s\nand not\n%s", d.Pos, variant, last, answers[0])
		}
	}
	return answers[0]
}

func (s *spec) joinOnce(t *testing.T, d *datadriven.TestData, options pit.Options, batch int) string {
	rows := pit.NewEntityRows(s.entities.keys())
	if err := rows.Append(s.entities.keyColumns(), s.entities.column(t, d, "time")); err != nil {
		return describe(err)
	}
	var joins []pit.ViewJoin
	for _, v := range s.views {
		joins = append(joins, v.join(t, d, &s.entities, batch))
	}
	j, err := pit.Join(t.Context(), rows, joins, options)
	if err != nil {
		return describe(err)
	}
	out := s.entities
	for i, v := range s.views {
		columns := []*feature.Column{feature.NewColumn(feature.Timestamp, 0)}
		out.names = append(out.names, v.view.Name+":event_time")
		for _, f := range v.view.Features {
			columns = append(columns, feature.NewColumn(f.Type, 0))
			out.names = append(out.names, v.view.Name+":"+f.Name)
		}
		j.EventTimes(i, 0, j.Rows(), columns[0])
		j.Batch(i, 0, j.Rows(), columns[1:])
		out.columns = append(out.columns, columns...)
	}
	text := out.String()
	if d.HasArg("stats") {
		for i, v := range s.views {
			st := j.Stats(i)
			text += fmt.Sprintf("%s: %d read, %d pruned, %d with a null, %d unmatched\n", v.view.Name, st.RowsRead, st.RowsPruned, st.RowsNull, st.Unmatched)
		}
	}
	return text
}

// join asks for all features of the view, whose keys the entity rows have by name.
func (v *specView) join(t *testing.T, d *datadriven.TestData, entities *specTable, batch int) pit.ViewJoin {
	join := pit.ViewJoin{View: v.view, TTL: v.ttl, Source: v.source(batch)}
	for i := range v.view.Features {
		join.Features = append(join.Features, i)
	}
	for _, key := range v.view.Entity.Keys {
		place := -1
		for i, k := range entities.keys() {
			if k.Name == key.Name {
				place = i
			}
		}
		if place < 0 {
			d.Fatalf(t, "the entities have no key %q", key.Name)
		}
		join.Keys = append(join.Keys, place)
	}
	return join
}

func (v *specView) source(batch int) *memorySource {
	source := &memorySource{}
	for i, file := range v.files {
		source.fragments = append(source.fragments, &memoryFragment{table: file, batch: batch, file: fmt.Sprintf("file %d", i+1)})
	}
	return source
}

// latest prints the newest row of each entity of a view.
func (s *spec) latest(t *testing.T, d *datadriven.TestData) string {
	var name, asOf string
	maxAge := "forever"
	d.ScanArgs(t, "view", &name)
	d.ScanArgs(t, "as_of", &asOf)
	d.MaybeScanArgs(t, "max_age", &maxAge)
	versions, maxEventTime := 0, ""
	d.MaybeScanArgs(t, "versions", &versions)
	d.MaybeScanArgs(t, "max_event_time", &maxEventTime)
	at := feature.NewColumn(feature.Timestamp, 0)
	parseValue(t, d, at, asOf)
	if maxEventTime != "" {
		parseValue(t, d, at, maxEventTime)
	}
	for _, v := range s.views {
		if v.view.Name != name {
			continue
		}
		var answers []string
		for _, variant := range variants {
			o := pit.LatestOptions{AsOf: feature.AsOf(at.Int64s[0]), MaxAge: parseTTL(t, d, maxAge), Versions: versions, Workers: variant.workers}
			if maxEventTime != "" {
				o.MaxEventTime = feature.EventTime(at.Int64s[1])
			}
			answers = append(answers, v.latestOnce(t, o, variant.batch, d.HasArg("bad")))
			if last := answers[len(answers)-1]; last != answers[0] {
				t.Fatalf("%s: %+v gives\n%s\nand not\n%s", d.Pos, variant, last, answers[0])
			}
		}
		return answers[0]
	}
	d.Fatalf(t, "no view %q", name)
	return ""
}

func (v *specView) latestOnce(t *testing.T, o pit.LatestOptions, batch int, showBad bool) string {
	var bad badSink
	o.Bad = bad.add
	w, err := pit.Latest(t.Context(), v.view, v.source(batch), o)
	if err != nil {
		return describe(err)
	}
	out := specTable{}
	var features []int
	for _, key := range v.view.Entity.Keys {
		out.add(key.Name, key.Type)
	}
	out.add("event_time", feature.Timestamp)
	if v.view.Source.DeletedColumn != "" {
		out.add("deleted", feature.Bool)
	}
	for i, f := range v.view.Features {
		out.add(f.Name, f.Type)
		features = append(features, i)
	}
	err = w.Batches(t.Context(), batch, features, func(b pit.WinnerBatch) error {
		all := append(append([]*feature.Column{}, b.Keys...), b.EventTimes)
		if v.view.Source.DeletedColumn != "" {
			deleted := feature.NewColumn(feature.Bool, b.Len())
			for i := range b.Len() {
				deleted.AppendBool(b.Tombstones != nil && b.Tombstones[i])
			}
			all = append(all, deleted)
		}
		all = append(all, b.Features...)
		for i, c := range all {
			out.columns[i].AppendColumn(c)
		}
		return nil
	})
	if err != nil {
		return describe(err)
	}
	st := w.Stats()
	found := counted(int(st.Entities), "entity", "entities")
	if o.Versions > 1 {
		found += ", " + counted(int(st.Winners), "version", "versions")
	}
	text := out.String() + fmt.Sprintf("%s; %d rows read, %d with a null, %d in the future, %d too old\n",
		found, st.RowsRead, st.RowsBad[pit.NullKey]+st.RowsBad[pit.NullEventTime], st.RowsFuture, st.RowsOld)
	due := w.Due()
	for _, file := range slices.Sorted(maps.Keys(due)) {
		text += fmt.Sprintf("%s: due at %s\n", file, formatTime(int64(due[file])))
	}
	if showBad {
		text += fmt.Sprintf("%d bad\n%s", st.RowsBad.Total(), &bad)
	}
	return text
}

func describe(err error) string { return fmt.Sprintf("error (%v): %v", fault.KindOf(err), err) }

// specTable is a small table of text: a header with name:TYPE, then rows, cells parted by blanks.
type specTable struct {
	names   []string
	columns []*feature.Column
}

var cell = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|\[[^\]]*\]|\S+`)

// String writes the table with aligned columns.
func (s *specTable) String() string {
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(s.names, "\t"))
	for row := range s.columns[0].Len() {
		cells := make([]string, len(s.columns))
		for i, c := range s.columns {
			cells[i] = formatValue(c, row)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	w.Flush()
	return regexp.MustCompile(`(?m) +$`).ReplaceAllString(out.String(), "")
}

func (s *specTable) add(name string, t feature.Type) {
	s.names = append(s.names, name)
	s.columns = append(s.columns, feature.NewColumn(t, 0))
}

// isTime reports whether a column of that name holds times without saying so.
func isTime(name string) bool {
	return name == "time" || name == "event_time" || name == "created_time"
}

func (s *specTable) column(t *testing.T, d *datadriven.TestData, name string) *feature.Column {
	for i, n := range s.names {
		if n == name {
			return s.columns[i]
		}
	}
	d.Fatalf(t, "there is no column %q", name)
	return nil
}

// keys returns the columns of an entity table that are not its time.
func (s *specTable) keys() (keys []feature.Key) {
	for i, name := range s.names {
		if name != "time" {
			keys = append(keys, feature.Key{Name: name, Type: s.columns[i].Type})
		}
	}
	return keys
}

func (s *specTable) keyColumns() (columns []*feature.Column) {
	for i, name := range s.names {
		if name != "time" {
			columns = append(columns, s.columns[i])
		}
	}
	return columns
}

// asView splits a table of features into its keys, times and features.
func (s *specTable) asView(t *testing.T, d *datadriven.TestData, name string, keys []string) (*feature.View, *table) {
	view := newView(name, nil, nil, false)
	tab := &table{events: s.column(t, d, "event_time")}
	for _, key := range keys {
		c := s.column(t, d, key)
		view.Entity.Keys = append(view.Entity.Keys, feature.Key{Name: key, Type: c.Type})
		tab.keys = append(tab.keys, c)
	}
	for i, n := range s.names {
		switch {
		case n == "created_time":
			view.Source.CreatedTimeColumn = n
			tab.created = s.columns[i]
		case n == "deleted":
			view.Source.DeletedColumn = n
			tab.deleted = s.columns[i]
		case n != "event_time" && !strings.Contains("+"+strings.Join(keys, "+")+"+", "+"+n+"+"):
			view.Features = append(view.Features, feature.Feature{Name: n, Type: s.columns[i].Type})
			tab.features = append(tab.features, s.columns[i])
		}
	}
	return view, tab
}
