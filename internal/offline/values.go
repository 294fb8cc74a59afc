package offline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow/float16"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

const (
	microsPerDay = 24 * 60 * 60 * 1_000_000
	// julianUnixEpoch is the Julian day of 1970-01-01, which INT96 times count days from.
	julianUnixEpoch = 2_440_588
)

func appendBools(dst *feature.Column, values []bool) error {
	dst.Bools = append(dst.Bools, values...)
	return nil
}

func appendInt32s(dst *feature.Column, values []int32) error {
	dst.Int32s = append(dst.Int32s, values...)
	return nil
}

func appendInt32sAsInt64s(dst *feature.Column, values []int32) error {
	for _, v := range values {
		dst.Int64s = append(dst.Int64s, int64(v))
	}
	return nil
}

func appendInt32sAsDoubles(dst *feature.Column, values []int32) error {
	for _, v := range values {
		dst.Doubles = append(dst.Doubles, float64(v))
	}
	return nil
}

func appendUint32s(dst *feature.Column, values []int32) error {
	for _, v := range values {
		dst.Int64s = append(dst.Int64s, int64(uint32(v)))
	}
	return nil
}

func appendUint32sAsDoubles(dst *feature.Column, values []int32) error {
	for _, v := range values {
		dst.Doubles = append(dst.Doubles, float64(uint32(v)))
	}
	return nil
}

func appendInt64s(dst *feature.Column, values []int64) error {
	dst.Int64s = append(dst.Int64s, values...)
	return nil
}

func appendUint64s(dst *feature.Column, values []int64) error {
	for _, v := range values {
		if v < 0 {
			return fmt.Errorf("the unsigned value %d does not fit INT64", uint64(v))
		}
	}
	dst.Int64s = append(dst.Int64s, values...)
	return nil
}

func appendFloats(dst *feature.Column, values []float32) error {
	dst.Floats = append(dst.Floats, values...)
	return nil
}

func appendFloatsAsDoubles(dst *feature.Column, values []float32) error {
	for _, v := range values {
		dst.Doubles = append(dst.Doubles, float64(v))
	}
	return nil
}

func appendDoubles(dst *feature.Column, values []float64) error {
	dst.Doubles = append(dst.Doubles, values...)
	return nil
}

func appendBytes[T ~[]byte](dst *feature.Column, values []T) error {
	if dst.Limit > 0 {
		size := len(dst.Data)
		for _, v := range values {
			size += len(v)
		}
		if size > dst.Limit {
			return errPastLimit(dst.Limit)
		}
	}
	for _, v := range values {
		dst.Data = append(dst.Data, v...)
		dst.Offsets = append(dst.Offsets, len(dst.Data))
	}
	return nil
}

// errPastLimit says that a column would take more bytes than it may.
func errPastLimit(limit int) error {
	return fault.New(fault.Exhausted, "%w: more than %d bytes", feature.ErrLimit, limit)
}

func appendStrings[T ~[]byte](dst *feature.Column, values []T) error {
	for _, v := range values {
		if !utf8.Valid(v) {
			return fmt.Errorf("the value %.40q is not UTF-8; write it so, or declare the column BYTES", string(v))
		}
	}
	return appendBytes(dst, values)
}

// appendUUIDs writes UUIDs in their usual form, 8-4-4-4-12 lower-case hexadecimal digits.
func appendUUIDs(dst *feature.Column, values []parquet.FixedLenByteArray) error {
	const digits = "0123456789abcdef"
	for _, v := range values {
		if len(v) != 16 {
			return fmt.Errorf("a UUID of %d bytes", len(v))
		}
		for i, b := range v {
			if i == 4 || i == 6 || i == 8 || i == 10 {
				dst.Data = append(dst.Data, '-')
			}
			dst.Data = append(dst.Data, digits[b>>4], digits[b&0x0f])
		}
		dst.Offsets = append(dst.Offsets, len(dst.Data))
	}
	return nil
}

func appendHalves(dst *feature.Column, values []parquet.FixedLenByteArray) error {
	for _, v := range values {
		if len(v) != 2 {
			return fmt.Errorf("a half-precision number of %d bytes", len(v))
		}
		dst.Floats = append(dst.Floats, float16.FromBits(binary.LittleEndian.Uint16(v)).Float32())
	}
	return nil
}

func appendHalvesAsDoubles(dst *feature.Column, values []parquet.FixedLenByteArray) error {
	for _, v := range values {
		if len(v) != 2 {
			return fmt.Errorf("a half-precision number of %d bytes", len(v))
		}
		dst.Doubles = append(dst.Doubles, float64(float16.FromBits(binary.LittleEndian.Uint16(v)).Float32()))
	}
	return nil
}

var errTimeRange = errors.New("a time is out of the range of microseconds since 1970")

// appendDates takes a date as its midnight, UTC.
func appendDates(dst *feature.Column, values []int32) error {
	for _, v := range values {
		micros, ok := dateMicros(v)
		if !ok {
			return fmt.Errorf("%w: day %d", errTimeRange, v)
		}
		dst.Int64s = append(dst.Int64s, micros)
	}
	return nil
}

func dateMicros(day int32) (int64, bool) {
	const most = math.MaxInt64 / microsPerDay
	if int64(day) > most || int64(day) < -most {
		return 0, false
	}
	return int64(day) * microsPerDay, true
}

// toMicros converts a time: whole milliseconds exactly, nanoseconds to the microsecond that they are in, also before 1970.
func toMicros(v int64, unit schema.TimeUnitType) (int64, bool) {
	switch unit {
	case schema.TimeUnitMillis:
		if v > math.MaxInt64/1000 || v < math.MinInt64/1000 {
			return 0, false
		}
		return v * 1000, true
	case schema.TimeUnitNanos:
		return floorDiv(v, 1000), true
	default:
		return v, true
	}
}

func floorDiv(v, by int64) int64 {
	q := v / by
	if v%by < 0 {
		q--
	}
	return q
}

func timestampAppender(unit schema.TimeUnitType) appender[int64] {
	if unit == schema.TimeUnitMicros {
		return appendInt64s
	}
	return func(dst *feature.Column, values []int64) error {
		for _, v := range values {
			micros, ok := toMicros(v, unit)
			if !ok {
				return fmt.Errorf("%w: %d milliseconds", errTimeRange, v)
			}
			dst.Int64s = append(dst.Int64s, micros)
		}
		return nil
	}
}

// appendInt96 takes nanoseconds of a Julian day, as Impala, Hive and older Sparks write times.
func appendInt96(dst *feature.Column, values []parquet.Int96) error {
	for _, v := range values {
		nanos := int64(binary.LittleEndian.Uint64(v[:8]))
		days := int64(binary.LittleEndian.Uint32(v[8:])) - julianUnixEpoch
		if days > math.MaxInt64/microsPerDay-1 || days < math.MinInt64/microsPerDay+1 || nanos < 0 || nanos >= 2*microsPerDay*1000 {
			return fmt.Errorf("%w: Julian day %d, %d ns", errTimeRange, days+julianUnixEpoch, nanos)
		}
		dst.Int64s = append(dst.Int64s, days*microsPerDay+nanos/1000)
	}
	return nil
}

func appendNothing[T physical](_ *feature.Column, values []T) error {
	if len(values) > 0 {
		return errors.New("it is annotated to hold nulls only, but holds a value")
	}
	return nil
}

// decimalConverter reads decimals as the nearest DOUBLE.
func decimalConverter(t parquet.Type, scale int32, want feature.Type) (any, error) {
	if want != feature.Double {
		return nil, errors.New("decimals are read as DOUBLE only, with the nearest value; declare it DOUBLE, or write the column otherwise")
	}
	switch t {
	case parquet.Types.Int32:
		return appender[int32](func(dst *feature.Column, values []int32) error {
			return appendDecimals(dst, values, func(v int32) (float64, error) { return decimal(int64(v), scale) })
		}), nil
	case parquet.Types.Int64:
		return appender[int64](func(dst *feature.Column, values []int64) error {
			return appendDecimals(dst, values, func(v int64) (float64, error) { return decimal(v, scale) })
		}), nil
	case parquet.Types.ByteArray:
		return appender[parquet.ByteArray](func(dst *feature.Column, values []parquet.ByteArray) error {
			return appendDecimals(dst, values, func(v parquet.ByteArray) (float64, error) { return bigDecimal(v, scale) })
		}), nil
	case parquet.Types.FixedLenByteArray:
		return appender[parquet.FixedLenByteArray](func(dst *feature.Column, values []parquet.FixedLenByteArray) error {
			return appendDecimals(dst, values, func(v parquet.FixedLenByteArray) (float64, error) { return bigDecimal(v, scale) })
		}), nil
	}
	return nil, errors.New("decimals of this physical type are not defined")
}

func appendDecimals[T physical](dst *feature.Column, values []T, convert func(T) (float64, error)) error {
	for _, v := range values {
		d, err := convert(v)
		if err != nil {
			return err
		}
		dst.Doubles = append(dst.Doubles, d)
	}
	return nil
}

// exactPowers are the powers of ten that a DOUBLE holds exactly.
var exactPowers = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// decimal gives the DOUBLE nearest to v / 10^scale.
func decimal(v int64, scale int32) (float64, error) {
	const exact = 1 << 53
	if v >= -exact && v <= exact && scale >= 0 && int(scale) < len(exactPowers) {
		return float64(v) / exactPowers[scale], nil // one rounding of exact operands
	}
	return parseDecimal(strconv.FormatInt(v, 10), scale)
}

// bigDecimal is decimal for a big-endian two's complement number.
func bigDecimal(b []byte, scale int32) (float64, error) {
	if len(b) > 64 {
		return 0, fmt.Errorf("a decimal of %d bytes", len(b))
	}
	if len(b) <= 8 {
		var v int64
		for i, c := range b {
			if i == 0 {
				v = int64(int8(c))
				continue
			}
			v = v<<8 | int64(c)
		}
		return decimal(v, scale)
	}
	n := new(big.Int).SetBytes(b)
	if b[0] >= 0x80 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(len(b))*8))
	}
	return parseDecimal(n.String(), scale)
}

func parseDecimal(digits string, scale int32) (float64, error) {
	v, err := strconv.ParseFloat(digits+"e"+strconv.FormatInt(-int64(scale), 10), 64)
	if err != nil {
		return 0, fmt.Errorf("decimal %s with scale %d: %w", digits, scale, err)
	}
	return v, nil
}
