package storedrow

import (
	"fmt"
	"testing"

	"github.com/twofold-ml/twofold/internal/feature"
)

func numbers(n int) ([]Feature, []*feature.Column) {
	features := make([]Feature, n)
	types := []feature.Type{feature.Bool, feature.Int32, feature.Int64, feature.Float, feature.Double, feature.Timestamp}
	for i := range features {
		features[i] = Feature{fmt.Sprintf("f%d", i), types[i%len(types)]}
	}
	return features, newColumns(features)
}

// TestNoAllocations holds the reader to its promise: once the columns have room, a row costs no allocation.
func TestNoAllocations(t *testing.T) {
	r := newRand(t)
	features, cols := numbers(48)
	features = append(features, Feature{"s", feature.String}, Feature{"e", feature.FloatList})
	cols = append(cols, newColumns(features[48:])...)
	for _, c := range cols {
		appendRandom(r, c)
	}
	schema := &Schema{Features: features}
	row := encode(t, schema, 1, 1, cols)
	p, err := NewProjection("v", schema, features[:49])
	if err != nil {
		t.Fatal(err)
	}
	dst := newColumns(features[:49])
	allocs := testing.AllocsPerRun(100, func() {
		for _, c := range dst {
			c.Reset()
		}
		if _, err := ParseHeader(row); err != nil {
			t.Fatal(err)
		}
		if err := p.Append(row, dst); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 && !raceEnabled {
		t.Errorf("%v allocations a row", allocs)
	}
	buffer := make([]byte, 0, 2*len(row))
	allocs = testing.AllocsPerRun(100, func() { buffer, _ = AppendRow(buffer[:0], schema, 1, 1, cols, 0) })
	if allocs > 0 && !raceEnabled {
		t.Errorf("%v allocations to encode a row", allocs)
	}
}

func benchmarkShapes(b *testing.B, run func(b *testing.B, features []Feature, cols []*feature.Column)) {
	r := newRand(b)
	fill := func(features []Feature, cols []*feature.Column) ([]Feature, []*feature.Column) {
		for _, c := range cols {
			if c.Type == feature.FloatList {
				c.AppendList(func(e *feature.Column) {
					for range 1536 {
						e.AppendFloat(r.Float32())
					}
				})
			} else {
				appendRandom(r, c)
			}
		}
		return features, cols
	}
	for _, n := range []int{10, 50} {
		b.Run(fmt.Sprintf("numbers=%d", n), func(b *testing.B) {
			features, cols := fill(numbers(n))
			run(b, features, cols)
		})
	}
	b.Run("embedding=1536", func(b *testing.B) {
		features := []Feature{{"e", feature.FloatList}}
		features, cols := fill(features, newColumns(features))
		run(b, features, cols)
	})
}

func BenchmarkEncode(b *testing.B) {
	benchmarkShapes(b, func(b *testing.B, features []Feature, cols []*feature.Column) {
		schema := &Schema{Features: features}
		var buffer []byte
		b.ReportAllocs()
		for b.Loop() {
			buffer, _ = AppendRow(buffer[:0], schema, 1, 1, cols, 0)
		}
		b.SetBytes(int64(len(buffer)))
	})
}

func BenchmarkDecode(b *testing.B) {
	benchmarkShapes(b, func(b *testing.B, features []Feature, cols []*feature.Column) {
		schema := &Schema{Features: features}
		row := encode(b, schema, 1, 1, cols)
		p, err := NewProjection("v", schema, features)
		if err != nil {
			b.Fatal(err)
		}
		dst := newColumns(features)
		b.SetBytes(int64(len(row)))
		b.ReportAllocs()
		for b.Loop() {
			for _, c := range dst {
				c.Reset()
			}
			if err := p.Append(row, dst); err != nil {
				b.Fatal(err)
			}
		}
	})
}
