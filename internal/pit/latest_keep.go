package pit

import (
	"strconv"

	"github.com/twofold-ml/twofold/internal/feature"
)

// Keep leaves out the winners that keep says false of. keep is given the stored form of the entity's key (feature.AppendKey), which is valid until it returns, and the
// event time of the row.
func (w *Winners) Keep(keep func(key []byte, event feature.EventTime) bool) {
	var buffer []byte
	w.leaveOut(func(r winnerRef) bool {
		h := &w.scan.shards[r.shard]
		buffer = h.entities.appendStored(buffer[:0], h.owner(r.number))
		return !keep(buffer, h.best[r.number].event)
	})
}

// appendStored appends the stored form of the key of that number.
func (t *interner) appendStored(dst []byte, number int32) []byte {
	if t.isInt {
		return strconv.AppendInt(dst, t.ints[number], 10)
	}
	return append(dst, t.key(number)...)
}
