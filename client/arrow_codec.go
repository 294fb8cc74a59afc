package client

import (
	"google.golang.org/grpc/encoding"
	encodingproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// arrowCodec is gRPC's codec of protobuf messages for one stream of Arrow batches, which are most of what such a stream is. Messages are read into the same memory one
// after the other: the Arrow bytes of a batch are copied once, not twice, and are valid until the next message is read.
type arrowCodec struct {
	encoding.CodecV2
	buffer []byte
}

// newArrowCodec returns nil where gRPC's codec was replaced by one of an earlier kind.
func newArrowCodec() *arrowCodec {
	codec := encoding.GetCodecV2(encodingproto.Name)
	if codec == nil {
		return nil
	}
	return &arrowCodec{CodecV2: codec}
}

// Name implements encoding.CodecV2: without a name the content type on the wire is gRPC's default, as it is without this codec.
func (*arrowCodec) Name() string { return "" }

// Unmarshal implements encoding.CodecV2.
func (c *arrowCodec) Unmarshal(data mem.BufferSlice, message any) error {
	m, ok := message.(*twofoldv1.GetHistoricalFeaturesResponse)
	if !ok {
		return c.CodecV2.Unmarshal(data, message)
	}
	if n := data.Len(); cap(c.buffer) < n {
		c.buffer = make([]byte, n+n/8)
	}
	c.buffer = c.buffer[:data.Len()]
	data.CopyTo(c.buffer)
	if batch := arrowBatch(c.buffer); batch != nil {
		m.Message = &twofoldv1.GetHistoricalFeaturesResponse_Batch{Batch: batch}
		return nil
	}
	return proto.Unmarshal(c.buffer, m)
}

// arrowBatch reads a GetHistoricalFeaturesResponse that is a batch of an Arrow stream, whose bytes it does not copy; nil for any other message.
func arrowBatch(message []byte) *twofoldv1.HistoricalBatch {
	const batchField, arrowField, rowsField = 2, 2, 3
	body, rest, ok := bytesField(message, batchField)
	if !ok || len(rest) > 0 {
		return nil
	}
	batch := &twofoldv1.HistoricalBatch{}
	if batch.ArrowIpc, rest, ok = bytesField(body, arrowField); !ok {
		return nil
	}
	number, kind, n := protowire.ConsumeTag(rest)
	if n < 0 || number != rowsField || kind != protowire.VarintType {
		return nil
	}
	rows, end := protowire.ConsumeVarint(rest[n:])
	if end != len(rest)-n || rows > 1<<32-1 {
		return nil
	}
	batch.RowCount = uint32(rows)
	return batch
}

// bytesField reads a field of bytes and what follows it.
func bytesField(message []byte, want protowire.Number) (value, rest []byte, ok bool) {
	number, kind, n := protowire.ConsumeTag(message)
	if n < 0 || number != want || kind != protowire.BytesType {
		return nil, nil, false
	}
	value, end := protowire.ConsumeBytes(message[n:])
	if end < 0 {
		return nil, nil, false
	}
	return value, message[n+end:], true
}
