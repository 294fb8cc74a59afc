package storedrow

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// batchCheck holds what a Batch makes of rows against what Projection.Append makes of them.
type batchCheck struct {
	schema *Schema
	p      *Projection
	types  []feature.Type
	// good is a row that can be read.
	good []byte
}

// newBatchCheck reads rows of every type by a definition that has gained, lost, reordered and widened features since.
func newBatchCheck(t testing.TB, r *rand.Rand) *batchCheck {
	t.Helper()
	stored := append(allTypes(), Feature{"gone", feature.String}, Feature{"widened", feature.Int32}, Feature{"wide", feature.Int32}, Feature{"float", feature.Float})
	wanted := append([]Feature{{"float", feature.Double}, {"wide", feature.Double}, {"widened", feature.Int64}, {"new", feature.Int64List}}, allTypes()...)
	c := &batchCheck{schema: &Schema{Features: stored}}
	var err error
	if c.p, err = NewProjection("v", c.schema, wanted); err != nil {
		t.Fatal(err)
	}
	for _, w := range wanted {
		c.types = append(c.types, w.Type)
	}
	c.good = c.row(t, r)
	return c
}

// row is a row that can be read, and that is not compressed.
func (c *batchCheck) row(t testing.TB, r *rand.Rand) []byte {
	t.Helper()
	for {
		row, err := AppendRow(nil, c.schema, 1, 2, randomRow(r, c.schema.Features), 0)
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := parseCanonical(row); ok && m.compression == compressionNone {
			return row
		}
	}
}

// check puts a row between two others. It is not taken, or the batch has an error where Projection.Append has one, or both give the same. It reports
// whether the batch gave the row's values.
func (c *batchCheck) check(t testing.TB, row []byte, status feature.Status) bool {
	t.Helper()
	want := feature.NewColumns(c.types, 0)
	if err := c.p.Append(c.good, want); err != nil {
		t.Fatal(err)
	}
	wantErr := c.p.Append(row, want)
	before := slices.Clone(row)
	b, got := &Batch{}, feature.NewColumns(c.types, 0)
	if !b.Add(c.p, c.good, feature.Present) {
		t.Fatal("an ordinary row is not taken")
	}
	if !b.Add(c.p, row, status) {
		if b.Len() != 1 {
			t.Fatal("a row that is not taken is there")
		}
		return false
	}
	b.AddMissing(feature.NotFound)
	err := b.AppendTo(got)
	if !slices.Equal(before, row) {
		t.Fatal("the row was changed")
	}
	if err != nil || wantErr != nil {
		if err == nil || wantErr == nil || fault.KindOf(err) != fault.Corrupt || fault.KindOf(wantErr) != fault.Corrupt {
			t.Fatalf("row by row: %v; as a batch: %v", wantErr, err)
		}
		return false
	}
	for _, column := range want {
		if column.Status[1] == feature.Present {
			column.Status[1] = status
		}
		column.AppendMissing(feature.NotFound)
	}
	for i := range want {
		if !want[i].Equal(got[i]) { // by bits: a NaN is itself
			t.Fatalf("feature %d, row by row and as a batch:\n%s", i, cmp.Diff(want[i], got[i]))
		}
	}
	return true
}

// damage changes a row as a bad disk, another writer or a bug could, more often within its slots than elsewhere.
func damage(r *rand.Rand, row []byte) []byte {
	row = slices.Clone(row)
	for range 1 + r.IntN(3) {
		if len(row) == 0 {
			return row
		}
		at := r.IntN(len(row))
		switch r.IntN(6) {
		case 0:
			row[at] ^= 1 << r.IntN(8)
		case 1:
			row[at] = byte(r.Uint32())
		case 2:
			row = row[:at]
		case 3:
			row = slices.Insert(row, at, byte(r.Uint32()))
		default: // a slot, or what stands there
			if at = headerSize + r.IntN(200); at+8 <= len(row) {
				binary.LittleEndian.PutUint64(row[at:], anyBits(r)>>(8*r.IntN(8)))
			}
		}
	}
	return row
}

// TestBatchOfDamagedRows damages rows in many ways.
func TestBatchOfDamagedRows(t *testing.T) {
	r := newRand(t)
	c := newBatchCheck(t, r)
	rounds, read := 4_000, 0
	if testing.Short() || raceEnabled {
		rounds = 400
	}
	var row []byte
	for i := range rounds {
		if i%20 == 0 {
			row = c.row(t, r)
		}
		status := feature.Present
		if r.IntN(4) == 0 {
			status = feature.Expired
		}
		if c.check(t, damage(r, row), status) {
			read++
		}
	}
	if read == 0 || read == rounds {
		t.Errorf("%d of %d damaged rows were read, so the test has tested little", read, rounds)
	}
}

// FuzzBatch adds any bytes to a batch.
func FuzzBatch(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	c := newBatchCheck(f, r)
	for i := range 40 {
		row := c.row(f, r)
		if i%2 == 0 {
			row = damage(r, row)
		}
		if len(row) < 4096 { // the fuzzer is slow with long ones
			f.Add(row, i%3 == 0)
		}
	}
	f.Add(AppendTombstone(nil, 1, 1), false)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, row []byte, expired bool) {
		status := feature.Present
		if expired {
			status = feature.Expired
		}
		c.check(t, row, status)
	})
}
