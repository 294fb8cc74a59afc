// Package arrowwire converts between Arrow arrays and the domain's columns. It is apart from package wire so that a
// program that never speaks Arrow does not link it.
package arrowwire

import (
	"github.com/apache/arrow-go/v18/arrow"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// timestampType is how a TIMESTAMP is written: microseconds, UTC.
var timestampType = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}

// DataType returns the Arrow type that columns of type t are written as: a TIMESTAMP is timestamp[us, UTC], a list is
// list<item: its element type>.
func DataType(t feature.Type) arrow.DataType {
	switch t {
	case feature.Bool:
		return arrow.FixedWidthTypes.Boolean
	case feature.Int32:
		return arrow.PrimitiveTypes.Int32
	case feature.Int64:
		return arrow.PrimitiveTypes.Int64
	case feature.Float:
		return arrow.PrimitiveTypes.Float32
	case feature.Double:
		return arrow.PrimitiveTypes.Float64
	case feature.String:
		return arrow.BinaryTypes.String
	case feature.Bytes:
		return arrow.BinaryTypes.Binary
	case feature.Timestamp:
		return timestampType
	default:
		return arrow.ListOf(DataType(t.Elem()))
	}
}

// Field returns the nullable Arrow field of a column of that name and type.
func Field(name string, t feature.Type) arrow.Field {
	return arrow.Field{Name: name, Type: DataType(t), Nullable: true}
}

// TypeOf returns the type that arrays of an Arrow type are read as: the narrowest that holds every value (uint16 is INT32,
// uint32 and uint64 are INT64), TIMESTAMP for timestamps of any unit and zone and for dates, the type of the values for dictionaries and
// run-end encodings, STRING for arrow.uuid, the storage's type for other extensions. For any other type it returns an error of kind
// Invalid that says what to do.
func TypeOf(dt arrow.DataType) (feature.Type, error) {
	switch dt.ID() {
	case arrow.BOOL:
		return feature.Bool, nil
	case arrow.INT8, arrow.INT16, arrow.INT32, arrow.UINT8, arrow.UINT16:
		return feature.Int32, nil
	case arrow.INT64, arrow.UINT32, arrow.UINT64:
		return feature.Int64, nil
	case arrow.FLOAT16, arrow.FLOAT32:
		return feature.Float, nil
	case arrow.FLOAT64:
		return feature.Double, nil
	case arrow.STRING, arrow.LARGE_STRING, arrow.STRING_VIEW:
		return feature.String, nil
	case arrow.BINARY, arrow.LARGE_BINARY, arrow.BINARY_VIEW, arrow.FIXED_SIZE_BINARY:
		return feature.Bytes, nil
	case arrow.TIMESTAMP, arrow.DATE32, arrow.DATE64:
		return feature.Timestamp, nil
	case arrow.DICTIONARY:
		return TypeOf(dt.(*arrow.DictionaryType).ValueType)
	case arrow.RUN_END_ENCODED:
		return TypeOf(dt.(*arrow.RunEndEncodedType).Encoded())
	case arrow.LIST, arrow.LARGE_LIST, arrow.FIXED_SIZE_LIST:
		return listTypeOf(dt.(arrow.ListLikeType))
	case arrow.EXTENSION:
		return extensionTypeOf(dt.(arrow.ExtensionType))
	default:
		return 0, fault.New(fault.Invalid, "Arrow type %v cannot be read; %s", dt, castHint(dt.ID()))
	}
}

func listTypeOf(dt arrow.ListLikeType) (feature.Type, error) {
	elem, err := TypeOf(dt.Elem())
	if err != nil {
		return 0, err
	}
	if elem.IsList() {
		return 0, fault.New(fault.Invalid, "Arrow type %v is a list of lists, which cannot be read; flatten it to one list a row", dt)
	}
	return elem.List(), nil
}

const (
	uuidName  = "arrow.uuid"
	bool8Name = "arrow.bool8"
)

func extensionTypeOf(dt arrow.ExtensionType) (feature.Type, error) {
	switch dt.ExtensionName() {
	case uuidName:
		return feature.String, nil
	case bool8Name:
		return feature.Bool, nil
	default:
		return TypeOf(dt.StorageType())
	}
}

// castHint says what to do about a type that is not supported.
func castHint(id arrow.Type) string {
	switch id {
	case arrow.NULL:
		return "all its values are null and it has no type: cast it to the type that is meant"
	case arrow.DECIMAL32, arrow.DECIMAL64, arrow.DECIMAL128, arrow.DECIMAL256:
		return "cast it to float64, to a string, or to an integer of its smallest unit"
	case arrow.TIME32, arrow.TIME64, arrow.DURATION:
		return "cast it to int64"
	case arrow.STRUCT:
		return "give each of its fields a column of its own"
	case arrow.LIST_VIEW, arrow.LARGE_LIST_VIEW:
		return "cast it to a list"
	case arrow.MAP:
		return "give its keys and its values a list column each"
	default:
		return "cast it to a boolean, integer, float, string, binary, timestamp or a list of these"
	}
}
