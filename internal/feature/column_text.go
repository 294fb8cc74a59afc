package feature

import (
	"iter"
	"unicode/utf8"
)

// InvalidText goes through the rows whose text, or an element of whose list, is not UTF-8, ascending. Of a column without text there are none.
func (c *Column) InvalidText() iter.Seq[int] {
	return func(yield func(int) bool) {
		if (c.Type != String && c.Type != StringList) || c.allText() {
			return
		}
		for row := range c.Len() {
			if !c.IsText(row) && !yield(row) {
				return
			}
		}
	}
}

// allText reports whether the text of all rows is UTF-8, as it nearly always is: all of it together, and none begins inside a character.
func (c *Column) allText() bool {
	if c.Elem != nil {
		c = c.Elem
	}
	if len(c.Offsets) < 2 {
		return true
	}
	starts := c.Offsets[:len(c.Offsets)-1]
	for _, at := range starts {
		if at < len(c.Data) && !utf8.RuneStart(c.Data[at]) {
			return false
		}
	}
	return utf8.Valid(c.Data[starts[0]:c.Offsets[len(starts)]])
}

// IsText reports whether the row's text is UTF-8, each element of a list by itself. Of a column without text it is.
func (c *Column) IsText(row int) bool {
	switch c.Type {
	case String:
		return utf8.Valid(c.BytesAt(row))
	case StringList:
		for i := c.Offsets[row]; i < c.Offsets[row+1]; i++ {
			if !utf8.Valid(c.Elem.BytesAt(i)) {
				return false
			}
		}
	}
	return true
}
