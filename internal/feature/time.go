package feature

import (
	"math"
	"time"
)

// EventTime is when a row's values became true: microseconds since the Unix epoch, UTC.
type EventTime int64

// CreatedTime is when a row was written: microseconds since the Unix epoch, UTC. Where a source has none it is NoCreatedTime.
type CreatedTime int64

// NoCreatedTime is the created time of rows that have none; it orders before every real one after 1970.
const NoCreatedTime CreatedTime = 0

// AsOf is the moment that is asked about: now for an online read, the entity row's time for a training row.
// Microseconds since the Unix epoch, UTC.
type AsOf int64

// TTL is how long after its event time a row is served, in microseconds. 0 is for ever.
type TTL int64

// TTLOf converts a duration, rounding up to a whole microsecond.
func TTLOf(d time.Duration) TTL {
	t := TTL(d / time.Microsecond)
	if d%time.Microsecond > 0 {
		t++
	}
	return t
}

// Duration converts back; what is longer than the longest duration, as TTLOf of that is by its rounding, is the longest.
func (t TTL) Duration() time.Duration {
	if t > math.MaxInt64/TTL(time.Microsecond) {
		return math.MaxInt64
	}
	return time.Duration(t) * time.Microsecond
}

// Tighten returns the shorter of t and other, where 0 is for ever.
func (t TTL) Tighten(other TTL) TTL {
	if t == 0 || (other != 0 && other < t) {
		return other
	}
	return t
}

// Expired reports whether a row of that event time is too old at asOf: asOf − event > ttl. At exactly the ttl it is fresh.
// No sum overflows.
func (t TTL) Expired(event EventTime, asOf AsOf) bool {
	if t == 0 || int64(asOf) <= int64(event) {
		return false
	}
	return uint64(asOf)-uint64(event) > uint64(t)
}

// TimeRange is a closed range of event times, microseconds since the Unix epoch, UTC.
type TimeRange struct{ Min, Max EventTime }

// AllTime holds every event time.
func AllTime() TimeRange { return TimeRange{math.MinInt64, math.MaxInt64} }

// Overlaps reports whether the two ranges share a moment.
func (r TimeRange) Overlaps(o TimeRange) bool { return r.Min <= o.Max && o.Min <= r.Max }

// Newer reports whether a row of (event, created) is newer than one of (otherEvent, otherCreated): by event time, then by created time.
func Newer(event EventTime, created CreatedTime, otherEvent EventTime, otherCreated CreatedTime) bool {
	if event != otherEvent {
		return event > otherEvent
	}
	return created > otherCreated
}
