package offline

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
)

// TestChecksums: in files whose writer (pyarrow) left checksums, no damaged byte of a page passes for a value.
func TestChecksums(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	paths, err := filepath.Glob("testdata/checksums_*.parquet")
	require.NoError(t, err)
	require.Len(t, paths, 4)
	for _, path := range paths {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, readEverything(t.Context(), data), path)
		kinds := map[int32]bool{}
		for _, page := range dissect(t, path, data).pages {
			h, _, err := parsePageHeader(data[page.header.from:page.header.to])
			require.NoError(t, err)
			require.True(t, h.hasChecksum, path)
			kinds[h.kind] = true
			for at := page.body.from; at < page.body.to; at += 1 + r.Int64N(10) {
				damaged := slices.Clone(data)
				damaged[at] ^= 1 << r.IntN(8)
				err := readEverything(t.Context(), damaged)
				require.Equal(t, fault.Corrupt, fault.KindOf(err), "%s, seed %d: byte %d of a page of kind %d: %v", path, seed, at-page.body.from, h.kind, err)
				require.ErrorContains(t, err, "checksum")
			}
		}
		require.NotEqual(t, kinds[pageData], kinds[pageDataV2], path)
	}
}
