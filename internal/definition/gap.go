package definition

import (
	"fmt"
	"strings"
	"time"
)

// plan is how a view is synced, with every default filled in. Times are in microseconds.
//
// Rows are true at their event time, are in the source delay later, are read by the run that starts next, and are online runTime after it
// started. Every moment has rows. So the run that starts at s makes features available from s + runTime to s − delay + ttl.
type plan struct {
	ttl, runTime, delay int64
	// missed is how many runs in a row may fail.
	missed int64
	// interval is the time between two runs; not used where timetable is not nil.
	interval  int64
	timetable *timetable
	// stretch is the longest time from a run to the run after those that may fail; with a timetable, start is when it begins.
	stretch int64
	start   time.Time
}

// absent is for how long features are absent at the most, 0 or less where they never are.
func (p plan) absent() int64 { return p.need() - p.ttl }

// need is the ttl that bridges the time between two runs that succeed.
func (p plan) need() int64 { return p.stretch + p.runTime + p.delay }

// never is whether rows have expired by the time they are online.
func (p plan) never() bool { return p.ttl <= p.runTime+p.delay }

// gap says in words when features are absent, for example "ttl 2h, sync every 6h: absent 4h of every 6h".
func (p plan) gap() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ttl %s, sync ", formatMicros(p.ttl))
	if p.timetable != nil {
		fmt.Fprintf(&b, "at %v", p.timetable)
	} else {
		fmt.Fprintf(&b, "every %s", formatMicros(p.interval))
	}
	if p.runTime > 0 {
		fmt.Fprintf(&b, ", a run takes %s", formatMicros(p.runTime))
	}
	if p.delay > 0 {
		fmt.Fprintf(&b, ", rows are %s old when they can be read", formatMicros(p.delay))
	}
	b.WriteString(": ")
	switch {
	case p.never():
		b.WriteString("always absent, because rows have expired by the time a run has ended")
	case p.missed > 0:
		fmt.Fprintf(&b, "absent %s after %d missed %s", formatMicros(p.absent()), p.missed, plural(p.missed, "run"))
	case p.timetable != nil:
		b.WriteString(p.gapsOfTimetable())
	default:
		fmt.Fprintf(&b, "absent %s of every %s", formatMicros(min(p.absent(), p.interval)), formatMicros(p.interval))
	}
	return b.String()
}

func plural(n int64, one string) string {
	if n == 1 {
		return one
	}
	return one + "s"
}

// mend names an interval, or a ttl, that leaves room for twice the time needed, so that one late run makes no gap.
func (p plan) mend() string {
	ttl := fmt.Sprintf("ttl to at least %s", formatMicros(2*p.need()))
	taken := p.runTime + p.delay
	if p.timetable != nil {
		if p.never() {
			return "set " + ttl
		}
		return "let sync.cron fire more often or set " + ttl
	}
	interval := (p.ttl/2 - taken) / (p.missed + 1)
	if interval <= 0 {
		interval = (p.ttl - taken) / (p.missed + 1)
	}
	if second := int64(time.Second / time.Microsecond); interval > second {
		interval -= interval % second
	}
	if interval <= 0 {
		return "set " + ttl
	}
	return fmt.Sprintf("set sync.interval to at most %s or %s", formatMicros(interval), ttl)
}

// maxListedGaps is how many gaps of a day or week are told one by one.
const maxListedGaps = 3

// gapsOfTimetable says when features are absent where cron says when to run and every run succeeds.
func (p plan) gapsOfTimetable() string {
	begin, gaps := p.usualGaps()
	if len(gaps) == 0 {
		from, until := later(p.start, p.ttl-p.delay), later(p.start, p.stretch+p.runTime)
		return fmt.Sprintf("absent up to %s, for example from %s to %s", formatMicros(p.absent()), formatDay(from), formatDay(until))
	}
	every, clock := "day", formatClock
	if p.timetable.schedule.Period() > 24*time.Hour {
		every, clock = "week", formatWeekClock
	}
	if len(gaps) > maxListedGaps {
		var longest, sum int64
		for _, g := range gaps {
			longest, sum = max(longest, g.until-g.from), sum+g.until-g.from
		}
		return fmt.Sprintf("absent %d times a %s, up to %s at a time, %s of every %s", len(gaps), every, formatMicros(longest), formatMicros(sum),
			formatMicros(int64(p.timetable.schedule.Period()/time.Microsecond)))
	}
	texts := make([]string, 0, len(gaps))
	for _, g := range gaps {
		from, until := later(begin, g.from), later(begin, g.until)
		texts = append(texts, fmt.Sprintf("%s–%s (%s)", clock(from), clock(until), formatMicros(g.until-g.from)))
	}
	return fmt.Sprintf("absent %s every %s", strings.Join(texts, " and "), every)
}

// stretch is a time, in microseconds after a beginning.
type stretch struct{ from, until int64 }

// usualGaps returns the gaps after each run of a day, or week, on which the clock does not change, in the order of the runs, and when that day or
// week begins. There are none where the schedule has no such period, nor where features are absent only when the clock changes.
func (p plan) usualGaps() (begin time.Time, gaps []stretch) {
	period := p.timetable.schedule.Period()
	begin, ok := p.timetable.usualWeek()
	if period == 0 || !ok {
		return begin, nil
	}
	run := p.timetable.schedule.Next(begin.Add(-time.Second))
	for run.Before(begin.Add(period)) {
		next := p.timetable.schedule.Next(run)
		from, until := micros64(run.Sub(begin))-p.delay+p.ttl, micros64(next.Sub(begin))+p.runTime
		if until > from {
			gaps = append(gaps, stretch{from, until})
		}
		run = next
	}
	return begin, gaps
}

// later returns the moment so many microseconds after t, in t's zone, over any distance.
func later(t time.Time, micros int64) time.Time {
	return time.UnixMicro(t.UnixMicro() + micros).In(t.Location())
}

func micros64(d time.Duration) int64 { return int64(d / time.Microsecond) }

// formatClock writes a time of day: 02:30, or 02:30:15 where there are seconds.
func formatClock(t time.Time) string { return t.Format(clockLayout(t)) }

// formatWeekClock writes a time of a week: Mon 02:30.
func formatWeekClock(t time.Time) string { return t.Format("Mon " + clockLayout(t)) }

// formatDay writes a time: 2026-03-29 02:30.
func formatDay(t time.Time) string { return t.Format("2006-01-02 " + clockLayout(t)) }

func clockLayout(t time.Time) string {
	switch {
	case t.Nanosecond() != 0:
		return "15:04:05.999999"
	case t.Second() != 0:
		return "15:04:05"
	default:
		return "15:04"
	}
}

// formatMicros writes a time as definitions do: 36h, 1h30m, 1m30s, 250ms.
func formatMicros(t int64) string {
	if t == 0 {
		return "0s"
	}
	units := []struct {
		name   string
		micros int64
	}{{"h", 3_600_000_000}, {"m", 60_000_000}, {"s", 1_000_000}, {"ms", 1000}, {"us", 1}}
	var b strings.Builder
	for _, unit := range units {
		if n := t / unit.micros; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, unit.name)
			t -= n * unit.micros
		}
	}
	return b.String()
}
