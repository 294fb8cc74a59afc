package server

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/twofold-ml/twofold/internal/fault"
)

// interceptors are what happens around every call, outermost first: metrics, then errors and panics become statuses.
func (s *Server) interceptors() (unary, stream grpc.ServerOption) {
	unary = grpc.ChainUnaryInterceptor(s.metrics.grpc.UnaryServerInterceptor(),
		func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
			defer func() {
				if p := recover(); p != nil {
					err = panicError(p)
				}
				err = statusError(ctx, s.o.Logger, info.FullMethod, err)
			}()
			return next(ctx, req)
		})
	stream = grpc.ChainStreamInterceptor(s.metrics.grpc.StreamServerInterceptor(),
		func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = panicError(p)
				}
				err = statusError(stream.Context(), s.o.Logger, info.FullMethod, err)
			}()
			return next(srv, stream)
		})
	return unary, stream
}

func panicError(p any) error { return fmt.Errorf("panic: %v\n%s", p, debug.Stack()) }

// validate checks a message against the rules written in the contract.
func (s *Server) validate(message proto.Message) error {
	err := s.validator.Validate(message)
	violations, ok := errors.AsType[*protovalidate.ValidationError](err)
	if !ok || len(violations.Violations) == 0 {
		return err
	}
	v := violations.Violations[0].Proto
	return fault.InvalidField(protovalidate.FieldPathString(v.GetField()), "%s", v.GetMessage())
}
