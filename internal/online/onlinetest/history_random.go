package onlinetest

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

// versions is the plainest history that keeps the contract.
type versions struct {
	rows    map[feature.EventTime][]byte
	dropped bool
}

func (v *versions) times() []feature.EventTime {
	var times []feature.EventTime
	for at := range v.rows {
		times = append(times, at)
	}
	slices.Sort(times)
	return times
}

func (v *versions) trim(n int) {
	times := v.times()
	for len(times) > n {
		delete(v.rows, times[0])
		times, v.dropped = times[1:], true
	}
}

func (v *versions) write(r driver.Row) driver.Outcome {
	v.trim(r.Versions)
	is, _ := storedrow.ParseHeader(r.Value)
	if old, ok := v.rows[is.EventTime]; ok {
		was, _ := storedrow.ParseHeader(old)
		switch {
		case slices.Equal(old, r.Value):
			return driver.Unchanged
		case is.CreatedTime < was.CreatedTime, is.CreatedTime == was.CreatedTime && was.Tombstone && !is.Tombstone:
			return driver.Older
		}
	}
	v.rows[is.EventTime] = r.Value
	v.trim(r.Versions)
	if _, ok := v.rows[is.EventTime]; !ok {
		return driver.Older
	}
	return driver.Written
}

// asOf returns the row at a moment, and whether it is known.
func (v *versions) asOf(at int64) (row []byte, known bool) {
	for _, event := range slices.Backward(v.times()) {
		if int64(event) <= at {
			return v.rows[event], true
		}
	}
	return nil, !v.dropped
}

// randomMoment returns one of few moments, and sometimes one that a double cannot hold.
func randomMoment(r *rand.Rand) int64 {
	switch r.IntN(8) {
	case 0:
		return moments[r.IntN(len(moments))]
	case 1:
		return 1<<53 + int64(r.IntN(7)) - 3
	case 2:
		return -1<<60 + int64(r.IntN(7))
	default:
		return int64(r.IntN(12))
	}
}

// testHistoryOracle writes random batches, in which the number of versions changes too, and compares every outcome, and then what is read at
// random moments, with the oracle's.
func testHistoryOracle(t *testing.T, d driver.Driver) {
	const entities = 8
	r := newRand(t)
	oracle := map[string]*versions{}
	for e := range entities {
		oracle[fmt.Sprint("o", e)] = &versions{rows: map[feature.EventTime][]byte{}}
	}
	for range 40 {
		batch := make([]driver.Row, r.IntN(60))
		want := make([]driver.Outcome, len(batch))
		for i := range batch {
			key := fmt.Sprint("o", r.IntN(entities))
			v := value(randomMoment(r), int64(r.IntN(3)), fmt.Sprint(r.IntN(3)))
			if r.IntN(6) == 0 {
				v = tombstone(randomMoment(r), int64(r.IntN(3)))
			}
			n := 1 + len(key)*int(key[1]-'0') // of its own, and sometimes another
			if r.IntN(20) == 0 {
				n = 1 + r.IntN(12)
			}
			batch[i] = version(key, n, v)
			want[i] = oracle[key].write(batch[i])
		}
		got := write(t, d, batch...)
		for i := range want {
			require.Equal(t, want[i], got[i], "row %d: %q, %d versions, %x", i, batch[i].Entity.Key, batch[i].Versions, batch[i].Value)
		}
		checkAgainst(t, d, r, oracle)
	}
}

// checkAgainst makes one call of random reads.
func checkAgainst(t *testing.T, d driver.Driver, r *rand.Rand, oracle map[string]*versions) {
	t.Helper()
	var reads []driver.Read
	var want [][]byte
	var known []bool
	for key, versions := range oracle {
		for _, at := range []int64{randomMoment(r), randomMoment(r), randomMoment(r), math.MaxInt64, math.MinInt64} {
			row, ok := versions.asOf(at)
			reads, want, known = append(reads, historyRead(key, at)), append(want, row), append(known, ok)
		}
	}
	reads, want, known = append(reads, historyRead("nobody", 0)), append(want, nil), append(known, true)
	rows, err := d.Read(t.Context(), reads)
	errs := make([]error, len(reads))
	if partial, ok := errors.AsType[*driver.PartialError](err); ok {
		errs = partial.Errs
	} else {
		require.NoError(t, err)
	}
	require.Len(t, rows, len(reads))
	for i := range reads {
		require.Equal(t, want[i], rows[i], "%q at %d", reads[i].Entity.Key, reads[i].AsOfMicros)
		require.Equal(t, known[i], errs[i] == nil, "%q at %d: %v", reads[i].Entity.Key, reads[i].AsOfMicros, errs[i])
	}
}

// testHistoryRaces lets writers race on the same histories, in different orders: the newest versions must be what stays.
func testHistoryRaces(t *testing.T, d driver.Driver) {
	r := newRand(t)
	const writers, keys, events, n = 6, 4, 30, 5
	orders := make([][]driver.Row, writers)
	for w := range orders {
		for k := range keys {
			for e := range 2 * events {
				orders[w] = append(orders[w], version(fmt.Sprint("race", k), n, value(int64(e/2), int64(e%2), fmt.Sprint(e))))
			}
		}
		r.Shuffle(len(orders[w]), func(i, j int) { orders[w][i], orders[w][j] = orders[w][j], orders[w][i] })
	}
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for w, rows := range orders {
		wg.Go(func() {
			for batch := range slices.Chunk(rows, 1+w*5) {
				if _, err := d.Write(t.Context(), batch); err != nil {
					errs[w] = err
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	for k := range keys {
		want := map[int64]any{events - n - 1: "dropped"}
		for e := events - n; e < events; e++ {
			want[int64(e)] = value(int64(e), 1, fmt.Sprint(2*e+1))
		}
		requireAsOf(t, d, fmt.Sprint("race", k), want)
	}
}
