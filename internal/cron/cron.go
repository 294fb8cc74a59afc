// Package cron reads cron expressions of five fields and says when they fire in a time zone.
//
// An expression is compared with the clock of its zone. Where that clock changes, a run is rather made twice than left out:
//
//   - A time that the clock skips (02:30 where 02:00 is followed by 03:00) fires at the moment after the skip, once, however many runs the
//     skipped time would have had.
//   - A time that the clock shows twice (02:30 where 03:00 is followed by 02:00) fires both times.
package cron

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	_ "time/tzdata" // zones are known where the machine has no database of them, as in the smallest containers

	crons "github.com/netresearch/go-cron"
)

// ErrNever is the error of an expression that is well formed and never fires.
var ErrNever = errors.New("it never fires: no month that it names has such a day")

// maxSearchYears is how far Next looks. 29 February is up to eight years away.
const maxSearchYears = 10

// Schedule is when something runs. It is not changed after it was made.
type Schedule struct {
	// spec is compared with what the clock of the zone shows, written as if it were UTC: it sees no change of the clock.
	spec *crons.SpecSchedule
	zone *time.Location
	text string
}

// standard has the five fields of a crontab, in which a day matches that matches the day of month or the day of week, where both are given.
var standard = crons.MustNewParser(crons.Minute | crons.Hour | crons.Dom | crons.Month | crons.Dow | crons.DowOrDom).WithMaxSearchYears(maxSearchYears)

var fieldNames = [...]string{"minute", "hour", "day of month", "month", "day of week"}

var fieldForm = regexp.MustCompile(`^[0-9A-Za-z*/,-]+$`)

// Parse reads an expression: minute (0–59), hour (0–23), day of month (1–31), month (1–12 or JAN–DEC), day of week (0–7 or SUN–SAT; 0 and 7
// are Sunday), each a number, a range (1-5, 22-2), a list (1,15), *, or one of these with a step (*/15). The error says what is wrong;
// it is ErrNever for 30 February.
func Parse(expression string, zone *time.Location) (*Schedule, error) {
	fields := strings.Fields(expression)
	if len(fields) != len(fieldNames) {
		return nil, fmt.Errorf("its number of fields is %d and not 5: %s", len(fields), strings.Join(fieldNames[:], ", "))
	}
	alone := [...]string{"*", "*", "*", "*", "*"}
	for i, field := range fields {
		if !fieldForm.MatchString(field) || strings.Contains(","+field+",", ",,") {
			return nil, fmt.Errorf("%q is not a %s", field, fieldNames[i])
		}
		one := alone
		one[i] = field
		if _, err := standard.Parse(strings.Join(one[:], " ")); err != nil {
			return nil, fmt.Errorf("%q is not a %s: %w", field, fieldNames[i], err)
		}
	}
	text := strings.Join(fields, " ")
	parsed, err := standard.Parse(text)
	if err != nil {
		return nil, err
	}
	spec, ok := parsed.(*crons.SpecSchedule)
	if !ok {
		return nil, fmt.Errorf("it is a %T", parsed) // five fields are always one of these
	}
	spec.Location = time.UTC
	s := &Schedule{spec: spec, zone: zone, text: text}
	if s.Next(firstWalked).IsZero() {
		return nil, ErrNever
	}
	return s, nil
}

// Zone returns the time zone of a name of the IANA database, such as "Europe/Berlin".
func Zone(name string) (*time.Location, error) {
	if name == "" || name == "Local" {
		return nil, fmt.Errorf("unknown time zone %q", name)
	}
	return time.LoadLocation(name)
}

// String returns the expression.
func (s *Schedule) String() string { return s.text }

// Next returns the first time after a moment at which the schedule fires, in its zone.
func (s *Schedule) Next(after time.Time) time.Time {
	at := after.In(s.zone)
	for shown := onClock(at); ; {
		_, offset := at.Zone()
		next := s.spec.Next(shown.Truncate(time.Minute).Add(59 * time.Second)) // it fires at whole minutes
		if next.IsZero() {
			return time.Time{}
		}
		fires := next.Add(-time.Duration(offset) * time.Second)
		change := nextChange(at)
		if change.IsZero() || fires.Before(change) {
			return fires.In(s.zone)
		}
		if next.Before(onClock(change)) { // the clock skips it
			return change
		}
		at, shown = change, onClock(change).Add(-time.Nanosecond)
	}
}

// nextChange returns a moment after t up to which the clock of t's zone does not change; the zero time where it never does.
func nextChange(t time.Time) time.Time {
	_, end := t.ZoneBounds()
	if !end.IsZero() && !end.After(t) {
		return t.Add(24 * time.Hour) // package time gives leap years after 2037 365 days: on their last, the year seems to be over
	}
	return end
}

// onClock returns what the clock of t's zone shows, as if it were UTC.
func onClock(t time.Time) time.Time {
	_, offset := t.Zone()
	return t.Add(time.Duration(offset) * time.Second).UTC()
}
