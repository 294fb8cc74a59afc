package online

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// line is a store as the pacer sees it: it does one batch at a time, and the way there and back takes time as well.
type line struct {
	way, aRow time.Duration
	busy      time.Duration // how long others keep a batch waiting

	turn chan struct{} // not a mutex, which testing/synctest does not take for waiting
}

func newLine(way, aRow time.Duration) *line {
	return &line{way: way, aRow: aRow, turn: make(chan struct{}, 1)}
}

func (l *line) write(rows int) {
	<-time.After(l.way / 2)
	l.turn <- struct{}{}
	<-time.After(l.busy + time.Duration(rows)*l.aRow)
	<-l.turn
	<-time.After(l.way - l.way/2)
}

// batches has so many batches written, and returns their rows.
func (l *line) batches(t *testing.T, p *pacer, n int) (rows []int) {
	for range n {
		got, err := p.begin(t.Context(), 500)
		require.NoError(t, err)
		begun := time.Now()
		l.write(got)
		p.end(got, time.Since(begun))
		rows = append(rows, got)
	}
	return rows
}

func sum(rows []int) (total int) {
	for _, n := range rows {
		total += n
	}
	return total
}

// TestPacerFillsTheTarget: batches are as large as readers can be kept waiting, whatever a row costs.
func TestPacerFillsTheTarget(t *testing.T) {
	for _, aRow := range []time.Duration{4 * time.Microsecond, 8 * time.Microsecond, 25 * time.Microsecond} {
		synctest.Test(t, func(t *testing.T) {
			l, p := newLine(100*time.Microsecond, aRow), newPacer(&rateLimit{})
			l.batches(t, p, 200)
			most := int(waitTarget/aRow) + leastBatch + batchStep // a least batch counts as nothing
			rows := l.batches(t, p, 400)
			for _, n := range rows {
				require.LessOrEqual(t, n, most, "at %v a row", aRow)
			}
			require.Greater(t, sum(rows)/len(rows), int(waitTarget/aRow)*3/4, "at %v a row: batches are too small", aRow)
			require.Equal(t, leastLanes, p.lanes())
		})
	}
}

// TestPacerYields: while others keep the store busy batches are small, with rests between them where it is very busy, and afterwards they grow again.
func TestPacerYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, p := newLine(100*time.Microsecond, 8*time.Microsecond), newPacer(&rateLimit{})
		before := sum(l.batches(t, p, 400)[300:])

		l.busy = 2 * waitTarget
		busy := l.batches(t, p, 60)
		require.Equal(t, leastBatch, busy[len(busy)-1])

		l.busy = 2 * overload * waitTarget
		l.batches(t, p, patience)
		began := time.Now()
		const rested = 20
		l.batches(t, p, rested)
		each := l.way + l.busy + leastBatch*l.aRow
		require.GreaterOrEqual(t, time.Since(began), (2*rested-1)*each, "it rests as long as it has written")

		l.busy = 0
		l.batches(t, p, 200)
		require.Greater(t, sum(l.batches(t, p, 100)), before*9/10, "it has not recovered")
	})
}

// TestPacerBearsHiccups: that a batch takes long now and then, for reasons that have nothing to do with its size, makes neither small batches nor rests.
func TestPacerBearsHiccups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, p := newLine(100*time.Microsecond, 8*time.Microsecond), newPacer(&rateLimit{})
		before := sum(l.batches(t, p, 400)[300:])
		after := 0
		for range 100 {
			l.busy = 20 * waitTarget
			l.batches(t, p, 1)
			l.busy = 0
			after += sum(l.batches(t, p, 3))
		}
		require.Greater(t, after/3, before*2/3)
		require.Zero(t, p.restTill)
	})
}

// TestPacerFillsTheWay: where the way to the store is long, several batches are on it at once, and the readers in the store wait no longer for that.
func TestPacerFillsTheWay(t *testing.T) {
	for way, want := range map[time.Duration]int{100 * time.Microsecond: leastLanes, laneWay: leastLanes + 1, 5 * laneWay: mostLanes} {
		synctest.Test(t, func(t *testing.T) {
			l, p := newLine(way, 8*time.Microsecond), newPacer(&rateLimit{})
			var mu sync.Mutex
			var writers sync.WaitGroup
			underWay, most := 0, 0
			for range mostLanes + 2 {
				writers.Go(func() {
					for range 300 {
						rows, err := p.begin(t.Context(), 500)
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						underWay++
						most = max(most, underWay)
						mu.Unlock()
						begun := time.Now()
						l.write(rows)
						mu.Lock()
						underWay--
						mu.Unlock()
						p.end(rows, time.Since(begun))
					}
				})
			}
			writers.Wait()
			require.Equal(t, want, most, "a way of %v", way)
		})
	}
}

// TestPacerProbes: the way to the store is measured again from time to time, so that a store that has become slower for good is not taken for a busy one.
func TestPacerProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, p := newLine(100*time.Microsecond, 8*time.Microsecond), newPacer(&rateLimit{})
		l.batches(t, p, 300)
		l.way = 2 * laneWay
		for began := time.Now(); time.Since(began) < 20*probeInterval; {
			l.batches(t, p, 1)
		}
		require.Greater(t, l.batches(t, p, 1)[0], 2*leastBatch)
		require.Equal(t, mostLanes, p.lanes())
	})
}

// TestRateLimit: all writers together stay below the limit, over any length of time.
func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond = 1000
		limit := &rateLimit{perSecond: perSecond}
		l := newLine(100*time.Microsecond, 8*time.Microsecond)
		began := time.Now()
		var mu sync.Mutex
		var writers sync.WaitGroup
		total, largest := 0, 0
		for range 3 {
			p := newPacer(limit)
			writers.Go(func() {
				for range 40 {
					rows := l.batches(t, p, 1)[0]
					mu.Lock()
					total, largest = total+rows, max(largest, rows)
					if allowed := int(time.Since(began).Seconds()*perSecond) + 3*largest; total > allowed {
						t.Errorf("%d rows were written after %v", total, time.Since(began))
					}
					mu.Unlock()
				}
			})
		}
		writers.Wait()
		require.Less(t, time.Since(began).Seconds(), float64(total)/perSecond+1, "it is slower than it may be")
	})
}

// TestPacerIsCancelled: nobody waits for a turn, for the limit or for a rest when there is nothing to wait for any more.
func TestPacerIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		p := newPacer(&rateLimit{})
		for range leastLanes {
			_, err := p.begin(ctx, 1)
			require.NoError(t, err)
		}
		_, err := p.begin(ctx, 1) // none of those has ended
		require.ErrorIs(t, err, context.DeadlineExceeded)

		slow := newPacer(&rateLimit{perSecond: 1})
		rows, err := slow.begin(t.Context(), 10)
		require.NoError(t, err)
		slow.end(rows, time.Millisecond)
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = slow.begin(ctx, 10)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		rows, err = slow.begin(t.Context(), 10) // the turn of the one that gave up is free
		require.NoError(t, err)
		slow.overs = patience
		slow.end(rows, time.Minute) // so it rests
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = slow.begin(ctx, 10)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}
