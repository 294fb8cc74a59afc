package onlinetest

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
)

// keeping returns a view that keeps its last good rows, with a ttl of one hour and a retention of another.
func keeping(name string) *feature.View {
	v := view(name, user, time.Hour, live("x", feature.Int64))
	v.Sync = feature.Sync{Enabled: true, KeepLastGood: true}
	return v
}

func putAgo(t *testing.T, s *online.Store, v *feature.View, user int64, spans ...time.Duration) {
	t.Helper()
	for _, span := range spans {
		put(t, s, online.Rows{View: v, Keys: []*feature.Column{int64s(user)}, EventTimes: ago(span), Features: []*feature.Column{int64s(int64(span / time.Minute))}})
	}
}

func dropExpired(t *testing.T, s *online.Store, v *feature.View, later time.Duration) online.Dropped {
	t.Helper()
	dropped, err := s.DropExpired(t.Context(), v, feature.AsOf(now.Add(later).UnixMicro()))
	require.NoError(t, err)
	return dropped
}

// readAt returns the status of feature x of users 1 to n of each view, and the values, as of later.
func readAt(t *testing.T, s *online.Store, later time.Duration, n int64, views ...*feature.View) (statuses [][]feature.Status, values [][]int64) {
	t.Helper()
	users := int64s()
	for id := range n {
		users.AppendInt64(id + 1)
	}
	var names []string
	for _, v := range views {
		names = append(names, v.Name+":x")
	}
	p := plan(t, define([]*feature.Entity{user}, views...), names...)
	r, err := s.Read(t.Context(), p, []*feature.Column{users}, online.ReadOptions{AsOf: feature.AsOf(now.Add(later).UnixMicro()), IncludeExpired: true})
	require.NoError(t, err)
	for _, c := range r.Columns {
		statuses, values = append(statuses, c.Status), append(values, c.Int64s)
	}
	return statuses, values
}

func microsAgo(span time.Duration) feature.EventTime {
	return feature.EventTime(now.Add(-span).UnixMicro())
}

// testStoreLastGood: rows without an expiry stay however late it is, and go when they are to, but for those that are newer by then.
func testStoreLastGood(t *testing.T, s *online.Store) {
	v, other := keeping("kept"), view("other", user, time.Hour, live("x", feature.Int64))
	putAgo(t, s, v, 1, 2*time.Hour) // at exactly the ttl and the retention it is kept
	putAgo(t, s, v, 2, time.Hour)
	putAgo(t, s, v, 3, 0)
	putAgo(t, s, other, 1, 0)
	require.Equal(t, online.WriteStats{Expired: 1}, put(t, s, online.Rows{
		View: v, Keys: []*feature.Column{int64s(4)}, EventTimes: ago(2*time.Hour + time.Microsecond), Features: []*feature.Column{int64s(4)},
	}), "a row that is too old when it is written was never a good one")
	const years = 100_000 * time.Hour
	statuses, values := readAt(t, s, years, 4, v)
	require.Equal(t, [][]feature.Status{{feature.Expired, feature.Expired, feature.Expired, feature.NotFound}}, statuses)
	require.Equal(t, []int64{120, 60, 0}, values[0][:3])

	require.Equal(t, online.Dropped{Lasting: true, Oldest: microsAgo(2 * time.Hour)}, dropExpired(t, s, v, 0))
	require.Equal(t, online.Dropped{Entities: 1, Lasting: true, Oldest: microsAgo(time.Hour)}, dropExpired(t, s, v, time.Microsecond))
	statuses, _ = readAt(t, s, time.Minute, 4, v, other)
	require.Equal(t, [][]feature.Status{{feature.NotFound, feature.Expired, feature.Present, feature.NotFound}, {feature.Present, feature.NotFound, feature.NotFound, feature.NotFound}}, statuses)
	require.Equal(t, online.Dropped{Entities: 2, Oldest: math.MaxInt64}, dropExpired(t, s, v, years))
	require.Equal(t, online.Dropped{Oldest: math.MaxInt64}, dropExpired(t, s, v, years))

	forever := view("forever", user, 0, live("x", feature.Int64))
	putAgo(t, s, forever, 1, time.Hour)
	require.Equal(t, online.Dropped{Oldest: math.MaxInt64}, dropExpired(t, s, forever, years), "without a ttl no row is too old")
	statuses, _ = readAt(t, s, years, 1, forever)
	require.Equal(t, [][]feature.Status{{feature.Present}}, statuses)

	v.ExpiredRetention = 1<<63 - 1
	putAgo(t, s, v, 1, time.Hour)
	require.Equal(t, online.Dropped{Lasting: true, Oldest: microsAgo(time.Hour)}, dropExpired(t, s, v, years))
}

// testStoreLastGoodVersions: the versions of an entity stay, and go, together.
func testStoreLastGoodVersions(t *testing.T, s *online.Store) {
	h := keeping("h")
	h.HistoryVersions = 2
	putAgo(t, s, h, 1, 20*time.Hour, 10*time.Hour, 2*time.Hour)
	putAgo(t, s, h, 2, 10*time.Hour, time.Hour)
	require.Equal(t, online.Dropped{Lasting: true, Oldest: microsAgo(2 * time.Hour)}, dropExpired(t, s, h, 0))
	require.Equal(t, online.Dropped{Entities: 1, Lasting: true, Oldest: microsAgo(time.Hour)}, dropExpired(t, s, h, time.Minute))
	rows, _ := scanRows(t, s, h, 0)
	require.Equal(t, []string{"2 10h0m0s ago, created <nil>, deleted false: 600(PRESENT)", "2 1h0m0s ago, created <nil>, deleted false: 60(PRESENT)"}, rows)
	statuses, _ := readAt(t, s, time.Minute, 2, h)
	require.Equal(t, [][]feature.Status{{feature.NotFound, feature.Expired}}, statuses)
}
