package offline

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
)

// seeded gives random numbers. TWOFOLD_OFFLINE_SEED repeats a run.
func seeded(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("TWOFOLD_OFFLINE_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("TWOFOLD_OFFLINE_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func oneOf[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

// flatTypes are the types of one value a row.
var flatTypes = []feature.Type{feature.Bool, feature.Int32, feature.Int64, feature.Float, feature.Double, feature.String, feature.Bytes, feature.Timestamp}

// randomFlat makes a column of few or many distinct values, with nulls in runs, alone or not at all.
func randomFlat(r *rand.Rand, typ feature.Type, rows int) []any {
	distinct, nulls, run := oneOf(r, 1, 3, 200, 1<<20), oneOf(r, 0, 0, 1, 50, 100), oneOf(r, 1, 1, 5, 1000)
	values := make([]any, 0, rows)
	for len(values) < rows {
		v := sampleValue(typ, r.IntN(distinct))
		if r.IntN(100) < nulls {
			v = nil
		}
		for range 1 + r.IntN(run) {
			if len(values) < rows {
				values = append(values, v)
			}
		}
	}
	return values
}

// randomWriter draws how a file is written.
func randomWriter(r *rand.Rand) []parquet.WriterProperty {
	options := []parquet.WriterProperty{
		parquet.WithCompression(oneOf(r, compress.Codecs.Uncompressed, compress.Codecs.Snappy, compress.Codecs.Zstd, compress.Codecs.Gzip, compress.Codecs.Lz4Raw)),
		parquet.WithDictionaryDefault(oneOf(r, true, false)),
		parquet.WithDictionaryPageSizeLimit(oneOf[int64](r, 50, 1<<20)), // a small one makes the writer change to another encoding half way
		parquet.WithDataPageSize(oneOf[int64](r, 20, 1000, 30_000, 1<<20)),
		parquet.WithBatchSize(oneOf[int64](r, 7, 1000)),
		parquet.WithDataPageVersion(oneOf(r, parquet.DataPageV1, parquet.DataPageV2)),
		parquet.WithVersion(oneOf(r, parquet.V1_0, parquet.V2_LATEST)),
		parquet.WithPageIndexEnabled(oneOf(r, true, false)),
	}
	if r.IntN(3) == 0 { // not RLE for booleans: this writer repeats in each page what the pages before it hold
		for _, c := range []struct {
			typ       feature.Type
			encodings []parquet.Encoding
		}{
			{feature.Int32, []parquet.Encoding{parquet.Encodings.DeltaBinaryPacked, parquet.Encodings.ByteStreamSplit}},
			{feature.Int64, []parquet.Encoding{parquet.Encodings.DeltaBinaryPacked}},
			{feature.Timestamp, []parquet.Encoding{parquet.Encodings.DeltaBinaryPacked}},
			{feature.Double, []parquet.Encoding{parquet.Encodings.ByteStreamSplit}},
			{feature.Float, []parquet.Encoding{parquet.Encodings.ByteStreamSplit}},
			{feature.String, []parquet.Encoding{parquet.Encodings.DeltaByteArray, parquet.Encodings.DeltaLengthByteArray}},
		} {
			options = append(options, parquet.WithEncodingFor(c.typ.String(), oneOf(r, c.encodings...)), parquet.WithDictionaryFor(c.typ.String(), false))
		}
	}
	return options
}

// randomSelection draws rows: few or many, alone or in runs.
func randomSelection(r *rand.Rand, rows int64) []int64 {
	var some []int64
	step, run := oneOf[int64](r, 1, 2, 10, 300, 10_000), oneOf[int64](r, 1, 4, 5000)
	for row := r.Int64N(step); row < rows; row += 1 + r.Int64N(2*step) {
		for last := min(rows, row+1+r.Int64N(run)); row < last; row++ {
			some = append(some, row)
		}
	}
	return some
}

// TestDirectReadingEqualsDecoder reads random files of every encoding in place, through arrow-go's decoder, and with the page index.
func TestDirectReadingEqualsDecoder(t *testing.T) {
	r := seeded(t)
	written := 0
	for run := range 150 {
		rows := 1 + r.IntN(oneOf(r, 5, 300, 25_000))
		var fields []arrow.Field
		var arrays []arrow.Array
		columns := map[string][]any{}
		for range 3 {
			typ := oneOf(r, flatTypes...)
			if columns[typ.String()] == nil {
				values := randomFlat(r, typ, rows)
				columns[typ.String()] = values
				fields, arrays = append(fields, field(typ.String(), arrowType(typ))), append(arrays, arrowArray(typ, values))
			}
		}
		data, err := tryWriteArrow(int64(oneOf(r, rows, 1+rows/3)), fields, arrays, randomWriter(r)...)
		if err != nil {
			t.Logf("run %d: %v", run, err) // the writer panics on a few combinations
			continue
		}
		written++
		file, err := RowsIn(t.Context(), "x", data)
		require.NoError(t, err)
		start := int64(0)
		for group, g := range file.sources[0].footer.groups {
			some := randomSelection(r, g.rows)
			for _, c := range file.Readable() {
				var want []any
				for _, row := range some {
					want = append(want, columns[c.Name][start+row])
				}
				for _, how := range []string{"direct", "decoder", "indexed"} {
					got := gatherHow(t, file.sources[0], group, c, some, how)
					require.True(t, got.Equal(columnOf(c.Type, want)), "run %d, %s, column %s, rows %d of %d", run, how, c.Name, len(some), g.rows)
				}
			}
			start += g.rows
		}
	}
	require.Greater(t, written, 100)
}

// TestPageOfNullStrings reads pages of nulls as arrow-go's DELTA_BYTE_ARRAY writer leaves them after pages with values.
func TestPageOfNullStrings(t *testing.T) {
	values := make([]any, 3000)
	for i := range 1000 {
		values[i] = fmt.Sprint("value ", i%7)
	}
	data, err := tryWriteArrow(3000, []arrow.Field{field("s", arrowType(feature.String))}, []arrow.Array{arrowArray(feature.String, values)},
		parquet.WithDictionaryDefault(false), parquet.WithEncoding(parquet.Encodings.DeltaByteArray), parquet.WithDataPageSize(50), parquet.WithBatchSize(1000))
	require.NoError(t, err)
	file, err := RowsIn(t.Context(), "x", data)
	require.NoError(t, err)
	rows := make([]int64, len(values))
	for i := range rows {
		rows[i] = int64(i)
	}
	for _, c := range file.Readable() {
		for _, how := range []string{"direct", "decoder"} {
			require.True(t, gatherHow(t, file.sources[0], 0, c, rows, how).Equal(columnOf(c.Type, values)), how)
		}
	}
}

// TestPagesOfFewerValues reads a row in the middle of pages whose values end before it, in the encodings that say how many values they have.
func TestPagesOfFewerValues(t *testing.T) {
	const rows = 100
	for _, c := range []struct {
		typ      feature.Type
		encoding parquet.Encoding
	}{
		{feature.Int64, parquet.Encodings.DeltaBinaryPacked},
		{feature.String, parquet.Encodings.DeltaLengthByteArray},
		{feature.String, parquet.Encodings.DeltaByteArray},
	} {
		for _, nullable := range []bool{false, true} {
			for _, left := range []byte{0, 1, 10} {
				f := field("c", arrowType(c.typ))
				f.Nullable = nullable
				values := make([]any, rows)
				for i := range values {
					values[i] = sampleValue(c.typ, i)
				}
				data, err := tryWriteArrow(rows, []arrow.Field{f}, []arrow.Array{arrowArray(c.typ, values)}, parquet.WithDictionaryDefault(false), parquet.WithEncoding(c.encoding))
				require.NoError(t, err)
				header := []byte{0x80, 0x01, 4, rows} // blocks of 128 in 4 parts, so many values
				require.Contains(t, string(data), string(header))
				data = bytes.ReplaceAll(data, header, append(header[:3:3], left))
				file, err := RowsIn(t.Context(), "x", data)
				require.NoError(t, err)
				_, err = tryGather(t, file.sources[0], 0, file.Readable()[0], []int64{50}, "direct")
				require.ErrorContains(t, err, "value", "%v, %v, nullable %v, %d values", c.typ, c.encoding, nullable, left)
			}
		}
	}
}

// gatherHow gathers rows in one of the ways that must not differ.
func gatherHow(t *testing.T, s *source, group int, c RowColumn, rows []int64, how string) *feature.Column {
	got, err := tryGather(t, s, group, c, rows, how)
	require.NoError(t, err)
	return got
}

func tryGather(t *testing.T, s *source, group int, c RowColumn, rows []int64, how string) (*feature.Column, error) {
	b, err := s.bind(wanted{c.Name, c.Type, "test", false})
	require.NoError(t, err)
	g, err := s.newGroupReader(t.Context(), group, []binding{b})
	require.NoError(t, err)
	defer g.close()
	if how == "indexed" {
		require.NoError(t, g.locate(t.Context()))
	}
	g.prepare(t.Context(), rowList(rows), false)
	if err := g.open(t.Context(), 0); err != nil {
		return nil, err
	}
	if how == "decoder" {
		decodeAll(g.readers[0])
	}
	got := feature.NewColumn(c.Type, 0)
	return got, g.gather(0, rows, got)
}

// decodeAll makes a reader leave all pages to arrow-go's decoder.
func decodeAll(r columnReader) {
	switch r := r.(type) {
	case *flatReader[int32]:
		r.direct = nil
	case *flatReader[int64]:
		r.direct = nil
	case *flatReader[float32]:
		r.direct = nil
	case *flatReader[float64]:
		r.direct = nil
	case *flatReader[parquet.ByteArray]:
		r.direct = nil
	}
}

// TestKeysWithinRange reads the keys of random time ranges: every row of the range comes, at its place, whatever is left out.
func TestKeysWithinRange(t *testing.T) {
	r := seeded(t)
	p := filePlace(t)
	var pruned int64
	for run := range 150 {
		rows := 1 + r.IntN(oneOf(r, 5, 300, 20_000))
		ids, times := randomFlat(r, feature.Int64, rows), make([]any, rows)
		for i := range times {
			switch jitter := oneOf(r, 0, 3, 100); {
			case r.IntN(20) > 0:
				times[i] = int64(i + r.IntN(jitter+1))
			case r.IntN(2) == 0:
				times[i] = int64(r.IntN(rows))
			}
		}
		name := fmt.Sprintf("%d.parquet", run)
		p.put(t, name, writeArrow(t, int64(oneOf(r, rows, 1+rows/2)),
			[]arrow.Field{field("id", arrowType(feature.Int64)), field("ts", timestampUTC), field("x", arrowType(feature.Int64))},
			[]arrow.Array{arrowArray(feature.Int64, ids), arrowArray(feature.Timestamp, times), arrowArray(feature.Int64, ids)}, randomWriter(r)...))
		table := p.store.Table(view(name, feature.Int64, feature.Feature{Name: "x", Type: feature.Int64}))
		fragments, _, err := table.Fragments(t.Context(), feature.AllTime())
		require.NoError(t, err)
		within := feature.TimeRange{Min: feature.EventTime(r.IntN(rows))}
		within.Max = within.Min + feature.EventTime(r.IntN(1+rows/4))
		start := int64(0)
		for _, f := range fragments {
			seen := checkKeys(t, f, within, ids[start:start+f.NumRows()], times[start:start+f.NumRows()])
			pruned += f.NumRows() - seen
			start += f.NumRows()
		}
	}
	require.Positive(t, pruned)
}

// checkKeys reads the keys of a fragment and gives the number of rows that came.
func checkKeys(t *testing.T, f *Fragment, within feature.TimeRange, ids, times []any) (seen int64) {
	came := make([]bool, f.NumRows())
	next := int64(0)
	err := f.Keys(t.Context(), within, func(b feature.KeyBatch) error {
		require.GreaterOrEqual(t, b.First, next)
		for i := range b.Len() {
			row := b.First + int64(i)
			require.Equal(t, ids[row], b.Keys[0].ValueAt(i))
			require.Equal(t, times[row], b.EventTimes.ValueAt(i))
			came[row] = true
		}
		next = b.First + int64(b.Len())
		seen += int64(b.Len())
		return nil
	})
	require.NoError(t, err)
	for row, at := range times {
		if at, ok := at.(int64); ok && feature.EventTime(at) >= within.Min && feature.EventTime(at) <= within.Max {
			require.True(t, came[row], "row %d of time %d", row, at)
		}
	}
	return seen
}
