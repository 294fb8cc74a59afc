package offline

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// fromEnv gives the number that a variable of the environment holds, or a standard one.
func fromEnv(t testing.TB, name string, standard int) int {
	text := os.Getenv(name)
	if text == "" {
		return standard
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, name)
	return n
}

// liveBytes is the memory that is held, after what is not needed has been collected.
func liveBytes() uint64 {
	runtime.GC()
	runtime.GC() // what pools hold goes with the second one
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// entityRows asks for the features of ids as of one time each.
func entityRows(t testing.TB, ids []int64, at int64) *pit.EntityRows {
	rows := pit.NewEntityRows([]feature.Key{{Name: "id", Type: feature.Int64}})
	keys, times := feature.NewColumn(feature.Int64, len(ids)), feature.NewColumn(feature.Timestamp, len(ids))
	for _, id := range ids {
		keys.AppendInt64(id)
		times.AppendInt64(at)
	}
	require.NoError(t, rows.Append([]*feature.Column{keys}, times))
	return rows
}

// joinAll joins all features of a view to the rows.
func joinAll(ctx context.Context, table *Table, rows *pit.EntityRows) (*pit.Joined, *Scan, error) {
	v := pit.ViewJoin{View: table.view, Keys: []int{0}}
	for i := range table.view.Features {
		v.Features = append(v.Features, i)
	}
	scan := table.Scan()
	v.Source = scan
	joined, err := pit.Join(ctx, rows, []pit.ViewJoin{v}, pit.Options{})
	return joined, scan, err
}

// TestManyFiles joins a table of very many files, of which some have no rows, no row groups, or one row: 5,000 of them, or as many as
// TWOFOLD_MANY_FILES says. What is known of a file stays small.
func TestManyFiles(t *testing.T) {
	files := fromEnv(t, "TWOFOLD_MANY_FILES", 5000)
	fields := []arrow.Field{field("id", arrow.PrimitiveTypes.Int64), field("ts", timestampUTC), field("x", arrow.PrimitiveTypes.Float64)}
	noGroups, err := tryWriteArrow(10, fields, []arrow.Array{int64s(), times(), doubles()})
	require.NoError(t, err)
	noRows, err := os.ReadFile("testdata/pandas_no_rows.parquet")
	require.NoError(t, err)
	kinds := [][]byte{simple(t, 1, 2, 3), simple(t, 4), noGroups, noRows, simple(t, 5, 6, 7, 8, 9)}
	rowsOf := []int64{3, 1, 0, 0, 5}
	p := filePlace(t)
	root := strings.TrimPrefix(p.url, "file://")
	// A file may have so many names, on any file system.
	const links = 1000
	var rows int64
	for i := range files {
		kind := i % len(kinds)
		path := fmt.Sprintf("t/part=%d/%06d.parquet", i/links, i)
		if i < len(kinds) || i%links < len(kinds) {
			p.put(t, path, kinds[kind])
		} else {
			original := i/links*links + i%links%len(kinds)
			require.NoError(t, os.Link(filepath.Join(root, fmt.Sprintf("t/part=%d/%06d.parquet", i/links, original)), filepath.Join(root, path)))
		}
		rows += rowsOf[kind]
	}
	table := p.store.Table(view("t", feature.Int64, xFeature, feature.Feature{Name: "part", Type: feature.Int32}))
	before, start := liveBytes(), time.Now()
	scan := table.Scan()
	fragments, _, err := scan.Fragments(t.Context(), feature.AllTime())
	require.NoError(t, err)
	listed := time.Since(start)
	require.NoError(t, p.store.Close()) // forgets the footers that nobody holds
	held := int64(liveBytes() - before)
	require.Len(t, scan.Files(), files)
	require.Less(t, held, int64(files)*2048, "bytes held for %d files", files)
	runtime.KeepAlive(fragments)

	start = time.Now()
	joined, _, err := joinAll(t.Context(), table, entityRows(t, []int64{1, 4, 9, 10}, 8))
	require.NoError(t, err)
	x, part := feature.NewColumn(feature.Double, 0), feature.NewColumn(feature.Int32, 0)
	joined.Batch(0, 0, 4, []*feature.Column{x, part})
	last := int32((files - 1) / links)
	require.Equal(t, []any{1., 4., nil, nil}, valuesOf(x))
	require.Equal(t, []any{last, last, nil, nil}, valuesOf(part)) // of alike rows, the last one
	stats := joined.Stats(0)
	require.Equal(t, rows, stats.RowsRead+stats.RowsPruned)
	require.EqualValues(t, 2, stats.Unmatched)
	t.Logf("%d files: listed with their footers in %v, %d bytes held a file; joined in %v", files, listed.Round(time.Millisecond),
		held/int64(files), time.Since(start).Round(time.Millisecond))
}

// TestTenThousandFeatures reads a view of very many columns: all of them, and few, for which no more than these is read.
func TestTenThousandFeatures(t *testing.T) {
	const features, rows = 10_000, 30
	var fields []arrow.Field
	var columns []arrow.Array
	ids := make([]int64, rows)
	for i := range ids {
		ids[i] = int64(i)
	}
	fields, columns = append(fields, field("id", arrow.PrimitiveTypes.Int64), field("ts", timestampUTC)), append(columns, int64s(ids...), times(ids...))
	var all []feature.Feature
	for i := range features {
		values := make([]float64, rows)
		for row := range values {
			values[row] = float64(i*rows + row)
		}
		name := fmt.Sprintf("f%05d", i)
		fields, columns = append(fields, field(name, arrow.PrimitiveTypes.Float64)), append(columns, doubles(values...))
		all = append(all, feature.Feature{Name: name, Column: name, Type: feature.Double})
	}
	p := filePlace(t)
	p.put(t, "t.parquet", writeArrow(t, rows, fields, columns, parquet.WithDictionaryDefault(false)))
	entities := entityRows(t, []int64{29, 5, 30}, 1000)
	join := func(v *feature.View) []*feature.Column {
		start, before := time.Now(), allocatedBytes()
		joined, _, err := joinAll(t.Context(), p.store.Table(v), entities)
		require.NoError(t, err)
		var dst []*feature.Column
		for _, f := range v.Features {
			dst = append(dst, feature.NewColumn(f.Type, 3))
		}
		joined.Batch(0, 0, 3, dst)
		t.Logf("%d features: %v, %d MiB asked for", len(dst), time.Since(start).Round(time.Millisecond), (allocatedBytes()-before)>>20)
		return dst
	}
	for i, c := range join(view("t.parquet", feature.Int64, all...)) {
		require.Equal(t, []any{float64(i*rows + 29), float64(i*rows + 5), nil}, valuesOf(c), "feature %d", i)
	}
	few := []feature.Feature{all[9999], all[0], all[5000]}
	for i, c := range join(view("t.parquet", feature.Int64, few...)) {
		n := []int{9999, 0, 5000}[i]
		require.Equal(t, []any{float64(n*rows + 29), float64(n*rows + 5), nil}, valuesOf(c))
	}
}

// TestLargeRowGroup streams the keys of a row group of 5 million rows, and gathers a few of them: no more is held than a batch and pages.
func TestLargeRowGroup(t *testing.T) {
	const rows = 5_000_000
	ids := make([]int64, rows)
	for i := range ids {
		ids[i] = int64(i)
	}
	p := filePlace(t)
	p.put(t, "t.parquet", writeArrow(t, rows, []arrow.Field{field("id", arrow.PrimitiveTypes.Int64), field("ts", timestampUTC), field("x", arrow.PrimitiveTypes.Int64)},
		[]arrow.Array{int64s(ids...), times(ids...), int64s(ids...)}, parquet.WithDictionaryDefault(false), parquet.WithStats(true), parquet.WithCompression(compress.Codecs.Snappy)))
	fragments, _, err := p.store.Table(view("t.parquet", feature.Int64, feature.Feature{Name: "x", Type: feature.Int64})).Fragments(t.Context(), feature.AllTime())
	require.NoError(t, err)
	require.Len(t, fragments, 1)
	before := allocatedBytes()
	next := int64(0)
	require.NoError(t, fragments[0].Keys(t.Context(), feature.AllTime(), func(b feature.KeyBatch) error {
		require.Equal(t, next, b.First)
		require.Equal(t, next, b.Keys[0].Int64s[0])
		next += int64(b.Len())
		require.Equal(t, next-1, b.EventTimes.Int64s[b.Len()-1])
		return nil
	}))
	require.EqualValues(t, rows, next)
	x := feature.NewColumn(feature.Int64, 0)
	require.NoError(t, fragments[0].Gather(t.Context(), []int64{0, 2_500_000, rows - 1}, []int{0}, []*feature.Column{x}))
	require.Equal(t, []any{int64(0), int64(2_500_000), int64(rows - 1)}, valuesOf(x))
	asked := allocatedBytes() - before
	t.Logf("%.1f MiB asked for", float64(asked)/(1<<20))
	require.Less(t, asked, uint64(32<<20))
}

// textFile is one row group with a column s of texts; id and ts are the row's number.
func textFile(t testing.TB, texts []string, options ...parquet.WriterProperty) []byte {
	ids := make([]int64, len(texts))
	b := array.NewStringBuilder(memory.DefaultAllocator)
	for i, text := range texts {
		ids[i] = int64(i)
		b.Append(text)
	}
	return writeArrow(t, int64(len(texts)), []arrow.Field{field("id", arrow.PrimitiveTypes.Int64), field("ts", timestampUTC), field("s", arrow.BinaryTypes.String)},
		[]arrow.Array{int64s(ids...), times(ids...), b.NewArray()}, options...)
}

// TestHugePages reads texts of a hundred megabytes, each a page; one that is larger than any page may be is refused.
func TestHugePages(t *testing.T) {
	const size = 110 << 20
	p := filePlace(t)
	huge := strings.Repeat("0123456789abcdef", size/16)
	s := feature.Feature{Name: "s", Type: feature.String}
	p.put(t, "huge.parquet", textFile(t, []string{"a", huge, "b"}, parquet.WithDictionaryDefault(false), parquet.WithBatchSize(1), parquet.WithDataPageSize(1),
		parquet.WithCompression(compress.Codecs.Zstd)))
	fragments, _, err := p.store.Table(view("huge.parquet", feature.Int64, s)).Fragments(t.Context(), feature.AllTime())
	require.NoError(t, err)
	got := feature.NewColumn(feature.String, 0)
	require.NoError(t, fragments[0].Gather(t.Context(), []int64{0, 1, 2}, []int{0}, []*feature.Column{got}))
	require.Equal(t, "a", got.StringAt(0))
	require.True(t, bytes.Equal(got.BytesAt(1), []byte(huge)))
	require.Equal(t, "b", got.StringAt(2))
	// Without that row, its page is not decompressed.
	before := allocatedBytes()
	got = feature.NewColumn(feature.String, 0)
	require.NoError(t, fragments[0].Gather(t.Context(), []int64{0, 2}, []int{0}, []*feature.Column{got}))
	require.Equal(t, []any{"a", "b"}, valuesOf(got))
	require.Less(t, allocatedBytes()-before, uint64(16<<20))

	larger := pageHeader{kind: pageData, hasBody: true, uncompressed: maxPageBytes + 1}
	require.ErrorContains(t, larger.check(chunk{uncompressed: 1 << 40}, 1<<40, 1), "at most 268435456 are read")
}

// TestLargeDictionary reads columns of a dictionary of a million values.
func TestLargeDictionary(t *testing.T) {
	const entries = 1_000_000
	texts := make([]string, entries+3)
	for i := range texts {
		texts[i] = "entry " + strconv.Itoa(i%entries)
	}
	p := filePlace(t)
	p.put(t, "t.parquet", textFile(t, texts, parquet.WithDictionaryPageSizeLimit(1<<30), parquet.WithCompression(compress.Codecs.Snappy)))
	fragments, _, err := p.store.Table(view("t.parquet", feature.Int64, feature.Feature{Name: "s", Type: feature.String})).Fragments(t.Context(), feature.AllTime())
	require.NoError(t, err)
	rows := []int64{0, 7, 500_000, entries - 1, entries, entries + 2}
	got := feature.NewColumn(feature.String, 0)
	before := allocatedBytes()
	require.NoError(t, fragments[0].Gather(t.Context(), rows, []int{0}, []*feature.Column{got}))
	require.Equal(t, []any{"entry 0", "entry 7", "entry 500000", "entry 999999", "entry 0", "entry 2"}, valuesOf(got))
	t.Logf("%.1f MiB asked for", float64(allocatedBytes()-before)/(1<<20))
	require.Less(t, allocatedBytes()-before, uint64(128<<20))
}

// TestDeepNesting: structs some way down are read, files that nest deeper than any use are refused before a decoder follows them.
func TestDeepNesting(t *testing.T) {
	nested := func(depth int) []byte {
		typ, data := arrow.PrimitiveTypes.Int64, int64s(7, 8)
		for i := range depth {
			f := field("s"+strconv.Itoa(i), typ)
			typ = arrow.StructOf(f)
			wrapped, err := array.NewStructArrayWithFields([]arrow.Array{data}, []arrow.Field{f})
			require.NoError(t, err)
			data = wrapped
		}
		return writeArrow(t, 2, []arrow.Field{field("id", arrow.PrimitiveTypes.Int64), field("ts", timestampUTC), field("top", typ)}, []arrow.Array{int64s(1, 2), times(1, 2), data})
	}
	p := filePlace(t)
	for depth, refused := range map[int]bool{20: false, maxSchemaDepth + 1: true, 500: true} {
		var name strings.Builder
		name.WriteString("top")
		for i := depth - 1; i >= 0; i-- {
			fmt.Fprintf(&name, ".s%d", i)
		}
		path := fmt.Sprintf("%d.parquet", depth)
		p.put(t, path, nested(depth))
		h, err := readTable(t.Context(), p.store.Table(view(path, feature.Int64, feature.Feature{Name: "x", Column: name.String(), Type: feature.Int64})), feature.AllTime())
		if refused {
			require.Equal(t, fault.Corrupt, fault.KindOf(err), err)
			require.ErrorContains(t, err, "/"+path)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, []any{int64(7), int64(8)}, valuesOf(h.columns[2]))
	}
}

// TestFilesThatStoreAColumnOtherwise: the same column as another type of integer, in another unit of time, in a dictionary, required, or not at all.
func TestFilesThatStoreAColumnOtherwise(t *testing.T) {
	p := filePlace(t)
	put := func(path string, id, ts arrow.Array, more map[string]arrow.Array, options ...parquet.WriterProperty) {
		fields, columns := []arrow.Field{{Name: "id", Type: id.DataType()}, field("ts", ts.DataType())}, []arrow.Array{id, ts}
		for _, name := range []string{"n", "s"} {
			if more[name] != nil {
				fields, columns = append(fields, field(name, more[name].DataType())), append(columns, more[name])
			}
		}
		p.put(t, path, writeArrow(t, 10, fields, columns, options...))
	}
	timesIn := func(unit arrow.TimeUnit, values ...int64) arrow.Array {
		b := array.NewTimestampBuilder(memory.DefaultAllocator, &arrow.TimestampType{Unit: unit, TimeZone: "UTC"})
		for _, v := range values {
			b.Append(arrow.Timestamp(v))
		}
		return b.NewArray()
	}
	int32s := func(values ...any) arrow.Array { return arrowArray(feature.Int32, values) }
	strs := func(values ...any) arrow.Array { return arrowArray(feature.String, values) }
	words := array.NewDictionaryBuilder(memory.DefaultAllocator, &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}).(*array.BinaryDictionaryBuilder)
	require.NoError(t, words.AppendString("w"))
	words.AppendNull()

	put("t/1.parquet", int64s(1, 2), timesIn(arrow.Microsecond, 1_000_000, 2_000_001), map[string]arrow.Array{"n": int64s(1<<40, 2), "s": strs("a", nil)})
	put("t/2.parquet", int32s(int32(3), int32(4)), timesIn(arrow.Nanosecond, 3_000_000_999, 4_000_001_000), map[string]arrow.Array{"n": int32s(int32(-3), nil), "s": words.NewArray()},
		parquet.WithVersion(parquet.V2_LATEST))
	put("t/3.parquet", int64s(5), timesIn(arrow.Millisecond, 5_000), map[string]arrow.Array{"s": strs("b")}, parquet.WithDictionaryDefault(false))
	table := p.store.Table(view("t", feature.Int64, feature.Feature{Name: "n", Type: feature.Int64}, feature.Feature{Name: "s", Type: feature.String}))
	h, err := readTable(t.Context(), table, feature.AllTime())
	require.NoError(t, err)
	require.Equal(t, []any{int64(1), int64(2), int64(3), int64(4), int64(5)}, valuesOf(h.columns[0]))
	require.Equal(t, []any{int64(1_000_000), int64(2_000_001), int64(3_000_000), int64(4_000_001), int64(5_000_000)}, valuesOf(h.columns[1]))
	require.Equal(t, []any{int64(1 << 40), int64(2), int64(-3), nil, nil}, valuesOf(h.columns[2]))
	require.Equal(t, []any{"a", nil, "w", nil, "b"}, valuesOf(h.columns[3]))

	// Each unit's statistics are read in that unit.
	h, err = readTable(t.Context(), table, feature.TimeRange{Min: 3_000_000, Max: 4_000_000})
	require.NoError(t, err)
	require.EqualValues(t, 3, h.pruned)

	put("t/4.parquet", int64s(6), timesIn(arrow.Microsecond, 6), map[string]arrow.Array{"n": strs("six")})
	_, err = readTable(t.Context(), table, feature.AllTime())
	require.Equal(t, fault.Precondition, fault.KindOf(err), err)
	require.ErrorContains(t, err, `/t/4.parquet: feature column "n" is STRING`)
}

// TestEncodingThatIsNotRead: a sound file is not called damaged.
func TestEncodingThatIsNotRead(t *testing.T) {
	data, err := os.ReadFile("testdata/pyarrow_fixed_delta.parquet")
	require.NoError(t, err)
	p := filePlace(t)
	p.put(t, "t.parquet", data)
	_, err = readTable(t.Context(), p.store.Table(view("t.parquet", feature.Int64, feature.Feature{Name: "fixed", Type: feature.Bytes})), feature.AllTime())
	require.Equal(t, fault.Precondition, fault.KindOf(err), err)
	require.ErrorContains(t, err, `/t.parquet, row group 0, column "fixed": values of a fixed length in the encoding DELTA_BYTE_ARRAY are not supported; write `)
}

// TestOddPartitions: values of folders that are null, percent-encoded, or no value of the column.
func TestOddPartitions(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		for i, folder := range []string{"k=a%2Fb c%3D", "k=%zz", "k=" + hiveNull, "k=", "k=x=y", "k=%C3%BC", "k=p/k=q"} {
			p.put(t, fmt.Sprintf("t/%s/%d.parquet", folder, i), simple(t, int64(i)))
		}
		h, err := readTable(t.Context(), p.store.Table(view("t", feature.Int64, feature.Feature{Name: "k", Type: feature.String})), feature.AllTime())
		require.NoError(t, err)
		got := map[int64]any{}
		for i := range h.columns[0].Len() {
			got[h.columns[0].Int64s[i]] = h.columns[2].ValueAt(i)
		}
		require.Equal(t, map[int64]any{0: "a/b c=", 1: "%zz", 2: nil, 3: "", 4: "x=y", 5: "ü", 6: "q"}, got)

		day := time.Date(2013, 1, 31, 0, 0, 0, 0, time.UTC).UnixMicro()
		p.put(t, "days/dt=2013-01-31/a.parquet", simple(t, 1))
		p.put(t, "days/dt="+hiveNull+"/b.parquet", simple(t, 2))
		v := view("days", feature.Int64, xFeature)
		v.Source.EventTimeColumn = "dt"
		h, err = readTable(t.Context(), p.store.Table(v), feature.AllTime())
		require.NoError(t, err)
		require.Equal(t, []any{day}, valuesOf(h.columns[1]))
		require.EqualValues(t, 1, h.pruned, "rows without an event time are never joined")
		for i, wrong := range []string{"2013-02-30", "31.01.2013", "", "2013-1-1", "20130131"} {
			folder := fmt.Sprintf("wrong%d/dt=%s", i, wrong)
			p.put(t, folder+"/c.parquet", simple(t, 3))
			v.Source.Path = fmt.Sprintf("wrong%d", i)
			_, err = readTable(t.Context(), p.store.Table(v), feature.AllTime())
			require.Equal(t, fault.Precondition, fault.KindOf(err), "%s: %v", wrong, err)
			require.ErrorContains(t, err, p.url+"/"+folder+`/c.parquet: event time column "dt": the folder dt=`+wrong+" is not TIMESTAMP: write it as a date")
		}
	})
}

// TestFilesChangeWhileTheyAreRead: whatever happens to a local file, at whatever moment, what was listed is read, or an error names the file.
func TestFilesChangeWhileTheyAreRead(t *testing.T) {
	large := timeOrdered(t, 200_000)
	other := bytes.Clone(large)
	for i := 4; i < len(other)/2; i++ {
		other[i] ^= 0x55
	}
	changes := map[string]func(path string) error{
		"deleted":     os.Remove,
		"truncated":   func(path string) error { return os.Truncate(path, int64(len(large)/3)) },
		"overwritten": func(path string) error { return os.WriteFile(path, other, 0o600) },
		"emptied":     func(path string) error { return os.Truncate(path, 0) },
		"replaced": func(path string) error {
			if err := os.WriteFile(path+".new", other, 0o600); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		},
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			p := filePlace(t)
			path := filepath.Join(strings.TrimPrefix(p.url, "file://"), "t", "1.parquet")
			begin := func() *Table {
				p.put(t, "t/1.parquet", large)
				// Another moment than that of the change, however coarse the file system's clock is.
				require.NoError(t, os.Chtimes(path, time.Time{}, time.Date(2013, 1, 31, 0, 0, 0, 0, time.UTC)))
				return p.store.Table(xsView("t"))
			}
			refused := func(err error) {
				t.Helper()
				require.Equal(t, fault.Unavailable, fault.KindOf(err), err)
				require.ErrorContains(t, err, path)
				require.ErrorContains(t, err, "was replaced or removed after it was listed")
			}
			// After it was listed, before its footer is read.
			begin()
			require.NoError(t, p.store.Close()) // forgets footers
			_, err := p.store.sources(t.Context(), "t", func(o []object) ([]object, error) { return o, change(path) })
			refused(err)

			// Before and while keys are read.
			fragments, _, err := begin().Fragments(t.Context(), feature.AllTime())
			require.NoError(t, err)
			require.NoError(t, change(path))
			refused(fragments[0].Keys(t.Context(), feature.AllTime(), func(feature.KeyBatch) error { return nil }))
			fragments, _, err = begin().Fragments(t.Context(), feature.AllTime())
			require.NoError(t, err)
			seen := int64(0)
			err = fragments[0].Keys(t.Context(), feature.AllTime(), func(b feature.KeyBatch) error {
				for i, id := range b.Keys[0].Int64s {
					require.Equal(t, seen+int64(i), id)
				}
				if seen += int64(b.Len()); b.First == 0 {
					return change(path)
				}
				return nil
			})
			if err == nil { // the file that was listed is still open, and has no name any more
				require.Contains(t, []string{"deleted", "replaced"}, name)
				require.EqualValues(t, 200_000, seen)
			} else {
				refused(err)
			}

			// Before rows are gathered.
			fragments, _, err = begin().Fragments(t.Context(), feature.AllTime())
			require.NoError(t, err)
			require.NoError(t, fragments[0].Keys(t.Context(), feature.AllTime(), func(feature.KeyBatch) error { return nil }))
			require.NoError(t, change(path))
			refused(fragments[0].Gather(t.Context(), []int64{5}, []int{0}, []*feature.Column{feature.NewColumn(feature.Double, 0)}))
		})
	}
}

// TestFoldersThatLinkToThemselves: links are followed, and end nowhere in a walk without end.
func TestFoldersThatLinkToThemselves(t *testing.T) {
	p := filePlace(t)
	root := strings.TrimPrefix(p.url, "file://")
	link := func(target, name string) { require.NoError(t, os.Symlink(target, filepath.Join(root, name))) }
	files := func(path string) ([]string, error) {
		found, err := p.store.Table(view(path, feature.Int64, xFeature)).Files(t.Context())
		var names []string
		for _, f := range found {
			names = append(names, strings.TrimPrefix(f.URL, p.url+"/"))
		}
		return names, err
	}
	p.put(t, "real/2013/a.parquet", simple(t, 1))
	p.put(t, "t/b.parquet", simple(t, 2))
	// The same folder by two names is read twice, as it says.
	link("../real", "t/one")
	link("../real/2013", "t/two")
	link("../nowhere", "t/none")
	link("../../real/2013/a.parquet", "t/c.parquet")
	names, err := files("t")
	require.NoError(t, err)
	require.Equal(t, []string{"t/b.parquet", "t/one/2013/a.parquet", "t/two/a.parquet"}, names)

	// Links that lead back, two of which double the ways with every step.
	for name, target := range map[string]string{"itself": ".", "above": "..", "through": "../t/one/../t"} {
		link(target, "t/"+name)
		link(target, "t/"+name+"2")
		_, err = files("t")
		require.Equal(t, fault.Precondition, fault.KindOf(err), err)
		require.ErrorContains(t, err, p.url+"/t/"+name)
		require.ErrorContains(t, err, "remove the symbolic link")
		require.NoError(t, os.Remove(filepath.Join(root, "t/"+name)))
		require.NoError(t, os.Remove(filepath.Join(root, "t/"+name+"2")))
	}

	// No way leads back, but there are 2³⁰ of them.
	for i := range 30 {
		require.NoError(t, os.MkdirAll(filepath.Join(root, "dag", strconv.Itoa(i)), 0o755))
		link("../"+strconv.Itoa(i+1), fmt.Sprintf("dag/%d/left", i))
		link("../"+strconv.Itoa(i+1), fmt.Sprintf("dag/%d/right", i))
	}
	p.put(t, "dag/30/a.parquet", simple(t, 1))
	_, err = files("dag/0")
	require.Equal(t, fault.Precondition, fault.KindOf(err), err)
	require.ErrorContains(t, err, "ways of symbolic links lead to")
}
