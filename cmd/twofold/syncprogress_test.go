package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/syncer"
)

// TestSyncProgress puts into words how far a run is: what it has read, then what it has written, each with its own rate.
func TestSyncProgress(t *testing.T) {
	var words syncProgress
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		progress syncer.Progress
		want     string
	}{
		{syncer.Progress{View: "v"}, "0 rows read"},
		{syncer.Progress{View: "v", RowsToRead: 100_000}, "0 of 100k rows read"},
		{syncer.Progress{View: "v", RowsRead: 20_000, RowsToRead: 100_000}, "20.0k of 100k rows read, 2000 rows/s, 40s left"},
		{syncer.Progress{View: "v", RowsRead: 90_000, RowsToRead: 100_000, RowsToWrite: 5000}, "0 of 5000 rows written"},
		{syncer.Progress{View: "v", RowsRead: 90_000, RowsToRead: 100_000, RowsWritten: 1000, RowsToWrite: 5000}, "1000 of 5000 rows written, 200 rows/s, 20s left"},
		{syncer.Progress{View: "w", RowsRead: 10, RowsToRead: 20}, "10 of 20 rows read"},
	} {
		require.Equal(t, c.want, words.at(now, c.progress))
		now = now.Add(5 * time.Second)
	}
}
