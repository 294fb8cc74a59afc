package storedrow

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/twofold-ml/twofold/internal/feature"
)

// TestBatchIsAppendRowByRow: column by column or row by row, the result is the same, for rows of every type, missing ones among them, read under a
// schema that has gained, lost and widened features.
func TestBatchIsAppendRowByRow(t *testing.T) {
	r := newRand(t)
	stored := append(allTypes(), Feature{"gone", feature.Double}, Feature{"widened", feature.Int32}, Feature{"wide", feature.Int32}, Feature{"float", feature.Float})
	wanted := append(allTypes(), Feature{"new", feature.String}, Feature{"widened", feature.Int64}, Feature{"wide", feature.Double}, Feature{"float", feature.Double})
	schema := &Schema{Features: stored}
	p, err := NewProjection("v", schema, wanted)
	if err != nil {
		t.Fatal(err)
	}
	types := make([]feature.Type, len(wanted))
	for i, w := range wanted {
		types[i] = w.Type
	}
	b := &Batch{}
	for range 200 {
		rows := r.IntN(20)
		want, got := feature.NewColumns(types, rows), feature.NewColumns(types, rows)
		b.Reset()
		for range rows {
			cols := newColumns(stored)
			for _, c := range cols {
				appendRandom(r, c)
			}
			row := encode(t, schema, 1, 1, cols)
			status := []feature.Status{feature.Present, feature.Present, feature.Expired, feature.NotFound, feature.Unavailable}[r.IntN(5)]
			if status == feature.Present && !b.Add(p, row, status) {
				status = feature.NotFound // a compressed one is not for a batch
			}
			if status == feature.Present {
				if err := p.Append(row, want); err != nil {
					t.Fatal(err)
				}
				continue
			}
			b.AddMissing(status)
			for _, c := range want {
				c.AppendMissing(status)
			}
		}
		if err := b.AppendTo(got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" || b.Len() != rows {
			t.Fatalf("%d rows: %s", b.Len(), diff)
		}
	}
}

// TestBatchMarksExpired: values of a row that is expired have that status; its nulls stay null.
func TestBatchMarksExpired(t *testing.T) {
	features := []Feature{{"a", feature.Double}, {"s", feature.String}, {"n", feature.Double}}
	cols := newColumns(features)
	cols[0].AppendDouble(1.5)
	cols[1].AppendString("x")
	cols[2].AppendMissing(feature.Null)
	schema := &Schema{Features: features}
	p, err := NewProjection("v", schema, features)
	if err != nil {
		t.Fatal(err)
	}
	b, dst := &Batch{}, newColumns(features)
	if !b.Add(p, encode(t, schema, 1, 1, cols), feature.Expired) {
		t.Fatal("an ordinary row is not taken")
	}
	if err := b.AppendTo(dst); err != nil {
		t.Fatal(err)
	}
	if dst[0].Status[0] != feature.Expired || dst[0].Doubles[0] != 1.5 || dst[1].Status[0] != feature.Expired || dst[1].StringAt(0) != "x" || dst[2].Status[0] != feature.Null {
		t.Errorf("%+v %+v %+v", dst[0], dst[1], dst[2])
	}
}

// TestBatchLeavesTheUnusual: what is not taken is what Projection.Append must judge.
func TestBatchLeavesTheUnusual(t *testing.T) {
	features := []Feature{{"b", feature.Bool}}
	cols := newColumns(features)
	cols[0].AppendBool(true)
	schema := &Schema{Features: features}
	p, err := NewProjection("v", schema, features)
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewProjection("v", schema, features)
	if err != nil {
		t.Fatal(err)
	}
	row := encode(t, schema, 1, 1, cols)
	b := &Batch{}
	if !b.Add(p, row, feature.Present) || b.Add(other, row, feature.Present) {
		t.Error("rows of two projections are taken together")
	}
	for name, bytes := range map[string][]byte{
		"empty": nil, "cut": row[:len(row)-1], "tombstone": AppendTombstone(nil, 1, 1), "longer": append(append([]byte{}, row...), 0),
	} {
		if b.Add(p, bytes, feature.Present) {
			t.Errorf("%s: taken", name)
		}
	}
	broken := append([]byte{}, row...)
	broken[headerSize+2]++ // the slot of a BOOL is 2
	b.Reset()
	if !b.Add(p, broken, feature.Present) || b.AppendTo(newColumns(features)) == nil {
		t.Error("a BOOL of 2 is no error")
	}
}

func BenchmarkBatch(b *testing.B) {
	r := newRand(b)
	features := make([]Feature, 10)
	for i := range features {
		features[i] = Feature{string(rune('a' + i)), feature.Double}
	}
	cols := newColumns(features)
	for _, c := range cols {
		appendRandom(r, c)
	}
	schema := &Schema{Features: features}
	row, err := AppendRow(nil, schema, 1, 1, cols, 0)
	if err != nil {
		b.Fatal(err)
	}
	p, err := NewProjection("v", schema, features)
	if err != nil {
		b.Fatal(err)
	}
	dst := newColumns(features)
	reset := func() {
		for _, c := range dst {
			c.Reset()
		}
	}
	b.Run("row by row", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			reset()
			for range 100 {
				if err := p.Append(row, dst); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("batch", func(b *testing.B) {
		b.ReportAllocs()
		batch := &Batch{}
		for b.Loop() {
			reset()
			batch.Reset()
			for range 100 {
				batch.Add(p, row, feature.Present)
			}
			if err := batch.AppendTo(dst); err != nil {
				b.Fatal(err)
			}
		}
	})
}
