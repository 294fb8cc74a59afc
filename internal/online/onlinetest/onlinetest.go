// Package onlinetest is the one conformance suite of online stores. A backend's test calls Run with a way to open a fresh, empty store;
// the suite then holds the driver to the contract of driver.Driver, and online.Store on top of it to its own.
//
// Random tests print their seed.
package onlinetest

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

// Harness is what the suite needs of a backend.
type Harness struct {
	// Open returns a driver on an empty store of its own. The suite closes it.
	Open func(t *testing.T) driver.Driver
	// OpenTwo returns two drivers on one empty store of their own, as two processes have them. The suite closes them. nil is for stores that only
	// one can have open.
	OpenTwo func(t *testing.T) (a, b driver.Driver)
	// OpenFreezable returns a driver, whose calls are bounded to about a second, on a store of its own, and functions that make the store
	// stop answering and go on. nil needs an exception for "Frozen".
	OpenFreezable func(t *testing.T) (d driver.Driver, freeze, thaw func())
	// Exceptions are the parts of the suite that do not apply, by name, each with the reason.
	Exceptions map[string]string
}

// Run runs the whole suite.
func Run(t *testing.T, h Harness) {
	parts := []struct {
		name string
		run  func(t *testing.T, h Harness)
	}{
		{"Reads", testReads},
		{"NewestWins", testNewestWins},
		{"Oracle", testOracle},
		{"Races", testRaces},
		{"History", testHistory},
		{"Expiry", testExpiry},
		{"Remove", testRemove},
		{"Scan", testScan},
		{"Meta", testMeta},
		{"Swap", testSwap},
		{"Marks", testMarks},
		{"Cancelled", testCancelled},
		{"Frozen", testFrozen},
		{"Store", testStore},
	}
	used := map[string]bool{}
	for _, part := range parts {
		t.Run(part.name, func(t *testing.T) {
			if reason, ok := h.Exceptions[part.name]; ok {
				used[part.name] = true
				t.Skipf("declared exception: %s", reason)
			}
			part.run(t, h)
		})
	}
	for name := range h.Exceptions {
		if !used[name] && testing.Verbose() {
			t.Logf("the exception %q was not met", name)
		}
	}
}

// open opens a store for the test and closes it after.
func (h Harness) open(t *testing.T) driver.Driver {
	t.Helper()
	d := h.Open(t)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// openTwo opens a store for the test, twice where it can be, and closes it after.
func (h Harness) openTwo(t *testing.T) []driver.Driver {
	t.Helper()
	if h.OpenTwo == nil {
		return []driver.Driver{h.open(t)}
	}
	a, b := h.OpenTwo(t)
	t.Cleanup(func() { require.NoError(t, errors.Join(a.Close(), b.Close())) })
	return []driver.Driver{a, b}
}

// newRand returns a source of random numbers whose seed is printed where the test fails.
func newRand(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// schema is that of the suite's rows: one string, the payload.
var schema = &storedrow.Schema{Features: []storedrow.Feature{{Name: "payload", Type: feature.String}}}

// value returns an encoded row.
func value(event, created int64, payload string) []byte {
	c := feature.NewColumn(feature.String, 1)
	c.AppendString(payload)
	row, err := storedrow.AppendRow(nil, schema, feature.EventTime(event), feature.CreatedTime(created), []*feature.Column{c}, 0)
	if err != nil {
		panic(err)
	}
	return row
}

func tombstone(event, created int64) []byte {
	return storedrow.AppendTombstone(nil, feature.EventTime(event), feature.CreatedTime(created))
}

func entity(key string) driver.Entity { return driver.Entity{Name: "user", Key: []byte(key)} }

func row(key, view string, value []byte) driver.Row {
	return driver.Row{Entity: entity(key), View: view, Value: value}
}

// write writes rows in one call and returns their outcomes.
func write(t *testing.T, d driver.Driver, rows ...driver.Row) []driver.Outcome {
	t.Helper()
	outcomes, err := d.Write(t.Context(), rows)
	require.NoError(t, err)
	require.Len(t, outcomes, len(rows))
	return outcomes
}

// read returns the stored rows of one entity, nil for each that is not stored.
func read(t *testing.T, d driver.Driver, key string, views ...string) [][]byte {
	t.Helper()
	rows, err := d.Read(t.Context(), []driver.Read{{Entity: entity(key), Views: views}})
	require.NoError(t, err)
	require.Len(t, rows, len(views))
	return rows
}
