package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// streaming is a server whose streams a test scripts, one after the other.
type streaming struct {
	twofoldv1.UnimplementedFeatureServiceServer
	scripts chan func(twofoldv1.FeatureService_StreamOnlineFeaturesServer) error
}

func (s *streaming) StreamOnlineFeatures(stream twofoldv1.FeatureService_StreamOnlineFeaturesServer) error {
	return (<-s.scripts)(stream)
}

func dialStreaming(t *testing.T, scripts ...func(twofoldv1.FeatureService_StreamOnlineFeaturesServer) error) *client.Client {
	t.Helper()
	s := &streaming{scripts: make(chan func(twofoldv1.FeatureService_StreamOnlineFeaturesServer) error, len(scripts))}
	for _, script := range scripts {
		s.scripts <- script
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	twofoldv1.RegisterFeatureServiceServer(server, s)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // returns an error when it is stopped
	c, err := client.Dial(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close() // nothing is lost with it
		server.Stop()
		serving.Wait()
	})
	return c
}

// echo answers a request with the features that it names, as columns without values.
func echo(request *twofoldv1.StreamOnlineFeaturesRequest) *twofoldv1.StreamOnlineFeaturesResponse {
	resp := &twofoldv1.GetOnlineFeaturesResponse{}
	for _, f := range request.GetRequest().GetFeatures() {
		resp.Columns = append(resp.Columns, &twofoldv1.Column{Name: f})
	}
	return &twofoldv1.StreamOnlineFeaturesResponse{RequestId: request.GetRequestId(), Result: &twofoldv1.StreamOnlineFeaturesResponse_Response{Response: resp}}
}

func asking(feature string) *twofoldv1.GetOnlineFeaturesRequest {
	return &twofoldv1.GetOnlineFeaturesRequest{Features: []string{feature}}
}

// TestOnlineStreamMatchesAnswers: answers in the reverse order, errors among them and one that nobody asked for reach who asked.
func TestOnlineStreamMatchesAnswers(t *testing.T) {
	const n = 50
	c := dialStreaming(t, func(stream twofoldv1.FeatureService_StreamOnlineFeaturesServer) error {
		var requests []*twofoldv1.StreamOnlineFeaturesRequest
		for range n {
			request, err := stream.Recv()
			if err != nil {
				return err
			}
			requests = append(requests, request)
		}
		answers := []*twofoldv1.StreamOnlineFeaturesResponse{{RequestId: 1 << 60}}
		for i := range requests {
			request := requests[n-1-i]
			answer := echo(request)
			switch request.GetRequest().GetFeatures()[0] {
			case "view:3":
				answer.Result = &twofoldv1.StreamOnlineFeaturesResponse_Error{Error: status.New(codes.NotFound, "no such view").Proto()}
			case "view:4":
				answer.Result = nil
			}
			answers = append(answers, answer)
		}
		for _, answer := range answers {
			if err := stream.Send(answer); err != nil {
				return err
			}
		}
		_, err := stream.Recv() // until the client has closed its side
		if err == nil {
			return errors.New("a request too many")
		}
		return nil
	})
	stream := c.OnlineStream(t.Context())
	var asked sync.WaitGroup
	for i := range n {
		asked.Go(func() {
			name := fmt.Sprintf("view:%d", i)
			resp, err := stream.Online(t.Context(), asking(name))
			switch i {
			case 3:
				if status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), "no such view") {
					t.Errorf("%s: %v", name, err)
				}
			case 4:
				if status.Code(err) != codes.Internal {
					t.Errorf("%s: %v", name, err)
				}
			default:
				if err != nil || client.Find(resp.GetColumns(), name) == nil {
					t.Errorf("%s: %v, %v", name, resp, err)
				}
			}
		})
	}
	asked.Wait()
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
	if err := stream.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

// TestOnlineStreamOpensAnew: what a stream that ends leaves without an answer fails, and the next request has a new stream.
func TestOnlineStreamOpensAnew(t *testing.T) {
	answerOne := func(end error) func(stream twofoldv1.FeatureService_StreamOnlineFeaturesServer) error {
		return func(stream twofoldv1.FeatureService_StreamOnlineFeaturesServer) error {
			request, err := stream.Recv()
			if err == nil {
				err = stream.Send(echo(request))
			}
			if err == nil {
				_, err = stream.Recv()
			}
			return errors.Join(err, end)
		}
	}
	c := dialStreaming(t, answerOne(status.Error(codes.Unavailable, "stopping")), answerOne(nil), answerOne(nil))
	stream := c.OnlineStream(t.Context())
	for _, why := range []string{"stopping", "without an answer"} {
		if _, err := stream.Online(t.Context(), asking("view:a")); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Online(t.Context(), asking("view:b")); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", why, err)
		}
	}
	if _, err := stream.Online(t.Context(), asking("view:c")); err != nil {
		t.Error(err)
	}
}

// TestOnlineStreamContexts: a request's context ends the request, the stream's ends all of them; a server that does not listen keeps nobody.
func TestOnlineStreamContexts(t *testing.T) {
	release := make(chan struct{})
	received := make(chan struct{}, 1)
	c := dialStreaming(t, func(stream twofoldv1.FeatureService_StreamOnlineFeaturesServer) error {
		first, err := stream.Recv()
		if err != nil {
			return err
		}
		received <- struct{}{}
		<-release
		second, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, request := range []*twofoldv1.StreamOnlineFeaturesRequest{first, second} {
			if err := stream.Send(echo(request)); err != nil {
				return err
			}
		}
		<-stream.Context().Done()
		return stream.Context().Err()
	})
	life, end := context.WithCancel(t.Context())
	stream := c.OnlineStream(life)
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() {
		_, err := stream.Online(ctx, asking("view:a"))
		gaveUp <- err
	}()
	<-received
	cancel()
	if err := <-gaveUp; status.Code(err) != codes.Canceled {
		t.Errorf("a cancelled request: %v", err)
	}
	close(release)
	// The answer to the request that was given up comes first, and must not be taken for this one's.
	resp, err := stream.Online(t.Context(), asking("view:b"))
	if err != nil || client.Find(resp.GetColumns(), "view:b") == nil {
		t.Errorf("%v, %v", resp, err)
	}
	go func() {
		_, err := stream.Online(t.Context(), asking("view:c"))
		gaveUp <- err
	}()
	end()
	if err := <-gaveUp; status.Code(err) != codes.Canceled {
		t.Errorf("a cancelled stream: %v", err)
	}
}

func TestOnlineStreamWithoutServer(t *testing.T) {
	c, err := client.Dial("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	stream := c.OnlineStream(t.Context())
	if _, err := stream.Online(t.Context(), asking("view:a")); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	if err := stream.Close(); err != nil && status.Code(err) != codes.Unavailable {
		t.Errorf("close: %v", err)
	}
	if err := c.OnlineStream(t.Context()).Close(); err != nil {
		t.Errorf("a stream that was never used: %v", err)
	}
}
