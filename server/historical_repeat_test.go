package server_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/server/servertest"
)

// twoFiles makes price's source a folder of two files, and says where they are.
func twoFiles(t *testing.T) (env *servertest.Env, folder string) {
	t.Helper()
	env = start(t, func(c *servertest.Config) {
		c.Definitions = edit(t, "path: price.parquet", "path: price")
		folder = filepath.Join(c.Offline.Path, "price")
		priceFile("a", "apple").WriteParquet(t, filepath.Join(folder, "1.parquet"))
		priceFile("b", "bread").WriteParquet(t, filepath.Join(folder, "2.parquet"))
	}, allowing(t, nil, []string{"out"}))
	return env, folder
}

// priceFile is a row of price.
func priceFile(item, name string) *servertest.Table {
	return new(servertest.Table).Add("item_id", feature.String, item).Add("at", feature.Timestamp, ago(10*time.Hour)).
		Add("amount", feature.Double, 1.5).Add("name", feature.String, name)
}

func priceHeader() *twofoldv1.HistoricalHeader {
	return &twofoldv1.HistoricalHeader{Features: []string{"price:name", "profile:age"}, IncludeEventTimes: true}
}

// TestRepeat: a manifest gives the same again, whatever has come since.
func TestRepeat(t *testing.T) {
	env, folder := twoFiles(t)
	chunks := tableChunks(t, entityRows(), 2)
	header := priceHeader()
	header.Format = twofoldv1.HistoricalFormat_HISTORICAL_FORMAT_ARROW_IPC
	first := mustTrain(t, env, header, chunks...)
	if files := first.manifest.GetViews()[0].GetFiles(); len(files) != 2 || first.manifest.GetContentHash() == "" {
		t.Fatalf("manifest: %v", first.manifest)
	}
	// A file that would give other rows, and definitions that say the same in other words.
	newer := priceFile("a", "avocado")
	newer.Columns[1].Int64s[0] = ago(5 * time.Hour)
	newer.WriteParquet(t, filepath.Join(folder, "0.parquet"))
	env.Reload(t, strings.NewReplacer("path: price.parquet", "path: price", "sync: {interval: 1h}", "description: of users\n    sync: {interval: 2h}",
		"- {name: name, type: STRING}", "- {name: name, type: STRING, description: what it is called}", "ttl: 1h", "ttl: 2h").Replace(definitions))
	again := mustTrain(t, env, repeating(header, first.manifest), chunks...)
	if !bytes.Equal(again.arrow.Bytes(), first.arrow.Bytes()) {
		t.Error("other bytes")
	}
	want, got := proto.CloneOf(first.manifest), proto.CloneOf(again.manifest)
	want.DefinitionsHash, got.DefinitionsHash = "", "" // other definitions, but not of what was selected
	if !proto.Equal(want, got) {
		t.Errorf("the manifest was\n%v\nand is\n%v", want, got)
	}
	if fresh := mustTrain(t, env, header, chunks...); fresh.manifest.GetContentHash() == first.manifest.GetContentHash() {
		t.Error("without the manifest the new file makes no difference")
	}
	// The other format and another size of batches give the same content.
	columns := priceHeader()
	columns.MaxBatchRows = 1
	if got := mustTrain(t, env, repeating(columns, first.manifest), chunks...); got.manifest.GetContentHash() != first.manifest.GetContentHash() {
		t.Error("another hash in typed columns")
	}
	// So does a file.
	columns.Output = &twofoldv1.ParquetOutput{Path: "out/x.parquet"}
	if got := mustTrain(t, env, repeating(columns, first.manifest), chunks...); got.manifest.GetContentHash() != first.manifest.GetContentHash() {
		t.Error("another hash in Parquet")
	}
}

// TestRepeatOfNoRows: nothing is listed for no rows, and that is repeatable too.
func TestRepeatOfNoRows(t *testing.T) {
	env, _ := twoFiles(t)
	header := &twofoldv1.HistoricalHeader{Features: []string{"price:name"}, TimeRange: &twofoldv1.TimeRange{EndMicros: proto.Int64(0)}}
	first := mustTrain(t, env, header, tableChunks(t, entityRows(), 2)...)
	again := mustTrain(t, env, repeating(header, first.manifest), tableChunks(t, entityRows(), 2)...)
	if !proto.Equal(first.manifest, again.manifest) {
		t.Errorf("the manifest was\n%v\nand is\n%v", first.manifest, again.manifest)
	}
}

// TestRepeatOfChangedSources: whatever became of a file, it is named.
func TestRepeatOfChangedSources(t *testing.T) {
	for name, c := range map[string]struct {
		change func(path string, data []byte) error
		word   string
	}{
		"replaced": {func(path string, data []byte) error {
			return os.WriteFile(path, append([]byte("PAR1"), data...), 0o600)
		}, "was replaced"},
		"same size": {func(path string, data []byte) error { return os.WriteFile(path, append([]byte(nil), data...), 0o600) }, "was replaced"},
		"touched":   {func(path string, _ []byte) error { return os.Chtimes(path, now, now) }, "was replaced"},
		"truncated": {func(path string, data []byte) error { return os.Truncate(path, int64(len(data)-1)) }, "was replaced"},
		"removed":   {func(path string, _ []byte) error { return os.Remove(path) }, "no longer there"},
		"renamed":   {func(path string, _ []byte) error { return os.Rename(path, path+".old") }, "no longer there"},
	} {
		t.Run(name, func(t *testing.T) {
			env, folder := twoFiles(t)
			// In the past, so that a file that is written anew has another time on any clock.
			path, then := filepath.Join(folder, "2.parquet"), time.Now().Add(-time.Hour)
			if err := os.Chtimes(path, then, then); err != nil {
				t.Fatal(err)
			}
			chunks := tableChunks(t, entityRows(), 4)
			first := mustTrain(t, env, priceHeader(), chunks...)
			data, err := os.ReadFile(path)
			if err := errors.Join(err, c.change(path, data)); err != nil {
				t.Fatal(err)
			}
			_, err = train(t.Context(), t, env.GRPCAddress, repeating(priceHeader(), first.manifest), chunks...)
			wantError(t, err, codes.FailedPrecondition, "", "price/2.parquet", c.word)
		})
	}
}

// TestRepeatOfS3: a source in S3 is told by its version.
func TestRepeatOfS3(t *testing.T) {
	world := newS3World(t)
	world.putTable(t, "price/1.parquet", priceFile("a", "apple"))
	world.putTable(t, "price/2.parquet", priceFile("b", "bread"))
	env := start(t, func(c *servertest.Config) {
		c.Definitions, c.Offline.S3 = edit(t, "path: price.parquet", "path: "+world.url("price")), world.config
	})
	chunks := tableChunks(t, entityRows(), 4)
	first := mustTrain(t, env, priceHeader(), chunks...)
	world.putTable(t, "price/3.parquet", priceFile("c", "cake"))
	again := mustTrain(t, env, repeating(priceHeader(), first.manifest), chunks...)
	if diff := cmp.Diff(first.cells, again.cells); diff != "" {
		t.Errorf("-first +again:\n%s", diff)
	}
	world.putTable(t, "price/1.parquet", priceFile("a", "adder"))
	_, err := train(t.Context(), t, env.GRPCAddress, repeating(priceHeader(), first.manifest), chunks...)
	wantError(t, err, codes.FailedPrecondition, "", world.url("price/1.parquet"), "was replaced")
	world.server.Delete(t, world.bucket, "price/1.parquet")
	_, err = train(t.Context(), t, env.GRPCAddress, repeating(priceHeader(), first.manifest), chunks...)
	wantError(t, err, codes.FailedPrecondition, "", world.url("price/1.parquet"), "no longer there")
}

// TestRepeatOfChangedDefinitions: those that decide the result must be the same.
func TestRepeatOfChangedDefinitions(t *testing.T) {
	env, _ := twoFiles(t)
	chunks := tableChunks(t, entityRows(), 4)
	first := mustTrain(t, env, priceHeader(), chunks...)
	// Of the view price and its entity.
	for name, parts := range map[string][]string{
		"ttl":         {"path: price, event_time_column: at}", "path: price, event_time_column: at}\n    ttl: 1h"},
		"feature":     {"{name: amount, type: DOUBLE}, {name: name, type: STRING}", "{name: amount, type: DOUBLE}, {name: name, type: STRING, column: item_id}"},
		"time column": {"path: price, event_time_column: at}", "path: price, event_time_column: other}"},
		"path":        {"path: price,", "path: prices,"},
	} {
		text := edit(t, "path: price.parquet", "path: price")
		if !strings.Contains(text, parts[0]) {
			t.Fatalf("no %q", parts[0])
		}
		env.Reload(t, strings.Replace(text, parts[0], parts[1], 1))
		_, err := train(t.Context(), t, env.GRPCAddress, repeating(priceHeader(), first.manifest), chunks...)
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		wantError(t, err, codes.FailedPrecondition, "", "definitions of the selected features have changed", first.manifest.GetDefinitionsHash())
	}
}

// TestRepeatOfOtherRows: other entity rows are told before the features are read, other options at the end.
func TestRepeatOfOtherRows(t *testing.T) {
	env, folder := twoFiles(t)
	chunks := tableChunks(t, entityRows(), 4)
	first := mustTrain(t, env, priceHeader(), chunks...)
	header := repeating(priceHeader(), first.manifest)
	other := priceHeader()
	other.IncludeStatuses = true
	_, err := train(t.Context(), t, env.GRPCAddress, repeating(other, first.manifest), chunks...)
	wantError(t, err, codes.FailedPrecondition, "", "content hash", "another option")
	// What reads the features fails from here on.
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	changed := entityRows()
	changed.Columns[0].Doubles[0] = 2
	for name, rows := range map[string][]*twofoldv1.GetHistoricalFeaturesRequest{
		"a label": tableChunks(t, changed, 4), "fewer": tableChunks(t, entityRows(), 2)[:1], "more": append(tableChunks(t, entityRows(), 4), chunks...),
	} {
		_, err := train(t.Context(), t, env.GRPCAddress, header, rows...)
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		wantError(t, err, codes.FailedPrecondition, "", "the entity rows are not those of the manifest")
	}
}

// TestRepeatOfForgedManifests: a manifest chooses among the files that the definitions name, and reads no other.
func TestRepeatOfForgedManifests(t *testing.T) {
	env, folder := twoFiles(t)
	chunks := tableChunks(t, entityRows(), 4)
	first := mustTrain(t, env, priceHeader(), chunks...)
	secret := filepath.Join(folder, "../secret/3.parquet")
	priceFile("c", "cake").WriteParquet(t, secret)
	info, err := os.Stat(secret)
	if err != nil {
		t.Fatal(err)
	}
	type manifest = twofoldv1.HistoricalManifest
	cases := map[string]struct {
		forge func(*manifest)
		code  codes.Code
		field string
		words []string
	}{
		"a file elsewhere": {func(m *manifest) {
			m.Views[0].Files = append(m.Views[0].Files, &twofoldv1.SourceFile{Url: "file://" + secret, SizeBytes: uint64(info.Size()), Etag: "x"})
		}, codes.FailedPrecondition, "", []string{"secret/3.parquet", "no longer there"}},
		"up and away": {func(m *manifest) {
			m.Views[0].Files[0].Url = strings.Replace(m.Views[0].Files[0].GetUrl(), "/price/", "/price/../secret/", 1)
		}, codes.FailedPrecondition, "", []string{"no longer there"}},
		"another scheme": {func(m *manifest) { m.Views[0].Files[0].Url = "http://127.0.0.1/" }, codes.FailedPrecondition, "", []string{"http://127.0.0.1/", "no longer there"}},
		"a file twice": {func(m *manifest) { m.Views[0].Files = append(m.Views[0].Files, m.Views[0].Files[0]) }, codes.InvalidArgument, "header.repeat_of.views[0].files",
			[]string{"listed twice"}},
		"views in another order": {func(m *manifest) { m.Views[0], m.Views[1] = m.Views[1], m.Views[0] }, codes.InvalidArgument, "header.repeat_of.views", []string{`"profile"`, `"price"`}},
		"a view too few":         {func(m *manifest) { m.Views = m.Views[:1] }, codes.InvalidArgument, "header.repeat_of.views", []string{"1 views"}},
		"a view too many":        {func(m *manifest) { m.Views = append(m.Views, m.Views[0]) }, codes.InvalidArgument, "header.repeat_of.views", []string{"3 views"}},
		"another size":           {func(m *manifest) { m.Views[0].Files[0].SizeBytes = 1 << 63 }, codes.FailedPrecondition, "", []string{"was replaced"}},
		"another selection":      {func(m *manifest) { m.SelectionHash = "" }, codes.FailedPrecondition, "", []string{"definitions of the selected features"}},
		"nothing":                {func(m *manifest) { proto.Reset(m) }, codes.FailedPrecondition, "", []string{"definitions of the selected features"}},
		"another content":        {func(m *manifest) { m.ContentHash = "0" }, codes.FailedPrecondition, "", []string{"content hash"}},
		"fewer files":            {func(m *manifest) { m.Views[0].Files = m.Views[0].Files[1:] }, codes.FailedPrecondition, "", []string{"content hash"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m := proto.CloneOf(first.manifest)
			c.forge(m)
			_, err := train(t.Context(), t, env.GRPCAddress, repeating(priceHeader(), m), chunks...)
			t.Log(err)
			wantError(t, err, c.code, c.field, c.words...)
		})
	}
	// No file at all.
	m := proto.CloneOf(first.manifest)
	m.Views[0].Files, m.ContentHash = nil, ""
	_, err = train(t.Context(), t, env.GRPCAddress, repeating(priceHeader(), m), chunks...)
	wantError(t, err, codes.FailedPrecondition, "", `"price"`, "no source file is listed")
}
