package server_test

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
)

// What these tests send and receive is made and read by reflection on the contract's messages alone, and by none of the code under test. A value is a bool,
// int32, int64 (TIMESTAMP too), float32, float64, string, []byte, or []any of these; nil is null.

// arrayFields are the fields of Column, and of ListArray, by type.
var arrayFields = map[feature.Type]protoreflect.Name{
	feature.Bool: "bools", feature.Int32: "int32s", feature.Int64: "int64s", feature.Float: "floats", feature.Double: "doubles",
	feature.String: "strings", feature.Bytes: "binaries", feature.Timestamp: "timestamps",
}

func fieldOf(m protoreflect.Message, name protoreflect.Name) protoreflect.FieldDescriptor {
	return m.Descriptor().Fields().ByName(name)
}

// column makes a column of values. It has statuses only where a value is null.
func column(name string, t feature.Type, values ...any) *twofoldv1.Column {
	c := &twofoldv1.Column{Name: name}
	if slices.ContainsFunc(values, func(v any) bool { return v == nil }) {
		for _, v := range values {
			status := twofoldv1.ValueStatus_VALUE_STATUS_PRESENT
			if v == nil {
				status = twofoldv1.ValueStatus_VALUE_STATUS_NULL
			}
			c.Statuses = append(c.Statuses, status)
		}
	}
	m := c.ProtoReflect()
	if !t.IsList() {
		appendValues(m, t, values)
		return c
	}
	lists := m.Mutable(fieldOf(m, "lists")).Message()
	lengths := lists.Mutable(fieldOf(lists, "lengths")).List()
	var all []any
	for _, v := range values {
		list, _ := v.([]any)
		lengths.Append(protoreflect.ValueOfUint32(uint32(len(list))))
		all = append(all, list...)
	}
	appendValues(lists, t.Elem(), all)
	return c
}

// appendValues sets the array of that type, also where there are no values.
func appendValues(m protoreflect.Message, t feature.Type, values []any) {
	array := m.Mutable(fieldOf(m, arrayFields[t])).Message()
	if len(values) == 0 {
		return
	}
	list := array.Mutable(fieldOf(array, "values")).List()
	for _, v := range values {
		if v == nil {
			v = zeroValue(t)
		}
		list.Append(protoreflect.ValueOf(v))
	}
}

func zeroValue(t feature.Type) any {
	switch t {
	case feature.Bool:
		return false
	case feature.Int32:
		return int32(0)
	case feature.Int64, feature.Timestamp:
		return int64(0)
	case feature.Float:
		return float32(0)
	case feature.Double:
		return float64(0)
	case feature.String:
		return ""
	case feature.Bytes:
		return []byte{}
	default:
		return []any{}
	}
}

// valuesOf reads a column: its type, and what stands at each row, whatever the row's status.
func valuesOf(c *twofoldv1.Column) (feature.Type, []any, error) {
	m := c.ProtoReflect()
	field := m.WhichOneof(m.Descriptor().Oneofs().ByName("values"))
	if field == nil {
		return 0, nil, fmt.Errorf("column %q has no values field", c.GetName())
	}
	if field.Name() != "lists" {
		return arrayOf(m, field)
	}
	lists := m.Get(field).Message()
	field = lists.WhichOneof(lists.Descriptor().Oneofs().ByName("elements"))
	if field == nil {
		return 0, nil, fmt.Errorf("column %q has no elements field", c.GetName())
	}
	t, all, err := arrayOf(lists, field)
	if err != nil {
		return 0, nil, err
	}
	var out []any
	for _, n := range c.GetLists().GetLengths() {
		if int(n) > len(all) {
			return 0, nil, fmt.Errorf("column %q has too few elements", c.GetName())
		}
		out = append(out, all[:n:n])
		all = all[n:]
	}
	if len(all) > 0 {
		return 0, nil, fmt.Errorf("column %q has %d elements too many", c.GetName(), len(all))
	}
	return t.List(), out, nil
}

func arrayOf(m protoreflect.Message, field protoreflect.FieldDescriptor) (feature.Type, []any, error) {
	array := m.Get(field).Message()
	list := array.Get(fieldOf(array, "values")).List()
	values := make([]any, list.Len())
	for i := range values {
		values[i] = list.Get(i).Interface()
	}
	for t, name := range arrayFields {
		if name == field.Name() {
			return t, values, nil
		}
	}
	return 0, nil, fmt.Errorf("unknown field %s", field.Name())
}

// text writes a value down so that two are the same text if and only if they are the same bits.
func text(v any) string {
	switch v := v.(type) {
	case float32:
		return fmt.Sprintf("f%08x", math.Float32bits(v))
	case float64:
		return fmt.Sprintf("d%016x", math.Float64bits(v))
	case string:
		return fmt.Sprintf("%q", v)
	case []byte:
		return fmt.Sprintf("x%x", v)
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = text(v[i])
		}
		return "[" + strings.Join(parts, " ") + "]"
	default:
		return fmt.Sprint(v)
	}
}

// same reports whether two values of one type are the same bits.
func same(a, b any) bool {
	switch a := a.(type) {
	case float32:
		return math.Float32bits(a) == math.Float32bits(b.(float32))
	case float64:
		return math.Float64bits(a) == math.Float64bits(b.(float64))
	case []byte:
		return bytes.Equal(a, b.([]byte))
	case []any:
		return slices.EqualFunc(a, b.([]any), same)
	default:
		return a == b
	}
}

// cells writes down each row of a column: "PRESENT 7", or "NULL 0" with the zero value that must stand there.
func cells(c *twofoldv1.Column) ([]string, error) {
	_, values, err := valuesOf(c)
	if err != nil {
		return nil, err
	}
	if len(c.GetStatuses()) != len(values) {
		return nil, fmt.Errorf("column %q has %d statuses for %d rows", c.GetName(), len(c.GetStatuses()), len(values))
	}
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = cell(feature.Status(c.GetStatuses()[i]), v)
	}
	return out, nil
}

func cell(s feature.Status, value any) string { return s.String() + " " + text(value) }
