package server

import (
	"context"
	"errors"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/twofold-ml/twofold/internal/fault"
)

// interceptors are what happens around every call, outermost first: metrics; errors and panics become statuses; the
// limit on calls at once.
func (e *endpoint) interceptors() (unary, stream grpc.ServerOption) {
	unary = grpc.ChainUnaryInterceptor(e.calls.grpc.UnaryServerInterceptor(), e.unary)
	stream = grpc.ChainStreamInterceptor(e.calls.grpc.StreamServerInterceptor(), e.streaming)
	return unary, stream
}

func (e *endpoint) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	var resp any
	err := fault.Guard(func() error {
		return e.gates.passing(info.FullMethod, func() (err error) {
			resp, err = next(ctx, req)
			return err
		})
	})
	if err != nil {
		return nil, e.statusError(ctx, info.FullMethod, err)
	}
	return resp, nil
}

func (e *endpoint) streaming(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	err := fault.Guard(func() error {
		return e.gates.passing(info.FullMethod, func() error { return next(srv, stream) })
	})
	return e.statusError(stream.Context(), info.FullMethod, err)
}

// validate checks a message against the rules written in the contract.
func (e *endpoint) validate(message proto.Message) error {
	err := e.validator.Validate(message)
	violations, ok := errors.AsType[*protovalidate.ValidationError](err)
	if !ok || len(violations.Violations) == 0 {
		return err
	}
	v := violations.Violations[0].Proto
	return fault.InvalidField(protovalidate.FieldPathString(v.GetField()), "%s", v.GetMessage())
}
