package training

import (
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
	phase       atomic.Int32
	entityRows  atomic.Int64
	memory      atomic.Int64
	done        atomic.Int64
	part, parts atomic.Int32
	join        atomic.Pointer[pit.Progress]
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
	at := At{
		Phase: Phase(p.phase.Load()), EntityRows: p.entityRows.Load(), MemoryBytes: p.memory.Load(), Done: p.done.Load(), Part: int(p.part.Load()), Parts: int(p.parts.Load()),
	}
	if at.Phase == 0 {
		at.Phase = Reading
	}
	if join := p.join.Load(); join != nil {
		at.FeatureRows, at.Scanned, at.Matched, at.FragmentsLeft = join.Rows.Load(), join.Scanned.Load(), join.Matched.Load(), join.FragmentsLeft.Load()
		if at.Phase == Scanning && join.Gathering.Load() {
			at.Phase = Gathering
		}
	}
	return at
}

// Came says how many entity rows have come.
func (p *Progress) Came(rows int64) { p.entityRows.Store(rows) }

func (p *Progress) enter(phase Phase) { p.phase.Store(int32(phase)) }

// nextPart begins a part and returns where its join counts.
func (p *Progress) nextPart(part, parts int) *pit.Progress {
	join := &pit.Progress{}
	p.join.Store(join)
	p.part.Store(int32(part))
	p.parts.Store(int32(parts))
	p.enter(Scanning)
	return join
}
