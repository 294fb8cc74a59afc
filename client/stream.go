package client

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// errStreamClosed is what requests of a closed stream fail with.
var errStreamClosed = status.Error(codes.Canceled, "the stream of online requests is closed")

// OnlineStream asks online requests over one gRPC stream, any number of them at once, for callers that rank many candidates: it spares each
// request the cost of a call of its own. Its methods may be called by many goroutines at once.
//
// The server answers a bounded number of a stream's requests at once; further ones wait here, by flow control. Where the stream
// ends (the server stops, the connection is lost), the requests under way fail with its error, UNAVAILABLE, and may be asked
// again: the next request opens the stream anew.
type OnlineStream struct {
	ctx    context.Context // the stream's life, beyond any one request's
	client *Client

	mu     sync.Mutex
	closed bool
	call   *onlineCall // nil before the first request
}

// OnlineStream returns a stream of online requests, which lives until Close or until ctx is done. It connects with its first request.
func (c *Client) OnlineStream(ctx context.Context) *OnlineStream {
	return &OnlineStream{ctx: ctx, client: c}
}

// Online is Client.Online over the stream: it returns when this request is answered, whatever becomes of others. Errors are the gRPC statuses
// that Client.Online returns. Where ctx ends it early, the request may still be on its way, so req must not be changed then.
func (s *OnlineStream) Online(ctx context.Context, req *twofoldv1.GetOnlineFeaturesRequest) (*twofoldv1.GetOnlineFeaturesResponse, error) {
	call, err := s.open()
	if err != nil {
		return nil, err
	}
	return call.ask(ctx, req)
}

// Close lets the requests under way be answered and ends the stream. It returns nil if every request that was sent was answered.
func (s *OnlineStream) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	call := s.call
	s.mu.Unlock()
	if call == nil {
		return nil
	}
	if first {
		close(call.closing)
	}
	<-call.over
	if call.unanswered == 0 {
		return nil
	}
	return call.err
}

// open returns the call under way, a new one where there is none.
func (s *OnlineStream) open() (*onlineCall, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errStreamClosed
	}
	if s.call == nil || s.call.isOver() {
		s.call = startOnlineCall(s.ctx, s.client.features)
	}
	return s.call, nil
}

type onlineStream = grpc.BidiStreamingClient[twofoldv1.StreamOnlineFeaturesRequest, twofoldv1.StreamOnlineFeaturesResponse]

// onlineCall is one gRPC stream: one goroutine sends, one receives, and each request waits for its answer.
type onlineCall struct {
	requests chan *twofoldv1.StreamOnlineFeaturesRequest
	// closing is closed when no more requests may be sent.
	closing chan struct{}
	// over is closed when the stream has ended: with err, and with unanswered requests.
	over       chan struct{}
	err        error
	unanswered int

	mu      sync.Mutex
	lastID  uint64
	waiting map[uint64]chan<- *twofoldv1.StreamOnlineFeaturesResponse
}

// startOnlineCall returns a call that connects in the background.
func startOnlineCall(ctx context.Context, features twofoldv1.FeatureServiceClient) *onlineCall {
	c := &onlineCall{
		requests: make(chan *twofoldv1.StreamOnlineFeaturesRequest), closing: make(chan struct{}), over: make(chan struct{}),
		waiting: map[uint64]chan<- *twofoldv1.StreamOnlineFeaturesResponse{},
	}
	go func() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := features.StreamOnlineFeatures(ctx)
		if err != nil {
			c.end(err)
			return
		}
		go c.send(stream)
		c.receive(stream)
	}()
	return c
}

func (c *onlineCall) isOver() bool {
	select {
	case <-c.over:
		return true
	default:
		return false
	}
}

// ask sends a request and waits for its answer.
func (c *onlineCall) ask(ctx context.Context, req *twofoldv1.GetOnlineFeaturesRequest) (*twofoldv1.GetOnlineFeaturesResponse, error) {
	answer := make(chan *twofoldv1.StreamOnlineFeaturesResponse, 1)
	id := c.expect(answer)
	select {
	case c.requests <- &twofoldv1.StreamOnlineFeaturesRequest{RequestId: id, Request: req}:
	case <-ctx.Done():
		c.forget(id)
		return nil, status.FromContextError(ctx.Err()).Err()
	case <-c.closing:
		c.forget(id)
		return nil, errStreamClosed
	case <-c.over:
		return nil, c.err
	}
	select {
	case a := <-answer:
		return result(a)
	case <-ctx.Done():
		c.forget(id)
		return nil, status.FromContextError(ctx.Err()).Err()
	case <-c.over:
	}
	select {
	case a := <-answer: // it came just before the end
		return result(a)
	default:
		return nil, c.err
	}
}

func result(a *twofoldv1.StreamOnlineFeaturesResponse) (*twofoldv1.GetOnlineFeaturesResponse, error) {
	switch r := a.GetResult().(type) {
	case *twofoldv1.StreamOnlineFeaturesResponse_Response:
		return r.Response, nil
	case *twofoldv1.StreamOnlineFeaturesResponse_Error:
		return nil, status.ErrorProto(r.Error)
	default:
		return nil, status.Error(codes.Internal, "the server's answer has neither features nor an error")
	}
}

// expect registers where the answer to a new request goes, and returns the request's id.
func (c *onlineCall) expect(answer chan<- *twofoldv1.StreamOnlineFeaturesResponse) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastID++
	c.waiting[c.lastID] = answer
	return c.lastID
}

// forget takes back expect, and returns nil where the answer has come.
func (c *onlineCall) forget(id uint64) chan<- *twofoldv1.StreamOnlineFeaturesResponse {
	c.mu.Lock()
	defer c.mu.Unlock()
	answer := c.waiting[id]
	delete(c.waiting, id)
	return answer
}

// send sends requests until the stream is over or is being closed.
func (c *onlineCall) send(stream onlineStream) {
	for {
		select {
		case request := <-c.requests:
			if stream.Send(request) != nil {
				return // receive finds out why
			}
		case <-c.closing:
			_ = stream.CloseSend() // as above
			return
		case <-c.over:
			return
		}
	}
}

// receive hands answers to those who wait, until the stream ends.
func (c *onlineCall) receive(stream onlineStream) {
	for {
		answer, err := stream.Recv()
		if err != nil {
			c.end(err)
			return
		}
		if waiting := c.forget(answer.GetRequestId()); waiting != nil { // else nobody waits any more
			waiting <- answer
		}
	}
}

func (c *onlineCall) end(err error) {
	if errors.Is(err, io.EOF) {
		err = status.Error(codes.Unavailable, "the server ended the stream of online requests without an answer to this one; ask again")
	}
	c.mu.Lock()
	c.unanswered = len(c.waiting)
	c.mu.Unlock()
	c.err = err
	close(c.over)
}
