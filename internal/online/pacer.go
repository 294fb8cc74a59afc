package online

import (
	"context"
	"sync"
	"time"
)

const (
	// leastBatch is the least rows of a batch while there are more.
	leastBatch = 16
	// waitTarget is how much longer than in a quiet store a batch may take: about as long do readers wait that come in between.
	waitTarget = 1500 * time.Microsecond
	// A batch within the target makes the next one larger by batchStep rows, one beyond it smaller by batchShrink. So some half of them are beyond it: what takes long now and
	// then, because a processor was not free at once, is no reason for small batches.
	batchStep   = 4
	batchShrink = 0.95
	// firstProbes is how many batches are small at first, to find out how long the least takes, and probeInterval the time between two later ones.
	firstProbes   = 4
	probeInterval = time.Second
	// quietDrift is the part of the difference by which what is held for quiet follows, at each probe, a store that has become slower.
	quietDrift = 0.25
	// leastLanes batches are under way at once, so that the store has work while the answer to one is on its way; one more for each laneWay that the least takes, up
	// to mostLanes.
	leastLanes = 2
	laneWay    = 2 * waitTarget
	mostLanes  = 4
	// The store is overloaded where patience least batches in a row take more than overload times the target. Then the writer rests as long as each took.
	overload = 4
	patience = 8
)

// pacer makes a bulk of writes yield to the store's readers. A store that does one thing at a time keeps them waiting for as long as a batch takes, so batches
// are made as large as fits into waitTarget and no larger: additive increase, multiplicative decrease. What the store takes for nearly nothing, the way to it included, is
// found out by the least batches. Where readers, or others who write, have the store busy, batches take longer and become smaller; where not even the least fits, there are
// rests between them.
type pacer struct {
	limit *rateLimit

	mu       sync.Mutex
	changed  chan struct{} // closed, and made anew, when a batch has ended
	underWay int
	rows     float64 // of the next batch
	probes   int     // that are still to be made at once
	probeAt  time.Time
	quiet    time.Duration // what the least batch takes in a quiet store; 0 is not known yet
	driftAt  time.Time     // before which quiet does not become more
	restTill time.Time
	overs    int // least batches in a row that took too long by far
}

func newPacer(limit *rateLimit) *pacer {
	return &pacer{limit: limit, rows: leastBatch, probes: firstProbes, driftAt: time.Now().Add(probeInterval), changed: make(chan struct{})}
}

// begin waits until another batch may be written, and returns how many of the rows that there are it may have. end must follow, unless there is an error.
func (p *pacer) begin(ctx context.Context, available int) (rows int, err error) {
	for {
		rows, wait, changed := p.tryBegin(available)
		if rows > 0 {
			if err := p.limit.wait(ctx, rows); err != nil {
				p.cancel()
				return 0, err
			}
			return rows, nil
		}
		if err := sleep(ctx, wait, changed); err != nil {
			return 0, err
		}
	}
}

// tryBegin returns the rows of the next batch, or 0 and for how long, or for what, to wait.
func (p *pacer) tryBegin(available int) (rows int, wait time.Duration, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if rest := p.restTill.Sub(now); rest > 0 {
		return 0, rest, nil
	}
	if p.underWay >= p.lanes() {
		return 0, 0, p.changed
	}
	p.underWay++
	if p.probes > 0 || now.After(p.probeAt) {
		p.probes = max(0, p.probes-1)
		p.probeAt = now.Add(probeInterval)
		return min(available, leastBatch), 0, nil
	}
	return min(available, int(p.rows)), 0, nil
}

// lanes is how many batches may be under way.
func (p *pacer) lanes() int { return min(leastLanes+int(p.quiet/laneWay), mostLanes) }

// end says how long a batch has taken, and whether it had as many rows as the pacer gave: one that had fewer tells nothing about larger ones.
func (p *pacer) end(rows int, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leave()
	if rows <= leastBatch {
		p.learnQuiet(took)
	}
	over := took - p.quiet
	switch {
	case over > waitTarget:
		if float64(rows) <= p.rows { // one that began before the last decrease does not count twice
			p.rows = max(leastBatch, p.rows*batchShrink)
		}
	case rows >= int(p.rows):
		p.rows += batchStep
	}
	switch {
	case over <= overload*waitTarget:
		p.overs = 0
	case rows <= leastBatch:
		p.overs++
	}
	if p.overs >= patience {
		p.restTill = time.Now().Add(took)
	}
}

// learnQuiet takes the time of a least batch for what it tells: the shortest is the quiet one, but a store, or the way to it, may become slower for good.
func (p *pacer) learnQuiet(took time.Duration) {
	switch now := time.Now(); {
	case p.quiet == 0 || took < p.quiet:
		p.quiet = took
	case now.After(p.driftAt):
		p.driftAt = now.Add(probeInterval)
		p.quiet += time.Duration(float64(took-p.quiet) * quietDrift)
	}
}

// cancel takes back a batch that was not written.
func (p *pacer) cancel() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leave()
}

func (p *pacer) leave() {
	p.underWay--
	close(p.changed)
	p.changed = make(chan struct{})
}

// rateLimit spaces writes so that they are no more than so many rows a second, all that share it together.
type rateLimit struct {
	perSecond int // 0 is no limit

	mu   sync.Mutex
	next time.Time
}

// wait waits until so many rows may be written.
func (l *rateLimit) wait(ctx context.Context, rows int) error {
	if l.perSecond <= 0 {
		return nil
	}
	return sleep(ctx, l.take(rows), nil)
}

// take books the time that the rows are given, and returns how far away it is.
func (l *rateLimit) take(rows int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.next.Before(now) {
		l.next = now
	}
	wait := l.next.Sub(now)
	l.next = l.next.Add(time.Duration(float64(rows) / float64(l.perSecond) * float64(time.Second)))
	return wait
}

// sleep waits so long, or until event is closed where it is not nil; the error is that of ctx when it is done before.
func sleep(ctx context.Context, d time.Duration, event <-chan struct{}) error {
	if d <= 0 && event == nil {
		return ctx.Err()
	}
	var after <-chan time.Time
	if event == nil {
		timer := time.NewTimer(d)
		defer timer.Stop()
		after = timer.C
	}
	select {
	case <-after:
	case <-event:
	case <-ctx.Done():
	}
	return ctx.Err()
}
