package server_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/server/servertest"
)

// entityCSV is entityRows as CSV.
func entityCSV() []byte {
	text := "label,user_id,item_id,event_timestamp\n"
	for i, row := range []string{"1,1,a", ",2,b", "0.5,,a", "0.25,1,c"} {
		at := []time.Duration{0, time.Hour, 0, 29 * time.Hour}[i]
		text += row + "," + now.Add(-at).Format(time.RFC3339) + "\n"
	}
	return []byte(text)
}

// entityParts are the first rows of entityRows and the others.
func entityParts() (first, second *servertest.Table) {
	part := func(from, to int) *servertest.Table {
		whole, t := entityRows(), new(servertest.Table)
		for i, c := range whole.Columns {
			cut := feature.NewColumn(c.Type, 0)
			for row := from; row < to; row++ {
				if c.IsPresent(row) {
					cut.AppendFrom(c, row)
				} else {
					cut.AppendMissing(feature.Null)
				}
			}
			t.Names, t.Columns = append(t.Names, whole.Names[i]), append(t.Columns, cut)
		}
		return t
	}
	return part(0, 3), part(3, 4)
}

// fromFile is the header of a call whose entity rows are in a file.
func fromFile(path string) *twofoldv1.HistoricalHeader {
	header := trainingHeader()
	header.Entities = &twofoldv1.HistoricalHeader_EntityFile{EntityFile: &twofoldv1.EntityFile{Path: path}}
	return header
}

// TestEntityFiles: the same rows give the same result and hash whatever file they come from.
func TestEntityFiles(t *testing.T) {
	world := newS3World(t)
	env := start(t, allowing(t, []string{"in", world.url("in")}, nil), func(c *servertest.Config) { c.Offline.S3 = world.config })
	first, second := entityParts()
	files := map[string][]byte{
		"rows.parquet": parquetBytes(t, entityRows()), "rows.csv": entityCSV(), "rows.arrow": arrowBytes(t, entityRows().Record(t), 3),
		"many/a.parquet": parquetBytes(t, first), "many/b.parquet": parquetBytes(t, second), "many/_SUCCESS": nil, "rows.data": entityCSV(),
	}
	for name, data := range files {
		writeBytes(t, filepath.Join(folderOf(t, env), "in", name), data)
		world.put(t, "in/"+name, data)
	}
	streamed := mustTrain(t, env, trainingHeader(), tableChunks(t, entityRows(), 2)...)
	for _, folder := range []string{"in/", world.url("in/")} {
		for name, wantFiles := range map[string][]string{
			"rows.parquet": {"rows.parquet"}, "rows.csv": {"rows.csv"}, "rows.arrow": {"rows.arrow"}, "rows.data": {"rows.data"},
			"many": {"a.parquet", "b.parquet"}, "many/": {"a.parquet", "b.parquet"}, "many/*.parquet": {"a.parquet", "b.parquet"}, "m*/[ab].parquet": {"a.parquet", "b.parquet"},
		} {
			t.Run(folder[:2]+name, func(t *testing.T) {
				header := fromFile(folder + name)
				if name == "rows.data" {
					header.GetEntityFile().Format = twofoldv1.EntityFileFormat_ENTITY_FILE_FORMAT_CSV
				}
				got := mustTrain(t, env, header)
				if diff := cmp.Diff(streamed.cells, got.cells); diff != "" {
					t.Errorf("-streamed +got:\n%s", diff)
				}
				if got.manifest.GetContentHash() != streamed.manifest.GetContentHash() {
					t.Error("another hash than that of streamed rows")
				}
				rows := got.manifest.GetEntityRows()
				var gotFiles []string
				for _, f := range rows.GetFiles() {
					gotFiles = append(gotFiles, path.Base(f.GetUrl()))
					if f.GetSizeBytes() == 0 || f.GetEtag() == "" {
						t.Errorf("%v has no version", f)
					}
				}
				if rows.GetRowCount() != 4 || rows.GetContentHash() != streamed.manifest.GetEntityRows().GetContentHash() || !slices.Equal(gotFiles, wantFiles) {
					t.Errorf("entity rows of the manifest: %v", rows)
				}
			})
		}
	}
}

// TestEntityFileTypes: types of further columns may be said; the keys and the time have those of the definitions.
func TestEntityFileTypes(t *testing.T) {
	env := start(t, allowing(t, []string{"in"}, nil))
	writeBytes(t, filepath.Join(folderOf(t, env), "in/rows.csv"), []byte("user_id,item_id,when,code\n1,7,2026-03-01 12:00:00,1\n"))
	header := fromFile("in/rows.csv")
	header.Features, header.TimeColumn = []string{"price:name", "profile:name"}, "when"
	header.GetEntityFile().Types = []*twofoldv1.ColumnSchema{{Name: "code", Type: twofoldv1.ValueType_VALUE_TYPE_DOUBLE}}
	stream, done, err := openHistorical(t.Context(), env.GRPCAddress, header)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	m, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range m.GetSchema().GetColumns() {
		got = append(got, c.GetName()+" "+c.GetType().String()[len("VALUE_TYPE_"):])
	}
	want := []string{"user_id INT64", "item_id STRING", "when TIMESTAMP", "code DOUBLE", "price:name STRING", "profile:name STRING"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestEntityFileErrors(t *testing.T) {
	world := newS3World(t)
	withS3 := func(c *servertest.Config) { c.Offline.S3 = world.config }
	env := start(t, allowing(t, []string{"in", world.url("in")}, nil), withS3)
	folder := folderOf(t, env)
	writeBytes(t, filepath.Join(folder, "secret/rows.csv"), entityCSV())
	writeBytes(t, filepath.Join(folder, "in/rows.csv"), entityCSV())
	writeBytes(t, filepath.Join(folder, "in/rows.parquet"), parquetBytes(t, entityRows()))
	writeBytes(t, filepath.Join(folder, "in/broken.parquet"), parquetBytes(t, entityRows())[100:])
	writeBytes(t, filepath.Join(folder, "in/cut.arrow"), arrowBytes(t, entityRows().Record(t), 1)[:1500])
	writeBytes(t, filepath.Join(folder, "in/nulls.csv"), []byte("user_id,item_id,event_timestamp\n1,a,2026-03-01\n1,a,\n"))
	writeBytes(t, filepath.Join(folder, "in/mixed.csv"), []byte("user_id,item_id,event_timestamp\n1,a,2026-03-01T00:00:00Z\n1,a,2026-03-01T00:00:00\n"))
	writeBytes(t, filepath.Join(folder, "in/words.csv"), []byte("user_id,item_id,event_timestamp\none,a,2026-03-01\n"))
	writeBytes(t, filepath.Join(folder, "in/keyless.csv"), []byte("item_id,event_timestamp\na,2026-03-01\n"))
	writeBytes(t, filepath.Join(folder, "in/other/readme.txt"), nil)
	world.put(t, "secret/rows.csv", entityCSV())
	if err := os.Symlink(filepath.Join(folder, "secret"), filepath.Join(folder, "in/away")); err != nil {
		t.Fatal(err)
	}
	nothing := start(t, withS3)
	type change = func(*twofoldv1.EntityFile)
	types := func(c ...*twofoldv1.ColumnSchema) change {
		return func(f *twofoldv1.EntityFile) { f.Types = c }
	}
	format := func(f twofoldv1.EntityFileFormat) change { return func(e *twofoldv1.EntityFile) { e.Format = f } }
	cases := map[string]struct {
		env    *servertest.Env
		path   string
		change change
		code   codes.Code
		field  string
		words  []string
	}{
		"not configured":       {nothing, "in/rows.csv", nil, codes.FailedPrecondition, "", []string{"none is", "historical.entity_paths"}},
		"not configured s3":    {nothing, world.url("in/rows.csv"), nil, codes.FailedPrecondition, "", []string{"none is", "historical.entity_paths"}},
		"outside":              {env, "secret/rows.csv", nil, codes.FailedPrecondition, "", []string{"secret/rows.csv", "must lie beneath", "historical.entity_paths"}},
		"beside":               {env, "into.csv", nil, codes.FailedPrecondition, "", []string{"must lie beneath"}},
		"up":                   {env, "in/../secret/rows.csv", nil, codes.FailedPrecondition, "", []string{"must lie beneath"}},
		"absolute":             {env, "/etc/passwd", nil, codes.FailedPrecondition, "", []string{"must lie beneath"}},
		"link":                 {env, "in/away/rows.csv", nil, codes.FailedPrecondition, "", []string{"symbolic link leads out"}},
		"link in pattern":      {env, "in/*/*.csv", nil, codes.FailedPrecondition, "", []string{"symbolic link leads out"}},
		"outside s3":           {env, world.url("secret/rows.csv"), nil, codes.FailedPrecondition, "", []string{"must lie beneath"}},
		"up s3":                {env, world.url("in/../secret/rows.csv"), nil, codes.FailedPrecondition, "", []string{"not allowed"}},
		"other bucket":         {env, "s3://other/in/rows.csv", nil, codes.FailedPrecondition, "", []string{"must lie beneath"}},
		"no path":              {env, "", nil, codes.InvalidArgument, "header.entity_file.path", nil},
		"missing":              {env, "in/none.csv", nil, codes.FailedPrecondition, "", []string{"in/none.csv", "no such file"}},
		"missing s3":           {env, world.url("in/none.parquet"), nil, codes.FailedPrecondition, "", []string{"in/none.parquet", "no such file"}},
		"folder without files": {env, "in/other", nil, codes.FailedPrecondition, "", []string{"in/other", "no *.parquet file", "1 files of other names"}},
		"pattern of nothing":   {env, "in/x*.parquet", nil, codes.FailedPrecondition, "", []string{"no file matches the pattern"}},
		"csv as parquet":       {env, "in/rows.csv", format(twofoldv1.EntityFileFormat_ENTITY_FILE_FORMAT_PARQUET), codes.DataLoss, "", []string{"rows.csv", "of another format"}},
		"parquet as csv":       {env, "in/rows.parquet", format(twofoldv1.EntityFileFormat_ENTITY_FILE_FORMAT_CSV), codes.InvalidArgument, "header.entity_file", []string{"Parquet"}},
		"unknown format":       {env, "in/rows.csv", format(17), codes.InvalidArgument, "header.entity_file.format", nil},
		"broken parquet":       {env, "in/broken.parquet", nil, codes.DataLoss, "", []string{"broken.parquet"}},
		"cut arrow":            {env, "in/cut.arrow", nil, codes.InvalidArgument, "header.entity_file", []string{"cut.arrow"}},
		"null time":            {env, "in/nulls.csv", nil, codes.InvalidArgument, "header.entity_file", []string{"nulls.csv", "line 3"}},
		"mixed zones":          {env, "in/mixed.csv", nil, codes.InvalidArgument, "header.entity_file", []string{"line 3", "time zone"}},
		"words for numbers":    {env, "in/words.csv", nil, codes.InvalidArgument, "header.entity_file", []string{`"user_id"`, "line 2", `"one"`}},
		"no key":               {env, "in/keyless.csv", nil, codes.InvalidArgument, "entity_rows.columns", []string{"user_id"}},
		"type of no name":      {env, "in/rows.csv", types(&twofoldv1.ColumnSchema{Name: "label"}), codes.InvalidArgument, "header.entity_file.types[0].type", nil},
		"type that does not fit": {
			env, "in/rows.csv", types(&twofoldv1.ColumnSchema{Name: "item_id", Type: twofoldv1.ValueType_VALUE_TYPE_INT64}), codes.InvalidArgument, "header.entity_file", []string{"item_id"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			header := fromFile(c.path)
			if c.change != nil {
				c.change(header.GetEntityFile())
			}
			_, err := train(t.Context(), t, c.env.GRPCAddress, header)
			t.Log(err)
			wantError(t, err, c.code, c.field, c.words...)
		})
	}
	// A path that is not allowed is told at once, also to a client that never closes its side.
	stream, done, err := openHistorical(t.Context(), env.GRPCAddress, fromFile("secret/rows.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	_, err = stream.Recv()
	wantError(t, err, codes.FailedPrecondition, "", "must lie beneath")
}

// TestHeaderSaysWhereTheRowsAre: then nothing else may be sent, and the server waits for the end of the client's side no longer than the client does.
func TestHeaderSaysWhereTheRowsAre(t *testing.T) {
	env := start(t, allowing(t, []string{"in"}, nil))
	writeBytes(t, filepath.Join(folderOf(t, env), "in/rows.csv"), entityCSV())
	for field, header := range map[string]*twofoldv1.HistoricalHeader{"header.entity_file": fromFile("in/rows.csv"), "header.entityless": entityless("profile:age")} {
		for _, more := range []*twofoldv1.GetHistoricalFeaturesRequest{columnChunk(client.Int64s("user_id", 1)), headerMessage(header)} {
			_, err := train(t.Context(), t, env.GRPCAddress, header, more)
			wantError(t, err, codes.InvalidArgument, field, "close your side")
		}
		ctx, cancel := context.WithCancel(t.Context())
		stream, done, err := openHistorical(ctx, env.GRPCAddress, header)
		if err != nil {
			t.Fatal(err)
		}
		await(t, "the call to be taken", func() bool { return inFlight(t, env) == "1" })
		cancel()
		_, err = stream.Recv()
		wantError(t, err, codes.Canceled, "")
		await(t, "the call to end", func() bool { return inFlight(t, env) == "0" })
		done()
	}
}

// inFlight is the number of historical calls, as the metrics say.
func inFlight(t *testing.T, env *servertest.Env) string {
	t.Helper()
	return metric(t, env, `twofold_calls_in_flight{kind="historical"}`)
}

// entityless is the header of a call whose entity rows are the features' own.
func entityless(features ...string) *twofoldv1.HistoricalHeader {
	return &twofoldv1.HistoricalHeader{Features: features, Entities: &twofoldv1.HistoricalHeader_Entityless{Entityless: &twofoldv1.Entityless{
		StartMicros: ago(10000 * time.Hour), EndMicros: ago(-time.Hour),
	}}}
}

func TestEntityless(t *testing.T) {
	env := start(t)
	got := mustTrain(t, env, entityless("profile:name", "profile:age"))
	if diff := cmp.Diff([]string{"user_id", "event_timestamp", "profile:name", "profile:age"}, got.columns); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	times := []int64{ago(30 * time.Hour), ago(26 * time.Hour), ago(2 * time.Hour), ago(time.Hour)}
	wantColumns(t, got.cells, map[string][]string{
		"user_id": {"1", "3", "1", "2"}, "event_timestamp": {fmt.Sprint(times[0]), fmt.Sprint(times[1]), fmt.Sprint(times[2]), fmt.Sprint(times[3])},
		"profile:name": {"ann", "Zoë", "Ann", "Bob"}, "profile:age": {"30", "50", "31", "NULL"},
	})
	// The end is left out, the start is not; the time column has the name that is asked for.
	header := entityless("profile:name")
	header.TimeColumn = "at"
	header.GetEntityless().StartMicros, header.GetEntityless().EndMicros = times[1], times[3]
	got = mustTrain(t, env, header)
	wantColumns(t, got.cells, map[string][]string{"at": {fmt.Sprint(times[1]), fmt.Sprint(times[2])}, "profile:name": {"Zoë", "Ann"}})
	if rows := got.manifest.GetEntityRows(); rows.GetRowCount() != 2 || rows.GetContentHash() == "" || len(rows.GetFiles()) > 0 {
		t.Errorf("entity rows of the manifest: %v", rows)
	}
	// A range without events gives a result without rows.
	header.GetEntityless().StartMicros, header.GetEntityless().EndMicros = 0, 1
	if got = mustTrain(t, env, header); got.rows() != 0 || len(got.columns) != 3 {
		t.Errorf("%d rows of %v", got.rows(), got.columns)
	}
	bad := func(change func(*twofoldv1.HistoricalHeader), field string, words ...string) {
		t.Helper()
		header := entityless("profile:name")
		change(header)
		_, err := train(t.Context(), t, env.GRPCAddress, header)
		wantError(t, err, codes.InvalidArgument, field, words...)
	}
	bad(func(h *twofoldv1.HistoricalHeader) { h.Features = append(h.Features, "price:name") }, "header.entityless", "same entity")
	bad(func(h *twofoldv1.HistoricalHeader) { h.Features = append(h.Features, "clicks:count") }, "header.entityless", "same entity")
	bad(func(h *twofoldv1.HistoricalHeader) { h.GetEntityless().EndMicros = h.GetEntityless().StartMicros }, "header.entityless", "start is not before the end")
	bad(func(h *twofoldv1.HistoricalHeader) { h.TimeRange = &twofoldv1.TimeRange{} }, "header.time_range", "leave time_range out")
	bad(func(h *twofoldv1.HistoricalHeader) { h.TimeColumn = "user_id" }, "header.time_column", "user_id")
}

// TestEntityFileColumnThatCannotBeRead: it is refused, because the result would be without it.
func TestEntityFileColumnThatCannotBeRead(t *testing.T) {
	env := start(t, allowing(t, []string{"in"}, nil))
	rows := entityRows().Record(t)
	price := jsonArray(t, &arrow.Decimal128Type{Precision: 10, Scale: 2}, `["1.25","2.25","3.25","4.25"]`)
	schema := arrow.NewSchema(append(rows.Schema().Fields(), arrow.Field{Name: "price_paid", Type: price.DataType(), Nullable: true}), nil)
	var out bytes.Buffer
	w, err := pqarrow.NewFileWriter(schema, &out, parquet.NewWriterProperties(), pqarrow.DefaultWriterProps())
	require.NoError(t, err)
	require.NoError(t, w.Write(array.NewRecordBatch(schema, append(rows.Columns(), price), rows.NumRows())))
	require.NoError(t, w.Close())
	writeBytes(t, filepath.Join(folderOf(t, env), "in/rows.parquet"), out.Bytes())
	_, err = train(t.Context(), t, env.GRPCAddress, fromFile("in/rows.parquet"))
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	require.ErrorContains(t, err, `column "price_paid" cannot be read`)
}
