package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
	"github.com/twofold-ml/twofold/server"
	"github.com/twofold-ml/twofold/server/servertest"
)

// entityRows are three users' rows, with a label that is passed through.
func entityRows() *servertest.Table {
	return new(servertest.Table).
		Add("label", feature.Double, 1.0, nil, 0.5, 0.25).
		Add("user_id", feature.Int64, 1, 2, nil, 1).
		Add("item_id", feature.String, "a", "b", "a", "c").
		Add("event_timestamp", feature.Timestamp, ago(0), ago(time.Hour), ago(0), ago(29*time.Hour))
}

var wantTraining = map[string][]string{
	"label":         {"1", "NULL", "0.5", "0.25"},
	"user_id":       {"1", "2", "NULL", "1"},
	"item_id":       {"a", "b", "a", "c"},
	"profile:age":   {"31", "NULL", "NOT_FOUND", "30"},
	"profile:name":  {"Ann", "Bob", "NOT_FOUND", "ann"},
	"profile:notes": {"n2", "NULL", "NOT_FOUND", "n1"},
	"clicks:count":  {"7", "9", "NOT_FOUND", "NOT_FOUND"},
}

func trainingHeader() *twofoldv1.HistoricalHeader {
	return &twofoldv1.HistoricalHeader{Features: []string{"profile:*", "clicks:count"}}
}

// batches gives the table as typed columns, in chunks of so many rows.
func batches(t *testing.T, table *servertest.Table, rows int) iter.Seq2[*twofoldv1.ColumnBatch, error] {
	return func(yield func(*twofoldv1.ColumnBatch, error) bool) {
		n := table.Columns[0].Len()
		for from := 0; from < max(n, 1); from += rows {
			batch := &twofoldv1.ColumnBatch{}
			for i, c := range table.Columns {
				batch.Columns = append(batch.Columns, toProto(t, table.Names[i], c, from, min(from+rows, n)))
			}
			if !yield(batch, nil) {
				return
			}
		}
	}
}

// collect runs a call of typed columns and returns its rows.
func collect(t *testing.T, env *servertest.Env, header *twofoldv1.HistoricalHeader, rows iter.Seq2[*twofoldv1.ColumnBatch, error]) (map[string][]string, *twofoldv1.HistoricalManifest, error) {
	t.Helper()
	got := map[string][]string{}
	manifest, err := env.Client.Historical(t.Context(), header, rows, func(b *twofoldv1.ColumnBatch) error {
		for name, cells := range table(t, b.GetColumns()) {
			got[name] = append(got[name], cells...)
		}
		return nil
	})
	delete(got, "event_timestamp")
	return got, manifest, err
}

func TestHistoricalColumns(t *testing.T) {
	env := start(t)
	for _, chunk := range []int{1, 2, 4} {
		header := trainingHeader()
		header.MaxBatchRows = uint32(5 - chunk)
		got, manifest, err := collect(t, env, header, batches(t, entityRows(), chunk))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(wantTraining, got); diff != "" {
			t.Errorf("chunks of %d, -want +got:\n%s", chunk, diff)
		}
		views := manifest.GetViews()
		if manifest.GetRowCount() != 4 || manifest.GetDefinitionsHash() != env.Definitions.Hash() || len(views) != 2 {
			t.Errorf("manifest: %v", manifest)
		}
		if v := views[0]; v.GetName() != "profile" || v.GetUnmatchedRows() != 1 || v.GetRowsRead() != 4 || !strings.HasSuffix(v.GetFiles()[0].GetUrl(), "/profile.parquet") ||
			v.GetFiles()[0].GetSizeBytes() == 0 || v.GetFiles()[0].GetEtag() == "" {
			t.Errorf("profile's manifest: %v", v)
		}
	}
}

// TestHistoricalMaxStaleness: it tightens every view's ttl, also that of a view without one, and extends none.
func TestHistoricalMaxStaleness(t *testing.T) {
	env := start(t)
	rows := new(servertest.Table).Add("user_id", feature.Int64, 1, 2, 3).Add("item_id", feature.String, "a", "b", "c").
		Add("event_timestamp", feature.Timestamp, ago(0), ago(0), ago(0))
	for staleness, want := range map[time.Duration]map[string][]string{
		90 * time.Minute:            {"profile:name": {"NOT_FOUND", "Bob", "NOT_FOUND"}, "price:amount": {"NOT_FOUND", "2.5", "NOT_FOUND"}},
		time.Hour:                   {"profile:name": {"NOT_FOUND", "Bob", "NOT_FOUND"}, "price:amount": {"NOT_FOUND", "2.5", "NOT_FOUND"}},
		time.Hour - time.Nanosecond: {"profile:name": {"NOT_FOUND", "Bob", "NOT_FOUND"}, "price:amount": {"NOT_FOUND", "2.5", "NOT_FOUND"}}, // rounded up to a microsecond
		time.Hour - time.Second:     {"profile:name": {"NOT_FOUND", "NOT_FOUND", "NOT_FOUND"}, "price:amount": {"NOT_FOUND", "NOT_FOUND", "NOT_FOUND"}},
		1000 * time.Hour:            {"profile:name": {"Ann", "Bob", "NOT_FOUND"}, "price:amount": {"1.5", "2.5", "NOT_FOUND"}},
	} {
		header := &twofoldv1.HistoricalHeader{Features: []string{"profile:name", "price:amount"}, MaxStaleness: durationpb.New(staleness)}
		got, _, err := collect(t, env, header, batches(t, rows, 10))
		if err != nil {
			t.Fatal(err)
		}
		delete(got, "user_id")
		delete(got, "item_id")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("max_staleness %v, -want +got:\n%s", staleness, diff)
		}
	}
}

// TestManifestOfEachView: counts and files are those of the view itself. Of clicks every row lies after the entity rows, so its file stays unread.
func TestManifestOfEachView(t *testing.T) {
	env := start(t)
	rows := new(servertest.Table).Add("user_id", feature.Int64, 1, 2, 9).Add("item_id", feature.String, "a", "b", "c").
		Add("event_timestamp", feature.Timestamp, ago(29*time.Hour), ago(29*time.Hour), ago(29*time.Hour))
	_, manifest, err := collect(t, env, &twofoldv1.HistoricalHeader{Features: []string{"profile:age", "clicks:count", "price:amount"}}, batches(t, rows, 10))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range manifest.GetViews() {
		line := fmt.Sprintf("%s: read %d, pruned %d, null %d, unmatched %d, of", v.GetName(), v.GetRowsRead(), v.GetRowsPruned(), v.GetRowsNull(), v.GetUnmatchedRows())
		for _, file := range v.GetFiles() {
			line += " " + path.Base(file.GetUrl())
		}
		got = append(got, line)
	}
	want := []string{
		"profile: read 4, pruned 0, null 0, unmatched 2, of profile.parquet",
		"clicks: read 0, pruned 2, null 0, unmatched 3, of clicks.parquet",
		"price: read 2, pruned 0, null 0, unmatched 2, of price.parquet",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestHistoricalOptions(t *testing.T) {
	env := start(t)
	header := &twofoldv1.HistoricalHeader{Features: []string{"profile:age"}, ShortNames: true, IncludeEventTimes: true, CreatedTimeCutoff: true, TimeColumn: "when"}
	rows := new(servertest.Table).Add("user_id", feature.Int64, 1, 1).Add("when", feature.Timestamp, ago(time.Hour), ago(90*time.Minute))
	got, _, err := collect(t, env, header, batches(t, rows, 10))
	if err != nil {
		t.Fatal(err)
	}
	// The row of two hours ago was written one hour ago: known at the first row's time, not at the second's, where the older one has expired... not yet: it is 28.5 h old.
	want := map[string][]string{
		"user_id": {"1", "1"}, "when": {fmt.Sprint(ago(time.Hour)), fmt.Sprint(ago(90 * time.Minute))},
		"age": {"31", "NOT_FOUND"}, "profile:event_timestamp": {fmt.Sprint(ago(2 * time.Hour)), "NOT_FOUND"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// arrowBytes is the table as an Arrow IPC stream of several batches.
func arrowBytes(t *testing.T, record arrow.RecordBatch, rows int64) []byte {
	t.Helper()
	var out bytes.Buffer
	w := ipc.NewWriter(&out, ipc.WithSchema(record.Schema()))
	for from := int64(0); from < record.NumRows(); from += rows {
		if err := w.Write(record.NewSlice(from, min(from+rows, record.NumRows()))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// readArrow returns the rows of an Arrow IPC stream, and fails where it does not end as one must.
func readArrow(t *testing.T, stream []byte) map[string][]string {
	t.Helper()
	r, err := ipc.NewReader(bytes.NewReader(stream))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for r.Next() {
		for i, f := range r.Schema().Fields() {
			c, err := arrowwire.FromArray(r.RecordBatch().Column(i))
			if err != nil {
				got[f.Name] = append(got[f.Name], r.RecordBatch().Column(i).String())
				continue
			}
			for name, cells := range table(t, []*twofoldv1.Column{toProto(t, f.Name, c, 0, c.Len())}) {
				got[name] = append(got[name], cells...)
			}
		}
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	if !bytes.HasSuffix(stream, []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}) {
		t.Error("the stream has no end marker")
	}
	return got
}

func TestHistoricalArrow(t *testing.T) {
	env := start(t)
	// A type that the contract has no name for is passed through untouched.
	record := entityRows().Record(t)
	durations := array.NewDurationBuilder(memory.DefaultAllocator, &arrow.DurationType{Unit: arrow.Second})
	durations.AppendValues([]arrow.Duration{1, 2, 3, 4}, nil)
	fields := append(record.Schema().Fields(), arrow.Field{Name: "took", Type: durations.Type()})
	record = array.NewRecordBatch(arrow.NewSchema(fields, nil), append(record.Columns(), durations.NewArray()), 4)
	for _, rows := range []uint32{1, 3, 0} {
		header := trainingHeader()
		header.MaxBatchRows = rows
		var out bytes.Buffer
		var last client.Progress
		manifest, err := env.Client.HistoricalArrow(t.Context(), header, bytes.NewReader(arrowBytes(t, record, 2)), &out, func(p client.Progress) { last = p })
		if err != nil {
			t.Fatal(err)
		}
		got := readArrow(t, out.Bytes())
		if len(got["took"]) == 0 {
			t.Error("the column of another type is gone")
		}
		delete(got, "took")
		delete(got, "event_timestamp")
		want := map[string][]string{}
		for name, cells := range wantTraining { // Arrow knows null only
			for _, cell := range cells {
				want[name] = append(want[name], strings.Replace(cell, "NOT_FOUND", "NULL", 1))
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if manifest.GetRowCount() != 4 || last.RowsReceived != 4 || last.BytesSent == 0 {
			t.Errorf("manifest %v, progress %v", manifest, last)
		}
	}
	_, _, err := collectArrowAsColumns(t, env, record)
	wantError(t, err, codes.InvalidArgument, "header.format", `"took"`)
}

// collectArrowAsColumns sends Arrow and asks for typed columns, one byte a chunk.
func collectArrowAsColumns(t *testing.T, env *servertest.Env, record arrow.RecordBatch) (map[string][]string, *twofoldv1.HistoricalManifest, error) {
	t.Helper()
	stream := rawStream(t, env)
	send(t, stream, &twofoldv1.GetHistoricalFeaturesRequest{Message: &twofoldv1.GetHistoricalFeaturesRequest_Header{Header: trainingHeader()}})
	for _, b := range arrowBytes(t, record, 3) {
		send(t, stream, arrowChunk([]byte{b}))
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for {
		message, err := stream.Recv()
		if err != nil {
			return got, nil, err
		}
		if m := message.GetManifest(); m != nil {
			delete(got, "event_timestamp")
			return got, m, nil
		}
		for name, cells := range table(t, message.GetBatch().GetColumns().GetColumns()) {
			got[name] = append(got[name], cells...)
		}
	}
}

func TestHistoricalArrowInColumnsOut(t *testing.T) {
	got, _, err := collectArrowAsColumns(t, start(t), entityRows().Record(t))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wantTraining, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

type rawHistorical = grpc.BidiStreamingClient[twofoldv1.GetHistoricalFeaturesRequest, twofoldv1.GetHistoricalFeaturesResponse]

// rawStream opens a stream without the client's help.
func rawStream(t *testing.T, env *servertest.Env) rawHistorical {
	t.Helper()
	conn, err := grpc.NewClient(env.GRPCAddress, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the stream may have failed
	stream, err := twofoldv1.NewFeatureServiceClient(conn).GetHistoricalFeatures(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// send sends a message; where the server has ended the stream already, Recv will say why.
func send(t *testing.T, stream rawHistorical, message *twofoldv1.GetHistoricalFeaturesRequest) {
	t.Helper()
	if err := stream.Send(message); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

func arrowChunk(b []byte) *twofoldv1.GetHistoricalFeaturesRequest {
	return &twofoldv1.GetHistoricalFeaturesRequest{Message: &twofoldv1.GetHistoricalFeaturesRequest_EntityRows{
		EntityRows: &twofoldv1.EntityRows{Rows: &twofoldv1.EntityRows_ArrowIpc{ArrowIpc: b}}}}
}

func columnChunk(columns ...*twofoldv1.Column) *twofoldv1.GetHistoricalFeaturesRequest {
	return &twofoldv1.GetHistoricalFeaturesRequest{Message: &twofoldv1.GetHistoricalFeaturesRequest_EntityRows{
		EntityRows: &twofoldv1.EntityRows{Rows: &twofoldv1.EntityRows_Columns{Columns: &twofoldv1.ColumnBatch{Columns: columns}}}}}
}

func TestHistoricalErrors(t *testing.T) {
	env := start(t, func(c *servertest.Config) { c.Change = func(o *server.Options) { o.MaxEntityRows = 5 } })
	header := func(h *twofoldv1.HistoricalHeader) *twofoldv1.GetHistoricalFeaturesRequest {
		return &twofoldv1.GetHistoricalFeaturesRequest{Message: &twofoldv1.GetHistoricalFeaturesRequest_Header{Header: h}}
	}
	price := func(change func(*twofoldv1.HistoricalHeader)) *twofoldv1.GetHistoricalFeaturesRequest {
		h := &twofoldv1.HistoricalHeader{Features: []string{"price:name"}}
		if change != nil {
			change(h)
		}
		return header(h)
	}
	items, times := client.Strings("item_id", "a"), client.Timestamps("event_timestamp", now)
	nullTime := client.Timestamps("event_timestamp", now)
	nullTime.Statuses = []twofoldv1.ValueStatus{twofoldv1.ValueStatus_VALUE_STATUS_NULL}
	many := columnChunk(client.Strings("item_id", "a", "b", "c"), client.Timestamps("event_timestamp", now, now, now))
	valid := arrowBytes(t, new(servertest.Table).Add("item_id", feature.String, "a").Add("event_timestamp", feature.Timestamp, ago(0)).Record(t), 1)
	twoBatches := arrowBytes(t, new(servertest.Table).Add("item_id", feature.String, "a", "b").Add("event_timestamp", feature.Timestamp, ago(0), ago(0)).Record(t), 1)
	type messages = []*twofoldv1.GetHistoricalFeaturesRequest
	cases := map[string]struct {
		send  messages
		code  codes.Code
		field string
		words []string
	}{
		"nothing":          {nil, codes.InvalidArgument, "header", []string{"first message"}},
		"no header":        {messages{columnChunk(items, times)}, codes.InvalidArgument, "header", nil},
		"two headers":      {messages{price(nil), price(nil)}, codes.InvalidArgument, "entity_rows", nil},
		"no rows":          {messages{price(nil)}, codes.InvalidArgument, "entity_rows", []string{"without entity rows"}},
		"unknown feature":  {messages{header(&twofoldv1.HistoricalHeader{Features: []string{"price:nam"}})}, codes.NotFound, "", []string{`"name"`}},
		"batch too large":  {messages{price(func(h *twofoldv1.HistoricalHeader) { h.MaxBatchRows = 70_000 })}, codes.InvalidArgument, "header.max_batch_rows", nil},
		"no created times": {messages{price(func(h *twofoldv1.HistoricalHeader) { h.CreatedTimeCutoff = true })}, codes.FailedPrecondition, "", []string{"price", "created_time_column"}},
		"no key":           {messages{price(nil), columnChunk(times)}, codes.InvalidArgument, "entity_rows.columns", []string{"item_id"}},
		"no time":          {messages{price(nil), columnChunk(items)}, codes.InvalidArgument, "entity_rows.columns", []string{"event_timestamp", "time_column"}},
		"time of ints":     {messages{price(nil), columnChunk(items, client.Int64s("event_timestamp", 1))}, codes.InvalidArgument, "entity_rows.columns[1]", []string{"TIMESTAMP", "INT64"}},
		"null time":        {messages{price(nil), columnChunk(items, nullTime)}, codes.InvalidArgument, "", []string{"row 0"}},
		"name clash":       {messages{price(nil), columnChunk(items, times, client.Strings("price:name", "x"))}, codes.InvalidArgument, "entity_rows.columns[2].name", []string{"price:name"}},
		"time name clash": {messages{price(func(h *twofoldv1.HistoricalHeader) { h.IncludeEventTimes = true }), columnChunk(items, times, client.Strings("price:event_timestamp", "x"))},
			codes.InvalidArgument, "entity_rows.columns[2].name", nil},
		"other columns":       {messages{price(nil), columnChunk(items, times), columnChunk(times, items)}, codes.InvalidArgument, "entity_rows.columns", []string{"same order"}},
		"other type":          {messages{price(nil), columnChunk(items, times, client.Int64s("x", 1)), columnChunk(items, times, client.Doubles("x", 1))}, codes.InvalidArgument, "entity_rows.columns[2]", nil},
		"mixed formats":       {messages{price(nil), columnChunk(items, times), arrowChunk(valid)}, codes.InvalidArgument, "entity_rows.rows", nil},
		"mixed formats2":      {messages{price(nil), arrowChunk(valid[:8]), columnChunk(items, times)}, codes.InvalidArgument, "entity_rows.rows", nil},
		"too many rows":       {messages{price(nil), many, many}, codes.ResourceExhausted, "entity_rows", []string{"limit of 5"}},
		"not arrow":           {messages{price(nil), arrowChunk([]byte(strings.Repeat("no arrow at all ", 10)))}, codes.InvalidArgument, "entity_rows.arrow_ipc", nil},
		"arrow cut off":       {messages{price(nil), arrowChunk(valid[:len(valid)-40])}, codes.InvalidArgument, "entity_rows.arrow_ipc", nil},
		"arrow cut off later": {messages{price(nil), arrowChunk(twoBatches[:len(twoBatches)-40])}, codes.InvalidArgument, "entity_rows.arrow_ipc", []string{"after row 1"}},
		"arrow no key":        {messages{price(nil), arrowChunk(arrowBytes(t, new(servertest.Table).Add("event_timestamp", feature.Timestamp, ago(0)).Record(t), 1))}, codes.InvalidArgument, "entity_rows.columns", []string{"item_id"}},
		"arrow name clash": {messages{price(nil), arrowChunk(arrowBytes(t, new(servertest.Table).Add("item_id", feature.String, "a").Add("event_timestamp", feature.Timestamp, ago(0)).
			Add("price:name", feature.String, "x").Record(t), 1))}, codes.InvalidArgument, "entity_rows.columns[2].name", nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			stream := rawStream(t, env)
			for _, message := range c.send {
				send(t, stream, message)
			}
			if err := stream.CloseSend(); err != nil {
				t.Fatal(err)
			}
			var err error
			for err == nil {
				_, err = stream.Recv()
			}
			wantError(t, err, c.code, c.field, c.words...)
		})
	}
}

func TestHistoricalNoRowsAtAll(t *testing.T) {
	env := start(t)
	got, manifest, err := collect(t, env, &twofoldv1.HistoricalHeader{Features: []string{"price:name"}},
		batches(t, new(servertest.Table).Add("item_id", feature.String).Add("event_timestamp", feature.Timestamp), 1))
	if err != nil || manifest.GetRowCount() != 0 || len(got) != 0 {
		t.Errorf("got %v, %v, %v", got, manifest, err)
	}
}

// TestHistoricalWideRows sends rows whose batches would be larger than a gRPC client accepts by default.
func TestHistoricalWideRows(t *testing.T) {
	env := start(t)
	const rows = 3000
	var payload, items, times []any
	for i := range rows {
		payload, items, times = append(payload, strings.Repeat("x", 5000)), append(items, "a"), append(times, ago(time.Duration(i)*time.Second))
	}
	wide := new(servertest.Table).Add("payload", feature.String, payload...).Add("item_id", feature.String, items...).Add("event_timestamp", feature.Timestamp, times...)
	header := &twofoldv1.HistoricalHeader{Features: []string{"price:name"}}
	largest, n := 0, 0
	_, err := env.Client.Historical(t.Context(), header, batches(t, wide, 500), func(b *twofoldv1.ColumnBatch) error {
		size := 0
		for _, v := range b.GetColumns()[0].GetStrings().GetValues() {
			size += len(v)
			n++
		}
		largest = max(largest, size)
		return nil
	})
	if err != nil || n != rows || largest > 4<<20 {
		t.Errorf("%d rows, the largest batch has %d bytes, %v", n, largest, err)
	}
	var out bytes.Buffer
	_, err = env.Client.HistoricalArrow(t.Context(), header, bytes.NewReader(arrowBytes(t, wide.Record(t), 1000)), &out, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := readArrow(t, out.Bytes()); len(got["price:name"]) != rows || got["price:name"][rows-1] != "apple" {
		t.Errorf("%d rows of Arrow", len(got["price:name"]))
	}
}

func TestHistoricalCancelled(t *testing.T) {
	env := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := env.Client.Historical(ctx, trainingHeader(), func(yield func(*twofoldv1.ColumnBatch, error) bool) {
		for b, err := range batches(t, entityRows(), 2) {
			if !yield(b, err) {
				return
			}
			cancel()
		}
	}, func(*twofoldv1.ColumnBatch) error { return nil })
	wantError(t, err, codes.Canceled, "")
	failed := errors.New("the file is broken")
	_, err = env.Client.Historical(t.Context(), trainingHeader(), func(yield func(*twofoldv1.ColumnBatch, error) bool) { yield(nil, failed) },
		func(*twofoldv1.ColumnBatch) error { return nil })
	if !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
}

// TestHistoricalAbandonedArrow cancels calls in the middle of an Arrow stream: what decodes it must end too.
func TestHistoricalAbandonedArrow(t *testing.T) {
	env := start(t)
	conn, err := grpc.NewClient(env.GRPCAddress, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // nothing is under way
	decoding := func() bool {
		stacks := make([]byte, 1<<20)
		return bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("(*arrowReceiver).decode"))
	}
	rows := arrowBytes(t, entityRows().Record(t), 1)
	for _, cut := range []int{1, 100, len(rows) / 2, len(rows) - 1} {
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := twofoldv1.NewFeatureServiceClient(conn).GetHistoricalFeatures(ctx)
		if err != nil {
			t.Fatal(err)
		}
		send(t, stream, &twofoldv1.GetHistoricalFeaturesRequest{Message: &twofoldv1.GetHistoricalFeaturesRequest_Header{Header: trainingHeader()}})
		send(t, stream, arrowChunk(rows[:cut]))
		await(t, "the decoder to begin", decoding)
		cancel()
		await(t, "the decoder to end", func() bool { return !decoding() })
	}
}
