package client

import (
	"time"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// Strings returns a STRING column.
func Strings(name string, values ...string) *twofoldv1.Column {
	return &twofoldv1.Column{Name: name, Values: &twofoldv1.Column_Strings{Strings: &twofoldv1.StringArray{Values: values}}}
}

// Bytes returns a BYTES column.
func Bytes(name string, values ...[]byte) *twofoldv1.Column {
	return &twofoldv1.Column{Name: name, Values: &twofoldv1.Column_Binaries{Binaries: &twofoldv1.BytesArray{Values: values}}}
}

// Int64s returns an INT64 column.
func Int64s(name string, values ...int64) *twofoldv1.Column {
	return &twofoldv1.Column{Name: name, Values: &twofoldv1.Column_Int64S{Int64S: &twofoldv1.Int64Array{Values: values}}}
}

// Int32s returns an INT32 column.
func Int32s(name string, values ...int32) *twofoldv1.Column {
	return &twofoldv1.Column{Name: name, Values: &twofoldv1.Column_Int32S{Int32S: &twofoldv1.Int32Array{Values: values}}}
}

// Doubles returns a DOUBLE column.
func Doubles(name string, values ...float64) *twofoldv1.Column {
	return &twofoldv1.Column{Name: name, Values: &twofoldv1.Column_Doubles{Doubles: &twofoldv1.DoubleArray{Values: values}}}
}

// Floats returns a FLOAT column.
func Floats(name string, values ...float32) *twofoldv1.Column {
	return &twofoldv1.Column{Name: name, Values: &twofoldv1.Column_Floats{Floats: &twofoldv1.FloatArray{Values: values}}}
}

// Bools returns a BOOL column.
func Bools(name string, values ...bool) *twofoldv1.Column {
	return &twofoldv1.Column{Name: name, Values: &twofoldv1.Column_Bools{Bools: &twofoldv1.BoolArray{Values: values}}}
}

// Timestamps returns a TIMESTAMP column, in whole microseconds.
func Timestamps(name string, values ...time.Time) *twofoldv1.Column {
	micros := make([]int64, len(values))
	for i, v := range values {
		micros[i] = v.UnixMicro()
	}
	return &twofoldv1.Column{Name: name, Values: &twofoldv1.Column_Timestamps{Timestamps: &twofoldv1.TimestampArray{Values: micros}}}
}

// Find returns the column of that name, nil where there is none.
func Find(columns []*twofoldv1.Column, name string) *twofoldv1.Column {
	for _, c := range columns {
		if c.GetName() == name {
			return c
		}
	}
	return nil
}

// Status returns the status of one row: PRESENT where the column has no statuses, UNSPECIFIED where there is no such row.
func Status(c *twofoldv1.Column, row int) twofoldv1.ValueStatus {
	statuses := c.GetStatuses()
	switch {
	case len(statuses) == 0:
		return twofoldv1.ValueStatus_VALUE_STATUS_PRESENT
	case row < 0 || row >= len(statuses):
		return twofoldv1.ValueStatus_VALUE_STATUS_UNSPECIFIED
	default:
		return statuses[row]
	}
}

// Double returns one value of a DOUBLE column, and whether it is PRESENT.
func Double(c *twofoldv1.Column, row int) (float64, bool) {
	return value(c, row, c.GetDoubles().GetValues())
}

// Int64 returns one value of an INT64 column, and whether it is PRESENT.
func Int64(c *twofoldv1.Column, row int) (int64, bool) {
	return value(c, row, c.GetInt64S().GetValues())
}

// Int32 returns one value of an INT32 column, and whether it is PRESENT.
func Int32(c *twofoldv1.Column, row int) (int32, bool) {
	return value(c, row, c.GetInt32S().GetValues())
}

// Float returns one value of a FLOAT column, and whether it is PRESENT.
func Float(c *twofoldv1.Column, row int) (float32, bool) {
	return value(c, row, c.GetFloats().GetValues())
}

// String returns one value of a STRING column, and whether it is PRESENT.
func String(c *twofoldv1.Column, row int) (string, bool) {
	return value(c, row, c.GetStrings().GetValues())
}

// Bool returns one value of a BOOL column, and whether it is PRESENT.
func Bool(c *twofoldv1.Column, row int) (bool, bool) {
	return value(c, row, c.GetBools().GetValues())
}

// Timestamp returns one value of a TIMESTAMP column in UTC, and whether it is PRESENT.
func Timestamp(c *twofoldv1.Column, row int) (time.Time, bool) {
	micros, ok := value(c, row, c.GetTimestamps().GetValues())
	if !ok {
		return time.Time{}, false
	}
	return time.UnixMicro(micros).UTC(), true
}

// value returns a row of a column of type T. Another type has no values here, and so none is present.
func value[T any](c *twofoldv1.Column, row int, values []T) (T, bool) {
	if row < 0 || row >= len(values) || Status(c, row) != twofoldv1.ValueStatus_VALUE_STATUS_PRESENT {
		var zero T
		return zero, false
	}
	return values[row], true
}
