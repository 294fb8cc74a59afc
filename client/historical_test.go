package client_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// scripted is a server that answers every historical stream with the same messages, and then ends it with err.
type scripted struct {
	twofoldv1.UnimplementedFeatureServiceServer
	answers []*twofoldv1.GetHistoricalFeaturesResponse
	err     error
	// got gives the Arrow bytes of each stream when the client has sent all; it has room for two.
	got chan []byte
}

func (s *scripted) GetHistoricalFeatures(stream twofoldv1.FeatureService_GetHistoricalFeaturesServer) error {
	var received []byte
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		received = append(received, m.GetEntityRows().GetArrowIpc()...)
	}
	s.got <- received
	for _, answer := range s.answers {
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
	return s.err
}

func dial(t *testing.T, s *scripted) *client.Client {
	t.Helper()
	s.got = make(chan []byte, 2)
	return dialServer(t, s)
}

func dialServer(t *testing.T, s twofoldv1.FeatureServiceServer) *client.Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	twofoldv1.RegisterFeatureServiceServer(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	c, err := client.Dial(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := c.Close()
		server.Stop()
		if err := errors.Join(err, <-served); err != nil {
			t.Error(err)
		}
	})
	return c
}

func schema(arrow string) *twofoldv1.GetHistoricalFeaturesResponse {
	return &twofoldv1.GetHistoricalFeaturesResponse{Message: &twofoldv1.GetHistoricalFeaturesResponse_Schema{Schema: &twofoldv1.HistoricalSchema{ArrowIpc: []byte(arrow)}}}
}

func batch(rows uint32, arrow string) *twofoldv1.GetHistoricalFeaturesResponse {
	return &twofoldv1.GetHistoricalFeaturesResponse{Message: &twofoldv1.GetHistoricalFeaturesResponse_Batch{Batch: &twofoldv1.HistoricalBatch{
		RowCount: rows, ArrowIpc: []byte(arrow), Columns: &twofoldv1.ColumnBatch{Columns: []*twofoldv1.Column{client.Int64s("x", make([]int64, rows)...)}},
	}}}
}

func manifest(rows uint64, arrow string) *twofoldv1.GetHistoricalFeaturesResponse {
	return &twofoldv1.GetHistoricalFeaturesResponse{Message: &twofoldv1.GetHistoricalFeaturesResponse_Manifest{
		Manifest: &twofoldv1.HistoricalManifest{RowCount: rows, ArrowIpc: []byte(arrow)}}}
}

// noRows is entity rows of no chunk.
func noRows(func(*twofoldv1.ColumnBatch, error) bool) {}

// TestOnlyAWholeStreamIsATrainingSet: whatever is missing or too much, both calls say so.
func TestOnlyAWholeStreamIsATrainingSet(t *testing.T) {
	type answers = []*twofoldv1.GetHistoricalFeaturesResponse
	for name, c := range map[string]struct {
		answers answers
		end     error
		want    string // in the text of the error; empty where there is none
	}{
		"whole":                {answers{schema("s"), batch(2, "b"), batch(1, "c"), manifest(3, "e")}, nil, ""},
		"no rows":              {answers{schema("s"), manifest(0, "e")}, nil, ""},
		"nothing":              {nil, nil, "without a manifest after 0 rows"},
		"no manifest":          {answers{schema("s"), batch(2, "b")}, nil, "without a manifest after 2 rows"},
		"rows are missing":     {answers{schema("s"), batch(2, "b"), manifest(3, "e")}, nil, "2 rows came, the manifest counts 3"},
		"too many rows":        {answers{schema("s"), batch(2, "b"), batch(2, "c"), manifest(3, "e")}, nil, "4 rows came, the manifest counts 3"},
		"rows after manifest":  {answers{schema("s"), manifest(0, "e"), batch(1, "b")}, nil, "a message came after the manifest"},
		"error instead":        {answers{schema("s"), batch(2, "b")}, status.Error(codes.DataLoss, "damaged"), "damaged"},
		"error after manifest": {answers{schema("s"), manifest(0, "e")}, status.Error(codes.Internal, "too late"), "too late"},
	} {
		t.Run(name, func(t *testing.T) {
			cl := dial(t, &scripted{answers: c.answers, err: c.end})
			check := func(call string, m *twofoldv1.HistoricalManifest, err error) {
				t.Helper()
				switch {
				case c.want == "" && (err != nil || m == nil):
					t.Errorf("%s: %v, %v", call, m, err)
				case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
					t.Errorf("%s: got %v, want %q", call, err, c.want)
				case c.want != "" && c.end == nil && !errors.Is(err, client.ErrIncomplete):
					t.Errorf("%s: %v is not ErrIncomplete", call, err)
				case c.end != nil && status.Code(err) != status.Code(c.end):
					t.Errorf("%s: %v has another code than %v", call, err, c.end)
				}
			}
			m, err := cl.Historical(t.Context(), &twofoldv1.HistoricalHeader{}, noRows, func(*twofoldv1.ColumnBatch) error { return nil })
			check("columns", m, err)
			var out bytes.Buffer
			m, err = cl.HistoricalArrow(t.Context(), &twofoldv1.HistoricalHeader{}, strings.NewReader(""), &out, nil)
			check("Arrow", m, err)
			if name == "whole" && out.String() != "sbce" {
				t.Errorf("the Arrow stream is %q", out.String())
			}
		})
	}
}

// TestOwnFailuresEndTheCall: where the caller's reader, writer or function fails, the call fails with just that.
func TestOwnFailuresEndTheCall(t *testing.T) {
	own := errors.New("disk full")
	whole := []*twofoldv1.GetHistoricalFeaturesResponse{schema("schema"), batch(2, "batch"), manifest(2, "end")}
	cl := dial(t, &scripted{answers: whole})
	_, err := cl.Historical(t.Context(), &twofoldv1.HistoricalHeader{}, noRows, func(*twofoldv1.ColumnBatch) error { return own })
	if !errors.Is(err, own) {
		t.Errorf("each: %v", err)
	}
	_, err = dial(t, &scripted{answers: whole}).Historical(t.Context(), &twofoldv1.HistoricalHeader{},
		func(yield func(*twofoldv1.ColumnBatch, error) bool) { yield(nil, own) }, func(*twofoldv1.ColumnBatch) error { return nil })
	if !errors.Is(err, own) {
		t.Errorf("rows: %v", err)
	}
	_, err = dial(t, &scripted{answers: whole}).HistoricalArrow(t.Context(), &twofoldv1.HistoricalHeader{},
		io.MultiReader(strings.NewReader("some"), iotest.ErrReader(own)), io.Discard, nil)
	if !errors.Is(err, own) {
		t.Errorf("in: %v", err)
	}
	for room := range len("schemabatchend") {
		_, err = dial(t, &scripted{answers: whole}).HistoricalArrow(t.Context(), &twofoldv1.HistoricalHeader{}, strings.NewReader(""), &failsOnce{room, own}, nil)
		if !errors.Is(err, own) {
			t.Errorf("out with room for %d bytes: %v", room, err)
		}
	}
}

// failsOnce is a disk that has no room after so many bytes, and then has again.
type failsOnce struct {
	room int
	err  error
}

func (f *failsOnce) Write(b []byte) (int, error) {
	n := min(f.room, len(b))
	f.room -= n
	if n < len(b) {
		f.room = math.MaxInt
		return n, f.err
	}
	return n, nil
}

// TestArrowIsSentWhole sends more than one chunk, from a reader that gives few bytes at a time.
func TestArrowIsSentWhole(t *testing.T) {
	s := &scripted{answers: []*twofoldv1.GetHistoricalFeaturesResponse{manifest(0, "")}}
	cl := dial(t, s)
	sent := make([]byte, 5<<19)
	for i := range sent {
		sent[i] = byte(i * i >> 7)
	}
	var last client.Progress
	_, err := cl.HistoricalArrow(t.Context(), &twofoldv1.HistoricalHeader{}, iotest.HalfReader(bytes.NewReader(sent)), io.Discard, func(p client.Progress) { last = p })
	if err != nil {
		t.Fatal(err)
	}
	if got := <-s.got; !slices.Equal(got, sent) {
		t.Errorf("%d bytes arrived, other than the %d that were sent", len(got), len(sent))
	}
	if last.BytesSent != int64(len(sent)) {
		t.Errorf("progress says %d bytes", last.BytesSent)
	}
}
