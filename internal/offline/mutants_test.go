package offline

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// What a damaged file may cost: memory that one call asks for, in all, and time that passes before it is called a hang.
const (
	mutantBudget        = 64 << 20
	mutantBudgetPerByte = 8
	mutantPatience      = time.Minute
	// retried is how many columns are read by themselves where one of many cannot be read.
	retried = 4
)

// specimens are small sound files of every codec, encoding, page version and kind of column, by four writers.
func specimens(t testing.TB) []*specimen {
	var found []*specimen
	for i, data := range victims(t) {
		found = append(found, dissect(t, "victim "+strconv.Itoa(i), data))
	}
	for name, options := range map[string][]parquet.WriterProperty{
		"bloom":   {parquet.WithBloomFilterEnabled(true), parquet.WithMaxBloomFilterBytes(256), parquet.WithPageIndexEnabled(true), parquet.WithCompression(compress.Codecs.Gzip)},
		"plain":   {parquet.WithDictionaryDefault(false), parquet.WithDataPageVersion(parquet.DataPageV2), parquet.WithStats(false)},
		"changes": {parquet.WithDictionaryPageSizeLimit(30), parquet.WithPageIndexEnabled(true), parquet.WithCompression(compress.Codecs.Snappy)},
		"old":     {parquet.WithVersion(parquet.V1_0), parquet.WithCompression(compress.Codecs.Brotli), parquet.WithCreatedBy("parquet-mr version 1.2.8")},
	} {
		found = append(found, dissect(t, name, wideFile(t, options...)))
	}
	paths, err := filepath.Glob("testdata/mutated_*.parquet")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		found = append(found, dissect(t, strings.TrimSuffix(filepath.Base(path), ".parquet"), data))
	}
	slices.SortFunc(found, func(a, b *specimen) int { return strings.Compare(a.name, b.name) }) // a seed gives the same mutants
	return found
}

// wideFile has columns that victims lack: required ones, values of a fixed length, decimals, half floats, other units of time.
func wideFile(t testing.TB, options ...parquet.WriterProperty) []byte {
	const rows = 90
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"}},
		field("flag", arrow.FixedWidthTypes.Boolean), field("fixed", &arrow.FixedSizeBinaryType{ByteWidth: 5}), field("uint", arrow.PrimitiveTypes.Uint32),
		field("day", arrow.FixedWidthTypes.Date32), field("words", arrow.ListOf(arrow.BinaryTypes.String)), {Name: "text", Type: arrow.BinaryTypes.String},
		field("x", arrow.PrimitiveTypes.Float64), field("in", arrow.StructOf(field("a", arrow.PrimitiveTypes.Int32), field("b", arrow.ListOf(arrow.PrimitiveTypes.Float32)))),
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for row := range rows {
		for i, f := range b.Fields() {
			switch f := f.(type) {
			case *array.StructBuilder:
				if row%5 == 1 {
					f.AppendNull()
					continue
				}
				f.Append(true)
				appendSample(f.FieldBuilder(0), row, 3)
				appendSample(f.FieldBuilder(1), row, 4)
			default:
				appendSample(f, row, []int{0, 0, 4, 6, 5, 7, 3, 0, 2, 0}[i])
			}
		}
	}
	record := b.NewRecordBatch()
	defer record.Release()
	return writeArrow(t, 40, schema.Fields(), record.Columns(), append(options, parquet.WithDataPageSize(200), parquet.WithBatchSize(10))...)
}

// appendSample appends a value of a row, and null in every so many rows.
func appendSample(b array.Builder, row, nulls int) {
	if nulls > 0 && row%nulls == 1 {
		b.AppendNull()
		return
	}
	switch b := b.(type) {
	case *array.FixedSizeBinaryBuilder:
		b.Append(fmt.Appendf(nil, "%05d", row))
	case *array.Uint32Builder:
		b.Append(uint32(row) * 7)
	case *array.Date32Builder:
		b.Append(arrow.Date32(row))
	case *array.ListBuilder:
		b.Append(true)
		for i := range row % 4 {
			appendSample(b.ValueBuilder(), row+i, 0)
		}
	case *array.Int64Builder:
		b.Append(int64(row / 3))
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(row))
	case *array.BooleanBuilder:
		b.Append(row%3 == 0)
	case *array.Int32Builder:
		b.Append(int32(row))
	case *array.Float32Builder:
		b.Append(float32(row))
	case *array.Float64Builder:
		b.Append(float64(row))
	case *array.StringBuilder:
		b.Append("value " + strconv.Itoa(row%11))
	}
}

// oneObject is the driver of one object in memory, which it gives for any path.
type oneObject struct{ memoryDriver }

func (d oneObject) stat(_ context.Context, at location) (object, error) {
	return object{at: at, size: int64(len(d.data)), etag: "1"}, nil
}

// damaged reads files that may be damaged, in all the ways in which the product does. They are written into a folder first, so that those
// which end the process can be found there.
type damaged struct {
	dir  string
	path string
	most uint64 // bytes that one call asked for
}

// call makes one call of the product and notes what memory it asks for.
func (d *damaged) call(f func() error) error {
	before := allocatedBytes()
	err := f()
	d.most = max(d.most, allocatedBytes()-before)
	return err
}

func newDamaged(t testing.TB) *damaged {
	dir := t.TempDir()
	return &damaged{dir: dir, path: filepath.Join(dir, "mutant.parquet")}
}

// stores gives stores that have the file as mutant.parquet: as a local file, and as one in S3, whose parts are fetched ahead.
func (d *damaged) stores(t testing.TB, data []byte) (local, remote *Store) {
	require.NoError(t, os.WriteFile(d.path, data, 0o600))
	local, err := Open(t.Context(), Config{Path: d.dir})
	require.NoError(t, err)
	remote = &Store{base: location{bucket: "mutants"}, footers: newFooterCache(footerCacheBytes), s3: oneObject{memoryDriver{data}}}
	return local, remote
}

// viewOf makes a view of all that can be read of a file; decimals are read as DOUBLE. Key and time are id and ts, if they are what they should be.
func viewOf(rows *Rows) *feature.View {
	var features []feature.Feature
	for _, c := range rows.Schema().Columns {
		if c.Type == 0 && c.CanRead(feature.Double) == nil {
			c.Type = feature.Double
		}
		if c.Type != 0 {
			features = append(features, feature.Feature{Name: c.Name, Column: c.Name, Type: c.Type})
		}
	}
	return view("mutant.parquet", feature.Int64, features...)
}

// join reads a file as the join does: the fragments of a time range, their keys, and some rows of all features in a random order. What came is given
// column by column.
func (d *damaged) join(ctx context.Context, r *rand.Rand, store *Store, v *feature.View) (came []*feature.Column, err error) {
	table := store.Table(v)
	within := oneOf(r, feature.AllTime(), feature.TimeRange{Min: 10, Max: 30}, feature.TimeRange{Min: 15_000, Max: 39_000},
		feature.TimeRange{Min: 1_356_998_400_000_000, Max: 1_357_040_000_000_000})
	var fragments []feature.Fragment
	err = d.call(func() error { fragments, _, err = table.Scan().Fragments(ctx, within); return err })
	if err != nil {
		return nil, err
	}
	for _, f := range fragments {
		keys, times := feature.NewColumn(feature.Int64, 0), feature.NewColumn(feature.Timestamp, 0)
		next := int64(0)
		check := func(b feature.KeyBatch) error {
			if b.First < next || b.First+int64(b.Len()) > f.NumRows() {
				return fmt.Errorf("rows %d to %d of %d come after row %d", b.First, b.First+int64(b.Len()), f.NumRows(), next)
			}
			next = b.First + int64(b.Len())
			keys.AppendColumn(b.Keys[0])
			times.AppendColumn(b.EventTimes)
			return errors.Join(checkColumn(b.Keys[0], b.Len()), checkColumn(b.EventTimes, b.Len()))
		}
		keysErr := d.call(func() error { return f.Keys(ctx, within, check) })
		if came = append(came, keys, times); err == nil {
			err = keysErr
		}
		gathered, gatherErr := d.gather(ctx, r, f, v)
		if came = append(came, gathered...); err == nil {
			err = gatherErr
		}
	}
	return came, err
}

// inBatches is Gather by batches.
func inBatches(f feature.BatchFragment) func(ctx context.Context, rows []int64, columns []int, dst []*feature.Column) error {
	return func(ctx context.Context, rows []int64, columns []int, dst []*feature.Column) error {
		g, err := f.GatherBatches(ctx, rows, columns)
		if err != nil {
			return err
		}
		if g == nil { // the file says that it takes too much memory
			return f.Gather(ctx, rows, columns, dst)
		}
		defer g.Close()
		for left := len(rows); left > 0 && err == nil; left -= 7 {
			err = g.Next(min(left, 7), dst)
		}
		return err
	}
}

// gather gathers random rows of all features; where that fails, of some features alone, so that one damaged column does not hide the others.
func (d *damaged) gather(ctx context.Context, r *rand.Rand, f feature.Fragment, v *feature.View) (came []*feature.Column, err error) {
	var rows []int64
	step := oneOf[int64](r, 1, 3, 20)
	for row := r.Int64N(step); row < f.NumRows() && len(rows) < 200; row += 1 + r.Int64N(step) {
		rows = append(rows, row)
	}
	order := r.Perm(len(v.Features))
	gather := func(columns []int) error {
		dst := make([]*feature.Column, len(columns))
		for i, c := range columns {
			dst[i] = feature.NewColumn(v.Features[c].Type, 0)
		}
		gather := f.Gather
		if r.IntN(2) == 0 {
			gather = inBatches(f.(feature.BatchFragment))
		}
		if err := d.call(func() error { return gather(ctx, rows, columns, dst) }); err != nil {
			return err
		}
		for _, c := range dst {
			if err := checkColumn(c, len(rows)); err != nil {
				return err
			}
		}
		came = append(came, dst...)
		return nil
	}
	if err = gather(order); err == nil {
		return came, nil
	}
	for _, c := range order[:min(retried, len(order))] {
		_ = gather([]int{c}) // the first error is told
	}
	return came, err
}

var errImpossible = errors.New("what was read is no column")

// checkColumn checks that a column can be used: that it has so many rows, that its parts fit together, that texts are UTF-8.
func checkColumn(c *feature.Column, rows int) error {
	if c.Len() != rows || len(c.Status) != rows {
		return fmt.Errorf("%w: it has %d values and %d statuses for %d rows", errImpossible, c.Len(), len(c.Status), rows)
	}
	for i, status := range c.Status {
		if status != feature.Present && status != feature.Null {
			return fmt.Errorf("%w: row %d has the status %v", errImpossible, i, status)
		}
	}
	return checkOffsets(c)
}

func checkOffsets(c *feature.Column) error {
	if c.Offsets == nil {
		return nil
	}
	size := len(c.Data)
	if c.Elem != nil {
		size = c.Elem.Len()
		if err := checkOffsets(c.Elem); err != nil {
			return err
		}
	}
	if !slices.IsSorted(c.Offsets) || (len(c.Offsets) > 0 && (c.Offsets[0] != 0 || c.Offsets[len(c.Offsets)-1] != size)) {
		return fmt.Errorf("%w: its offsets are %v of %d", errImpossible, c.Offsets, size)
	}
	if c.Type == feature.String && !utf8.Valid(c.Data) {
		return fmt.Errorf("%w: it has a text that is not UTF-8", errImpossible)
	}
	return nil
}

// rows reads a file as one of entity rows is read: all columns side by side, and some by themselves, of which some rows
// are gathered through the page index and without.
func (d *damaged) rows(ctx context.Context, r *rand.Rand, data []byte) error {
	var rows *Rows
	err := d.call(func() (err error) { rows, err = RowsIn(ctx, "mutant.parquet", data); return err })
	if err != nil {
		return err
	}
	check := func(columns []*feature.Column) error {
		for _, c := range columns {
			if err := checkColumn(c, columns[0].Len()); err != nil {
				return err
			}
		}
		return nil
	}
	columns := rows.Readable()
	first := d.call(func() error { return rows.Read(ctx, columns, check) })
	for i, k := range r.Perm(len(columns)) {
		if i == retried {
			break
		}
		c := columns[k]
		err := d.call(func() error { return rows.Read(ctx, []RowColumn{c}, check) })
		if err == nil {
			err = d.call(func() error { return gatherSome(ctx, rows, c) })
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// cost is what was found while mutants were read.
type cost struct {
	mutants, failed, panics, corrupt, precondition int
	most                                           uint64 // bytes that one call asked for
	longest                                        time.Duration
	err                                            error // the first one
}

func (c *cost) add(o cost) {
	c.mutants, c.failed, c.panics = c.mutants+o.mutants, c.failed+o.failed, c.panics+o.panics
	c.corrupt, c.precondition = c.corrupt+o.corrupt, c.precondition+o.precondition
	c.most, c.longest = max(c.most, o.most), max(c.longest, o.longest)
}

func (c *cost) String() string {
	return fmt.Sprintf("%7d mutants, %7d refused (%d corrupt, %d precondition), %5d panics recovered, at most %6.1f MiB asked for, at most %v",
		c.mutants, c.failed, c.corrupt, c.precondition, c.panics, float64(c.most)/(1<<20), c.longest.Round(time.Millisecond))
}

// read reads a damaged file in every way, and fails the test where that gives or costs what it must not. v is a view that its files should be of; nil
// is one of all that is in it. Random numbers decide which parts are read.
func (d *damaged) read(t testing.TB, r *rand.Rand, what string, data []byte, v *feature.View) cost {
	t.Helper()
	local, remote := d.stores(t, data)
	d.most = 0
	start := time.Now()
	var errs []error
	if r.IntN(2) == 0 {
		errs = append(errs, d.rows(t.Context(), r, data))
	}
	if rows, err := RowsIn(t.Context(), "mutant.parquet", data); err == nil && (v == nil || r.IntN(2) == 0) {
		v = viewOf(rows)
	}
	if v != nil {
		errs = append(errs, d.joins(t, r, what, v, oneOf(r, []*Store{local}, []*Store{remote}, []*Store{local, remote})))
	}
	c := cost{mutants: 1, most: d.most, longest: time.Since(start)}
	if budget := uint64(mutantBudget + mutantBudgetPerByte*len(data)); c.most > budget {
		t.Fatalf("%s: a call asked for %d bytes, of a file of %d; it may ask for %d: %v", what, c.most, len(data), budget, errs)
	}
	for _, err := range errs {
		if err == nil {
			continue
		}
		if c.failed = 1; c.err == nil {
			c.err = err
		}
		switch kind := fault.KindOf(err); {
		case kind == fault.Corrupt:
			c.corrupt = 1
		case kind == fault.Precondition:
			c.precondition = 1
		default:
			t.Fatalf("%s: an error of kind %v: %v", what, kind, err)
		}
		if errors.Is(err, errImpossible) || !strings.Contains(err.Error(), "mutant.parquet") {
			t.Fatalf("%s: the error does not name the file, or the result is no result: %v", what, err)
		}
		c.panics += strings.Count(err.Error(), "the decoder gave up")
	}
	return c
}

// joins reads a file as the join does, in each of the stores alike, where the same has to come.
func (d *damaged) joins(t testing.TB, r *rand.Rand, what string, v *feature.View, stores []*Store) error {
	t.Helper()
	seed := r.Uint64()
	first, firstErr := d.join(t.Context(), rand.New(rand.NewPCG(seed, 0)), stores[0], v)
	for _, store := range stores[1:] {
		came, err := d.join(t.Context(), rand.New(rand.NewPCG(seed, 0)), store, v)
		if (err == nil) != (firstErr == nil) || !slices.EqualFunc(came, first, (*feature.Column).Equal) {
			t.Fatalf("%s: what is read locally is not what is read from S3: %v and %v", what, firstErr, err)
		}
	}
	return firstErr
}

// allocatedBytes is all memory that the process has asked for so far.
func allocatedBytes() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// mutantRun is what the environment says of a run.
type mutantRun struct {
	// TWOFOLD_MUTANT_SEED repeats a run; TWOFOLD_MUTANT_FIRST=n with TWOFOLD_MUTANTS=1 repeats its mutant n.
	seed  uint64
	first int
	// TWOFOLD_MUTANTS is how many are made, 10,000 by default; TWOFOLD_MUTANT_TIME, such as 10m, is for how long they are made instead.
	mutants int
	during  time.Duration
}

func mutantRunOf(t testing.TB) mutantRun {
	run := mutantRun{seed: uint64(time.Now().UnixNano()), mutants: 10_000}
	if raceEnabled {
		run.mutants = 1000
	}
	for name, set := range map[string]func(text string) error{
		"TWOFOLD_MUTANT_SEED":  func(text string) (err error) { run.seed, err = strconv.ParseUint(text, 10, 64); return err },
		"TWOFOLD_MUTANT_FIRST": func(text string) (err error) { run.first, err = strconv.Atoi(text); return err },
		"TWOFOLD_MUTANTS":      func(text string) (err error) { run.mutants, err = strconv.Atoi(text); return err },
		"TWOFOLD_MUTANT_TIME":  func(text string) (err error) { run.during, err = time.ParseDuration(text); return err },
	} {
		if text := os.Getenv(name); text != "" {
			require.NoError(t, set(text), name)
		}
	}
	return run
}

// more reports whether there is another mutant to make.
func (r mutantRun) more(made int, start time.Time) bool {
	if r.during > 0 {
		return time.Since(start) < r.during
	}
	return made < r.mutants
}

// TestMutants damages sound files in many ways and reads them as the product does. None may end the process, hang, ask for more memory than the
// budget, or fail otherwise than with an error that names the file and says that it is corrupt or not what the view says. Where no error
// comes, what was read is a possible result, and the same from a local file and from S3. mutantRun says how to repeat a run and make a longer one.
func TestMutants(t *testing.T) {
	run := mutantRunOf(t)
	d := newDamaged(t)
	// On standard error it is there even if the process ends; go test shows it then.
	fmt.Fprintf(os.Stderr, "TWOFOLD_MUTANT_SEED=%d, each mutant in turn is %s\n", run.seed, d.path)
	sound := specimens(t)
	views := make([]*feature.View, len(sound))
	for i, s := range sound {
		rows, err := RowsIn(t.Context(), s.name, s.data)
		require.NoError(t, err)
		views[i] = viewOf(rows)
		c := d.read(t, rand.New(rand.NewPCG(0, 0)), s.name, s.data, views[i])
		require.NoError(t, c.err, s.name)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // most of what is allocated is garbage at once
	goroutines := runtime.NumGoroutine()
	total, byName := cost{}, map[string]*cost{}
	var current atomic.Int64
	watchdog := time.AfterFunc(mutantPatience, func() {
		debug.SetTraceback("all")
		panic(fmt.Sprintf("a mutant takes more than %v: TWOFOLD_MUTANT_SEED=%d, about TWOFOLD_MUTANT_FIRST=%d", mutantPatience, run.seed, current.Load()))
	})
	defer watchdog.Stop()
	start := time.Now()
	for i := run.first; run.more(i-run.first, start); i++ {
		current.Store(int64(i))
		watchdog.Reset(mutantPatience)
		r := rand.New(rand.NewPCG(run.seed, uint64(i)))
		k := r.IntN(len(sound))
		name, data := mutate(r, sound[k], sound)
		what := fmt.Sprintf("TWOFOLD_MUTANT_SEED=%d TWOFOLD_MUTANT_FIRST=%d (%s, %s)", run.seed, i, sound[k].name, name)
		c := d.read(t, r, what, data, views[k])
		total.add(c)
		if byName[name] == nil {
			byName[name] = new(cost)
		}
		byName[name].add(c)
	}
	for _, m := range mutations {
		if c := byName[m.name]; c != nil {
			t.Logf("%-22s %v", m.name, c)
		}
	}
	t.Logf("%-22s %v; %d files, in %v", "all", &total, len(sound), time.Since(start).Round(time.Second))
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines+2, "goroutines are left over")
	if total.mutants > 1000 {
		require.Greater(t, total.failed, total.mutants/4)
	}
}

// FuzzReadParquet is TestMutants with the fuzzer's mutants.
func FuzzReadParquet(f *testing.F) {
	for _, s := range specimens(f) {
		f.Add(s.data)
	}
	f.Add([]byte("PAR1\x15\x04\x19\x4cPAR1"))
	d := newDamaged(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		r := rand.New(rand.NewPCG(uint64(crc32.ChecksumIEEE(data)), 0)) // the same for the same bytes
		d.read(t, r, "fuzzed", data, nil)
	})
}

// TestIndexOfNoDataPage: a page that the page index takes for a data page and that says it is none ends the reading; once it went on for ever.
func TestIndexOfNoDataPage(t *testing.T) {
	data := timeOrdered(t, 5000)
	rows, err := RowsIn(t.Context(), "x", data)
	require.NoError(t, err)
	c := rows.sources[0].footer.groups[0].chunks[2]
	locations, ok := parseOffsetIndex(data[c.offsetIndex.from:c.offsetIndex.to], c)
	require.True(t, ok)
	at := locations[1].offset
	require.Equal(t, []byte{0x15, 0x00}, data[at:at+2], "the first field is the kind of the page")
	data[at+1] = 2 * pageIndex
	rows, err = RowsIn(t.Context(), "x", data)
	require.NoError(t, err)
	b, err := rows.sources[0].bind(wantedColumn(RowColumn{"x", feature.Double}))
	require.NoError(t, err)
	err = gatherInto(t.Context(), rows.sources[0], b, []int64{locations[1].firstRow + 1}, feature.NewColumn(feature.Double, 0))
	require.Equal(t, fault.Corrupt, fault.KindOf(err), err)
	require.ErrorContains(t, err, "the page index says that a data page is where another one is")
}
