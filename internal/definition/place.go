package definition

import (
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// spot names a part of the definitions: a message, one of its fields, an element of a list or an entry of a map.
type spot struct {
	message proto.Message
	// field is empty for the message itself.
	field protoreflect.Name
	// element counts from 1; 0 for the whole field.
	element int
	// key of a map's entry.
	key string
}

// place is where a spot was written.
type place struct {
	file, line, column int
}

// places knows where each part of the definitions was written. Those of definitions that came as messages are empty.
type places struct {
	files  []File
	bySpot map[spot]place

	mu sync.Mutex
	// lines of the files that a problem was reported in.
	lines map[int][]string
}

func newPlaces(files []File) *places {
	return &places{files: files, bySpot: map[spot]place{}, lines: map[int][]string{}}
}

// of returns the place of the nearest enclosing spot that was written.
func (p *places) of(s spot) (place, bool) {
	for _, outer := range []spot{s, {message: s.message, field: s.field}, {message: s.message}} {
		if at, ok := p.bySpot[outer]; ok {
			return at, true
		}
	}
	return place{}, false
}

// line returns the text of a line, shortened where it is long.
func (p *places) line(at place) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines, ok := p.lines[at.file]
	if !ok {
		lines = strings.Split(string(p.files[at.file].Data), "\n")
		p.lines[at.file] = lines
	}
	if at.line < 1 || at.line > len(lines) {
		return ""
	}
	text := strings.TrimPrefix(strings.TrimRight(lines[at.line-1], "\r"), "\ufeff")
	if len(text) > 200 || !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text[:min(200, len(text))], "�")
	}
	return text
}

// checker collects the problems of one set of definitions.
type checker struct {
	defaults Defaults
	defs     *twofoldv1.Definitions
	places   *places
	problems []Problem
	// refused are spots that have an error already, so that no second one follows from the first.
	refused map[spot]bool
	// incomplete is set where a part could not be read at all, so that what refers to it must not be called unknown.
	incomplete bool
	// abandoned is set where the definitions are too large to be checked.
	abandoned bool
	// timetables are those of the views' cron expressions.
	timetables timetables
}

func newChecker(files []File, defaults Defaults) *checker {
	return &checker{
		defaults: defaults.withDefaults(),
		defs:     &twofoldv1.Definitions{},
		places:   newPlaces(files),
		refused:  map[spot]bool{},

		timetables: timetables{},
	}
}

// report adds a problem at a spot.
func (c *checker) report(s spot, severity Severity, message, mend string) {
	c.reportDrawn(s, severity, message, mend, nil)
}

// reportDrawn adds a problem with a timeline at a spot.
func (c *checker) reportDrawn(s spot, severity Severity, message, mend string, timeline []string) {
	if severity == Error {
		c.refused[s] = true
	}
	p := Problem{Severity: severity, Message: message, Mend: mend, Timeline: timeline}
	if at, ok := c.places.of(s); ok {
		p = c.placed(p, at)
	}
	c.problems = append(c.problems, p)
}

// reportNode adds an error at a node of a file that is being read.
func (c *checker) reportNode(file int, node *yaml.Node, message, mend string) {
	c.problems = append(c.problems, c.placed(Problem{Message: message, Mend: mend}, place{file, node.Line, node.Column}))
}

// reportFile adds a problem about a file as a whole.
func (c *checker) reportFile(file int, severity Severity, message, mend string) {
	p := Problem{Severity: severity, Message: message, Mend: mend}
	if file < len(c.places.files) {
		p.File, p.file = c.places.files[file].Name, file
	}
	c.problems = append(c.problems, p)
}

func (c *checker) placed(p Problem, at place) Problem {
	p.File, p.Line, p.Column, p.file = c.places.files[at.file].Name, at.line, at.column, at.file
	p.Source = c.places.line(at)
	return p
}

// where says in words where a spot was written, for a message about another: " (the first is at a.yaml:3:5)"; empty if not known.
func (c *checker) where(s spot) string {
	at, ok := c.places.of(s)
	if !ok {
		return ""
	}
	return " (the first is at " + fmt.Sprintf("%s:%d:%d", c.places.files[at.file].Name, at.line, at.column) + ")"
}
