package offline

import (
	"fmt"
	"slices"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// wanted is a column that somebody wants to read.
type wanted struct {
	name string
	t    feature.Type
	// role says what for, in a message: "key", "event time", "deleted", "feature".
	role string
	// required columns must be in every file; others are null where they are not.
	required bool
}

// binding says where the values of a wanted column come from in one file.
type binding struct {
	wanted
	// constant is a column of one row: the value of all rows. Nil where the column is stored.
	constant *feature.Column
	stored   column
	missing  bool
}

// bind finds a wanted column in a file.
func (s *source) bind(w wanted) (binding, error) {
	b := binding{wanted: w}
	if p, ok := findPartition(s.partitions, w.name); ok {
		var err error
		if b.constant, err = p.column(w.t); err != nil {
			return b, fault.New(fault.Precondition, "%s: %s column %q: %w", s.object.at, w.role, w.name, err)
		}
		return b, nil
	}
	c, ok := findColumn(s.footer.columns, w.name)
	if !ok {
		if w.required {
			return b, fault.New(fault.Precondition, "%s has no column %q, which is the %s column%s",
				s.object.at, w.name, w.role, feature.DidYouMean(w.name, s.columnNames()))
		}
		b.missing = true
		b.constant = feature.NewColumn(w.t, 1)
		b.constant.AppendMissing(feature.Null)
		return b, nil
	}
	if isTwice(s.footer.columns, w.name) {
		return b, fault.New(fault.Precondition, "%s has two columns %q, and nothing says which of them is the %s column; rename one", s.object.at, w.name, w.role)
	}
	b.stored = c
	if err := c.canRead(w.t); err != nil {
		return b, fault.New(fault.Precondition, "%s: %s column %q is %s, not %v: %w", s.object.at, w.role, w.name, c.found(), w.t, err)
	}
	return b, nil
}

func (s *source) columnNames() []string {
	var names []string
	for _, c := range s.footer.columns {
		names = append(names, c.name)
	}
	for _, p := range s.partitions {
		names = append(names, p.name)
	}
	return names
}

// canRead says why a column cannot be read as a type, or gives nil.
func (c column) canRead(t feature.Type) error {
	if !c.readable {
		return fmt.Errorf("%s", c.reason)
	}
	if c.list != t.IsList() {
		if c.list {
			return fmt.Errorf("the column holds lists; declare it %v", listOf(c.natural, t))
		}
		return fmt.Errorf("the column does not hold lists; declare it %v", t.Elem())
	}
	_, err := converterFor(c.descr, t.Elem())
	return err
}

func listOf(natural, declared feature.Type) feature.Type {
	if natural != 0 {
		return natural
	}
	return declared.List()
}

// isAnywhere reports whether a column is in one of the files, or is one that each has to have.
func (w wanted) isAnywhere(sources []*source) bool {
	return w.required || slices.ContainsFunc(sources, func(s *source) bool { return s.has(w.name) })
}

// checkAnywhere refuses columns that no file has: a misspelt name would otherwise read as nulls.
func checkAnywhere(path string, sources []*source, wants []wanted) error {
	for _, w := range wants {
		if !w.isAnywhere(sources) {
			return fault.New(fault.Precondition, "%s column %q is in none of the %d files of %s%s", w.role, w.name, len(sources), path,
				feature.DidYouMean(w.name, sources[len(sources)-1].columnNames()))
		}
	}
	return nil
}
