package online_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/pebblestore"
)

// writeAges writes one row of entity 0 for each age, in that order, whose feature is the age in minutes.
func writeAges(t *testing.T, s *online.Store, v *feature.View, now time.Time, ages ...time.Duration) online.WriteStats {
	t.Helper()
	rows := online.Rows{View: v, Keys: []*feature.Column{feature.NewColumn(feature.Int64, 1)}, EventTimes: feature.NewColumn(feature.Timestamp, 1)}
	rows.Features = []*feature.Column{feature.NewColumn(feature.Int64, 1)}
	for _, age := range ages {
		rows.Keys[0].AppendInt64(0)
		rows.EventTimes.AppendInt64(now.Add(-age).UnixMicro())
		rows.Features[0].AppendInt64(int64(age / time.Minute))
	}
	stats, err := s.Write(t.Context(), rows)
	require.NoError(t, err)
	return stats
}

// TestExpiredVersionsAreNotLeftOut: an expired row of a view with versions reaches the store, since it was true between two others.
func TestExpiredVersionsAreNotLeftOut(t *testing.T) {
	s, spy := newStore(t)
	now := time.Now()
	v := aView("v", "x")
	v.TTL, v.HistoryVersions = feature.TTLOf(time.Hour), 3
	stats := writeAges(t, s, v, now, 0, 2*time.Hour, 5*time.Hour)
	require.Zero(t, stats.Expired)
	require.EqualValues(t, 1, spy.writes.Load())

	v.HistoryVersions = 0
	stats = writeAges(t, s, v, now, 0, 2*time.Hour, 5*time.Hour)
	require.Equal(t, online.WriteStats{Written: 1, Expired: 2}, stats)
}

// TestPastIsNeverGuessed writes rows in any order, most of them long expired, and asks for moments in the past: a value that is answered is the
// one that was true then, whatever has been dropped in between.
func TestPastIsNeverGuessed(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	now := time.Now()
	for range 200 {
		d, err := pebblestore.Open(pebblestore.Options{InMemory: true, SweepInterval: -1})
		require.NoError(t, err)
		s := online.NewStore(d, online.Options{BatchSize: 1 + r.IntN(4)})
		v := aView("v", "x")
		v.TTL, v.HistoryVersions = feature.TTLOf(90*time.Minute), 2+r.IntN(4)
		var ages []time.Duration
		for range 1 + r.IntN(9) {
			ages = append(ages, time.Duration(r.IntN(12))*30*time.Minute)
		}
		writeAges(t, s, v, now, ages...)
		for back := range 26 {
			checkPast(t, s, v, ages, now, time.Duration(back)*15*time.Minute)
		}
		require.NoError(t, s.Close())
	}
}

// checkPast asks what was true some time ago.
func checkPast(t *testing.T, s *online.Store, v *feature.View, ages []time.Duration, now time.Time, back time.Duration) {
	t.Helper()
	key := feature.NewColumn(feature.Int64, 1)
	key.AppendInt64(0)
	result, err := s.Read(t.Context(), plan(t, []string{"v:x"}, v), []*feature.Column{key}, online.ReadOptions{AsOf: feature.AsOf(now.Add(-back).UnixMicro()), Past: true})
	if err != nil {
		require.Equal(t, fault.Precondition, fault.KindOf(err), "%v", err)
		return
	}
	sorted := slices.Sorted(slices.Values(ages))
	at := slices.IndexFunc(sorted, func(age time.Duration) bool { return age >= back })
	if result.Columns[0].Status[0] == feature.Present {
		require.GreaterOrEqual(t, at, 0, "%v: a value %v ago", ages, back)
		require.Equal(t, int64(sorted[at]/time.Minute), result.Columns[0].Int64s[0], "%v: %v ago", ages, back)
	}
}
