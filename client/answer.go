package client

import (
	"time"

	"google.golang.org/grpc/status"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// AsOf returns an instant in the form of GetOnlineFeaturesRequest.AsOfMicros, in whole microseconds.
func AsOf(t time.Time) *int64 {
	micros := t.UnixMicro()
	return &micros
}

// AnsweredAsOf returns the instant by which the freshness of an answer was decided, in UTC.
func AnsweredAsOf(resp *twofoldv1.GetOnlineFeaturesResponse) time.Time {
	return time.UnixMicro(resp.GetAsOfMicros()).UTC()
}

// Faults returns why views could not be read whole, by name: values of theirs are UNAVAILABLE. It is empty where all could be read, which
// is always so without GetOnlineFeaturesRequest.AllowPartial. The errors are gRPC statuses: those that the call would have failed with.
func Faults(resp *twofoldv1.GetOnlineFeaturesResponse) map[string]error {
	faults := map[string]error{}
	for _, view := range resp.GetViews() {
		if st := view.GetFault(); st != nil {
			faults[view.GetName()] = status.ErrorProto(st)
		}
	}
	return faults
}

// EventTime returns the event time of the row that a view's values of one entity come from, in UTC, and false where there is no row or the
// request did not have IncludeEventTimes.
func EventTime(resp *twofoldv1.GetOnlineFeaturesResponse, view string, row int) (time.Time, bool) {
	for _, v := range resp.GetViews() {
		times := v.GetEventTimesMicros()
		if v.GetName() == view && row >= 0 && row < len(times) && times[row] != 0 {
			return time.UnixMicro(times[row]).UTC(), true
		}
	}
	return time.Time{}, false
}

// Scalar is the type of one value of a column that is no list. Timestamps are time.Time, in UTC.
type Scalar interface {
	bool | int32 | int64 | float32 | float64 | string | []byte | time.Time
}

// Value returns one value of a column of type T with its status, so that the value of an EXPIRED row can be had too: it is there only
// where the request had IncludeExpired, and is the column's zero else. Every other status but PRESENT goes with T's zero value. The status is UNSPECIFIED
// where the column is of another type or has no such row.
func Value[T Scalar](c *twofoldv1.Column, row int) (T, twofoldv1.ValueStatus) {
	var v any
	ok := false
	switch any(*new(T)).(type) {
	case bool:
		v, ok = element(c.GetBools().GetValues(), row)
	case int32:
		v, ok = element(c.GetInt32S().GetValues(), row)
	case int64:
		v, ok = element(c.GetInt64S().GetValues(), row)
	case float32:
		v, ok = element(c.GetFloats().GetValues(), row)
	case float64:
		v, ok = element(c.GetDoubles().GetValues(), row)
	case string:
		v, ok = element(c.GetStrings().GetValues(), row)
	case []byte:
		v, ok = element(c.GetBinaries().GetValues(), row)
	case time.Time:
		var micros int64
		micros, ok = element(c.GetTimestamps().GetValues(), row)
		v = time.UnixMicro(micros).UTC()
	}
	var zero T
	if !ok {
		return zero, twofoldv1.ValueStatus_VALUE_STATUS_UNSPECIFIED
	}
	switch s := Status(c, row); s {
	case twofoldv1.ValueStatus_VALUE_STATUS_PRESENT, twofoldv1.ValueStatus_VALUE_STATUS_EXPIRED:
		return v.(T), s
	default:
		return zero, s
	}
}

func element[T any](values []T, row int) (T, bool) {
	if row < 0 || row >= len(values) {
		var zero T
		return zero, false
	}
	return values[row], true
}
