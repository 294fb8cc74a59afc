package online_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
)

func TestStoredName(t *testing.T) {
	require.Equal(t, "weather", online.StoredName("weather", 0))
	require.Equal(t, "weather@7", online.StoredName("weather", 7))
	require.Equal(t, "weather@18446744073709551615", online.StoredName("weather", 1<<64-1))
}

// TestGenerationsCostNothing: reads of a generation that was asked for before cost no more memory than those of views that have none.
func TestGenerationsCostNothing(t *testing.T) {
	s, _ := newStore(t)
	v, w := aView("v", "x"), aView("w", "x")
	p := plan(t, []string{"v:x", "w:x"}, v, w)
	keys := []*feature.Column{ids(3)}
	allocations := func(generations []uint64) float64 {
		return testing.AllocsPerRun(200, func() {
			r, err := s.Read(t.Context(), p, keys, online.ReadOptions{Generations: generations})
			require.NoError(t, err)
			r.Release()
		})
	}
	none := allocations(nil)
	require.LessOrEqual(t, allocations([]uint64{0, 0}), none)
	require.LessOrEqual(t, allocations([]uint64{3, 0}), none)
}

// TestScanWhoseSchemaCannotBeAsked: where the store does not give the schema of a row, nothing is said of the row.
func TestScanWhoseSchemaCannotBeAsked(t *testing.T) {
	s, spy := newStore(t)
	_, err := s.Write(t.Context(), rowsOf(aView("v", "old"), 3))
	require.NoError(t, err)
	away := fault.New(fault.Unavailable, "away")
	spy.fail = func(call string) error {
		if call == "GetMeta" {
			return away
		}
		return nil
	}
	err = s.Scan(t.Context(), aView("v", "x"), 0, func(*online.Scanned) error {
		t.Error("something was told")
		return nil
	})
	require.ErrorIs(t, err, away)
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	require.ErrorContains(t, err, `scan view "v"`)
	spy.fail = nil
	require.NoError(t, s.Scan(t.Context(), aView("v", "x"), 0, func(some *online.Scanned) error {
		require.Len(t, some.Tombstones, 3)
		return nil
	}))
}
