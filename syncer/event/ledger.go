package event

import "sync"

// ledger knows which records of a topic are done with, and so how far each partition may be committed. What it keeps grows with partitions and views, not
// with records.
type ledger struct {
	mu         sync.Mutex
	partitions map[int32]*ledgerPartition
}

// ledgerPartition is one partition from where this process began to read it.
type ledgerPartition struct {
	// next is the offset after the last record that was read; high is that after the last record that there is.
	next, high int64
	// committed is the offset that the broker has been told, or where reading began.
	committed int64
	// open has, for each view, the first offset of each batch that has events of the partition and was not settled when it was last looked at; oldest first.
	open map[string][]openBatch
}

type openBatch struct {
	batch  uint64
	offset int64
}

// read notes that a record was read and what its events wait for.
func (l *ledger) read(partition int32, offset, high int64, tickets []ticket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.partitions[partition]
	if p == nil || offset < p.next { // where offsets begin anew, the topic was made anew
		p = &ledgerPartition{committed: offset, open: map[string][]openBatch{}}
		l.partitions[partition] = p
	}
	p.next, p.high = offset+1, max(high, offset+1)
	for _, t := range tickets {
		open := p.open[t.view]
		if len(open) == 0 || open[len(open)-1].batch < t.batch {
			p.open[t.view] = append(open, openBatch{t.batch, offset})
		}
	}
}

// position is the offset of the first record that is not done with. Batches that are settled are forgotten.
func (p *ledgerPartition) position(settled func(ticket) bool) int64 {
	position := p.next
	for view, open := range p.open {
		for len(open) > 0 && settled(ticket{view, open[0].batch}) {
			open = open[1:]
		}
		if len(open) == 0 {
			delete(p.open, view)
			continue
		}
		p.open[view] = open
		position = min(position, open[0].offset)
	}
	return position
}

// due gives the offsets that may be committed and are not yet, and the lag of every partition behind its end.
func (l *ledger) due(settled func(ticket) bool) (offsets, lags map[int32]int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	offsets, lags = map[int32]int64{}, map[int32]int64{}
	for number, p := range l.partitions {
		position := p.position(settled)
		lags[number] = p.high - position
		if position > p.committed {
			offsets[number] = position
		}
	}
	return offsets, lags
}

// committed notes that the broker knows an offset.
func (l *ledger) committed(partition int32, offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.partitions[partition]; p != nil {
		p.committed = max(p.committed, offset)
	}
}

// drop forgets partitions that are read elsewhere now.
func (l *ledger) drop(partitions []int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, number := range partitions {
		delete(l.partitions, number)
	}
}
