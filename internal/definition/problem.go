package definition

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/twofold-ml/twofold/internal/fault"
)

// Severity says whether a problem keeps the definitions from being used.
type Severity uint8

const (
	// Error keeps the definitions from being used.
	Error Severity = iota
	// Warning does not.
	Warning
)

// String returns "error" or "warning".
func (s Severity) String() string {
	if s == Warning {
		return "warning"
	}
	return "error"
}

// Problem is one thing that is wrong with the definitions.
type Problem struct {
	// File is the name of the file; empty where the definitions did not come from files.
	File string
	// Line and Column, in characters, count from 1; 0 where the place is not known.
	Line, Column int
	// Severity is Error or Warning.
	Severity Severity
	// Message says what is wrong.
	Message string
	// Mend says how to mend it.
	Mend string
	// Source is the text of the line; empty where it is not known.
	Source string
	// Timeline draws the problem in a few lines of text: when features are there and when they are absent. Empty where it is not about that.
	Timeline []string

	file int
}

// String returns "file:line:column: message; mend", with "warning: " before the message of a warning.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
		}
		b.WriteString(": ")
	}
	if p.Severity == Warning {
		b.WriteString("warning: ")
	}
	b.WriteString(p.Message)
	if p.Mend != "" {
		b.WriteString("; ")
		b.WriteString(p.Mend)
	}
	return b.String()
}

// Detail returns String and, below it, the line of the file with a caret under the place, and the timeline:
//
//	features.yaml:3:9: there is no entity "aircaft"; did you mean "aircraft"?
//	  3 |   entity: aircaft
//	    |           ^
func (p Problem) Detail() string {
	if p.Line == 0 || p.Source == "" {
		return p.String() + p.drawing()
	}
	number := fmt.Sprintf("%3d", p.Line)
	indent := make([]rune, 0, p.Column)
	for i, r := range []rune(p.Source) {
		if i >= p.Column-1 {
			break
		}
		if r != '\t' {
			r = ' '
		}
		indent = append(indent, r)
	}
	return fmt.Sprintf("%s\n%s | %s\n%*s | %s^%s", p, number, p.Source, len(number), "", string(indent), p.drawing())
}

// drawing returns the timeline, each line after a line break.
func (p Problem) drawing() string {
	var b strings.Builder
	for _, line := range p.Timeline {
		b.WriteString("\n      " + line)
	}
	return b.String()
}

func compareProblems(a, b Problem) int {
	return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
}

// ProblemsError is the error of definitions that cannot be used. Its kind (package fault) is Invalid.
type ProblemsError struct {
	// Problems sorted by place: at least one error, and warnings.
	Problems []Problem
}

// Error returns one line a problem, and the timelines of those that have one.
func (e *ProblemsError) Error() string {
	lines := make([]string, 0, len(e.Problems)+1)
	if len(e.Problems) != 1 {
		lines = append(lines, fmt.Sprintf("the definitions have %d problems:", len(e.Problems)))
	}
	for _, p := range e.Problems {
		lines = append(lines, p.String()+p.drawing())
	}
	return strings.Join(lines, "\n")
}

// As gives the error its kind.
func (e *ProblemsError) As(target any) bool {
	f, ok := target.(**fault.Error)
	if ok {
		*f = &fault.Error{Kind: fault.Invalid, Err: e}
	}
	return ok
}
