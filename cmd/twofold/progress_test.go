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
			"scanning 0 of 10.0M feature rows, 0 matched, part 1 of 2"},
		{6, 40 << 20, 0, &twofoldv1.HistoricalProgress{Phase: scanning, EntityRows: 2_000_000, FeatureRows: 10_000_000, RowsScanned: 2_500_000, RowsMatched: 12_345, Part: 1, Parts: 2},
			"scanning 2.50M of 10.0M feature rows, 12.3k matched, part 1 of 2, 1.25M rows/s, 6s left"},
		{7, 40 << 20, 0, &twofoldv1.HistoricalProgress{Phase: gathering, EntityRows: 2_000_000, FeatureRows: 10_000_000, RowGroupsLeft: 80, RowsMatched: 1_000_000, Part: 1, Parts: 2},
			"reading values, 80 row groups left, 1.00M matched, part 1 of 2"},
		{8, 40 << 20, 0, &twofoldv1.HistoricalProgress{Phase: sending, EntityRows: 2_000_000, Part: 1, Parts: 2}, "writing 0 of 2.00M rows, part 1 of 2"},
		// Rows that have come say more than what the server last said.
		{9, 40 << 20, 500_000, &twofoldv1.HistoricalProgress{Phase: gathering, EntityRows: 2_000_000, Part: 1, Parts: 2}, "writing 500k of 2.00M rows, part 1 of 2, 500k rows/s, 3s left"},
		{10, 40 << 20, 1_000_000, &twofoldv1.HistoricalProgress{Phase: scanning, EntityRows: 2_000_000, RowsDone: 1_000_000, FeatureRows: 10_000_000, RowsScanned: 1, Part: 2, Parts: 2},
			"scanning 1 of 10.0M feature rows, 0 matched, part 2 of 2"},
		// A server that writes itself.
		{12, 0, 0, &twofoldv1.HistoricalProgress{Phase: sending, EntityRows: 2_000_000, RowsDone: 1_000_000, Part: 1, Parts: 1}, "writing 1.00M of 2.00M rows"},
		{13, 0, 0, &twofoldv1.HistoricalProgress{Phase: sending, EntityRows: 2_000_000, RowsDone: 2_000_000, Part: 1, Parts: 1}, "writing 2.00M of 2.00M rows, 1.00M rows/s"},
	} {
		at := begin.Add(time.Duration(step.seconds * float64(time.Second)))
		require.Equal(t, step.want, text.at(at, client.Progress{BytesSent: step.sent, RowsReceived: step.received, Server: step.server}))
	}
	unknown := progressText{entityRows: -1}
	require.Equal(t, "reading 7 entity rows", unknown.at(begin, client.Progress{Server: &twofoldv1.HistoricalProgress{Phase: reading, EntityRows: 7}}))
}

func TestShortCount(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0", 9_999: "9999", 10_000: "10.0k", 99_949: "99.9k", 99_950: "100k", 999_499: "999k", 999_500: "1.00M", 1_234_567: "1.23M", 9_994_999: "9.99M", 9_995_000: "10.0M",
		999_499_999: "999M", 1_000_000_000: "1.00G", 1 << 40: "1.10T", 1 << 63: "9223372T",
	} {
		require.Equal(t, want, shortCount(n))
	}
}
