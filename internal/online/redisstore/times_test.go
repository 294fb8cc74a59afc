package redisstore

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/online/driver"
)

// TestTimesOfAnyWidth: each row of a call expires at its own time, however many digits that has, in a first load and after.
func TestTimesOfAnyWidth(t *testing.T) {
	s, c := openWithClient(t)
	soon := time.Now().Add(time.Hour).UnixMilli()
	times := []int64{0, soon, 253402300799000, 0, soon + 1, 99999999999999}
	for event := range int64(3) {
		rows := make([]driver.Row, len(times))
		for i, at := range times {
			rows[i] = oneRow(strconv.Itoa(i), event)
			rows[i].ExpireAtMillis = at
		}
		_, err := s.Write(t.Context(), rows)
		require.NoError(t, err)
		for i, at := range times {
			got, err := c.Do(t.Context(), "pexpiretime", "tf:user:"+strconv.Itoa(i)).Int64()
			require.NoError(t, err)
			if at == 0 {
				at = -1
			}
			require.Equal(t, at, got, "row %d", i)
		}
	}
	past := oneRow("past", 1)
	past.ExpireAtMillis = 1 // the least there is
	_, err := s.Write(t.Context(), []driver.Row{past, oneRow("other", 1)})
	require.NoError(t, err)
	require.Zero(t, c.Exists(t.Context(), "tf:user:past").Val())
}

// FuzzJoinTimes cuts what was joined as the script does.
func FuzzJoinTimes(f *testing.F) {
	f.Add(uint64(1), 3)
	f.Fuzz(func(t *testing.T, seed uint64, n int) {
		r := rand.New(rand.NewPCG(seed, 0))
		times := make([]int64, 1+uint(n)%200)
		for i := range times {
			times[i] = r.Int64() >> r.IntN(63)
		}
		joined := joinTimes(times)
		require.Zero(t, len(joined)%len(times))
		width := len(joined) / len(times)
		for i, at := range times {
			require.Equal(t, strconv.FormatInt(at, 10), strings.TrimLeft(string(joined[i*width:(i+1)*width]), " "))
		}
	})
}
