package training

import (
	"sync"
	"sync/atomic"

	"github.com/twofold-ml/twofold/internal/pit"
)

// Phase is a stage of the work on a training set.
type Phase int32

// The phases, in their order. Waiting comes up only where other training sets use the memory; Scanning to Sending come again with each part.
const (
	Reading Phase = iota + 1
	Waiting
	Scanning
	Gathering
	Sending
)

// Progress says how far a training set is. It may be read at any time, from any goroutine. Its zero value is that of a set that begins.
type Progress struct {
	entityRows atomic.Int64
	memory     atomic.Int64
	done       atomic.Int64

	// mu guards what changes together, so that no moment has the phase of one part and the number of the next.
	mu          sync.Mutex
	phase       Phase
	part, parts int
	join        *pit.Progress
}

// At is a moment of a Progress.
type At struct {
	Phase Phase
	// EntityRows have come; of them Done are joined and handed on.
	EntityRows, Done int64
	// MemoryBytes is the memory that the join was given, 0 while it has none.
	MemoryBytes int64
	// Of FeatureRows in this part, Scanned were looked at; Matched were found newest for an entity row.
	FeatureRows, Scanned, Matched int64
	// FragmentsLeft are row groups whose values are still to be read in this part.
	FragmentsLeft int64
	// Part is the number of this part, from 1, and Parts how many there are as far as is known.
	Part, Parts int
}

// At returns the present moment.
func (p *Progress) At() At {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := At{
		Phase: max(Reading, p.phase), MemoryBytes: p.memory.Load(), Done: p.done.Load(), Part: p.part, Parts: p.parts,
	}
	at.EntityRows = p.entityRows.Load()
	if p.join == nil {
		return at
	}
	// What can be only as many as something else is looked at before that.
	gathering := p.join.Gathering.Load()
	at.Matched, at.Scanned, at.FragmentsLeft = p.join.Matched.Load(), p.join.Scanned.Load(), p.join.FragmentsLeft.Load()
	at.FeatureRows = p.join.Rows.Load()
	if at.Phase == Scanning && gathering {
		at.Phase = Gathering
	}
	return at
}

// Came says how many entity rows have come.
func (p *Progress) Came(rows int64) { p.entityRows.Store(rows) }

func (p *Progress) enter(phase Phase) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase = phase
}

// nextPart begins a part and returns where its join counts.
func (p *Progress) nextPart(part, parts int) *pit.Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase, p.part, p.parts, p.join = Scanning, part, parts, &pit.Progress{}
	return p.join
}
