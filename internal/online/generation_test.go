package online_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online"
)

func TestStoredName(t *testing.T) {
	require.Equal(t, "weather", online.StoredName("weather", 0))
	require.Equal(t, "weather@7", online.StoredName("weather", 7))
	require.Equal(t, "weather@18446744073709551615", online.StoredName("weather", 1<<64-1))
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
