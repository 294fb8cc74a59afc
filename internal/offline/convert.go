package offline

import (
	"fmt"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/twofold-ml/twofold/internal/feature"
)

// physical are the Go types of stored values.
type physical interface {
	bool | int32 | int64 | parquet.Int96 | float32 | float64 | parquet.ByteArray | parquet.FixedLenByteArray
}

// appender appends stored values to the values of a column, without statuses.
type appender[T physical] func(dst *feature.Column, values []T) error

// naturalType gives the type of a stored column by itself. Where there is none, reason says why, and readable whether declaring
// a type helps.
func naturalType(d *schema.Column) (t feature.Type, reason string, readable bool) {
	switch logical := d.LogicalType().(type) {
	case schema.NullLogicalType:
		return 0, "it holds nulls only, so its type is not known; declare one", true
	case schema.DecimalLogicalType:
		return 0, "decimals are not exact as features; declare it DOUBLE to read it so", true
	case schema.TimeLogicalType:
		return 0, "it is a time of day, which features cannot be; write it as an integer", false
	case schema.IntervalLogicalType:
		return 0, "it is an interval, which features cannot be; write it as an integer", false
	case schema.VariantLogicalType, schema.GeometryLogicalType, schema.GeographyLogicalType:
		return 0, fmt.Sprintf("it is %v, which features cannot be", logical), false
	}
	return physicalType(d)
}

// physicalType is naturalType for the annotations that map to a type.
func physicalType(d *schema.Column) (feature.Type, string, bool) {
	switch d.PhysicalType() {
	case parquet.Types.Boolean:
		return feature.Bool, "", true
	case parquet.Types.Int32:
		if _, ok := d.LogicalType().(schema.DateLogicalType); ok {
			return feature.Timestamp, "", true
		}
		if isUnsigned(d, 32) {
			return feature.Int64, "", true
		}
		return feature.Int32, "", true
	case parquet.Types.Int64:
		if _, ok := timeUnit(d); ok {
			return feature.Timestamp, "", true
		}
		return feature.Int64, "", true
	case parquet.Types.Int96:
		return feature.Timestamp, "", true
	case parquet.Types.Float:
		return feature.Float, "", true
	case parquet.Types.Double:
		return feature.Double, "", true
	case parquet.Types.ByteArray:
		switch d.LogicalType().(type) {
		case schema.StringLogicalType, schema.EnumLogicalType, schema.JSONLogicalType:
			return feature.String, "", true
		}
		return feature.Bytes, "", true
	case parquet.Types.FixedLenByteArray:
		switch d.LogicalType().(type) {
		case schema.UUIDLogicalType:
			return feature.String, "", true
		case schema.Float16LogicalType:
			return feature.Float, "", true
		}
		return feature.Bytes, "", true
	}
	return 0, "its physical type is not known", false
}

// isUnsigned reports whether the integers are unsigned and use all the bits.
func isUnsigned(d *schema.Column, bits int8) bool {
	logical, ok := d.LogicalType().(schema.IntLogicalType)
	return ok && !logical.IsSigned() && logical.BitWidth() == bits
}

func timeUnit(d *schema.Column) (schema.TimeUnitType, bool) {
	if logical, ok := d.LogicalType().(schema.TimestampLogicalType); ok {
		return logical.TimeUnit(), true
	}
	return 0, false
}

func decimalScale(d *schema.Column) (int32, bool) {
	if logical, ok := d.LogicalType().(schema.DecimalLogicalType); ok {
		return logical.Scale(), true
	}
	return 0, false
}

func isNullType(d *schema.Column) bool {
	_, ok := d.LogicalType().(schema.NullLogicalType)
	return ok
}

// converterFor gives the appender[T] that reads a stored column as a type, where T is the Go type of its physical type; the error
// says why there is none. want is not a list.
func converterFor(d *schema.Column, want feature.Type) (any, error) {
	if isNullType(d) {
		return nullConverter(d.PhysicalType())
	}
	if scale, ok := decimalScale(d); ok {
		return decimalConverter(d.PhysicalType(), scale, want)
	}
	if _, reason, readable := naturalType(d); !readable {
		return nil, fmt.Errorf("%s", reason)
	}
	var f any
	switch d.PhysicalType() {
	case parquet.Types.Boolean:
		f = pick(want, map[feature.Type]appender[bool]{feature.Bool: appendBools})
	case parquet.Types.Int32:
		f = pick(want, int32Converters(d))
	case parquet.Types.Int64:
		f = pick(want, int64Converters(d))
	case parquet.Types.Int96:
		f = pick(want, map[feature.Type]appender[parquet.Int96]{feature.Timestamp: appendInt96})
	case parquet.Types.Float:
		f = pick(want, map[feature.Type]appender[float32]{feature.Float: appendFloats, feature.Double: appendFloatsAsDoubles})
	case parquet.Types.Double:
		f = pick(want, map[feature.Type]appender[float64]{feature.Double: appendDoubles})
	case parquet.Types.ByteArray:
		f = pick(want, map[feature.Type]appender[parquet.ByteArray]{feature.Bytes: appendBytes[parquet.ByteArray], feature.String: appendStrings[parquet.ByteArray]})
	case parquet.Types.FixedLenByteArray:
		f = pick(want, fixedConverters(d))
	}
	if f == nil {
		return nil, mismatch(d, want)
	}
	return f, nil
}

// converter is converterFor for the values, or list elements, of a column.
func (c column) converter(want feature.Type) (any, error) {
	if _, isUUID := c.descr.LogicalType().(schema.UUIDLogicalType); c.anyText && want == feature.String && !isUUID {
		want = feature.Bytes // which fills a column in the same way, and looks at nothing
	}
	return converterFor(c.descr, want)
}

// pick gives the converter, or an untyped nil where there is none.
func pick[T physical](want feature.Type, converters map[feature.Type]appender[T]) any {
	if f, ok := converters[want]; ok {
		return f
	}
	return nil
}

// mismatch says why a stored column cannot be read as a type, and how to mend it.
func mismatch(d *schema.Column, want feature.Type) error {
	natural, _, _ := naturalType(d)
	if natural == feature.Int64 && want == feature.Timestamp {
		return fmt.Errorf("its integers do not say their unit; write the column as a Parquet TIMESTAMP")
	}
	if natural == want { // cannot be: every natural type has its converter
		return fmt.Errorf("offline: no reader of %s as %v", describe(d), want)
	}
	return fmt.Errorf("that would lose or invent information; declare it %v, or write the column as %v", natural, want)
}

func int32Converters(d *schema.Column) map[feature.Type]appender[int32] {
	switch natural, _, _ := naturalType(d); natural {
	case feature.Timestamp:
		return map[feature.Type]appender[int32]{feature.Timestamp: appendDates}
	case feature.Int64:
		return map[feature.Type]appender[int32]{feature.Int64: appendUint32s, feature.Double: appendUint32sAsDoubles}
	default:
		return map[feature.Type]appender[int32]{feature.Int32: appendInt32s, feature.Int64: appendInt32sAsInt64s, feature.Double: appendInt32sAsDoubles}
	}
}

func int64Converters(d *schema.Column) map[feature.Type]appender[int64] {
	if unit, ok := timeUnit(d); ok {
		return map[feature.Type]appender[int64]{feature.Timestamp: timestampAppender(unit)}
	}
	if isUnsigned(d, 64) {
		return map[feature.Type]appender[int64]{feature.Int64: appendUint64s}
	}
	return map[feature.Type]appender[int64]{feature.Int64: appendInt64s}
}

func fixedConverters(d *schema.Column) map[feature.Type]appender[parquet.FixedLenByteArray] {
	switch d.LogicalType().(type) {
	case schema.UUIDLogicalType:
		return map[feature.Type]appender[parquet.FixedLenByteArray]{feature.String: appendUUIDs, feature.Bytes: appendBytes[parquet.FixedLenByteArray]}
	case schema.Float16LogicalType:
		return map[feature.Type]appender[parquet.FixedLenByteArray]{feature.Float: appendHalves, feature.Double: appendHalvesAsDoubles}
	default:
		return map[feature.Type]appender[parquet.FixedLenByteArray]{feature.Bytes: appendBytes[parquet.FixedLenByteArray], feature.String: appendStrings[parquet.FixedLenByteArray]}
	}
}

// nullConverter reads a column that promises to hold no values.
func nullConverter(t parquet.Type) (any, error) {
	switch t {
	case parquet.Types.Boolean:
		return appender[bool](appendNothing[bool]), nil
	case parquet.Types.Int32:
		return appender[int32](appendNothing[int32]), nil
	case parquet.Types.Int64:
		return appender[int64](appendNothing[int64]), nil
	case parquet.Types.Int96:
		return appender[parquet.Int96](appendNothing[parquet.Int96]), nil
	case parquet.Types.Float:
		return appender[float32](appendNothing[float32]), nil
	case parquet.Types.Double:
		return appender[float64](appendNothing[float64]), nil
	case parquet.Types.ByteArray:
		return appender[parquet.ByteArray](appendNothing[parquet.ByteArray]), nil
	case parquet.Types.FixedLenByteArray:
		return appender[parquet.FixedLenByteArray](appendNothing[parquet.FixedLenByteArray]), nil
	}
	return nil, fmt.Errorf("its physical type is not known")
}
