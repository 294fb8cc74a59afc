package arrowwire

import (
	"math"
	"slices"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/float16"
	"github.com/google/uuid"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// Limits on what one array may expand to. Some kinds of array stand for more than they hold: a run-end encoding of a few bytes
// for any number of rows, a dictionary of one long text for that text in every row.
const (
	maxRows  = 1 << 26
	maxBytes = 1 << 31
)

// FromArray copies an array into a column of TypeOf its type; nulls are Null. Nanoseconds are rounded down to the microsecond.
//
// The array may come from outside: one that contradicts itself is an error of kind Invalid, never a panic, and so are a
// type that is not supported, a number or time that does not fit, text that is not UTF-8 and a null element in a list. More than
// 67,108,864 rows, or a dictionary that expands to more than 2 GiB, is an error of kind Exhausted.
func FromArray(arr arrow.Array) (c *feature.Column, err error) {
	if _, err := TypeOf(arr.DataType()); err != nil {
		return nil, err
	}
	if arr.Len() > maxRows {
		return nil, fault.New(fault.Exhausted, "one Arrow array has %d rows, and the limit is %d; send smaller batches", arr.Len(), maxRows)
	}
	defer func() {
		if r := recover(); r != nil {
			c, err = nil, fault.New(fault.Invalid, "the Arrow array is damaged: %v", r)
		}
	}()
	return fromArray(arr)
}

func fromArray(arr arrow.Array) (*feature.Column, error) {
	switch a := arr.(type) {
	case *array.Dictionary:
		return fromIndexed(a, a.Dictionary(), a.GetValueIndex)
	case *array.RunEndEncoded:
		return fromIndexed(a, a.Values(), a.GetPhysicalIndex)
	case array.ExtensionArray:
		return fromExtension(a)
	case array.ListLike:
		return fromList(a)
	}
	t, err := TypeOf(arr.DataType())
	if err != nil {
		return nil, err
	}
	c := &feature.Column{Type: t, Status: statusesOf(arr)}
	return c, fillValues(c, arr)
}

func statusesOf(arr arrow.Array) []feature.Status {
	if arr.NullN() == 0 && arr.NullBitmapBytes() == nil {
		return slices.Repeat([]feature.Status{feature.Present}, arr.Len())
	}
	out := make([]feature.Status, arr.Len())
	for i := range out {
		out[i] = feature.Present
		if arr.IsNull(i) {
			out[i] = feature.Null
		}
	}
	return out
}

func fillValues(c *feature.Column, arr arrow.Array) (err error) {
	switch a := arr.(type) {
	case *array.Boolean:
		c.Bools = make([]bool, a.Len())
		for i := range c.Bools {
			c.Bools[i] = a.IsValid(i) && a.Value(i)
		}
	case *array.Int8:
		c.Int32s = widen[int32](c.Status, a.Int8Values())
	case *array.Int16:
		c.Int32s = widen[int32](c.Status, a.Int16Values())
	case *array.Int32:
		c.Int32s = widen[int32](c.Status, a.Int32Values())
	case *array.Uint8:
		c.Int32s = widen[int32](c.Status, a.Uint8Values())
	case *array.Uint16:
		c.Int32s = widen[int32](c.Status, a.Uint16Values())
	case *array.Uint32:
		c.Int64s = widen[int64](c.Status, a.Uint32Values())
	case *array.Int64:
		c.Int64s = widen[int64](c.Status, a.Int64Values())
	case *array.Uint64:
		c.Int64s, err = convert(c.Status, a.Uint64Values(), signed)
	case *array.Float16:
		c.Floats, err = convert(c.Status, a.Values(), func(v float16.Num) (float32, error) { return v.Float32(), nil })
	case *array.Float32:
		c.Floats = widen[float32](c.Status, a.Float32Values())
	case *array.Float64:
		c.Doubles = widen[float64](c.Status, a.Float64Values())
	case *array.Timestamp:
		c.Int64s, err = timestamps(c.Status, a.TimestampValues(), a.DataType().(*arrow.TimestampType).Unit)
	case *array.Date32:
		c.Int64s, err = convert(c.Status, a.Date32Values(), func(v arrow.Date32) (int64, error) { return multiply(int64(v), microsPerDay) })
	case *array.Date64:
		c.Int64s, err = convert(c.Status, a.Date64Values(), func(v arrow.Date64) (int64, error) { return multiply(int64(v), 1000) })
	default:
		return fillBytes(c, arr)
	}
	return err
}

type number interface {
	~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~float32 | ~float64
}

// widen converts the values of present rows to a type that holds them all.
func widen[D, S number](statuses []feature.Status, values []S) []D {
	if same, ok := any(values).([]D); ok && len(same) == len(statuses) && feature.AllPresent(statuses) {
		return slices.Clone(same)
	}
	out := make([]D, len(statuses))
	for i, s := range statuses {
		if s == feature.Present {
			out[i] = D(values[i])
		}
	}
	return out
}

// convert converts the values of present rows.
func convert[S, D any](statuses []feature.Status, values []S, one func(S) (D, error)) ([]D, error) {
	out := make([]D, len(statuses))
	for i, s := range statuses {
		if s != feature.Present {
			continue
		}
		v, err := one(values[i])
		if err != nil {
			return nil, fault.New(fault.Invalid, "row %d: %w", i, err)
		}
		out[i] = v
	}
	return out, nil
}

func signed(v uint64) (int64, error) {
	if v > math.MaxInt64 {
		return 0, fault.New(fault.Invalid, "%d is more than an INT64 holds; cast the column to float64 or to a string", v)
	}
	return int64(v), nil
}

const microsPerDay = 24 * 60 * 60 * 1_000_000

func timestamps(statuses []feature.Status, values []arrow.Timestamp, unit arrow.TimeUnit) ([]int64, error) {
	switch unit {
	case arrow.Second:
		return convert(statuses, values, func(v arrow.Timestamp) (int64, error) { return multiply(int64(v), 1_000_000) })
	case arrow.Millisecond:
		return convert(statuses, values, func(v arrow.Timestamp) (int64, error) { return multiply(int64(v), 1000) })
	case arrow.Microsecond:
		return widen[int64](statuses, arrow.Int64Traits.CastFromBytes(arrow.TimestampTraits.CastToBytes(values))), nil
	default:
		return convert(statuses, values, func(v arrow.Timestamp) (int64, error) { return floorDivide(int64(v), 1000), nil })
	}
}

func multiply(v, by int64) (int64, error) {
	if v > math.MaxInt64/by || v < math.MinInt64/by {
		return 0, fault.New(fault.Invalid, "the time %d is out of range: in microseconds it does not fit 64 bits", v)
	}
	return v * by, nil
}

func floorDivide(v, by int64) int64 {
	q := v / by
	if v%by < 0 {
		q--
	}
	return q
}

// fillBytes fills a STRING or BYTES column.
func fillBytes(c *feature.Column, arr arrow.Array) error {
	c.Offsets = append(make([]int, 0, arr.Len()+1), 0)
	value, err := valueBytes(arr)
	if err != nil {
		return err
	}
	for i, s := range c.Status {
		if s == feature.Present {
			start := len(c.Data)
			c.Data = value(c.Data, i)
			if c.Type == feature.String && !utf8.Valid(c.Data[start:]) {
				return fault.New(fault.Invalid, "row %d: the text is not valid UTF-8; send it as binary", i)
			}
		}
		c.Offsets = append(c.Offsets, len(c.Data))
	}
	return nil
}

// valueBytes returns what appends the bytes of row i.
func valueBytes(arr arrow.Array) (func(dst []byte, i int) []byte, error) {
	switch a := arr.(type) {
	case interface{ Value(int) string }:
		return func(dst []byte, i int) []byte { return append(dst, a.Value(i)...) }, nil
	case interface{ Value(int) []byte }:
		return func(dst []byte, i int) []byte { return append(dst, a.Value(i)...) }, nil
	default:
		return nil, fault.New(fault.Invalid, "Arrow type %v cannot be read", arr.DataType())
	}
}

// fromIndexed reads an array whose row i is values[index(i)].
func fromIndexed(arr, values arrow.Array, index func(i int) int) (*feature.Column, error) {
	distinct, err := fromArray(values)
	if err != nil {
		return nil, err
	}
	places := make([]int, arr.Len())
	for i := range places {
		places[i] = -1
		if arr.IsValid(i) {
			places[i] = index(i)
		}
	}
	if size := expandedBytes(distinct, places); size > maxBytes {
		return nil, fault.New(fault.Exhausted, "one Arrow dictionary expands to %d bytes, and the limit is %d; send smaller batches", size, maxBytes)
	}
	c := feature.NewColumn(distinct.Type, len(places))
	c.Take(distinct, places, feature.Null)
	return c, nil
}

// expandedBytes returns the bytes of variable-length values that rows of c at these places have.
func expandedBytes(c *feature.Column, places []int) int {
	size := 0
	for _, p := range places {
		if p < 0 || c.Offsets == nil {
			continue
		}
		start, end := c.Offsets[p], c.Offsets[p+1]
		switch {
		case c.Elem == nil:
			size += end - start
		case c.Elem.Offsets != nil:
			size += c.Elem.Offsets[end] - c.Elem.Offsets[start] + 8*(end-start)
		default:
			size += 8 * (end - start)
		}
	}
	return size
}

func fromExtension(a array.ExtensionArray) (*feature.Column, error) {
	storage, err := fromArray(a.Storage())
	if err != nil {
		return nil, err
	}
	switch a.DataType().(arrow.ExtensionType).ExtensionName() {
	case uuidName:
		return uuidText(storage)
	case bool8Name:
		c := &feature.Column{Type: feature.Bool, Status: storage.Status, Bools: make([]bool, len(storage.Int32s))}
		for i, v := range storage.Int32s {
			c.Bools[i] = v != 0
		}
		return c, nil
	default:
		return storage, nil
	}
}

// uuidText writes 16-byte values as UUIDs are written: in lower case, with hyphens.
func uuidText(storage *feature.Column) (*feature.Column, error) {
	c := feature.NewColumn(feature.String, storage.Len())
	for i, s := range storage.Status {
		if s != feature.Present {
			c.AppendMissing(s)
			continue
		}
		id, err := uuid.FromBytes(storage.BytesAt(i))
		if err != nil {
			return nil, fault.New(fault.Invalid, "row %d: %w", i, err)
		}
		c.AppendString(id.String())
	}
	return c, nil
}

func fromList(a array.ListLike) (*feature.Column, error) {
	statuses := statusesOf(a)
	first, last, err := span(a)
	if err != nil {
		return nil, err
	}
	slice := array.NewSlice(a.ListValues(), first, last)
	defer slice.Release()
	elem, err := fromArray(slice)
	if err != nil {
		return nil, err
	}
	c := feature.NewColumn(elem.Type.List(), len(statuses))
	for i, s := range statuses {
		if s != feature.Present {
			c.AppendMissing(s)
			continue
		}
		start, end := a.ValueOffsets(i)
		if slices.Contains(elem.Status[start-first:end-first], feature.Null) {
			return nil, fault.New(fault.Invalid, "row %d: the list has a null element, which a feature cannot hold; drop or fill it", i)
		}
		appendElements(c, elem, int(start-first), int(end-first))
	}
	return c, nil
}

// span returns the range of elements that the rows use. Ranges that go back would let a small array stand for a large one.
func span(a array.ListLike) (first, last int64, err error) {
	for i := range a.Len() {
		start, end := a.ValueOffsets(i)
		if i == 0 {
			first, last = start, start
		}
		if start != last || end < start {
			return 0, 0, fault.New(fault.Invalid, "the Arrow array is damaged: the list of row %d is elements %d to %d, after one that ends at %d", i, start, end, last)
		}
		last = end
	}
	return first, last, nil
}

// appendElements appends a list of elements from to to of src.
func appendElements(c, src *feature.Column, from, to int) {
	c.AppendList(func(elem *feature.Column) {
		switch src.Type {
		case feature.Bool:
			elem.Bools = append(elem.Bools, src.Bools[from:to]...)
		case feature.Int32:
			elem.Int32s = append(elem.Int32s, src.Int32s[from:to]...)
		case feature.Int64, feature.Timestamp:
			elem.Int64s = append(elem.Int64s, src.Int64s[from:to]...)
		case feature.Float:
			elem.Floats = append(elem.Floats, src.Floats[from:to]...)
		case feature.Double:
			elem.Doubles = append(elem.Doubles, src.Doubles[from:to]...)
		default:
			for i := from; i < to; i++ {
				elem.AppendBytes(src.BytesAt(i))
			}
		}
	})
}
