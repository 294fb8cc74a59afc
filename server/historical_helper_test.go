package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/wire"
	"github.com/twofold-ml/twofold/server"
	"github.com/twofold-ml/twofold/server/servertest"
)

// trained is all that a historical call sent: taken without the client's help, so that every message is seen.
type trained struct {
	// columns are the names that the schema has.
	columns []string
	// cells are those of all batches of typed columns, by column.
	cells map[string][]string
	// batchRows are the rows of each batch.
	batchRows []int
	// arrow is the Arrow stream.
	arrow    bytes.Buffer
	progress []*twofoldv1.HistoricalProgress
	manifest *twofoldv1.HistoricalManifest
}

// train makes a call whose entity rows are these chunks and reads all of its answer. It may be called by any goroutine.
func train(ctx context.Context, t *testing.T, address string, header *twofoldv1.HistoricalHeader, chunks ...*twofoldv1.GetHistoricalFeaturesRequest) (*trained, error) {
	t.Helper()
	stream, done, err := openHistorical(ctx, address, header)
	if err != nil {
		return nil, err
	}
	defer done()
	for _, chunk := range chunks {
		if err := stream.Send(chunk); errors.Is(err, io.EOF) {
			break // Recv says why
		} else if err != nil {
			return nil, err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	return receiveAll(t, stream)
}

// openHistorical opens a stream, on a connection of its own, and sends the header.
func openHistorical(ctx context.Context, address string, header *twofoldv1.HistoricalHeader, options ...grpc.DialOption) (rawHistorical, func(), error) {
	conn, err := grpc.NewClient(address, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		return nil, nil, err
	}
	done := func() { _ = conn.Close() } // the stream may have failed
	stream, err := twofoldv1.NewFeatureServiceClient(conn).GetHistoricalFeatures(ctx)
	if err == nil {
		err = stream.Send(headerMessage(header))
	}
	if err != nil && !errors.Is(err, io.EOF) {
		done()
		return nil, nil, err
	}
	return stream, done, nil
}

func headerMessage(header *twofoldv1.HistoricalHeader) *twofoldv1.GetHistoricalFeaturesRequest {
	return &twofoldv1.GetHistoricalFeaturesRequest{Message: &twofoldv1.GetHistoricalFeaturesRequest_Header{Header: header}}
}

// receiveAll reads a stream to its end.
func receiveAll(t *testing.T, stream rawHistorical) (*trained, error) {
	t.Helper()
	got := &trained{cells: map[string][]string{}}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		if got.manifest != nil {
			t.Error("a message follows the manifest")
		}
		got.take(t, m)
	}
}

func (got *trained) take(t *testing.T, m *twofoldv1.GetHistoricalFeaturesResponse) {
	t.Helper()
	switch {
	case m.GetSchema() != nil:
		if got.columns != nil || got.batchRows != nil {
			t.Error("the schema comes twice or late")
		}
		for _, c := range m.GetSchema().GetColumns() {
			got.columns = append(got.columns, c.GetName())
		}
		got.arrow.Write(m.GetSchema().GetArrowIpc())
	case m.GetBatch() != nil:
		got.batchRows = append(got.batchRows, int(m.GetBatch().GetRowCount()))
		for name, cells := range table(t, m.GetBatch().GetColumns().GetColumns()) {
			got.cells[name] = append(got.cells[name], cells...)
		}
		got.arrow.Write(m.GetBatch().GetArrowIpc())
	case m.GetProgress() != nil:
		got.progress = append(got.progress, m.GetProgress())
	case m.GetManifest() != nil:
		got.manifest = m.GetManifest()
		got.arrow.Write(m.GetManifest().GetArrowIpc())
	}
}

// rows is the number of rows in all batches.
func (got *trained) rows() (n int) {
	for _, rows := range got.batchRows {
		n += rows
	}
	return n
}

// tableChunks gives a table as messages of so many rows each.
func tableChunks(t *testing.T, rows *servertest.Table, each int) (chunks []*twofoldv1.GetHistoricalFeaturesRequest) {
	t.Helper()
	for batch, err := range batches(t, rows, each) {
		if err != nil {
			t.Fatal(err)
		}
		chunks = append(chunks, columnChunk(batch.GetColumns()...))
	}
	return chunks
}

// mustTrain is train that must succeed.
func mustTrain(t *testing.T, env *servertest.Env, header *twofoldv1.HistoricalHeader, chunks ...*twofoldv1.GetHistoricalFeaturesRequest) *trained {
	t.Helper()
	got, err := train(t.Context(), t, env.GRPCAddress, header, chunks...)
	if err != nil {
		t.Fatal(err)
	}
	if got.manifest == nil {
		t.Fatal("no manifest")
	}
	return got
}

// allowing lets callers name files below some places.
func allowing(t *testing.T, entities, outputs []string, changes ...func(*server.Options)) func(*servertest.Config) {
	t.Helper()
	return func(c *servertest.Config) {
		c.Change = func(o *server.Options) {
			var err, err2 error
			o.EntityPaths, err = o.Offline.PathRules("historical.entity_paths", entities)
			o.OutputPaths, err2 = o.Offline.PathRules("historical.output_paths", outputs)
			if err := errors.Join(err, err2); err != nil {
				t.Error(err)
			}
			for _, change := range changes {
				change(o)
			}
		}
	}
}

// folderOf gives the offline store's folder.
func folderOf(t *testing.T, env *servertest.Env) string {
	t.Helper()
	url, err := env.Offline.Resolve("x")
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(url[len("file://"):])
}

// writeBytes writes a file, folders and all.
func writeBytes(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// readParquet gives the columns, in their order, and the cells of a Parquet file of the store. What is missing is NULL: a file knows nothing else.
func readParquet(t *testing.T, env *servertest.Env, path string) (names []string, cells map[string][]string) {
	t.Helper()
	rows, err := env.Offline.OpenRows(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	cells = map[string][]string{}
	columns := rows.Readable()
	for _, c := range columns {
		names = append(names, c.Name)
	}
	err = rows.Read(t.Context(), columns, func(batch []*feature.Column) error {
		for i, c := range batch {
			m, err := wire.ColumnToProto(names[i], c, 0, c.Len())
			if err != nil {
				return err
			}
			for name, some := range table(t, []*twofoldv1.Column{m}) {
				cells[name] = append(cells[name], some...)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names, cells
}

// asStored gives cells as a file has them; the statuses are text, and stay.
func asStored(cells map[string][]string) map[string][]string {
	stored := map[string][]string{}
	for name, some := range cells {
		some = slices.Clone(some)
		for i := range some {
			if some[i] == "NOT_FOUND" && !strings.HasSuffix(name, ":status") {
				some[i] = "NULL"
			}
		}
		stored[name] = some
	}
	return stored
}

// wantColumns compares cells of these columns only.
func wantColumns(t *testing.T, got, want map[string][]string) {
	t.Helper()
	chosen := map[string][]string{}
	for name := range want {
		chosen[name] = got[name]
	}
	if diff := cmp.Diff(want, chosen); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// repeating gives the header of a call that repeats another.
func repeating(header *twofoldv1.HistoricalHeader, manifest *twofoldv1.HistoricalManifest) *twofoldv1.HistoricalHeader {
	header = proto.CloneOf(header)
	header.RepeatOf = manifest
	return header
}

// metric gives the value of a metric, as its line says it; "" where there is none.
func metric(t *testing.T, env *servertest.Env, name string) string {
	t.Helper()
	_, body := get(t, env, "/metrics")
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
