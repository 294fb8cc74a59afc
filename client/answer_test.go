package client_test

import (
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

const (
	present     = twofoldv1.ValueStatus_VALUE_STATUS_PRESENT
	null        = twofoldv1.ValueStatus_VALUE_STATUS_NULL
	expired     = twofoldv1.ValueStatus_VALUE_STATUS_EXPIRED
	unavailable = twofoldv1.ValueStatus_VALUE_STATUS_UNAVAILABLE
	unspecified = twofoldv1.ValueStatus_VALUE_STATUS_UNSPECIFIED
)

// checkValue checks a column whose rows are PRESENT, EXPIRED, NULL and UNAVAILABLE, all four with the same value in the array.
func checkValue[T client.Scalar](t *testing.T, c *twofoldv1.Column, equal func(T) bool, zero func(T) bool) {
	t.Helper()
	c.Statuses = []twofoldv1.ValueStatus{present, expired, null, unavailable}
	for row, want := range c.GetStatuses() {
		v, s := client.Value[T](c, row)
		if s != want {
			t.Errorf("%s, row %d is %v, want %v", c.GetName(), row, s, want)
		}
		if there := s == present || s == expired; there && !equal(v) || !there && !zero(v) {
			t.Errorf("%s, row %d (%v) is %v", c.GetName(), row, s, v)
		}
	}
	for _, row := range []int{-1, 4} {
		if v, s := client.Value[T](c, row); s != unspecified || !zero(v) {
			t.Errorf("%s, row %d is %v, %v", c.GetName(), row, v, s)
		}
	}
	if c.GetInt32S() == nil {
		if v, s := client.Value[int32](c, 0); s != unspecified || v != 0 {
			t.Errorf("%s as INT32 is %v, %v", c.GetName(), v, s)
		}
	}
}

func checkScalar[T interface {
	client.Scalar
	comparable
}](t *testing.T, c *twofoldv1.Column, want T) {
	t.Helper()
	var zero T
	checkValue(t, c, func(v T) bool { return v == want }, func(v T) bool { return v == zero })
}

func TestValue(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 1000, time.UTC)
	checkScalar(t, client.Bools("bool", true, true, true, true), true)
	checkScalar(t, client.Int32s("int32", 7, 7, 7, 7), int32(7))
	checkScalar(t, client.Int64s("int64", 7, 7, 7, 7), int64(7))
	checkScalar(t, client.Floats("float", 1.5, 1.5, 1.5, 1.5), float32(1.5))
	checkScalar(t, client.Doubles("double", 1.5, 1.5, 1.5, 1.5), 1.5)
	checkScalar(t, client.Strings("string", "a", "a", "a", "a"), "a")
	checkScalar(t, client.Timestamps("time", at, at, at, at), at)
	b := []byte("b")
	checkValue(t, client.Bytes("bytes", b, b, b, b), func(v []byte) bool { return string(v) == "b" }, func(v []byte) bool { return v == nil })
}

func TestFaults(t *testing.T) {
	st, err := status.New(codes.Unavailable, "redis does not answer").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	resp := &twofoldv1.GetOnlineFeaturesResponse{AsOfMicros: 1_500_000, Views: []*twofoldv1.ViewMetadata{
		{Name: "well", EventTimesMicros: []int64{0, 2_000_000}}, {Name: "sick", Fault: st.Proto()},
	}}
	faults := client.Faults(resp)
	if got := status.Convert(faults["sick"]); len(faults) != 1 || got.Code() != codes.Unavailable || len(got.Details()) != 1 {
		t.Errorf("got %v", faults)
	}
	if len(client.Faults(&twofoldv1.GetOnlineFeaturesResponse{})) != 0 {
		t.Error("a whole answer has faults")
	}
	if got := client.AnsweredAsOf(resp); !got.Equal(time.UnixMilli(1500)) {
		t.Errorf("as of %v", got)
	}
	if got := *client.AsOf(time.UnixMilli(1500).Add(999 * time.Nanosecond)); got != 1_500_000 {
		t.Errorf("AsOf is %d", got)
	}
	if got, ok := client.EventTime(resp, "well", 1); !ok || !got.Equal(time.Unix(2, 0)) {
		t.Errorf("event time %v, %v", got, ok)
	}
	for view, row := range map[string]int{"well": 0, "sick": 0, "other": 1} {
		if got, ok := client.EventTime(resp, view, row); ok {
			t.Errorf("view %s, row %d has the event time %v", view, row, got)
		}
	}
}
