package feature

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// randomFixed appends values of any bits, nulls among them, to a column of fixed width.
func randomFixed(r *rand.Rand, t Type, rows int) *Column {
	c := NewColumn(t, rows)
	for range rows {
		if r.IntN(8) == 0 {
			c.AppendMissing(Null)
			continue
		}
		switch t {
		case Bool:
			c.AppendBool(r.IntN(2) == 1)
		case Int32:
			c.AppendInt32(int32(r.Uint32()))
		case Float:
			c.AppendFloat(math.Float32frombits(r.Uint32() &^ 0x7f800000)) // no NaN, which equals nothing
		case Double:
			c.AppendDouble(math.Float64frombits(r.Uint64() &^ (0x7ff << 52)))
		default:
			c.AppendInt64(int64(r.Uint64()))
		}
	}
	return c
}

// TestPackedEqualsTake packs columns of random types in shares, several at once, and takes rows from all over.
func TestPackedEqualsTake(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		types := make([]Type, r.IntN(12))
		for i := range types {
			types[i] = []Type{Bool, Int32, Int64, Timestamp, Float, Double}[r.IntN(6)]
		}
		rows := r.IntN(3 * packedBlock)
		p := NewPacked(types, rows+1)
		want := make([]*Column, len(types))
		for i, typ := range types {
			want[i] = NewColumn(typ, rows)
		}
		all := make([]int, len(types))
		for i := range all {
			all[i] = i
		}
		var group sync.WaitGroup
		for first := 0; first < rows; {
			share := 1 + r.IntN(rows-first)
			columns := make([]*Column, len(types))
			for i, typ := range types {
				columns[i] = randomFixed(r, typ, share)
				want[i].AppendColumn(columns[i])
			}
			at := first
			split := r.IntN(len(types) + 1)
			group.Go(func() { p.Put(at, all[:split], columns[:split]) })
			group.Go(func() { p.Put(at, all[split:], columns[split:]) })
			first += share
		}
		group.Wait()
		p.SetStatus(rows, NotFound)
		places := make([]int, r.IntN(300))
		for i := range places {
			places[i] = r.IntN(rows + 1)
		}
		for i, typ := range types {
			want[i].AppendMissing(NotFound)
			got, expected := NewColumn(typ, 0), NewColumn(typ, 0)
			for range 2 {
				p.Take(got, i, places)
				expected.Take(want[i], places, Null)
			}
			if !got.Equal(expected) {
				t.Fatalf("types %v, column %d: got %v, want %v", types, i, got, expected)
			}
		}
		if len(types) > 0 && PackedBytes(types)%8 != 0 {
			t.Fatalf("%v: %d bytes a row", types, PackedBytes(types))
		}
	}
	if got := PackedBytes([]Type{Bool, Double, Int32}); got != 16 {
		t.Errorf("BOOL, DOUBLE and INT32 with three statuses take %d bytes, want 16", got)
	}
	if got := NewPacked([]Type{Bool, Double, Int32}, 0).offsets; !slices.Equal(got, []int{12, 0, 8}) {
		t.Errorf("offsets %v: values must not lie across words", got)
	}
}
