package sizing_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/pit"
	"github.com/twofold-ml/twofold/internal/sizing"
	"github.com/twofold-ml/twofold/internal/testenv"
)

var (
	now  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	user = &feature.Entity{Name: "user", Keys: []feature.Key{{Name: "user_id", Type: feature.Int64}}}
)

// row is one row of a test's files.
type row struct {
	user int64
	age  time.Duration
	text string
}

// parquetOf returns a Parquet file of rows, the text of an empty one null.
func parquetOf(t *testing.T, rows []row) []byte {
	t.Helper()
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "user_id", Type: arrow.PrimitiveTypes.Int64}, {Name: "ts", Type: arrow.FixedWidthTypes.Timestamp_us},
		{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	for _, r := range rows {
		b.Field(0).(*array.Int64Builder).Append(r.user)
		b.Field(1).(*array.TimestampBuilder).Append(arrow.Timestamp(now.Add(-r.age).UnixMicro()))
		if r.text == "" {
			b.Field(2).AppendNull()
		} else {
			b.Field(2).(*array.StringBuilder).Append(r.text)
		}
	}
	var out bytes.Buffer
	w, err := offline.NewParquetWriter(&out, schema)
	require.NoError(t, err)
	require.NoError(t, w.Write(b.NewRecordBatch()))
	require.NoError(t, w.Close())
	return out.Bytes()
}

// textView returns a view of the files in a folder.
func textView(path string, ttl time.Duration, versions int) *feature.View {
	return &feature.View{
		Name: "view_" + path, Entity: user, TTL: feature.TTLOf(ttl), HistoryVersions: versions,
		Features: []feature.Feature{{Name: "text", Type: feature.String, Column: "text", Online: true}},
		Source:   feature.Source{Path: path, EventTimeColumn: "ts", KeyColumns: []string{"user_id"}},
		Sync:     feature.Sync{Enabled: true, Interval: time.Hour},
	}
}

// folder returns a store of Parquet files, each named by its path.
func folder(t *testing.T, files map[string][]row) *offline.Store {
	t.Helper()
	dir := t.TempDir()
	for path, rows := range files {
		full := filepath.Join(dir, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(full), 0o755))
		require.NoError(t, os.WriteFile(full, parquetOf(t, rows), 0o600))
	}
	return opened(t, offline.Config{Path: dir})
}

func opened(t *testing.T, c offline.Config) *offline.Store {
	t.Helper()
	store, err := offline.Open(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

func options() sizing.Options {
	return sizing.Options{AsOf: feature.AsOf(now.UnixMicro()), Prices: sizing.DefaultPrices()}
}

// manyFiles returns so many files of random rows of so many users in a folder, each row of any user, or, where they are sorted, of those that are the file's.
func manyFiles(r *rand.Rand, path string, files, rows, users int, sorted bool) map[string][]row {
	all := map[string][]row{}
	for f := range files {
		var some []row
		for range rows {
			u := r.IntN(users)
			if sorted {
				u = f*users/files + r.IntN(users/files)
			}
			some = append(some, row{int64(u), time.Duration(r.IntN(48*3600)) * time.Second, fmt.Sprintf("%0*d", 1+r.IntN(20), u)})
		}
		all[fmt.Sprintf("%s/part-%02d.parquet", path, f)] = some
	}
	return all
}

// TestEntitiesAreCounted: entities and rows are those that the search of a sync finds.
func TestEntitiesAreCounted(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	store := folder(t, manyFiles(r, "events", 8, 2000, 3000, false))
	for _, view := range []*feature.View{textView("events", 0, 0), textView("events", 3*time.Hour, 0), textView("events", 0, 4), textView("events", 30*time.Hour, 4)} {
		for _, exact := range []bool{false, true} {
			o := options()
			o.Exact = exact
			plan, err := sizing.Estimate(t.Context(), []*feature.View{view}, store, o)
			require.NoError(t, err)
			latest := pit.LatestOptions{AsOf: o.AsOf, MaxAge: view.KeepFor()}
			winners, err := pit.Latest(t.Context(), view, store.Table(view).Scan(), latest)
			require.NoError(t, err)
			got := plan.Views[0]
			require.True(t, got.Entities.IsExact())
			require.Equal(t, winners.Stats().Entities, got.Entities.Value)
			require.Equal(t, []sizing.Keys{{Type: map[bool]string{false: "hash", true: "zset"}[view.HistoryVersions > 0], Entity: "user",
				View: map[bool]string{true: view.Name}[view.HistoryVersions > 0], Keys: got.Entities.Value}}, plan.Keys)
			if view.HistoryVersions > 0 {
				latest.Versions = view.HistoryVersions
				winners, err = pit.Latest(t.Context(), view, store.Table(view).Scan(), latest)
				require.NoError(t, err)
			}
			require.InDelta(t, winners.Stats().Winners, got.FirstRunRows, 1)
			require.Equal(t, int64(16000), got.Rows)
			require.Equal(t, 8, got.Files)
			require.Greater(t, got.MemoryBytes, got.OnlineBytes)
		}
	}
}

// TestSampledRowGroups: the number of entities lies between the bounds that are told, near what is told where they are spread evenly or not at all, and two views
// that share half of their entities are seen to.
func TestSampledRowGroups(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for _, sorted := range []bool{false, true} {
		files := manyFiles(r, "all", 24, 1000, 6000, sorted)
		half := map[string][]row{}
		for path, rows := range files {
			var some []row
			for _, one := range rows {
				if one.user%2 == 0 {
					some = append(some, one)
				}
			}
			half["half"+path[len("all"):]] = some
		}
		for path, rows := range half {
			files[path] = rows
		}
		store := folder(t, files)
		views := []*feature.View{textView("all", 0, 0), textView("half", 0, 0), textView("all", 0, 3)}
		views[2].Name = "past"
		whole, err := sizing.Estimate(t.Context(), views, store, options())
		require.NoError(t, err)
		o := options()
		o.SampleRowGroups = 8
		some, err := sizing.Estimate(t.Context(), views, store, o)
		require.NoError(t, err)
		again, err := sizing.Estimate(t.Context(), views, store, o)
		require.NoError(t, err)
		require.Equal(t, some.Views[0].Entities, again.Views[0].Entities, "the same row groups are read each time")
		for i, v := range some.Views {
			t.Logf("sorted %v, %s: %+v of %d; memory %d of %d", sorted, v.Name, v.Entities, whole.Views[i].Entities.Value, v.MemoryBytes, whole.Views[i].MemoryBytes)
			require.Equal(t, 8, v.RowGroupsRead)
			require.LessOrEqual(t, v.Entities.Least, whole.Views[i].Entities.Value)
			require.GreaterOrEqual(t, v.Entities.Most, whole.Views[i].Entities.Value)
			require.InEpsilon(t, whole.Views[i].Entities.Value, v.Entities.Value, .1)
		}
		require.InEpsilon(t, whole.Keys[0].Keys, some.Keys[0].Keys, .2)
		require.InEpsilon(t, whole.Views[0].MemoryBytes, some.Views[0].MemoryBytes, .25)
	}
}

// TestSharedHashes: views of one entity share its hash; a snapshot has a row in it for each generation.
func TestSharedHashes(t *testing.T) {
	store := folder(t, map[string][]row{
		"a/1.parquet": {{1, 0, "x"}, {2, 0, "x"}}, "b/1.parquet": {{2, 0, "x"}, {3, 0, "x"}}, "c/1.parquet": {{3, 0, "x"}},
	})
	a, b, c := textView("a", 0, 0), textView("b", time.Hour, 0), textView("c", 0, 0)
	c.Sync.Mode, c.Sync.Snapshot.KeepGenerations = feature.Snapshot, 2
	plan, err := sizing.Estimate(t.Context(), []*feature.View{a, b, c}, store, options())
	require.NoError(t, err)
	require.Equal(t, []sizing.Keys{{Type: "hash", Entity: "user", Keys: 3}}, plan.Keys)
	require.Equal(t, 3*plan.Views[0].OnlineBytes/2, plan.Views[2].OnlineBytes)
	require.Greater(t, plan.PeakMemoryBytes, plan.MemoryBytes)
	sum := plan.KeyTablesBytes
	for _, v := range plan.Views {
		sum += v.MemoryBytes
	}
	require.InDelta(t, plan.MemoryBytes, sum, 3)
	require.Contains(t, fmt.Sprint(plan.Notes), "view_b: its rows share hashes with those of view_a")
}

// TestRunRows: rows of the last day, as many each hour, are a twenty-fourth an hour; a snapshot is written whole.
func TestRunRows(t *testing.T) {
	var rows []row
	for i := range 4800 {
		rows = append(rows, row{int64(i), time.Duration(i) * 18 * time.Second, "x"})
	}
	store := folder(t, map[string][]row{"a/1.parquet": rows, "a/2.parquet": {{1, time.Hour, "y"}}})
	view := textView("a", 24*time.Hour, 0)
	estimate := func(o sizing.Options) sizing.View {
		plan, err := sizing.Estimate(t.Context(), []*feature.View{view}, store, o)
		require.NoError(t, err)
		return plan.Views[0]
	}
	v := estimate(options())
	require.InEpsilon(t, 200, v.RunRows, .05)
	require.InEpsilon(t, 200./3600, v.RowsPerSecond, .05)
	require.Less(t, v.RunReadBytes, v.FirstRunReadBytes/20)
	require.InEpsilon(t, 100+len("$$$$"), float64(v.RunSendBytes)/v.RunRows, .25)
	o, share := options(), .5
	o.ChangeShare = &share
	require.InDelta(t, 2400, estimate(o).RunRows, 1)
	view.Sync.Mode = feature.Snapshot
	require.InDelta(t, 4800, estimate(options()).RunRows, 0)
	require.Equal(t, estimate(options()).FirstRunReadBytes, estimate(options()).RunReadBytes)
}

// TestCosts: a GB is 10^9 bytes, a month 730 hours, and files that views share are paid for once.
func TestCosts(t *testing.T) {
	store := folder(t, map[string][]row{"a/1.parquet": {{1, 0, "x"}}})
	a, b := textView("a", 0, 0), textView("a", 0, 2)
	o := options()
	o.Prices, o.Replicas = sizing.Prices{S3GBMonth: 1e9, S3Per10k: 10_000, RedisGBHour: 1e9, TransferGB: 1e9}, 1
	plan, err := sizing.Estimate(t.Context(), []*feature.View{a, b}, store, o)
	require.NoError(t, err)
	require.InEpsilon(t, float64(2*730*plan.MemoryBytes), plan.Costs[0].PerMonth, 1e-9)
	require.InEpsilon(t, float64(plan.Views[0].FileBytes), plan.Costs[1].PerMonth, 1e-9)
	require.InEpsilon(t, 730*(plan.Views[0].RunRequests+plan.Views[1].RunRequests), plan.Costs[2].PerMonth, 1e-9)
	require.InEpsilon(t, float64(730*(plan.Views[0].RunReadBytes+plan.Views[1].RunReadBytes)), plan.Costs[3].PerMonth, 1e-9)
	require.InEpsilon(t, plan.Costs[0].PerMonth+plan.Costs[1].PerMonth+plan.Costs[2].PerMonth+plan.Costs[3].PerMonth, plan.CostPerMonth, 1e-9)
}

// TestNothingToCarry: files without rows, and rows that are too old, are answers.
func TestNothingToCarry(t *testing.T) {
	store := folder(t, map[string][]row{"none/1.parquet": nil, "old/1.parquet": {{1, 2 * time.Hour, "x"}}})
	plan, err := sizing.Estimate(t.Context(), []*feature.View{textView("none", 0, 0), textView("old", time.Hour, 0), textView("none", 0, 3)}, store, options())
	require.NoError(t, err)
	require.Zero(t, plan.MemoryBytes)
	require.Len(t, plan.Notes, 3)
	require.Contains(t, plan.Notes[0], "view_none: its files have no rows")
	require.Contains(t, plan.Notes[1], "view_old: no row is from the last 1h (ttl")
	o := options()
	o.SampleRowGroups = 1
	plan, err = sizing.Estimate(t.Context(), []*feature.View{textView("none", 0, 0)}, store, o)
	require.NoError(t, err)
	require.Zero(t, plan.Views[0].Entities)
}

// TestBadRows: rows that a sync leaves out are not counted, and are no failure; deletions take the place of a row.
func TestBadRows(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "ts", Type: arrow.FixedWidthTypes.Timestamp_us, Nullable: true},
		{Name: "gone", Type: arrow.FixedWidthTypes.Boolean}, {Name: "text", Type: arrow.BinaryTypes.String},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	b.Field(0).(*array.StringBuilder).AppendValues([]string{"a", "b", "\xff", "", "c", "d"}, []bool{true, true, true, false, true, true})
	at := arrow.Timestamp(now.UnixMicro())
	b.Field(1).(*array.TimestampBuilder).AppendValues([]arrow.Timestamp{at, at, at, at, 0, at + 1}, []bool{true, true, true, true, false, true})
	b.Field(2).(*array.BooleanBuilder).AppendValues([]bool{false, true, false, false, false, false}, nil)
	b.Field(3).(*array.StringBuilder).AppendValues([]string{"12345678", "x", "x", "x", "x", "x"}, nil)
	var out bytes.Buffer
	w, err := offline.NewParquetWriter(&out, schema)
	require.NoError(t, err)
	require.NoError(t, w.Write(b.NewRecordBatch()))
	require.NoError(t, w.Close())
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.parquet"), out.Bytes(), 0o600))
	view := textView("a.parquet", 0, 0)
	view.Entity = &feature.Entity{Name: "name", Keys: []feature.Key{{Name: "name", Type: feature.String}}}
	view.Source.KeyColumns, view.Source.DeletedColumn = []string{"name"}, "gone"
	plan, err := sizing.Estimate(t.Context(), []*feature.View{view}, opened(t, offline.Config{Path: dir}), options())
	require.NoError(t, err)
	require.Equal(t, sizing.Count{Value: 2, Least: 2, Most: 2}, plan.Views[0].Entities)
	const row, tombstone = 27 + 2 + 8 + 2 + 8, 29 // header, slots, tail
	require.InDelta(t, (row+tombstone)/2., plan.Views[0].RowBytes, 0)
}

// TestFailures: every view that cannot be read is named, with the kind of its fault.
func TestFailures(t *testing.T) {
	store := folder(t, map[string][]row{"a/1.parquet": {{1, 0, "x"}}})
	_, err := sizing.Estimate(t.Context(), []*feature.View{textView("missing", 0, 0), textView("a", 0, 0), textView("gone", 0, 0)}, store, options())
	require.Equal(t, fault.Precondition, fault.KindOf(err))
	require.ErrorContains(t, err, `feature view "view_missing"`)
	require.ErrorContains(t, err, `feature view "view_gone"`)
	half := .5
	for _, change := range []func(*sizing.Options){
		func(o *sizing.Options) { o.SampleRowGroups = -1 },
		func(o *sizing.Options) { o.SampleRowGroups, o.Exact = 1, true },
		func(o *sizing.Options) { o.Replicas = -1 },
		func(o *sizing.Options) { o.Prices.RedisGBHour = -1 },
		func(o *sizing.Options) { o.Redis.HashMaxListpackValue = -1 },
		func(o *sizing.Options) { half = 1.5; o.ChangeShare = &half },
	} {
		o := options()
		change(&o)
		_, err := sizing.Estimate(t.Context(), []*feature.View{textView("a", 0, 0)}, store, o)
		require.Equal(t, fault.Invalid, fault.KindOf(err))
	}
}

// TestS3: files in S3 are estimated as those in a folder are.
func TestS3(t *testing.T) {
	server := testenv.S3(t)
	bucket := server.Bucket(t)
	server.Put(t, bucket, "a/1.parquet", parquetOf(t, []row{{1, 0, "x"}, {2, 0, "x"}}))
	c := offline.Config{Path: "s3://" + bucket, S3: offline.S3Config{Endpoint: server.Endpoint, PathStyle: true, AccessKeyID: server.AccessKey, SecretAccessKey: server.SecretKey}}
	plan, err := sizing.Estimate(t.Context(), []*feature.View{textView("a", 0, 0)}, opened(t, c), options())
	require.NoError(t, err)
	require.Equal(t, int64(2), plan.Views[0].Entities.Value)
	require.Equal(t, "files in S3", plan.Costs[1].What)
}

// TestLastGoodRows: rows that are kept until a run succeeds have no expiry in the store, and the plan says that they stay.
func TestLastGoodRows(t *testing.T) {
	store := folder(t, manyFiles(rand.New(rand.NewPCG(1, 2)), "events", 1, 1000, 500, false))
	for _, versions := range []int{0, 3} {
		ordinary, kept, forever := textView("events", 100*time.Hour, versions), textView("events", 100*time.Hour, versions), textView("events", 0, versions)
		kept.Sync.KeepLastGood = true
		var plans []*sizing.Plan
		for _, view := range []*feature.View{ordinary, kept, forever} {
			plan, err := sizing.Estimate(t.Context(), []*feature.View{view}, store, options())
			require.NoError(t, err)
			plans = append(plans, plan)
		}
		require.Less(t, plans[1].MemoryBytes, plans[0].MemoryBytes)
		require.Equal(t, plans[2].MemoryBytes, plans[1].MemoryBytes)
		require.Contains(t, fmt.Sprint(plans[1].Notes), "view_events: it keeps its last good rows")
		require.NotContains(t, fmt.Sprint(plans[0].Notes), "last good")
	}
}
