package definition

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

const minute = int64(time.Minute / time.Microsecond)

// minutesOf is a sync in whole minutes.
type minutesOf struct{ ttl, interval, runTime, delay, missed int64 }

func (m minutesOf) view(sync *twofoldv1.Sync) *twofoldv1.FeatureView {
	of := func(minutes int64) *durationpb.Duration { return durationpb.New(time.Duration(minutes) * time.Minute) }
	sync.RunTime, sync.SourceDelay, sync.ToleratedMissedRuns = of(m.runTime), of(m.delay), uint32(m.missed)
	if sync.GetCron() == "" {
		sync.Interval = of(m.interval)
	}
	return &twofoldv1.FeatureView{Name: "v", Ttl: of(m.ttl), Sync: sync, Features: []*twofoldv1.Feature{{Name: "f"}}}
}

// simulate looks at the online store in the middle of every minute from 0 on and returns whether nothing is served. There is a row of every
// minute, in the source delay minutes after it; a run reads what is there when it starts and has written it runTime minutes later.
func (m minutesOf) simulate(starts []int64, length int64) []bool {
	absent := make([]bool, length)
	written := map[int64][]int64{}
	for _, start := range starts {
		written[start+m.runTime] = append(written[start+m.runTime], start)
	}
	first := min(slices.Min(starts)+m.runTime, 0)
	online, some := int64(0), false
	for now := first; now < length; now++ {
		for _, start := range written[now] {
			for row := start - m.delay - 2; row <= start; row++ {
				if row+m.delay <= start && (!some || row > online) {
					online, some = row, true
				}
			}
		}
		if now >= 0 {
			absent[now] = !some || 2*(now-online)+1 > 2*m.ttl
		}
	}
	return absent
}

func count(flags []bool) (n int64) {
	for _, flag := range flags {
		if flag {
			n++
		}
	}
	return n
}

// TestGapAgainstSimulation: what the linter says of an interval, and what it draws, is what a simulation of every minute finds.
func TestGapAgainstSimulation(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	gaps := 0
	for range 2000 {
		m := minutesOf{ttl: 1 + r.Int64N(120), interval: 1 + r.Int64N(40), runTime: r.Int64N(30), delay: r.Int64N(30), missed: r.Int64N(4)}
		if r.IntN(3) == 0 {
			m.runTime = 0
		}
		if r.IntN(3) == 0 {
			m.delay = 0
		}
		plan := newChecker(nil, Defaults{}).planOf(m.view(&twofoldv1.Sync{}))

		// Only one of missed+1 runs succeeds, from long ago.
		cycle := (m.missed + 1) * m.interval
		long := (m.ttl+m.runTime+m.delay)/cycle + 2
		var starts []int64
		for i := -long; i <= 1; i++ {
			starts = append(starts, i*cycle)
		}
		got, want := max(0, min(plan.absent(), cycle*minute)), count(m.simulate(starts, cycle))*minute
		if got != want {
			t.Fatalf("seed %d: %+v: absent %s of every %s, but the simulation finds %s", seed, m, formatMicros(got), formatMicros(cycle*minute), formatMicros(want))
		}
		if want == 0 {
			continue
		}
		gaps++
		// Every run succeeds but those that the timeline shows.
		a := plan.intervalAxis()
		starts = nil
		good := -m.runTime / m.interval
		for i := -(m.ttl+m.runTime+m.delay)/m.interval - 2; i*m.interval < a.length/minute; i++ {
			if i <= good || i > good+m.missed {
				starts = append(starts, i*m.interval)
			}
		}
		checkDrawn(t, fmt.Sprintf("seed %d: %+v", seed, m), a, m.simulate(starts, a.length/minute))
	}
	if gaps < 100 {
		t.Errorf("only %d definitions had a gap", gaps)
	}
}

// checkDrawn compares the gaps of an axis with those of a simulation, and the marks with the gaps.
func checkDrawn(t *testing.T, what string, a axis, want []bool) {
	t.Helper()
	got := make([]bool, len(want))
	for _, g := range a.gaps {
		for i := max(0, g.from/minute); i < min(int64(len(got)), g.until/minute); i++ {
			got[i] = true
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%s: the gaps drawn are %v, not %v", what, got, want)
	}
	if marks := a.marks(); len(marks) != timelineWidth || !strings.Contains(marks, string(markAbsent)) {
		t.Fatalf("%s: drawn as %s", what, marks)
	}
}

// TestCronGapAgainstSimulation: as TestGapAgainstSimulation, of crons in zones whose clocks change, over more than a year.
func TestCronGapAgainstSimulation(t *testing.T) {
	cronGapAgainstSimulation(t, 5310937996230582835) // rows that expire the moment a run has ended
	cronGapAgainstSimulation(t, rand.Uint64())
}

func cronGapAgainstSimulation(t *testing.T, seed uint64) {
	t.Helper()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago"}
	drawn := 0
	for range 40 {
		day := "* * *"
		if r.IntN(3) == 0 {
			day = fmt.Sprintf("* * %d,%d", r.IntN(7), r.IntN(7))
		}
		expression := fmt.Sprintf("%d %d,%d %s", r.IntN(60), r.IntN(24), r.IntN(24), day)
		zone := zones[r.IntN(len(zones))]
		m := minutesOf{ttl: 1 + r.Int64N(30*60), runTime: r.Int64N(120), delay: r.Int64N(120)}
		if r.IntN(3) == 0 {
			m.ttl += 24 * 60
		}
		plan := newChecker(nil, Defaults{}).planOf(m.view(&twofoldv1.Sync{Cron: expression, TimeZone: zone}))
		what := fmt.Sprintf("seed %d: %q %s %+v", seed, expression, zone, m)

		// startsFrom are the runs of the days before and after, in minutes after begin.
		startsFrom := func(begin time.Time, days int) (starts []int64) {
			for at := plan.timetable.schedule.Next(begin.AddDate(0, 0, -15)); at.Before(begin.AddDate(0, 0, days+8)); at = plan.timetable.schedule.Next(at) {
				starts = append(starts, int64(at.Sub(begin)/time.Minute))
			}
			return starts
		}
		const days = 500
		begin := time.Date(2026, time.February, 1, 0, 0, 0, 0, time.UTC)
		longest, run := int64(0), int64(0)
		absent := m.simulate(startsFrom(begin, days), days*24*60)
		for _, flag := range absent {
			if run++; !flag {
				run = 0
			}
			longest = max(longest, run)
		}
		if plan.never() {
			if count(absent) != int64(len(absent)) {
				t.Fatalf("%s: never there, but the simulation finds it", what)
			}
			continue
		}
		if got := max(0, plan.absent()); got != longest*minute {
			t.Fatalf("%s: absent up to %s, but the simulation finds %s", what, formatMicros(got), formatMicros(longest*minute))
		}
		begin, gaps := plan.usualGaps()
		period := plan.timetable.schedule.Period()
		absent = m.simulate(startsFrom(begin, 7), int64(period/time.Minute))
		var sum int64
		for _, g := range gaps {
			sum += g.until - g.from
		}
		if sum != count(absent)*minute {
			t.Fatalf("%s: absent %s of a %v, but the simulation finds %s", what, formatMicros(sum), period, formatMicros(count(absent)*minute))
		}
		if len(gaps) > 0 {
			drawn++
			checkDrawn(t, what, plan.timetableAxis(), absent)
		}
	}
	if drawn < 5 {
		t.Errorf("only %d definitions had a gap on usual days", drawn)
	}
}

// TestTimelineFits: however odd the definition, three lines of at most 65 characters.
func TestTimelineFits(t *testing.T) {
	timelinesFit(t, 10804879395441433142) // a run that takes longer than the time between runs, and than the tolerated ones together
	timelinesFit(t, rand.Uint64())
}

func timelinesFit(t *testing.T, seed uint64) {
	t.Helper()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	crons := []string{"", "", "* * * * *", "0 3 * * *", "*/7 8-18 * * 1-5", "0 0 29 2 *", "30 2 1 */3 *"}
	some := func() *durationpb.Duration {
		return durationpb.New(max(time.Microsecond, time.Duration(r.Int64N(int64(1)<<(r.IntN(61)+1)))))
	}
	for range 100 {
		sync := &twofoldv1.Sync{Interval: some(), RunTime: some(), SourceDelay: some(), ToleratedMissedRuns: uint32(r.IntN(1 << r.IntN(10))), Cron: crons[r.IntN(len(crons))]}
		plan := newChecker(nil, Defaults{}).planOf(&twofoldv1.FeatureView{Ttl: some(), Sync: sync})
		if plan.absent() <= 0 {
			continue
		}
		lines := plan.timeline()
		if len(lines) != 3 || len(lines[0]) != timelineWidth || len(lines[1]) > 65 || len(lines[2]) > 65 || !strings.Contains(lines[0], string(markAbsent)) {
			t.Fatalf("seed %d: %v %s:\n%s", seed, sync, plan.gap(), strings.Join(lines, "\n"))
		}
	}
}
