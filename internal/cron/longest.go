package cron

import (
	"time"

	crons "github.com/netresearch/go-cron"
)

// The years that are looked through for the longest time between runs: days of the week and leap years come round within 28. Of a schedule
// that fires often, fewer are enough.
var (
	firstWalked = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)
	lastWalked  = firstWalked.AddDate(28, 0, 0)
)

const maxWalkedRuns = 2_000_000

// Span is a time between two runs.
type Span struct {
	// Start is when the first of the two fires.
	Start time.Time
	// Seconds is how long after it the second fires.
	Seconds int64
}

// Longest returns the longest time from a run to the n-th run after it, n at least 1, the first of those that are equally long. Changes of the
// clock, months of different lengths and leap years count.
func (s *Schedule) Longest(n int) Span {
	recent := make([]int64, n)
	count := 0
	var longest Span
	s.walk(func(at int64) bool {
		if count >= n {
			if seconds := at - recent[count%n]; seconds > longest.Seconds {
				longest = Span{time.Unix(recent[count%n], 0).In(s.zone), seconds}
			}
		}
		recent[count%n] = at
		count++
		return count < maxWalkedRuns
	})
	if count <= n { // not as many runs in 28 years: n times the longest of them is no less
		longest = s.Longest(1)
		longest.Seconds *= int64(n)
	}
	return longest
}

// Period is after how long the schedule fires at the same times of the clock again, as far as the clock does not change: a day, a week, or 0 where
// months matter.
func (s *Schedule) Period() time.Duration {
	switch {
	case !hasAll(s.spec.Dom, 1, 31) || !hasAll(s.spec.Month, 1, 12):
		return 0
	case !hasAll(s.spec.Dow, 0, 6):
		return 7 * 24 * time.Hour
	default:
		return 24 * time.Hour
	}
}

func hasAll(bits uint64, from, to int) bool {
	for i := from; i <= to; i++ {
		if bits&(1<<i) == 0 {
			return false
		}
	}
	return true
}

// walk yields the runs of the years that are looked through, in seconds since the Unix epoch, in order, until yield returns false.
func (s *Schedule) walk(yield func(at int64) bool) {
	minutes, days := s.minutes(), s.days()
	last := firstWalked.Unix()
	regime := s.regimeAt(firstWalked)
	for day := days.Next(firstWalked); !day.IsZero() && day.Before(lastWalked); day = days.Next(day.Add(24*time.Hour - time.Second)) {
		if !regime.has(day) {
			regime = s.regimeAt(day)
		}
		if regime.has(day) {
			for _, minute := range minutes {
				at := day.Unix() + minute*60 - regime.offset
				if at <= last {
					continue // yielded with the day before, on which the clock changed
				}
				if last = at; !yield(at) {
					return
				}
			}
			continue
		}
		end := day.Add(24*time.Hour + changeMargin)
		for next := s.Next(time.Unix(last, 0)); !next.IsZero() && onClock(next).Before(end); next = s.Next(next) {
			if last = next.Unix(); !yield(last) {
				return
			}
		}
	}
}

// minutes returns the minutes of a day at which the schedule fires.
func (s *Schedule) minutes() []int64 {
	var minutes []int64
	for m := range 24 * 60 {
		if s.spec.Hour&(1<<(m/60)) != 0 && s.spec.Minute&(1<<(m%60)) != 0 {
			minutes = append(minutes, int64(m))
		}
	}
	return minutes
}

// days fires at the beginning of each day on which the schedule fires.
func (s *Schedule) days() *crons.SpecSchedule {
	days := *s.spec
	days.Hour, days.Minute = 1, 1
	return &days
}

// changeMargin is how far from a day a change of the clock must be not to touch it.
const changeMargin = 3 * time.Hour

// regime is a time in which the clock of a zone does not change.
type regime struct {
	// offset of the zone, in seconds.
	offset int64
	// since and until are its first and last moment, as the clock shows them; the zero time where there is none.
	since, until time.Time
}

// has reports whether the clock does not change on a day, whose beginning is given as the clock shows it, nor near it.
func (r regime) has(day time.Time) bool {
	return (r.since.IsZero() || !r.since.After(day.Add(-changeMargin))) &&
		(r.until.IsZero() || !r.until.Before(day.Add(24*time.Hour+changeMargin)))
}

// regimeAt returns the regime at the beginning of a day.
func (s *Schedule) regimeAt(day time.Time) regime {
	_, near := day.In(s.zone).Zone()
	begin := day.Add(-time.Duration(near) * time.Second).In(s.zone)
	_, offset := begin.Zone()
	r := regime{offset: int64(offset)}
	since, until := begin.ZoneBounds()
	if !since.IsZero() {
		r.since = since.UTC().Add(time.Duration(offset) * time.Second)
	}
	if !until.IsZero() {
		r.until = until.UTC().Add(time.Duration(offset) * time.Second)
	}
	return r
}
