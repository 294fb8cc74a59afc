package feature

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStatusBits(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for run := range 3000 {
		statuses := make([]Status, r.IntN(40))
		for i := range statuses {
			if statuses[i] = Present; r.IntN(20) < run%20 {
				statuses[i] = Status(r.IntN(256))
			}
		}
		all, bits, bytes := true, make([]byte, (len(statuses)+7)/8), make([]byte, len(statuses))
		for i, s := range statuses {
			if s == Present {
				bits[i/8] |= 1 << (i % 8)
				bytes[i] = 1
			} else {
				all = false
			}
		}
		require.Equal(t, all, AllPresent(statuses), statuses)
		require.Equal(t, append([]byte{7}, bits...), AppendPresentBits([]byte{7}, statuses), statuses)
		require.Equal(t, append([]byte{7}, bytes...), AppendPresentBytes([]byte{7}, statuses), statuses)
	}
}
