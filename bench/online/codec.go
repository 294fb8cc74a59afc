package main

import (
	"fmt"
	"slices"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// rawCodec sends bytes that were encoded before and keeps answers encoded, so that the load generator leaves the processor to the
// servers. It calls itself proto, because that is what it sends.
type rawCodec struct{}

var _ encoding.CodecV2 = rawCodec{}

// rawAnswer is an answer, not decoded.
type rawAnswer struct {
	size int    // bytes
	keep bool   // whether body is wanted
	body []byte // the message, in the memory of body as it was where that is enough
}

// Name implements encoding.CodecV2.
func (rawCodec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2 for []byte.
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("the raw codec sends bytes, not %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

// Unmarshal implements encoding.CodecV2 for *rawAnswer.
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	a, ok := v.(*rawAnswer)
	if !ok {
		return fmt.Errorf("the raw codec keeps answers in *rawAnswer, not %T", v)
	}
	a.size = data.Len()
	if a.keep {
		a.body = slices.Grow(a.body[:0], a.size)[:a.size]
		data.CopyTo(a.body)
	}
	return nil
}
