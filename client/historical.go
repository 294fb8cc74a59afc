package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

const (
	// arrowChunkBytes is how much of an Arrow stream is sent in one message.
	arrowChunkBytes = 1 << 20
	// progressInterval is how often the server says how far it is, where somebody wants to know and the header does not say how often.
	progressInterval = 500 * time.Millisecond
)

// ErrIncomplete says that a historical stream ended without its manifest, or with other rows than the manifest counts:
// what came of it is not a training set.
var ErrIncomplete = errors.New("the stream of training rows is not complete")

// errEnded says that the server ended the stream while entity rows were still being sent; what it answered says why.
var errEnded = fmt.Errorf("%w: the server answered before all entity rows were sent", ErrIncomplete)

// errNotRead says that the reader of entity rows ended the goroutine that read.
var errNotRead = errors.New("the entity rows were not read to their end")

// Progress says how far a historical call is.
type Progress struct {
	// BytesSent of entity rows (Arrow calls only).
	BytesSent int64
	// RowsReceived in batches so far.
	RowsReceived uint64
	// Server is what the server last said of its own work: phase, rows scanned, rows found and so on. Nil before it has said anything. It is not
	// to be changed.
	Server *twofoldv1.HistoricalProgress
}

// HistoricalOption is an option of Client.Historical.
type HistoricalOption func(*historicalCall)

// WithProgress has progress told how far the call is, as HistoricalArrow does.
func WithProgress(progress func(Progress)) HistoricalOption {
	return func(h *historicalCall) { h.progress = progress }
}

// Historical joins features to entity rows and calls each for every batch, in the order of the rows. The header's format is
// set to COLUMNS. rows yields chunks of entity rows; a chunk should stay below 4 MiB. It is nil where the header says where the entity rows are; and where
// it has an output, each is not called and may be nil. The result is complete if and only if the error is nil.
//
// Rows are read by another goroutine, while each is called by this one. Where the call ends early, a step of rows that is under way then may end after
// the call has.
func (c *Client) Historical(ctx context.Context, header *twofoldv1.HistoricalHeader, rows iter.Seq2[*twofoldv1.ColumnBatch, error],
	each func(*twofoldv1.ColumnBatch) error, options ...HistoricalOption) (*twofoldv1.HistoricalManifest, error) {
	header.Format = twofoldv1.HistoricalFormat_HISTORICAL_FORMAT_COLUMNS
	call := &historicalCall{header: header}
	for _, option := range options {
		option(call)
	}
	if rows != nil {
		call.sendRows = func() error { return call.sendColumns(rows) }
	}
	call.each = func(m *twofoldv1.GetHistoricalFeaturesResponse) error {
		if batch := m.GetBatch(); batch != nil {
			return each(batch.GetColumns())
		}
		return nil
	}
	return call.run(ctx, c.features)
}

// HistoricalArrow joins features to entity rows: an Arrow IPC stream goes in, an Arrow IPC stream comes out, neither held in memory.
// The header's format is set to ARROW_IPC. in is nil where the header says where the entity rows are; and where it has an output, nothing is written
// to out, which may be nil. What was written to out is complete if and only if the error is nil.
//
// progress may be nil; else it is told how far the call is, often, also while entity rows are still being sent, and never by two goroutines at once.
// Unless the header has a progress interval, the server says every half second how far it is.
//
// Another goroutine reads in, while this one writes to out. Where the call ends early, a Read that is under way then may end after the call has.
func (c *Client) HistoricalArrow(ctx context.Context, header *twofoldv1.HistoricalHeader, in io.Reader, out io.Writer,
	progress func(Progress)) (*twofoldv1.HistoricalManifest, error) {
	header.Format = twofoldv1.HistoricalFormat_HISTORICAL_FORMAT_ARROW_IPC
	call := &historicalCall{header: header, progress: progress}
	if codec := newArrowCodec(); codec != nil {
		call.options = []grpc.CallOption{grpc.ForceCodecV2(codec)}
	}
	if in != nil {
		call.sendRows = func() error { return call.sendArrow(in) }
	}
	call.tail = func(b []byte) error {
		if len(b) == 0 {
			return nil
		}
		_, err := out.Write(b)
		return err
	}
	call.each = func(m *twofoldv1.GetHistoricalFeaturesResponse) error {
		return errors.Join(call.tail(m.GetSchema().GetArrowIpc()), call.tail(m.GetBatch().GetArrowIpc()))
	}
	return call.run(ctx, c.features)
}

// historicalCall is one stream: one goroutine sends, the caller's receives.
type historicalCall struct {
	header  *twofoldv1.HistoricalHeader
	options []grpc.CallOption
	stream  grpc.BidiStreamingClient[twofoldv1.GetHistoricalFeaturesRequest, twofoldv1.GetHistoricalFeaturesResponse]
	// sendRows sends all entity rows; nil where none are streamed.
	sendRows func() error
	// each is given schema and batches.
	each func(*twofoldv1.GetHistoricalFeaturesResponse) error
	// tail is given the end of an Arrow stream; nil for typed columns.
	tail func([]byte) error
	// progress may be nil.
	progress func(Progress)

	mu    sync.Mutex // guards state, and calls of progress
	state Progress
}

// tell changes the state and tells it.
func (h *historicalCall) tell(change func(*Progress)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(&h.state)
	if h.progress != nil {
		h.progress(h.state)
	}
}

// run makes the call. An error of the caller's own reader, writer or function is returned as it is.
func (h *historicalCall) run(ctx context.Context, features twofoldv1.FeatureServiceClient) (*twofoldv1.HistoricalManifest, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if h.progress != nil && h.header.GetProgressInterval() == nil {
		h.header.ProgressInterval = durationpb.New(progressInterval)
	}
	var err error
	if h.stream, err = features.GetHistoricalFeatures(ctx, h.options...); err != nil {
		return nil, err
	}
	sent := make(chan error, 1)
	go func() {
		err := errNotRead // where their reader ends this goroutine
		defer func() {
			sent <- err
			if err != nil && !errors.Is(err, errEnded) {
				cancel() // wakes receive
			}
		}()
		err = h.send()
	}()
	manifest, err := h.receive()
	if err != nil {
		select {
		case own := <-sent:
			if own != nil && !errors.Is(own, errEnded) {
				return nil, own
			}
		default:
		}
		return nil, err
	}
	select {
	case err := <-sent:
		return manifest, err
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// send sends everything and closes this side of the stream.
func (h *historicalCall) send() error {
	err := h.sendMessage(&twofoldv1.GetHistoricalFeaturesRequest{Message: &twofoldv1.GetHistoricalFeaturesRequest_Header{Header: h.header}})
	if err == nil && h.sendRows != nil {
		err = h.sendRows()
	}
	if err != nil {
		return err
	}
	return h.stream.CloseSend()
}

// sendMessage sends a message; its error is errEnded where the server has ended the stream already.
func (h *historicalCall) sendMessage(m *twofoldv1.GetHistoricalFeaturesRequest) error {
	err := h.stream.Send(m)
	if errors.Is(err, io.EOF) {
		return errEnded
	}
	return err
}

func (h *historicalCall) sendChunk(rows *twofoldv1.EntityRows) error {
	return h.sendMessage(&twofoldv1.GetHistoricalFeaturesRequest{Message: &twofoldv1.GetHistoricalFeaturesRequest_EntityRows{EntityRows: rows}})
}

func (h *historicalCall) sendColumns(rows iter.Seq2[*twofoldv1.ColumnBatch, error]) error {
	for batch, err := range rows {
		if err != nil {
			return err
		}
		if err := h.sendChunk(&twofoldv1.EntityRows{Rows: &twofoldv1.EntityRows_Columns{Columns: batch}}); err != nil {
			return err
		}
	}
	return nil
}

// sendArrow sends what in has to its end. The next chunk is read while one is sent.
func (h *historicalCall) sendArrow(in io.Reader) error {
	ended := make(chan struct{})
	defer close(ended)
	for chunk := range readChunks(in, ended) {
		if len(chunk.bytes) > 0 {
			if err := h.sendChunk(&twofoldv1.EntityRows{Rows: &twofoldv1.EntityRows_ArrowIpc{ArrowIpc: chunk.bytes}}); err != nil {
				return err
			}
			h.tell(func(p *Progress) { p.BytesSent += int64(len(chunk.bytes)) })
		}
		switch {
		case chunk.err == io.EOF: //nolint:errorlint // the end of a reader is io.EOF itself; what only wraps it is a failure, such as a connection that was closed
			return nil
		case chunk.err != nil:
			return fmt.Errorf("read entity rows: %w", chunk.err)
		}
	}
	return errNotRead
}

// readChunk is some bytes of a reader, and the error, io.EOF at its end, that came after them.
type readChunk struct {
	bytes []byte
	err   error
}

// readChunks reads in, chunk by chunk, in another goroutine, until it has an error or ended is closed. The channel is closed without an error where in ends that goroutine.
func readChunks(in io.Reader, ended <-chan struct{}) <-chan readChunk {
	chunks := make(chan readChunk)
	go func() {
		defer close(chunks)
		for {
			b := make([]byte, arrowChunkBytes)
			n, err := fill(b, in, ended)
			select {
			case chunks <- readChunk{b[:n], err}:
			case <-ended:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return chunks
}

// fill reads until b is full, in ends or ended is closed. Unlike io.ReadFull it tells the end of in (io.EOF) from in's own io.ErrUnexpectedEOF, which says that more should have come.
func fill(b []byte, in io.Reader, ended <-chan struct{}) (n int, err error) {
	for n < len(b) && err == nil {
		select {
		case <-ended:
			return n, nil
		default:
		}
		var read int
		read, err = in.Read(b[n:])
		n += read
	}
	return n, err
}

// receive hands on every message before the manifest, then the end of an Arrow stream, and checks that all is there.
func (h *historicalCall) receive() (*twofoldv1.HistoricalManifest, error) {
	var rows uint64
	for {
		message, err := h.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: it ended without a manifest after %d rows", ErrIncomplete, rows)
		}
		if err != nil {
			return nil, err
		}
		if manifest := message.GetManifest(); manifest != nil {
			return manifest, h.finish(manifest, rows)
		}
		if at := message.GetProgress(); at != nil {
			h.tell(func(p *Progress) { p.Server = at })
			continue
		}
		if err := h.each(message); err != nil {
			return nil, err
		}
		rows += uint64(message.GetBatch().GetRowCount())
		h.tell(func(p *Progress) { p.RowsReceived = rows })
	}
}

func (h *historicalCall) finish(manifest *twofoldv1.HistoricalManifest, rows uint64) error {
	if h.tail != nil {
		if err := h.tail(manifest.GetArrowIpc()); err != nil {
			return err
		}
	}
	if h.header.GetOutput() == nil && manifest.GetRowCount() != rows {
		return fmt.Errorf("%w: %d rows came, the manifest counts %d", ErrIncomplete, rows, manifest.GetRowCount())
	}
	_, err := h.stream.Recv()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	default:
		return fmt.Errorf("%w: a message came after the manifest", ErrIncomplete)
	}
}
