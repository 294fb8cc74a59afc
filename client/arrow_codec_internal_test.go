package client

import (
	"bytes"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

func responses() []*twofoldv1.GetHistoricalFeaturesResponse {
	batch := func(b *twofoldv1.HistoricalBatch) *twofoldv1.GetHistoricalFeaturesResponse {
		return &twofoldv1.GetHistoricalFeaturesResponse{Message: &twofoldv1.GetHistoricalFeaturesResponse_Batch{Batch: b}}
	}
	return []*twofoldv1.GetHistoricalFeaturesResponse{
		{},
		batch(&twofoldv1.HistoricalBatch{}),
		batch(&twofoldv1.HistoricalBatch{ArrowIpc: bytes.Repeat([]byte("arrow"), 1000), RowCount: 1 << 31}),
		batch(&twofoldv1.HistoricalBatch{ArrowIpc: []byte("arrow")}),
		batch(&twofoldv1.HistoricalBatch{RowCount: 3}),
		batch(&twofoldv1.HistoricalBatch{Columns: &twofoldv1.ColumnBatch{Columns: []*twofoldv1.Column{Strings("a", "b")}}, RowCount: 1}),
		{Message: &twofoldv1.GetHistoricalFeaturesResponse_Schema{Schema: &twofoldv1.HistoricalSchema{ArrowIpc: []byte("schema")}}},
		{Message: &twofoldv1.GetHistoricalFeaturesResponse_Manifest{Manifest: &twofoldv1.HistoricalManifest{RowCount: 7, ArrowIpc: []byte("end")}}},
		{Message: &twofoldv1.GetHistoricalFeaturesResponse_Progress{Progress: &twofoldv1.HistoricalProgress{Part: 2}}},
	}
}

// TestArrowCodec reads messages one after the other into the same memory, each in several pieces.
func TestArrowCodec(t *testing.T) {
	codec := newArrowCodec()
	for i, want := range responses() {
		b := mustMarshal(t, want)
		pieces := mem.BufferSlice{mem.SliceBuffer(b[:len(b)/3]), mem.SliceBuffer(b[len(b)/3:])}
		got := &twofoldv1.GetHistoricalFeaturesResponse{}
		if err := codec.Unmarshal(pieces, got); err != nil || !proto.Equal(got, want) {
			t.Errorf("message %d: got %v, %v", i, got, err)
		}
	}
	if arrowBatch(mustMarshal(t, responses()[2])) == nil {
		t.Error("a batch of an Arrow stream is not read in place")
	}
	other := &twofoldv1.GetHistoricalFeaturesRequest{}
	want := &twofoldv1.GetHistoricalFeaturesRequest{Message: &twofoldv1.GetHistoricalFeaturesRequest_Header{Header: &twofoldv1.HistoricalHeader{FeatureService: "s"}}}
	if err := codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(mustMarshal(t, want))}, other); err != nil || !proto.Equal(other, want) {
		t.Errorf("another message: %v, %v", other, err)
	}
}

func mustMarshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzArrowBatch holds what is read in place against protobuf's own reader.
func FuzzArrowBatch(f *testing.F) {
	for _, m := range responses() {
		f.Add(mustMarshal(f, m))
	}
	f.Add([]byte{0x12, 0x06, 0x12, 0x00, 0x18, 0x80, 0x80, 0x00})
	f.Fuzz(func(t *testing.T, message []byte) {
		batch := arrowBatch(message)
		if batch == nil {
			return
		}
		want := &twofoldv1.GetHistoricalFeaturesResponse{}
		if err := proto.Unmarshal(message, want); err != nil {
			t.Fatalf("protobuf does not read it: %v", err)
		}
		if !proto.Equal(batch, want.GetBatch()) {
			t.Errorf("got %v, want %v", batch, want)
		}
	})
}
