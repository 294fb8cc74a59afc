package entityfile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	arrowmemory "github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

var noon = time.Date(2013, 7, 1, 12, 0, 0, 0, time.UTC).UnixMicro()

// sample is three rows of id, ts and label; copies of them follow one another.
func sample(t testing.TB, copies int, times ...any) arrow.RecordBatch {
	t.Helper()
	if times == nil {
		times = []any{noon, int64(math.MinInt64), int64(math.MaxInt64)}
	}
	id, ts, label := feature.NewColumn(feature.Int64, 0), feature.NewColumn(feature.Timestamp, 0), feature.NewColumn(feature.String, 0)
	for range copies {
		for i, at := range times {
			if i == 1 {
				id.AppendMissing(feature.Null)
				label.AppendMissing(feature.Null)
			} else {
				id.AppendInt64(int64(i))
				label.AppendString("é")
			}
			if micros, ok := at.(int64); ok {
				ts.AppendInt64(micros)
			} else {
				ts.AppendMissing(feature.Null)
			}
		}
	}
	schema := arrow.NewSchema([]arrow.Field{arrowwire.Field("id", feature.Int64), arrowwire.Field("ts", feature.Timestamp), arrowwire.Field("label", feature.String)}, nil)
	record, err := newRecord(schema, []*feature.Column{id, ts, label})
	require.NoError(t, err)
	return record
}

// parquetOf, arrowOf and streamOf write records.
func parquetOf(t testing.TB, records ...arrow.RecordBatch) []byte {
	var b bytes.Buffer
	w, err := offline.NewParquetWriter(&b, records[0].Schema())
	require.NoError(t, err)
	for _, r := range records {
		require.NoError(t, w.Write(r))
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func arrowOf(t testing.TB, records []arrow.RecordBatch, options ...ipc.Option) []byte {
	path := filepath.Join(t.TempDir(), "rows.arrow")
	file, err := os.Create(path)
	require.NoError(t, err)
	w, err := ipc.NewFileWriter(file, append(options, ipc.WithSchema(records[0].Schema()))...)
	require.NoError(t, err)
	for _, r := range records {
		require.NoError(t, w.Write(r))
	}
	require.NoError(t, errors.Join(w.Close(), file.Close()))
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return data
}

func streamOf(t testing.TB, records []arrow.RecordBatch, options ...ipc.Option) []byte {
	var b bytes.Buffer
	w := ipc.NewWriter(&b, append(options, ipc.WithSchema(records[0].Schema()))...)
	for _, r := range records {
		require.NoError(t, w.Write(r))
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

const sampleCSV = "id,ts,label\n0,2013-07-01T12:00:00Z,é\n,2013-07-01T12:00:00Z,\n2,2013-07-01T12:00:00Z,é\n"

// TestFormats: every format is read from every place, known by its name or by its bytes, as often as wanted.
func TestFormats(t *testing.T) {
	records := []arrow.RecordBatch{sample(t, 2, noon, noon, noon), sample(t, 1, noon, noon, noon)}
	files := map[string][]byte{
		"rows.parquet": parquetOf(t, records...), "rows.arrow": arrowOf(t, records), "rows.feather": arrowOf(t, records, ipc.WithZstd()), "rows.arrows": streamOf(t, records, ipc.WithLZ4()),
		"rows.CSV": []byte(sampleCSV + sampleCSV[len("id,ts,label\n"):] + sampleCSV[len("id,ts,label\n"):]), "folder/a.parquet": parquetOf(t, records[0]), "folder/b.parquet": parquetOf(t, records[1]),
	}
	types := map[string]feature.Type{"ts": feature.Timestamp}
	want := [][]any{
		{int64(0), nil, int64(2), int64(0), nil, int64(2), int64(0), nil, int64(2)}, {noon, noon, noon, noon, noon, noon, noon, noon, noon},
		{"é", nil, "é", "é", nil, "é", "é", nil, "é"},
	}
	onEveryPlace(t, func(t *testing.T, p place) {
		for name, data := range files {
			p.put(name, data)
			p.put("nameless-"+filepath.Base(name)+"-x", data)
		}
		for _, path := range []string{"rows.parquet", "rows.arrow", "rows.feather", "rows.arrows", "rows.CSV", "folder", "folder/", "folder/*.parquet", "fold*/{a,b}.parquet",
			"nameless-rows.parquet-x", "nameless-rows.arrow-x", "nameless-rows.arrows-x", "nameless-rows.CSV-x", p.url + "/rows.arrow"} {
			r, err := Open(t.Context(), p.store, path, Options{Types: types, TimeColumn: "ts"})
			require.NoError(t, err, path)
			require.Contains(t, []int64{-1, 9}, r.NumRows(), path)
			require.NotEmpty(t, r.Files(), path)
			for _, f := range r.Files() {
				require.Contains(t, f.URL, p.url)
				require.Positive(t, f.SizeBytes)
				require.NotEmpty(t, f.ETag)
			}
			for range 2 {
				got, err := readAll(t.Context(), r)
				require.NoError(t, err, path)
				require.Equal(t, want, got, path)
			}
			stop := errors.New("stop")
			require.Same(t, stop, r.Each(t.Context(), func(arrow.RecordBatch) error { return stop }))
			cancelled, cancel := context.WithCancel(t.Context())
			cancel()
			require.ErrorIs(t, r.Each(cancelled, func(arrow.RecordBatch) error { return nil }), context.Canceled, path)
			require.NoError(t, r.Close())
		}
		for _, path := range []string{"nothing", "nothing.csv", "folder/none.arrow", "folder.csv/"} {
			_, err := Open(t.Context(), p.store, path, Options{})
			require.ErrorIs(t, err, fs.ErrNotExist, path)
			require.ErrorContains(t, err, "entity rows "+path+": ")
			require.Equal(t, fault.Precondition, fault.KindOf(err), path)
		}
		_, err := Open(t.Context(), p.store, "rows.parquet", Options{Format: CSV})
		require.ErrorContains(t, err, "it is not CSV but a Parquet file")
		_, err = Open(t.Context(), p.store, "rows.CSV", Options{Format: Parquet})
		require.Equal(t, fault.Corrupt, fault.KindOf(err), err)
		_, err = Open(t.Context(), p.store, "rows.CSV", Options{Format: Arrow})
		require.ErrorContains(t, err, "it is neither an Arrow file nor an Arrow stream")
		_, err = Open(t.Context(), p.store, "rows.CSV", Options{Format: "orc"})
		require.ErrorContains(t, err, `the format "orc" is not known`)
	})
	for name, data := range files {
		path := filepath.Join(t.TempDir(), "input")
		require.NoError(t, os.WriteFile(path, data, 0o600))
		file, err := os.Open(path)
		require.NoError(t, err)
		defer file.Close()
		r, err := OpenLocal(t.Context(), "standard input", file, Options{Types: types})
		require.NoError(t, err, name)
		got, err := readAll(t.Context(), r)
		require.NoError(t, err, name)
		require.Len(t, got, 3)
		require.Empty(t, r.Files())
		require.NoError(t, r.Close())
	}
}

// TestReplacedWhileRead: bytes of two versions are never mixed.
func TestReplacedWhileRead(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		for name, data := range map[string][]byte{"rows.csv": []byte(sampleCSV), "rows.arrow": arrowOf(t, []arrow.RecordBatch{sample(t, 1)}), "rows.parquet": parquetOf(t, sample(t, 1))} {
			for _, other := range [][]byte{data[:len(data)/2], append(bytes.Clone(data), data...), append([]byte("x,"), data...)} {
				p.put(name, data)
				r, err := Open(t.Context(), p.store, name, Options{})
				require.NoError(t, err)
				p.put(name, other)
				_, err = readAll(t.Context(), r)
				require.Error(t, err, name)
				require.ErrorContains(t, err, "was replaced")
				require.Equal(t, fault.Unavailable, fault.KindOf(err), err)
				require.NoError(t, r.Close())
			}
		}
	})
}

// closingSource is a file of which only the first bytes can be read: then the connection is closed without an answer, which HTTP tells as an error that wraps io.EOF.
type closingSource struct {
	data  []byte
	after int64
}

func (s *closingSource) Bytes(context.Context) *io.SectionReader {
	return io.NewSectionReader(s, 0, int64(len(s.data)))
}

func (s *closingSource) Unchanged() error { return nil }

func (s *closingSource) ReadAt(p []byte, offset int64) (int, error) {
	if offset+int64(len(p)) > s.after {
		return 0, fault.New(fault.Unavailable, "read s3://b/x: %w", &url.Error{Op: "Get", URL: "http://s3/b/x", Err: io.EOF})
	}
	return copy(p, s.data[offset:]), nil
}

// TestConnectionClosedWhileRead: a connection that is closed without an answer is not the end of the rows.
func TestConnectionClosedWhileRead(t *testing.T) {
	large := arrowReadBytes/64 + 1
	first, second := streamOf(t, []arrow.RecordBatch{sample(t, large)}), streamOf(t, []arrow.RecordBatch{sample(t, large), sample(t, large)})
	betweenRecords := int64(len(first) - 8) // without the end-of-stream marker
	require.Greater(t, int(betweenRecords), arrowReadBytes)
	rows := strings.Repeat(sampleCSV[strings.IndexByte(sampleCSV, '\n')+1:], csvReadBytes/len(sampleCSV)*3)
	text := sampleCSV[:strings.IndexByte(sampleCSV, '\n')+1] + rows
	for name, c := range map[string]struct {
		data   []byte
		format Format
		after  int64
	}{
		"csv": {[]byte(text), CSV, csvReadBytes}, "arrow": {second, Arrow, betweenRecords},
	} {
		t.Run(name, func(t *testing.T) {
			source := &closingSource{c.data, int64(len(c.data))}
			r, err := openBytes(t.Context(), source, c.format, Options{})
			require.NoError(t, err)
			r.close = func() error { return nil }
			source.after = c.after
			_, err = readAll(t.Context(), r)
			require.ErrorContains(t, err, `read s3://b/x: Get "http://s3/b/x": EOF`)
			require.Equal(t, fault.Unavailable, fault.KindOf(err), err)
			if c.format == CSV {
				_, err = openBytes(t.Context(), source, c.format, Options{})
				require.Error(t, err)
			}
		})
	}
}

// TestTimes: far times are read as they are; a null one is refused with its place, and a column that holds none too.
func TestTimes(t *testing.T) {
	p := filePlace(t)
	write := func(records ...arrow.RecordBatch) []string {
		p.put("rows.parquet", parquetOf(t, records...))
		p.put("rows.arrow", arrowOf(t, records))
		return []string{"rows.parquet", "rows.arrow"}
	}
	for _, path := range write(sample(t, 1)) {
		r, err := Open(t.Context(), p.store, path, Options{TimeColumn: "ts"})
		require.NoError(t, err)
		got, err := readAll(t.Context(), r)
		require.NoError(t, err)
		require.Equal(t, []any{noon, int64(math.MinInt64), int64(math.MaxInt64)}, got[1], path)
	}
	for _, path := range write(sample(t, 2), sample(t, 1, noon, nil, noon)) {
		r, err := Open(t.Context(), p.store, path, Options{TimeColumn: "ts"})
		require.NoError(t, err)
		_, err = readAll(t.Context(), r)
		require.ErrorContains(t, err, `row 7 (counted from 0): column "ts": the time is null; give every row its time`, path)
		require.Equal(t, fault.Invalid, fault.KindOf(err))

		_, err = Open(t.Context(), p.store, path, Options{TimeColumn: "id"})
		require.ErrorContains(t, err, `column "id" is int64, where each row's time must be`)

		r, err = Open(t.Context(), p.store, path, Options{TimeColumn: "none"})
		require.NoError(t, err)
		_, err = readAll(t.Context(), r)
		require.NoError(t, err)
	}
	_, err := Open(t.Context(), p.store, "rows.parquet", Options{Types: map[string]feature.Type{"label": feature.Timestamp}})
	require.ErrorContains(t, err, `column "label" is STRING`)

	// Seconds past what microseconds hold.
	b := array.NewTimestampBuilder(arrowmemory.DefaultAllocator, &arrow.TimestampType{Unit: arrow.Second})
	b.Append(math.MaxInt64 / 1000)
	far := array.NewRecordBatch(arrow.NewSchema([]arrow.Field{{Name: "ts", Type: b.Type()}}, nil), []arrow.Array{b.NewArray()}, 1)
	p.put("far.arrow", arrowOf(t, []arrow.RecordBatch{far}))
	r, err := Open(t.Context(), p.store, "far.arrow", Options{TimeColumn: "ts"})
	require.NoError(t, err)
	_, err = readAll(t.Context(), r)
	require.ErrorContains(t, err, "does not fit 64 bits")
}

func TestWarnsOfColumnsLeftOut(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "m", Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int32), Nullable: true}, {Name: "x", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
	builder := array.NewRecordBuilder(arrowmemory.DefaultAllocator, schema)
	builder.Field(0).AppendNull()
	builder.Field(1).AppendNull()
	p := filePlace(t)
	p.put("x.parquet", parquetOf(t, builder.NewRecordBatch()))
	var warnings []string
	r, err := Open(t.Context(), p.store, "x.parquet", Options{Warn: func(text string) { warnings = append(warnings, text) }})
	require.NoError(t, err)
	require.Equal(t, 1, r.Schema().NumFields())
	require.Len(t, warnings, 1)
	require.Contains(t, warnings[0], `column "m" is left out: it cannot be read: it is a map`)
}

// TestDamagedArrow: a file that was cut off, or lies about itself, is an error.
func TestDamagedArrow(t *testing.T) {
	p := filePlace(t)
	whole := arrowOf(t, []arrow.RecordBatch{sample(t, 100), sample(t, 100)})
	read := func(name string, data []byte, o Options) error {
		p.put(name, data)
		r, err := Open(t.Context(), p.store, name, o)
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = readAll(t.Context(), r)
		return err
	}
	for cut := 0; cut < len(whole); cut += 11 {
		err := read("cut.arrow", whole[:cut], Options{})
		require.Error(t, err, cut)
		require.Contains(t, []fault.Kind{fault.Invalid, fault.Exhausted}, fault.KindOf(err), err)
	}
	require.ErrorContains(t, read("cut.arrow", whole[:len(whole)-1], Options{}), "it does not end in ARROW1; was it cut off?")
	require.ErrorContains(t, read("x.arrow", nil, Options{}), "neither an Arrow file nor an Arrow stream")
	stream := streamOf(t, []arrow.RecordBatch{sample(t, 100), sample(t, 100)})
	require.ErrorContains(t, read("x.arrows", stream[:len(stream)-100], Options{}), "the Arrow stream is damaged in record 1 (counted from 0)")

	// Of streams one after the other, those after the first are not left out without a word.
	require.NoError(t, read("x.arrows", stream, Options{}))
	require.ErrorContains(t, read("x.arrows", append(slices.Clone(stream), stream...), Options{}), "more bytes follow the end of the Arrow stream")

	err := read("large.arrow", whole, Options{MaxBatchBytes: 1000})
	require.ErrorContains(t, err, "the limit is 1000; send smaller batches")
	require.Equal(t, fault.Exhausted, fault.KindOf(err))

	doubled := arrow.NewSchema([]arrow.Field{arrowwire.Field("x", feature.Int64), arrowwire.Field("x", feature.Int64)}, nil)
	c := feature.NewColumn(feature.Int64, 0)
	c.AppendInt64(1)
	record, err := newRecord(doubled, []*feature.Column{c, c})
	require.NoError(t, err)
	require.ErrorContains(t, read("doubled.arrow", arrowOf(t, []arrow.RecordBatch{record}), Options{}), `two columns are named "x"`)
}

// FuzzArrow: no bytes make reading panic, and what is read can be converted or is refused.
func FuzzArrow(f *testing.F) {
	records := []arrow.RecordBatch{sample(f, 1), sample(f, 2)}
	f.Add(arrowOf(f, records))
	f.Add(arrowOf(f, records, ipc.WithZstd()))
	f.Add(streamOf(f, records))
	f.Add([]byte("ARROW1\x00\x00ARROW1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := openMemory(string(data), Options{Format: Arrow, TimeColumn: "ts", MaxBatchBytes: 1 << 20})
		if err != nil {
			require.NotEqual(t, fault.Internal, fault.KindOf(err), err)
			return
		}
		if _, err := readAll(context.Background(), r); err != nil {
			t.Log(err)
		}
	})
}
