package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// historicalServer is a server that answers historical streams by a function.
type historicalServer struct {
	twofoldv1.UnimplementedFeatureServiceServer
	answer func(twofoldv1.FeatureService_GetHistoricalFeaturesServer) error
}

func (s historicalServer) GetHistoricalFeatures(stream twofoldv1.FeatureService_GetHistoricalFeaturesServer) error {
	return s.answer(stream)
}

func progress(scanned uint64) *twofoldv1.GetHistoricalFeaturesResponse {
	return &twofoldv1.GetHistoricalFeaturesResponse{Message: &twofoldv1.GetHistoricalFeaturesResponse_Progress{Progress: &twofoldv1.HistoricalProgress{
		Phase: twofoldv1.HistoricalProgress_PHASE_SCANNING, RowsScanned: scanned,
	}}}
}

// calls are the two calls, given entity rows as a reader: a chunk of rows is what one Read gives.
var calls = map[string]func(context.Context, *client.Client, *twofoldv1.HistoricalHeader, io.Reader, func(client.Progress)) (*twofoldv1.HistoricalManifest, error){
	"Arrow": func(ctx context.Context, c *client.Client, header *twofoldv1.HistoricalHeader, in io.Reader, progress func(client.Progress)) (*twofoldv1.HistoricalManifest, error) {
		return c.HistoricalArrow(ctx, header, in, io.Discard, progress)
	},
	"columns": func(ctx context.Context, c *client.Client, header *twofoldv1.HistoricalHeader, in io.Reader, progress func(client.Progress)) (*twofoldv1.HistoricalManifest, error) {
		return c.Historical(ctx, header, chunks(in), func(*twofoldv1.ColumnBatch) error { return nil }, client.WithProgress(progress))
	},
}

// chunks yields a chunk of rows for each Read; nil for none.
func chunks(in io.Reader) iter.Seq2[*twofoldv1.ColumnBatch, error] {
	if in == nil {
		return nil
	}
	return func(yield func(*twofoldv1.ColumnBatch, error) bool) {
		b := make([]byte, 1<<20)
		for {
			n, err := in.Read(b)
			if n > 0 && !yield(&twofoldv1.ColumnBatch{Columns: []*twofoldv1.Column{client.Bytes("b", b[:n])}}, nil) {
				return
			}
			if err != nil {
				return
			}
		}
	}
}

// readerFunc is a Read.
type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// drain receives until the client closes its side.
func drain(stream twofoldv1.FeatureService_GetHistoricalFeaturesServer) error {
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// TestProgressWhileSending: what the server says reaches the caller while the caller still holds its entity rows back.
func TestProgressWhileSending(t *testing.T) {
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			cl := dialServer(t, historicalServer{answer: func(stream twofoldv1.FeatureService_GetHistoricalFeaturesServer) error {
				if err := errors.Join(stream.Send(progress(7)), drain(stream)); err != nil {
					return err
				}
				return errors.Join(stream.Send(schema("s")), stream.Send(batch(2, "b")), stream.Send(progress(9)), stream.Send(batch(1, "c")), stream.Send(manifest(3, "e")))
			}})
			told := make(chan struct{})
			rows := strings.NewReader("rows")
			in := readerFunc(func(b []byte) (int, error) {
				<-told
				return rows.Read(b)
			})
			var seen []client.Progress
			m, err := call(t.Context(), cl, &twofoldv1.HistoricalHeader{}, in, func(p client.Progress) {
				if seen = append(seen, p); p.Server.GetRowsScanned() == 7 && len(seen) == 1 {
					close(told)
				}
			})
			if err != nil || m.GetRowCount() != 3 {
				t.Fatalf("%v, %v", m, err)
			}
			if last := seen[len(seen)-1]; last.RowsReceived != 3 || last.Server.GetRowsScanned() != 9 || last.Server.GetPhase() != twofoldv1.HistoricalProgress_PHASE_SCANNING {
				t.Errorf("the last progress is %+v", last)
			}
		})
	}
}

// TestEntityRowsCutOff: a reader that says that its own input was cut off, as those of files that are compressed and of HTTP do, is not taken for one that has ended; nor is one
// whose error only wraps io.EOF.
func TestEntityRowsCutOff(t *testing.T) {
	for name, in := range map[string]io.Reader{
		"at once": iotest.ErrReader(io.ErrUnexpectedEOF), "after rows": io.MultiReader(strings.NewReader("rows"), iotest.ErrReader(io.ErrUnexpectedEOF)),
		"connection closed": iotest.ErrReader(fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, io.EOF)), "with rows": iotest.DataErrReader(io.MultiReader(strings.NewReader("rows"), iotest.ErrReader(io.ErrUnexpectedEOF))),
	} {
		t.Run(name, func(t *testing.T) {
			cl := dialServer(t, historicalServer{answer: func(stream twofoldv1.FeatureService_GetHistoricalFeaturesServer) error {
				if err := drain(stream); err != nil {
					return err
				}
				return errors.Join(stream.Send(schema("s")), stream.Send(batch(1, "b")), stream.Send(manifest(1, "e")))
			}})
			m, err := cl.HistoricalArrow(t.Context(), &twofoldv1.HistoricalHeader{}, in, io.Discard, nil)
			if m != nil || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%v, %v", m, err)
			}
		})
	}
}

// TestErrorWhileSending: the server's error comes at once and as itself, whether the caller has more rows than the server takes or none for now.
func TestErrorWhileSending(t *testing.T) {
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	for rows, in := range map[string]io.Reader{
		"endless": readerFunc(func(b []byte) (int, error) { return len(b), nil }),
		"blocked": readerFunc(func([]byte) (int, error) { <-never; return 0, io.EOF }),
	} {
		for name, call := range calls {
			t.Run(name+" "+rows, func(t *testing.T) {
				cl := dialServer(t, historicalServer{answer: func(twofoldv1.FeatureService_GetHistoricalFeaturesServer) error {
					return status.Error(codes.FailedPrecondition, "no such feature")
				}})
				m, err := call(t.Context(), cl, &twofoldv1.HistoricalHeader{}, in, nil)
				if m != nil || status.Code(err) != codes.FailedPrecondition || status.Convert(err).Message() != "no such feature" {
					t.Errorf("%v, %v", m, err)
				}
			})
		}
	}
}

// TestAnswerBeforeAllRows: a server that is done before the caller has sent all has joined something else.
func TestAnswerBeforeAllRows(t *testing.T) {
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			cl := dialServer(t, historicalServer{answer: func(stream twofoldv1.FeatureService_GetHistoricalFeaturesServer) error {
				return errors.Join(stream.Send(schema("s")), stream.Send(manifest(0, "e")))
			}})
			_, err := call(t.Context(), cl, &twofoldv1.HistoricalHeader{}, readerFunc(func(b []byte) (int, error) { return len(b), nil }), nil)
			if !errors.Is(err, client.ErrIncomplete) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestNothingStreamed: neither entity rows nor batches need to be streamed; a result that the server writes is counted by the manifest alone.
func TestNothingStreamed(t *testing.T) {
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			cl := dial(t, &scripted{answers: []*twofoldv1.GetHistoricalFeaturesResponse{schema(""), progress(1), manifest(5, "")}})
			header := &twofoldv1.HistoricalHeader{
				Entities: &twofoldv1.HistoricalHeader_EntityFile{EntityFile: &twofoldv1.EntityFile{Path: "rows.csv"}}, Output: &twofoldv1.ParquetOutput{Path: "out.parquet"},
			}
			if m, err := call(t.Context(), cl, header, nil, nil); err != nil || m.GetRowCount() != 5 {
				t.Errorf("%v, %v", m, err)
			}
			header.Output = nil
			if _, err := call(t.Context(), cl, header, nil, nil); !errors.Is(err, client.ErrIncomplete) {
				t.Errorf("rows are missing: %v", err)
			}
		})
	}
	cl := dial(t, &scripted{answers: []*twofoldv1.GetHistoricalFeaturesResponse{schema(""), manifest(5, "")}})
	header := &twofoldv1.HistoricalHeader{Output: &twofoldv1.ParquetOutput{Path: "out.parquet"}}
	if _, err := cl.HistoricalArrow(t.Context(), header, nil, nil, nil); err != nil {
		t.Error(err)
	}
	if _, err := cl.Historical(t.Context(), header, nil, nil); err != nil {
		t.Error(err)
	}
}

// TestProgressInterval: the server is asked for progress where somebody wants it, as often as the caller says.
func TestProgressInterval(t *testing.T) {
	own := durationpb.New(time.Minute)
	for name, call := range calls {
		for _, tc := range []struct {
			set      *durationpb.Duration
			progress func(client.Progress)
			want     time.Duration
		}{
			{nil, nil, 0}, {nil, func(client.Progress) {}, 500 * time.Millisecond}, {own, func(client.Progress) {}, time.Minute}, {own, nil, time.Minute},
		} {
			got := make(chan time.Duration, 1)
			cl := dialServer(t, historicalServer{answer: func(stream twofoldv1.FeatureService_GetHistoricalFeaturesServer) error {
				m, err := stream.Recv()
				got <- m.GetHeader().GetProgressInterval().AsDuration()
				return errors.Join(err, drain(stream), stream.Send(manifest(0, "")))
			}})
			if _, err := call(t.Context(), cl, &twofoldv1.HistoricalHeader{ProgressInterval: tc.set}, nil, tc.progress); err != nil {
				t.Fatal(err)
			}
			if interval := <-got; interval != tc.want {
				t.Errorf("%s: the interval is %v, want %v", name, interval, tc.want)
			}
		}
	}
}

// TestCancelFreesEverything: a call that is cancelled while the server takes no more rows returns, the server's side ends, and so does the goroutine that sends.
func TestCancelFreesEverything(t *testing.T) {
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			ended := make(chan error, 1)
			cl := dialServer(t, historicalServer{answer: func(stream twofoldv1.FeatureService_GetHistoricalFeaturesServer) error {
				err := stream.Send(progress(1))
				<-stream.Context().Done()
				ended <- err
				return stream.Context().Err()
			}})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			reads := make(chan struct{})
			over := make(chan struct{})
			in := readerFunc(func(b []byte) (int, error) {
				select {
				case reads <- struct{}{}:
					return len(b), nil
				case <-over:
					return 0, io.EOF
				}
			})
			go func() {
				// Flow control stops the sender after some chunks: from then on nobody reads.
				for {
					select {
					case <-reads:
					case <-time.After(200 * time.Millisecond):
						cancel()
						return
					}
				}
			}()
			_, err := call(ctx, cl, &twofoldv1.HistoricalHeader{}, in, func(client.Progress) {})
			if status.Code(err) != codes.Canceled {
				t.Errorf("%v", err)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
			select {
			case <-reads:
				t.Error("entity rows are read after the end of the call")
			case <-time.After(100 * time.Millisecond):
			}
			close(over)
		})
	}
}
