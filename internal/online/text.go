package online

import (
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
		if !c.IsText(row) {
			return fault.New(fault.Corrupt, "feature %q: its text is not valid UTF-8; mend the source, or define the feature as BYTES", r.view.wanted[i].Name)
		}
	}
	return nil
}
