package definition

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"buf.build/go/protoyaml"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// whole uses every field, in the form that protoyaml reads too.
const whole = `
entities:
  - name: airport
    keys: [{name: code, type: VALUE_TYPE_STRING}, {name: terminal, type: VALUE_TYPE_INT64}]
    description: an airport
    owner: ops
    tags: {a: b}
feature_views:
  - name: weather
    entity: airport
    source:
      path: weather/*.parquet
      event_time_column: time_hour
      created_time_column: written
      key_columns: {code: origin}
      deleted_column: gone
    ttl: 2h30m
    sync:
      enabled: true
      interval: 10m
      batch_size: 100
      tolerated_missed_runs: 2
      run_time: 90s
      allow_gaps: true
      mode: SYNC_MODE_INCREMENTAL
      source_delay: 5m
      bad_rows: {policy: BAD_ROW_POLICY_QUARANTINE, max_share: 0.25, max_future: 1h, quarantine_path: bad/weather}
      keep_last_good: true
      audit: SYNC_AUDIT_NEVER
      keep_runs: 7
    features:
      - {name: wind, type: VALUE_TYPE_DOUBLE}
      - {name: gust, type: VALUE_TYPE_FLOAT_LIST, online: false, column: wind_gust, description: m/s, tags: {c: d}}
    expired_retention: 1h
    description: hourly
    owner: met
    tags: {e: f}
    layout: ONLINE_LAYOUT_HISTORY
    history_versions: 25
  - name: plain
    entity: airport
    source: {path: plain, event_time_column: t}
    features: [{name: x, type: VALUE_TYPE_BOOL}]
  - name: daily
    entity: airport
    source: {path: daily, event_time_column: t}
    features:
      - {name: x, type: VALUE_TYPE_BOOL}
      - {name: y, type: VALUE_TYPE_BOOL}
    sync:
      mode: SYNC_MODE_SNAPSHOT
      cron: "5 3 * * *"
      time_zone: Europe/Berlin
      bad_rows: {policy: BAD_ROW_POLICY_FAIL, max_future: 0s}
      snapshot: {min_entities: 5000000000, max_entity_drop: 0, max_null_share: {y: 0.5}, keep_generations: 0}
      audit: SYNC_AUDIT_BEFORE_PUBLISH
  - name: halved
    entity: airport
    source: {path: halved, event_time_column: t}
    ttl: 72h
    sync: {batch_size: 0}
    features: [{name: x, type: VALUE_TYPE_BOOL, online: false}]
    layout: ONLINE_LAYOUT_LATEST
feature_services:
  - {name: all_v1, features: ["weather:*", "plain:x"], description: all, owner: me, tags: {g: h}}
`

func parse(t testing.TB, text string) *Set {
	t.Helper()
	set, err := Parse([]File{{Name: "features.yaml", Data: []byte(text)}}, Defaults{})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

var inSmallLetters = regexp.MustCompile(`(type|layout|mode|policy|audit): [A-Z_0-9]+`)

func TestParseReadsWhatProtoyamlReads(t *testing.T) {
	want := &twofoldv1.Definitions{}
	if err := protoyaml.Unmarshal([]byte(whole), want); err != nil {
		t.Fatal(err)
	}
	short := strings.NewReplacer("VALUE_TYPE_", "", "ONLINE_LAYOUT_", "", "SYNC_MODE_", "", "BAD_ROW_POLICY_", "", "SYNC_AUDIT_", "").Replace(whole)
	for name, text := range map[string]string{
		"full names":       whole,
		"short names":      short,
		"small letters":    inSmallLetters.ReplaceAllStringFunc(short, strings.ToLower),
		"byte order mark":  "\ufeff" + whole,
		"Windows' endings": strings.ReplaceAll(whole, "\n", "\r\n"),
	} {
		if diff := cmp.Diff(want, parse(t, text).Proto, protocmp.Transform()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	written, err := protoyaml.MarshalOptions{UseProtoNames: true}.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, parse(t, string(written)).Proto, protocmp.Transform()); diff != "" {
		t.Errorf("as protoyaml writes it: %s", diff)
	}
}

func TestParseBuildsTheDomain(t *testing.T) {
	r := parse(t, whole).Registry
	airport := &feature.Entity{Name: "airport", Keys: []feature.Key{{Name: "code", Type: feature.String}, {Name: "terminal", Type: feature.Int64}}}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	// sync is what every view has that says nothing, changed.
	sync := func(features int, change func(*feature.Sync)) feature.Sync {
		s := feature.Sync{
			Enabled: true, TimeZone: time.UTC, BatchSize: 500, KeepRuns: 20, BadRows: feature.BadRows{MaxShare: 1, MaxFuture: -1},
			Snapshot: feature.SnapshotChecks{MinEntities: 1, MaxEntityDrop: 0.5, KeepGenerations: 1, MaxNullShare: slices.Repeat([]float64{1}, features)},
		}
		change(&s)
		return s
	}
	want := []*feature.View{
		{
			Name: "weather", Entity: airport,
			Features: []feature.Feature{
				{Name: "wind", Type: feature.Double, Column: "wind", Online: true},
				{Name: "gust", Type: feature.FloatList, Column: "wind_gust"},
			},
			TTL: feature.TTLOf(150 * time.Minute), ExpiredRetention: time.Hour, HistoryVersions: 25,
			Source: feature.Source{
				Path: "weather/*.parquet", EventTimeColumn: "time_hour", CreatedTimeColumn: "written", KeyColumns: []string{"origin", "terminal"}, DeletedColumn: "gone",
			},
			Sync: sync(2, func(s *feature.Sync) {
				s.Interval, s.BatchSize, s.ToleratedMissedRuns, s.RunTime, s.AllowGaps = 10*time.Minute, 100, 2, 90*time.Second, true
				s.SourceDelay, s.KeepLastGood, s.KeepRuns = 5*time.Minute, true, 7
				s.BadRows = feature.BadRows{Policy: feature.QuarantineBadRows, MaxShare: 0.25, MaxFuture: time.Hour, QuarantinePath: "bad/weather"}
			}),
		},
		{
			Name: "plain", Entity: airport, Features: []feature.Feature{{Name: "x", Type: feature.Bool, Column: "x", Online: true}},
			Source: feature.Source{Path: "plain", EventTimeColumn: "t", KeyColumns: []string{"code", "terminal"}},
			Sync:   sync(1, func(s *feature.Sync) { s.Interval = 300 * time.Second }),
		},
		{
			Name: "daily", Entity: airport,
			Features: []feature.Feature{{Name: "x", Type: feature.Bool, Column: "x", Online: true}, {Name: "y", Type: feature.Bool, Column: "y", Online: true}},
			Source:   feature.Source{Path: "daily", EventTimeColumn: "t", KeyColumns: []string{"code", "terminal"}},
			Sync: sync(2, func(s *feature.Sync) {
				s.Mode, s.Cron, s.TimeZone, s.Interval = feature.Snapshot, "5 3 * * *", berlin, 25*time.Hour
				s.BadRows = feature.BadRows{Policy: feature.FailOnBadRows, MaxShare: 1}
				s.Snapshot = feature.SnapshotChecks{MinEntities: 5_000_000_000, MaxNullShare: []float64{1, 0.5}}
				s.AuditBeforePublish = true
			}),
		},
		{
			Name: "halved", Entity: airport, Features: []feature.Feature{{Name: "x", Type: feature.Bool, Column: "x"}},
			TTL: feature.TTLOf(72 * time.Hour), ExpiredRetention: 24 * time.Hour,
			Source: feature.Source{Path: "halved", EventTimeColumn: "t", KeyColumns: []string{"code", "terminal"}},
			Sync:   sync(1, func(s *feature.Sync) { s.Enabled, s.Interval = false, 36*time.Hour }),
		},
	}
	sameZone := cmp.Comparer(func(a, b *time.Location) bool { return a.String() == b.String() })
	ignoreIndex := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".byName" }, cmp.Ignore())
	if diff := cmp.Diff(want, r.Views(), ignoreIndex, sameZone, cmp.AllowUnexported(feature.View{})); diff != "" {
		t.Error(diff)
	}
	if r.Views()[0].Entity != r.Views()[1].Entity || r.Views()[0].Entity != r.Entities()[0] {
		t.Error("the views do not share the entity")
	}
	var names []string
	for _, ref := range r.Services()[0].Features {
		names = append(names, ref.Name())
	}
	if diff := cmp.Diff([]string{"weather:wind", "weather:gust", "plain:x"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestDefaultSyncInterval(t *testing.T) {
	set, err := Parse([]File{{Data: []byte(whole)}}, Defaults{SyncInterval: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := set.Registry.View("plain")
	if err != nil || plain.Sync.Interval != time.Minute {
		t.Errorf("interval %v, %v; want the process's", plain.Sync.Interval, err)
	}
	if set.Hash() != parse(t, whole).Hash() {
		t.Error("the hash depends on the process's defaults")
	}
}

func TestShortRetentionOfShortTTL(t *testing.T) {
	set := parse(t, strings.Replace(whole, "ttl: 72h", "ttl: 3h", 1))
	view, _ := set.Registry.View("halved")
	if view.ExpiredRetention != 3*time.Hour {
		t.Errorf("expired rows are kept %v, want the ttl", view.ExpiredRetention)
	}
}

func TestMarshalRoundTrip(t *testing.T) {
	set := parse(t, whole)
	b, err := set.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Unmarshal(b, Defaults{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(set.Proto, back.Proto, protocmp.Transform()); diff != "" || back.Hash() != set.Hash() || len(set.Hash()) != 64 {
		t.Errorf("hash %s came back as %s: %s", set.Hash(), back.Hash(), diff)
	}
	if changes := Diff(set, back); len(changes) > 0 {
		t.Errorf("changes: %v", changes)
	}
	if _, err := Unmarshal([]byte("no definitions"), Defaults{}); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("damaged bytes: %v", err)
	}
}

func TestHashDoesNotDependOnFiles(t *testing.T) {
	entities, rest, _ := strings.Cut(whole, "feature_views:")
	views, services, _ := strings.Cut(rest, "feature_services:")
	set, err := Parse([]File{
		{Name: "a.yaml", Data: []byte(entities)},
		{Name: "b.yaml", Data: []byte("feature_views:" + views + "\n---\nfeature_services:" + services)},
	}, Defaults{})
	if err != nil {
		t.Fatal(err)
	}
	if set.Hash() != parse(t, whole).Hash() {
		t.Error("the hash depends on how definitions are spread over files")
	}
	if set.Hash() == parse(t, strings.Replace(whole, "name: wind,", "name: winds,", 1)).Hash() {
		t.Error("the hash does not depend on the definitions")
	}
}

func TestFromProtoReportsWithoutPlaces(t *testing.T) {
	defs := proto.CloneOf(parse(t, whole).Proto)
	defs.FeatureViews[1].Entity = "airprt"
	defs.FeatureViews[0].Features[0].Name = "2"
	_, err := FromProto(defs, Defaults{})
	want := "the definitions have 3 problems:\n" +
		`"2" cannot be the name of a feature; a name is letters, digits and _, begins with a letter or _ and has at most 128 characters: for example n2; a source column of another name is given as column:` + "\n" +
		`feature view "plain": there is no entity "airprt"; did you mean "airport"?` + "\n" +
		`warning: feature service "all_v1" can be used for training only: weather:* includes "gust", which is not online; name the features one by one, or let this one be online too`
	if err == nil || fault.KindOf(err) != fault.Invalid {
		t.Fatalf("got %v: %v", fault.KindOf(err), err)
	}
	problems, _ := errors.AsType[*ProblemsError](err)
	if problems.Error() != want || problems.Problems[0].Detail() != problems.Problems[0].String() {
		t.Errorf("got %s\nwant %s", problems, want)
	}
	if set, err := FromProto(nil, Defaults{}); err != nil || len(set.Registry.Views()) != 0 {
		t.Errorf("no definitions: %v, %v", set, err)
	}
}

func TestFromProtoCopies(t *testing.T) {
	defs := proto.CloneOf(parse(t, whole).Proto)
	set, err := FromProto(defs, Defaults{})
	if err != nil {
		t.Fatal(err)
	}
	defs.FeatureViews[0].Name = "other"
	if set.Proto.GetFeatureViews()[0].GetName() != "weather" {
		t.Error("a change of the message changed the set")
	}
}

func TestDiffOfNothing(t *testing.T) {
	set := parse(t, whole)
	if n := len(Diff(nil, set)); n != 6 {
		t.Errorf("%d changes from nothing, want 6", n)
	}
	for _, c := range Diff(set, nil) {
		if c.Kind != Removed || !c.Breaking {
			t.Errorf("to nothing: %v", c)
		}
	}
	if n := len(Diff(nil, nil)); n != 0 {
		t.Errorf("%d changes from nothing to nothing", n)
	}
}

func TestManyFeatures(t *testing.T) {
	var b strings.Builder
	b.WriteString("entities: [{name: a, keys: [{name: k, type: INT64}]}]\nfeature_views:\n  - name: wide\n    entity: a\n" +
		"    source: {path: p, event_time_column: t}\n    features:\n")
	for i := range 10_000 {
		fmt.Fprintf(&b, "      - {name: f%d, type: DOUBLE, online: false, description: one of many}\n", i)
	}
	b.WriteString("feature_services:\n  - {name: all, features: [\"wide:*\"]}\n  - name: each\n    features:\n")
	for i := range 10_000 {
		fmt.Fprintf(&b, "      - wide:f%d\n", 9_999-i)
	}
	r := parse(t, b.String()).Registry
	if n := len(r.Views()[0].Features); n != 10_000 {
		t.Errorf("%d features", n)
	}
	if first := r.Services()[1].Features[0].Name(); first != "wide:f9999" {
		t.Errorf("the first feature is %s", first)
	}
}

func TestAliasBombIsHarmless(t *testing.T) {
	var b strings.Builder
	b.WriteString("feature_services:\n  - &s\n    name: s\n    features: [v:a")
	b.WriteString(strings.Repeat(", v:a", 5000))
	b.WriteString("]\n")
	b.WriteString(strings.Repeat("  - *s\n", 5000))
	_, err := Parse([]File{{Name: "bomb.yaml", Data: []byte(b.String())}}, Defaults{})
	if err == nil || !strings.Contains(err.Error(), "aliases expand the document to more than") {
		t.Errorf("got %.300v", err)
	}
}

func TestMergeBombIsHarmless(t *testing.T) {
	var b strings.Builder
	b.WriteString("entities:\n  - &a0 {name: a}\n")
	for i := range 15 {
		fmt.Fprintf(&b, "  - &a%d {<<: [%s*a%d], name: b%d}\n", i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 20), i, i)
	}
	_, err := Parse([]File{{Name: "bomb.yaml", Data: []byte(b.String())}}, Defaults{})
	if err == nil || !strings.Contains(err.Error(), "aliases expand the document to more than") {
		t.Errorf("got %.300v", err)
	}
}

func TestParseRefusesLargeFiles(t *testing.T) {
	_, err := Parse([]File{{Name: "large.yaml", Data: make([]byte, MaxFileBytes+1)}}, Defaults{})
	if err == nil || err.Error() != "large.yaml: the file is larger than 16 MiB; split it into several files of one folder" {
		t.Errorf("got %v", err)
	}
}

func TestReadFiles(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"b.yaml", "a.yml", "sub/c.YAML", "no.txt", ".hidden.yaml", ".git/d.yaml", "sub/.e.yaml"} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// A config map of Kubernetes is a folder of links into a hidden folder.
	if err := os.Symlink(filepath.Join(folder, ".git/d.yaml"), filepath.Join(folder, "z.yaml")); err != nil {
		t.Fatal(err)
	}
	files, err := ReadFiles(folder)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		name, _ := filepath.Rel(folder, f.Name)
		got = append(got, name+" "+string(f.Data))
	}
	if diff := cmp.Diff([]string{"a.yml a.yml", "b.yaml b.yaml", "sub/c.YAML sub/c.YAML", "z.yaml .git/d.yaml"}, got); diff != "" {
		t.Error(diff)
	}
	link := filepath.Join(t.TempDir(), "current")
	if err := os.Symlink(folder, link); err != nil {
		t.Fatal(err)
	}
	linked, err := ReadFiles(link)
	if err != nil || len(linked) != len(files) || linked[0].Name != filepath.Join(link, "a.yml") {
		t.Errorf("a link to the folder: %v, %v", linked, err)
	}
	one, err := ReadFiles(filepath.Join(folder, "no.txt"))
	if err != nil || len(one) != 1 || string(one[0].Data) != "no.txt" {
		t.Errorf("one file: %v, %v", one, err)
	}
}

func TestReadFilesErrors(t *testing.T) {
	folder := t.TempDir()
	large := filepath.Join(t.TempDir(), "large.yaml")
	if err := os.WriteFile(large, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, MaxFileBytes+1); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		path string
		kind fault.Kind
		want string
	}{
		{folder, fault.Precondition, "folder " + folder + " has no definitions: it holds no .yaml or .yml file; `twofold init` writes a first one from a Parquet file"},
		{filepath.Join(folder, "x.yaml"), fault.Precondition, "there is no definition file or folder " + folder + "/x.yaml; give its path, or write a first one with `twofold init`: "},
		{large, fault.Exhausted, large + " is larger than 16 MiB; split it into several files of one folder"},
	}
	for _, test := range tests {
		_, err := ReadFiles(test.path)
		if err == nil || fault.KindOf(err) != test.kind || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: %v: %v", test.path, fault.KindOf(err), err)
		}
	}
}

func TestDetail(t *testing.T) {
	p := Problem{File: "f", Line: 12, Column: 4, Message: "m", Source: "\té x"}
	if got, want := p.Detail(), "f:12:4: m\n 12 | \té x\n    | \t  ^"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// failingReader is a SchemaReader that is cut off.
type failingReader struct{ cancel context.CancelFunc }

func (r failingReader) Columns(ctx context.Context, _ string) ([]SourceColumn, error) {
	r.cancel()
	return nil, ctx.Err()
}

func TestCheckSourcesStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := parse(t, whole).CheckSources(ctx, failingReader{cancel}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

const pushed = `
entities: [{name: user, keys: [{name: id, type: INT64}]}]
feature_views:
  - name: prices
    entity: user
    source: {path: prices, event_time_column: ts}
    sync: {enabled: false}
    features: [{name: price, type: DOUBLE}]
`

// columnsReader is a SchemaReader of the same columns everywhere.
type columnsReader []SourceColumn

func (r columnsReader) Columns(context.Context, string) ([]SourceColumn, error) { return r, nil }

// What a source itself says of a column counts more than the column's own type.
func TestCheckSourcesAsksTheColumns(t *testing.T) {
	only := func(types ...feature.Type) func(feature.Type) error {
		return func(t feature.Type) error {
			if slices.Contains(types, t) {
				return nil
			}
			return errors.New("REFUSED")
		}
	}
	id, ts := SourceColumn{Name: "id", Type: feature.Int64}, SourceColumn{Name: "ts", Type: feature.Timestamp}
	price := SourceColumn{Name: "price", Type: feature.Double}
	with := func(c SourceColumn, change func(*SourceColumn)) SourceColumn {
		change(&c)
		return c
	}
	for _, test := range []struct {
		name    string
		columns columnsReader
		want    string
	}{
		{"well", columnsReader{id, ts, price}, "ok"},
		{"a type of none, but readable", columnsReader{id, ts, {Name: "price", Reason: "decimals", CanRead: only(feature.Double)}}, "ok"},
		{"no type, not readable", columnsReader{id, ts, {Name: "price", Reason: "decimals", CanRead: only(feature.String)}},
			`features.yaml:8:36: feature view "prices": feature "price" is DOUBLE, but REFUSED`},
		{"not readable in some file", columnsReader{id, ts, with(price, func(c *SourceColumn) { c.CanRead = only() })},
			`features.yaml:8:36: feature view "prices": feature "price" is DOUBLE, but REFUSED`},
		{"time not readable in some file", columnsReader{id, with(ts, func(c *SourceColumn) { c.CanRead = only() }), price},
			`features.yaml:6:47: feature view "prices": the event time is not a TIMESTAMP in every file: REFUSED`},
		{"time of no type", columnsReader{id, {Name: "ts", Reason: "nulls", CanRead: only(feature.Timestamp)}, price}, "ok"},
		{"time of another type", columnsReader{id, {Name: "ts", Type: feature.Int64, CanRead: only(feature.Int64)}, price},
			`features.yaml:6:47: feature view "prices": the event time column "ts" is INT64, not a TIMESTAMP; write the column as a Parquet TIMESTAMP or DATE; the source has no column of these types`},
		{"key missing", columnsReader{with(id, func(c *SourceColumn) { c.MissingFiles, c.MissingIn = 1, "1.parquet" }), ts, price},
			`features.yaml:6:13: feature view "prices": column "id" of the source, for key "id", is missing in 1.parquet; write it in every file, or leave those files out of the source's path`},
		{"time missing", columnsReader{id, with(ts, func(c *SourceColumn) { c.MissingFiles, c.MissingIn = 3, "1.parquet" }), price},
			`features.yaml:6:47: feature view "prices": column "ts" of the source, for the event time, is missing in 1.parquet and 2 more; write it in every file, or leave those files out of the source's path`},
		{"feature missing", columnsReader{id, ts, with(price, func(c *SourceColumn) { c.MissingFiles, c.MissingIn = 1, "1.parquet" })},
			`features.yaml:8:23: warning: feature view "prices": column "price" of the source, for feature "price", is missing in 1.parquet; its values are null there`},
		{"hidden", columnsReader{id, ts, with(price, func(c *SourceColumn) { c.HiddenIn = "1.parquet" })},
			`features.yaml:8:23: warning: feature view "prices": column "price" of the source, for feature "price", is read from the names of folders (price=…), which hide the column of that name in 1.parquet; give one of them another name where they differ`},
	} {
		problems, err := parse(t, pushed).CheckSources(t.Context(), test.columns)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, list(problems, true)); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

// noFiles is a SchemaReader of sources that cannot be read.
type noFiles struct{ err error }

func (r noFiles) Columns(context.Context, string) ([]SourceColumn, error) { return nil, r.err }

func TestFilesThatAreNotThereYet(t *testing.T) {
	for _, test := range []struct {
		text string
		err  error
		want string
	}{
		{pushed, fmt.Errorf("prices: %w", fs.ErrNotExist), `features.yaml:6:20: warning: feature view "prices": its source cannot be read: prices: file does not exist; rows can be pushed, but training sets need the files`},
		{pushed, errors.New("no access"), `features.yaml:6:20: feature view "prices": its source cannot be read: no access`},
		{strings.Replace(pushed, "{enabled: false}", "{interval: 5m}", 1), fs.ErrNotExist, `features.yaml:6:20: feature view "prices": its source cannot be read: file does not exist`},
	} {
		problems, err := parse(t, test.text).CheckSources(t.Context(), noFiles{test.err})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, list(problems, true)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestConverts(t *testing.T) {
	allowed := map[[2]feature.Type]bool{
		{feature.Int32, feature.Int64}: true, {feature.Int32, feature.Double}: true, {feature.Float, feature.Double}: true,
		{feature.Bytes, feature.String}: true, {feature.String, feature.Bytes}: true,
	}
	for from := feature.Type(0); from <= feature.TimestampList; from++ {
		for to := feature.Type(0); to <= feature.TimestampList; to++ {
			want := from.Valid() && from.IsList() == to.IsList() && (from == to || allowed[[2]feature.Type{from.Elem(), to.Elem()}])
			if got := Converts(from, to); got != want {
				t.Errorf("%v to %v: %v, want %v", from, to, got, want)
			}
		}
	}
}

// Whatever the columns are called, an inferred definition has no problems once key and event time are known.
func TestInferLintsClean(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.OneOf(rapid.String(), rapid.StringMatching(`[A-Za-z_ :#-]{1,12}`)), 3, 12, rapid.ID).Draw(t, "names")
		columns := make([]SourceColumn, len(names))
		for i, name := range names {
			columns[i] = SourceColumn{Name: name, Type: feature.Type(rapid.IntRange(0, int(feature.TimestampList)).Draw(t, "type")), Reason: name}
			if columns[i].Name == "" {
				columns[i].Name = "unnamed"
			}
		}
		columns[0].Type, columns[1].Type, columns[2].Type = feature.String, feature.Timestamp, feature.Double
		path := rapid.StringMatching(`(s3://)?[A-Za-z0-9_*=. -]{1,20}(/[A-Za-z0-9_*=. -]{1,20}){0,2}`).Draw(t, "path")
		data, err := Infer(path, columns, Hints{Keys: []string{columns[0].Name}, EventTimeColumn: columns[1].Name})
		if err != nil {
			t.Fatal(err)
		}
		set, err := Parse([]File{{Name: "f", Data: data}}, Defaults{})
		if err != nil {
			t.Fatalf("%v\n%s", err, data)
		}
		problems, err := set.CheckSources(context.Background(), schemas{path: columns})
		if err != nil || len(problems) > 0 || len(set.Warnings) > 0 {
			t.Fatalf("%v %v %v\n%s", problems, set.Warnings, err, data)
		}
	})
}

// FuzzParse: any bytes are definitions or problems with places inside the file; definitions survive being stored.
func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("entities: &a [{<<: *a, keys: *a}]\n---\n- \t"))
	f.Add([]byte("entities: [{name: a, keys: [{name: k, type: INT64}], tags: {? [a] : b}}]"))
	f.Add([]byte("feature_views: [{ttl: -9999999999999999999h, sync: {interval: 1ns}, features: [{name: !!binary x}]}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := Parse([]File{{Name: "f.yaml", Data: data}}, Defaults{})
		if err != nil {
			problems, ok := errors.AsType[*ProblemsError](err)
			if !ok {
				t.Fatalf("not a list of problems: %v", err)
			}
			lines := strings.Count(string(data), "\n") + strings.Count(string(data), "\r") + 1
			for _, p := range problems.Problems {
				if p.Message == "" || p.Line < 0 || p.Line > lines+1 || p.Detail() == "" {
					t.Fatalf("a problem outside the file of %d lines: %+v", lines, p)
				}
			}
			return
		}
		b, err := set.Marshal()
		if err != nil {
			return // Text that is not UTF-8.
		}
		back, err := Unmarshal(b, Defaults{})
		if err != nil || back.Hash() != set.Hash() {
			t.Fatalf("came back as %v, %v", back, err)
		}
	})
}
