package wire

import (
	"fmt"

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
	seen := make(map[string]int, len(columns))
	for i, m := range columns {
		path := fmt.Sprintf("%s[%d]", field, i)
		name := m.GetName()
		if name == "" {
			return Columns{}, fault.InvalidField(path+".name", "a column needs a name")
		}
		if first, ok := seen[name]; ok {
			return Columns{}, fault.InvalidField(path+".name", "%q is the name of %s[%d] too; each column is given once", name, field, first)
		}
		seen[name] = i
		c, err := convert(m)
		if err != nil {
			return Columns{}, within(path, err)
		}
		if i == 0 {
			out.Rows = c.Len()
		} else if c.Len() != out.Rows {
			return Columns{}, fault.InvalidField(path, "column %q has %d rows, but column %q has %d; all columns must have the same number of rows",
				name, c.Len(), out.Names[0], out.Rows)
		}
		out.Names = append(out.Names, name)
		out.Columns = append(out.Columns, c)
	}
	return out, nil
}
