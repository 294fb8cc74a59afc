package server

import (
	"context"
	"math/bits"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	encodingproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// encodedMessage is an answer that is the bytes of its message already.
type encodedMessage struct{ mem.BufferSlice }

// codec is gRPC's own codec of protobuf messages, which also takes answers that are encoded already.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(encodingproto.Name)} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(message any) (mem.BufferSlice, error) {
	if encoded, ok := message.(encodedMessage); ok {
		return encoded.BufferSlice, nil
	}
	return c.CodecV2.Marshal(message)
}

// featureService describes the gRPC service with one method changed: GetOnlineFeatures answers with bytes.
func featureService() *grpc.ServiceDesc {
	desc := twofoldv1.FeatureService_ServiceDesc
	desc.Methods = slices.Clone(desc.Methods)
	for i := range desc.Methods {
		if desc.Methods[i].MethodName == "GetOnlineFeatures" {
			desc.Methods[i].Handler = onlineMethod
		}
	}
	return &desc
}

// onlineMethod is the generated handler of GetOnlineFeatures, but for the form of its answer.
func onlineMethod(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // the order of the arguments is gRPC's
	req := &twofoldv1.GetOnlineFeaturesRequest{}
	if err := decode(req); err != nil {
		return nil, err
	}
	handle := func(ctx context.Context, req any) (any, error) {
		answer, err := srv.(*Server).answerOnline(ctx, req.(*twofoldv1.GetOnlineFeaturesRequest))
		if err != nil {
			return nil, err
		}
		return encodedMessage{mem.BufferSlice{answer}}, nil
	}
	if interceptor == nil {
		return handle(ctx, req)
	}
	return interceptor(ctx, req, &grpc.UnaryServerInfo{Server: srv, FullMethod: twofoldv1.FeatureService_GetOnlineFeatures_FullMethodName}, handle)
}

// streamedAnswer is the bytes of a StreamOnlineFeaturesResponse with that answer, which it takes over.
func streamedAnswer(requestID uint64, answer mem.Buffer) encodedMessage {
	const idField, responseField = 1, 2
	head := make([]byte, 0, 24)
	if requestID != 0 {
		head = protowire.AppendTag(head, idField, protowire.VarintType)
		head = protowire.AppendVarint(head, requestID)
	}
	head = protowire.AppendTag(head, responseField, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(answer.Len()))
	return encodedMessage{mem.BufferSlice{mem.SliceBuffer(head), answer}}
}

// answerBuffers lends the memory of answers. gRPC's own pool has no size between 32 KiB and 1 MiB and clears what it lends.
var answerBuffers = &bufferPool{}

// maxPooledBits is the binary logarithm of the largest buffer that is kept.
const maxPooledBits = 24

// bufferPool is a mem.BufferPool with a pool for each power of two.
type bufferPool struct{ sizes [maxPooledBits + 1]sync.Pool }

// Get implements mem.BufferPool. The content is what was left in the memory.
func (p *bufferPool) Get(length int) *[]byte {
	class := bits.Len(uint(max(length, 1) - 1))
	if class > maxPooledBits {
		b := make([]byte, length)
		return &b
	}
	if b, ok := p.sizes[class].Get().(*[]byte); ok {
		*b = (*b)[:length]
		return b
	}
	b := make([]byte, length, 1<<class)
	return &b
}

// Put implements mem.BufferPool.
func (p *bufferPool) Put(b *[]byte) {
	if class := bits.Len(uint(cap(*b))) - 1; class <= maxPooledBits && cap(*b) == 1<<class {
		p.sizes[class].Put(b)
	}
}
