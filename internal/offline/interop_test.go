package offline

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"
	"github.com/xitongsys/parquet-go-source/buffer"
	"github.com/xitongsys/parquet-go/parquet"
	"github.com/xitongsys/parquet-go/reader"
	"github.com/xitongsys/parquet-go/types"
	"github.com/xitongsys/parquet-go/writer"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// oldRow is a row as github.com/xitongsys/parquet-go writes it: converted types, INT96 times, decimals, maps, both forms of lists.
type oldRow struct {
	ID        int64            `parquet:"name=id, type=INT64"`
	TS        string           `parquet:"name=ts, type=INT96"`
	Bool      bool             `parquet:"name=bool, type=BOOLEAN"`
	OptInt32  *int32           `parquet:"name=opt_int32, type=INT32"`
	Int8      int32            `parquet:"name=int8, type=INT32, convertedtype=INT_8"`
	Uint16    int32            `parquet:"name=uint16, type=INT32, convertedtype=UINT_16"`
	Uint32    int32            `parquet:"name=uint32, type=INT32, convertedtype=UINT_32"`
	Uint64    int64            `parquet:"name=uint64, type=INT64, convertedtype=UINT_64"`
	Float     float32          `parquet:"name=float, type=FLOAT"`
	OptDouble *float64         `parquet:"name=opt_double, type=DOUBLE"`
	Raw       string           `parquet:"name=raw, type=BYTE_ARRAY"`
	Fixed     string           `parquet:"name=fixed, type=FIXED_LEN_BYTE_ARRAY, length=3"`
	UTF8      string           `parquet:"name=utf8, type=BYTE_ARRAY, convertedtype=UTF8, encoding=PLAIN_DICTIONARY"`
	OptUTF8   *string          `parquet:"name=opt_utf8, type=BYTE_ARRAY, convertedtype=UTF8"`
	Delta     string           `parquet:"name=delta, type=BYTE_ARRAY, convertedtype=UTF8, encoding=DELTA_BYTE_ARRAY"`
	DeltaLen  string           `parquet:"name=delta_len, type=BYTE_ARRAY, convertedtype=UTF8, encoding=DELTA_LENGTH_BYTE_ARRAY"`
	DeltaInt  int64            `parquet:"name=delta_int, type=INT64, encoding=DELTA_BINARY_PACKED"`
	Date      int32            `parquet:"name=date, type=INT32, convertedtype=DATE"`
	Millis    int64            `parquet:"name=millis, type=INT64, convertedtype=TIMESTAMP_MILLIS"`
	Micros    int64            `parquet:"name=micros, type=INT64, convertedtype=TIMESTAMP_MICROS"`
	Nanos     int64            `parquet:"name=nanos, type=INT64, logicaltype=TIMESTAMP, logicaltype.isadjustedtoutc=false, logicaltype.unit=NANOS"`
	OptTime   *int64           `parquet:"name=opt_time, type=INT64, convertedtype=TIMESTAMP_MILLIS"`
	Dec32     int32            `parquet:"name=dec32, type=INT32, convertedtype=DECIMAL, scale=2, precision=9"`
	Dec64     int64            `parquet:"name=dec64, type=INT64, convertedtype=DECIMAL, scale=3, precision=18"`
	DecFixed  string           `parquet:"name=dec_fixed, type=FIXED_LEN_BYTE_ARRAY, convertedtype=DECIMAL, scale=2, precision=20, length=12"`
	DecBytes  string           `parquet:"name=dec_bytes, type=BYTE_ARRAY, convertedtype=DECIMAL, scale=2, precision=20"`
	TimeOfDay int32            `parquet:"name=time_of_day, type=INT32, convertedtype=TIME_MILLIS"`
	Map       map[string]int32 `parquet:"name=map, type=MAP, convertedtype=MAP, keytype=BYTE_ARRAY, keyconvertedtype=UTF8, valuetype=INT32"`
	List      []string         `parquet:"name=list, type=LIST, convertedtype=LIST, valuetype=BYTE_ARRAY, valueconvertedtype=UTF8"`
	OptList   *[]float64       `parquet:"name=opt_list, type=LIST, convertedtype=LIST, valuetype=DOUBLE"`
	Repeated  []int32          `parquet:"name=repeated, type=INT32, repetitiontype=REPEATED"`
	Nested    oldNested        `parquet:"name=nested"`
}

type oldNested struct {
	Inner *int64 `parquet:"name=inner, type=INT64"`
}

func writeOld(t testing.TB, codec parquet.CompressionCodec, rows []oldRow) []byte {
	t.Helper()
	file := buffer.NewBufferFile()
	w, err := writer.NewParquetWriter(file, new(oldRow), 1)
	require.NoError(t, err)
	w.CompressionType = codec
	w.PageSize = 256
	for i, row := range rows {
		require.NoError(t, w.Write(row))
		if i%40 == 39 {
			require.NoError(t, w.Flush(true)) // ends the row group
		}
	}
	require.NoError(t, w.WriteStop())
	return file.Bytes()
}

func pointerTo[T any](v T, present bool) *T {
	if !present {
		return nil
	}
	return &v
}

// bigEndian gives v as a two's complement number of some bytes, or of as few as it needs.
func bigEndian(v int64, size int) string {
	n := big.NewInt(v)
	if v < 0 {
		n.Add(n, new(big.Int).Lsh(big.NewInt(1), uint(size)*8))
	}
	return string(n.FillBytes(make([]byte, size)))
}

func oldRows(n int) []oldRow {
	rows := make([]oldRow, n)
	for i := range rows {
		at := time.Date(2013, 1, 1, 0, 0, i, 123456789, time.UTC).Add(-time.Duration(i) * 50000 * time.Hour / 10)
		rows[i] = oldRow{
			ID: int64(i), TS: types.TimeToINT96(at), Bool: i%3 == 0, OptInt32: pointerTo(int32(-i), i%4 != 1), Int8: int32(-i % 128),
			Uint16: int32(65535 - i), Uint32: -1 - int32(i), Uint64: math.MaxInt64 - int64(i), Float: float32(i) / 3,
			OptDouble: pointerTo(float64(i)/3, i%5 != 0), Raw: string([]byte{0xff, byte(i)}), Fixed: fmt.Sprintf("%03d", i),
			UTF8: fmt.Sprintf("ü%d", i%7), OptUTF8: pointerTo(fmt.Sprint(i), i%2 == 0), Delta: fmt.Sprintf("prefix-%05d", i),
			DeltaLen: fmt.Sprint("x", i), DeltaInt: int64(i) * int64(i), Date: int32(i - 50), Millis: int64(i) - 50, Micros: int64(i) - 50, Nanos: int64(i)*777 - 50_000,
			OptTime: pointerTo(int64(i), i%2 == 1), Dec32: int32(i*7 - 300), Dec64: int64(i)*1_000_003 - 5, DecFixed: bigEndian(int64(i)-50, 12),
			DecBytes: bigEndian(int64(i)-50, 9), TimeOfDay: int32(i), Map: map[string]int32{"a": int32(i)},
			Nested: oldNested{pointerTo(int64(i), i%3 == 1)},
		}
		for k := range i % 4 {
			rows[i].List = append(rows[i].List, fmt.Sprint(i, k))
			rows[i].Repeated = append(rows[i].Repeated, int32(i*10+k))
		}
		if i%3 != 0 {
			list := make([]float64, i%3-1)
			for k := range list {
				list[k] = float64(i)
			}
			rows[i].OptList = &list
		}
	}
	return rows
}

// want gives what a column of oldRow should read as.
func (r oldRow) want() map[string]any {
	floor := func(ns int64) int64 { return int64(math.Floor(float64(ns) / 1000)) }
	optional := func(present bool, v func() any) any {
		if !present {
			return nil
		}
		return v()
	}
	list, repeated := []any{}, []any{}
	for _, v := range r.List {
		list = append(list, v)
	}
	for _, v := range r.Repeated {
		repeated = append(repeated, v)
	}
	i := r.ID
	return map[string]any{
		"bool": r.Bool, "opt_int32": optional(r.OptInt32 != nil, func() any { return *r.OptInt32 }), "int8": r.Int8, "uint16": r.Uint16,
		"uint32": int64(uint32(r.Uint32)), "uint64": r.Uint64, "float": r.Float,
		"opt_double": optional(r.OptDouble != nil, func() any { return *r.OptDouble }), "raw": []byte(r.Raw), "fixed": []byte(r.Fixed),
		"utf8": r.UTF8, "opt_utf8": optional(r.OptUTF8 != nil, func() any { return *r.OptUTF8 }), "delta": r.Delta, "delta_len": r.DeltaLen, "delta_int": r.DeltaInt,
		"date": int64(r.Date) * microsPerDay, "millis": r.Millis * 1000, "micros": r.Micros, "nanos": floor(r.Nanos),
		"opt_time": optional(r.OptTime != nil, func() any { return *r.OptTime * 1000 }), "dec32": float64(r.Dec32) / 100, "dec64": float64(r.Dec64) / 1000,
		"dec_fixed": float64(i-50) / 100, "dec_bytes": float64(i-50) / 100, "list": list, "repeated": repeated,
		"opt_list": optional(r.OptList != nil, func() any {
			out := []any{}
			for _, v := range *r.OptList {
				out = append(out, v)
			}
			return out
		}),
		"nested.inner": optional(r.Nested.Inner != nil, func() any { return *r.Nested.Inner }),
	}
}

var oldTypes = map[string]feature.Type{
	"bool": feature.Bool, "opt_int32": feature.Int32, "int8": feature.Int32, "uint16": feature.Int32, "uint32": feature.Int64,
	"uint64": feature.Int64, "float": feature.Float, "opt_double": feature.Double, "raw": feature.Bytes, "fixed": feature.Bytes, "utf8": feature.String,
	"opt_utf8": feature.String, "delta": feature.String, "delta_len": feature.String, "delta_int": feature.Int64, "date": feature.Timestamp, "millis": feature.Timestamp,
	"micros": feature.Timestamp, "nanos": feature.Timestamp, "opt_time": feature.Timestamp, "list": feature.StringList, "repeated": feature.Int32List,
	"opt_list": feature.DoubleList, "nested.inner": feature.Int64,
}

func TestFilesOfAnotherWriterReadExactly(t *testing.T) {
	rows := oldRows(100)
	p := filePlace(t)
	for _, codec := range []parquet.CompressionCodec{parquet.CompressionCodec_SNAPPY, parquet.CompressionCodec_UNCOMPRESSED, parquet.CompressionCodec_GZIP, parquet.CompressionCodec_ZSTD} {
		t.Run(codec.String(), func(t *testing.T) {
			p.put(t, codec.String()+".parquet", writeOld(t, codec, rows))
			var features []feature.Feature
			for name := range rows[0].want() {
				typ, ok := oldTypes[name]
				if !ok {
					typ = feature.Double // decimals
				}
				features = append(features, feature.Feature{Name: name, Type: typ})
			}
			h, err := readTable(t.Context(), p.store.Table(view(codec.String()+".parquet", feature.Int64, features...)), feature.AllTime())
			require.NoError(t, err)
			require.Greater(t, len(h.files), 1, "the file should have several row groups")
			for i, row := range rows {
				require.Equal(t, row.ID, h.columns[0].ValueAt(i))
				require.Equal(t, types.INT96ToTime(row.TS).Truncate(0).UnixMicro(), h.columns[1].ValueAt(i), "row %d", i)
				want := row.want()
				for k, f := range features {
					require.Equal(t, want[f.Name], h.columns[2+k].ValueAt(i), "row %d, %s", i, f.Name)
				}
			}
		})
	}
}

func TestSchemaOfAnotherWriter(t *testing.T) {
	p := filePlace(t)
	p.put(t, "old.parquet", writeOld(t, parquet.CompressionCodec_SNAPPY, oldRows(3)))
	schema, err := p.store.Schema(t.Context(), "old.parquet")
	require.NoError(t, err)
	refused := map[string]string{}
	for _, c := range schema.Columns {
		if c.Type == 0 {
			refused[c.Name] = c.Reason
			continue
		}
		if want, ok := oldTypes[c.Name]; ok {
			require.Equal(t, want, c.Type, c.Name)
			require.NoError(t, c.CanRead(want))
		}
	}
	require.Len(t, refused, 6, "%v", refused)
	require.Contains(t, refused["map"], "map")
	require.Contains(t, refused["time_of_day"], "time of day")
	require.Contains(t, refused["dec32"], "DOUBLE")
	list, _ := schema.Column("opt_list")
	require.True(t, list.Nullable)
	require.Equal(t, fault.Precondition, fault.KindOf(list.CanRead(feature.Double)))
	require.ErrorContains(t, list.CanRead(feature.Double), "declare it DOUBLE_LIST")

	rows, err := p.store.OpenRows(t.Context(), "old.parquet")
	require.NoError(t, err)
	require.EqualValues(t, 3, rows.NumRows())
	require.Len(t, rows.Readable(), len(schema.Columns)-6)
	err = rows.Read(t.Context(), []RowColumn{{Name: "map"}}, func([]*feature.Column) error { return nil })
	require.ErrorContains(t, err, `column "map" cannot be read: it is a map`)
	err = rows.Read(t.Context(), []RowColumn{{Name: "utf9"}}, func([]*feature.Column) error { return nil })
	require.ErrorContains(t, err, `did you mean "utf8"?`)
}

// newRow is a row as our writer's files should look to github.com/xitongsys/parquet-go.
type newRow struct {
	ID   *int64   `parquet:"name=id, type=INT64"`
	At   *int64   `parquet:"name=at, type=INT64, convertedtype=TIMESTAMP_MICROS"`
	Name *string  `parquet:"name=name, type=BYTE_ARRAY, convertedtype=UTF8"`
	X    *float64 `parquet:"name=x, type=DOUBLE"`
}

func TestWrittenFilesReadBack(t *testing.T) {
	nanos := &arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "UTC"}
	schema := arrow.NewSchema([]arrow.Field{field("id", arrow.PrimitiveTypes.Int64), field("at", nanos), field("name", arrow.BinaryTypes.String),
		field("x", arrow.PrimitiveTypes.Float64)}, nil)
	var b bytes.Buffer
	w, err := NewParquetWriter(&b, schema)
	require.NoError(t, err)
	const batches, rows = 3, 500
	for batch := range batches {
		columns := make([][]any, 4)
		for i := range rows {
			n := int64(batch*rows + i)
			columns[0], columns[1] = append(columns[0], n), append(columns[1], n*1000+1)
			columns[2], columns[3] = append(columns[2], nilAt(n%3, fmt.Sprint("n", n%10))), append(columns[3], nilAt(n%4, float64(n)/7))
		}
		builder := array.NewTimestampBuilder(memory.DefaultAllocator, nanos)
		for _, v := range columns[1] {
			builder.Append(arrow.Timestamp(v.(int64)))
		}
		record := array.NewRecordBatch(schema, []arrow.Array{arrowArray(feature.Int64, columns[0]), builder.NewArray(),
			arrowArray(feature.String, columns[2]), arrowArray(feature.Double, columns[3])}, rows)
		require.NoError(t, w.Write(record))
		record.Release()
	}
	require.NoError(t, w.Close())

	r, err := reader.NewParquetReader(buffer.NewBufferFileFromBytes(b.Bytes()), new(newRow), 1)
	require.NoError(t, err)
	defer r.ReadStop()
	require.EqualValues(t, batches*rows, r.GetNumRows())
	got := make([]newRow, batches*rows)
	require.NoError(t, r.Read(&got))
	for i, row := range got {
		n := int64(i)
		require.Equal(t, n, *row.ID)
		require.Equal(t, n, *row.At)
		require.Equal(t, nilAt(n%3, fmt.Sprint("n", n%10)) == nil, row.Name == nil)
		require.Equal(t, nilAt(n%4, float64(n)/7) == nil, row.X == nil)
		if row.X != nil {
			require.Equal(t, float64(n)/7, *row.X)
		}
		if row.Name != nil {
			require.Equal(t, fmt.Sprint("n", n%10), *row.Name)
		}
	}

	mine, err := RowsIn(t.Context(), "standard input", b.Bytes())
	require.NoError(t, err)
	read := 0
	err = mine.Read(t.Context(), mine.Readable(), func(columns []*feature.Column) error {
		for i := range columns[0].Len() {
			n := int64(read + i)
			require.Equal(t, n, columns[0].ValueAt(i))
			require.Equal(t, n, columns[1].ValueAt(i))
			require.Equal(t, nilAt(n%3, fmt.Sprint("n", n%10)), columns[2].ValueAt(i))
		}
		read += columns[0].Len()
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, batches*rows, read)
}

func nilAt(n int64, v any) any {
	if n == 0 {
		return nil
	}
	return v
}

// TestNanosecondsAreRoundedDown: written as they are read and hashed, before 1970 too.
func TestNanosecondsAreRoundedDown(t *testing.T) {
	nanos := &arrow.TimestampType{Unit: arrow.Nanosecond}
	b := array.NewTimestampBuilder(memory.DefaultAllocator, nanos)
	for _, v := range []arrow.Timestamp{-1500, -1000, -1, 0, 1500, math.MinInt64} {
		b.Append(v)
	}
	b.AppendNull()
	schema := arrow.NewSchema([]arrow.Field{{Name: "t", Type: nanos, Nullable: true}}, nil)
	var out bytes.Buffer
	w, err := NewParquetWriter(&out, schema)
	require.NoError(t, err)
	require.NoError(t, w.Write(array.NewRecordBatch(schema, []arrow.Array{b.NewArray()}, 7)))
	require.NoError(t, w.Close())
	rows, err := RowsIn(t.Context(), "x", out.Bytes())
	require.NoError(t, err)
	var got []int64
	require.NoError(t, rows.Read(t.Context(), rows.Readable(), func(columns []*feature.Column) error {
		for row := range columns[0].Len() {
			if columns[0].IsPresent(row) {
				got = append(got, columns[0].Int64s[row])
			}
		}
		return nil
	}))
	require.Equal(t, []int64{-2, -1, -1, 0, 1, math.MinInt64 / 1000}, got)
}
