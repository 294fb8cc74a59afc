package training

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// arrayRecord returns arrays as a record.
func arrayRecord(names []string, arrays ...arrow.Array) arrow.RecordBatch {
	var fields []arrow.Field
	for i, a := range arrays {
		fields = append(fields, arrow.Field{Name: names[i], Type: a.DataType(), Nullable: true})
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), arrays, int64(arrays[0].Len()))
}

// unionOf is a column of a type that cannot pass through.
func unionOf(t testing.TB) arrow.Array {
	u, err := array.NewSparseUnionFromArrays(arrayOf(t, arrow.PrimitiveTypes.Int8, "0"), []arrow.Array{arrayOf(t, arrow.PrimitiveTypes.Int32, "1")})
	require.NoError(t, err)
	return u
}

// numbered is a record of numbers from from up to but without to, as a number and as a text of so many characters more.
func numbered(t testing.TB, from, to, characters int) arrow.RecordBatch {
	t.Helper()
	numbers, texts := feature.NewColumn(feature.Int64, to-from), feature.NewColumn(feature.String, to-from)
	for i := from; i < to; i++ {
		numbers.AppendInt64(int64(i))
		texts.AppendString(strconv.Itoa(i) + strings.Repeat("x", characters))
	}
	return recordOf(t, []string{"number", "text"}, numbers, texts)
}

// requireNumbered fails unless arrays are those of numbered.
func requireNumbered(t testing.TB, arrays []arrow.Array, from, to int) {
	t.Helper()
	for _, a := range arrays {
		require.Equal(t, to-from, a.Len())
	}
	for i := range to - from {
		number := strconv.Itoa(from + i)
		if arrays[0].ValueStr(i) != number || strings.TrimRight(arrays[1].ValueStr(i), "x") != number {
			t.Fatalf("row %d is %s, %s", from+i, arrays[0].ValueStr(i), arrays[1].ValueStr(i))
		}
	}
}

// TestSpool appends records of any size and reads any range.
func TestSpool(t *testing.T) {
	eachSeed(t, 15, func(t *testing.T, r *rand.Rand) {
		dir, rows := t.TempDir(), 0
		s := newSpool(numbered(t, 0, 0, 0).Schema(), oneOf[int64](r, 0, 100_000, 2_000_000, 1<<40), dir)
		most, characters := oneOf(r, 3, 100, 20_000), oneOf(r, 0, 0, 200)
		for range r.IntN(60) {
			n := r.IntN(most + 1)
			record := numbered(t, rows, rows+n, characters)
			require.NoError(t, s.append(record))
			record.Release()
			rows += n
			if rows > 200_000 {
				break
			}
		}
		require.NoError(t, s.finish())
		require.Equal(t, int64(rows), s.rows)
		requireEmptyFolder(t, dir)
		for range 10 {
			from := r.IntN(rows + 1)
			to := from + r.IntN(rows-from+1)
			arrays, err := s.arrays(t.Context(), int64(from), int64(to))
			require.NoError(t, err)
			requireNumbered(t, arrays, from, to)
			releaseArrays(arrays)
			next := from
			require.NoError(t, s.each(t.Context(), int64(from), int64(to), func(record arrow.RecordBatch) error {
				requireNumbered(t, record.Columns(), next, next+int(record.NumRows()))
				next += int(record.NumRows())
				return nil
			}))
			require.Equal(t, to, next)
		}
		file := s.file
		require.NoError(t, s.close())
		require.NoError(t, s.close())
		if file != nil {
			require.ErrorIs(t, file.Close(), os.ErrClosed)
		}
		requireEmptyFolder(t, dir)
	})
}

func requireEmptyFolder(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries, "the file has a name")
}

// TestSpoolOfTinyRecords: a record a row does not cost a record's overhead each, in memory or in the file.
func TestSpoolOfTinyRecords(t *testing.T) {
	for name, memory := range map[string]int64{"in memory": 1 << 40, "in a file": 0} {
		t.Run(name, func(t *testing.T) {
			s := newSpool(numbered(t, 0, 0, 0).Schema(), memory, t.TempDir())
			defer func() { require.NoError(t, s.close()) }()
			const rows = 3 * segmentRows
			for i := range rows {
				require.NoError(t, s.append(numbered(t, i, i+1, 0)))
			}
			require.NoError(t, s.finish())
			require.Len(t, s.segments, 3)
			records := 0
			require.NoError(t, s.each(t.Context(), 0, rows, func(arrow.RecordBatch) error { records++; return nil }))
			require.Equal(t, 3, records)
			require.Less(t, s.bytes, int64(rows*40))
			require.Less(t, s.fileEnd, int64(rows*40))
		})
	}
}

// TestSpoolOfGiantRecord: a record of many rows is kept in pieces, so that a few rows do not read all of it.
func TestSpoolOfGiantRecord(t *testing.T) {
	s := newSpool(numbered(t, 0, 0, 0).Schema(), 0, t.TempDir())
	defer func() { require.NoError(t, s.close()) }()
	const rows = 10*pieceRows + 5
	require.NoError(t, s.append(numbered(t, 0, rows, 0)))
	require.NoError(t, s.finish())
	require.Len(t, s.segments, 11)
	arrays, err := s.arrays(t.Context(), rows-3, rows)
	require.NoError(t, err)
	requireNumbered(t, arrays, rows-3, rows)
}

// TestDictionariesOfTheirOwn: records with a dictionary each are one column, though it has more values than an index of 8 bits names.
func TestDictionariesOfTheirOwn(t *testing.T) {
	for name, memory := range map[string]int64{"in memory": 1 << 40, "in a file": 0} {
		t.Run(name, func(t *testing.T) {
			const rows = 1000
			dt := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}
			rest := weatherRecord(t, 2, 0)
			record := func(value string) arrow.RecordBatch {
				return arrayRecord([]string{"id", "time", "x"}, rest.Column(0), rest.Column(1), arrayOf(t, dt, value, nil))
			}
			e, err := NewEntityRows(weatherSpec(t, &memorySource{history: weather(1, 1)}), tinyBudget(memory), unlimited(t))
			require.NoError(t, err)
			defer func() { require.NoError(t, e.Close()) }()
			require.NoError(t, e.Start(record("").Schema()))
			for i := range rows {
				require.NoError(t, e.Append(record(fmt.Sprint(i))))
			}
			require.NoError(t, e.Finish())
			arrays, err := e.spool.arrays(t.Context(), 0, 2*rows)
			require.NoError(t, err)
			require.Equal(t, e.Schema().Field(2).Type, arrays[2].DataType())
			for i := range rows {
				require.Equal(t, fmt.Sprint(i), arrays[2].ValueStr(2*i))
				require.True(t, arrays[2].IsNull(2*i+1))
			}
		})
	}
}

// TestSpoolWithoutRoom: a full disk is an error that says what to do; the rows before it are there still.
func TestSpoolWithoutRoom(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skip("there is no /dev/full here")
	}
	s := newSpool(numbered(t, 0, 0, 0).Schema(), 0, t.TempDir())
	s.file = full
	err = s.append(numbered(t, 0, pieceRows, 0))
	require.ErrorContains(t, err, "entity rows cannot be kept in a temporary file")
	require.ErrorContains(t, err, "no space left on device")
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	require.NoError(t, s.close())
}

// TestSpoolWithoutFolder: a folder that is not there is an error like a full one.
func TestSpoolWithoutFolder(t *testing.T) {
	s := newSpool(numbered(t, 0, 0, 0).Schema(), 0, t.TempDir()+"/none")
	require.NoError(t, s.append(numbered(t, 0, 10, 0)))
	err := s.finish()
	require.ErrorContains(t, err, "no such file or directory")
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	require.NoError(t, s.close())
}

// TestSpoolFileLost: what cannot be read again is an error, not other rows.
func TestSpoolFileLost(t *testing.T) {
	s := newSpool(numbered(t, 0, 0, 0).Schema(), 0, t.TempDir())
	require.NoError(t, s.append(numbered(t, 0, 3*pieceRows, 0)))
	require.NoError(t, s.finish())
	require.NoError(t, s.file.Truncate(s.fileEnd/2))
	_, err := s.arrays(t.Context(), 0, s.rows)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	require.NoError(t, s.close())
}

// TestSpoolStops: reading ends when its context is done.
func TestSpoolStops(t *testing.T) {
	s := newSpool(numbered(t, 0, 0, 0).Schema(), 1<<40, t.TempDir())
	require.NoError(t, s.append(numbered(t, 0, 10, 0)))
	require.NoError(t, s.finish())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.arrays(ctx, 0, 10)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, s.close())
}

// TestFilterKeepsNoMoreThanItsRows: a few rows out of a large record do not keep the record in memory.
func TestFilterKeepsNoMoreThanItsRows(t *testing.T) {
	spec := weatherSpec(t, &memorySource{history: weather(1, 1)})
	spec.Times = &TimeRange{Start: 1, End: 2}
	ids, times := feature.NewColumn(feature.Int64, 0), feature.NewColumn(feature.Timestamp, 0)
	for i := range int64(10_000) {
		ids.AppendInt64(i)
		times.AppendInt64(i % 5000)
	}
	rows := newRows(t, spec, tinyBudget(1<<20), recordOf(t, []string{"id", "time"}, ids, times))
	require.Equal(t, int64(2), rows.Len())
	require.Equal(t, int64(9998), rows.Filtered())
	require.Less(t, rows.spool.bytes, int64(200))
}
