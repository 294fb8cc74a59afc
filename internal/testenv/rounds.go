package testenv

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// RandomRounds runs a round for each of many seeds. The seed of one that fails is printed; TWOFOLD_SEED=<seed> runs that one first.
func RandomRounds(t *testing.T, rounds int, round func(t *testing.T, r *rand.Rand)) {
	t.Helper()
	base := rand.Uint64() >> 16
	if text := os.Getenv("TWOFOLD_SEED"); text != "" {
		var err error
		if base, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint64(rounds) {
		t.Run(fmt.Sprintf("TWOFOLD_SEED=%d", base+i), func(t *testing.T) { round(t, rand.New(rand.NewPCG(base+i, 0))) })
		if t.Failed() {
			return
		}
	}
}
