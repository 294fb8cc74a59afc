package hotcache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/online/driver"
)

// The property test runs readers, writers, other processes' writers, full syncs and losses of data against a store whose calls take random
// times, fail and are cancelled. The store keeps the history of each row, by which every row that is read is judged.

const (
	simStaleness = 100 * time.Millisecond
	simKeys      = 12
)

// Views by who writes their rows.
const (
	ownView    = "own"    // this process alone, by Cache.Write
	sharedView = "shared" // this process and others
	syncedView = "synced" // others, who mark the view after each full sync
)

var simViews = []string{ownView, sharedView, syncedView}

// version is a value that a row had.
type version struct {
	value    string    // "" is no row
	replaced time.Time // zero while it is the stored one
}

// simulation is a driver whose rows have histories.
type simulation struct {
	*spy
	mu       sync.Mutex
	random   *rand.Rand
	versions map[string][]version // by rowName
	// least is the first version of each row that reads from now on may see, whatever its age.
	least map[string]int
	next  int
	marks map[string]map[string]int // marker → rowName → the version that the sync before it has left
	mark  string
}

func newSimulation(seed uint64) *simulation {
	s := &simulation{spy: newSpy(), random: rand.New(rand.NewPCG(seed, 1)), versions: map[string][]version{}, least: map[string]int{}, marks: map[string]map[string]int{}}
	for i := range simKeys {
		for _, view := range simViews {
			s.versions[rowName(simEntity(i), view)] = []version{{}}
		}
	}
	return s
}

func simEntity(i int) driver.Entity { return entity(fmt.Sprint("k", i)) }

// chance draws from the simulation's random numbers.
func (s *simulation) draw(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random.IntN(n)
}

// pause takes a random time, mostly short, sometimes longer than rows may be old.
func (s *simulation) pause(ctx context.Context) error {
	d := time.Duration(s.draw(int(simStaleness / 20)))
	if s.draw(10) == 0 {
		d = time.Duration(s.draw(int(2 * simStaleness)))
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *simulation) Read(ctx context.Context, reads []driver.Read) ([][]byte, error) {
	var rows [][]byte
	errs, failed := make([]error, len(reads)), 0
	fault := s.draw(10)
	for i, r := range reads {
		if err := s.pause(ctx); err != nil {
			return nil, err
		}
		if fault == 0 && s.draw(2) == 0 {
			errs[i], failed = errStore, failed+1
		}
		for _, view := range r.Views {
			s.mu.Lock()
			all := s.versions[rowName(r.Entity, view)]
			var row []byte
			if last := all[len(all)-1]; last.value != "" && errs[i] == nil {
				row = []byte(last.value)
			}
			s.mu.Unlock()
			rows = append(rows, row)
		}
	}
	if err := s.pause(ctx); err != nil {
		return nil, err
	}
	switch {
	case fault == 1 || (failed > 0 && failed == len(reads)):
		return nil, errStore
	case failed > 0:
		return rows, &driver.PartialError{Errs: errs}
	default:
		return rows, nil
	}
}

// apply makes a value the stored one; the caller holds mu. It returns the version's index.
func (s *simulation) apply(name, value string) int {
	all := s.versions[name]
	all[len(all)-1].replaced = time.Now()
	s.versions[name] = append(all, version{value: value})
	return len(all)
}

// value returns one that no row has had.
func (s *simulation) value() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	return fmt.Append(nil, "value ", s.next)
}

func (s *simulation) Write(ctx context.Context, rows []driver.Row) ([]driver.Outcome, error) {
	if err := s.pause(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	for _, r := range rows {
		s.apply(rowName(r.Entity, r.View), string(r.Value))
	}
	s.mu.Unlock()
	if s.draw(10) == 0 {
		return nil, errStore
	}
	return make([]driver.Outcome, len(rows)), s.pause(ctx)
}

func (s *simulation) GetMeta(ctx context.Context, names []string) ([][]byte, error) {
	if err := s.pause(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mark == "" {
		return make([][]byte, len(names)), nil
	}
	return [][]byte{[]byte(s.mark)}, nil
}

// raise makes sure that reads from now on see at least these versions.
func (s *simulation) raise(least map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, i := range least {
		s.least[name] = max(s.least[name], i)
	}
}

// indexOf returns the version of a value.
func (s *simulation) indexOf(name, value string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, v := range s.versions[name] {
		if v.value == value {
			return i
		}
	}
	return -1
}

// judge says what is wrong with a value that a read, begun at a time at which least was in force, has returned; "" where nothing is.
func (s *simulation) judge(name, value string, begun time.Time, least int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	wrong := "it was never stored"
	for i, v := range s.versions[name] {
		switch {
		case v.value != value:
		case i < least:
			wrong = fmt.Sprintf("version %d, and %d had to be seen", i, least)
		case !v.replaced.IsZero() && v.replaced.Before(begun.Add(-simStaleness)):
			wrong = fmt.Sprintf("it was replaced %v before the read began", begun.Sub(v.replaced))
		default:
			return ""
		}
	}
	return wrong
}

// player does things at random until time is up.
type player struct {
	t     *testing.T
	sim   *simulation
	cache *Cache
}

func (p player) read() {
	reads := make([]driver.Read, 1+p.sim.draw(6))
	for i := range reads {
		first := p.sim.draw(len(simViews))
		reads[i] = driver.Read{Entity: simEntity(p.sim.draw(simKeys)), Views: simViews[first : first+1+p.sim.draw(len(simViews)-first)]}
	}
	ctx := p.t.Context()
	if p.sim.draw(5) == 0 {
		limited, cancel := context.WithTimeout(ctx, time.Duration(p.sim.draw(int(simStaleness/10))))
		defer cancel()
		ctx = limited
	}
	p.sim.mu.Lock()
	begun, least := time.Now(), map[string]int{}
	for name, i := range p.sim.least {
		least[name] = i
	}
	p.sim.mu.Unlock()
	rows, err := p.cache.Read(ctx, reads)
	partial, _ := errors.AsType[*driver.PartialError](err)
	if err != nil && partial == nil {
		if !errors.Is(err, errStore) && (ctx.Err() == nil || !errors.Is(err, ctx.Err())) {
			p.t.Errorf("an error that neither the store nor the context had: %v", err)
		}
		return
	}
	for i, r := range reads {
		for _, view := range r.Views {
			value := string(rows[0])
			rows = rows[1:]
			if partial != nil && partial.Errs[i] != nil {
				continue
			}
			name := rowName(r.Entity, view)
			if wrong := p.sim.judge(name, value, begun, least[name]); wrong != "" {
				p.t.Errorf("%q of %q: %s", value, name, wrong)
			}
		}
	}
	if len(rows) != 0 {
		p.t.Errorf("%d rows too many", len(rows))
	}
}

// write writes through the cache. What a successful write has stored is seen by every read that begins after it.
func (p player) write() {
	rows := make([]driver.Row, 1+p.sim.draw(3))
	for i := range rows {
		rows[i] = driver.Row{Entity: simEntity(p.sim.draw(simKeys)), View: simViews[p.sim.draw(2)], Value: p.sim.value()}
	}
	if _, err := p.cache.Write(p.t.Context(), rows); err != nil {
		return
	}
	least := map[string]int{}
	for _, r := range rows {
		name := rowName(r.Entity, r.View)
		least[name] = p.sim.indexOf(name, string(r.Value))
	}
	p.sim.raise(least)
}

// writeElsewhere is what another process does.
func (p player) writeElsewhere() {
	value := string(p.sim.value())
	p.sim.mu.Lock()
	defer p.sim.mu.Unlock()
	p.sim.apply(rowName(simEntity(p.sim.random.IntN(simKeys)), simViews[1+p.sim.random.IntN(2)]), value)
}

// sync is a full sync by another process, or the loss of all of the view, which takes the marker with it.
func (p player) sync() {
	lost := p.sim.draw(4) == 0
	mark := map[string]int{}
	for i := range simKeys {
		name, value := rowName(simEntity(i), syncedView), ""
		if !lost {
			value = string(p.sim.value())
		}
		p.sim.mu.Lock()
		mark[name] = p.sim.apply(name, value)
		p.sim.mu.Unlock()
	}
	p.sim.mu.Lock()
	defer p.sim.mu.Unlock()
	if p.sim.mark = ""; !lost {
		p.sim.next++
		p.sim.mark = fmt.Sprint("mark ", p.sim.next)
		p.sim.marks[p.sim.mark] = mark
	}
}

// poll looks at the marker through the cache. What was there when it was set is seen by every read that begins after.
func (p player) poll() {
	values, err := p.cache.GetMeta(p.t.Context(), []string{markerPrefix + syncedView})
	if err != nil || values[0] == nil {
		return
	}
	p.sim.mu.Lock()
	mark := p.sim.marks[string(values[0])]
	p.sim.mu.Unlock()
	p.sim.raise(mark)
}

func TestNoReadSeesAnOlderRow(t *testing.T) {
	for _, maxBytes := range []int64{1 << 20, 4 * (entryOverhead + 3*(rowOverhead+12))} { // room for all, and for few
		for range 4 {
			seed := rand.Uint64()
			t.Run(fmt.Sprintf("%d bytes, seed %d", maxBytes, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { simulate(t, seed, maxBytes) })
			})
		}
	}
}

func simulate(t *testing.T, seed uint64, maxBytes int64) {
	s := newSimulation(seed)
	c := New(s, Options{MaxBytes: maxBytes, MaxStaleness: simStaleness})
	p := player{t: t, sim: s, cache: c}
	end := time.Now().Add(100 * simStaleness)
	var players sync.WaitGroup
	play := func(n int, every time.Duration, act func()) {
		for range n {
			players.Go(func() {
				for time.Now().Before(end) {
					time.Sleep(time.Duration(s.draw(int(every))))
					act()
				}
			})
		}
	}
	play(12, simStaleness/20, p.read)
	play(2, simStaleness/3, p.write)
	play(1, simStaleness/5, p.writeElsewhere)
	play(1, 3*simStaleness, p.sync)
	play(1, simStaleness/3, p.poll)
	players.Wait()
	results := c.results()
	require.NoError(t, c.Close())
	t.Logf("hits, misses, shared: %d; dropped by writes: %d, views by markers: %d", results, c.counters.written.Load(), c.counters.generations.Load())
	for _, n := range append(results[:], c.counters.written.Load(), c.counters.generations.Load()) {
		require.NotZero(t, n, "the run has not met what it is for")
	}
}
