package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/testenv"
)

// rowsCSV has a comma in a cell, a null key, a code with a leading zero and every form of column that is inferred.
const rowsCSV = `origin,event_timestamp,label,late,zip,note
EWR,2013-07-01T12:00:00Z,1.5,true,007,"a, b"
JFK,2013-07-01 12:00:00Z,2,false,010,
,2013-07-01 12:00:00 UTC,,,,x
EWR,2013-07-01T12:00:00+02:00,-3,true,100,y
`

func TestTrainFormats(t *testing.T) {
	d := start(t, replay(t), "serve")
	dir := t.TempDir()
	entities := filepath.Join(dir, "rows.csv")
	require.NoError(t, os.WriteFile(entities, []byte(rowsCSV), 0o600))
	train := func(in []byte, args ...string) result {
		return twofoldIn(t, nil, in, append([]string{"train", "-f", "weather:temp", "--event-times", "--server", d.grpc}, args...)...)
	}

	// CSV through standard input and output: the rows' own columns come first, in their order, then the features.
	out := train([]byte(rowsCSV), "-e", "-", "-o", "-").ok(t)
	records, err := csv.NewReader(bytes.NewReader([]byte(out))).ReadAll()
	require.NoError(t, err)
	require.Len(t, records, 5)
	expected := expectedTemperatures(t)
	for i, row := range records[1:] {
		require.Equal(t, expected[i], row[6:], "row %d", i)
	}
	require.Equal(t, []string{"EWR", "2013-07-01T12:00:00Z", "1.5", "true", "007", "a, b"}, records[1][:6])
	require.Equal(t, []string{"", "2013-07-01T12:00:00Z", "", "", "", "x"}, records[3][:6])
	require.Equal(t, []string{"EWR", "2013-07-01T10:00:00Z", "-3", "true", "100", "y"}, records[4][:6])

	// Through every pair of file formats nothing changes.
	formats := []string{"csv", "parquet", "arrow"}
	for _, in := range formats {
		rows := filepath.Join(dir, "rows."+in)
		if in != "csv" {
			convertRows(t, entities, rows)
		}
		for _, format := range formats {
			file := filepath.Join(dir, in+"."+format)
			r := train(nil, "-e", rows, "-o", file)
			r.ok(t)
			require.Contains(t, r.stderr, "wrote 4 rows to "+file)
			require.Regexp(t, `(?m)^weather +3 +1 +\d+ +\d+ +12$`, r.stderr)
			back := file
			if format != "csv" {
				back = filepath.Join(dir, "back.csv")
				convertRows(t, file, back)
			}
			text, err := os.ReadFile(back)
			require.NoError(t, err)
			require.Equal(t, out, string(text), "%s to %s", in, format)
		}
	}
	// Arrow and Parquet through standard input; the output is an Arrow stream.
	for _, format := range []string{"arrow", "parquet"} {
		data, err := os.ReadFile(filepath.Join(dir, "rows."+format))
		require.NoError(t, err)
		stream := train(data, "-e", "-", "--entities-format", format, "-o", "-", "--format", "arrow").ok(t)
		reader, err := ipc.NewReader(bytes.NewReader([]byte(stream)))
		require.NoError(t, err)
		require.True(t, reader.Next())
		require.EqualValues(t, 4, reader.RecordBatch().NumRows())
		// The format need not be said.
		require.Equal(t, out, train(data, "-e", "-", "-o", "-").ok(t), format)
	}
	rows, err := (&app{}).openEntities(t.Context(), entityFile{path: filepath.Join(dir, "rows.arrow"), format: formatArrow})
	require.NoError(t, err)
	defer rows.close()
	var stream bytes.Buffer
	require.NoError(t, rows.stream(t.Context(), &stream))
	require.Equal(t, out, train(stream.Bytes(), "-e", "-", "-o", "-").ok(t), "an Arrow stream")

	manifest := filepath.Join(dir, "manifest.json")
	train(nil, "-e", entities, "-o", filepath.Join(dir, "m.csv"), "--save-manifest", manifest).ok(t)
	text, err := os.ReadFile(manifest)
	require.NoError(t, err)
	var m map[string]any
	require.NoError(t, json.Unmarshal(text, &m))
	require.Equal(t, "4", m["row_count"])
	d.stop(t, syscall.SIGTERM)
}

// TestStandardInputLeavesNoFile: the copy of standard input has no name while it is read, so that nothing is left of entity rows where the program is killed.
func TestStandardInputLeavesNoFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("an open file keeps its name")
	}
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	rows, err := (&app{in: strings.NewReader("origin,event_timestamp,x\nJFK,2013-07-01,1\nEWR,2013-07-01,2\n")}).openEntities(t.Context(), entityFile{path: "-", timeColumn: "event_timestamp",
		types: map[string]feature.Type{"event_timestamp": feature.Timestamp}})
	require.NoError(t, err)
	defer rows.close()
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
	count := int64(0)
	require.NoError(t, rows.Each(t.Context(), func(record arrow.RecordBatch) error {
		count += record.NumRows()
		return nil
	}))
	require.EqualValues(t, 2, count)
}

// expectedTemperatures are temperature and event time of the rows of rowsCSV, found in the example's files by this test alone.
func expectedTemperatures(t *testing.T) [][]string {
	t.Helper()
	a := &app{out: &bytes.Buffer{}, err: &bytes.Buffer{}}
	rows, err := a.openEntities(t.Context(), entityFile{path: filepath.Join(flights, "offline", "weather"), format: formatParquet})
	require.NoError(t, err)
	wanted := []struct{ origin, at string }{{"EWR", "2013-07-01T12:00:00Z"}, {"JFK", "2013-07-01T12:00:00Z"}, {"", ""}, {"EWR", "2013-07-01T10:00:00Z"}}
	found := make([][]string, len(wanted))
	for i := range found {
		found[i] = []string{"", ""}
	}
	require.NoError(t, rows.Each(t.Context(), func(record arrow.RecordBatch) error {
		columns, err := columnsOf(record)
		require.NoError(t, err)
		field := func(name string) int { return rows.Schema().FieldIndices(name)[0] }
		for row := range int(record.NumRows()) {
			at := columns[field("observed_at")].TextAt(row)
			for i, w := range wanted {
				if columns[field("origin")].TextAt(row) == w.origin && at <= w.at && at > found[i][1] {
					found[i] = []string{columns[field("temp")].TextAt(row), at}
				}
			}
		}
		return nil
	}))
	return found
}

// convertRows copies rows from one format to another, by this program's own readers and writers.
func convertRows(t *testing.T, from, to string) {
	t.Helper()
	a := &app{out: &bytes.Buffer{}, err: &bytes.Buffer{}}
	fromFormat, err := formatOf("", "", from)
	require.NoError(t, err)
	toFormat, err := formatOf("", "", to)
	require.NoError(t, err)
	rows, err := a.openEntities(t.Context(), entityFile{path: from, format: fromFormat, types: map[string]feature.Type{"event_timestamp": feature.Timestamp}})
	require.NoError(t, err)
	defer rows.close()
	var stream bytes.Buffer
	require.NoError(t, rows.stream(t.Context(), &stream))
	reader, err := ipc.NewReader(&stream)
	require.NoError(t, err)
	out, err := a.createOutput(t.Context(), to, offline.S3Config{}, offline.CreateOptions{Overwrite: true})
	require.NoError(t, err)
	require.NoError(t, writeTable(out, toFormat, false, reader))
	require.NoError(t, out.commit(t.Context()))
}

// TestTrainInS3: entity rows, the training set and its manifest may all be in S3; what fails leaves nothing there.
func TestTrainInS3(t *testing.T) {
	s3 := testenv.S3(t)
	bucket := s3.Bucket(t)
	env := append(replay(t), "AWS_ENDPOINT_URL="+s3.Endpoint, "AWS_REGION="+s3.Region, "AWS_ACCESS_KEY_ID="+s3.AccessKey, "AWS_SECRET_ACCESS_KEY="+s3.SecretKey)
	d := start(t, env, "serve")
	url := "s3://" + bucket + "/"
	s3.Put(t, bucket, "rows.csv", []byte(rowsCSV))
	s3.Put(t, bucket, "bad.csv", []byte("origin,event_timestamp\nEWR,yesterday\n"))
	train := func(args ...string) result {
		return twofold(t, env, append([]string{"train", "-f", "weather:temp", "--server", d.grpc}, args...)...)
	}
	want := twofoldIn(t, nil, []byte(rowsCSV), "train", "-f", "weather:temp", "--server", d.grpc, "-e", "-", "-o", "-").ok(t)
	for range 2 { // an older one is replaced
		r := train("-e", url+"rows.csv", "-o", url+"sets/out.parquet", "--save-manifest", url+"sets/manifest.json")
		r.ok(t)
		require.Contains(t, r.stderr, "wrote 4 rows to "+url+"sets/out.parquet")
	}
	repeated := twofold(t, env, "train", "--server", d.grpc, "--manifest", url+"sets/manifest.json", "-o", url+"sets/again.parquet")
	repeated.ok(t)
	require.Contains(t, repeated.stderr, "its manifest is "+url+"sets/again.parquet.manifest.json")
	r := train("-e", url+"bad.csv", "-o", url+"bad/out.parquet")
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, `entity rows `+url+`bad.csv: line 2, character 5: column "event_timestamp": "yesterday" is not a time`)
	r = train("-e", url+"none.csv", "-o", url+"bad/out.parquet")
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, "there is no such file")

	store, err := offline.Open(t.Context(), offline.Config{Path: url, S3: offline.S3Config{Endpoint: s3.Endpoint, PathStyle: true, AccessKeyID: s3.AccessKey, SecretAccessKey: s3.SecretKey}})
	require.NoError(t, err)
	var names []string
	files, err := store.ListFiles(t.Context(), url, "")
	require.NoError(t, err)
	for _, f := range files {
		names = append(names, strings.TrimPrefix(f.URL, url))
		if strings.HasSuffix(f.URL, ".parquet") {
			data, err := store.ReadFile(t.Context(), f, 1<<20)
			require.NoError(t, err)
			local, back := filepath.Join(t.TempDir(), "x.parquet"), filepath.Join(t.TempDir(), "x.csv")
			require.NoError(t, os.WriteFile(local, data, 0o600))
			convertRows(t, local, back)
			text, err := os.ReadFile(back)
			require.NoError(t, err)
			require.Equal(t, want, string(text))
		}
	}
	require.Equal(t, []string{"bad.csv", "rows.csv", "sets/again.parquet", "sets/again.parquet.manifest.json", "sets/manifest.json", "sets/out.parquet"}, names)
	d.stop(t, syscall.SIGTERM)
}

// A run that fails leaves no file, neither the output nor a partial one, and an older output as it was.
func TestTrainFailuresLeaveNoFile(t *testing.T) {
	d := start(t, replay(t), "serve")
	for _, tc := range []struct {
		name, rows, want string
		args             []string
	}{
		{"no key", "airport,event_timestamp\nEWR,2013-07-01\n", "the entity rows lack the entity key origin; they have airport, event_timestamp", nil},
		{"no time", "origin,at\nEWR,2013-07-01\n", `the entity rows have no column "event_timestamp" for their time; name it with --time-column; they have origin, at`, nil},
		{"bad time", "origin,event_timestamp\nEWR,2013-07-01\nEWR,yesterday\n", `line 3, character 5: column "event_timestamp": "yesterday" is not a time`, nil},
		{"null time", "origin,event_timestamp\nEWR,2013-07-01\n\"a\nb\",2013-07-01\nEWR,\n", `line 5, character 5: column "event_timestamp": the time is null; give every row its time`, nil},
		{"mixed zones", "origin,event_timestamp\nEWR,2013-07-01\nEWR,2013-07-01T12:00:00Z\n", `line 3, character 5: column "event_timestamp": "2013-07-01T12:00:00Z" has a time zone, but "2013-07-01" on line 2 has none`, nil},
		{"ragged", "origin,event_timestamp\nEWR\n", "wrong number of fields", nil},
		{"empty", "", "the first line must name the columns", nil},
		{"two columns of one name", "origin,origin,event_timestamp\n", `two columns are named "origin"`, nil},
		{"name clash", "origin,event_timestamp,weather:temp\nEWR,2013-07-01,1\n", "weather:temp", nil},
		{"no such view", rowsCSV, `did you mean "weather"`, []string{"-f", "wether:temp"}},
		{"no created time", rowsCSV, "created_time_cutoff", []string{"-f", "weather:temp", "--created-time-cutoff"}},
		{"not Parquet", rowsCSV, "", []string{"-f", "weather:temp", "--entities-format", "parquet"}},
		{"not Arrow", rowsCSV, "neither an Arrow file nor an Arrow stream", []string{"-f", "weather:temp", "--entities-format", "arrow"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			out := filepath.Join(dir, "out.parquet")
			require.NoError(t, os.WriteFile(out, []byte("older"), 0o600))
			args := tc.args
			if args == nil {
				args = []string{"-f", "weather:temp"}
			}
			r := twofold(t, nil, append([]string{"train", "-e", writeFile(t, "rows.csv", tc.rows), "-o", out, "--server", d.grpc}, args...)...)
			require.Equal(t, exitFailure, r.code, r.stderr)
			require.Contains(t, r.stderr, tc.want)
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, entries, 1, "neither a partial file nor a manifest is left")
			text, err := os.ReadFile(out)
			require.NoError(t, err)
			require.Equal(t, "older", string(text))
		})
	}
	r := twofold(t, nil, "train", "-f", "weather:temp", "-e", writeFile(t, "rows.csv", rowsCSV), "-o", filepath.Join(t.TempDir(), "no", "folder.csv"), "--server", d.grpc)
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, "folder.csv")
}

// An interrupted run ends at once with code 130, even while it waits for standard input, and leaves no file.
func TestTrainInterrupted(t *testing.T) {
	d := start(t, replay(t), "serve")
	dir := t.TempDir()
	cmd := command(t, nil, "train", "-f", "weather:temp", "-e", "-", "-o", filepath.Join(dir, "out.csv"), "--server", d.grpc)
	temporary := strings.TrimPrefix(cmd.Env[2], "TMPDIR=")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	// A pipe holds 64 KiB: once more than that is written, the program is reading.
	_, err = in.Write(append([]byte("origin,event_timestamp\n"), bytes.Repeat([]byte("EWR,2013-07-01\n"), 20_000)...))
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.Error(t, cmd.Wait())
	require.Equal(t, exitInterrupted, cmd.ProcessState.ExitCode(), stderr.String())
	require.Equal(t, "twofold: interrupted\n", stderr.String())
	for _, folder := range []string{dir, temporary} {
		entries, err := os.ReadDir(folder)
		require.NoError(t, err)
		require.Empty(t, entries)
	}
}
