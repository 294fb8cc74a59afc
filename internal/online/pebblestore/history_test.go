package pebblestore

import (
	"bytes"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

func versionRow(key string, n int, event, expire int64) driver.Row {
	r := tombstoneRow(key, event, expire)
	r.Versions = n
	return r
}

func writeAll(t *testing.T, s *Store, rows ...driver.Row) {
	t.Helper()
	_, err := s.Write(t.Context(), rows)
	require.NoError(t, err)
}

func storedVersion(t *testing.T, s *Store, key string, asOf int64) ([]byte, error) {
	t.Helper()
	rows, err := s.Read(t.Context(), []driver.Read{{Entity: driver.Entity{Name: "user", Key: []byte(key)}, Views: []string{"v"}, History: true, AsOfMicros: asOf}})
	if err != nil {
		require.Nil(t, rows)
		return nil, err
	}
	return rows[0], nil
}

// keys returns how many keys the store has.
func keys(t *testing.T, s *Store) int {
	t.Helper()
	all, err := s.db.NewIter(nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, all.Close()) }()
	n := 0
	for ok := all.First(); ok; ok = all.Next() {
		n++
	}
	return n
}

func openAt(t *testing.T, clock *atomic.Int64) *Store {
	t.Helper()
	s, err := Open(Options{InMemory: true, SweepInterval: -1, Now: func() time.Time { return time.UnixMilli(clock.Load()) }})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// TestHistoryExpiry moves an injected clock: versions are there until the last of them is past, then none is, swept or not.
func TestHistoryExpiry(t *testing.T) {
	var clock atomic.Int64
	s := openAt(t, &clock)
	writeAll(t, s, versionRow("a", 3, 1, 1000), versionRow("a", 3, 2, 2000), versionRow("a", 3, 3, 3000), versionRow("a", 3, 4, 4000),
		versionRow("never", 2, 1, 1000), versionRow("never", 2, 2, 0), versionRow("older longer", 2, 1, 9000), versionRow("older longer", 2, 2, 1000))
	for _, at := range []int64{0, 1000, 2500, 3999} {
		clock.Store(at)
		for event := int64(2); event <= 4; event++ {
			got, err := storedVersion(t, s, "a", event)
			require.NoError(t, err)
			require.NotNil(t, got, "version %d at %d", event, at)
		}
		_, err := storedVersion(t, s, "a", 1)
		require.Equal(t, fault.Precondition, fault.KindOf(err), "%v", err)
		require.ErrorContains(t, err, "embedded store in memory")
		removed, err := s.Sweep(t.Context())
		require.NoError(t, err)
		require.Zero(t, removed)
	}
	clock.Store(4000)
	for _, asOf := range []int64{1, 2, math.MaxInt64} {
		got, err := storedVersion(t, s, "a", asOf)
		require.NoError(t, err)
		require.Nil(t, got)
	}
	for _, key := range []string{"never", "older longer"} {
		got, err := storedVersion(t, s, key, 1)
		require.NoError(t, err)
		require.NotNil(t, got, key)
	}
	before := keys(t, s)
	removed, err := s.Sweep(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, removed)
	require.Equal(t, before-4, keys(t, s), "three versions and the mark")

	// A history that is past and not swept is as good as none.
	writeAll(t, s, versionRow("b", 1, 5, 5000), versionRow("b", 1, 6, 5000))
	clock.Store(5000)
	writeAll(t, s, versionRow("b", 1, 3, 9000))
	got, err := storedVersion(t, s, "b", 2)
	require.NoError(t, err)
	require.Nil(t, got, "the mark went with the versions")
	got, err = storedVersion(t, s, "b", math.MaxInt64)
	require.NoError(t, err)
	require.Equal(t, versionRow("b", 1, 3, 0).Value, got)
}

// TestSweepManyHistories sweeps more than one turn takes, and spares a version that comes between finding a history and removing it.
func TestSweepManyHistories(t *testing.T) {
	var clock atomic.Int64
	s := openAt(t, &clock)
	var rows []driver.Row
	const histories = sweepStep/2 + 50
	for i := range histories {
		for event := range int64(4) { // of which three are kept
			rows = append(rows, versionRow(fmt.Sprint(i), 3, event, 1000))
		}
	}
	writeAll(t, s, rows...)
	writeAll(t, s, tombstoneRow("row", 0, 1000), versionRow("kept", 3, 1, 0))
	clock.Store(1000)
	found, next, err := s.findExpiredHistories(t.Context(), []byte{historyPrefix})
	require.NoError(t, err)
	require.NotNil(t, next)
	require.Less(t, len(found), histories)
	late := found[len(found)/2]
	_, _, ok := cutHistoryKey(appendVersion(bytes.Clone(late), 0))
	require.True(t, ok)
	renewed := rows[0]
	for _, r := range rows {
		if bytes.Equal(appendHistoryPrefix(nil, r.Entity, r.View), late) {
			renewed = r
		}
	}
	renewed.ExpireAtMillis = 9000
	writeAll(t, s, renewed)
	removed, err := s.removeHistories(t.Context(), found)
	require.NoError(t, err)
	require.Equal(t, 3*(len(found)-1), removed)
	rest, err := s.Sweep(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3*(histories-len(found))+1, rest)
	require.Equal(t, 2, keys(t, s))
	got, err := storedVersion(t, s, string(renewed.Entity.Key), math.MaxInt64)
	require.NoError(t, err)
	require.NotNil(t, got)
}

func TestHistoryIsDurable(t *testing.T) {
	disk := vfs.NewCrashableMem()
	s, err := Open(Options{Path: "db", SweepInterval: -1, fs: disk})
	require.NoError(t, err)
	writeAll(t, s, versionRow("a", 2, 1, 0), versionRow("a", 2, 2, 0), versionRow("a", 2, 3, 0))
	crashed := disk.CrashClone(vfs.CrashCloneCfg{})
	require.NoError(t, s.Close())
	s, err = Open(Options{Path: "db", SweepInterval: -1, fs: crashed})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	got, err := storedVersion(t, s, "a", 2)
	require.NoError(t, err)
	require.NotNil(t, got)
	_, err = storedVersion(t, s, "a", 1)
	require.Equal(t, fault.Precondition, fault.KindOf(err), "%v", err)
}

// TestDamagedVersions: what is no version is an error to read, is replaced by the next row of its event time, and is not swept.
func TestDamagedVersions(t *testing.T) {
	var clock atomic.Int64
	s := openAt(t, &clock)
	prefix := appendHistoryPrefix(nil, driver.Entity{Name: "user", Key: []byte("a")}, "v")
	writeAll(t, s, versionRow("a", 3, 1, 1000))
	require.NoError(t, s.db.Set(appendVersion(bytes.Clone(prefix), 2), []byte("short"), pebble.NoSync))
	require.NoError(t, s.db.Set(appendVersion(bytes.Clone(prefix), 3), append(make([]byte, 7), "\x01no row"...), pebble.NoSync))
	require.NoError(t, s.db.Set([]byte{historyPrefix, 0xff}, []byte("x"), pebble.NoSync))
	_, err := storedVersion(t, s, "a", 2)
	require.Equal(t, fault.Corrupt, fault.KindOf(err), "%v", err)
	clock.Store(5000)
	removed, err := s.Sweep(t.Context())
	require.NoError(t, err)
	require.Zero(t, removed, "to remove them would hide the damage")
	for _, event := range []int64{2, 3} {
		outcomes, err := s.Write(t.Context(), []driver.Row{versionRow("a", 3, event, 9000)})
		require.NoError(t, err)
		require.Equal(t, []driver.Outcome{driver.Written}, outcomes)
	}
	got, err := storedVersion(t, s, "a", 2)
	require.NoError(t, err)
	require.Equal(t, versionRow("a", 3, 2, 0).Value, got)
}

// FuzzHistoryKey: no bytes break the sweep's parser, and what appendHistoryPrefix and appendVersion make comes apart again.
func FuzzHistoryKey(f *testing.F) {
	f.Add("user", []byte("k"), "v", int64(5), []byte{historyPrefix, 1, 'a'})
	f.Add("", []byte{0xff, 0x80}, "", int64(math.MinInt64), append([]byte{historyPrefix, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, mark...))
	f.Fuzz(func(t *testing.T, name string, key []byte, view string, event int64, other []byte) {
		prefix := appendHistoryPrefix(nil, driver.Entity{Name: name, Key: key}, view)
		gotPrefix, suffix, ok := cutHistoryKey(appendVersion(bytes.Clone(prefix), feature.EventTime(event)))
		if !ok || !bytes.Equal(gotPrefix, prefix) || int64(eventOf(suffix)) != event {
			t.Fatalf("%x %x %v", gotPrefix, suffix, ok)
		}
		if gotPrefix, suffix, ok = cutHistoryKey(append(bytes.Clone(prefix), mark...)); !ok || !bytes.Equal(gotPrefix, prefix) || !bytes.Equal(suffix, mark) {
			t.Fatalf("%x %x %v", gotPrefix, suffix, ok)
		}
		if len(other) > 0 {
			if p, s, ok := cutHistoryKey(other); ok && !bytes.Equal(append(bytes.Clone(p), s...), other) {
				t.Fatalf("%x came apart as %x and %x", other, p, s)
			}
		}
	})
}
