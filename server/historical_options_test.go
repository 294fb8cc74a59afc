package server_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/server"
	"github.com/twofold-ml/twofold/server/servertest"
)

type header = twofoldv1.HistoricalHeader

// TestHistoricalRefusedBeforeWork: what the header or the names of columns contradict is told before anything is read. The sources cannot be read at all here, so
// that whoever asked for them would be told that instead.
func TestHistoricalRefusedBeforeWork(t *testing.T) {
	env := start(t, func(c *servertest.Config) {
		c.Change = func(o *server.Options) { o.MaxFeatures = 20 }
	})
	env.Reload(t, edit(t, "profile.parquet", "nowhere1.parquet", "price.parquet", "nowhere2.parquet", "clicks.parquet", "nowhere3.parquet"))
	rows := func(more ...*twofoldv1.Column) *twofoldv1.GetHistoricalFeaturesRequest {
		return columnChunk(append([]*twofoldv1.Column{client.Int64s("user_id", 1), client.Strings("item_id", "a"), client.Timestamps("event_timestamp", now)}, more...)...)
	}
	many := func(n int) (columns []*twofoldv1.Column) {
		for i := range n {
			columns = append(columns, client.Int64s(fmt.Sprint("c", i), 1))
		}
		return columns
	}
	cases := map[string]struct {
		change func(*header)
		rows   *twofoldv1.GetHistoricalFeaturesRequest
		code   codes.Code
		field  string
		words  []string
	}{
		"short names clash": {func(h *header) { h.Features, h.ShortNames = []string{"profile:name", "price:name"}, true }, rows(), codes.InvalidArgument, "header.short_names",
			[]string{`"name"`, "profile:name", "price:name"}},
		"short name and a column": {func(h *header) { h.ShortNames = true }, rows(client.Strings("name", "x")), codes.InvalidArgument, "entity_rows.columns[3].name",
			[]string{`"name"`, "leave short_names out"}},
		"status and a column": {func(h *header) { h.IncludeStatuses = true }, rows(client.Strings("price:name:status", "x")), codes.InvalidArgument, "entity_rows.columns[3].name",
			[]string{"price:name:status", "rename it"}},
		"event time and a column": {func(h *header) { h.IncludeEventTimes = true }, rows(client.Strings("price:event_timestamp", "x")), codes.InvalidArgument,
			"entity_rows.columns[3].name", []string{"price:event_timestamp", "rename it"}},
		"feature and a column": {func(*header) {}, rows(client.Strings("price:name", "x")), codes.InvalidArgument, "entity_rows.columns[3].name", []string{"price:name"}},
		"a column twice":       {func(*header) {}, rows(client.Strings("item_id", "x")), codes.InvalidArgument, "entity_rows.columns[3].name", []string{`"item_id"`}},
		"too many columns":     {func(*header) {}, rows(many(18)...), codes.ResourceExhausted, "entity_rows.columns", []string{"21 columns", "limit of 20"}},
		"too many features":    {func(h *header) { h.Features = make([]string, 21) }, rows(), codes.ResourceExhausted, "header.features", []string{"limit of 20"}},
		"cutoff": {func(h *header) { h.CreatedTimeCutoff = true }, rows(), codes.FailedPrecondition, "",
			[]string{"created_time_cutoff", `"price"`, "created_time_column", "leave the cutoff out"}},
		"range of nothing": {func(h *header) {
			h.TimeRange = &twofoldv1.TimeRange{StartMicros: proto.Int64(5), EndMicros: proto.Int64(5)}
		}, rows(), codes.InvalidArgument,
			"header.time_range", []string{"start is not before the end"}},
		"range backwards": {func(h *header) {
			h.TimeRange = &twofoldv1.TimeRange{StartMicros: proto.Int64(6), EndMicros: proto.Int64(5)}
		}, rows(), codes.InvalidArgument,
			"header.time_range", []string{"start is not before the end"}},
		"negative staleness":   {func(h *header) { h.MaxStaleness = durationpb.New(-1) }, rows(), codes.InvalidArgument, "header.max_staleness", nil},
		"frequent progress":    {func(h *header) { h.ProgressInterval = durationpb.New(time.Millisecond) }, rows(), codes.InvalidArgument, "header.progress_interval", nil},
		"unknown format":       {func(h *header) { h.Format = 9 }, rows(), codes.InvalidArgument, "header.format", nil},
		"time column of words": {func(h *header) { h.TimeColumn = "item_id" }, rows(), codes.InvalidArgument, "entity_rows.columns[1]", []string{"item_id", "TIMESTAMP"}},
		"no features":          {func(h *header) { h.Features = nil }, rows(), codes.InvalidArgument, "header.features", nil},
		"service and features": {func(h *header) { h.FeatureService = "training_v1" }, rows(), codes.InvalidArgument, "header.feature_service", nil},
		"a feature twice":      {func(h *header) { h.Features = append(h.Features, "price:name") }, rows(), codes.InvalidArgument, "header.features", []string{"price:name"}},
		"what reads them":      {func(*header) {}, rows(), codes.FailedPrecondition, "", []string{"nowhere2.parquet", "no such file"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := &header{Features: []string{"price:name"}}
			c.change(h)
			got, err := train(t.Context(), t, env.GRPCAddress, h, c.rows)
			t.Log(err)
			wantError(t, err, c.code, c.field, c.words...)
			if len(got.columns) > 0 && c.code != codes.FailedPrecondition {
				t.Error("a schema was sent")
			}
		})
	}
}

// TestHistoricalStatusesAndTimes: the columns are where the contract says, and tell nulls from rows that are missing.
func TestHistoricalStatusesAndTimes(t *testing.T) {
	env := start(t)
	h := trainingHeader()
	h.IncludeEventTimes, h.IncludeStatuses = true, true
	h.Features = []string{"profile:age", "clicks:count", "profile:notes"}
	got := mustTrain(t, env, h, tableChunks(t, entityRows(), 4)...)
	want := []string{"label", "user_id", "item_id", "event_timestamp", "profile:age", "clicks:count", "profile:notes", "profile:event_timestamp", "clicks:event_timestamp",
		"profile:age:status", "clicks:count:status", "profile:notes:status"}
	if fmt.Sprint(got.columns) != fmt.Sprint(want) {
		t.Errorf("got the columns %v, want %v", got.columns, want)
	}
	wantColumns(t, got.cells, map[string][]string{
		"profile:age":             {"31", "NULL", "NOT_FOUND", "30"},
		"profile:age:status":      {"PRESENT", "NULL", "NOT_FOUND", "PRESENT"},
		"clicks:count:status":     {"PRESENT", "PRESENT", "NOT_FOUND", "NOT_FOUND"},
		"profile:notes:status":    {"PRESENT", "NULL", "NOT_FOUND", "PRESENT"},
		"profile:event_timestamp": {fmt.Sprint(ago(2 * time.Hour)), fmt.Sprint(ago(time.Hour)), "NOT_FOUND", fmt.Sprint(ago(30 * time.Hour))},
		"clicks:event_timestamp":  {fmt.Sprint(ago(time.Minute)), fmt.Sprint(ago(90 * time.Minute)), "NOT_FOUND", "NOT_FOUND"},
	})
	// A name that only an option takes is free without it.
	if _, err := train(t.Context(), t, env.GRPCAddress, &header{Features: []string{"profile:age"}},
		columnChunk(client.Int64s("user_id", 1), client.Timestamps("event_timestamp", now), client.Strings("profile:age:status", "x"))); err != nil {
		t.Error(err)
	}
}

func TestHistoricalTimeRange(t *testing.T) {
	env := start(t)
	h := trainingHeader()
	for _, c := range []struct {
		start, end *int64
		labels     []string
	}{
		{nil, nil, []string{"1", "NULL", "0.5", "0.25"}},
		{proto.Int64(ago(time.Hour)), nil, []string{"1", "NULL", "0.5"}},
		{proto.Int64(ago(time.Hour)), proto.Int64(ago(0)), []string{"NULL"}},
		{nil, proto.Int64(ago(time.Hour)), []string{"0.25"}},
		{proto.Int64(ago(-time.Hour)), nil, nil},
	} {
		h.TimeRange = &twofoldv1.TimeRange{StartMicros: c.start, EndMicros: c.end}
		for _, chunk := range []int{1, 4} {
			got := mustTrain(t, env, h, tableChunks(t, entityRows(), chunk)...)
			rows := got.manifest.GetEntityRows()
			if fmt.Sprint(got.cells["label"]) != fmt.Sprint(c.labels) || rows.GetRowCount() != uint64(len(c.labels)) || rows.GetFilteredRows() != uint64(4-len(c.labels)) ||
				got.manifest.GetRowCount() != uint64(len(c.labels)) || len(got.columns) != 8 {
				t.Errorf("%v: %v, %v", h.GetTimeRange(), got.cells["label"], rows)
			}
		}
	}
}

// TestHistoricalBatchRows: no batch has more rows than asked for; what is asked for does not change the content.
func TestHistoricalBatchRows(t *testing.T) {
	env := start(t)
	const rows = 20_001
	var users, times []any
	for i := range rows {
		users, times = append(users, 1+i%3), append(times, ago(time.Duration(i)*time.Second))
	}
	chunks := tableChunks(t, new(servertest.Table).Add("user_id", feature.Int64, users...).Add("event_timestamp", feature.Timestamp, times...), 7001)
	hashes := map[string]bool{}
	for most, batches := range map[uint32]int{0: 3, 1000: 21, 8192: 3, 65536: 1} {
		got := mustTrain(t, env, &header{Features: []string{"profile:age"}, MaxBatchRows: most}, chunks...)
		if most == 0 {
			most = 8192
		}
		for i, n := range got.batchRows {
			if n > int(most) || n == 0 {
				t.Errorf("max_batch_rows %d: batch %d has %d rows", most, i, n)
			}
		}
		if got.rows() != rows || len(got.batchRows) != batches {
			t.Errorf("max_batch_rows %d: %d rows in %d batches, want %d", most, got.rows(), len(got.batchRows), batches)
		}
		hashes[got.manifest.GetContentHash()] = true
	}
	if len(hashes) != 1 {
		t.Errorf("hashes %v", hashes)
	}
	// One row is the least.
	got := mustTrain(t, env, &header{Features: []string{"profile:age"}, MaxBatchRows: 1}, tableChunks(t, entityRows(), 4)...)
	if fmt.Sprint(got.batchRows) != "[1 1 1 1]" {
		t.Errorf("batches of %v rows", got.batchRows)
	}
}

// TestHistoricalCutoffByView: the cutoff takes rows that had been written by then, of each view by its own created times.
func TestHistoricalCutoffByView(t *testing.T) {
	env := start(t)
	h := &header{Features: []string{"profile:name"}, CreatedTimeCutoff: true}
	rows := new(servertest.Table).Add("user_id", feature.Int64, 1, 1, 1, 2, 3, 3).
		Add("event_timestamp", feature.Timestamp, ago(0), ago(time.Hour), ago(time.Hour)-1, ago(0), ago(20*time.Hour), ago(21*time.Hour))
	got := mustTrain(t, env, h, tableChunks(t, rows, 2)...)
	// User 2's row has no created time, so nobody knows when it was written.
	wantColumns(t, got.cells, map[string][]string{"profile:name": {"Ann", "Ann", "NOT_FOUND", "NOT_FOUND", "Zoë", "NOT_FOUND"}})
	if v := got.manifest.GetViews()[0]; v.GetRowsNull() != 1 || v.GetUnmatchedRows() != 3 || !got.manifest.GetHeader().GetCreatedTimeCutoff() {
		t.Errorf("%v", v)
	}
}

// TestHistoricalMetrics: what complete calls were made of; a call that fails counts nothing.
func TestHistoricalMetrics(t *testing.T) {
	env := start(t)
	for range 2 {
		mustTrain(t, env, &header{Features: []string{"profile:age", "clicks:count"}}, tableChunks(t, entityRows(), 2)...)
	}
	if _, err := train(t.Context(), t, env.GRPCAddress, &header{Features: []string{"profile:age"}}, columnChunk(client.Int64s("user_id", 1))); err == nil {
		t.Error("rows without times are taken")
	}
	for name, want := range map[string]string{
		"twofold_training_rows_total": "8",
		`twofold_training_view_rows_total{feature_view="profile",outcome="matched"}`:   "6",
		`twofold_training_view_rows_total{feature_view="profile",outcome="unmatched"}`: "2",
		`twofold_training_view_rows_total{feature_view="clicks",outcome="matched"}`:    "4",
		`twofold_training_feature_rows_total{feature_view="clicks",outcome="read"}`:    "4",
		`twofold_training_feature_rows_total{feature_view="clicks",outcome="pruned"}`:  "0",
		`twofold_training_calls{phase="scanning"}`:                                     "0",
		`twofold_training_memory_bytes`:                                                "0",
	} {
		if got := metric(t, env, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
