package offline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/twofold-ml/twofold/internal/feature"
)

// column is one readable, or named but unreadable, column of one file.
type column struct {
	// name is the dotted path of the column as a user writes it: of a list, the path of the list.
	name string
	// leaf is the index of the stored column.
	leaf  int
	descr *schema.Column
	// natural is the type that the column has by itself; 0 where it is unreadable or has to be declared.
	natural feature.Type
	// reason says why natural is 0.
	reason   string
	nullable bool
	list     bool
	// listLevel is the definition level of a list that is there but empty; below it the list, or something around it, is null.
	listLevel int16
	// readable is false where no declared type helps.
	readable bool
	// anyText says that text is read as it is, also where it is not UTF-8.
	anyText bool
}

// columnsOf gives the columns of a schema in their order.
func columnsOf(s *schema.Schema) []column {
	w := columnWalker{schema: s}
	root := s.Root()
	for i := range root.NumFields() {
		w.walk(root.Field(i), "", 0)
	}
	return w.columns
}

// columnWalker flattens a schema.
type columnWalker struct {
	schema  *schema.Schema
	columns []column
	leaf    int
}

// walk adds the columns of a node. level is the definition level of a value whose ancestors are all there.
func (w *columnWalker) walk(n schema.Node, prefix string, level int16) {
	c := column{name: prefix + n.Name(), leaf: w.leaf, nullable: level > 0 || n.RepetitionType() == parquet.Repetitions.Optional}
	if n.RepetitionType() == parquet.Repetitions.Optional {
		level++
	}
	group, isGroup := n.(*schema.GroupNode)
	switch {
	case !isGroup && n.RepetitionType() == parquet.Repetitions.Repeated:
		// A repeated field outside of a list is a list of required elements that is never null itself.
		c.list, c.listLevel = true, level
		w.add(c)
	case !isGroup:
		w.add(c)
	case isList(n):
		w.walkList(c, group, level)
	case isMap(n):
		w.refuse(c, n, "it is a map, which features cannot be; write one column a key")
	case n.RepetitionType() == parquet.Repetitions.Repeated:
		w.refuse(c, n, "it is a list of structs; write one list a field")
	default:
		for i := range group.NumFields() {
			w.walk(group.Field(i), c.name+".", level)
		}
	}
}

// walkList finds the element of a group that is annotated as a list, by the rules of the format for its standard form
// (list.element) and for the forms that older writers used.
func (w *columnWalker) walkList(c column, group *schema.GroupNode, level int16) {
	c.list, c.listLevel = true, level
	if group.RepetitionType() == parquet.Repetitions.Repeated {
		w.refuse(c, group, "it is a list of lists; features are flat")
		return
	}
	if group.NumFields() != 1 || group.Field(0).RepetitionType() != parquet.Repetitions.Repeated {
		w.refuse(c, group, "it is called a list but does not repeat one field")
		return
	}
	repeated := group.Field(0)
	inner, isGroup := repeated.(*schema.GroupNode)
	if !isGroup {
		w.add(c) // the two-level form: the repeated field is the element, and required
		return
	}
	if inner.NumFields() != 1 || inner.Name() == "array" || inner.Name() == group.Name()+"_tuple" {
		w.refuse(c, group, "it is a list of structs; write one list a field")
		return
	}
	element := inner.Field(0)
	if _, nested := element.(*schema.GroupNode); nested || element.RepetitionType() == parquet.Repetitions.Repeated {
		w.refuse(c, group, "it is a list of lists or structs; features are flat")
		return
	}
	w.add(c)
}

// add takes the next leaf as the column.
func (w *columnWalker) add(c column) {
	c.descr = w.schema.Column(w.leaf)
	c.natural, c.reason, c.readable = naturalType(c.descr)
	if c.list && c.natural != 0 {
		c.natural = c.natural.List()
	}
	w.columns = append(w.columns, c)
	w.leaf++
}

// refuse takes all leaves below n as one unreadable column.
func (w *columnWalker) refuse(c column, n schema.Node, reason string) {
	c.reason = reason
	w.columns = append(w.columns, c)
	w.leaf += countLeaves(n)
}

func countLeaves(n schema.Node) int {
	group, ok := n.(*schema.GroupNode)
	if !ok {
		return 1
	}
	leaves := 0
	for i := range group.NumFields() {
		leaves += countLeaves(group.Field(i))
	}
	return leaves
}

func isList(n schema.Node) bool {
	if _, ok := n.LogicalType().(schema.ListLogicalType); ok {
		return true
	}
	return n.ConvertedType() == schema.ConvertedTypes.List
}

func isMap(n schema.Node) bool {
	if _, ok := n.LogicalType().(schema.MapLogicalType); ok {
		return true
	}
	return n.ConvertedType() == schema.ConvertedTypes.Map || n.ConvertedType() == schema.ConvertedTypes.MapKeyValue
}

// findColumn finds a column by its exact name.
func findColumn(columns []column, name string) (column, bool) {
	i := slices.IndexFunc(columns, func(c column) bool { return c.name == name })
	if i < 0 {
		return column{}, false
	}
	return columns[i], true
}

// isTwice reports whether two columns have that exact name: the format does not forbid it.
func isTwice(columns []column, name string) bool {
	found := 0
	for _, c := range columns {
		if c.name == name {
			found++
		}
	}
	return found > 1
}

// describe says what is stored in a column, in Parquet's words.
func describe(d *schema.Column) string {
	if d == nil {
		return "a nested column"
	}
	text := d.PhysicalType().String()
	if logical := d.LogicalType(); logical != nil && !logical.IsNone() {
		text += " " + logical.String()
	}
	return strings.TrimSpace(text)
}

func listPrefix(c column) string {
	if c.list {
		return "list of "
	}
	return ""
}

// found says what a column is, for a message.
func (c column) found() string {
	if c.natural != 0 {
		return fmt.Sprintf("%v (%s%s)", c.natural, listPrefix(c), describe(c.descr))
	}
	return listPrefix(c) + describe(c.descr)
}

// sameForm reports whether two columns are read alike as any type.
func (c column) sameForm(other column) bool {
	return c.natural == other.natural && c.reason == other.reason && c.list == other.list && c.readable == other.readable && describe(c.descr) == describe(other.descr)
}
