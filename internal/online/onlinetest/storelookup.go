package onlinetest

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
)

// lookUp returns what is found of users, as text: "" where nothing is stored, and the kind of error where it cannot be read.
func lookUp(t *testing.T, s *online.Store, v *feature.View, generation uint64, asOf []time.Duration, users ...int64) []string {
	t.Helper()
	var moments []feature.AsOf
	for _, span := range asOf {
		moments = append(moments, feature.AsOf(now.Add(-span).UnixMicro()))
	}
	found, err := s.Lookup(t.Context(), v, generation, []*feature.Column{int64s(users...)}, moments)
	require.NoError(t, err)
	texts := make([]string, len(users))
	for i := range users {
		event := "at an unknown time"
		if found.EventTimes.IsPresent(i) {
			event = fmt.Sprint(now.Sub(time.UnixMicro(found.EventTimes.Int64s[i])), " ago")
		}
		switch {
		case found.Stored[i]:
			texts[i] = fmt.Sprintf("%v %s, created %v, deleted %v", found.Features[0].ValueAt(i), event, found.CreatedTimes.ValueAt(i), found.Tombstones[i])
		case found.Errs[i] != nil:
			require.ErrorContains(t, found.Errs[i], fmt.Sprintf("view %q, entity user \"%d\"", v.Name, users[i]))
			texts[i] = fmt.Sprint(fault.KindOf(found.Errs[i]), " ", event)
		default:
			require.Equal(t, feature.NotFound, found.Features[0].Status[i])
		}
	}
	return texts
}

func testStoreLookup(t *testing.T, s *online.Store) {
	number, text, lost := view("v", user, 0, live("x", feature.Int64)), view("v", user, 0, live("x", feature.String)), view("v", user, 0, live("lost", feature.Int64))
	created := feature.NewColumn(feature.Timestamp, 2)
	created.AppendInt64(5)
	created.AppendMissing(feature.Null)
	put(t, s, online.Rows{
		View: number, Keys: []*feature.Column{int64s(1, 2)}, EventTimes: ago(time.Hour, 2*time.Hour), CreatedTimes: created, Features: []*feature.Column{int64s(7, 8)}, Tombstones: []bool{false, true},
	})
	put(t, s, online.Rows{View: text, Keys: []*feature.Column{int64s(3)}, EventTimes: ago(time.Hour), Features: []*feature.Column{texts("seven")}})
	put(t, s, online.Rows{View: lost, Keys: []*feature.Column{int64s(4)}, EventTimes: ago(0), Features: []*feature.Column{int64s(1)}})
	require.NoError(t, s.PutMeta(t.Context(), storedSchemaName(lost), []byte("damaged")))
	putGeneration(t, s, number, 3, 30, 1)
	row := "7 1h0m0s ago, created 5, deleted false"
	require.Equal(t, []string{row, "<nil> 2h0m0s ago, created <nil>, deleted true", fault.Precondition.String() + " 1h0m0s ago", fault.Corrupt.String() + " 0s ago", "", row},
		lookUp(t, s, number, 0, nil, 1, 2, 3, 4, 5, 1))
	require.Equal(t, []string{"30 0s ago, created <nil>, deleted false", ""}, lookUp(t, s, number, 3, nil, 1, 2))
	require.Empty(t, lookUp(t, s, number, 0, nil))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Lookup(ctx, number, 0, []*feature.Column{int64s(1)}, nil)
	require.ErrorIs(t, err, context.Canceled)
}

// testStoreLookupOfVersions: what a history cannot tell any more is not stored, whether some, all or none of the answers are like that.
func testStoreLookupOfVersions(t *testing.T, s *online.Store) {
	h := view("h", user, 0, live("x", feature.Int64))
	h.HistoryVersions = 2
	put(t, s, online.Rows{View: h, Keys: []*feature.Column{int64s(1, 1, 1, 2)}, EventTimes: ago(3*time.Hour, 2*time.Hour, time.Hour, 0), Features: []*feature.Column{int64s(3, 2, 1, 0)}})
	row := func(x, hours int) string {
		return fmt.Sprintf("%d %v ago, created <nil>, deleted false", x, time.Duration(hours)*time.Hour)
	}
	require.Equal(t, []string{row(1, 1), row(0, 0), ""}, lookUp(t, s, h, 0, nil, 1, 2, 3))
	require.Equal(t, []string{row(2, 2), row(2, 2), row(1, 1), "", ""},
		lookUp(t, s, h, 0, []time.Duration{2 * time.Hour, 90 * time.Minute, 0, 3 * time.Hour, time.Hour}, 1, 1, 1, 1, 2))
	require.Equal(t, []string{"", ""}, lookUp(t, s, h, 0, []time.Duration{3 * time.Hour, 4 * time.Hour}, 1, 1))
	found, err := s.Lookup(t.Context(), h, 0, []*feature.Column{int64s(1)}, []feature.AsOf{math.MinInt64})
	require.NoError(t, err)
	require.False(t, found.Stored[0])
	_, err = s.Lookup(t.Context(), h, 1, []*feature.Column{int64s(1)}, nil)
	require.Equal(t, fault.Invalid, fault.KindOf(err))
}
