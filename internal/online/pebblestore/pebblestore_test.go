package pebblestore

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/online/onlinetest"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

const noFrozen = "an embedded store is in this process: there is nobody to stop answering"

func TestConformance(t *testing.T) {
	for name, inMemory := range map[string]bool{"on disk": false, "in memory": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onlinetest.Run(t, onlinetest.Harness{
				Open: func(t *testing.T) driver.Driver {
					s, err := Open(Options{Path: t.TempDir(), InMemory: inMemory})
					require.NoError(t, err)
					return s
				},
				Exceptions: map[string]string{"Frozen": noFrozen},
			})
		})
	}
}

func tombstoneRow(key string, event int64, expire int64) driver.Row {
	return driver.Row{
		Entity: driver.Entity{Name: "user", Key: []byte(key)}, View: "v", Value: storedrow.AppendTombstone(nil, feature.EventTime(event), 0), ExpireAtMillis: expire,
	}
}

func stored(t *testing.T, s *Store, key string) []byte {
	t.Helper()
	rows, err := s.Read(t.Context(), []driver.Read{{Entity: driver.Entity{Name: "user", Key: []byte(key)}, Views: []string{"v"}}})
	require.NoError(t, err)
	return rows[0]
}

// TestSweep moves an injected clock: a row is there up to its time, gone from then on, and removed by the next sweep.
func TestSweep(t *testing.T) {
	var clock atomic.Int64
	s, err := Open(Options{InMemory: true, SweepInterval: -1, Now: func() time.Time { return time.UnixMilli(clock.Load()) }})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	var rows []driver.Row
	const n = 2*sweepStep + 10
	for i := range n {
		rows = append(rows, tombstoneRow(string(rune('a'))+strings.Repeat("x", i%7)+time.Duration(i).String(), 0, 1000+int64(i%2)))
	}
	rows = append(rows, tombstoneRow("never", 0, 0))
	_, err = s.Write(t.Context(), rows)
	require.NoError(t, err)
	require.NoError(t, s.PutMeta(t.Context(), "kept", []byte("x")))

	sweep := func(at int64) int {
		clock.Store(at)
		removed, err := s.Sweep(t.Context())
		require.NoError(t, err)
		return removed
	}
	require.Zero(t, sweep(999))
	require.NotNil(t, stored(t, s, string(rows[0].Entity.Key)))
	clock.Store(1000)
	require.Nil(t, stored(t, s, string(rows[0].Entity.Key)), "at its time a row is gone, swept or not")
	require.NotNil(t, stored(t, s, string(rows[1].Entity.Key)))
	require.Equal(t, n/2, sweep(1000))
	require.Equal(t, n/2, sweep(5000))
	require.Zero(t, sweep(5000))
	require.NotNil(t, stored(t, s, "never"))
	kept, err := s.GetMeta(t.Context(), []string{"kept"})
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("x")}, kept)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Write(t.Context(), []driver.Row{tombstoneRow("late", 0, 1)})
	require.NoError(t, err)
	for i := range checkEvery {
		_, err = s.Write(t.Context(), []driver.Row{tombstoneRow("more"+time.Duration(i).String(), 0, 1)})
		require.NoError(t, err)
	}
	_, err = s.Sweep(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

// TestSweepSparesRowsThatCameMeanwhile: between finding a row and removing it, a writer may have replaced it.
func TestSweepSparesRowsThatCameMeanwhile(t *testing.T) {
	s, err := Open(Options{InMemory: true, SweepInterval: -1, Now: func() time.Time { return time.UnixMilli(5000) }})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	_, err = s.Write(t.Context(), []driver.Row{tombstoneRow("renewed", 0, 1000), tombstoneRow("expired", 0, 1000)})
	require.NoError(t, err)
	found, _, err := s.findExpired(t.Context(), []byte{rowPrefix})
	require.NoError(t, err)
	require.Len(t, found, 2)
	_, err = s.Write(t.Context(), []driver.Row{tombstoneRow("renewed", 1, 9000)})
	require.NoError(t, err)
	removed, err := s.remove(t.Context(), found)
	require.NoError(t, err)
	require.Equal(t, 1, removed)
	require.NotNil(t, stored(t, s, "renewed"))
}

// TestDurable crashes the file system after a write returned: what is not on disk is lost, and nothing may be.
func TestDurable(t *testing.T) {
	disk := vfs.NewCrashableMem()
	s, err := Open(Options{Path: "db", SweepInterval: -1, fs: disk})
	require.NoError(t, err)
	removed := tombstoneRow("removed", 0, 0)
	_, err = s.Write(t.Context(), []driver.Row{tombstoneRow("a", 0, 0), removed})
	require.NoError(t, err)
	_, err = s.Remove(t.Context(), []driver.Removal{{Entity: removed.Entity, View: removed.View}})
	require.NoError(t, err)
	require.NoError(t, s.PutMeta(t.Context(), "m", []byte("x")))
	swapped, err := s.SwapMeta(t.Context(), "m", []byte("x"), []byte("y"))
	require.NoError(t, err)
	require.True(t, swapped)
	crashed := disk.CrashClone(vfs.CrashCloneCfg{})
	require.NoError(t, s.Close())

	s, err = Open(Options{Path: "db", SweepInterval: -1, fs: crashed})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	require.NotNil(t, stored(t, s, "a"))
	require.Nil(t, stored(t, s, "removed"))
	meta, err := s.GetMeta(t.Context(), []string{"m"})
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("y")}, meta)
}

func TestReopened(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "when missing")
	s, err := Open(Options{Path: dir})
	require.NoError(t, err)
	_, err = s.Write(t.Context(), []driver.Row{tombstoneRow("a", 0, 0)})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	s, err = Open(Options{Path: dir})
	require.NoError(t, err)
	require.NotNil(t, stored(t, s, "a"))
	require.NoError(t, s.Close())
}

// TestLocked opens a folder twice: in this process, and in another one, which is this test binary with holdVariable set.
func TestLocked(t *testing.T) {
	if dir := os.Getenv(holdVariable); dir != "" {
		_, err := Open(Options{Path: dir})
		require.Error(t, err)
		os.Stdout.WriteString(fault.KindOf(err).String() + ": " + err.Error())
		return
	}
	dir := t.TempDir()
	s, err := Open(Options{Path: dir})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	_, err = Open(Options{Path: dir})
	require.Equal(t, fault.Precondition, fault.KindOf(err), "%v", err)
	require.ErrorContains(t, err, "another twofold process has the embedded store")

	other := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLocked$")
	other.Env = append(os.Environ(), holdVariable+"="+dir)
	out, err := other.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "precondition: another twofold process has the embedded store")
	require.Contains(t, string(out), dir)
}

const holdVariable = "PEBBLESTORE_TEST_FOLDER"

func TestOpenErrors(t *testing.T) {
	_, err := Open(Options{})
	require.Equal(t, fault.Invalid, fault.KindOf(err))
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = Open(Options{Path: file})
	require.Equal(t, fault.Precondition, fault.KindOf(err), "%v", err)
	require.ErrorContains(t, err, file)
}
