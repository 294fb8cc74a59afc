package cron

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// zoneOf returns a zone that must be there.
func zoneOf(t testing.TB, name string) *time.Location {
	t.Helper()
	zone, err := Zone(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func mustParse(t testing.TB, expression, zone string) *Schedule {
	t.Helper()
	s, err := Parse(expression, zoneOf(t, zone))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNext(t *testing.T) {
	for _, test := range []struct{ expression, zone, after, want string }{
		{"5 3 * * *", "UTC", "2026-02-28T03:04:59Z", "2026-02-28T03:05:00Z"},
		{"5 3 * * *", "UTC", "2026-02-28T03:05:00Z", "2026-03-01T03:05:00Z"},
		{"5 3 * * *", "UTC", "2026-02-28T03:05:00.000001Z", "2026-03-01T03:05:00Z"},
		{"0 0 31 * *", "UTC", "2026-01-31T00:00:00Z", "2026-03-31T00:00:00Z"},
		{"0 0 29 2 *", "UTC", "2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z"},
		{"0 0 13 * 5", "UTC", "2026-11-01T00:00:00Z", "2026-11-06T00:00:00Z"}, // the 13th or a Friday
		{"0 0 * * 7", "UTC", "2026-11-23T00:00:00Z", "2026-11-29T00:00:00Z"},
		{"0 22-2 * * *", "UTC", "2026-11-23T02:00:00Z", "2026-11-23T22:00:00Z"},
		{"0 22-2 * * *", "UTC", "2026-11-23T23:00:00Z", "2026-11-24T00:00:00Z"},
		{"0 12 * * *", "Europe/Berlin", "2040-12-31T11:00:00+01:00", "2040-12-31T12:00:00+01:00"},
		{"0 12 * * *", "Europe/Berlin", "2040-12-31T12:00:00+01:00", "2041-01-01T12:00:00+01:00"},
		{"0 9 * * MON-FRI", "Asia/Kolkata", "2026-11-20T09:00:00+05:30", "2026-11-23T09:00:00+05:30"},
		{"*/20 * * jan *", "UTC", "2026-11-23T00:00:00Z", "2027-01-01T00:00:00Z"},

		// The clock goes from 01:59 to 03:00 on 2026-03-29 in Berlin, and from 02:59 to 02:00 on 2026-10-25.
		{"30 2 * * *", "Europe/Berlin", "2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00"},
		{"30 2 * * *", "Europe/Berlin", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"},
		{"*/5 2 * * *", "Europe/Berlin", "2026-03-28T02:55:00+01:00", "2026-03-29T03:00:00+02:00"},
		{"*/5 2 * * *", "Europe/Berlin", "2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"},
		{"*/30 * * * *", "Europe/Berlin", "2026-03-29T01:30:00+01:00", "2026-03-29T03:00:00+02:00"},
		{"0 3 * * *", "Europe/Berlin", "2026-03-28T03:00:00+01:00", "2026-03-29T03:00:00+02:00"},
		{"30 2 * * *", "Europe/Berlin", "2026-10-24T02:30:00+02:00", "2026-10-25T02:30:00+02:00"},
		{"30 2 * * *", "Europe/Berlin", "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"},
		{"30 2 * * *", "Europe/Berlin", "2026-10-25T02:30:00+01:00", "2026-10-26T02:30:00+01:00"},
		{"*/30 * * * *", "Europe/Berlin", "2026-10-25T02:30:00+02:00", "2026-10-25T02:00:00+01:00"},
		// Midnight is skipped in Santiago on 2026-09-06, and shown twice on 2026-04-05 (the day before ends twice).
		{"0 0 * * *", "America/Santiago", "2026-09-05T00:00:00-04:00", "2026-09-06T01:00:00-03:00"},
		{"30 23 * * *", "America/Santiago", "2026-04-04T23:30:00-03:00", "2026-04-04T23:30:00-04:00"},
		// Lord Howe's clock changes by half an hour: from 01:59 to 02:30 on 2026-10-04.
		{"15 2 * * *", "Australia/Lord_Howe", "2026-10-03T02:15:00+10:30", "2026-10-04T02:30:00+11:00"},
		// Samoa had no 30 December 2011.
		{"0 12 * * *", "Pacific/Apia", "2011-12-29T12:00:00-10:00", "2011-12-31T00:00:00+14:00"},
	} {
		got := mustParse(t, test.expression, test.zone).Next(parseTime(t, test.after)).Format(time.RFC3339)
		if got != test.want {
			t.Errorf("%s in %s after %s: %s, want %s", test.expression, test.zone, test.after, got, test.want)
		}
	}
}

func parseTime(t testing.TB, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestParseRefuses(t *testing.T) {
	for expression, want := range map[string]string{
		"":                             "its number of fields is 0 and not 5: minute, hour, day of month, month, day of week",
		"0 3 * *":                      "its number of fields is 4 and not 5: minute, hour, day of month, month, day of week",
		"0 0 3 * * *":                  "its number of fields is 6 and not 5: minute, hour, day of month, month, day of week",
		"@daily":                       "its number of fields is 1 and not 5: minute, hour, day of month, month, day of week",
		"CRON_TZ=UTC 0 3 * *":          `"CRON_TZ=UTC" is not a minute`,
		"60 3 * * *":                   `"60" is not a minute: `,
		"0 24 * * *":                   `"24" is not a hour: `,
		"0 3 0 * *":                    `"0" is not a day of month: `,
		"0 3 * 13 *":                   `"13" is not a month: `,
		"0 3 * * 8":                    `"8" is not a day of week: `,
		"0 3 * * L":                    `"L" is not a day of week: `,
		"0 3 L * *":                    `"L" is not a day of month: `,
		"H 3 * * *":                    `"H" is not a minute: `,
		"0 3 * * 1#2":                  `"1#2" is not a day of week`,
		"0 3 ? * *":                    `"?" is not a day of month`,
		"1,,2 3 * * *":                 `"1,,2" is not a minute`,
		"*/0 3 * * *":                  `"*/0" is not a minute: `,
		"0 0 30 2 *":                   "it never fires: no month that it names has such a day",
		"0 0 31 2,4,6,9,11 *":          "it never fires: no month that it names has such a day",
		"0 3 * * \u0661":               "\"\u0661\" is not a day of week",
		"0 3 * * 99999999999999999999": `"99999999999999999999" is not a day of week: `,
	} {
		_, err := Parse(expression, time.UTC)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", expression, err, want)
		}
	}
	for _, name := range []string{"", "Local", "Europe/Berlim", "../../etc/passwd"} {
		if _, err := Zone(name); err == nil {
			t.Errorf("%q is a zone", name)
		}
	}
}

func TestLongest(t *testing.T) {
	const hour, day = 3600, 24 * 3600
	for _, test := range []struct {
		expression, zone string
		n                int
		want             int64
		start            string
	}{
		{"* * * * *", "UTC", 1, 60, ""},
		{"*/7 * * * *", "UTC", 1, 7 * 60, ""},
		{"*/7 * * * *", "UTC", 9, hour, ""},
		{"* * * * *", "Europe/Berlin", 1, 60, ""},
		{"* * * * 1-5", "Europe/Berlin", 1, 2*day + hour + 60, ""}, // the weekend on which an hour is shown twice
		{"0 3 * * *", "UTC", 1, day, ""},
		{"0 3 * * *", "Europe/Berlin", 1, 25 * hour, "2026-10-24T03:00:00+02:00"},
		{"30 2 * * *", "Europe/Berlin", 1, day, ""}, // in autumn it fires twice
		{"0 3,4 * * *", "UTC", 1, 23 * hour, ""},
		{"0 3,4 * * *", "UTC", 2, day, ""},
		{"0 3,4 * * *", "UTC", 3, 47 * hour, ""},
		{"0 0 1 * *", "UTC", 1, 31 * day, ""},
		{"0 0 31 * *", "UTC", 1, 61 * day, ""},
		{"0 0 29 2 *", "UTC", 1, 1461 * day, ""},
		{"0 0 29 2 *", "UTC", 1000, 1461 * day * 1000, ""},
		{"0 0 * 2 1", "UTC", 1, 50 * 7 * day, ""}, // Mondays of February
		{"0 0 1 1 *", "Asia/Tokyo", 1, 366 * day, ""},
		{"0 0 13 * 5", "UTC", 1, 7 * day, ""},
	} {
		got := mustParse(t, test.expression, test.zone).Longest(test.n)
		if got.Seconds != test.want || (test.start != "" && got.Start.Format(time.RFC3339) != test.start) {
			t.Errorf("%s in %s, %d runs: %v from %s, want %v %s", test.expression, test.zone, test.n, time.Duration(got.Seconds)*time.Second,
				got.Start.Format(time.RFC3339), time.Duration(test.want)*time.Second, test.start)
		}
	}
}

func TestPeriod(t *testing.T) {
	for expression, want := range map[string]time.Duration{
		"0 3 * * *": 24 * time.Hour, "0 3 * * 0-6": 24 * time.Hour, "0 3 1-31 1-12 *": 24 * time.Hour,
		"0 3 * * 1": 7 * 24 * time.Hour, "0 3 1 * *": 0, "0 3 * 1 *": 0, "0 3 */2 * *": 0,
	} {
		if got := mustParse(t, expression, "UTC").Period(); got != want {
			t.Errorf("%s: %v, want %v", expression, got, want)
		}
	}
}

// expression is a random one and what its fields mean.
type expression struct {
	text   string
	fields [5][]int
	anyDay [2]bool // day of month, day of week
}

func randomExpression(r *rand.Rand) expression {
	var e expression
	texts := make([]string, 5)
	for i, bounds := range [5][2]int{{0, 59}, {0, 23}, {1, 31}, {1, 12}, {0, 6}} {
		first, last, step := bounds[0], bounds[1], 1
		texts[i] = "*"
		switch kind := r.IntN(6); {
		case kind == 0 || (kind < 3 && i < 2):
			first += r.IntN(last - first + 1)
			last = first
			texts[i] = strconv.Itoa(first)
		case kind == 1 && i > 1:
			first += r.IntN(last - first)
			last = first + 1 + r.IntN(last-first)
			texts[i] = fmt.Sprintf("%d-%d", first, last)
		case kind == 2 || (kind == 3 && i < 2):
			step = 2 + r.IntN(9)
			texts[i] = fmt.Sprintf("%d-%d/%d", first, last, step)
		}
		for v := first; v <= last; v += step {
			e.fields[i] = append(e.fields[i], v)
		}
	}
	e.text = strings.Join(texts, " ")
	e.anyDay = [2]bool{texts[2] == "*", texts[4] == "*"}
	return e
}

// matches reports whether a clock that shows this fires.
func (e expression) matches(shown time.Time) bool {
	day, weekday := slices.Contains(e.fields[2], shown.Day()), slices.Contains(e.fields[4], int(shown.Weekday()))
	onDay := day || weekday
	if e.anyDay[0] || e.anyDay[1] {
		onDay = day && weekday
	}
	return onDay && slices.Contains(e.fields[0], shown.Minute()) && slices.Contains(e.fields[1], shown.Hour()) && slices.Contains(e.fields[3], int(shown.Month()))
}

// TestNextAgainstClock holds Next, and the walk beneath Longest, against a clock that is looked at every minute.
func TestNextAgainstClock(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "America/Santiago", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kathmandu", "Pacific/Chatham"}
	for range 60 {
		e := randomExpression(r)
		zone := zoneOf(t, zones[r.IntN(len(zones))])
		s, err := Parse(e.text, zone)
		if err != nil {
			continue // 30 February
		}
		from := firstWalked.AddDate(0, 0, 2+r.IntN(700))
		var want []time.Time
		before := onClock(from.In(zone))
		for at := from.Add(time.Minute).In(zone); len(want) < 300 && at.Before(from.AddDate(0, 8, 0)); at = at.Add(time.Minute) {
			shown := onClock(at)
			fires := e.matches(shown)
			for skipped := before.Add(time.Minute); skipped.Before(shown); skipped = skipped.Add(time.Minute) {
				fires = fires || e.matches(skipped)
			}
			if before = shown; fires {
				want = append(want, at)
			}
		}
		at := from
		for _, run := range want {
			next := s.Next(at)
			if !next.Equal(run) {
				t.Fatalf("seed %d: %s in %v after %v: %v, want %v", seed, e.text, zone, at, next, run)
			}
			at = next
		}
		walked := 0
		s.walk(func(at int64) bool {
			if walked < len(want) && at > from.Unix() {
				if at != want[walked].Unix() {
					t.Fatalf("seed %d: %s in %v: the walk yields %v, want %v", seed, e.text, zone, time.Unix(at, 0).In(zone), want[walked])
				}
				walked++
			}
			return walked < len(want)
		})
	}
}

// FuzzParse: any text is refused or fires, always later than the moment that is asked about, within its bounds.
func FuzzParse(f *testing.F) {
	f.Add("5 3 * * *", "Europe/Berlin", int64(1_790_000_000))
	f.Add("*/5 2 29 2 MON-FRI", "America/Santiago", int64(-1))
	f.Add("1,2-3,*/4 0-23/5 1 jan 7", "", int64(1<<40))
	f.Fuzz(func(t *testing.T, text, zone string, after int64) {
		location, err := Zone(zone)
		if err != nil {
			location = time.UTC
		}
		s, err := Parse(text, location)
		if err != nil {
			return
		}
		again, err := Parse(s.String(), location)
		if err != nil {
			t.Fatalf("%q is read, and not as %q: %v", text, s, err)
		}
		at := time.Unix(after%(1<<36), 0)
		next := s.Next(at)
		if !next.After(at) || next.Sub(at) > maxSearchYears*366*24*time.Hour || !again.Next(at).Equal(next) {
			t.Fatalf("%q after %v: %v", text, at, next)
		}
	})
}

func BenchmarkLongest(b *testing.B) {
	for _, expression := range []string{"* * * * *", "* * * * 1-5", "0 3 * * *", "0 0 29 2 *"} {
		b.Run(expression, func(b *testing.B) {
			s := mustParse(b, expression, "Europe/Berlin")
			for b.Loop() {
				s.Longest(1)
			}
		})
	}
}
