package server_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/server/servertest"
)

// toFile is the header of a call whose result is written.
func toFile(path string) *twofoldv1.HistoricalHeader {
	header := trainingHeader()
	header.Output = &twofoldv1.ParquetOutput{Path: path}
	return header
}

// filesBelow lists all files of a folder, hidden ones included.
func filesBelow(t *testing.T, folder string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, strings.TrimPrefix(path, folder+"/"))
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return files
}

// outputPlaces are where results are written: a local folder and one in S3, with what reads and lists their files.
func outputPlaces(t *testing.T) (*servertest.Env, *s3World, map[string]outputPlace) {
	t.Helper()
	world := newS3World(t)
	env := start(t, allowing(t, nil, []string{"out", world.url("out")}), func(c *servertest.Config) { c.Offline.S3 = world.config })
	folder := filepath.Join(folderOf(t, env), "out")
	return env, world, map[string]outputPlace{
		"out/": {
			read: func(name string) []byte {
				data, err := os.ReadFile(filepath.Join(folder, name))
				if err != nil {
					t.Fatal(err)
				}
				return data
			},
			list: func() []string { return filesBelow(t, folder) },
		},
		world.url("out/"): {
			read: func(name string) []byte { return world.get(t, "out/"+name) },
			list: func() []string {
				keys, uploads := world.keys(t)
				for i := range keys {
					keys[i] = strings.TrimPrefix(keys[i], "out/")
				}
				return append(keys, uploads...)
			},
		},
	}
}

type outputPlace struct {
	read func(name string) []byte
	// list names all files, those that are not complete included.
	list func() []string
}

// TestParquetOutput: what is written is what would have been sent, its manifest is beside it, and only schema and manifest are sent.
func TestParquetOutput(t *testing.T) {
	env, _, places := outputPlaces(t)
	chunks := tableChunks(t, entityRows(), 2)
	options := func(h *twofoldv1.HistoricalHeader) *twofoldv1.HistoricalHeader {
		h.IncludeEventTimes, h.IncludeStatuses, h.MaxBatchRows = true, true, 3
		return h
	}
	streamed := mustTrain(t, env, options(trainingHeader()), chunks...)
	for place, at := range places {
		header := options(toFile(place + "a/set.parquet"))
		got := mustTrain(t, env, header, chunks...)
		if len(got.batchRows) > 0 || got.arrow.Len() > 0 || len(got.progress) > 0 {
			t.Errorf("batches, Arrow or progress were sent: %+v", got)
		}
		names, cells := readParquet(t, env, place+"a/set.parquet")
		if diff := cmp.Diff(streamed.columns, names); diff != "" || !cmp.Equal(names, got.columns) {
			t.Errorf("-streamed +got:\n%s", diff)
		}
		if diff := cmp.Diff(asStored(streamed.cells), cells); diff != "" {
			t.Errorf("-streamed +got:\n%s", diff)
		}
		if got.manifest.GetContentHash() != streamed.manifest.GetContentHash() || got.manifest.GetRowCount() != 4 {
			t.Errorf("manifest: %v", got.manifest)
		}
		written := got.manifest.GetOutput()
		data := at.read("a/set.parquet")
		if !strings.HasSuffix(written.GetUrl(), "/out/a/set.parquet") || written.GetSizeBytes() != uint64(len(data)) || written.GetEtag() == "" {
			t.Errorf("output of the manifest: %v, the file has %d bytes", written, len(data))
		}
		var saved twofoldv1.HistoricalManifest
		if err := protojson.Unmarshal(at.read("a/set.parquet.manifest.json"), &saved); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(&saved, got.manifest) {
			t.Errorf("the saved manifest is %v, the one that was sent %v", &saved, got.manifest)
		}

		// Again: refused, then to another name, then over the first; all the same bytes.
		_, err := train(t.Context(), t, env.GRPCAddress, header, chunks...)
		wantError(t, err, codes.FailedPrecondition, "", "set.parquet", "is there already", "overwrit")
		mustTrain(t, env, options(toFile(place+"b.parquet")), chunks...)
		header.Output.Overwrite = true
		mustTrain(t, env, header, chunks...)
		for _, name := range []string{"a/set.parquet", "b.parquet"} {
			if !bytes.Equal(at.read(name), data) {
				t.Errorf("%s has other bytes", name)
			}
		}
		want := []string{"a/set.parquet", "a/set.parquet.manifest.json", "b.parquet", "b.parquet.manifest.json"}
		if diff := cmp.Diff(want, at.list()); diff != "" {
			t.Errorf("files, -want +got:\n%s", diff)
		}
	}
}

// TestParquetOutputOfNoRows: a file without rows has all columns.
func TestParquetOutputOfNoRows(t *testing.T) {
	env, _, places := outputPlaces(t)
	none := columnChunk(toProto(t, "user_id", feature.NewColumn(feature.Int64, 0), 0, 0), toProto(t, "event_timestamp", feature.NewColumn(feature.Timestamp, 0), 0, 0))
	for place := range places {
		header := toFile(place + "none.parquet")
		header.Features = []string{"profile:age"}
		got := mustTrain(t, env, header, none)
		names, cells := readParquet(t, env, place+"none.parquet")
		if got.manifest.GetRowCount() != 0 || strings.Join(names, " ") != "user_id event_timestamp profile:age" || len(cells["profile:age"]) > 0 {
			t.Errorf("%v: %v, %v", got.manifest, names, cells)
		}
	}
}

func TestParquetOutputErrors(t *testing.T) {
	env, world, _ := outputPlaces(t)
	nothing := start(t)
	folder := folderOf(t, env)
	writeBytes(t, filepath.Join(folder, "out/file"), nil)
	writeBytes(t, filepath.Join(folder, "out/linked.parquet"), nil)
	if err := os.Symlink(folder, filepath.Join(folder, "out/away")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(folder, "profile.parquet"), filepath.Join(folder, "out/linked.parquet.manifest.json")); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		env   *servertest.Env
		path  string
		code  codes.Code
		field string
		words []string
	}{
		"not configured": {nothing, "out/x.parquet", codes.FailedPrecondition, "", []string{"none is", "historical.output_paths"}},
		"outside":        {env, "x.parquet", codes.FailedPrecondition, "", []string{"must lie beneath", "historical.output_paths"}},
		"up":             {env, "out/../profile.parquet", codes.FailedPrecondition, "", []string{"must lie beneath"}},
		"link":           {env, "out/away/x.parquet", codes.FailedPrecondition, "", []string{"symbolic link"}},
		"manifest link":  {env, "out/linked.parquet", codes.FailedPrecondition, "", []string{"symbolic link"}},
		"s3 outside":     {env, world.url("x.parquet"), codes.FailedPrecondition, "", []string{"must lie beneath"}},
		"s3 up":          {env, world.url("out/../x.parquet"), codes.FailedPrecondition, "", []string{"not allowed"}},
		"empty":          {env, "", codes.InvalidArgument, "header.output.path", nil},
		"folder":         {env, "out/new/", codes.InvalidArgument, "header.output.path", []string{"folder"}},
		"below a file":   {env, "out/file/x.parquet", codes.FailedPrecondition, "", []string{"a file is where its folder would be"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := train(t.Context(), t, c.env.GRPCAddress, toFile(c.path), tableChunks(t, entityRows(), 4)...)
			t.Log(err)
			wantError(t, err, c.code, c.field, c.words...)
		})
	}
	// No folder is needed to be told, and no rows.
	stream, done, err := openHistorical(t.Context(), env.GRPCAddress, toFile("elsewhere/x.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	_, err = stream.Recv()
	wantError(t, err, codes.FailedPrecondition, "", "must lie beneath")
}

// wideRows are rows whose payload does not compress, so that a file of them is large.
func wideRows(rows, payload int) *servertest.Table {
	random := rand.NewChaCha8([32]byte{1})
	var payloads, items, times []any
	for i := range rows {
		bytes := make([]byte, payload)
		for b := range bytes {
			bytes[b] = 32 + byte(random.Uint64()%95)
		}
		payloads, items, times = append(payloads, string(bytes)), append(items, "a"), append(times, ago(time.Duration(i)*time.Second))
	}
	return new(servertest.Table).Add("payload", feature.String, payloads...).Add("item_id", feature.String, items...).Add("event_timestamp", feature.Timestamp, times...)
}

// TestParquetOutputThatFails: neither a call that fails nor one that is cancelled leaves anything behind, wherever it writes.
func TestParquetOutputThatFails(t *testing.T) {
	env, world, places := outputPlaces(t)
	folder := folderOf(t, env)
	corrupt, err := os.ReadFile(filepath.Join(folder, "price.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	for i := 4; i < len(corrupt)/3; i++ {
		corrupt[i] ^= 0x55
	}
	chunks := tableChunks(t, wideRows(6000, 3000), 1000)
	writePrice := func(path string) *twofoldv1.HistoricalHeader {
		header := toFile(path)
		header.Features = []string{"price:name"}
		return header
	}
	t.Run("cancelled", func(t *testing.T) {
		held := make(chan struct{}, 100)
		world.set(func(_ http.ResponseWriter, r *http.Request, _ int) bool {
			if r.Method == http.MethodPut {
				_, _ = io.Copy(io.Discard, r.Body) // else nobody notices that the server has given up
				held <- struct{}{}
				<-r.Context().Done()
			}
			return false
		})
		defer world.set(nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			<-held
			cancel()
		}()
		_, err := train(ctx, t, env.GRPCAddress, writePrice(world.url("out/x.parquet")), chunks...)
		wantError(t, err, codes.Canceled, "")
	})
	t.Run("s3 refuses the last part", func(t *testing.T) {
		world.set(func(w http.ResponseWriter, r *http.Request, _ int) bool {
			return r.Method == http.MethodPost && r.URL.Query().Has("uploadId") && refuse(w, http.StatusForbidden, "AccessDenied")
		})
		defer world.set(nil)
		_, err := train(t.Context(), t, env.GRPCAddress, writePrice(world.url("out/x.parquet")), chunks...)
		wantError(t, err, codes.FailedPrecondition, "", "out/x.parquet", "access is denied")
	})
	t.Run("s3 refuses the manifest", func(t *testing.T) {
		world.set(func(w http.ResponseWriter, r *http.Request, _ int) bool {
			return r.Method == http.MethodPut && strings.Contains(r.URL.Path, ".manifest.json") && refuse(w, http.StatusForbidden, "AccessDenied")
		})
		_, err := train(t.Context(), t, env.GRPCAddress, writePrice(world.url("out/y.parquet")), tableChunks(t, wideRows(3, 3), 3)...)
		world.set(nil)
		wantError(t, err, codes.FailedPrecondition, "", "out/y.parquet", "is written, but its manifest is not")
		world.server.Delete(t, world.bucket, "out/y.parquet")
	})
	writeBytes(t, filepath.Join(folder, "price.parquet"), corrupt)
	for place := range places {
		_, err := train(t.Context(), t, env.GRPCAddress, writePrice(place+"x.parquet"), chunks...)
		wantError(t, err, codes.DataLoss, "", "price.parquet")
	}
	for place, at := range places {
		await(t, place+" to be empty", func() bool { return len(at.list()) == 0 })
	}
	for _, name := range filesBelow(t, folder) {
		if strings.Contains(name, "partial") || strings.HasPrefix(name, "out/") {
			t.Errorf("%s is left", name)
		}
	}
}

// TestParquetOutputProgress: while a file is written, progress is told.
func TestParquetOutputProgress(t *testing.T) {
	env, world, _ := outputPlaces(t)
	header := toFile(world.url("out/x.parquet"))
	header.ProgressInterval = durationpb.New(100 * time.Millisecond)
	release := make(chan struct{})
	world.set(func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		if r.Method == http.MethodPut {
			<-release
		}
		return false
	})
	stream, done, err := openHistorical(t.Context(), env.GRPCAddress, header)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	send(t, stream, tableChunks(t, entityRows(), 4)[0])
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	got := &trained{cells: map[string][]string{}}
	for len(got.progress) < 3 {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		got.take(t, m)
	}
	close(release)
	rest, err := receiveAll(t, stream)
	if err != nil || rest.manifest == nil {
		t.Fatalf("%+v, %v", rest, err)
	}
	if last := got.progress[2]; last.GetPhase() != twofoldv1.HistoricalProgress_PHASE_SENDING || last.GetRowsDone() != 4 || last.GetEntityRows() != 4 {
		t.Errorf("%v", last)
	}
}
