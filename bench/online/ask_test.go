package main

import (
	"strings"
	"testing"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

func encode(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func streamedAnswer(id uint64) *twofoldv1.StreamOnlineFeaturesResponse {
	return &twofoldv1.StreamOnlineFeaturesResponse{RequestId: id, Result: &twofoldv1.StreamOnlineFeaturesResponse_Response{
		Response: &twofoldv1.GetOnlineFeaturesResponse{AsOfMicros: 77}}}
}

func TestStreamed(t *testing.T) {
	for _, want := range []uint64{0, 3, 300} {
		id, body, err := streamed(encode(t, streamedAnswer(want)))
		m := &twofoldv1.GetOnlineFeaturesResponse{}
		if err != nil || id != want || proto.Unmarshal(body, m) != nil || m.AsOfMicros != 77 {
			t.Errorf("id %d was read as %d, %v, %v", want, id, m, err)
		}
	}
	failed := &twofoldv1.StreamOnlineFeaturesResponse{RequestId: 3, Result: &twofoldv1.StreamOnlineFeaturesResponse_Error{Error: &spb.Status{Code: 14, Message: "no store"}}}
	if _, _, err := streamed(encode(t, failed)); err == nil || !strings.Contains(err.Error(), "code 14: no store") {
		t.Errorf("an error under an id gave %v", err)
	}
	for _, b := range [][]byte{nil, {0xff}, {1 << 3}, {2<<3 | 2, 5, 1}} {
		if _, _, err := streamed(b); err == nil {
			t.Errorf("%x was read", b)
		}
	}
}

// FuzzStreamed compares what is read of any bytes with what the generated message reads.
func FuzzStreamed(f *testing.F) {
	f.Add(encode(f, streamedAnswer(5)))
	f.Add([]byte{2<<3 | 2, 5, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		id, _, err := streamed(b)
		m := &twofoldv1.StreamOnlineFeaturesResponse{}
		if err == nil && proto.Unmarshal(b, m) == nil && m.GetRequestId() != id {
			t.Errorf("id %d was read as %d", m.GetRequestId(), id)
		}
	})
}
