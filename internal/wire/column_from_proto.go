package wire

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// ColumnFromProto converts a column of a request: its statuses are empty, or one a row of PRESENT and NULL (UNSPECIFIED is
// read as PRESENT). The value of a NULL row is ignored, whatever it is. The column shares memory with the message where it can.
//
// Errors are of kind Invalid; their Field is relative to the message, for example "statuses[3]".
func ColumnFromProto(m *twofoldv1.Column) (*feature.Column, error) {
	return columnFromProto(m, feature.Null)
}

// ResponseColumnFromProto converts a column of a response: like ColumnFromProto, with every status allowed. An EXPIRED row keeps the value that
// is sent with it, which is zero unless the request had include_expired.
func ResponseColumnFromProto(m *twofoldv1.Column) (*feature.Column, error) {
	return columnFromProto(m, feature.Unavailable)
}

// columnFromProto converts a column whose statuses are at most last.
func columnFromProto(m *twofoldv1.Column, last feature.Status) (*feature.Column, error) {
	rows, err := RowCount(m)
	if err != nil {
		return nil, err
	}
	statuses, err := statusesFromProto(m.GetStatuses(), rows, last)
	if err != nil {
		return nil, err
	}
	c, err := valuesFromProto(m)
	if err != nil {
		return nil, err
	}
	c.Status = statuses
	return c, clearMissing(c)
}

// RowCount returns the number of rows of one column, which is an error of kind Invalid where no values field is set.
func RowCount(m *twofoldv1.Column) (int, error) {
	switch v := m.GetValues().(type) {
	case *twofoldv1.Column_Bools:
		return len(v.Bools.GetValues()), nil
	case *twofoldv1.Column_Int32S:
		return len(v.Int32S.GetValues()), nil
	case *twofoldv1.Column_Int64S:
		return len(v.Int64S.GetValues()), nil
	case *twofoldv1.Column_Floats:
		return len(v.Floats.GetValues()), nil
	case *twofoldv1.Column_Doubles:
		return len(v.Doubles.GetValues()), nil
	case *twofoldv1.Column_Strings:
		return len(v.Strings.GetValues()), nil
	case *twofoldv1.Column_Binaries:
		return len(v.Binaries.GetValues()), nil
	case *twofoldv1.Column_Timestamps:
		return len(v.Timestamps.GetValues()), nil
	case *twofoldv1.Column_Lists:
		return len(v.Lists.GetLengths()), nil
	default:
		return 0, fault.InvalidField("values", "column %q has no values; set one of bools, int32s, int64s, floats, doubles, strings, binaries, timestamps and lists, also where there are no rows", m.GetName())
	}
}

func statusesFromProto(statuses []twofoldv1.ValueStatus, rows int, last feature.Status) ([]feature.Status, error) {
	out := make([]feature.Status, rows)
	if len(statuses) == 0 {
		for i := range out {
			out[i] = feature.Present
		}
		return out, nil
	}
	if len(statuses) != rows {
		return nil, fault.InvalidField("statuses", "%d statuses for %d rows; give one a row, or none where every row is PRESENT", len(statuses), rows)
	}
	for i, s := range statuses {
		switch {
		case s == twofoldv1.ValueStatus_VALUE_STATUS_UNSPECIFIED:
			out[i] = feature.Present
		case s < 0 || s > twofoldv1.ValueStatus(feature.Unavailable):
			return nil, fault.InvalidField(fmt.Sprintf("statuses[%d]", i), "%d is not a status (twofold.v1.ValueStatus)", int32(s))
		case s > twofoldv1.ValueStatus(last):
			return nil, fault.InvalidField(fmt.Sprintf("statuses[%d]", i), "%v is for answers only; use PRESENT or NULL", feature.Status(s))
		default:
			out[i] = feature.Status(s)
		}
	}
	return out, nil
}

// valuesFromProto returns a column without statuses.
func valuesFromProto(m *twofoldv1.Column) (*feature.Column, error) {
	switch v := m.GetValues().(type) {
	case *twofoldv1.Column_Bools:
		return &feature.Column{Type: feature.Bool, Bools: v.Bools.GetValues()}, nil
	case *twofoldv1.Column_Int32S:
		return &feature.Column{Type: feature.Int32, Int32s: v.Int32S.GetValues()}, nil
	case *twofoldv1.Column_Int64S:
		return &feature.Column{Type: feature.Int64, Int64s: v.Int64S.GetValues()}, nil
	case *twofoldv1.Column_Floats:
		return &feature.Column{Type: feature.Float, Floats: v.Floats.GetValues()}, nil
	case *twofoldv1.Column_Doubles:
		return &feature.Column{Type: feature.Double, Doubles: v.Doubles.GetValues()}, nil
	case *twofoldv1.Column_Timestamps:
		return &feature.Column{Type: feature.Timestamp, Int64s: v.Timestamps.GetValues()}, nil
	case *twofoldv1.Column_Strings:
		return stringsFromProto("strings", v.Strings)
	case *twofoldv1.Column_Binaries:
		return packed(feature.Bytes, v.Binaries.GetValues()), nil
	default:
		return listsFromProto(m.GetLists())
	}
}

func stringsFromProto(field string, m *twofoldv1.StringArray) (*feature.Column, error) {
	for i, s := range m.GetValues() {
		if !utf8.ValidString(s) {
			return nil, fault.InvalidField(fmt.Sprintf("%s.values[%d]", field, i), "the text is not valid UTF-8; send it as binaries")
		}
	}
	return packed(feature.String, m.GetValues()), nil
}

// packed copies values into one buffer.
func packed[T string | []byte](t feature.Type, values []T) *feature.Column {
	size := 0
	for _, v := range values {
		size += len(v)
	}
	c := &feature.Column{Type: t, Offsets: make([]int, 1, len(values)+1), Data: make([]byte, 0, size)}
	for _, v := range values {
		c.Data = append(c.Data, v...)
		c.Offsets = append(c.Offsets, len(c.Data))
	}
	return c
}

func listsFromProto(m *twofoldv1.ListArray) (*feature.Column, error) {
	elem, err := elementsFromProto(m)
	if err != nil {
		return nil, err
	}
	sum := uint64(0)
	for _, n := range m.GetLengths() {
		sum += uint64(n)
	}
	if sum != uint64(elem.Len()) {
		return nil, fault.InvalidField("lists.lengths", "the lengths add up to %d, but there are %d elements", sum, elem.Len())
	}
	c := &feature.Column{Type: elem.Type.List(), Elem: elem, Offsets: make([]int, 1, len(m.GetLengths())+1)}
	for i, n := range m.GetLengths() {
		c.Offsets = append(c.Offsets, c.Offsets[i]+int(n))
	}
	return c, nil
}

func elementsFromProto(m *twofoldv1.ListArray) (*feature.Column, error) {
	switch v := m.GetElements().(type) {
	case *twofoldv1.ListArray_Bools:
		return &feature.Column{Type: feature.Bool, Bools: v.Bools.GetValues()}, nil
	case *twofoldv1.ListArray_Int32S:
		return &feature.Column{Type: feature.Int32, Int32s: v.Int32S.GetValues()}, nil
	case *twofoldv1.ListArray_Int64S:
		return &feature.Column{Type: feature.Int64, Int64s: v.Int64S.GetValues()}, nil
	case *twofoldv1.ListArray_Floats:
		return &feature.Column{Type: feature.Float, Floats: v.Floats.GetValues()}, nil
	case *twofoldv1.ListArray_Doubles:
		return &feature.Column{Type: feature.Double, Doubles: v.Doubles.GetValues()}, nil
	case *twofoldv1.ListArray_Timestamps:
		return &feature.Column{Type: feature.Timestamp, Int64s: v.Timestamps.GetValues()}, nil
	case *twofoldv1.ListArray_Strings:
		return stringsFromProto("lists.strings", v.Strings)
	case *twofoldv1.ListArray_Binaries:
		return packed(feature.Bytes, v.Binaries.GetValues()), nil
	default:
		return nil, fault.InvalidField("lists.elements", "no elements are set; set the field of the element type, also where there are no elements")
	}
}

// keepsValue reports whether a row of that status may hold a value. Requests have no Expired rows.
func keepsValue(s feature.Status) bool { return s == feature.Present || s == feature.Expired }

// clearMissing puts the zero value where a row has none by its status, on a copy where anything must change: the message stays as it is.
func clearMissing(c *feature.Column) error {
	switch c.Type {
	case feature.Bool:
		c.Bools = cleared(c.Bools, c.Status)
	case feature.Int32:
		c.Int32s = cleared(c.Int32s, c.Status)
	case feature.Int64, feature.Timestamp:
		c.Int64s = cleared(c.Int64s, c.Status)
	case feature.Float:
		c.Floats = clearedBy(c.Floats, c.Status, math.Float32bits)
	case feature.Double:
		c.Doubles = clearedBy(c.Doubles, c.Status, math.Float64bits)
	case feature.String, feature.Bytes:
		clearPacked(c)
	default:
		for i, s := range c.Status {
			if !keepsValue(s) && c.Offsets[i+1] != c.Offsets[i] {
				return fault.InvalidField(fmt.Sprintf("lists.lengths[%d]", i), "row %d is %v, so its list must have no elements", i, s)
			}
		}
	}
	return nil
}

func cleared[T comparable](values []T, statuses []feature.Status) []T {
	return clearedBy(values, statuses, func(v T) T { return v })
}

// clearedBy compares values by their bits, so that −0 and NaN are cleared too.
func clearedBy[T, B comparable](values []T, statuses []feature.Status, bits func(T) B) []T {
	var zero T
	copied := false
	for i, s := range statuses {
		if keepsValue(s) || bits(values[i]) == bits(zero) {
			continue
		}
		if !copied {
			values, copied = slices.Clone(values), true
		}
		values[i] = zero
	}
	return values
}

// clearPacked removes the bytes of missing rows; the data is a copy already.
func clearPacked(c *feature.Column) {
	end, start := 0, 0
	for i, s := range c.Status {
		stop := c.Offsets[i+1]
		if keepsValue(s) {
			end += copy(c.Data[end:], c.Data[start:stop])
		}
		start, c.Offsets[i+1] = stop, end
	}
	c.Data = c.Data[:end]
}

// within prefixes the field of an error.
func within(field string, err error) error {
	if e, ok := errors.AsType[*fault.Error](err); ok {
		if e.Field != "" {
			field += "." + e.Field
		}
		return &fault.Error{Kind: e.Kind, Field: field, Err: e.Err}
	}
	return fmt.Errorf("%s: %w", field, err)
}
