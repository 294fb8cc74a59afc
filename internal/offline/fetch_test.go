package offline

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// fetchFrom makes a fetcher of bytes in memory.
func fetchFrom(t testing.TB, data []byte, columns []needs, inLockstep bool) (*countingDriver, *fetcher, []*fetchedSpan) {
	d := &countingDriver{driver: memoryDriver{data}}
	o, err := d.open(t.Context(), object{})
	require.NoError(t, err)
	f, spans := newFetcher(t.Context(), o, columns, inLockstep)
	return d, f, spans
}

// TestFetcherGivesTheBytes reads random ranges of columns, side by side and one after the other, in pieces of every size.
func TestFetcherGivesTheBytes(t *testing.T) {
	r := seeded(t)
	data := make([]byte, 60<<20)
	for i := range data {
		data[i] = byte(i * 7 >> 5)
	}
	for run := range 12 {
		columns := make([]needs, 1+r.IntN(6))
		at := int64(0)
		for i := range columns {
			length := 1 + r.Int64N(int64(len(data)/len(columns)))
			columns[i] = randomNeeds(r, at, min(at+length, int64(len(data))))
			at += length
		}
		inLockstep := r.IntN(2) == 0
		d, f, spans := fetchFrom(t, data, columns, inLockstep)
		pieces := make([][]byteRange, len(columns))
		for i, c := range columns {
			pieces[i] = cutUp(r, c.ranges)
		}
		for i := 0; len(pieces) > 0; {
			next := pieces[i][0]
			got, err := spans[i].at(t.Context(), next.from, int(next.to-next.from))
			require.NoError(t, err)
			require.True(t, bytes.Equal(got, data[next.from:next.to]), "run %d, bytes %v", run, next)
			if pieces[i] = pieces[i][1:]; len(pieces[i]) == 0 {
				spans[i].close()
				pieces, spans = slices.Delete(pieces, i, i+1), slices.Delete(spans, i, i+1)
			}
			if len(pieces) > 0 && inLockstep {
				i = r.IntN(len(pieces))
			} else {
				i = 0
			}
		}
		f.close()
		require.Zero(t, f.held)
		if !inLockstep {
			require.LessOrEqual(t, d.most, int64(maxFetchedBytes+maxFetchBytes))
		}
	}
}

// randomNeeds draws ranges within a column.
func randomNeeds(r *rand.Rand, from, to int64) needs {
	n := needs{order: func(offset int64) float64 { return float64(offset-from) / float64(to-from) }}
	gap := oneOf[int64](r, 1, 5000, 2<<20)
	for at := from; at < to; {
		end := min(to, at+1+r.Int64N(oneOf[int64](r, 100, 100_000, 6<<20)))
		n.ranges = append(n.ranges, byteRange{at, end})
		at = end + 1 + r.Int64N(gap)
	}
	if len(n.ranges) == 0 {
		n.ranges = []byteRange{{from, from + 1}}
	}
	return n
}

// cutUp cuts ranges into what may be asked for at once.
func cutUp(r *rand.Rand, ranges []byteRange) (pieces []byteRange) {
	for _, whole := range ranges {
		for whole.from < whole.to {
			end := min(whole.to, whole.from+1+r.Int64N(oneOf[int64](r, 1000, 1<<20, 5<<20)))
			pieces = append(pieces, byteRange{whole.from, end})
			whole.from = end
		}
	}
	return pieces
}

// TestFetcherStaysInItsBound: nobody reads, so no more than the bound is asked for.
func TestFetcherStaysInItsBound(t *testing.T) {
	data := make([]byte, 100<<20)
	d, f, spans := fetchFrom(t, data, []needs{{ranges: []byteRange{{0, 50 << 20}}}, {ranges: []byteRange{{50 << 20, 100 << 20}}}}, false)
	_, err := spans[0].at(t.Context(), 0, 10)
	require.NoError(t, err)
	for { // until all that may be fetched is there
		f.mu.Lock()
		active := f.active
		f.mu.Unlock()
		if active == 0 {
			break
		}
		runtime.Gosched()
	}
	require.EqualValues(t, maxFetchedBytes, d.bytes)
	f.close()
}

func TestFetcherErrors(t *testing.T) {
	data := make([]byte, 20<<20)
	d := &countingDriver{driver: memoryDriver{data}, failAfter: 2, failure: fault.New(fault.Unavailable, "no more")}
	o, err := d.open(t.Context(), object{})
	require.NoError(t, err)
	f, spans := newFetcher(t.Context(), o, []needs{{ranges: []byteRange{{0, 20 << 20}}}}, false)
	defer f.close()
	at := int64(0)
	for ; err == nil; at += 1 << 20 {
		_, err = spans[0].at(t.Context(), at, 1<<20)
	}
	require.ErrorIs(t, err, d.failure)
	_, err = spans[0].at(t.Context(), 30<<20, 1)
	require.ErrorContains(t, err, "not among those of the column")
}

// TestFetcherIsCancelled: who waits for a part that does not come is set free with the context, and closing leaves nothing running.
func TestFetcherIsCancelled(t *testing.T) {
	d := &countingDriver{driver: memoryDriver{make([]byte, 1<<20)}, blocked: make(chan struct{}, 10)}
	o, err := d.open(t.Context(), object{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	f, spans := newFetcher(ctx, o, []needs{{ranges: []byteRange{{0, 1 << 20}}}}, false)
	<-d.blocked
	done := make(chan error)
	go func() {
		_, err := spans[0].at(ctx, 0, 1)
		done <- err
	}()
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	f.close()
	require.Zero(t, d.underWay)
}

// TestRequestsOfARowGroup shows how few requests a row group of twelve columns takes from S3.
func TestRequestsOfARowGroup(t *testing.T) {
	p := s3Place(t)
	const rows = 50_000
	ids := make([]int64, rows)
	fields, columns := []arrow.Field{field("id", arrowType(feature.Int64)), field("ts", timestampUTC)}, []arrow.Array{int64s(ids...), times(ids...)}
	var features []feature.Feature
	var indices []int
	for i := range 10 {
		name := fmt.Sprintf("f%d", i)
		features, indices = append(features, feature.Feature{Name: name, Type: feature.Double}), append(indices, i)
		fields, columns = append(fields, field(name, arrowType(feature.Double))), append(columns, doubles(make([]float64, rows)...))
	}
	p.put(t, "t.parquet", writeArrow(t, rows, fields, columns, parquet.WithDictionaryDefault(false)))
	fragments, _, err := p.store.Table(view("t.parquet", feature.Int64, features...)).Fragments(t.Context(), feature.AllTime())
	require.NoError(t, err)
	f := fragments[0]
	counted := &countingDriver{driver: f.source.driver}
	f.source.driver = counted
	require.NoError(t, f.Keys(t.Context(), feature.AllTime(), func(feature.KeyBatch) error { return nil }))
	require.Equal(t, 1, counted.requests) // 0.8 MB in two columns
	counted.reset()
	dst := make([]*feature.Column, len(indices))
	for i := range dst {
		dst[i] = feature.NewColumn(feature.Double, 0)
	}
	every10th := make([]int64, 0, rows/10)
	for row := int64(0); row < rows; row += 10 {
		every10th = append(every10th, row)
	}
	require.NoError(t, f.Gather(t.Context(), every10th, indices, dst))
	require.LessOrEqual(t, counted.requests, 2) // 4 MB in ten columns
	require.LessOrEqual(t, counted.most, int64(maxFetchedBytes))
	counted.reset()
	g, err := f.GatherBatches(t.Context(), every10th, indices)
	require.NoError(t, err)
	for range 5 { // batches cost no more requests
		require.NoError(t, g.Next(rows/10/5, dst))
	}
	g.Close()
	require.LessOrEqual(t, counted.requests, 2)
	require.LessOrEqual(t, counted.most, int64(maxFetchedBytes))
	require.Equal(t, 2*len(every10th), dst[9].Len())
}

// TestBatchesOfLargeRowGroups: where a page of each column may take too much memory, batches are gathered one by one.
func TestBatchesOfLargeRowGroups(t *testing.T) {
	ids := []int64{1, 2, 3}
	p := filePlace(t)
	p.put(t, "t.parquet", writeArrow(t, 3, []arrow.Field{field("id", arrowType(feature.Int64)), field("ts", timestampUTC), field("x", arrowType(feature.Double))},
		[]arrow.Array{int64s(ids...), times(ids...), doubles(1, 2, 3)}))
	fragments, _, err := p.store.Table(view("t.parquet", feature.Int64, feature.Feature{Name: "x", Type: feature.Double})).Fragments(t.Context(), feature.AllTime())
	require.NoError(t, err)
	f := fragments[0]
	g, err := f.GatherBatches(t.Context(), []int64{0, 2}, []int{0})
	require.NoError(t, err)
	g.Close()
	for i := range f.source.footer.groups[0].chunks {
		f.source.footer.groups[0].chunks[i].uncompressed = maxOpenBytes + 1
	}
	g, err = f.GatherBatches(t.Context(), []int64{0, 2}, []int{0})
	require.NoError(t, err)
	require.Nil(t, g)
}
