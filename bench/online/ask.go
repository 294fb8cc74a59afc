package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"

	"github.com/twofold-ml/twofold/bench/internal/workload"
)

// asker sends requests and calls got with each answer, of which body is there only if keep, and only until got returns. It returns when
// all are answered.
type asker func(ctx context.Context, requests []workload.Request, keep bool, got func(request workload.Request, size int, body []byte) error) error

// open returns how a closed loop asks, and what to call when it is done.
func (t *target) open(ctx context.Context, worker int) (ask asker, done func(), err error) {
	connection := t.connections[worker%len(t.connections)]
	if t.split > 0 {
		return t.openStream(ctx, connection)
	}
	var answer rawAnswer
	ask = func(ctx context.Context, requests []workload.Request, keep bool, got func(workload.Request, int, []byte) error) error {
		for _, request := range requests {
			answer.keep = keep
			if err := connection.Invoke(ctx, onlineMethod, request.Body, &answer); err != nil {
				return t.failed(err)
			}
			if err := got(request, answer.size, answer.body); err != nil {
				return err
			}
		}
		return nil
	}
	return ask, func() {}, nil
}

func (t *target) failed(err error) error {
	return fmt.Errorf("%s, shape %v: %w", t.name, t.shape, err)
}

// openStream opens a stream on which a closed loop sends all requests at once.
func (t *target) openStream(ctx context.Context, connection *grpc.ClientConn) (ask asker, done func(), err error) {
	desc := &grpc.StreamDesc{StreamName: "StreamOnlineFeatures", ServerStreams: true, ClientStreams: true}
	stream, err := connection.NewStream(ctx, desc, twofoldv1.FeatureService_StreamOnlineFeatures_FullMethodName)
	if err != nil {
		return nil, nil, t.failed(err)
	}
	answer := rawAnswer{keep: true} // to see which request it belongs to
	ask = func(_ context.Context, requests []workload.Request, _ bool, got func(workload.Request, int, []byte) error) error {
		sent := make(chan error, 1)
		go func() { sent <- sendAll(stream, requests) }()
		answered := make([]bool, len(requests))
		for range requests {
			if err := stream.RecvMsg(&answer); err != nil {
				return t.failed(err)
			}
			id, body, err := streamed(answer.body)
			if err != nil {
				return t.failed(err)
			}
			if id >= uint64(len(requests)) || answered[id] {
				return t.failed(fmt.Errorf("WRONG ANSWER: request %d was answered, and is not open", id))
			}
			answered[id] = true
			if err := got(requests[id], len(body), body); err != nil {
				return err
			}
		}
		return <-sent
	}
	done = func() {
		_ = stream.CloseSend() // what it fails with, RecvMsg tells
		for stream.RecvMsg(&answer) == nil {
			continue
		}
	}
	return ask, done, nil
}

// sendAll sends the requests, with their places as ids.
func sendAll(stream grpc.ClientStream, requests []workload.Request) error {
	for id, request := range requests {
		message := make([]byte, 0, len(request.Body)+16)
		message = protowire.AppendTag(message, 1, protowire.VarintType)
		message = protowire.AppendVarint(message, uint64(id))
		message = protowire.AppendTag(message, 2, protowire.BytesType)
		message = protowire.AppendBytes(message, request.Body)
		if err := stream.SendMsg(message); err != nil && !errors.Is(err, io.EOF) { // io.EOF: RecvMsg has the reason
			return err
		}
	}
	return nil
}

// streamed takes a StreamOnlineFeaturesResponse apart: its id and its encoded response, or the error that it holds.
func streamed(message []byte) (id uint64, response []byte, err error) {
	for rest := message; len(rest) > 0; {
		field, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return 0, nil, fmt.Errorf("a streamed answer: %w", protowire.ParseError(n))
		}
		rest = rest[n:]
		switch {
		case field == 1 && kind == protowire.VarintType:
			id, n = protowire.ConsumeVarint(rest)
		case field == 2 && kind == protowire.BytesType:
			response, n = protowire.ConsumeBytes(rest)
		default:
			n = protowire.ConsumeFieldValue(field, kind, rest)
		}
		if n < 0 {
			return 0, nil, fmt.Errorf("a streamed answer: %w", protowire.ParseError(n))
		}
		rest = rest[n:]
	}
	if response == nil {
		m := &twofoldv1.StreamOnlineFeaturesResponse{}
		if err := proto.Unmarshal(message, m); err != nil {
			return 0, nil, fmt.Errorf("a streamed answer: %w", err)
		}
		return 0, nil, fmt.Errorf("a request of the stream failed with code %d: %s", m.GetError().GetCode(), m.GetError().GetMessage())
	}
	return id, response, nil
}
