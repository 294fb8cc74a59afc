// Package feature is Twofold's domain: entities, features, values, columns and the definitions that tie them
// together. It knows no wire format and does no I/O; every other package builds on it.
package feature

import "fmt"

// Type is the type of an entity key or of a feature. Its numbers are those of twofold.v1.ValueType.
type Type uint8

// The types. See proto/twofold/v1/value_type.proto for what each holds.
const (
	Bool Type = iota + 1
	Int32
	Int64
	Float
	Double
	String
	Bytes
	Timestamp
	BoolList
	Int32List
	Int64List
	FloatList
	DoubleList
	StringList
	BytesList
	TimestampList
)

var typeNames = [...]string{
	"UNSPECIFIED", "BOOL", "INT32", "INT64", "FLOAT", "DOUBLE", "STRING", "BYTES", "TIMESTAMP", "BOOL_LIST", "INT32_LIST",
	"INT64_LIST", "FLOAT_LIST", "DOUBLE_LIST", "STRING_LIST", "BYTES_LIST", "TIMESTAMP_LIST",
}

// Valid reports whether t is one of the types.
func (t Type) Valid() bool { return t >= Bool && t <= TimestampList }

// IsList reports whether t is a list type.
func (t Type) IsList() bool { return t >= BoolList && t <= TimestampList }

// Elem returns the element type of a list type, and t itself for any other.
func (t Type) Elem() Type {
	if t.IsList() {
		return t - Timestamp
	}
	return t
}

// List returns the type of lists of t, which must not be a list itself.
func (t Type) List() Type {
	if !t.Valid() || t.IsList() {
		panic(fmt.Sprintf("feature: no list of %v", t))
	}
	return t + Timestamp
}

// Width returns the bytes of one value of a fixed-width type: 1, 4 or 8; 0 for every other type.
func (t Type) Width() int {
	switch t {
	case Bool:
		return 1
	case Int32, Float:
		return 4
	case Int64, Double, Timestamp:
		return 8
	default:
		return 0
	}
}

// String returns the type's name as definitions spell it, for example "FLOAT_LIST".
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("Type(%d)", uint8(t))
}

// ParseType returns the type of that name.
func ParseType(name string) (Type, bool) {
	for t := Bool; t <= TimestampList; t++ {
		if typeNames[t] == name {
			return t, true
		}
	}
	return 0, false
}

// Status says what one value is. Its numbers are those of twofold.v1.ValueStatus.
type Status uint8

// The statuses. A fault is never a status, but where a partial answer was asked for.
const (
	// Present is a value that is there and fresh.
	Present Status = iota + 1
	// Null is a value that the newest row says is null.
	Null
	// NotFound is the value of an entity without a row, or of a row from before the feature was defined.
	NotFound
	// Expired is the value of a row that is older than the ttl allows.
	Expired
	// Unavailable is a value that could not be read: nothing is known of it. It occurs in partial answers only.
	Unavailable
)

// String returns the status's name.
func (s Status) String() string {
	names := [...]string{"UNSPECIFIED", "PRESENT", "NULL", "NOT_FOUND", "EXPIRED", "UNAVAILABLE"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("Status(%d)", uint8(s))
}
