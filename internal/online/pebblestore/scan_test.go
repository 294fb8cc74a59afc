package pebblestore

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

func scanAll(t *testing.T, s *Store, history bool) (rows []driver.ScannedRow, err error) {
	t.Helper()
	err = s.Scan(t.Context(), driver.Scan{Entity: "user", View: "v", History: history}, func(some []driver.ScannedRow) error {
		rows = append(rows, some...)
		return nil
	})
	return rows, err
}

// TestScanLeavesOutWhatMayBeDropped moves an injected clock: a row is found up to its time, and a history up to that of its last version.
func TestScanLeavesOutWhatMayBeDropped(t *testing.T) {
	now := int64(0)
	s, err := Open(Options{InMemory: true, SweepInterval: -1, Now: func() time.Time { return time.UnixMilli(now) }})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	rows := []driver.Row{tombstoneRow("a", 1, 1000), tombstoneRow("b", 1, 2000), tombstoneRow("c", 1, 0)}
	for i, expire := range []int64{1000, 3000, 2000} {
		version := tombstoneRow("a", int64(i), expire)
		version.Versions = 3
		rows = append(rows, version)
	}
	only := tombstoneRow("b", 1, 1000)
	only.Versions = 3
	_, err = s.Write(t.Context(), append(rows, only))
	require.NoError(t, err)
	for _, c := range []struct {
		now            int64
		rows, versions int
	}{{999, 3, 4}, {1000, 2, 3}, {2000, 1, 3}, {2999, 1, 3}, {3000, 1, 0}} {
		now = c.now
		for history, want := range map[bool]int{false: c.rows, true: c.versions} {
			found, err := scanAll(t, s, history)
			require.NoError(t, err)
			require.Len(t, found, want, "at %d", c.now)
			for _, r := range found {
				if history && c.now >= 1000 {
					require.EqualValues(t, 3000, r.ExpireAtMillis, "that of the version that lives longest")
				}
			}
		}
	}
}

// TestScanOfDamage: a damaged value is handed on as an empty one, and a key that nobody can tell whose it is ends the scan.
func TestScanOfDamage(t *testing.T) {
	s, err := Open(Options{InMemory: true, SweepInterval: -1})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	e := driver.Entity{Name: "user", Key: []byte("damaged")}
	_, err = s.Write(t.Context(), []driver.Row{tombstoneRow("whole", 1, 0)})
	require.NoError(t, err)
	require.NoError(t, s.db.Set(appendRowKey(nil, e, "v"), []byte("short"), pebble.NoSync))
	require.NoError(t, s.db.Set(appendVersion(appendHistoryPrefix(nil, e, "v"), 5), nil, pebble.NoSync))
	last := int64(math.MaxInt64)
	removed, err := s.Remove(t.Context(), []driver.Removal{{Entity: e, View: "v", EventBefore: &last}})
	require.NoError(t, err)
	require.Zero(t, removed, "nobody can tell how old it is")
	for history, want := range map[bool][]driver.ScannedRow{
		false: {{Key: []byte("whole"), Value: storedrow.AppendTombstone(nil, feature.EventTime(1), 0)}, {Key: []byte("damaged")}},
		true:  {{Key: []byte("damaged")}},
	} {
		found, err := scanAll(t, s, history)
		require.NoError(t, err)
		require.Equal(t, want, found)
		for _, damage := range []string{"\x01\x04user", "\x01\x04user\xff", "\x01\x04user\x05key", "\x03\x04user\x01kk", "\x03\x04user\x01k\x01v", "\x03\x04user\x01k\x01v1234567"} {
			if (damage[0] == historyPrefix) != history {
				continue
			}
			require.NoError(t, s.db.Set([]byte(damage), nil, pebble.NoSync))
			_, err = scanAll(t, s, history)
			require.Equal(t, fault.Corrupt, fault.KindOf(err), "%q: %v", damage, err)
			require.NoError(t, s.db.Delete([]byte(damage), pebble.NoSync))
		}
	}
}

// TestScanInSteps: a step ends between two rows or two histories, wherever there are many keys of others, and the next goes on where it ended.
func TestScanInSteps(t *testing.T) {
	s, err := Open(Options{InMemory: true, SweepInterval: -1})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	const entities, each = 300, 40
	var rows []driver.Row
	for i := range 2*scanKeys + 10 {
		other := tombstoneRow(fmt.Sprintf("%06d", i), 1, 0)
		other.View = "w"
		rows = append(rows, other)
	}
	rows = append(rows, tombstoneRow("000000", 1, 0), tombstoneRow(fmt.Sprintf("%06d", scanKeys), 1, 0), tombstoneRow("999999", 1, 0))
	for i := range entities {
		for event := range each {
			version := tombstoneRow(fmt.Sprint("h", i), int64(event), 0)
			version.Versions = each
			rows = append(rows, version)
		}
	}
	_, err = s.Write(t.Context(), rows)
	require.NoError(t, err)
	found, err := scanAll(t, s, false)
	require.NoError(t, err)
	require.Len(t, found, 3)
	counts, batches := map[string]int{}, 0
	require.NoError(t, s.Scan(t.Context(), driver.Scan{Entity: "user", View: "v", History: true}, func(some []driver.ScannedRow) error {
		batches++
		require.Zero(t, len(some)%each, "no history is divided")
		for _, r := range some {
			counts[string(r.Key)]++
		}
		return nil
	}))
	require.Len(t, counts, entities)
	require.GreaterOrEqual(t, batches, entities*each/(scanStep+each))
	for key, n := range counts {
		require.Equal(t, each, n, key)
	}
}

func TestAfter(t *testing.T) {
	for prefix, want := range map[string]string{"a": "b", "a\xff": "b", "\x00": "\x01", "a\xfe\xff\xff": "a\xff"} {
		require.Equal(t, want, string(after([]byte(prefix))))
	}
	require.Nil(t, after([]byte{0xff}))
	require.Nil(t, after(nil))
}
