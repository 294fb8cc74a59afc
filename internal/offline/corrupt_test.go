package offline

import (
	"context"
	"strconv"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	oldparquet "github.com/xitongsys/parquet-go/parquet"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// victims are small files of many kinds: both page versions, all encodings that writers choose, lists, several row groups.
func victims(t testing.TB) [][]byte {
	fields := []arrow.Field{field("id", arrow.PrimitiveTypes.Int64), field("ts", timestampUTC)}
	columns := []arrow.Array{}
	all := []feature.Type{feature.Int64, feature.Timestamp, feature.Bool, feature.Int32, feature.Float, feature.Double, feature.String, feature.Bytes,
		feature.StringList, feature.DoubleList, feature.Int64List}
	for i, typ := range all {
		var values []any
		for row := range 40 {
			values = append(values, nilAt(int64((row+1)*(i%4)+row)%5-1, sampleValue(typ, row)))
		}
		if i > 1 {
			fields = append(fields, field(typ.String(), arrowType(typ)))
		}
		columns = append(columns, arrowArray(typ, values))
	}
	write := func(options ...parquet.WriterProperty) []byte {
		return writeArrow(t, 25, fields, columns, append(options, parquet.WithDataPageSize(100), parquet.WithBatchSize(10))...)
	}
	return [][]byte{
		write(parquet.WithCompression(compress.Codecs.Snappy)),
		write(parquet.WithDataPageVersion(parquet.DataPageV2), parquet.WithCompression(compress.Codecs.Zstd)),
		write(parquet.WithDictionaryDefault(false), parquet.WithPageIndexEnabled(true), parquet.WithCompression(compress.Codecs.Zstd)),
		write(parquet.WithPageIndexEnabled(true), parquet.WithDataPageVersion(parquet.DataPageV2)),
		write(parquet.WithDictionaryDefault(false), parquet.WithCompression(compress.Codecs.Lz4Raw)),
		write(parquet.WithDictionaryDefault(false), parquet.WithEncodingFor("INT32", parquet.Encodings.DeltaBinaryPacked),
			parquet.WithEncodingFor("STRING", parquet.Encodings.DeltaByteArray), parquet.WithEncodingFor("BYTES", parquet.Encodings.DeltaLengthByteArray),
			parquet.WithEncodingFor("DOUBLE", parquet.Encodings.ByteStreamSplit)),
		writeOld(t, oldparquet.CompressionCodec_GZIP, oldRows(50)),
	}
}

func sampleValue(t feature.Type, row int) any {
	switch t {
	case feature.Bool:
		return row%3 == 0
	case feature.Int32:
		return int32(row)
	case feature.Int64, feature.Timestamp:
		return int64(row)
	case feature.Float:
		return float32(row)
	case feature.Double:
		return float64(row)
	case feature.String:
		return "value " + strconv.Itoa(row%7)
	case feature.Bytes:
		return []byte{byte(row), 0xff}
	default:
		list := make([]any, row%4)
		for i := range list {
			list[i] = sampleValue(t.Elem(), row+i)
		}
		return list
	}
}

// readEverything reads all that can be read of a file: the schema, all rows, and some rows with skips between them.
func readEverything(ctx context.Context, data []byte) error {
	rows, err := RowsIn(ctx, "mutant", data)
	if err != nil {
		return err
	}
	var first error
	for _, column := range rows.Readable() {
		err := rows.Read(ctx, []RowColumn{column}, func([]*feature.Column) error { return nil })
		if err == nil {
			err = gatherSome(ctx, rows, column)
		}
		if first == nil {
			first = err
		}
	}
	for _, within := range []feature.TimeRange{{Min: 10, Max: 20}, {Min: 39, Max: 39}} {
		if err := readKeys(ctx, rows, within); first == nil {
			first = err
		}
	}
	return first
}

// readKeys reads the keys of a time range, if the file still has a column of keys and one of times.
func readKeys(ctx context.Context, rows *Rows, within feature.TimeRange) error {
	table := &Table{view: &feature.View{}, keys: 1, wants: []wanted{{"id", feature.Int64, "key", true}, {"ts", feature.Timestamp, "event time", true}}}
	for _, s := range rows.sources {
		bindings := make([]binding, len(table.wants))
		for i, w := range table.wants {
			var err error
			if bindings[i], err = s.bind(w); err != nil {
				return err
			}
		}
		for group := range s.footer.groups {
			f := &Fragment{table: table, source: s, group: group, bindings: bindings}
			if err := f.Keys(ctx, within, func(feature.KeyBatch) error { return nil }); err != nil {
				return err
			}
		}
	}
	return nil
}

func gatherSome(ctx context.Context, rows *Rows, column RowColumn) error {
	for _, s := range rows.sources {
		b, err := s.bind(wanted{column.Name, column.Type, "test", false})
		if err != nil {
			return err
		}
		for i, group := range s.footer.groups {
			var some []int64
			for row := int64(1); row < group.rows && len(some) < 50; row += 3 + row%11 {
				some = append(some, row)
			}
			for _, indexed := range []bool{false, true} {
				if err := gatherRows(ctx, s, i, b, some, indexed); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// gatherRows gathers rows of a column, with the page index or without.
func gatherRows(ctx context.Context, s *source, group int, b binding, rows []int64, indexed bool) error {
	g, err := s.newGroupReader(ctx, group, []binding{b})
	if err != nil {
		return err
	}
	defer g.close()
	if indexed {
		if err := g.locate(ctx); err != nil {
			return err
		}
	}
	g.prepare(ctx, rowList(rows), false)
	if err := g.open(ctx, 0); err != nil {
		return err
	}
	return g.gather(0, rows, feature.NewColumn(b.t, 0))
}

func TestTruncatedFiles(t *testing.T) {
	for i, data := range victims(t) {
		require.NoError(t, readEverything(t.Context(), data), "file %d", i)
		for _, n := range []int{0, 1, 3, 4, 7, 8, 11, 12, len(data) / 3, len(data) / 2, len(data) - 9, len(data) - 8, len(data) - 4, len(data) - 1} {
			err := readEverything(t.Context(), data[:n])
			require.Equal(t, fault.Corrupt, fault.KindOf(err), "file %d cut to %d: %v", i, n, err)
		}
		for n := 0; n < len(data); n += 1 + len(data)/200 {
			require.Error(t, readEverything(t.Context(), data[:n]), "file %d cut to %d", i, n)
		}
	}
}

func TestNotParquet(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "is empty",
		"PAR1":                        "has only 4 bytes",
		"id,ts\n1,2013-01-01\n2,2013": "of another format?",
		"PAR1\x00\x00\x00\x00PAR1":    "metadata is said to have 0 bytes",
		"PAR1\xff\xff\xff\x7fPAR1":    "metadata is said to have 2147483647 bytes",
	} {
		_, err := RowsIn(t.Context(), "x", []byte(text))
		require.Equal(t, fault.Corrupt, fault.KindOf(err))
		require.ErrorContains(t, err, want)
	}
	_, err := RowsIn(t.Context(), "x", []byte("PARE----\x04\x00\x00\x00PARE"))
	require.Equal(t, fault.Precondition, fault.KindOf(err))
	require.ErrorContains(t, err, "encrypted")
}

// TestDamagedColumnIsNamed damages one page and reads all columns.
func TestDamagedColumnIsNamed(t *testing.T) {
	p := filePlace(t)
	data := simple(t, 1, 2, 3, 4)
	rows, err := RowsIn(t.Context(), "x", data)
	require.NoError(t, err)
	x, _ := findColumn(rows.sources[0].footer.columns, "x")
	chunk := rows.sources[0].footer.groups[1].chunks[x.leaf]
	data[chunk.offset+1] = 0xff
	p.put(t, "t.parquet", data)
	table := p.store.Table(view("t.parquet", feature.Int64, xFeature))
	_, err = readTable(t.Context(), table, feature.AllTime())
	require.Equal(t, fault.Corrupt, fault.KindOf(err))
	require.ErrorContains(t, err, p.url+`/t.parquet, row group 1, column "x": `)
}

func FuzzPageHeader(f *testing.F) {
	f.Add([]byte{0x15, 0x00, 0x15, 0x10, 0x15, 0x10, 0x2c, 0x15, 0x04, 0x15, 0x00, 0x15, 0x06, 0x15, 0x06, 0x00, 0x00})
	f.Fuzz(func(t *testing.T, data []byte) {
		_, n, err := parsePageHeader(data)
		if n < 0 || n > len(data) {
			t.Fatalf("read %d of %d bytes: %v", n, len(data), err)
		}
	})
}
