package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// TestProgressText: what a person reads while a training set of two parts is made, step by step.
func TestProgressText(t *testing.T) {
	const (
		reading   = twofoldv1.HistoricalProgress_PHASE_READING_ENTITIES
		waiting   = twofoldv1.HistoricalProgress_PHASE_WAITING_FOR_MEMORY
		scanning  = twofoldv1.HistoricalProgress_PHASE_SCANNING
		gathering = twofoldv1.HistoricalProgress_PHASE_GATHERING
		sending   = twofoldv1.HistoricalProgress_PHASE_SENDING
	)
	text := progressText{entityRows: 2_000_000}
	begin := time.Unix(0, 0)
	for _, step := range []struct {
		seconds  float64
		sent     int64
		received uint64
		server   *twofoldv1.HistoricalProgress
		want     string
	}{
		{0, 0, 0, nil, "reading 0 of 2.00M entity rows"},
		{0.4, 3 << 20, 0, &twofoldv1.HistoricalProgress{Phase: reading, EntityRows: 9_999}, "reading 9999 of 2.00M entity rows, 3 MiB sent"},
		{2, 40 << 20, 0, &twofoldv1.HistoricalProgress{Phase: reading, EntityRows: 400_000}, "reading 400k of 2.00M entity rows, 40 MiB sent, 200k rows/s, 8s left"},
		{3, 40 << 20, 0, &twofoldv1.HistoricalProgress{Phase: waiting}, "waiting for memory that other training sets use"},
		{4, 40 << 20, 0, &twofoldv1.HistoricalProgress{Phase: scanning, EntityRows: 2_000_000, FeatureRows: 10_000_000, Part: 1, Parts: 2},
			"part 1 of 2, 0 of 2.00M rows done, scanning 0 of 10.0M feature rows, 0 matched"},
		{6, 40 << 20, 0, &twofoldv1.HistoricalProgress{Phase: scanning, EntityRows: 2_000_000, FeatureRows: 10_000_000, RowsScanned: 2_500_000, RowsMatched: 12_345, Part: 1, Parts: 2},
			"part 1 of 2, 0 of 2.00M rows done, 1.25M rows/s, 6s left, scanning 2.50M of 10.0M feature rows, 12.3k matched"},
		{7, 40 << 20, 0, &twofoldv1.HistoricalProgress{Phase: gathering, EntityRows: 2_000_000, FeatureRows: 10_000_000, RowGroupsLeft: 80, RowsMatched: 1_000_000, Part: 1, Parts: 2},
			"part 1 of 2, 0 of 2.00M rows done, reading values, 80 row groups left, 1.00M matched"},
		{8, 40 << 20, 0, &twofoldv1.HistoricalProgress{Phase: sending, EntityRows: 2_000_000, Part: 1, Parts: 2}, "part 1 of 2, 0 of 2.00M rows done, writing"},
		// Rows that have come say more than what the server last said.
		{9, 40 << 20, 500_000, &twofoldv1.HistoricalProgress{Phase: gathering, EntityRows: 2_000_000, Part: 1, Parts: 2}, "part 1 of 2, 500k of 2.00M rows done, 100k rows/s, 15s left, writing"},
		{10, 40 << 20, 1_000_000, &twofoldv1.HistoricalProgress{Phase: scanning, EntityRows: 2_000_000, RowsDone: 1_000_000, FeatureRows: 10_000_000, RowsScanned: 1, Part: 2, Parts: 2},
			"part 2 of 2, 1.00M of 2.00M rows done, 167k rows/s, 6s left, scanning 1 of 10.0M feature rows, 0 matched"},
	} {
		at := begin.Add(time.Duration(step.seconds * float64(time.Second)))
		require.Equal(t, step.want, text.at(at, client.Progress{BytesSent: step.sent, RowsReceived: step.received, Server: step.server}))
	}
	// One part, with nothing streamed.
	unknown := progressText{entityRows: -1}
	require.Equal(t, "reading 7 entity rows", unknown.at(begin, client.Progress{Server: &twofoldv1.HistoricalProgress{Phase: reading, EntityRows: 7}}))
	for i, want := range []string{"writing 0 of 3000 rows", "writing 1000 of 3000 rows, 1000 rows/s, 2s left", "writing 2000 of 3000 rows, 1000 rows/s, 1s left", "writing 3000 of 3000 rows, 1000 rows/s"} {
		server := &twofoldv1.HistoricalProgress{Phase: sending, EntityRows: 3000, RowsDone: uint64(i) * 1000, Part: 1, Parts: 1}
		require.Equal(t, want, unknown.at(begin.Add(time.Duration(i)*time.Second), client.Progress{Server: server}))
	}
	one := progressText{entityRows: -1}
	server := &twofoldv1.HistoricalProgress{Phase: scanning, FeatureRows: 100, Part: 1, Parts: 1}
	require.Equal(t, "scanning 0 of 100 feature rows, 0 matched", one.at(begin, client.Progress{Server: server}))
	server.RowsScanned, server.RowsMatched = 50, 2
	require.Equal(t, "scanning 50 of 100 feature rows, 2 matched, 50 rows/s, 1s left", one.at(begin.Add(time.Second), client.Progress{Server: server}))
}

func TestShortCount(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0", 9_999: "9999", 10_000: "10.0k", 99_949: "99.9k", 99_950: "100k", 999_499: "999k", 999_500: "1.00M", 1_234_567: "1.23M", 9_994_999: "9.99M", 9_995_000: "10.0M",
		999_499_999: "999M", 1_000_000_000: "1.00G", 1 << 40: "1.10T", 1 << 63: "9223372T",
	} {
		require.Equal(t, want, shortCount(n))
	}
}
