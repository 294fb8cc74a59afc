package redisstore

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/storedrow"
	"github.com/twofold-ml/twofold/internal/testenv"
)

func oneVersion(key string, n int, event int64) driver.Row {
	r := oneRow(key, event)
	r.Versions = n
	return r
}

func readVersion(t *testing.T, s *Store, key string, asOf int64) ([]byte, error) {
	rows, err := s.Read(t.Context(), []driver.Read{{Entity: driver.Entity{Name: "user", Key: []byte(key)}, Views: []string{"v"}, History: true, AsOfMicros: asOf}})
	if err != nil {
		require.Nil(t, rows)
		return nil, err
	}
	require.Len(t, rows, 1)
	return rows[0], nil
}

// TestHistoryKeys holds the documented layout, which other programs may read.
func TestHistoryKeys(t *testing.T) {
	s, c := openWithClient(t)
	const wide = 1<<53 + 1
	var rows []driver.Row
	expire := time.Now().Add(time.Hour).UnixMilli()
	for i, event := range []int64{3, 1 << 52, wide, 2} {
		r := oneVersion("2:ab,c", 3, event)
		r.ExpireAtMillis = expire + int64(i)
		rows = append(rows, r)
	}
	outcomes, err := s.Write(t.Context(), rows)
	require.NoError(t, err)
	require.Equal(t, []driver.Outcome{driver.Written, driver.Written, driver.Written, driver.Older}, outcomes)

	const key = "tf::history:user:v:2:ab,c"
	require.Equal(t, []string{key}, c.Keys(t.Context(), "*").Val())
	front := binary.BigEndian.AppendUint64([]byte{0}, wide|1<<63)
	require.Equal(t, []redis.Z{
		{Score: math.Inf(-1), Member: "dropped"},
		{Score: 3, Member: string(rows[0].Value)},
		{Score: 1 << 52, Member: string(rows[1].Value)},
		{Score: 1 << 53, Member: string(front) + string(rows[2].Value)},
	}, c.ZRangeWithScores(t.Context(), key, 0, -1).Val())
	require.Equal(t, expire+2, c.PExpireTime(t.Context(), key).Val().Milliseconds(), "the latest of the kept versions")
	documented := c.Do(t.Context(), "ZREVRANGEBYSCORE", key, "1000", "-inf", "LIMIT", "0", "1")
	require.Equal(t, []any{string(rows[0].Value)}, documented.Val())
}

// TestDamagedVersions: a member that is no StoredRow is replaced by the next row of its event time, breaks no write, and is never taken for
// another.
func TestDamagedVersions(t *testing.T) {
	s, c := openWithClient(t)
	const key = "tf::history:user:v:a"
	for _, damaged := range []string{"x", "\x09\x01", "\xff\xff\xff", ""} {
		require.NoError(t, c.Del(t.Context(), key).Err())
		require.NoError(t, c.ZAdd(t.Context(), key, redis.Z{Score: 5, Member: damaged}).Err())
		got, err := readVersion(t, s, "a", 5)
		if damaged == "" {
			require.Equal(t, fault.Corrupt, fault.KindOf(err), "%v", err)
		} else {
			require.NoError(t, err)
			require.Equal(t, damaged, string(got), "whoever decodes it tells what is wrong")
		}
		outcome, err := writeOne(t.Context(), s, oneVersion("a", 2, 5))
		require.NoError(t, err)
		require.Equal(t, driver.Written, outcome, "%q", damaged)
		require.EqualValues(t, 1, c.ZCard(t.Context(), key).Val())
	}
	require.NoError(t, c.ZAdd(t.Context(), key, redis.Z{Score: 9, Member: "\x00short"}).Err())
	_, err := readVersion(t, s, "a", 9)
	require.Equal(t, fault.Corrupt, fault.KindOf(err), "%v", err)
	require.ErrorContains(t, err, `entity user "a", view "v"`)
	outcome, err := writeOne(t.Context(), s, oneVersion("a", 2, 10))
	require.NoError(t, err)
	require.Equal(t, driver.Written, outcome)

	require.NoError(t, c.Set(t.Context(), "tf::history:user:v:text", "x", 0).Err())
	_, err = readVersion(t, s, "text", 0)
	require.Equal(t, fault.Precondition, fault.KindOf(err), "%v", err)
	_, err = writeOne(t.Context(), s, oneVersion("text", 2, 10))
	require.Equal(t, fault.Precondition, fault.KindOf(err), "%v", err)
	require.ErrorContains(t, err, "prefix")
}

// TestHistoryRights: the documented rights are enough (the conformance suite has no others), and one that is missing is said to be.
func TestHistoryRights(t *testing.T) {
	server := testenv.Redis(t, append(slices.Clone(acl), "-time")...)
	s := open(t, Options{URL: "redis://" + aclLogin + server.Addr})
	defer s.Close()
	r := oneVersion("a", 2, 1)
	r.ExpireAtMillis = time.Now().Add(time.Hour).UnixMilli()
	_, err := writeOne(t.Context(), s, r)
	require.NoError(t, err)
	r.Value = storedrow.AppendTombstone(nil, 2, 0)
	_, err = writeOne(t.Context(), s, r)
	require.Equal(t, fault.Precondition, fault.KindOf(err), "%v", err)
	require.ErrorContains(t, err, "rights")
	require.NotContains(t, err.Error(), "s3cr")
}

// TestBothScriptsAreForgotten mixes the layouts in one call of which the server knows one script, both, or none.
func TestBothScriptsAreForgotten(t *testing.T) {
	servers := testenv.RedisCluster(t, 3)
	s := open(t, Options{URL: "redis+cluster://" + servers[0].Addr, RowsPerCall: 3})
	defer s.Close()
	for round := range int64(4) {
		var rows []driver.Row
		for i := range 40 {
			rows = append(rows, oneRow(fmt.Sprint(i%20), 2*round+int64(i/20)), oneVersion(fmt.Sprint(i%20), 3, 2*round+int64(i/20)))
		}
		outcomes, err := s.Write(t.Context(), rows)
		require.NoError(t, err)
		require.Equal(t, slices.Repeat([]driver.Outcome{driver.Written}, len(rows)), outcomes)
		got, err := readVersion(t, s, "7", 2*round)
		require.NoError(t, err)
		require.Equal(t, oneRow("7", 2*round).Value, got)
		for _, server := range servers[:min(round, 3)] {
			c := redis.NewClient(&redis.Options{Addr: server.Addr})
			require.NoError(t, c.ScriptFlush(t.Context()).Err())
			if round == 1 {
				require.NoError(t, c.ScriptLoad(t.Context(), rowSource+writeSource).Err())
			}
			require.NoError(t, c.Close())
		}
	}
}

func TestScores(t *testing.T) {
	for _, micros := range []int64{0, 1, -1, exact - 1, exact, exact + 1, 1 - exact, -exact, -exact - 1, 1_700_000_000_000_001, math.MaxInt64, math.MinInt64} {
		got, err := strconv.ParseFloat(score(micros), 64)
		require.NoError(t, err)
		require.Equal(t, float64(micros), got)
		if !isWide(micros) {
			require.Equal(t, micros, int64(got))
		}
	}
}

// FuzzMember: what is put in front of a row comes off again, and keeps the order of event times; no bytes make splitting fail in another way
// than with an error.
func FuzzMember(f *testing.F) {
	f.Add(int64(1<<53), int64(1<<53+1), []byte("\x09row"))
	f.Add(int64(-1<<60), int64(5), []byte{})
	f.Add(int64(math.MinInt64), int64(math.MaxInt64), []byte{0, 1})
	f.Fuzz(func(t *testing.T, a, b int64, row []byte) {
		_, _, rest, err := splitMember(row)
		if err == nil && len(rest) > len(row) {
			t.Fatalf("%q has a longer row", row)
		}
		if len(row) == 0 || row[0] == 0 {
			return // no StoredRow
		}
		for _, micros := range []int64{a, b} {
			event, wide, back, err := splitMember(memberOf(feature.EventTime(micros), row))
			if err != nil || wide != isWide(micros) || wide && int64(event) != micros || string(back) != string(row) {
				t.Fatalf("%d %q came back as %d %v %q, %v", micros, row, event, wide, back, err)
			}
		}
		if isWide(a) && isWide(b) {
			first, second := memberOf(feature.EventTime(a), nil), memberOf(feature.EventTime(b), nil)
			if (a < b) != (slices.Compare(first, second) < 0) {
				t.Fatalf("%d and %d are not in order", a, b)
			}
		}
	})
}
