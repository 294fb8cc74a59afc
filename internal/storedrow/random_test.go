package storedrow

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/twofold-ml/twofold/internal/feature"
)

// newRand returns a source of random numbers whose seed is printed where the test fails.
func newRand(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// allTypes has one feature of every type.
func allTypes() []Feature {
	var features []Feature
	for t := feature.Bool; t <= feature.TimestampList; t++ {
		features = append(features, Feature{fmt.Sprintf("f_%v", t), t})
	}
	return features
}

func randomFeatures(r *rand.Rand) []Feature {
	features := make([]Feature, r.IntN(40))
	for i := range features {
		features[i] = Feature{fmt.Sprintf("f%d", i), feature.Bool + feature.Type(r.IntN(16))}
	}
	return features
}

// randomRow returns one-row columns of the features.
func randomRow(r *rand.Rand, features []Feature) []*feature.Column {
	cols := make([]*feature.Column, len(features))
	for i, f := range features {
		cols[i] = feature.NewColumn(f.Type, 1)
		if r.IntN(5) == 0 {
			cols[i].AppendMissing(feature.Null)
		} else {
			appendRandom(r, cols[i])
		}
	}
	return cols
}

func appendRandom(r *rand.Rand, c *feature.Column) {
	switch c.Type {
	case feature.Bool:
		c.AppendBool(r.IntN(2) == 0)
	case feature.Int32:
		c.AppendInt32(int32(anyBits(r)))
	case feature.Int64, feature.Timestamp:
		c.AppendInt64(int64(anyBits(r)))
	case feature.Float:
		c.AppendFloat(math.Float32frombits(uint32(anyBits(r))))
	case feature.Double:
		c.AppendDouble(math.Float64frombits(anyBits(r)))
	case feature.String, feature.Bytes:
		c.AppendBytes(anyBytes(r))
	default:
		c.AppendList(func(elem *feature.Column) {
			n := r.IntN(5)
			if r.IntN(20) == 0 {
				n = 1536
			}
			for range n {
				appendRandom(r, elem)
			}
		})
	}
}

// anyBits returns 64 bits, special ones often.
func anyBits(r *rand.Rand) uint64 {
	special := []uint64{
		0, 1, math.MaxUint64, math.MaxInt64, 1 << 63, 1<<53 + 1, math.MaxUint32, math.MaxInt32, 1 << 31,
		math.Float64bits(math.Inf(1)), math.Float64bits(math.Inf(-1)), math.Float64bits(math.Copysign(0, -1)),
		0x7ff8_0000_dead_beef, 0xfff0_0000_0000_0001, // NaNs with payloads, quiet and signalling
		uint64(math.Float32bits(float32(math.Inf(-1)))), 0x7fc1_2345, 0xff80_0001,
	}
	if i := r.IntN(2 * len(special)); i < len(special) {
		return special[i]
	}
	return r.Uint64()
}

func anyBytes(r *rand.Rand) []byte {
	switch r.IntN(5) {
	case 0:
		return nil
	case 1:
		return []byte("Zürich → 東京 🛫 \x00 end")
	case 2:
		return []byte(fmt.Sprintf("%0*d", r.IntN(2000), 7)) // compresses well
	}
	b := make([]byte, r.IntN(300))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func newColumns(features []Feature) []*feature.Column {
	cols := make([]*feature.Column, len(features))
	for i, f := range features {
		cols[i] = feature.NewColumn(f.Type, 1)
	}
	return cols
}
