package online

import (
	"unicode/utf8"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// hasText reports whether any of the view's wanted features may hold text.
func (v *planView) hasText() bool {
	for _, f := range v.wanted {
		if f.Type.Elem() == feature.String {
			return true
		}
	}
	return false
}

// textErr is why a row that was appended cannot be sent: a STRING that is not UTF-8, which no protobuf message can carry and another writer
// may have stored. Whoever encodes an answer finds it too, but can then only give up the whole; a partial answer needs to know of the row.
func (r *viewReader) textErr(row int) error {
	for i, c := range r.dst {
		if !textIsUTF8(c, row) {
			return fault.New(fault.Corrupt, "feature %q: its text is not valid UTF-8; mend the source, or define the feature as BYTES", r.view.wanted[i].Name)
		}
	}
	return nil
}

// textIsUTF8 reports whether the row's text is UTF-8, each element of a list by itself. Of a column without text it is.
func textIsUTF8(c *feature.Column, row int) bool {
	switch c.Type {
	case feature.String:
		return utf8.Valid(c.BytesAt(row))
	case feature.StringList:
		for i := c.Offsets[row]; i < c.Offsets[row+1]; i++ {
			if !utf8.Valid(c.Elem.BytesAt(i)) {
				return false
			}
		}
	}
	return true
}
