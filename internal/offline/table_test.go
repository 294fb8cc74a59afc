package offline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/testenv"
)

// simple is a file of rows (id, ts, x) with ts = x = id, in row groups of 2.
func simple(t testing.TB, ids ...int64) []byte {
	values := make([]float64, len(ids))
	for i, id := range ids {
		values[i] = float64(id)
	}
	return writeArrow(t, 2,
		[]arrow.Field{field("id", arrow.PrimitiveTypes.Int64), field("ts", timestampUTC), field("x", arrow.PrimitiveTypes.Float64)},
		[]arrow.Array{int64s(ids...), times(ids...), doubles(values...)})
}

var xFeature = feature.Feature{Name: "x", Type: feature.Double}

func TestPathsFindFiles(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		for _, path := range []string{
			"t/b.parquet", "t/a.parquet", "t/dt=2013-01-02/c.parquet", "t/dt=2013-01-10/d.parquet", "t/_temporary/x.parquet", "t/.hidden.parquet",
			"t/readme.txt", "t/_SUCCESS", "tt/e.parquet", "odd name+%41/f.parquet",
		} {
			p.put(t, path, simple(t, 1))
		}
		for _, test := range []struct {
			path string
			want string
		}{
			{"t/a.parquet", "t/a.parquet"},
			{p.url + "/t/a.parquet", "t/a.parquet"},
			{"t", "t/a.parquet t/b.parquet t/dt=2013-01-02/c.parquet t/dt=2013-01-10/d.parquet"},
			{"t/", "t/a.parquet t/b.parquet t/dt=2013-01-02/c.parquet t/dt=2013-01-10/d.parquet"},
			{"t/*.parquet", "t/a.parquet t/b.parquet"},
			{"t/?.parquet", "t/a.parquet t/b.parquet"},
			{"t/[b-z].parquet", "t/b.parquet"},
			{"t/{a,c}.parquet", "t/a.parquet"},
			{"t/**", "t/a.parquet t/b.parquet t/dt=2013-01-02/c.parquet t/dt=2013-01-10/d.parquet t/readme.txt"},
			{"**/c.parquet", "t/dt=2013-01-02/c.parquet"},
			{"t/dt=2013-01-1*", "t/dt=2013-01-10/d.parquet"},
			{"t*/*.parquet", "t/a.parquet t/b.parquet tt/e.parquet"},
			{"odd name+%41", "odd name+%41/f.parquet"},
			{"t/readme.txt", "t/readme.txt"},
		} {
			files, err := p.store.Table(view(test.path, feature.Int64, xFeature)).Files(t.Context())
			require.NoError(t, err, test.path)
			var got []string
			for _, f := range files {
				got = append(got, strings.TrimPrefix(f.URL, p.url+"/"))
				require.NotEmpty(t, f.ETag)
				require.Positive(t, f.SizeBytes)
			}
			require.Equal(t, test.want, strings.Join(got, " "), test.path)
		}
	})
}

// TestFilesAreInTheOrderOfTheirURLs: the order decides between rows of equal times, so it must not depend on how a place lists its folders.
func TestFilesAreInTheOrderOfTheirURLs(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		want := []string{"t/a-1/f.parquet", "t/a.parquet", "t/a/f.parquet", "t/a0.parquet"}
		for _, path := range want {
			p.put(t, path, simple(t, 1))
		}
		for _, path := range []string{"t", "t/**/*.parquet"} {
			files, err := p.store.Table(view(path, feature.Int64, xFeature)).Files(t.Context())
			require.NoError(t, err)
			var got []string
			for _, f := range files {
				got = append(got, strings.TrimPrefix(f.URL, p.url+"/"))
			}
			require.Equal(t, want, got, path)
		}
	})
}

func TestPathsThatFindNothing(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		p.put(t, "t/readme.txt", []byte("hello"))
		for _, path := range []string{"missing.parquet", "missing/", "t", "t/*.parquet", "t/readme.txt/x", "t/[z]"} {
			_, _, err := p.store.Table(view(path, feature.Int64, xFeature)).Fragments(t.Context(), feature.AllTime())
			require.Error(t, err, path)
			require.Equal(t, fault.Precondition, fault.KindOf(err), "%s: %v", path, err)
			require.ErrorContains(t, err, p.url+"/"+strings.TrimSuffix(path, "/"))
		}
		_, err := p.store.Table(view("t/[", feature.Int64, xFeature)).Files(t.Context())
		require.Equal(t, fault.Invalid, fault.KindOf(err))
	})
}

func TestS3ListsMoreThanOnePage(t *testing.T) {
	p := s3Place(t)
	for i := range 8 {
		p.put(t, fmt.Sprintf("many/%d.parquet", i), simple(t, 7))
	}
	p.store.s3.(*s3Driver).pageKeys = 3
	files, err := p.store.Table(view("many", feature.Int64, xFeature)).Files(t.Context())
	require.NoError(t, err)
	require.Len(t, files, 8)
}

func TestRowsAndPruning(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		p.put(t, "t/1.parquet", simple(t, 1, 2, 3, 4, 5))
		p.put(t, "t/2.parquet", simple(t, 6, 7))
		table := p.store.Table(view("t", feature.Int64, xFeature))
		h, err := readTable(t.Context(), table, feature.AllTime())
		require.NoError(t, err)
		want := []any{int64(1), int64(2), int64(3), int64(4), int64(5), int64(6), int64(7)}
		require.Equal(t, want, valuesOf(h.columns[0]))
		require.Equal(t, want, valuesOf(h.columns[1]))
		require.Equal(t, []any{1., 2., 3., 4., 5., 6., 7.}, valuesOf(h.columns[2]))
		require.Zero(t, h.pruned)

		h, err = readTable(t.Context(), table, feature.TimeRange{Min: 4, Max: 5})
		require.NoError(t, err)
		require.Equal(t, []any{3., 4., 5.}, valuesOf(h.columns[2]))
		require.EqualValues(t, 4, h.pruned)

		fragments, _, err := table.Fragments(t.Context(), feature.AllTime())
		require.NoError(t, err)
		require.Equal(t, 1, fragments[1].RowGroup())
		x := feature.NewColumn(feature.Double, 0)
		require.NoError(t, fragments[1].Gather(t.Context(), []int64{1}, []int{0}, []*feature.Column{x}))
		require.Equal(t, []any{4.}, valuesOf(x))
		require.Error(t, fragments[1].Gather(t.Context(), []int64{1, 1}, []int{0}, []*feature.Column{x}))
		require.Error(t, fragments[1].Gather(t.Context(), []int64{2}, []int{0}, []*feature.Column{x}))
		stop := errors.New("stop")
		require.Equal(t, stop, fragments[0].Keys(t.Context(), feature.AllTime(), func(feature.KeyBatch) error { return stop }))
	})
}

// TestPruningByEveryKindOfTime: a range of one moment keeps the one row group, or folder, that holds it, and no other.
func TestPruningByEveryKindOfTime(t *testing.T) {
	p := filePlace(t)
	day := time.Date(2013, 1, 31, 0, 0, 0, 0, time.UTC)
	moments := []time.Time{time.Unix(-1, 0), day, day.AddDate(0, 0, 1)}
	var micros []int64
	for _, at := range moments {
		micros = append(micros, at.UnixMicro())
	}
	builder := func(kind *arrow.TimestampType, values ...int64) arrow.Array {
		b := array.NewTimestampBuilder(memory.DefaultAllocator, kind)
		for _, v := range values {
			b.Append(arrow.Timestamp(v))
		}
		return b.NewArray()
	}
	millis := &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"}
	nanos := &arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "UTC"}
	dates := array.NewDate32Builder(memory.DefaultAllocator)
	dates.AppendValues([]arrow.Date32{-1, arrow.Date32FromTime(day), arrow.Date32FromTime(day) + 1}, nil)
	dateMoments := []int64{-microsPerDay, micros[1], micros[2]}
	for name, c := range map[string]struct {
		times arrow.Array
		want  []int64
	}{
		"micros": {times(micros...), micros},
		"millis": {builder(millis, moments[0].UnixMilli(), moments[1].UnixMilli(), moments[2].UnixMilli()), micros},
		// The last nanosecond of a microsecond is in it.
		"nanos": {builder(nanos, moments[0].UnixNano()+999, moments[1].UnixNano()+999, moments[2].UnixNano()+999), micros},
		"dates": {dates.NewArray(), dateMoments},
	} {
		p.put(t, name+".parquet", writeArrow(t, 1, []arrow.Field{field("id", arrow.PrimitiveTypes.Int64), field("ts", c.times.DataType()), field("x", arrow.PrimitiveTypes.Float64)},
			[]arrow.Array{int64s(0, 1, 2), c.times, doubles(0, 1, 2)}, parquet.WithVersion(parquet.V2_LATEST)))
		requireOneEach(t, p.store.Table(view(name+".parquet", feature.Int64, xFeature)), c.want)
	}
	for i, at := range []string{"1969-12-31", "2013-01-31", "2013-02-01"} {
		p.put(t, "folders/dt="+at+"/f.parquet", simple(t, int64(i)))
	}
	v := view("folders", feature.Int64, xFeature)
	v.Source.EventTimeColumn = "dt"
	requireOneEach(t, p.store.Table(v), dateMoments)
}

// requireOneEach reads the table at each of its moments, and just beside it.
func requireOneEach(t *testing.T, table *Table, moments []int64) {
	t.Helper()
	for i, at := range moments {
		h, err := readTable(t.Context(), table, feature.TimeRange{Min: feature.EventTime(at), Max: feature.EventTime(at)})
		require.NoError(t, err)
		require.Equal(t, []any{at}, valuesOf(h.columns[1]), "row %d of %s", i, table.view.Source)
		require.Equal(t, []any{float64(i)}, valuesOf(h.columns[2]))
		require.EqualValues(t, len(moments)-1, h.pruned)
		h, err = readTable(t.Context(), table, feature.TimeRange{Min: feature.EventTime(at + 1), Max: feature.EventTime(at + 1)})
		require.NoError(t, err)
		require.EqualValues(t, len(moments), h.pruned, "a microsecond after row %d of %s", i, table.view.Source)
	}
}

func TestPartitions(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		p.put(t, "t/dt=2013-01-01/n=1/s=a%3Ab/f.parquet", simple(t, 1))
		p.put(t, "t/dt=2013-01-02/n=02/s="+hiveNull+"/f.parquet", simple(t, 2))
		v := view("t", feature.Int64, xFeature, feature.Feature{Name: "n", Type: feature.Int32}, feature.Feature{Name: "s", Type: feature.String},
			feature.Feature{Name: "day", Column: "dt", Type: feature.Timestamp})
		h, err := readTable(t.Context(), p.store.Table(v), feature.AllTime())
		require.NoError(t, err)
		day := int64(microsPerDay)
		first := time.Date(2013, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
		require.Equal(t, []any{int32(1), int32(2)}, valuesOf(h.columns[3]))
		require.Equal(t, []any{"a:b", nil}, valuesOf(h.columns[4]))
		require.Equal(t, []any{first, first + day}, valuesOf(h.columns[5]))

		schema, err := p.store.Schema(t.Context(), "t")
		require.NoError(t, err)
		types := map[string]feature.Type{}
		for _, c := range schema.Columns {
			types[c.Name] = c.Type
		}
		require.Equal(t, map[string]feature.Type{"id": feature.Int64, "ts": feature.Timestamp, "x": feature.Double, "dt": feature.Timestamp,
			"n": feature.String, "s": feature.String}, types)
		n, _ := schema.Column("n")
		require.NoError(t, n.CanRead(feature.Int64))
		s, _ := schema.Column("s")
		require.Error(t, s.CanRead(feature.Int64))

		// The event time itself can be a partition.
		v = view("t", feature.Int64, xFeature)
		v.Source.EventTimeColumn = "dt"
		h, err = readTable(t.Context(), p.store.Table(v), feature.TimeRange{Min: feature.EventTime(first + 1), Max: feature.EventTime(first + day)})
		require.NoError(t, err)
		require.Equal(t, []any{2.}, valuesOf(h.columns[2]))
		require.EqualValues(t, 1, h.pruned)

		v = view("t", feature.Int64, feature.Feature{Name: "s", Type: feature.Int64})
		_, _, err = p.store.Table(v).Fragments(t.Context(), feature.AllTime())
		require.Equal(t, fault.Precondition, fault.KindOf(err))
		require.ErrorContains(t, err, "s=a:b")
	})
}

func TestColumnsThatDiffer(t *testing.T) {
	p := filePlace(t)
	p.put(t, "t/1.parquet", writeArrow(t, 10,
		[]arrow.Field{field("id", arrow.PrimitiveTypes.Int64), field("ts", timestampUTC)}, []arrow.Array{int64s(1), times(1)}))
	p.put(t, "t/2.parquet", simple(t, 2))
	h, err := readTable(t.Context(), p.store.Table(view("t", feature.Int64, xFeature)), feature.AllTime())
	require.NoError(t, err)
	require.Equal(t, []any{nil, 2.}, valuesOf(h.columns[2]))
	schema, err := p.store.Schema(t.Context(), "t")
	require.NoError(t, err)
	require.Equal(t, 2, schema.Files)
	require.EqualValues(t, 2, schema.Rows)
	x, _ := schema.Column("x")
	require.Equal(t, 1, x.MissingFiles)
	require.Equal(t, p.url+"/t/1.parquet", x.MissingIn)
	require.True(t, x.Nullable)
	id, _ := schema.Column("id")
	require.Zero(t, id.MissingFiles)
	require.Empty(t, id.MissingIn)

	for _, test := range []struct {
		change func(v *feature.View)
		want   string
	}{
		{func(v *feature.View) { v.Features[0].Column = "X" }, `feature column "X" is in none of the 2 files of ` + p.url + `/t; did you mean "x"?`},
		{func(v *feature.View) { v.Features[0].Type = feature.Int64 }, `/t/2.parquet: feature column "x" is DOUBLE (DOUBLE), not INT64: `},
		{func(v *feature.View) { v.Features[0].Type = feature.DoubleList }, "does not hold lists; declare it DOUBLE"},
		{func(v *feature.View) { v.Source.KeyColumns[0] = "x" }, `/t/1.parquet has no column "x", which is the key`},
		{func(v *feature.View) { v.Source.EventTimeColumn = "id" }, "as a Parquet TIMESTAMP"},
		{func(v *feature.View) { v.Source.CreatedTimeColumn = "created" }, `has no column "created", which is the created time`},
	} {
		v := view("t", feature.Int64, xFeature)
		test.change(v)
		_, _, err := p.store.Table(v).Fragments(t.Context(), feature.AllTime())
		require.ErrorContains(t, err, test.want)
		require.Equal(t, fault.Precondition, fault.KindOf(err))
	}
}

// TestSchemaSpeaksForAllFiles: what it says can be read is read, whatever the order of the files.
func TestSchemaSpeaksForAllFiles(t *testing.T) {
	p := filePlace(t)
	column := func(name string, data arrow.Array) []byte {
		return writeArrow(t, 10, []arrow.Field{field("id", arrow.PrimitiveTypes.Int64), field("ts", timestampUTC), field(name, data.DataType())},
			[]arrow.Array{int64s(1), times(1), data})
	}
	ints, texts := arrowArray(feature.Int32, []any{int32(7)}), arrowArray(feature.String, []any{"seven"})
	nulls := array.NewNull(1)
	p.put(t, "types/1.parquet", column("a", texts))
	p.put(t, "types/2.parquet", column("a", ints))
	p.put(t, "widths/1.parquet", column("a", int64s(7)))
	p.put(t, "widths/2.parquet", column("a", ints))
	p.put(t, "nulls/1.parquet", column("a", ints))
	p.put(t, "nulls/2.parquet", column("a", nulls))
	p.put(t, "hidden/a=x/1.parquet", column("a", ints))
	p.put(t, "mixed/a=7/1.parquet", column("b", ints))
	p.put(t, "mixed/2.parquet", column("a", texts))
	for _, test := range []struct {
		path     string
		want     feature.Type
		readable []feature.Type
		refusal  string
	}{
		{"types", feature.Int32, nil, `in ` + p.url + `/types/`},
		{"widths", feature.Int64, []feature.Type{feature.Int64}, `in ` + p.url + `/widths/`},
		{"nulls", feature.Int32, []feature.Type{feature.Int32, feature.Int64, feature.Double}, `in ` + p.url + `/nulls/1.parquet, not`},
		{"hidden", feature.String, []feature.Type{feature.String, feature.Bytes}, `the folder a=x is not`},
		{"mixed", feature.String, []feature.Type{feature.String, feature.Bytes}, ""},
	} {
		schema, err := p.store.Schema(t.Context(), test.path)
		require.NoError(t, err)
		a, ok := schema.Column("a")
		require.True(t, ok, test.path)
		require.Equal(t, test.want, a.Type, test.path)
		require.Equal(t, test.path == "hidden", a.HiddenIn != "", test.path)
		var readable []feature.Type
		for _, typ := range []feature.Type{feature.Bool, feature.Int32, feature.Int64, feature.Float, feature.Double, feature.String, feature.Bytes, feature.Timestamp} {
			_, _, err := p.store.Table(view(test.path, feature.Int64, feature.Feature{Name: "a", Type: typ})).Fragments(t.Context(), feature.AllTime())
			refusal := a.CanRead(typ)
			require.Equal(t, err == nil, refusal == nil, "%s as %v: %v, but the schema says %v", test.path, typ, err, refusal)
			if refusal == nil {
				readable = append(readable, typ)
				continue
			}
			if test.path != "mixed" {
				require.ErrorContains(t, refusal, test.refusal)
			}
		}
		require.Equal(t, test.readable, readable, test.path)
	}
}

func TestPathsWithoutFilesDoNotExist(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		p.put(t, "t/readme.txt", nil)
		for _, path := range []string{"t", "none", "t/*.parquet", "none.parquet"} {
			_, err := p.store.Schema(t.Context(), path)
			require.ErrorIs(t, err, fs.ErrNotExist, path)
			require.Equal(t, fault.Precondition, fault.KindOf(err), path)
		}
		_, err := p.store.Schema(t.Context(), "t/readme.txt")
		require.Error(t, err)
		require.NotErrorIs(t, err, fs.ErrNotExist)
	})
}

func TestFileReplacedAfterListing(t *testing.T) {
	onEveryPlace(t, func(t *testing.T, p place) {
		p.put(t, "t/1.parquet", simple(t, 1, 2, 3))
		table := p.store.Table(view("t", feature.Int64, xFeature))
		fragments, _, err := table.Fragments(t.Context(), feature.AllTime())
		require.NoError(t, err)
		p.put(t, "t/1.parquet", simple(t, 1, 2, 4, 5, 6, 7, 8))
		err = fragments[0].Keys(t.Context(), feature.AllTime(), func(feature.KeyBatch) error { return nil })
		require.ErrorContains(t, err, "was replaced")
		require.ErrorContains(t, err, p.url+"/t/1.parquet")
		require.Equal(t, fault.Unavailable, fault.KindOf(err))
		h, err := readTable(t.Context(), table, feature.AllTime())
		require.NoError(t, err)
		require.Len(t, valuesOf(h.columns[0]), 7)
	})
}

// TestLocalFileReplacedByOneOfTheSameSize: the time of modification tells the versions apart, both after listing and in the cached footers.
func TestLocalFileReplacedByOneOfTheSameSize(t *testing.T) {
	p := filePlace(t)
	first, second := simple(t, 1, 2), simple(t, 1, 3)
	require.Len(t, second, len(first))
	file := filepath.Join(strings.TrimPrefix(p.url, "file://"), "1.parquet")
	put := func(data []byte, modified time.Time) {
		p.put(t, "1.parquet", data)
		require.NoError(t, os.Chtimes(file, modified, modified))
	}
	at := time.Date(2013, 1, 31, 0, 0, 0, 0, time.UTC)
	put(first, at)
	table := p.store.Table(view("1.parquet", feature.Int64, xFeature))
	fragments, _, err := table.Fragments(t.Context(), feature.AllTime())
	require.NoError(t, err)
	put(second, at.Add(time.Millisecond))
	err = fragments[0].Keys(t.Context(), feature.AllTime(), func(feature.KeyBatch) error { return nil })
	require.ErrorContains(t, err, "was replaced")
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	// Row 3 lies outside of the statistics of the file that was.
	h, err := readTable(t.Context(), table, feature.TimeRange{Min: 3, Max: 3})
	require.NoError(t, err)
	require.Equal(t, []any{1., 3.}, valuesOf(h.columns[2]))
}

func TestLocalFileRemovedAfterListing(t *testing.T) {
	p := filePlace(t)
	p.put(t, "1.parquet", simple(t, 1))
	fragments, _, err := p.store.Table(view("1.parquet", feature.Int64, xFeature)).Fragments(t.Context(), feature.AllTime())
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(strings.TrimPrefix(p.url, "file://"), "1.parquet")))
	err = fragments[0].Keys(t.Context(), feature.AllTime(), func(feature.KeyBatch) error { return nil })
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
}

func TestS3Faults(t *testing.T) {
	server := testenv.S3(t)
	bucket := server.Bucket(t)
	read := func(c Config) error {
		store, err := Open(t.Context(), c)
		require.NoError(t, err)
		_, _, err = store.Table(view("x.parquet", feature.Int64, xFeature)).Fragments(t.Context(), feature.AllTime())
		require.Error(t, err)
		return err
	}
	good := s3Config(server)

	err := read(Config{Path: "s3://no-such-bucket", S3: good})
	require.Equal(t, fault.Precondition, fault.KindOf(err), err)
	require.ErrorContains(t, err, `there is no bucket "no-such-bucket"`)

	wrong := good
	wrong.SecretAccessKey = "wrong"
	err = read(Config{Path: "s3://" + bucket, S3: wrong})
	require.Equal(t, fault.Precondition, fault.KindOf(err), err)
	require.ErrorContains(t, err, "access is denied")
	require.NotContains(t, err.Error(), "wrong")

	nobody := good
	nobody.Endpoint = "http://127.0.0.1:1"
	err = read(Config{Path: "s3://" + bucket, S3: nobody})
	require.Equal(t, fault.Unavailable, fault.KindOf(err), err)
	require.ErrorContains(t, err, "s3://"+bucket+"/x.parquet")
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []Config{
		{Path: "gs://bucket/x"}, {Path: "s3://"}, {Path: "file://host/x"}, {Path: "data/*"},
		{S3: S3Config{AccessKeyID: "a"}}, {S3: S3Config{Endpoint: "localhost:9000"}}, {S3: S3Config{SessionToken: "x"}},
	} {
		_, err := Open(t.Context(), c)
		require.Equal(t, fault.Invalid, fault.KindOf(err), "%+v: %v", c, err)
	}
}

func TestResolve(t *testing.T) {
	local, err := Open(t.Context(), Config{Path: "/data/base"})
	require.NoError(t, err)
	remote, err := Open(t.Context(), Config{Path: "s3://b/base/", S3: S3Config{Region: "eu-west-1"}})
	require.NoError(t, err)
	got := map[string]string{}
	for _, path := range []string{"x/y.parquet", "x/", "x/*.parquet", "/abs", "file:///abs", "s3://c/k", "../up"} {
		l, err := local.Resolve(path)
		require.NoError(t, err)
		r, err := remote.Resolve(path)
		require.NoError(t, err)
		got[path] = l + " " + r
	}
	want := map[string]string{
		"x/y.parquet": "file:///data/base/x/y.parquet s3://b/base/x/y.parquet",
		"x/":          "file:///data/base/x/ s3://b/base/x/",
		"x/*.parquet": "file:///data/base/x/*.parquet s3://b/base/x/*.parquet",
		"/abs":        "file:///abs s3://b/base/abs",
		"file:///abs": "file:///abs file:///abs",
		"s3://c/k":    "s3://c/k s3://c/k",
		"../up":       "file:///data/up s3://b/up",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	_, err = remote.Resolve("../../up")
	require.Equal(t, fault.Invalid, fault.KindOf(err))
}
