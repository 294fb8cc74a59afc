package syncer_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/pit"
	"github.com/twofold-ml/twofold/server/servertest"
	"github.com/twofold-ml/twofold/syncer"
)

// TestBadRows: two of four rows cannot be carried. What becomes of them is the policy's; the others are carried, unless it says that none are.
func TestBadRows(t *testing.T) {
	for name, c := range map[string]struct {
		sync        string
		want        string // of the error; empty for none
		quarantined int
	}{
		"skipped":            {sync: "{}"},
		"fail":               {sync: "{bad_rows: {policy: FAIL}}", want: "row 1 (counted from 0)"},
		"too many":           {sync: "{bad_rows: {max_share: 0.4}}", want: "2 of 4 rows cannot be carried, and sync.bad_rows.max_share allows 0.4 of them; for example row 1"},
		"few enough":         {sync: "{bad_rows: {max_share: 0.5}}"},
		"quarantine":         {sync: "{bad_rows: {policy: QUARANTINE}}", quarantined: 1},
		"quarantine beside":  {sync: "{bad_rows: {policy: QUARANTINE, quarantine_path: bad/v}}", quarantined: 1},
		"too far ahead":      {sync: "{bad_rows: {max_future: 1m, max_share: 0.5}}", want: "3 of 4 rows"},
		"not too far ahead":  {sync: "{bad_rows: {max_future: 2h}}"},
		"too many put aside": {sync: "{bad_rows: {policy: QUARANTINE, max_share: 0.1}}", want: "2 of 4 rows"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			new(servertest.Table).Add("user_id", feature.Int64, 1, nil, 3, 4).Add("at", feature.Timestamp, at(0), at(0), nil, at(3_600_000_000_000)).
				Add("x", feature.Int64, 10, 20, 30, 40).WriteParquet(t, filepath.Join(dir, "v", "a.parquet"))
			clock := &clock{}
			env := servertest.Start(t, servertest.Config{Offline: offline.Config{Path: dir}, Now: clock.Now, Definitions: `
entities: [{name: user, keys: [{name: user_id, type: INT64}]}]
feature_views:
  - name: v
    entity: user
    source: {path: v, event_time_column: at}
    sync: ` + c.sync + `
    features: [{name: x, type: INT64}]
`})
			reports, err := env.Syncer.RunOnce(t.Context(), syncer.Request{})
			require.Len(t, reports, 1)
			r := reports[0]
			require.Len(t, r.QuarantineFiles, c.quarantined)
			if c.want != "" {
				require.ErrorContains(t, err, c.want)
				require.Equal(t, fault.Precondition, fault.KindOf(err))
				require.Zero(t, r.Written)
				return
			}
			require.NoError(t, err)
			require.Equal(t, pit.BadCounts{pit.NullKey: 1, pit.NullEventTime: 1}, r.RowsBad)
			require.EqualValues(t, 1, r.Written)
			require.EqualValues(t, 1, r.RowsFuture)
			require.Equal(t, r.RowsRead, r.RowsBad.Total()+r.RowsFuture+r.RowsExpired+r.RowsSuperseded+r.Versions)
			require.Equal(t, map[string]uint64{"null_key": 1, "null_event_time": 1}, r.Run().GetRowsBad())
			again, err := env.Syncer.RunOnce(t.Context(), syncer.Request{})
			require.NoError(t, err)
			require.Zero(t, again[0].FilesRead, "neither the file nor what was put aside is read again: %v", again[0])
		})
	}
}

// TestQuarantineOfLaterFiles: where a file that was carried before is looked at again, for rows of equal times, its bad rows are not put aside again.
func TestQuarantineOfLaterFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, x int) {
		new(servertest.Table).Add("user_id", feature.Int64, 1, nil).Add("at", feature.Timestamp, at(0), at(0)).
			Add("x", feature.Int64, x, x).WriteParquet(t, filepath.Join(dir, "v", name))
	}
	env := servertest.Start(t, servertest.Config{Offline: offline.Config{Path: dir}, Now: (&clock{}).Now, Definitions: `
entities: [{name: user, keys: [{name: user_id, type: INT64}]}]
feature_views:
  - name: v
    entity: user
    source: {path: v, event_time_column: at}
    sync: {bad_rows: {policy: QUARANTINE}}
    features: [{name: x, type: INT64}]
`})
	run := func() syncer.Report {
		t.Helper()
		reports, err := env.Syncer.RunOnce(t.Context(), syncer.Request{})
		require.NoError(t, err)
		return reports[0]
	}
	write("b.parquet", 20)
	require.Len(t, run().QuarantineFiles, 1)
	write("a.parquet", 10)
	second := run()
	require.EqualValues(t, 1, second.FilesRead)
	require.Len(t, second.QuarantineFiles, 1, "%v", second)
	require.Contains(t, second.QuarantineFiles[0], "-a-")
	require.EqualValues(t, 0, second.Written, "the row of b.parquet has the same time and stays")
}
