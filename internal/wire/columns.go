package wire

import (
	"fmt"
	"slices"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// Columns is some rows as named columns of the same length.
type Columns struct {
	// Names of the columns, distinct.
	Names []string
	// Columns in the order of the names.
	Columns []*feature.Column
	// Rows is the length of every column; 0 where there are no columns.
	Rows int
}

// Find returns the column of that name, nil where there is none.
func (c Columns) Find(name string) *feature.Column {
	for i, n := range c.Names {
		if n == name {
			return c.Columns[i]
		}
	}
	return nil
}

// ColumnsFromProto converts the columns of a request. It checks that names are given and distinct and that all columns have the
// same number of rows. field is the path of the columns in the request ("entities"), with which the errors' Field begins; errors are of
// kind Invalid.
func ColumnsFromProto(field string, columns []*twofoldv1.Column) (Columns, error) {
	return columnsFromProto(field, columns, ColumnFromProto)
}

// ResponseColumnsFromProto converts the columns of a response: like ColumnsFromProto, with every status allowed.
func ResponseColumnsFromProto(field string, columns []*twofoldv1.Column) (Columns, error) {
	return columnsFromProto(field, columns, ResponseColumnFromProto)
}

func columnsFromProto(field string, columns []*twofoldv1.Column, convert func(*twofoldv1.Column) (*feature.Column, error)) (Columns, error) {
	out := Columns{Names: make([]string, 0, len(columns)), Columns: make([]*feature.Column, 0, len(columns))}
	path := func(i int) string { return fmt.Sprintf("%s[%d]", field, i) }
	seen := newNames(len(columns))
	for i, m := range columns {
		name := m.GetName()
		if name == "" {
			return Columns{}, fault.InvalidField(path(i)+".name", "a column needs a name")
		}
		if first := seen.add(out.Names, name); first >= 0 {
			return Columns{}, fault.InvalidField(path(i)+".name", "%q is the name of %s[%d] too; each column is given once", name, field, first)
		}
		c, err := convert(m)
		if err != nil {
			return Columns{}, within(path(i), err)
		}
		if i == 0 {
			out.Rows = c.Len()
		} else if c.Len() != out.Rows {
			return Columns{}, fault.InvalidField(path(i), "column %q has %d rows, but column %q has %d; all columns must have the same number of rows",
				name, c.Len(), out.Names[0], out.Rows)
		}
		out.Names = append(out.Names, name)
		out.Columns = append(out.Columns, c)
	}
	return out, nil
}

// names finds a name among earlier ones: a request mostly has so few that looking at each is the fastest.
type names struct{ index map[string]int }

func newNames(n int) names {
	if n <= 8 {
		return names{}
	}
	return names{make(map[string]int, n)}
}

// add returns the index of the name among those before it; where it is new, −1.
func (n names) add(before []string, name string) int {
	if n.index == nil {
		return slices.Index(before, name)
	}
	if at, ok := n.index[name]; ok {
		return at
	}
	n.index[name] = len(before)
	return -1
}
