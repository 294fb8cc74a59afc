package offline

import (
	"context"

	"github.com/twofold-ml/twofold/internal/feature"
)

// RowGroups is Scan.Fragments for those who also ask what is stored where (Fragment.KeyBytes, Fragment.FeatureBytes).
func (s *Scan) RowGroups(ctx context.Context, within feature.TimeRange) (groups []*Fragment, pruned int64, err error) {
	sources, err := s.list(ctx)
	if err != nil {
		return nil, 0, err
	}
	groups, pruned = s.table.fragments(sources, within)
	return groups, pruned, nil
}

// KeyBytes is how many bytes of the file the keys and times of the rows take, compressed as they are; what stands in the names of folders takes none.
func (f *Fragment) KeyBytes() int64 { return f.storedBytes(f.bindings[:f.table.keyColumns()]) }

// FeatureBytes is KeyBytes for feature columns (indices in the view's Features).
func (f *Fragment) FeatureBytes(columns []int) int64 {
	bindings := make([]binding, len(columns))
	for i, c := range columns {
		bindings[i] = f.bindings[f.table.keyColumns()+c]
	}
	return f.storedBytes(bindings)
}

func (f *Fragment) storedBytes(bindings []binding) int64 {
	bytes := int64(0)
	for _, b := range bindings {
		if b.constant == nil {
			bytes += f.source.footer.groups[f.group].chunks[b.stored.leaf].length
		}
	}
	return bytes
}
