package onlinetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

func testScan(t *testing.T, h Harness) {
	for name, test := range map[string]func(t *testing.T, d driver.Driver){
		"whose rows":              testScanWhose,
		"keys that would collide": testScanColliding,
		"versions":                testScanVersions,
		"expiry":                  testScanExpiry,
		"many rows":               testScanMany,
		"many versions":           testScanManyVersions,
		"ended by the caller":     testScanEnded,
		"removing what it finds":  testScanAndRemove,
		"beside writers":          testScanBesideWriters,
	} {
		t.Run(name, func(t *testing.T) { test(t, h.open(t)) })
	}
}

// scanned is what a scan found: how often a row was yielded.
type scanned map[scannedRow]int

// scannedRow is a driver.ScannedRow that can be a key.
type scannedRow struct {
	key, value string
	expire     int64
}

// scan returns all rows of a scan; more is called for each batch where it is not nil.
func scan(t *testing.T, d driver.Driver, s driver.Scan, more func(rows []driver.ScannedRow)) scanned {
	t.Helper()
	found := scanned{}
	require.NoError(t, d.Scan(t.Context(), s, func(rows []driver.ScannedRow) error {
		for _, r := range rows {
			found[scannedRow{string(r.Key), string(r.Value), r.ExpireAtMillis}]++
		}
		if more != nil {
			more(rows)
		}
		return nil
	}))
	return found
}

// requireScanned checks that a scan finds these rows, each at least once, and no others.
func requireScanned(t *testing.T, d driver.Driver, s driver.Scan, want ...driver.Row) {
	t.Helper()
	wanted, found := scanned{}, scan(t, d, s, nil)
	for _, r := range want {
		wanted[scannedRow{string(r.Entity.Key), string(r.Value), r.ExpireAtMillis}] = 1
	}
	for r := range found {
		found[r] = 1
	}
	require.Equal(t, wanted, found, "%+v", s)
}

var usersV = driver.Scan{Entity: "user", View: "v"}

func testScanWhose(t *testing.T, d driver.Driver) {
	requireScanned(t, d, usersV)
	var all []driver.Row
	for _, name := range []string{"user", "use", "user2", "s"} {
		for _, view := range []string{"v", "v@7", "v@77"} {
			for n := range 2 {
				for _, key := range []string{"a", "b", ""} {
					all = append(all, driver.Row{
						Entity: driver.Entity{Name: name, Key: []byte(key)}, View: view, Value: value(1, 0, fmt.Sprint(name, view, n, key)), Versions: n,
					})
				}
			}
		}
	}
	write(t, d, all...)
	require.NoError(t, d.PutMeta(t.Context(), "user:v", value(1, 0, "meta")))
	for rows := range slices.Chunk(all, 3) {
		requireScanned(t, d, driver.Scan{Entity: rows[0].Entity.Name, View: rows[0].View, History: rows[0].Versions > 0}, rows...)
	}
	for _, s := range []driver.Scan{{Entity: "nobody", View: "v"}, {Entity: "user", View: "v@"}, {Entity: "user", View: "*"}, {Entity: "use?", View: "v"}, {Entity: "[u]ser", View: "v"}, {Entity: "*", View: "v"}} {
		requireScanned(t, d, s)
		s.History = true
		requireScanned(t, d, s)
	}
}

func testScanColliding(t *testing.T, d driver.Driver) {
	byScan := map[driver.Scan][]driver.Row{}
	for i, e := range collidingEntities {
		for _, view := range collidingViews {
			for n := range 2 {
				r := driver.Row{Entity: e, View: view, Value: value(1, 0, fmt.Sprint(i, view, n)), Versions: n}
				s := driver.Scan{Entity: e.Name, View: view, History: n > 0}
				byScan[s] = append(byScan[s], r)
				write(t, d, r)
			}
		}
	}
	for s, rows := range byScan {
		requireScanned(t, d, s, rows...)
	}
}

func testScanVersions(t *testing.T, d driver.Driver) {
	var kept []driver.Row
	for _, event := range moments {
		kept = append(kept, version("a", len(moments), value(event, 0, "")))
	}
	write(t, d, kept...)
	for event := range int64(5) { // of which three are dropped
		write(t, d, version("b", 2, value(event, 0, "")))
	}
	kept = append(kept, version("b", 2, value(3, 0, "")), version("b", 2, value(4, 0, "")), version("c", 1, tombstone(9, 9)))
	write(t, d, kept[len(kept)-1], row("a", "v", value(1, 0, "latest")))
	requireScanned(t, d, driver.Scan{Entity: "user", View: "v", History: true}, kept...)
	requireScanned(t, d, usersV, row("a", "v", value(1, 0, "latest")))
}

func testScanExpiry(t *testing.T, d driver.Driver) {
	now := time.Now()
	past, future, later := now.Add(-time.Hour).UnixMilli(), now.Add(time.Hour).UnixMilli(), now.Add(2*time.Hour).UnixMilli()
	const farFuture = 253402300799_000 // the end of the year 9999
	at := func(r driver.Row, expire int64) driver.Row {
		r.ExpireAtMillis = expire
		return r
	}
	want := []driver.Row{at(row("future", "v", value(1, 0, "")), future), at(row("never", "v", value(1, 0, "")), 0), at(row("far", "v", value(1, 0, "")), farFuture)}
	write(t, d, append(want, at(row("past", "v", value(1, 0, "")), past))...)
	requireScanned(t, d, usersV, want...)

	version := func(key string, event, expire int64) driver.Row {
		return at(version(key, 5, value(event, 0, "")), expire)
	}
	write(t, d, version("past", 1, past), version("both", 1, future), version("both", 2, later), version("both", 3, future), version("ever", 1, 0), version("ever", 2, future))
	requireScanned(t, d, driver.Scan{Entity: "user", View: "v", History: true},
		version("both", 1, later), version("both", 2, later), version("both", 3, later), version("ever", 1, 0), version("ever", 2, 0))
}

// scanBatch is the most rows that a scan may yield at a time in the tests.
const scanBatch = 3000

func testScanMany(t *testing.T, d driver.Driver) {
	const n = 5000
	var rows, others []driver.Row
	for i := range n {
		rows = append(rows, row(fmt.Sprint("many", i), "v", value(int64(i), 0, "")))
		others = append(others, row(fmt.Sprint(i%2, "many", i), "w", value(0, 0, "")))
	}
	write(t, d, rows...)
	write(t, d, others...)
	write(t, d, row("last", "x", value(0, 0, "x")))
	var kept [][]driver.ScannedRow
	found := scan(t, d, usersV, func(rows []driver.ScannedRow) {
		require.NotEmpty(t, rows)
		require.LessOrEqual(t, len(rows), scanBatch)
		kept = append(kept, rows)
	})
	require.Len(t, found, n)
	for _, rows := range kept { // the caller may keep them
		for _, r := range rows {
			require.Positive(t, found[scannedRow{string(r.Key), string(r.Value), 0}])
		}
	}
	for _, r := range rows {
		require.Positive(t, found[scannedRow{string(r.Entity.Key), string(r.Value), 0}], "%s", r.Entity.Key)
	}
	requireScanned(t, d, driver.Scan{Entity: "user", View: "x"}, row("last", "x", value(0, 0, "x")))
}

func testScanManyVersions(t *testing.T, d driver.Driver) {
	const entities, each = 300, 30
	var rows []driver.Row
	for e := range entities {
		for v := range each {
			rows = append(rows, version(fmt.Sprint("many", e), each, value(int64(v), 0, "")))
		}
	}
	write(t, d, rows...)
	requireScanned(t, d, driver.Scan{Entity: "user", View: "v", History: true}, rows...)
	scan(t, d, driver.Scan{Entity: "user", View: "v", History: true}, func(rows []driver.ScannedRow) {
		require.LessOrEqual(t, len(rows), scanBatch)
	})
}

func testScanEnded(t *testing.T, d driver.Driver) {
	var rows []driver.Row
	for i := range 5000 {
		rows = append(rows, row(fmt.Sprint(i), "v", value(0, 0, "")))
	}
	write(t, d, rows...)
	enough, calls := errors.New("enough"), 0
	err := d.Scan(t.Context(), usersV, func([]driver.ScannedRow) error {
		calls++
		return enough
	})
	require.Equal(t, enough, err, "as it is")
	require.Equal(t, 1, calls)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err = d.Scan(ctx, usersV, func([]driver.ScannedRow) error {
		cancel()
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Len(t, scan(t, d, usersV, nil), len(rows))
}

// testScanAndRemove removes every row while it is scanned: what was there at the beginning is all found.
func testScanAndRemove(t *testing.T, d driver.Driver) {
	for versions, s := range []driver.Scan{usersV, {Entity: "user", View: "v", History: true}} {
		var rows []driver.Row
		for i := range 3000 {
			r := row(fmt.Sprint(i), "v", value(0, 0, ""))
			r.Versions = versions
			rows = append(rows, r)
		}
		write(t, d, rows...)
		removed := 0
		scan(t, d, s, func(found []driver.ScannedRow) {
			var removals []driver.Removal
			for _, r := range found {
				removals = append(removals, driver.Removal{Entity: driver.Entity{Name: "user", Key: r.Key}, View: "v", History: s.History})
			}
			removed += remove(t, d, removals...)
		})
		require.Equal(t, len(rows), removed)
		requireScanned(t, d, s)
	}
}

// testScanBesideWriters: rows that are there all the time are found, whatever others come and go, and however often they are written anew.
func testScanBesideWriters(t *testing.T, d driver.Driver) {
	const n = 1000
	var stay, come []driver.Row
	var go_ []driver.Removal
	for i := range n {
		stay = append(stay, row(fmt.Sprint("stay", i), "v", value(0, 0, fmt.Sprint(i))))
	}
	for i := range 4 * n { // many, so that the store's tables grow and shrink
		r := row(fmt.Sprint("come", i), "v", value(0, 0, ""))
		come, go_ = append(come, r), append(go_, driver.Removal{Entity: r.Entity, View: r.View})
	}
	write(t, d, stay...)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() {
		for event := int64(1); ; event++ {
			for i := range stay {
				stay[i].Value = value(event, 0, fmt.Sprint(i))
			}
			for _, rows := range [][]driver.Row{come, stay} {
				if _, err := d.Write(ctx, rows); err != nil {
					ended <- err
					return
				}
			}
			if _, err := d.Remove(ctx, go_); err != nil {
				ended <- err
				return
			}
		}
	}()
	for range 3 {
		seen := map[string]bool{}
		err := d.Scan(t.Context(), usersV, func(rows []driver.ScannedRow) error {
			for _, r := range rows {
				if _, err := storedrow.ParseHeader(r.Value); err != nil {
					return err
				}
				seen[string(r.Key)] = true
			}
			return nil
		})
		require.NoError(t, err)
		for i := range n {
			require.True(t, seen[fmt.Sprint("stay", i)], "stay%d", i)
		}
	}
	stop()
	require.ErrorIs(t, <-ended, context.Canceled)
}
