package definition

import (
	"fmt"
	"time"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/cron"
)

// timetable is a cron expression in a time zone, and what was worked out of it.
type timetable struct {
	schedule *cron.Schedule
	zone     *time.Location
	// err says why there is no schedule.
	err   error
	spans map[int]cron.Span
}

// String returns the expression in quotes and the zone where it is not UTC.
func (t *timetable) String() string {
	if t.zone == time.UTC {
		return fmt.Sprintf("%q", t.schedule)
	}
	return fmt.Sprintf("%q %v", t.schedule, t.zone)
}

// longest is schedule.Longest, worked out once.
func (t *timetable) longest(n int) cron.Span {
	span, ok := t.spans[n]
	if !ok {
		span = t.schedule.Longest(n)
		t.spans[n] = span
	}
	return span
}

// usualWeek returns a Monday, 00:00, with two weeks after it in which the clock does not change, and whether there is one.
func (t *timetable) usualWeek() (time.Time, bool) {
	const weeks = 14 * 24 * time.Hour
	for day := 5; day < 5+7*104; day += 7 { // 5 January 2026 is a Monday
		begin := time.Date(2026, time.January, day, 0, 0, 0, 0, t.zone)
		if _, end := begin.ZoneBounds(); begin.Hour() == 0 && (end.IsZero() || end.Sub(begin) > weeks) {
			return begin, true
		}
	}
	return time.Time{}, false
}

// timetables are those of a set of definitions, each made once.
type timetables map[timetableKey]*timetable

type timetableKey struct{ cron, zone string }

// of returns the timetable of a view's sync; nil where it has no cron, or one that cannot be used.
func (ts timetables) of(s *twofoldv1.Sync) *timetable {
	zone, err := zoneOf(s)
	if s.GetCron() == "" || err != nil {
		return nil
	}
	if t := ts.parse(s.GetCron(), zone); t.err == nil {
		return t
	}
	return nil
}

// parse returns a timetable, with an error where the expression cannot be used.
func (ts timetables) parse(expression string, zone *time.Location) *timetable {
	key := timetableKey{expression, zone.String()}
	t, ok := ts[key]
	if !ok {
		t = &timetable{zone: zone, spans: map[int]cron.Span{}}
		t.schedule, t.err = cron.Parse(expression, zone)
		ts[key] = t
	}
	return t
}

// zoneOf returns the zone that a view's cron is read in.
func zoneOf(s *twofoldv1.Sync) (*time.Location, error) {
	if s.GetTimeZone() == "" || s.GetTimeZone() == "UTC" {
		return time.UTC, nil
	}
	return cron.Zone(s.GetTimeZone())
}
