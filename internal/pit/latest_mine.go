package pit

import (
	"slices"

	"github.com/twofold-ml/twofold/internal/feature"
)

// leaveOthers drops the selected rows of entities that LatestOptions.Mine says no to, and counts all such rows of the batch, incomplete ones too. It reports which
// rows those are, nil where every row is looked at.
func (l *latestScan) leaveOthers(s *scratch, batch feature.KeyBatch) []bool {
	mine := l.options.Mine
	if mine == nil {
		return nil
	}
	others, count := make([]bool, batch.Len()), int64(0)
	var buffer []byte
	for row := range others {
		key, ok := feature.AppendKey(buffer[:0], batch.Keys, row)
		buffer = key
		if !ok {
			key = nil
		} else if key == nil {
			key = []byte{} // an empty text is a key
		}
		if !mine(key) {
			others[row] = true
			count++
		}
	}
	l.rowsOthers.Add(count)
	s.rows = slices.DeleteFunc(s.rows, func(row int32) bool { return others[row] })
	return others
}
