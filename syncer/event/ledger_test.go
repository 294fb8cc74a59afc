package event

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestLedgerCommitsNothingOpen reads and settles at random and holds the ledger to one that keeps every record.
func TestLedgerCommitsNothingOpen(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		l := &ledger{partitions: map[int32]*ledgerPartition{}}
		views := []string{"a", "b", "c"}
		batches, settled := map[string]uint64{}, map[string]uint64{}
		isSettled := func(t ticket) bool { return t.batch <= settled[t.view] }
		type record struct {
			offset  int64
			tickets []ticket
		}
		records, offset := map[int32][]record{}, map[int32]int64{}
		for range 200 {
			view := views[random.IntN(len(views))]
			switch random.IntN(5) {
			case 0: // the next run takes what comes from now on
				batches[view]++
			case 1:
				settled[view] += uint64(random.IntN(int(batches[view]-settled[view]) + 1))
			default:
				partition := int32(random.IntN(2))
				r := record{offset: offset[partition]}
				for range random.IntN(3) {
					v := views[random.IntN(len(views))]
					batches[v] = max(batches[v], settled[v]+1)
					r.tickets = append(r.tickets, ticket{v, batches[v]})
				}
				l.read(partition, r.offset, r.offset+10, r.tickets)
				records[partition] = append(records[partition], r)
				offset[partition] += 1 + random.Int64N(3) // some offsets have no record
			}
			due, lags := l.due(isSettled)
			for partition, read := range records {
				want := read[len(read)-1].offset + 1
				for i := len(read) - 1; i >= 0; i-- {
					for _, ticket := range read[i].tickets {
						if !isSettled(ticket) {
							want = read[i].offset
						}
					}
				}
				assert.Equal(t, read[len(read)-1].offset+10-want, lags[partition])
				if got, ok := due[partition]; ok {
					assert.Equal(t, want, got)
					if random.IntN(2) == 0 {
						l.committed(partition, got)
					}
				}
			}
			if t.Failed() {
				return
			}
		}
	}
}

func TestLedgerStaysSmall(t *testing.T) {
	l := &ledger{partitions: map[int32]*ledgerPartition{}}
	for offset := range int64(100_000) {
		l.read(0, offset, 100_000, []ticket{{"v", 1}, {"w", 2}})
	}
	assert.Len(t, l.partitions[0].open["v"], 1)
	assert.Len(t, l.partitions[0].open["w"], 1)
}

func TestLedgerOfATopicMadeAnew(t *testing.T) {
	l := &ledger{partitions: map[int32]*ledgerPartition{}}
	none := func(ticket) bool { return false }
	l.read(0, 100, 101, nil)
	l.committed(0, 101)
	l.read(0, 0, 2, nil)
	l.read(0, 1, 2, []ticket{{"v", 1}})
	due, lags := l.due(none)
	assert.Equal(t, map[int32]int64{0: 1}, due)
	assert.Equal(t, map[int32]int64{0: 1}, lags)
	l.drop([]int32{0, 7})
	l.committed(0, 5)
	due, lags = l.due(none)
	assert.Empty(t, due)
	assert.Empty(t, lags)
}
