package feature

import (
	"math"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTTLOf(t *testing.T) {
	for d, want := range map[time.Duration]TTL{
		0:                    0,
		1:                    1,
		time.Microsecond:     1,
		time.Microsecond + 1: 2,
		2 * time.Hour:        7_200_000_000,
		math.MaxInt64:        9_223_372_036_854_776,
	} {
		if got := TTLOf(d); got != want {
			t.Errorf("%v is %d, want %d", d, got, want)
		}
	}
	if got := TTLOf(90 * time.Second).Duration(); got != 90*time.Second {
		t.Errorf("90s came back as %v", got)
	}
	if got := TTLOf(math.MaxInt64).Duration(); got != math.MaxInt64 {
		t.Errorf("the longest duration came back as %v", got)
	}
}

func TestTTLTighten(t *testing.T) {
	for _, c := range []struct{ ttl, other, want TTL }{
		{0, 0, 0}, {0, 5, 5}, {5, 0, 5}, {5, 3, 3}, {3, 5, 3}, {4, 4, 4},
		{5, TTLOf(math.MaxInt64), 5}, // a bound that is as long as can be extends nothing
	} {
		if got := c.ttl.Tighten(c.other); got != c.want {
			t.Errorf("%d tightened by %d is %d, want %d", c.ttl, c.other, got, c.want)
		}
	}
}

func TestExpired(t *testing.T) {
	for _, c := range []struct {
		ttl   TTL
		event EventTime
		asOf  AsOf
		want  bool
	}{
		{10, 100, 109, false},
		{10, 100, 110, false}, // exactly the ttl
		{10, 100, 111, true},
		{10, 100, 99, false}, // from the future
		{0, math.MinInt64, math.MaxInt64, false},
		{math.MaxInt64, math.MinInt64, math.MaxInt64, true}, // the age is 2^64−1
		{math.MaxInt64, 0, math.MaxInt64, false},
		{math.MaxInt64, -1, math.MaxInt64, true},
		{1, math.MinInt64, math.MinInt64 + 1, false},
		{1, math.MinInt64, math.MinInt64 + 2, true},
		{1, math.MaxInt64, math.MinInt64, false},
		{10, -5, 5, false},
		{10, -5, 6, true},
	} {
		if got := c.ttl.Expired(c.event, c.asOf); got != c.want {
			t.Errorf("ttl %d, event %d, as of %d: expired %v", c.ttl, c.event, c.asOf, got)
		}
	}
}

func TestExpiredIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ttl := rapid.Int64Min(0).Draw(t, "ttl")
		event, asOf := rapid.Int64().Draw(t, "event"), rapid.Int64().Draw(t, "asOf")
		if rapid.Bool().Draw(t, "near") {
			asOf = event + ttl + rapid.Int64Range(-2, 2).Draw(t, "off") // may wrap, which is as good a case as any
		}
		age := new(big.Int).Sub(big.NewInt(asOf), big.NewInt(event))
		want := ttl != 0 && age.Cmp(big.NewInt(ttl)) > 0
		if got := TTL(ttl).Expired(EventTime(event), AsOf(asOf)); got != want {
			t.Fatalf("expired %v, want %v", got, want)
		}
	})
}

func TestNewer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func() (EventTime, CreatedTime) {
			return EventTime(rapid.Int64Range(-2, 2).Draw(t, "event")), CreatedTime(rapid.Int64Range(-2, 2).Draw(t, "created"))
		}
		e1, c1 := draw()
		e2, c2 := draw()
		want := e1 > e2 || (e1 == e2 && c1 > c2)
		if Newer(e1, c1, e2, c2) != want {
			t.Fatalf("(%d, %d) newer than (%d, %d) is not %v", e1, c1, e2, c2, want)
		}
		if want && Newer(e2, c2, e1, c1) {
			t.Fatal("both are newer than the other")
		}
	})
}

func TestTimeRange(t *testing.T) {
	r := TimeRange{10, 20}
	for _, c := range []struct {
		other TimeRange
		want  bool
	}{
		{TimeRange{0, 9}, false},
		{TimeRange{0, 10}, true},
		{TimeRange{12, 13}, true},
		{TimeRange{20, 30}, true},
		{TimeRange{21, 30}, false},
		{AllTime(), true},
	} {
		if r.Overlaps(c.other) != c.want || c.other.Overlaps(r) != c.want {
			t.Errorf("%v overlaps %v is not %v", r, c.other, c.want)
		}
	}
}
