package onlinetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

// moments are times in order, chosen to break a comparison that is not of 64-bit signed integers.
var moments = []int64{
	math.MinInt64, math.MinInt64 + 1, -1 << 53, -1<<53 + 1, -1<<32 - 1, -1 << 32, -1<<32 + 1, math.MinInt32, -256, -2, -1, 0, 1, 255, 256,
	math.MaxInt32, math.MaxInt32 + 1, math.MaxUint32, math.MaxUint32 + 1, 1_700_000_000_000_000, 1_700_000_000_000_001,
	1<<53 - 1, 1 << 53, 1<<53 + 1, 1<<53 + 2, math.MaxInt64 - 1, math.MaxInt64,
}

func testNewestWins(t *testing.T, h Harness) {
	d := h.open(t)
	for _, c := range []struct {
		name          string
		stored, given []byte
		want          driver.Outcome
	}{
		{"newer", value(1, 0, "old"), value(2, 0, "new"), driver.Written},
		{"older", value(2, 0, "old"), value(1, 9, "new"), driver.Older},
		{"created later", value(2, 1, "old"), value(2, 2, "new"), driver.Written},
		{"created earlier", value(2, 2, "old"), value(2, 1, "new"), driver.Older},
		{"same times", value(2, 2, "old"), value(2, 2, "new"), driver.Written},
		{"same bytes", value(2, 2, "same"), value(2, 2, "same"), driver.Unchanged},
		{"tombstone over row of the same times", value(2, 2, "old"), tombstone(2, 2), driver.Written},
		{"row over tombstone of the same times", tombstone(2, 2), value(2, 2, "new"), driver.Older},
		{"row over older tombstone", tombstone(2, 2), value(2, 3, "new"), driver.Written},
		{"row over newer tombstone", tombstone(2, 2), value(1, 9, "new"), driver.Older},
		{"tombstone over newer row", value(2, 2, "old"), tombstone(1, 9), driver.Older},
		{"tombstone twice", tombstone(2, 2), tombstone(2, 2), driver.Unchanged},
	} {
		t.Run(c.name, func(t *testing.T) {
			key := c.name
			require.Equal(t, []driver.Outcome{driver.Written}, write(t, d, row(key, "v", c.stored)))
			require.Equal(t, []driver.Outcome{c.want}, write(t, d, row(key, "v", c.given)))
			final := c.given
			if c.want == driver.Older {
				final = c.stored
			}
			require.Equal(t, [][]byte{final}, read(t, d, key, "v"))

			// The same in one call, with another view of the same entity between.
			key += " in one call"
			got := write(t, d, row(key, "v", c.stored), row(key, "w", value(5, 0, "other")), row(key, "v", c.given))
			require.Equal(t, []driver.Outcome{driver.Written, driver.Written, c.want}, got)
			require.Equal(t, [][]byte{final, value(5, 0, "other")}, read(t, d, key, "v", "w"))
		})
	}
	t.Run("every pair of moments", func(t *testing.T) { testMoments(t, d) })
	t.Run("stored rows in another encoding", func(t *testing.T) { testForeignRows(t, d) })
}

// testMoments writes every moment over every other one, as event time and as created time.
func testMoments(t *testing.T, d driver.Driver) {
	require.True(t, slices.IsSorted(moments))
	for name, at := range map[string]func(m int64) []byte{
		"event":   func(m int64) []byte { return value(m, 7, "") },
		"created": func(m int64) []byte { return value(7, m, "") },
	} {
		var first, second []driver.Row
		var want []driver.Outcome
		for i, stored := range moments {
			for j, given := range moments {
				key := fmt.Sprintf("%s %d %d", name, i, j)
				first = append(first, row(key, "v", at(stored)))
				second = append(second, row(key, "v", at(given)))
				switch {
				case j > i:
					want = append(want, driver.Written)
				case j < i:
					want = append(want, driver.Older)
				default:
					want = append(want, driver.Unchanged)
				}
			}
		}
		write(t, d, first...)
		got := write(t, d, second...)
		for i := range want {
			require.Equal(t, want[i], got[i], "%s", second[i].Entity.Key)
		}
	}
}

// testForeignRows: a row that any protobuf library wrote is compared like any other, and one that is no row is replaced. Such rows
// are put in place of the suite's by being the first of their key.
func testForeignRows(t *testing.T, d driver.Driver) {
	for name, foreign := range foreignRows() {
		_, err := storedrow.ParseHeader(foreign)
		require.NoError(t, err, name)
		key := "foreign " + name
		require.Equal(t, []driver.Outcome{driver.Written}, write(t, d, row(key, "v", foreign)))
		require.Equal(t, []driver.Outcome{driver.Older}, write(t, d, row(key, "v", value(99, 1000, ""))), name)
		require.Equal(t, []driver.Outcome{driver.Written}, write(t, d, row(key, "v", value(100, 6, ""))), name)
	}
	write(t, d, row("dead", "v", foreignRows()["tombstone"]))
	require.Equal(t, []driver.Outcome{driver.Older}, write(t, d, row("dead", "v", value(100, 0, ""))))
}

// foreignRows are rows of event time 100 and created time 5 at most, as any protobuf library may write them.
func foreignRows() map[string][]byte {
	fixed := func(b []byte, number protowire.Number, v uint64) []byte {
		return protowire.AppendFixed64(protowire.AppendTag(b, number, protowire.Fixed64Type), v)
	}
	return map[string][]byte{
		"reordered":       fixed(fixed(fixed(nil, 3, schema.Fingerprint()), 2, 5), 1, 100),
		"no created time": fixed(fixed(nil, 1, 100), 3, schema.Fingerprint()),
		"tombstone":       protowire.AppendVarint(protowire.AppendTag(fixed(nil, 1, 100), 7, protowire.VarintType), 1),
	}
}

// randomRow returns a row of one of few entities, views and times, so that ties and conflicts are common.
func randomRow(r *rand.Rand, n int) driver.Row {
	pick := func() int64 {
		if r.IntN(4) == 0 {
			return moments[r.IntN(len(moments))]
		}
		return int64(r.IntN(6))
	}
	v := value(pick(), pick(), fmt.Sprint(r.IntN(3)))
	if r.IntN(6) == 0 {
		v = tombstone(pick(), pick())
	}
	return row(fmt.Sprint("o", r.IntN(n)), fmt.Sprint("v", r.IntN(3)), v)
}

// oracle is the plainest store that keeps the contract.
type oracle map[string][]byte

func (o oracle) write(r driver.Row) driver.Outcome {
	key := string(r.Entity.Key) + "|" + r.View
	old, ok := o[key]
	if ok && slices.Equal(old, r.Value) {
		return driver.Unchanged
	}
	if ok {
		was, _ := storedrow.ParseHeader(old)
		is, _ := storedrow.ParseHeader(r.Value)
		older := is.EventTime < was.EventTime || (is.EventTime == was.EventTime && is.CreatedTime < was.CreatedTime)
		same := is.EventTime == was.EventTime && is.CreatedTime == was.CreatedTime
		if older || (same && was.Tombstone && !is.Tombstone) {
			return driver.Older
		}
	}
	o[key] = r.Value
	return driver.Written
}

// testOracle writes random batches and compares every outcome, and then every row, with the oracle's.
func testOracle(t *testing.T, h Harness) {
	d := h.open(t)
	r := newRand(t)
	o := oracle{}
	for range 60 {
		batch := make([]driver.Row, r.IntN(80))
		want := make([]driver.Outcome, len(batch))
		for i := range batch {
			batch[i] = randomRow(r, 10)
			want[i] = o.write(batch[i])
		}
		got := write(t, d, batch...)
		for i := range want {
			require.Equal(t, want[i], got[i], "row %d: %q %s", i, batch[i].Entity.Key, batch[i].View)
		}
		for e := range 10 {
			key := fmt.Sprint("o", e)
			for v, stored := range read(t, d, key, "v0", "v1", "v2") {
				require.Equal(t, o[fmt.Sprintf("%s|v%d", key, v)], stored)
			}
		}
	}
}

// testRaces lets writers race on the same keys, in different orders: whoever wins, the newest row must be what stays.
func testRaces(t *testing.T, h Harness) {
	d := h.open(t)
	r := newRand(t)
	const writers, keys, versions = 8, 5, 40
	orders := make([][]driver.Row, writers)
	for w := range orders {
		for k := range keys {
			for v := range versions {
				key := fmt.Sprint("race", k)
				orders[w] = append(orders[w], row(key, "v", value(int64(v/2)-10, int64(v%2), fmt.Sprint(v))))
			}
		}
		r.Shuffle(len(orders[w]), func(i, j int) { orders[w][i], orders[w][j] = orders[w][j], orders[w][i] })
	}
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for w, rows := range orders {
		wg.Go(func() {
			for batch := range slices.Chunk(rows, 1+w*3) {
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
		require.Equal(t, [][]byte{value((versions-1)/2-10, 1, fmt.Sprint(versions-1))}, read(t, d, fmt.Sprint("race", k), "v"))
	}
}
