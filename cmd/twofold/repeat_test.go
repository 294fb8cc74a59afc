package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/offline"
)

// repeating is a server on a copy of the example, whose files a test may change, and a folder for training sets.
type repeating struct {
	*daemon
	store, dir string
}

func startRepeating(t *testing.T) *repeating {
	t.Helper()
	r := &repeating{store: t.TempDir(), dir: t.TempDir()}
	require.NoError(t, os.CopyFS(r.store, os.DirFS(filepath.Join(flights, "offline"))))
	require.NoError(t, os.MkdirAll(filepath.Join(r.store, "rows"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(r.store, "rows", "rows.csv"), []byte(rowsCSV), 0o600))
	r.daemon = start(t, r.environment(t, flights+"/definitions"), "serve")
	return r
}

func (r *repeating) environment(t *testing.T, definitions string) []string {
	env := without(without(replay(t), "OFFLINE_STORE_PATH="), "TWOFOLD_DEFINITIONS=")
	return append(env, "OFFLINE_STORE_PATH="+r.store, "TWOFOLD_DEFINITIONS="+definitions, "TWOFOLD_HISTORICAL_ENTITY_PATHS=rows", "TWOFOLD_HISTORICAL_OUTPUT_PATHS=sets")
}

func (r *repeating) train(t *testing.T, args ...string) result {
	t.Helper()
	return twofold(t, nil, append([]string{"train", "--server", r.grpc}, args...)...)
}

// file is a path in the folder of training sets.
func (r *repeating) file(name string) string { return filepath.Join(r.dir, name) }

// weather is a file of the source.
func (r *repeating) weather(month string) string {
	return filepath.Join(r.store, "weather", "month="+month, "part-0.parquet")
}

func readBytes(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(data)
}

// sameSets requires that two training sets are the same bytes, and their manifests the same but for where the server wrote.
func sameSets(t *testing.T, a, b string) {
	t.Helper()
	require.NoError(t, sameBytes(a, b))
	require.Equal(t, readBytes(t, a+manifestSuffix), readBytes(t, b+manifestSuffix))
}

// TestRepeat: a manifest gives the same bytes again, from and to every kind of file, whatever has come beside the source since.
func TestRepeat(t *testing.T) {
	r := startRepeating(t)
	entities := r.file("rows.csv")
	require.NoError(t, os.WriteFile(entities, []byte(rowsCSV), 0o600))
	for _, format := range []string{"parquet", "arrow"} {
		convertRows(t, entities, r.file("rows."+format))
	}
	sets := map[string][]string{
		"csv.parquet":        {"-e", entities, "--event-times", "--statuses", "--short-names"},
		"parquet.csv":        {"-e", r.file("rows.parquet"), "--max-staleness", "30m"},
		"arrow.arrow":        {"-e", r.file("rows.arrow"), "--start", "2013-07-01T12:00:00Z"},
		"range.parquet":      {"-e", entities, "--start", "2013-07-01", "--end", "2013-07-01T12:00:00Z"},
		"server.csv":         {"--server-entities", "rows/rows.csv", "--type", "zip=STRING,label=FLOAT"},
		"entityless.parquet": {"--entityless", "--start", "2013-05-01", "--end", "2013-06-01", "--event-times"},
		"entityless.csv":     {"--entityless", "--start", "2013-05-01", "--end", "2013-05-02"},
		"entityless.arrow":   {"--entityless", "--start", "2013-05-01", "--end", "2013-06-01", "--statuses"},
	}
	for name, args := range sets {
		made := r.train(t, append([]string{"-f", "weather:*", "-o", r.file(name)}, args...)...)
		made.ok(t)
		require.Contains(t, made.stderr, "its manifest is "+r.file(name)+manifestSuffix)
	}
	require.Contains(t, readBytes(t, r.file("csv.parquet"+manifestSuffix)), entities, "the file of entity rows is recorded")
	require.Contains(t, r.train(t, "-f", "weather:temp", "-o", "-", "-e", entities, "--end", "2013-07-01T12:00:00Z").stderr, "3 entity rows were left out")

	// The sources are to grow: a manifest reads what there was.
	late := r.weather("2014-05")
	require.NoError(t, os.MkdirAll(filepath.Dir(late), 0o755))
	require.NoError(t, os.WriteFile(late, []byte(readBytes(t, r.weather("2013-05"))), 0o600))
	for name := range sets {
		t.Run(name, func(t *testing.T) {
			again := r.file("again-" + name)
			repeated := r.train(t, "--manifest", r.file(name)+manifestSuffix, "-o", again)
			repeated.ok(t)
			require.Contains(t, repeated.stderr, "the result is that of the manifest which was repeated")
			sameSets(t, r.file(name), again)
			// Without --out it is the file itself that is made again.
			require.NoError(t, os.Remove(r.file(name)))
			r.train(t, "--manifest", r.file(name)+manifestSuffix).ok(t)
			sameSets(t, r.file(name), again)
		})
	}
	t.Run("server's file", func(t *testing.T) {
		set := filepath.Join(r.store, "sets", "set.parquet")
		made := r.train(t, "-f", "weather:temp", "--server-entities", "rows/rows.csv", "--server-out", "sets/set.parquet")
		made.ok(t)
		require.Contains(t, made.stderr, "the server wrote 4 rows to file://"+set+"\nits manifest is file://"+set+manifestSuffix+"\n")
		first := r.file("first.parquet")
		require.NoError(t, os.WriteFile(first, []byte(readBytes(t, set)), 0o600))
		refused := r.train(t, "--manifest", set+manifestSuffix)
		require.Equal(t, exitFailure, refused.code)
		require.Contains(t, refused.stderr, "is there already")
		r.train(t, "--manifest", set+manifestSuffix, "--overwrite").ok(t)
		require.NoError(t, sameBytes(first, set))
		r.train(t, "--manifest", set+manifestSuffix, "--server-out", "sets/other.parquet").ok(t)
		require.NoError(t, sameBytes(first, filepath.Join(r.store, "sets", "other.parquet")))
		r.train(t, "--manifest", set+manifestSuffix, "-o", r.file("here.parquet")).ok(t)
		require.NoError(t, sameBytes(first, r.file("here.parquet")))
	})
	t.Run("standard input", func(t *testing.T) {
		m := r.file("stdin.json")
		in := []byte(rowsCSV)
		first := twofoldIn(t, nil, in, "train", "--server", r.grpc, "-f", "weather:temp", "-e", "-", "-o", "-", "--save-manifest", m).ok(t)
		missing := r.train(t, "--manifest", m, "-o", "-")
		require.Equal(t, exitUsage, missing.code)
		require.Contains(t, missing.stderr, "--entities is missing: the manifest does not say what file its entity rows came from")
		require.Equal(t, first, twofoldIn(t, nil, in, "train", "--server", r.grpc, "--manifest", m, "-e", "-", "-o", "-").ok(t))
		nowhere := r.train(t, "--manifest", m, "-e", entities)
		require.Equal(t, exitUsage, nowhere.code)
		require.Contains(t, nowhere.stderr, "--out is missing")
	})
	t.Run("folder", func(t *testing.T) {
		folder := r.file("folder")
		for _, part := range []string{"a", "b"} {
			require.NoError(t, os.MkdirAll(filepath.Join(folder, "part="+part), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(folder, "part="+part, "rows.parquet"), []byte(readBytes(t, r.file("rows.parquet"))), 0o600))
		}
		r.train(t, "-f", "weather:temp", "-e", folder, "--entities-format", "parquet", "-o", r.file("folder.csv")).ok(t)
		r.train(t, "--manifest", r.file("folder.csv"+manifestSuffix), "-o", r.file("again-folder.csv")).ok(t)
		sameSets(t, r.file("folder.csv"), r.file("again-folder.csv"))
		added := filepath.Join(folder, "part=b", "more.parquet")
		require.NoError(t, os.WriteFile(added, []byte(readBytes(t, r.file("rows.parquet"))), 0o600))
		grown := r.train(t, "--manifest", r.file("folder.csv"+manifestSuffix), "-o", r.file("again-folder.csv"))
		require.Equal(t, exitFailure, grown.code)
		require.Contains(t, grown.stderr, added+" is new")
	})
	t.Run("types", func(t *testing.T) {
		r.train(t, "-f", "weather:temp", "-e", entities, "--type", "label=FLOAT", "-o", r.file("types.parquet")).ok(t)
		m := r.file("types.parquet" + manifestSuffix)
		other := r.train(t, "--manifest", m, "-o", r.file("types2.parquet"), "--type", "label=DOUBLE")
		require.Equal(t, exitFailure, other.code)
		require.Contains(t, other.stderr, "give the same rows, with the same column types")
		r.train(t, "--manifest", m, "-o", r.file("types2.parquet")).ok(t)
		sameSets(t, r.file("types.parquet"), r.file("types2.parquet"))
	})
	r.stop(t, syscall.SIGTERM)
}

// TestRepeatRefuses: what has changed since is named, and nothing is written.
func TestRepeatRefuses(t *testing.T) {
	r := startRepeating(t)
	entities := r.file("rows.csv")
	reset := func() {
		require.NoError(t, os.WriteFile(entities, []byte(rowsCSV), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(r.store, "rows", "rows.csv"), []byte(rowsCSV), 0o600))
	}
	source := r.weather("2013-05")
	for name, tc := range map[string]struct {
		args   []string
		change func(t *testing.T, manifest string)
		repeat []string
		want   []string
	}{
		"touched source": {change: func(t *testing.T, _ string) {
			now := time.Now()
			require.NoError(t, os.Chtimes(source, now, now))
		}, want: []string{source, "was replaced"}},
		"replaced source": {change: func(t *testing.T, _ string) {
			other := readBytes(t, r.weather("2013-06"))
			require.NoError(t, os.WriteFile(source, []byte(other), 0o600))
		}, want: []string{source, "was replaced"}},
		"removed source": {change: func(t *testing.T, _ string) {
			data := readBytes(t, source)
			require.NoError(t, os.Remove(source))
			t.Cleanup(func() { require.NoError(t, os.WriteFile(source, []byte(data), 0o600)) })
		}, want: []string{source, "is no longer there"}},
		"replaced entity rows": {change: func(t *testing.T, _ string) {
			require.NoError(t, os.WriteFile(entities, []byte(rowsCSV+"EWR,2013-07-01T12:00:00Z,1,true,1,\n"), 0o600))
		}, want: []string{entities, "was replaced", "--entities"}},
		"removed entity rows": {change: func(t *testing.T, _ string) {
			require.NoError(t, os.Remove(entities))
		}, want: []string{entities, "there is no such file"}},
		"other entity rows": {change: func(t *testing.T, _ string) {
			require.NoError(t, os.WriteFile(entities, []byte(replace(rowsCSV, "1.5", "1.6")), 0o600))
		}, repeat: []string{"-e", entities}, want: []string{"the entity rows are not those of the manifest"}},
		"entity rows of the server": {args: []string{"--server-entities", "rows/rows.csv"}, change: func(t *testing.T, _ string) {
			require.NoError(t, os.WriteFile(filepath.Join(r.store, "rows", "rows.csv"), []byte(replace(rowsCSV, "1.5", "1.6")), 0o600))
		}, want: []string{"the entity rows are not those of the manifest", filepath.Join(r.store, "rows", "rows.csv") + " was replaced"}},
		"other result": {change: func(t *testing.T, manifest string) {
			text := readBytes(t, manifest)
			i := strings.LastIndex(text, `"content_hash": "`) + len(`"content_hash": "`)
			require.NoError(t, os.WriteFile(manifest, []byte(text[:i]+strings.Repeat("0", 32)+text[i+32:]), 0o600))
		}, want: []string{"the result has the content hash"}},
		"no manifest": {change: func(t *testing.T, manifest string) {
			require.NoError(t, os.WriteFile(manifest, []byte("rows"), 0o600))
		}, want: []string{manifestSuffix + " is not the manifest of a training set"}},
		"half a manifest": {change: func(t *testing.T, manifest string) {
			require.NoError(t, os.WriteFile(manifest, []byte(`{"row_count": "4"}`), 0o600))
		}, want: []string{manifestSuffix + " cannot be repeated"}},
		"manifest gone": {change: func(t *testing.T, manifest string) {
			require.NoError(t, os.Remove(manifest))
		}, want: []string{"manifest: ", "there is no such file"}},
	} {
		t.Run(name, func(t *testing.T) {
			reset()
			out := filepath.Join(t.TempDir(), "out.csv")
			args := tc.args
			if args == nil {
				args = []string{"-e", entities}
			}
			r.train(t, append([]string{"-f", "weather:temp", "-o", out}, args...)...).ok(t)
			before := readBytes(t, out)
			tc.change(t, out+manifestSuffix)
			refused := r.train(t, append([]string{"--manifest", out + manifestSuffix}, tc.repeat...)...)
			require.Equal(t, exitFailure, refused.code, refused.stderr)
			for _, want := range tc.want {
				require.Contains(t, refused.stderr, want)
			}
			require.Equal(t, before, readBytes(t, out))
			again := filepath.Join(t.TempDir(), "again.csv")
			require.Equal(t, exitFailure, r.train(t, append([]string{"--manifest", out + manifestSuffix, "-o", again}, tc.repeat...)...).code)
			entries, err := os.ReadDir(filepath.Dir(again))
			require.NoError(t, err)
			require.Empty(t, entries)
		})
	}

	// Other definitions of what was selected.
	reset()
	out := r.file("defined.csv")
	r.train(t, "-f", "weather:temp", "-e", entities, "-o", out).ok(t)
	r.stop(t, syscall.SIGTERM)
	definitions := t.TempDir()
	require.NoError(t, os.CopyFS(definitions, os.DirFS(flights+"/definitions")))
	views := filepath.Join(definitions, "views.yaml")
	require.NoError(t, os.WriteFile(views, []byte(replace(readBytes(t, views), "ttl: 7200s", "ttl: 7201s")), 0o600))
	r.daemon = start(t, r.environment(t, definitions), "serve")
	refused := r.train(t, "--manifest", out+manifestSuffix, "-o", r.file("redefined.csv"))
	require.Equal(t, exitFailure, refused.code)
	require.Contains(t, refused.stderr, "the definitions of the selected features have changed since")
	require.NoFileExists(t, r.file("redefined.csv"))
	r.stop(t, syscall.SIGTERM)
}

// TestCheckRepeated: a server that knows nothing of repetition does not pass for one that repeats.
func TestCheckRepeated(t *testing.T) {
	of := func(hash string) *twofoldv1.HistoricalManifest {
		return &twofoldv1.HistoricalManifest{ContentHash: hash}
	}
	require.NoError(t, checkRepeated(nil, of("a")))
	require.NoError(t, checkRepeated(of("a"), of("a")))
	err := checkRepeated(of("a"), of("b"))
	require.ErrorContains(t, err, "is it older than this program?")
	require.Equal(t, fault.Precondition, fault.KindOf(err))
}

func TestCommonPath(t *testing.T) {
	for _, tc := range []struct {
		urls []string
		want string
	}{
		{nil, ""},
		{[]string{"file:///a/b.csv"}, "file:///a/b.csv"},
		{[]string{"file:///a/b.parquet", "file:///a/c.parquet"}, "file:///a/"},
		{[]string{"file:///a/d=1/b.parquet", "file:///a/d=2/b.parquet"}, "file:///a/"},
		{[]string{"file:///a/d=1/b.parquet", "file:///a/d=1/c/b.parquet", "file:///a/x"}, "file:///a/"},
		{[]string{"s3://b/x/1.parquet", "s3://b/x/2.parquet"}, "s3://b/x/"},
		{[]string{"file:///a", "file:///ab"}, "file:///"},
		{[]string{"a", "b"}, ""},
	} {
		var files []*twofoldv1.SourceFile
		for _, url := range tc.urls {
			files = append(files, &twofoldv1.SourceFile{Url: url})
		}
		require.Equal(t, tc.want, commonPath(files), tc.urls)
	}
}

// TestReadManifest: a folder is no manifest.
func TestReadManifest(t *testing.T) {
	_, err := readManifest(t.Context(), t.TempDir(), offline.S3Config{})
	require.Error(t, err)
}
