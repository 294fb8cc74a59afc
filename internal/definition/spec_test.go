package definition

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// TestSpecs runs the text specs in testdata. Their outputs are what users see; `go test -rewrite` writes them anew.
//
//	parse [short]     the definitions, and what is wrong with them (short: without the lines of the file)
//	set               remembers the definitions, which must be right, for the commands below
//	sources           "path: column TYPE, …" a line; what is wrong with the definitions of the last set
//	diff              from the last set to these definitions
//	infer path=…      "column TYPE" or "column - reason" a line; the definitions written, and what is wrong with them
//
// "-- name --" begins another file.
func TestSpecs(t *testing.T) {
	datadriven.Walk(t, "testdata/specs", func(t *testing.T, path string) {
		var last *Set
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "parse":
				set, err := Parse(splitFiles(d.Input), Defaults{})
				return describe(set, err, d.HasArg("short"))
			case "set":
				set, err := Parse(splitFiles(d.Input), Defaults{})
				last = set
				return describe(set, err, false)
			case "sources":
				problems, err := last.CheckSources(t.Context(), parseSchemas(t, d.Input))
				if err != nil {
					t.Fatal(err)
				}
				return list(problems, true)
			case "diff":
				set, err := Parse(splitFiles(d.Input), Defaults{})
				if err != nil {
					t.Fatal(err)
				}
				return describeChanges(Diff(last, set))
			case "infer":
				return inferSpec(t, d)
			default:
				t.Fatalf("%s: no command %q", d.Pos, d.Cmd)
				return ""
			}
		})
	})
}

func splitFiles(input string) []File {
	files := []File{{Name: "features.yaml"}}
	implied := true
	for line := range strings.SplitAfterSeq(input+"\n", "\n") {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "-- "); ok && strings.HasSuffix(name, " --") {
			next := File{Name: strings.TrimSuffix(name, " --")}
			if implied {
				files, implied = nil, false
			}
			files = append(files, next)
			continue
		}
		files[len(files)-1].Data = append(files[len(files)-1].Data, strings.ReplaceAll(line, "→", "\t")...)
	}
	return files
}

func describe(set *Set, err error, short bool) string {
	if problems, ok := errors.AsType[*ProblemsError](err); ok {
		return list(problems.Problems, short)
	}
	if err != nil {
		return "UNEXPECTED " + err.Error()
	}
	text := fmt.Sprintf("ok: %d entities, %d views, %d services", len(set.Registry.Entities()), len(set.Registry.Views()), len(set.Registry.Services()))
	if len(set.Warnings) > 0 {
		text += "\n" + list(set.Warnings, short)
	}
	return text
}

func list(problems []Problem, short bool) string {
	if len(problems) == 0 {
		return "ok"
	}
	lines := make([]string, 0, len(problems))
	for _, p := range problems {
		if short {
			lines = append(lines, p.String())
		} else {
			lines = append(lines, p.Detail())
		}
	}
	return strings.Join(lines, "\n")
}

func describeChanges(changes []Change) string {
	if len(changes) == 0 {
		return "no change"
	}
	lines := make([]string, 0, len(changes))
	for _, c := range changes {
		lines = append(lines, c.String())
	}
	return strings.Join(lines, "\n")
}

// schemas is a SchemaReader of what a spec says.
type schemas map[string][]SourceColumn

func (s schemas) Columns(_ context.Context, path string) ([]SourceColumn, error) {
	columns, ok := s[path]
	if !ok {
		return nil, fault.New(fault.Precondition, "no files match %s", path)
	}
	return columns, nil
}

func parseSchemas(t *testing.T, input string) schemas {
	s := schemas{}
	for line := range strings.Lines(input) {
		path, columns, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			t.Fatalf("%q is not path: column TYPE, …", line)
		}
		s[path] = []SourceColumn{}
		for column := range strings.SplitSeq(columns, ", ") {
			s[path] = append(s[path], parseColumn(t, column))
		}
	}
	return s
}

func parseColumn(t *testing.T, text string) SourceColumn {
	i := strings.LastIndex(text, " - ")
	if i >= 0 {
		return SourceColumn{Name: text[:i], Reason: text[i+3:]}
	}
	i = strings.LastIndex(text, " ")
	typ, ok := feature.ParseType(text[i+1:])
	if !ok {
		t.Fatalf("%q is not column TYPE", text)
	}
	return SourceColumn{Name: text[:i], Type: typ, Nullable: true}
}

func inferSpec(t *testing.T, d *datadriven.TestData) string {
	var path string
	var hints Hints
	d.ScanArgs(t, "path", &path)
	d.MaybeScanArgs(t, "view", &hints.View)
	d.MaybeScanArgs(t, "entity", &hints.Entity)
	d.MaybeScanArgs(t, "event", &hints.EventTimeColumn)
	d.MaybeScanArgs(t, "created", &hints.CreatedTimeColumn)
	var key string
	if d.MaybeScanArgs(t, "keys", &key) {
		hints.Keys = strings.Split(strings.ReplaceAll(key, "%20", " "), "+")
	}
	var columns []SourceColumn
	for line := range strings.Lines(d.Input) {
		columns = append(columns, parseColumn(t, strings.TrimSuffix(line, "\n")))
	}
	data, err := Infer(path, columns, hints)
	if err != nil {
		return err.Error()
	}
	set, err := Parse([]File{{Name: "features.yaml", Data: data}}, Defaults{})
	result := describe(set, err, false)
	if err == nil {
		problems, err := set.CheckSources(t.Context(), schemas{path: columns})
		if err != nil {
			t.Fatal(err)
		}
		result += "\nsources: " + list(problems, true)
	}
	return string(data) + "lint: " + result
}
