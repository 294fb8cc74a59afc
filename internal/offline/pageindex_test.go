package offline

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// countingDriver counts what is read from another driver.
type countingDriver struct {
	driver
	mu             sync.Mutex
	requests       int
	bytes          int64
	underWay, most int64 // bytes asked for and not yet there
	failAfter      int   // requests from this one on fail with failure, where that is set
	failure        error
	blockAfter     int // requests from this one on wait for their context, where it is set
	blocked        chan struct{}
}

func (d *countingDriver) open(ctx context.Context, o object) (objectReader, error) {
	r, err := d.driver.open(ctx, o)
	return &countingReader{r, d}, err
}

func (d *countingDriver) reset() { d.requests, d.bytes, d.most = 0, 0, 0 }

type countingReader struct {
	objectReader
	d *countingDriver
}

func (r *countingReader) readAt(ctx context.Context, p []byte, offset int64) error {
	d := r.d
	d.mu.Lock()
	d.requests++
	d.bytes += int64(len(p))
	d.underWay += int64(len(p))
	d.most = max(d.most, d.underWay)
	fails, blocks := d.failure != nil && d.requests >= d.failAfter, d.blocked != nil && d.requests >= d.blockAfter
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.underWay -= int64(len(p))
		d.mu.Unlock()
	}()
	if fails {
		return d.failure
	}
	if blocks {
		d.blocked <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	return r.objectReader.readAt(ctx, p, offset)
}

// timeOrdered is one row group in small pages: id = ts = x = the row's number, s a text of few values.
func timeOrdered(t testing.TB, rows int, options ...parquet.WriterProperty) []byte {
	ids, values, texts := make([]int64, rows), make([]float64, rows), make([]any, rows)
	for i := range ids {
		ids[i], values[i], texts[i] = int64(i), float64(i), sampleValue(feature.String, i)
	}
	options = append([]parquet.WriterProperty{parquet.WithDataPageSize(4000), parquet.WithBatchSize(100), parquet.WithDictionaryDefault(false),
		parquet.WithDictionaryFor("s", true), parquet.WithPageIndexEnabled(true)}, options...)
	return writeArrow(t, int64(rows),
		[]arrow.Field{field("id", arrow.PrimitiveTypes.Int64), field("ts", timestampUTC), field("x", arrow.PrimitiveTypes.Float64), field("s", arrow.BinaryTypes.String)},
		[]arrow.Array{int64s(ids...), times(ids...), doubles(values...), arrowArray(feature.String, texts)}, options...)
}

func xsView(path string) *feature.View {
	return view(path, feature.Int64, xFeature, feature.Feature{Name: "s", Type: feature.String})
}

// TestPageIndexSavesReading reads keys of a short time and few rows, with a page index and without: the same comes, of far fewer bytes.
func TestPageIndexSavesReading(t *testing.T) {
	const rows = 200_000
	onEveryPlace(t, func(t *testing.T, p place) {
		within := feature.TimeRange{Min: 150_000, Max: 150_999}
		wanted := []int64{3, 4, 70_000, 199_999}
		read := map[bool]int64{}
		for _, indexed := range []bool{true, false} {
			name := map[bool]string{true: "indexed.parquet", false: "plain.parquet"}[indexed]
			p.put(t, name, timeOrdered(t, rows, parquet.WithPageIndexEnabled(indexed)))
			fragments, _, err := p.store.Table(xsView(name)).Fragments(t.Context(), feature.AllTime())
			require.NoError(t, err)
			f := fragments[0]
			counted := &countingDriver{driver: f.source.driver}
			f.source.driver = counted
			var seen []int64
			require.NoError(t, f.Keys(t.Context(), within, func(b feature.KeyBatch) error {
				require.Equal(t, b.First, b.EventTimes.Int64s[0])
				seen = append(seen, b.Keys[0].Int64s...)
				return nil
			}))
			require.True(t, slices.Contains(seen, 150_000) && slices.Contains(seen, 150_999))
			require.Equal(t, !indexed, len(seen) == rows, len(seen))
			x, s := feature.NewColumn(feature.Double, 0), feature.NewColumn(feature.String, 0)
			require.NoError(t, f.Gather(t.Context(), wanted, []int{1, 0}, []*feature.Column{s, x}))
			require.Equal(t, []any{3., 4., 70_000., 199_999.}, valuesOf(x))
			require.Equal(t, []any{"value 3", "value 4", "value 0", "value 2"}, valuesOf(s))
			read[indexed] = counted.bytes
			t.Logf("indexed %v: %d requests, %d bytes", indexed, counted.requests, counted.bytes)
		}
		require.Less(t, read[true], read[false]/3)
	})
}

// TestKeysOutsideEveryPage: the row group may hold the range, and no page does.
func TestKeysOutsideEveryPage(t *testing.T) {
	ids := make([]int64, 4000)
	for i := range ids {
		ids[i] = int64(i + 100_000*(i/2000))
	}
	p := filePlace(t)
	p.put(t, "t.parquet", writeArrow(t, 1<<20, []arrow.Field{field("id", arrow.PrimitiveTypes.Int64), field("ts", timestampUTC)},
		[]arrow.Array{int64s(ids...), times(ids...)}, parquet.WithDataPageSize(500), parquet.WithBatchSize(100), parquet.WithPageIndexEnabled(true)))
	fragments, pruned, err := p.store.Table(view("t.parquet", feature.Int64)).Fragments(t.Context(), feature.TimeRange{Min: 50_000, Max: 60_000})
	require.NoError(t, err)
	require.Len(t, fragments, 1)
	require.Zero(t, pruned)
	rows := 0
	require.NoError(t, fragments[0].Keys(t.Context(), feature.TimeRange{Min: 50_000, Max: 60_000}, func(b feature.KeyBatch) error { rows += b.Len(); return nil }))
	require.LessOrEqual(t, rows, 200) // the page in which the times jump
}

// TestLyingOffsetIndex damages what a file says of the places of its pages: it reads right, or is refused, unless two places lie in the same way.
func TestLyingOffsetIndex(t *testing.T) {
	r := seeded(t)
	data := timeOrdered(t, 20_000)
	sound, err := RowsIn(t.Context(), "x", data)
	require.NoError(t, err)
	c := sound.sources[0].footer.groups[0].chunks
	wanted := []int64{1, 2, 5_000, 12_345, 19_999}
	refused := 0
	for range 3000 {
		mutant := slices.Clone(data)
		index := c[2+r.IntN(2)].offsetIndex
		for range 1 + r.IntN(3) {
			at := index.from + r.Int64N(index.to-index.from)
			mutant[at] = oneOf(r, byte(r.Uint32()), mutant[at]^1, mutant[at]+2)
		}
		if movedTogether(t, data, mutant, c[2]) || movedTogether(t, data, mutant, c[3]) {
			continue
		}
		rows, err := RowsIn(t.Context(), "x", mutant)
		require.NoError(t, err)
		for _, column := range []RowColumn{{"x", feature.Double}, {"s", feature.String}} {
			b, err := rows.sources[0].bind(wantedColumn(column))
			require.NoError(t, err)
			got := feature.NewColumn(column.Type, 0)
			if err := gatherInto(t.Context(), rows.sources[0], b, wanted, got); err != nil {
				require.Equal(t, fault.Corrupt, fault.KindOf(err), err)
				refused++
				continue
			}
			for i, row := range wanted {
				want := map[string]any{"x": float64(row), "s": sampleValue(feature.String, int(row))}
				require.Equal(t, want[column.Name], got.ValueAt(i))
			}
		}
	}
	require.Positive(t, refused)
}

// movedTogether reports whether an index says of a page that it begins elsewhere, and of the next one that it does so by as many rows: then it has as many rows as the page itself
// says, and only who reads its neighbours could tell.
func movedTogether(t *testing.T, data, mutant []byte, c chunk) bool {
	t.Helper()
	at := c.offsetIndex
	was, ok := parseOffsetIndex(data[at.from:at.to], c)
	require.True(t, ok)
	is, _ := parseOffsetIndex(mutant[at.from:at.to], c)
	for i := 1; i < min(len(was), len(is)); i++ {
		if moved := is[i-1].firstRow - was[i-1].firstRow; moved != 0 && is[i].firstRow-was[i].firstRow == moved {
			return true
		}
	}
	return false
}

func wantedColumn(c RowColumn) wanted { return wanted{c.Name, c.Type, "test", false} }

// gatherInto gathers rows of the first row group by the page index.
func gatherInto(ctx context.Context, s *source, b binding, rows []int64, dst *feature.Column) error {
	g, err := s.newGroupReader(ctx, 0, []binding{b})
	if err != nil {
		return err
	}
	defer g.close()
	if err := g.locate(ctx); err != nil {
		return err
	}
	g.prepare(ctx, rowList(rows), false)
	if err := g.open(ctx, 0); err != nil {
		return err
	}
	return g.gather(0, rows, dst)
}

// TestDamagedColumnIndex damages what a file says of the times in its pages: keys are read, or the file is refused, and nothing breaks.
func TestDamagedColumnIndex(t *testing.T) {
	r := seeded(t)
	data := timeOrdered(t, 5_000)
	sound, err := RowsIn(t.Context(), "mutant", data)
	require.NoError(t, err)
	c := sound.sources[0].footer.groups[0].chunks[1]
	for range 2000 {
		mutant := slices.Clone(data)
		index := oneOf(r, c.columnIndex, c.offsetIndex)
		for range 1 + r.IntN(3) {
			mutant[index.from+r.Int64N(index.to-index.from)] = byte(r.Uint32())
		}
		rows, err := RowsIn(t.Context(), "mutant", mutant)
		require.NoError(t, err)
		if err := readKeys(t.Context(), rows, feature.TimeRange{Min: 1000, Max: 1100}); err != nil {
			require.Equal(t, fault.Corrupt, fault.KindOf(err), err)
		}
	}
}

func FuzzPageIndex(f *testing.F) {
	data := timeOrdered(f, 5_000)
	sound, err := RowsIn(f.Context(), "x", data)
	require.NoError(f, err)
	c := sound.sources[0].footer.groups[0].chunks[1]
	f.Add(data[c.columnIndex.from:c.columnIndex.to])
	f.Add(data[c.offsetIndex.from:c.offsetIndex.to])
	f.Fuzz(func(t *testing.T, b []byte) {
		if locations, ok := parseOffsetIndex(b, c); ok {
			require.True(t, fits(locations, c))
			neededOf(c, locations, rowList{0, 100, 4999})
		}
		if index, ok := parseColumnIndex(b); ok {
			require.LessOrEqual(t, len(index.nulls), len(b))
		}
	})
}

// FuzzRLE reads run-lengths number by number, in blocks, as bits and with skips: all agree.
func FuzzRLE(f *testing.F) {
	f.Add([]byte{6, 1, 3, 0xaa, 8, 0}, byte(1))
	f.Add([]byte{0x80, 0x80, 0x80, 0x80, 0x10, 7, 0, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, byte(11))
	f.Fuzz(func(t *testing.T, b []byte, width byte) {
		single, err := newRLE(b, uint(width))
		if err != nil {
			return
		}
		want := []int32{}
		var one [1]int32
		for len(want) < 1000 && single.read(one[:]) == nil {
			want = append(want, one[0])
		}
		block, _ := newRLE(b, uint(width))
		got := make([]int32, len(want))
		require.NoError(t, block.read(got))
		require.Equal(t, want, got)
		half := len(want) / 2
		skipping, _ := newRLE(b, uint(width))
		require.NoError(t, skipping.skip(int64(half)))
		require.NoError(t, skipping.read(got[half:]))
		require.Equal(t, want[half:], got[half:])
		picking, _ := newRLE(b, uint(width))
		var places, picked []int32
		for i := 0; i < len(want); i += 1 + int(width)%7 {
			places, picked = append(places, int32(i)), append(picked, want[i])
		}
		picks, err := picking.pick(nil, places, len(want))
		require.NoError(t, err)
		require.Equal(t, picked, picks)
		if width != 1 || slices.Max(append(want, 0)) > 1 || slices.Min(append(want, 0)) < 0 {
			return
		}
		bits, _ := newRLE(b, 1)
		some := bitmap(nil).cleared(len(want))
		require.NoError(t, bits.readBits(some, len(want)))
		for i, v := range want {
			require.Equal(t, v == 1, some.has(i), i)
		}
	})
}
