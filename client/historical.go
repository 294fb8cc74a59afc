package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"google.golang.org/grpc"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// arrowChunkBytes is how much of an Arrow stream is sent in one message.
const arrowChunkBytes = 1 << 20

// ErrIncomplete says that a historical stream ended without its manifest, or with other rows than the manifest counts:
// what came of it is not a training set.
var ErrIncomplete = errors.New("the stream of training rows is not complete")

// Progress is told how far a historical call is. It is called often, from one goroutine.
type Progress struct {
	// BytesSent of entity rows (Arrow calls only).
	BytesSent int64
	// RowsReceived in batches so far.
	RowsReceived uint64
}

// Historical joins features to entity rows and calls each for every batch, in the order of the rows. The header's format is
// set to COLUMNS. rows yields chunks of entity rows; a chunk should stay below 4 MiB. The result is complete if and only if the error is nil.
func (c *Client) Historical(ctx context.Context, header *twofoldv1.HistoricalHeader, rows iter.Seq2[*twofoldv1.ColumnBatch, error],
	each func(*twofoldv1.ColumnBatch) error) (*twofoldv1.HistoricalManifest, error) {
	header.Format = twofoldv1.HistoricalFormat_HISTORICAL_FORMAT_COLUMNS
	call, err := c.startHistorical(ctx, header)
	if err != nil {
		return nil, err
	}
	defer call.cancel()
	for batch, err := range rows {
		if err != nil {
			return nil, err
		}
		ok, err := call.send(&twofoldv1.EntityRows{Rows: &twofoldv1.EntityRows_Columns{Columns: batch}})
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
	}
	return call.receive(func(m *twofoldv1.GetHistoricalFeaturesResponse) error {
		if batch := m.GetBatch(); batch != nil {
			return each(batch.GetColumns())
		}
		return nil
	}, nil)
}

// HistoricalArrow joins features to entity rows: an Arrow IPC stream goes in, an Arrow IPC stream comes out, neither held in memory.
// The header's format is set to ARROW_IPC. progress may be nil. What was written to out is complete if and only if the error is nil.
func (c *Client) HistoricalArrow(ctx context.Context, header *twofoldv1.HistoricalHeader, in io.Reader, out io.Writer,
	progress func(Progress)) (*twofoldv1.HistoricalManifest, error) {
	header.Format = twofoldv1.HistoricalFormat_HISTORICAL_FORMAT_ARROW_IPC
	call, err := c.startHistorical(ctx, header)
	if err != nil {
		return nil, err
	}
	defer call.cancel()
	if progress != nil {
		call.progress = progress
	}
	if err := call.sendArrow(in); err != nil {
		return nil, err
	}
	write := func(b []byte) error {
		_, err := out.Write(b)
		return err
	}
	return call.receive(func(m *twofoldv1.GetHistoricalFeaturesResponse) error {
		return errors.Join(write(m.GetSchema().GetArrowIpc()), write(m.GetBatch().GetArrowIpc()))
	}, write)
}

// historicalCall is one stream under way.
type historicalCall struct {
	stream   grpc.BidiStreamingClient[twofoldv1.GetHistoricalFeaturesRequest, twofoldv1.GetHistoricalFeaturesResponse]
	cancel   context.CancelFunc
	progress func(Progress)
	state    Progress
}

func (c *Client) startHistorical(ctx context.Context, header *twofoldv1.HistoricalHeader) (*historicalCall, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := c.features.GetHistoricalFeatures(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	call := &historicalCall{stream: stream, cancel: cancel, progress: func(Progress) {}}
	err = stream.Send(&twofoldv1.GetHistoricalFeaturesRequest{Message: &twofoldv1.GetHistoricalFeaturesRequest_Header{Header: header}})
	if err != nil && !errors.Is(err, io.EOF) {
		cancel()
		return nil, err
	}
	return call, nil
}

// send sends a chunk. It reports false where the server has ended the stream already; receive then says why.
func (h *historicalCall) send(rows *twofoldv1.EntityRows) (bool, error) {
	err := h.stream.Send(&twofoldv1.GetHistoricalFeaturesRequest{Message: &twofoldv1.GetHistoricalFeaturesRequest_EntityRows{EntityRows: rows}})
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	return err == nil, err
}

func (h *historicalCall) sendArrow(in io.Reader) error {
	for {
		chunk := make([]byte, arrowChunkBytes)
		n, readErr := io.ReadFull(in, chunk)
		if n > 0 {
			ok, err := h.send(&twofoldv1.EntityRows{Rows: &twofoldv1.EntityRows_ArrowIpc{ArrowIpc: chunk[:n]}})
			if err != nil || !ok {
				return err
			}
			h.state.BytesSent += int64(n)
			h.progress(h.state)
		}
		switch {
		case errors.Is(readErr, io.EOF) || errors.Is(readErr, io.ErrUnexpectedEOF):
			return nil
		case readErr != nil:
			return fmt.Errorf("read entity rows: %w", readErr)
		}
	}
}

// receive hands on every message before the manifest, then the end of an Arrow stream to tail (which may be nil), and checks that all is there.
func (h *historicalCall) receive(each func(*twofoldv1.GetHistoricalFeaturesResponse) error, tail func([]byte) error) (*twofoldv1.HistoricalManifest, error) {
	if err := h.stream.CloseSend(); err != nil {
		return nil, err
	}
	for {
		message, err := h.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: it ended without a manifest after %d rows", ErrIncomplete, h.state.RowsReceived)
		}
		if err != nil {
			return nil, err
		}
		if manifest := message.GetManifest(); manifest != nil {
			return manifest, h.finish(manifest, tail)
		}
		if err := each(message); err != nil {
			return nil, err
		}
		h.state.RowsReceived += uint64(message.GetBatch().GetRowCount())
		h.progress(h.state)
	}
}

func (h *historicalCall) finish(manifest *twofoldv1.HistoricalManifest, tail func([]byte) error) error {
	if tail != nil {
		if err := tail(manifest.GetArrowIpc()); err != nil {
			return err
		}
	}
	if manifest.GetRowCount() != h.state.RowsReceived {
		return fmt.Errorf("%w: %d rows came, the manifest counts %d", ErrIncomplete, h.state.RowsReceived, manifest.GetRowCount())
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
