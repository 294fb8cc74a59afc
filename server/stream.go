package server

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
)

type onlineStream = grpc.BidiStreamingServer[twofoldv1.StreamOnlineFeaturesRequest, twofoldv1.StreamOnlineFeaturesResponse]

// StreamOnlineFeatures implements twofold.v1.FeatureService.
//
// At most MaxInFlightPerStream requests are being answered at once, an answer that waits for its client to read included; past that
// nothing is read from the stream, so that gRPC's flow control makes the client wait. When the server stops, no further request is taken, those
// taken are answered, and the stream ends with UNAVAILABLE: what has no answer then is to be asked again elsewhere.
func (s *Server) StreamOnlineFeatures(stream onlineStream) error {
	call := &streamCall{
		server: s, stream: stream,
		requests: make(chan *twofoldv1.StreamOnlineFeaturesRequest),
		slots:    make(chan struct{}, s.o.MaxInFlightPerStream),
	}
	over := make(chan struct{})
	defer close(over)
	go call.receive(over)
	err := call.takeAll()
	call.answering.Wait()
	return err
}

// streamCall is one stream: one goroutine receives, the call's own hands requests out, and one a request answers.
type streamCall struct {
	server *Server
	stream onlineStream
	// requests are received and not yet taken. It is closed when no more come, and then receiveErr says why: nil where the client is done.
	requests   chan *twofoldv1.StreamOnlineFeaturesRequest
	receiveErr error
	// slots holds one element a request that is being answered.
	slots     chan struct{}
	answering sync.WaitGroup
	sending   sync.Mutex
}

// receive reads requests until there are no more, or the call is over. It ends soon after the call, whose end unblocks Recv.
func (c *streamCall) receive(over <-chan struct{}) {
	defer close(c.requests)
	for {
		request, err := c.stream.Recv()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				c.receiveErr = err
			}
			return
		}
		select {
		case c.requests <- request:
		case <-over:
			return
		}
	}
}

// takeAll starts an answer to each request, and returns why it takes no more: nil where the client has closed its side.
func (c *streamCall) takeAll() error {
	ctx := c.stream.Context()
	for {
		select {
		case c.slots <- struct{}{}:
		case <-c.server.stopping:
			return errStreamStopped()
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case request, more := <-c.requests:
			if !more {
				return c.receiveErr
			}
			c.answering.Go(func() {
				c.answer(ctx, request)
				<-c.slots
			})
		case <-c.server.stopping:
			return errStreamStopped()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// errStreamStopped ends the streams of a server that stops. It is a status already, since a stop is nothing to warn of in the log.
func errStreamStopped() error {
	return withDetails(status.New(codes.Unavailable, "this server is stopping; open another stream, and send the requests that were not answered again"), fault.Unavailable, nil)
}

// answer answers one request. Whatever is wrong with the request or with its answer becomes an error under its id.
func (c *streamCall) answer(ctx context.Context, request *twofoldv1.StreamOnlineFeaturesRequest) {
	start := time.Now()
	code := codes.OK
	var message any
	answer, err := c.server.answerStreamed(ctx, request.GetRequest())
	if err == nil {
		message = streamedAnswer(request.GetRequestId(), answer)
	} else {
		st := status.Convert(c.server.statusError(ctx, twofoldv1.FeatureService_StreamOnlineFeatures_FullMethodName, err))
		code = st.Code()
		message = &twofoldv1.StreamOnlineFeaturesResponse{
			RequestId: request.GetRequestId(), Result: &twofoldv1.StreamOnlineFeaturesResponse_Error{Error: st.Proto()},
		}
	}
	c.server.metrics.streamed.handled(code, time.Since(start))
	c.sending.Lock()
	defer c.sending.Unlock()
	_ = c.stream.SendMsg(message) // fails only where the stream is over, and its context tells everybody
}

// answerStreamed does for one request of a stream what the interceptors and the method do for a call of its own.
func (s *Server) answerStreamed(ctx context.Context, req *twofoldv1.GetOnlineFeaturesRequest) (answer mem.Buffer, err error) {
	err = fault.Guard(func() error {
		if req == nil {
			return fault.InvalidField("request", "is not set; say what is asked, as in GetOnlineFeatures")
		}
		if err := s.gates.online.enter(); err != nil {
			return err
		}
		defer s.gates.online.leave()
		answer, err = s.answerOnline(ctx, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := s.checkAnswerSize(answer.Len() + streamedOverhead); err != nil {
		answer.Free()
		return nil, err
	}
	return answer, nil
}

// streamedOverhead is the most bytes by which the answer to a request of a stream is larger than that of the unary call: an id and a
// length, each with its tag.
const streamedOverhead = 1 + 10 + 1 + 5

// streamMetrics are those of the requests inside streams, for which the gRPC middleware sees one call a stream.
type streamMetrics struct {
	codes   *prometheus.CounterVec
	seconds prometheus.Histogram
}

func newStreamMetrics(registry *prometheus.Registry) *streamMetrics {
	m := &streamMetrics{
		codes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_stream_requests_total",
			Help: "Requests answered inside streams of StreamOnlineFeatures, by gRPC code.",
		}, []string{"grpc_code"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "twofold_stream_request_seconds",
			Help:    "Time from a request of a stream being taken to its answer being ready to be sent.",
			Buckets: latencyBuckets,
		}),
	}
	registry.MustRegister(m.codes, m.seconds)
	return m
}

func (m *streamMetrics) handled(code codes.Code, took time.Duration) {
	m.codes.WithLabelValues(code.String()).Inc()
	m.seconds.Observe(took.Seconds())
}
