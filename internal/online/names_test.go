package online

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
)

// TestStoredNamesCostNothing: neither generations that are all 0 nor those of the call before take memory.
func TestStoredNamesCostNothing(t *testing.T) {
	user := &feature.Entity{Name: "user", Keys: []feature.Key{{Name: "id", Type: feature.Int64}}}
	x := feature.Feature{Name: "x", Type: feature.Int64, Column: "x", Online: true}
	views := []*feature.View{{Name: "v", Entity: user, Features: []feature.Feature{x}}, {Name: "w", Entity: user, Features: []feature.Feature{x}}}
	selection, err := feature.NewRegistry([]*feature.Entity{user}, views, nil, "").Select(feature.SelectionQuery{Features: []string{"v:x", "w:x"}})
	require.NoError(t, err)
	p, err := NewPlan(selection)
	require.NoError(t, err)
	for _, c := range []struct {
		generations []uint64
		want        [][]string
	}{
		{nil, nil},
		{[]uint64{0, 0}, nil},
		{[]uint64{3, 0}, [][]string{{"v@3", "w"}}},
		{[]uint64{3, 12}, [][]string{{"v@3", "w@12"}}},
	} {
		names, err := p.storedNames(c.generations)
		require.NoError(t, err)
		require.Equal(t, c.want, names)
		require.Zero(t, testing.AllocsPerRun(100, func() {
			if again, err := p.storedNames(c.generations); err != nil || len(again) != len(names) {
				t.Error(again, err)
			}
		}), "%v", c.generations)
	}
}
