package offline

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// onlyFile gives the one file of a path.
func onlyFile(ctx context.Context, t require.TestingT, s *Store, path string) File {
	files, err := s.Table(view(path, feature.Int64)).Files(ctx)
	require.NoError(t, err)
	require.Len(t, files, 1)
	return files[0]
}

// aside is what a quarantine file holds.
type aside struct {
	columns map[string][]any
	types   map[string]feature.Type
	leftOut map[string]string
	notText []string
	etag    string
}

func readAside(ctx context.Context, t require.TestingT, s *Store, f File) aside {
	a := aside{columns: map[string][]any{}, types: map[string]feature.Type{}}
	rows, err := s.OpenRows(ctx, f.URL)
	require.NoError(t, err)
	readable := rows.Readable()
	require.Len(t, readable, len(rows.Schema().Columns))
	require.NoError(t, rows.Read(ctx, readable, func(columns []*feature.Column) error {
		for i, c := range columns {
			a.columns[readable[i].Name] = append(a.columns[readable[i].Name], valuesOf(c)...)
			a.types[readable[i].Name] = c.Type
		}
		return nil
	}))
	found, err := s.ListFiles(ctx, f.URL)
	require.NoError(t, err)
	require.Equal(t, f, found[0].File())
	data, err := s.ReadFile(ctx, found[0], 1<<30)
	require.NoError(t, err)
	r, err := file.NewParquetReader(bytes.NewReader(data))
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close()) }()
	values := r.MetaData().KeyValueMetadata()
	a.etag = *values.FindValue(QuarantineETagKey)
	for key, into := range map[string]any{QuarantineLeftOutKey: &a.leftOut, QuarantineNotTextKey: &a.notText} {
		if text := values.FindValue(key); text != nil {
			require.NoError(t, json.Unmarshal([]byte(*text), into))
		}
	}
	return a
}

// TestQuarantine puts aside what pit.Latest cannot use, beside the source, where no source finds it.
func TestQuarantine(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		ids := arrowArray(feature.Int64, []any{int64(1), nil, int64(3), int64(4), nil})
		at := arrowArray(feature.Timestamp, []any{int64(1), int64(2), nil, int64(99), nil})
		x := arrowArray(feature.Double, []any{1.5, 2.5, nil, 4.5, 5.5})
		p.put(t, "t/dt=a/1.parquet", writeArrow(t, 2, []arrow.Field{field("id", arrow.PrimitiveTypes.Int64), field("ts", timestampUTC), field("x", arrow.PrimitiveTypes.Float64)},
			[]arrow.Array{ids, at, x}))
		p.put(t, "t/dt=b/1.parquet", simple(t)) // without rows
		table := p.store.Table(view("t", feature.Int64, xFeature))
		before, err := table.Files(t.Context())
		require.NoError(t, err)

		bad := map[string][]BadRow{}
		var mu sync.Mutex
		_, err = pit.Latest(t.Context(), table.view, table.Scan(), pit.LatestOptions{AsOf: 10, MaxEventTime: 20, Bad: func(b pit.BadRows) error {
			mu.Lock()
			defer mu.Unlock()
			file, first := b.Fragment.(feature.FileFragment).Origin()
			for _, row := range b.Rows {
				bad[file] = append(bad[file], BadRow{first + row, b.Reason.String()})
			}
			return nil
		}})
		require.NoError(t, err)
		folder, err := table.QuarantineFolder(t.Context())
		require.NoError(t, err)
		require.Equal(t, p.url+"/t/_quarantine", folder)
		made, err := p.store.Quarantine(t.Context(), before[0], bad[before[0].URL], QuarantineOptions{Folder: folder, Run: "run-1"})
		require.NoError(t, err)
		require.Regexp(t, `/t/_quarantine/run-1-1-[0-9a-f]{12}\.parquet$`, made.URL)

		a := readAside(t.Context(), t, p.store, made)
		url := p.url + "/t/dt=a/1.parquet"
		require.Equal(t, map[string][]any{
			"_source_file": {url, url, url, url},
			"_source_row":  {int64(1), int64(2), int64(3), int64(4)},
			"_reason":      {"null_key", "null_event_time", "future_event_time", "null_key"},
			"id":           {nil, int64(3), int64(4), nil},
			"ts":           {int64(2), nil, int64(99), nil},
			"x":            {2.5, nil, 4.5, 5.5},
		}, a.columns)
		require.Equal(t, before[0].ETag, a.etag)
		require.Empty(t, a.leftOut)

		for _, path := range []string{"t", "t/", "t/**", "t/*/*.parquet", "**/*.parquet"} {
			found, err := p.store.Table(view(path, feature.Int64, xFeature)).Files(t.Context())
			require.NoError(t, err)
			require.Equal(t, before, found, path)
		}
		_, err = p.store.Quarantine(t.Context(), before[0], bad[before[0].URL], QuarantineOptions{Folder: folder, Run: "run-1"})
		require.ErrorContains(t, err, "is there already")
		require.Equal(t, fault.Precondition, fault.KindOf(err))
		// A file of the same name in another folder has a name of its own; one that is wholly bad is wholly copied.
		p.put(t, "t/dt=c/1.parquet", simple(t, 1, 2, 3))
		other := onlyFile(t.Context(), t, p.store, "t/dt=c")
		made, err = p.store.Quarantine(t.Context(), other, []BadRow{{2, "c"}, {0, "a"}, {1, "b"}}, QuarantineOptions{Folder: folder, Run: "run-1"})
		require.NoError(t, err)
		require.Equal(t, []any{"a", "b", "c"}, readAside(t.Context(), t, p.store, made).columns["_reason"])
	})
}

// TestQuarantineFolders: wherever the folder is, no source above it reads what is put there.
func TestQuarantineFolders(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		p.put(t, "t/a/1.parquet", simple(t, 1))
		for path, want := range map[string]string{
			"t": "/t/_quarantine", "t/": "/t/_quarantine", "t/a/1.parquet": "/t/a/_quarantine", "t/*/1.parquet": "/t/_quarantine", "t/a*": "/t/_quarantine", "*/a": "/_quarantine",
			"none/at/all": "/none/at/all/_quarantine",
		} {
			got, err := p.store.Table(view(path, feature.Int64)).QuarantineFolder(t.Context())
			require.NoError(t, err)
			require.Equal(t, p.url+want, got, path)
		}
		from := onlyFile(t.Context(), t, p.store, "t")
		for i, c := range []struct{ folder, want string }{
			{"t", "/t/_quarantine/"}, {"t/bad", "/t/bad/_quarantine/"}, {"t/bad/", "/t/bad/_quarantine/"}, {"t/_bad", "/t/_bad/"}, {"t/.bad/", "/t/.bad/"}, {p.url + "/t/_x/y", "/t/_x/y/_quarantine/"},
		} {
			made, err := p.store.Quarantine(t.Context(), from, []BadRow{{0, "r"}}, QuarantineOptions{Folder: c.folder, Run: fmt.Sprint("run", i)})
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(made.URL, p.url+c.want+"run"), "%s: %s", c.folder, made.URL)
			require.Equal(t, from, onlyFile(t.Context(), t, p.store, "t"), c.folder)
		}
	})
}

func TestQuarantineRefuses(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		p.put(t, "t/1.parquet", simple(t, 1, 2))
		from := onlyFile(t.Context(), t, p.store, "t")
		good := QuarantineOptions{Folder: "t", Run: "r"}
		refused := func(kind fault.Kind, from File, rows []BadRow, options QuarantineOptions) {
			t.Helper()
			_, err := p.store.Quarantine(t.Context(), from, rows, options)
			require.Equal(t, kind, fault.KindOf(err), err)
		}
		for _, row := range []int64{-1, 2} {
			refused(fault.Invalid, from, []BadRow{{row, "r"}}, good)
		}
		refused(fault.Invalid, from, []BadRow{{1, "r"}, {0, "r"}, {1, "q"}}, good)
		refused(fault.Invalid, from, nil, QuarantineOptions{Folder: "t"})
		refused(fault.Invalid, from, nil, QuarantineOptions{Folder: "t", Run: "../x"})
		refused(fault.Invalid, from, nil, QuarantineOptions{Run: "r"})
		refused(fault.Invalid, File{URL: "t/1.parquet"}, []BadRow{{0, "r"}}, good)
		none, err := p.store.Quarantine(t.Context(), from, nil, good)
		require.NoError(t, err)
		require.Zero(t, none)

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = p.store.Quarantine(ctx, from, []BadRow{{0, "r"}}, good)
		require.ErrorIs(t, err, context.Canceled)
		p.put(t, "t/1.parquet", simple(t, 1, 2, 3))
		refused(fault.Unavailable, from, []BadRow{{0, "r"}}, good)
		_, err = p.store.ListFiles(t.Context(), "t/_quarantine", ".parquet")
		require.Error(t, err, "nothing was written")
	})
	p := filePlace(t)
	p.put(t, "t/1.parquet", simple(t, 1, 2))
	from := onlyFile(t.Context(), t, p.store, "t")
	require.NoError(t, os.WriteFile(filepath.Join(strings.TrimPrefix(p.url, "file://"), "t/_quarantine"), nil, 0o644))
	_, err := p.store.Quarantine(t.Context(), from, []BadRow{{0, "r"}}, QuarantineOptions{Folder: "t", Run: "r"})
	require.Equal(t, fault.Precondition, fault.KindOf(err), err)
}

// TestQuarantineOfWhatCannotBeRead: columns that features cannot be, that lie, or that are called like ours are left out and named; text that is none is kept as bytes.
func TestQuarantineOfWhatCannotBeRead(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		decimals := array.NewDecimal128Builder(memory.DefaultAllocator, &arrow.Decimal128Type{Precision: 20, Scale: 2})
		decimals.AppendValues([]decimal128.Num{decimal128.FromI64(1), decimal128.FromI64(2), decimal128.FromI64(3)}, nil)
		holes := array.NewListBuilder(memory.DefaultAllocator, arrow.PrimitiveTypes.Int64)
		for range 3 {
			holes.Append(true)
			holes.ValueBuilder().(*array.Int64Builder).AppendNull()
		}
		words := array.NewListBuilder(memory.DefaultAllocator, arrow.BinaryTypes.String)
		for _, word := range []string{"a", "\xff", "c"} {
			words.Append(true)
			words.ValueBuilder().(*array.StringBuilder).Append(word)
		}
		millis := array.NewTimestampBuilder(memory.DefaultAllocator, &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"})
		millis.AppendValues([]arrow.Timestamp{1, 2, 1 << 60}, nil)
		columns := []arrow.Array{int64s(1, 2, 3), decimals.NewArray(), holes.NewArray(), words.NewArray(), millis.NewArray(), texts(arrow.BinaryTypes.String, "a", "b", "\xff"), int64s(7, 8, 9)}
		names := []string{"id", "price", "holes", "words", "far", "sky", "_reason"}
		fields := make([]arrow.Field, len(names))
		for i, name := range names {
			fields[i] = field(name, columns[i].DataType())
		}
		fields[5].Type = arrow.BinaryTypes.String
		p.put(t, "t/1.parquet", writeArrow(t, 2, fields, columns))
		from := onlyFile(t.Context(), t, p.store, "t")
		rows := []BadRow{{0, "r"}, {1, "r"}, {2, "r"}}
		made, err := p.store.Quarantine(t.Context(), from, rows, QuarantineOptions{Folder: "t", Run: "all"})
		require.NoError(t, err)
		a := readAside(t.Context(), t, p.store, made)
		require.Equal(t, []any{int64(1), int64(2), int64(3)}, a.columns["id"])
		require.Equal(t, []any{[]byte("a"), []byte("b"), []byte("\xff")}, a.columns["sky"])
		require.Equal(t, []any{[]any{[]byte("a")}, []any{[]byte("\xff")}, []any{[]byte("c")}}, a.columns["words"])
		require.Equal(t, []any{"r", "r", "r"}, a.columns["_reason"])
		require.Len(t, a.columns, 6)
		require.ElementsMatch(t, []string{"sky", "words"}, a.notText)
		require.Len(t, a.leftOut, 4)
		require.Contains(t, a.leftOut["price"], "decimals are not exact")
		require.Contains(t, a.leftOut["holes"], `column "holes"`)
		require.Contains(t, a.leftOut["far"], "out of the range")
		require.Equal(t, "another column has that name", a.leftOut["_reason"])

		// Where the rows themselves can be read, they are.
		made, err = p.store.Quarantine(t.Context(), from, rows[:1], QuarantineOptions{Folder: "t", Run: "one"})
		require.NoError(t, err)
		a = readAside(t.Context(), t, p.store, made)
		require.Equal(t, []any{int64(1000)}, a.columns["far"])
		require.Equal(t, []any{"a"}, a.columns["sky"])
		require.Empty(t, a.notText)
	})
}

// TestQuarantineOfDamagedFiles: a damaged file gives what is whole of it, or an error, and never half a file.
func TestQuarantineOfDamagedFiles(t *testing.T) {
	for n, data := range victims(t) {
		p := filePlace(t)
		for at := 4; at < len(data); at += max(1, len(data)/25) {
			damaged := bytes.Clone(data)
			damaged[at] ^= 0x55
			p.put(t, "t/1.parquet", damaged)
			from := onlyFile(t.Context(), t, p.store, "t")
			made, err := p.store.Quarantine(t.Context(), from, []BadRow{{0, "r"}, {3, "r"}}, QuarantineOptions{Folder: "t", Run: fmt.Sprint("run", at)})
			if err == nil {
				require.Equal(t, []any{int64(0), int64(3)}, readAside(t.Context(), t, p.store, made).columns["_source_row"])
				continue
			}
			require.Contains(t, []fault.Kind{fault.Corrupt, fault.Invalid, fault.Precondition}, fault.KindOf(err), "victim %d, byte %d: %v", n, at, err)
			require.Empty(t, made)
		}
	}
}

// TestRandomQuarantine copies random rows of random files, and reads them back.
func TestRandomQuarantine(t *testing.T) {
	p := filePlace(t)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		rows := rapid.IntRange(1, 1500).Draw(rt, "rows")
		var fields []arrow.Field
		var columns [][]any
		var arrays []arrow.Array
		for i := range rapid.IntRange(1, 6).Draw(rt, "columns") {
			typ := feature.Type(rapid.IntRange(int(feature.Bool), int(feature.TimestampList)).Draw(rt, "type"))
			fields = append(fields, field(fmt.Sprintf("c%d", i), arrowType(typ)))
			columns = append(columns, drawColumn(rt, typ, rows, true))
			arrays = append(arrays, arrowArray(typ, columns[i]))
		}
		path := fmt.Sprintf("run%d/1.parquet", run)
		p.put(t, path, writeArrow(t, int64(rapid.IntRange(1, rows).Draw(rt, "group rows")), fields, arrays,
			parquet.WithDataPageSize(int64(rapid.IntRange(50, 5000).Draw(rt, "page size"))), parquet.WithBatchSize(32), parquet.WithPageIndexEnabled(rapid.Bool().Draw(rt, "page index"))))
		var bad []BadRow
		for _, row := range rapid.SliceOfNDistinct(rapid.Int64Range(0, int64(rows)-1), 1, rows, rapid.ID).Draw(rt, "bad") {
			bad = append(bad, BadRow{row, fmt.Sprint("r", row%3)})
		}
		made, err := p.store.Quarantine(t.Context(), onlyFile(t.Context(), rt, p.store, path), bad, QuarantineOptions{Folder: fmt.Sprintf("run%d", run), Run: "r"})
		require.NoError(rt, err)
		a := readAside(t.Context(), rt, p.store, made)
		slices.SortFunc(bad, func(a, b BadRow) int { return int(a.Row - b.Row) })
		require.Len(rt, a.columns["_reason"], len(bad))
		for i, r := range bad {
			require.Equal(rt, r.Row, a.columns["_source_row"][i])
			require.Equal(rt, r.Reason, a.columns["_reason"][i])
			for k, f := range fields {
				require.True(rt, sameValue(columns[k][r.Row], a.columns[f.Name][i]), "row %d of %v: %v and not %v", r.Row, f, a.columns[f.Name][i], columns[k][r.Row])
			}
		}
	})
}

// sameValue compares values as columns give them; NaN equals itself.
func sameValue(a, b any) bool {
	if list, ok := a.([]any); ok {
		other, ok := b.([]any)
		return ok && slices.EqualFunc(list, other, sameValue)
	}
	return fmt.Sprintf("%T %v", a, a) == fmt.Sprintf("%T %v", b, b)
}

var _ pit.LateSource = (*Scan)(nil)
