package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"

	"github.com/twofold-ml/twofold/bench/internal/workload"
)

// startEcho serves StreamOnlineFeatures so that it answers every two requests in the opposite order, each with its own bytes under the id
// that id returns.
func startEcho(t *testing.T, id func(uint64) uint64) *grpc.ClientConn {
	t.Helper()
	answer := func(stream grpc.ServerStream, request []byte) error {
		asked, body, err := streamed(request) // requests and answers have the same fields
		if err != nil {
			return err
		}
		message := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), id(asked))
		return stream.SendMsg(protowire.AppendBytes(protowire.AppendTag(message, 2, protowire.BytesType), body))
	}
	handler := func(_ any, stream grpc.ServerStream) error {
		for {
			var pair [2]rawAnswer
			for i := range pair {
				pair[i].keep = true
				if err := stream.RecvMsg(&pair[i]); errors.Is(err, io.EOF) {
					return nil
				} else if err != nil {
					return err
				}
			}
			for _, i := range []int{1, 0} {
				if err := answer(stream, pair[i].body); err != nil {
					return err
				}
			}
		}
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}))
	server.RegisterService(&grpc.ServiceDesc{ServiceName: twofoldv1.FeatureService_ServiceDesc.ServiceName, HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{StreamName: "StreamOnlineFeatures", Handler: handler, ServerStreams: true, ClientStreams: true}}}, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }() // until Stop
	t.Cleanup(server.Stop)
	connection, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

func streamRequests() []workload.Request {
	requests := make([]workload.Request, 40)
	for i := range requests {
		requests[i] = workload.Request{Entities: []int{i}, Body: fmt.Appendf(nil, "request %d", i)}
	}
	return requests
}

func TestStreamAnswersFindTheirRequests(t *testing.T) {
	target := &target{split: 40, connections: []*grpc.ClientConn{startEcho(t, func(id uint64) uint64 { return id })}}
	ask, done, err := target.open(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	for range 3 {
		var order []int
		err := ask(t.Context(), streamRequests(), true, func(request workload.Request, size int, body []byte) error {
			order = append(order, request.Entities[0])
			if !bytes.Equal(body, request.Body) || size != len(body) {
				t.Errorf("request %q was answered with %q", request.Body, body)
			}
			return nil
		})
		if err != nil || len(order) != 40 || order[0] != 1 || order[39] != 38 {
			t.Fatalf("answered in the order %v, %v", order, err)
		}
	}
}

func TestStreamAnswersToNoRequestAreFound(t *testing.T) {
	for name, id := range map[string]func(uint64) uint64{
		"two answers to one request": func(id uint64) uint64 { return id / 2 },
		"an id that was not sent":    func(id uint64) uint64 { return id + 40 },
	} {
		target := &target{split: 40, connections: []*grpc.ClientConn{startEcho(t, id)}}
		ask, _, err := target.open(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		err = ask(t.Context(), streamRequests(), true, func(workload.Request, int, []byte) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "WRONG ANSWER") {
			t.Errorf("%s gave %v", name, err)
		}
	}
}

func TestStreamOfAServerWithoutIt(t *testing.T) {
	data := workload.Data{Seed: 11, Entities: 100, BaseMicros: time.Now().UnixMicro()}
	shape := workload.Shape{Views: 2, Features: 3, Rows: 4}
	at := startFloor(t, data, shape)
	order := loadOrder{Verify: true, Contender: theirs, Raw: true, Split: 2, Target: at.GRPC, Shape: shape.String(), Concurrency: 1, Connections: 1, Requests: 2}
	if r := obey(t, data, order)[0]; !strings.Contains(r.Error, "Unimplemented") {
		t.Errorf("got %+v", r)
	}
}
