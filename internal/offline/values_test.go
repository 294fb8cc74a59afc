package offline

import (
	"bytes"
	"math"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// leafFile writes one column, whose node may be anything with one leaf, with the levels as given.
func leafFile[T physical](t testing.TB, node schema.Node, values []T, defs, reps []int16) []byte {
	t.Helper()
	root, err := schema.NewGroupNode("root", parquet.Repetitions.Required, schema.FieldList{node}, -1)
	require.NoError(t, err)
	var b bytes.Buffer
	w := file.NewParquetWriter(&b, root)
	group, err := w.AppendRowGroupChecked()
	require.NoError(t, err)
	column, err := group.NextColumn()
	require.NoError(t, err)
	_, err = column.(interface {
		WriteBatch(values []T, defs, reps []int16) (int64, error)
	}).WriteBatch(values, defs, reps)
	require.NoError(t, err)
	require.NoError(t, column.Close())
	require.NoError(t, group.Close())
	require.NoError(t, w.Close())
	return b.Bytes()
}

func readLeaf(t testing.TB, data []byte, as feature.Type) ([]any, error) {
	t.Helper()
	rows, err := RowsIn(t.Context(), "x", data)
	require.NoError(t, err)
	name := rows.Schema().Columns[0].Name
	var out []any
	err = rows.Read(t.Context(), []RowColumn{{name, as}}, func(c []*feature.Column) error {
		out = append(out, valuesOf(c[0])...)
		return nil
	})
	return out, err
}

func logical(t testing.TB, l schema.LogicalType, p parquet.Type, size int) schema.Node {
	n, err := schema.NewPrimitiveNodeLogical("c", parquet.Repetitions.Required, l, p, size, -1)
	require.NoError(t, err)
	return n
}

// checkLeaf writes values of a required column and checks what they read as; a nil want is a refusal that says text.
func checkLeaf[T physical](t *testing.T, l schema.LogicalType, p parquet.Type, size int, values []T, as feature.Type, want []any, text string) {
	t.Helper()
	got, err := readLeaf(t, leafFile(t, logical(t, l, p, size), values, nil, nil), as)
	if want == nil {
		require.ErrorContains(t, err, text)
		require.ErrorContains(t, err, `column "c"`)
		require.Regexp(t, "^x[:,] ", err.Error())
		return
	}
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestIntegers(t *testing.T) {
	unsigned64, unsigned32 := schema.NewIntLogicalType(64, false), schema.NewIntLogicalType(32, false)
	none := schema.NoLogicalType{}
	int32s, int64s := parquet.Types.Int32, parquet.Types.Int64
	checkLeaf(t, unsigned64, int64s, 0, []int64{0, math.MaxInt64}, 0, []any{int64(0), int64(math.MaxInt64)}, "")
	checkLeaf(t, unsigned64, int64s, 0, []int64{1, -1}, 0, nil, "18446744073709551615 does not fit INT64")
	checkLeaf(t, unsigned32, int32s, 0, []int32{-1}, 0, []any{int64(math.MaxUint32)}, "")
	checkLeaf(t, unsigned32, int32s, 0, []int32{-1}, feature.Double, []any{float64(math.MaxUint32)}, "")
	checkLeaf(t, unsigned32, int32s, 0, []int32{-1}, feature.Int32, nil, "declare it INT64")
	checkLeaf(t, schema.NewIntLogicalType(16, false), int32s, 0, []int32{65535}, 0, []any{int32(65535)}, "")
	checkLeaf(t, none, int32s, 0, []int32{-5}, feature.Int64, []any{int64(-5)}, "")
	checkLeaf(t, none, int32s, 0, []int32{-5}, feature.Double, []any{-5.}, "")
	checkLeaf(t, none, int32s, 0, []int32{-5}, feature.Float, nil, "declare it INT32")
	checkLeaf(t, none, int64s, 0, []int64{1}, feature.Int32, nil, "declare it INT64")
	checkLeaf(t, none, int64s, 0, []int64{1}, feature.Double, nil, "declare it INT64")
	checkLeaf(t, none, int64s, 0, []int64{1}, feature.Timestamp, nil, "as a Parquet TIMESTAMP")
	checkLeaf(t, schema.NewTimeLogicalType(true, schema.TimeUnitMicros), int64s, 0, []int64{1}, 0, nil, "time of day")
}

func TestTimes(t *testing.T) {
	stamp := func(utc bool, unit schema.TimeUnitType) schema.LogicalType {
		return schema.NewTimestampLogicalType(utc, unit)
	}
	int64s := parquet.Types.Int64
	for _, utc := range []bool{true, false} {
		checkLeaf(t, stamp(utc, schema.TimeUnitNanos), int64s, 0, []int64{1999, -1, -1000, -1001}, 0, []any{int64(1), int64(-1), int64(-1), int64(-2)}, "")
		checkLeaf(t, stamp(utc, schema.TimeUnitMillis), int64s, 0, []int64{-3}, 0, []any{int64(-3000)}, "")
		checkLeaf(t, stamp(utc, schema.TimeUnitMicros), int64s, 0, []int64{-3}, 0, []any{int64(-3)}, "")
	}
	checkLeaf(t, stamp(true, schema.TimeUnitMillis), int64s, 0, []int64{math.MaxInt64 / 999}, 0, nil, "out of the range")
	checkLeaf(t, stamp(true, schema.TimeUnitMillis), int64s, 0, []int64{math.MinInt64 / 999}, 0, nil, "out of the range")
	checkLeaf(t, stamp(true, schema.TimeUnitMillis), int64s, 0, []int64{1}, feature.Int64, nil, "declare it TIMESTAMP")
	checkLeaf(t, schema.DateLogicalType{}, parquet.Types.Int32, 0, []int32{-1, 15706}, 0,
		[]any{int64(-microsPerDay), time.Date(2013, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()}, "")
	checkLeaf(t, schema.DateLogicalType{}, parquet.Types.Int32, 0, []int32{math.MaxInt32}, 0, nil, "out of the range")
	var before, bad parquet.Int96
	before.SetNanoSeconds(1999)
	before[8], before[9], before[10] = 0x8b, 0x3d, 0x25 // Julian day 2440587: 1969-12-31
	bad[11] = 0xff
	checkLeaf(t, schema.NoLogicalType{}, parquet.Types.Int96, 0, []parquet.Int96{before}, 0, []any{int64(-microsPerDay + 1)}, "")
	checkLeaf(t, schema.NoLogicalType{}, parquet.Types.Int96, 0, []parquet.Int96{bad}, 0, nil, "out of the range")
}

func TestBytesAndText(t *testing.T) {
	type fixed = parquet.FixedLenByteArray
	type bytes = parquet.ByteArray
	text, none := schema.StringLogicalType{}, schema.NoLogicalType{}
	array, fixeds := parquet.Types.ByteArray, parquet.Types.FixedLenByteArray
	checkLeaf(t, text, array, 0, []bytes{[]byte("ü"), []byte("")}, 0, []any{"ü", ""}, "")
	checkLeaf(t, text, array, 0, []bytes{{0xff}}, 0, nil, "row group 0")
	checkLeaf(t, text, array, 0, []bytes{{0xff}}, 0, nil, "not UTF-8")
	checkLeaf(t, text, array, 0, []bytes{{0xff}}, feature.Bytes, []any{[]byte{0xff}}, "")
	checkLeaf(t, none, array, 0, []bytes{[]byte("a")}, 0, []any{[]byte("a")}, "")
	checkLeaf(t, none, array, 0, []bytes{[]byte("a")}, feature.String, []any{"a"}, "")
	checkLeaf(t, none, array, 0, []bytes{{0xff}}, feature.String, nil, "not UTF-8")
	checkLeaf(t, schema.EnumLogicalType{}, array, 0, []bytes{[]byte("a")}, 0, []any{"a"}, "")
	checkLeaf(t, schema.JSONLogicalType{}, array, 0, []bytes{[]byte("{}")}, 0, []any{"{}"}, "")
	uuid := fixed{0x55, 0x0e, 0x84, 0x00, 0xe2, 0x9b, 0x41, 0xd4, 0xa7, 0x16, 0x44, 0x66, 0x55, 0x44, 0x00, 0x00}
	checkLeaf(t, schema.UUIDLogicalType{}, fixeds, 16, []fixed{uuid}, 0, []any{"550e8400-e29b-41d4-a716-446655440000"}, "")
	checkLeaf(t, schema.UUIDLogicalType{}, fixeds, 16, []fixed{uuid}, feature.Bytes, []any{[]byte(uuid)}, "")
	checkLeaf(t, none, fixeds, 2, []fixed{[]byte("ab")}, feature.String, []any{"ab"}, "")
	checkLeaf(t, schema.Float16LogicalType{}, fixeds, 2, []fixed{{0x00, 0x3e}, {0x00, 0xfc}}, 0, []any{float32(1.5), float32(math.Inf(-1))}, "")
}

func TestDecimals(t *testing.T) {
	two := schema.NewDecimalLogicalType(9, 2)
	checkLeaf(t, two, parquet.Types.Int32, 0, []int32{-12345}, feature.Double, []any{-123.45}, "")
	checkLeaf(t, two, parquet.Types.Int32, 0, []int32{1}, 0, nil, "declare it DOUBLE")
	checkLeaf(t, two, parquet.Types.Int32, 0, []int32{1}, feature.Int32, nil, "declare it DOUBLE")
	checkLeaf(t, schema.NewDecimalLogicalType(18, 17), parquet.Types.Int64, 0, []int64{123456789012345678}, feature.Double, []any{1.23456789012345678}, "")
	// Above 2^53 the integer itself is no DOUBLE: to round it first and the quotient then would give 1119497658106.3447.
	checkLeaf(t, schema.NewDecimalLogicalType(18, 5), parquet.Types.Int64, 0, []int64{111949765810634460}, feature.Double, []any{1119497658106.3445}, "")
	wide := schema.NewDecimalLogicalType(38, 10)
	negative := bytes.Repeat([]byte{0xff}, 16)
	checkLeaf(t, wide, parquet.Types.FixedLenByteArray, 16, []parquet.FixedLenByteArray{negative}, feature.Double, []any{-1e-10}, "")
	checkLeaf(t, schema.NewDecimalLogicalType(30, 1), parquet.Types.ByteArray, 0, []parquet.ByteArray{{0xff, 0x38}, {5}, {}}, feature.Double, []any{-20., 0.5, 0.}, "")
}

// TestListForms reads lists in every form that the format's rules for older writers name.
func TestListForms(t *testing.T) {
	req, opt, rep := parquet.Repetitions.Required, parquet.Repetitions.Optional, parquet.Repetitions.Repeated
	leaf := func(name string, r parquet.Repetition) schema.Node { return schema.NewInt32Node(name, r, -1) }
	group := func(name string, r parquet.Repetition, fields ...schema.Node) schema.Node {
		return schema.MustGroup(schema.NewGroupNode(name, r, fields, -1))
	}
	list := func(r parquet.Repetition, repeated schema.Node) schema.Node {
		return schema.MustGroup(schema.NewGroupNodeConverted("l", r, schema.FieldList{repeated}, schema.ConvertedTypes.List, -1))
	}
	// Three rows: [1 2], an empty list, and null where the form has it.
	for _, test := range []struct {
		name       string
		node       schema.Node
		defs, reps []int16
		want       []any
	}{
		{"standard", list(opt, group("list", rep, leaf("element", opt))), []int16{3, 3, 1, 0}, []int16{0, 1, 0, 0}, []any{[]any{int32(1), int32(2)}, []any{}, nil}},
		{"required", list(req, group("list", rep, leaf("element", req))), []int16{1, 1, 0}, []int16{0, 1, 0}, []any{[]any{int32(1), int32(2)}, []any{}}},
		{"two levels", list(opt, leaf("element", rep)), []int16{2, 2, 1, 0}, []int16{0, 1, 0, 0}, []any{[]any{int32(1), int32(2)}, []any{}, nil}},
		{"bag", list(opt, group("bag", rep, leaf("array_element", opt))), []int16{3, 3, 1, 0}, []int16{0, 1, 0, 0}, []any{[]any{int32(1), int32(2)}, []any{}, nil}},
		{"bare", leaf("l", rep), []int16{1, 1, 0}, []int16{0, 1, 0}, []any{[]any{int32(1), int32(2)}, []any{}}},
		{"below a struct", group("s", opt, list(opt, group("list", rep, leaf("element", req)))), []int16{3, 3, 2, 1, 0}, []int16{0, 1, 0, 0, 0},
			[]any{[]any{int32(1), int32(2)}, []any{}, nil, nil}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := readLeaf(t, leafFile(t, test.node, []int32{1, 2}, test.defs, test.reps), 0)
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
	standard := list(opt, group("list", rep, leaf("element", opt)))
	got, err := readLeaf(t, leafFile(t, standard, []int32{7}, []int16{3, 0}, []int16{0, 0}), feature.Int64List)
	require.NoError(t, err)
	require.Equal(t, []any{[]any{int64(7)}, nil}, got)

	_, err = readLeaf(t, leafFile(t, standard, []int32{1, 2}, []int16{3, 3, 2}, []int16{0, 0, 1}), 0)
	require.ErrorContains(t, err, `row group 0, column "l": row 1: a list has a null element`)
	require.Equal(t, fault.Precondition, fault.KindOf(err))

	for name, refused := range map[string]schema.Node{
		"array": list(opt, group("array", rep, leaf("x", req))), "tuple": list(opt, group("l_tuple", rep, leaf("x", req))),
		"struct": list(opt, group("list", rep, group("element", opt, leaf("x", req)))), "nested": list(opt, group("list", rep, leaf("element", rep))),
	} {
		defs, reps := []int16{0}, []int16{0}
		rows, err := RowsIn(t.Context(), "x", leafFile(t, refused, []int32{}, defs, reps))
		require.NoError(t, err)
		require.Zero(t, rows.Schema().Columns[0].Type, name)
		require.Contains(t, rows.Schema().Columns[0].Reason, "list of", name)
	}
}

func TestNullColumnReadsAsAnything(t *testing.T) {
	node, err := schema.NewPrimitiveNodeLogical("c", parquet.Repetitions.Optional, schema.NullLogicalType{}, parquet.Types.Int32, -1, -1)
	require.NoError(t, err)
	data := leafFile(t, node, []int32{}, []int16{0, 0}, nil)
	for _, typ := range []feature.Type{feature.String, feature.Double, feature.Timestamp} {
		got, err := readLeaf(t, data, typ)
		require.NoError(t, err)
		require.Equal(t, []any{nil, nil}, got)
	}
	_, err = readLeaf(t, data, 0)
	require.ErrorContains(t, err, "declare one")
}

func TestPartitionTypes(t *testing.T) {
	for want, values := range map[feature.Type][]string{
		feature.Int64: {"1", "-2", hiveNull}, feature.Timestamp: {"2013-01-01", "2013-01-01 10:00:00"}, feature.String: {"01", "2"},
	} {
		var parts []partition
		for _, v := range values {
			parts = append(parts, partitionsOf("/a/k="+v+"/f.parquet")...)
		}
		require.Equal(t, want, inferType(parts), "%v", values)
	}
	require.Equal(t, feature.String, inferType(nil))
	parts := partitionsOf("k=1/j=x%20y/k=2/f=3.parquet")
	require.Equal(t, []partition{{name: "j", value: "x y"}, {name: "k", value: "2"}}, parts)
	null, err := partitionsOf("k=" + hiveNull + "/f.parquet")[0].column(feature.String)
	require.NoError(t, err)
	require.Equal(t, []feature.Status{feature.Null}, null.Status)
}
