package flights_test

import (
	"iter"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/twofold-ml/twofold/client"
	"github.com/twofold-ml/twofold/examples/flights/flightstest"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/online/redisstore"
	"github.com/twofold-ml/twofold/internal/testenv"
	"github.com/twofold-ml/twofold/internal/wire"
	"github.com/twofold-ml/twofold/server/servertest"
	"github.com/twofold-ml/twofold/syncer"
)

// TestFlights runs the whole path over the example's real data: sync, online reads, and the training set of every flight, each compared with the
// oracle; once with everything embedded and once against a real Redis and a real S3 server.
func TestFlights(t *testing.T) {
	dir := flightstest.Dir(t)
	clock := flightstest.ClockStart(t, dir)
	config := servertest.Config{
		Definitions: "@" + filepath.Join(dir, "definitions"),
		Now:         func() time.Time { return clock },
	}
	want := flightstest.Expected(t, dir)
	t.Run("embedded", func(t *testing.T) {
		config := config
		config.Offline.Path = filepath.Join(dir, "offline")
		testFlights(t, dir, servertest.Start(t, config), want)
	})
	t.Run("redis and S3", func(t *testing.T) {
		config := config
		config.Offline = uploaded(t, filepath.Join(dir, "offline"))
		store, err := redisstore.Open(redisstore.Options{URL: testenv.Redis(t).URL})
		if err != nil {
			t.Fatal(err)
		}
		config.Online = store
		testFlights(t, dir, servertest.Start(t, config), want)
	})
}

// uploaded copies a folder into a new bucket of a real S3 server.
func uploaded(t *testing.T, dir string) offline.Config {
	t.Helper()
	s3 := testenv.S3(t)
	bucket := s3.Bucket(t)
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		key, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		s3.Put(t, bucket, filepath.ToSlash(key), data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return offline.Config{Path: "s3://" + bucket, S3: offline.S3Config{
		Endpoint: s3.Endpoint, Region: s3.Region, PathStyle: true, AccessKeyID: s3.AccessKey, SecretAccessKey: s3.SecretKey,
	}}
}

func testFlights(t *testing.T, dir string, env *servertest.Env, want []flightstest.Row) {
	t.Run("sync", func(t *testing.T) { testSync(t, env) })
	t.Run("online", func(t *testing.T) {
		for _, example := range flightstest.OnlineExamples(t, dir) {
			t.Run(example.Title, func(t *testing.T) { testOnline(t, env, example) })
		}
	})
	t.Run("training", func(t *testing.T) { testTraining(t, env, want) })
}

// testSync syncs twice: the second run must find everything stored.
func testSync(t *testing.T, env *servertest.Env) {
	first, err := env.Syncer.RunOnce(t.Context(), syncer.Request{})
	if err != nil {
		t.Fatal(err)
	}
	nothing, err := env.Syncer.RunOnce(t.Context(), syncer.Request{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range nothing {
		if r.Outcome != twofoldv1.SyncOutcome_SYNC_OUTCOME_NOTHING_NEW {
			t.Errorf("the same files again: %v", r)
		}
	}
	second, err := env.Syncer.RunOnce(t.Context(), syncer.Request{Full: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(first) != len(flightstest.Views()) {
		t.Fatalf("%d views were synced", len(first))
	}
	for i, r := range first {
		if r.Written == 0 || r.Written != r.Entities || r.Older+r.Unchanged+r.Expired != 0 {
			t.Errorf("first run: %v", r)
		}
		if r.RowsRead != r.RowsBad.Total()+r.RowsFuture+r.RowsExpired+r.RowsSuperseded+r.Entities {
			t.Errorf("the counts do not add up: %v", r)
		}
		if s := second[i]; s.Unchanged != r.Written || s.Written+s.Older+s.Expired != 0 {
			t.Errorf("second run: %v", s)
		}
	}
}

func testOnline(t *testing.T, env *servertest.Env, example flightstest.OnlineExample) {
	req := &twofoldv1.GetOnlineFeaturesRequest{FeatureService: flightstest.Service, IncludeEventTimes: true, OmitEntities: true}
	for name, value := range example.Keys {
		req.Entities = append(req.Entities, client.Strings(name, value))
	}
	resp, err := env.Client.Online(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, column := range resp.GetColumns() {
		names = append(names, column.GetName())
		values, err := wire.ResponseColumnFromProto(column)
		if err != nil {
			t.Fatal(err)
		}
		got := flightstest.Answer{Status: values.Status[0].String(), Value: values.ValueAt(0)}
		if diff := cmp.Diff(example.Answers[column.GetName()], got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", column.GetName(), diff)
		}
	}
	if diff := cmp.Diff(flightstest.Features(), names); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
	for _, view := range resp.GetViews() {
		want := int64(0)
		if at := example.EventTimes[view.GetName()]; !at.IsZero() {
			want = at.UnixMicro()
		}
		if got := view.GetEventTimesMicros()[0]; got != want {
			t.Errorf("event time of %s: got %v, want %v", view.GetName(), time.UnixMicro(got).UTC(), example.EventTimes[view.GetName()])
		}
	}
}

// testTraining joins every flight and compares every value of every row.
func testTraining(t *testing.T, env *servertest.Env, want []flightstest.Row) {
	row := 0
	manifest, err := env.Client.Historical(t.Context(), &twofoldv1.HistoricalHeader{FeatureService: flightstest.Service}, entityRows(want), func(batch *twofoldv1.ColumnBatch) error {
		columns, err := wire.ResponseColumnsFromProto("columns", batch.GetColumns())
		if err != nil {
			return err
		}
		features := columns.Columns[len(columns.Columns)-len(flightstest.Features()):]
		for i := range columns.Rows {
			for f, value := range want[row].Values() {
				if got := features[f].ValueAt(i); got != value {
					t.Fatalf("flight %d, %s: got %v, want %v", row, flightstest.Features()[f], got, value)
				}
			}
			row++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if row != len(want) || row < 300_000 || manifest.GetRowCount() != uint64(row) {
		t.Fatalf("%d rows came, the manifest counts %d, there are %d flights", row, manifest.GetRowCount(), len(want))
	}
	for v, view := range manifest.GetViews() {
		unmatched := uint64(0)
		for _, r := range want {
			if _, ok := r.EventMicros(v); !ok {
				unmatched++
			}
		}
		if view.GetUnmatchedRows() != unmatched || view.GetRowsRead() == 0 || len(view.GetFiles()) == 0 {
			t.Errorf("view %s: %v; the oracle leaves %d rows unmatched", view.GetName(), view, unmatched)
		}
	}
}

// entityRows gives the flights in chunks.
func entityRows(rows []flightstest.Row) iter.Seq2[*twofoldv1.ColumnBatch, error] {
	const chunk = 20_000
	return func(yield func(*twofoldv1.ColumnBatch, error) bool) {
		for from := 0; from < len(rows); from += chunk {
			var origins, carriers, tails []string
			var times []time.Time
			var statuses []twofoldv1.ValueStatus
			for _, r := range rows[from:min(from+chunk, len(rows))] {
				f := r.Flight
				origins, carriers, tails = append(origins, f.Origin), append(carriers, f.Carrier), append(tails, f.TailNumber)
				times = append(times, time.UnixMicro(f.EventMicros))
				status := twofoldv1.ValueStatus_VALUE_STATUS_PRESENT
				if f.TailNumber == "" {
					status = twofoldv1.ValueStatus_VALUE_STATUS_NULL
				}
				statuses = append(statuses, status)
			}
			tail := client.Strings("tail_number", tails...)
			tail.Statuses = statuses
			batch := &twofoldv1.ColumnBatch{Columns: []*twofoldv1.Column{
				client.Timestamps("event_timestamp", times...), client.Strings("origin", origins...), client.Strings("carrier", carriers...), tail,
			}}
			if !yield(batch, nil) {
				return
			}
		}
	}
}
