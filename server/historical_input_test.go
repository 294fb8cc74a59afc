package server_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net"
	"path/filepath"
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

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/server"
	"github.com/twofold-ml/twofold/server/servertest"
)

// far are times that no feature row is near to, and the farthest that there are.
var far = map[string]int64{
	"the year 1":    time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro(),
	"1970":          0,
	"the year 9999": time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).UnixMicro(),
	"least":         math.MinInt64,
	"most":          math.MaxInt64,
}

// TestHistoricalFarTimes: before every feature row nothing is found, after all of them the last, unless the ttl has passed.
func TestHistoricalFarTimes(t *testing.T) {
	env := start(t)
	for name, at := range far {
		rows := new(servertest.Table).Add("user_id", feature.Int64, 1).Add("item_id", feature.String, "a").Add("event_timestamp", feature.Timestamp, at)
		got := mustTrain(t, env, &header{Features: []string{"profile:name", "price:name"}, IncludeEventTimes: true}, tableChunks(t, rows, 1)...)
		want := map[string][]string{"profile:name": {"NOT_FOUND"}, "price:name": {"NOT_FOUND"}, "price:event_timestamp": {"NOT_FOUND"}, "event_timestamp": {fmt.Sprint(at)}}
		if at > ago(0) {
			want["price:name"], want["price:event_timestamp"] = []string{"apple"}, []string{fmt.Sprint(ago(1000 * time.Hour))}
		}
		t.Log(name)
		wantColumns(t, got.cells, want)
	}
}

// arrowRecord makes a record of arrays.
func arrowRecord(t *testing.T, columns map[string]arrow.Array) arrow.RecordBatch {
	t.Helper()
	var fields []arrow.Field
	var arrays []arrow.Array
	rows := 0
	for name, a := range columns {
		fields, arrays, rows = append(fields, arrow.Field{Name: name, Type: a.DataType(), Nullable: true}), append(arrays, a), a.Len()
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), arrays, int64(rows))
}

// jsonArray makes an array of JSON.
func jsonArray(t *testing.T, dt arrow.DataType, json string) arrow.Array {
	t.Helper()
	a, _, err := array.FromJSON(memory.DefaultAllocator, dt, strings.NewReader(json))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// trainArrow sends a record and asks for Arrow.
func trainArrow(t *testing.T, env *servertest.Env, features []string, record arrow.RecordBatch, options ...ipc.Option) (map[string][]string, *trained, error) {
	t.Helper()
	var stream bytes.Buffer
	w := ipc.NewWriter(&stream, append(options, ipc.WithSchema(record.Schema()))...)
	if err := w.Write(record); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := train(t.Context(), t, env.GRPCAddress, &header{Features: features, Format: twofoldv1.HistoricalFormat_HISTORICAL_FORMAT_ARROW_IPC}, arrowChunk(stream.Bytes()))
	if err != nil {
		return nil, got, err
	}
	return readArrow(t, got.arrow.Bytes()), got, nil
}

// TestHistoricalArrowTimes: whatever the unit and zone of a time, the instant counts; a time without a zone is UTC.
func TestHistoricalArrowTimes(t *testing.T) {
	env := start(t)
	at := now.Add(-2 * time.Hour) // the very time of user 1's newer row
	keys := jsonArray(t, arrow.PrimitiveTypes.Int64, "[1, 1]")
	for unit, perSecond := range map[arrow.TimeUnit]int64{arrow.Second: 1, arrow.Millisecond: 1e3, arrow.Microsecond: 1e6, arrow.Nanosecond: 1e9} {
		for _, zone := range []string{"", "UTC", "Europe/Berlin", "+05:30", "America/New_York"} {
			dt := &arrow.TimestampType{Unit: unit, TimeZone: zone}
			values := at.Unix() * perSecond
			times := jsonArray(t, dt, fmt.Sprintf("[%d, %d]", values, values-1))
			other := jsonArray(t, &arrow.TimestampType{Unit: arrow.Second}, "[1, 2]") // another column, of another kind of time
			record := arrowRecord(t, map[string]arrow.Array{"user_id": keys, "event_timestamp": times, "other": other})
			cells, got, err := trainArrow(t, env, []string{"profile:name"}, record)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"Ann", "NULL"}, cells["profile:name"]); diff != "" { // 28 h before, the older row has expired
				t.Errorf("%v: -want +got:\n%s", dt, diff)
			}
			// The column comes back as it was.
			r, err := ipc.NewReader(bytes.NewReader(got.arrow.Bytes()))
			if err != nil {
				t.Fatal(err)
			}
			if field, _ := r.Schema().FieldsByName("event_timestamp"); !arrow.TypeEqual(field[0].Type, dt) {
				t.Errorf("%v came back as %v", dt, field[0].Type)
			}
			r.Release()
		}
	}
}

func TestHistoricalBadArrow(t *testing.T) {
	env := start(t)
	users := jsonArray(t, arrow.PrimitiveTypes.Int64, "[1, 1]")
	seconds := &arrow.TimestampType{Unit: arrow.Second}
	times := jsonArray(t, seconds, "[1, 2]")
	for name, c := range map[string]struct {
		columns map[string]arrow.Array
		field   string
		words   []string
	}{
		"time past microseconds": {map[string]arrow.Array{"user_id": users, "event_timestamp": jsonArray(t, seconds, "[1, 9223372036854775807]")}, "entity_rows.columns[*]",
			[]string{"event_timestamp", "row 1", "out of range"}},
		"time of floats": {map[string]arrow.Array{"user_id": users, "event_timestamp": jsonArray(t, arrow.PrimitiveTypes.Float64, "[1, 2]")}, "entity_rows.columns[*]",
			[]string{"event_timestamp", "must be TIMESTAMP, not DOUBLE"}},
		"time of words": {map[string]arrow.Array{"user_id": users, "event_timestamp": jsonArray(t, arrow.BinaryTypes.String, `["2026-01-01", ""]`)}, "entity_rows.columns[*]",
			[]string{"event_timestamp", "must be TIMESTAMP, not STRING"}},
		"time of day": {map[string]arrow.Array{"user_id": users, "event_timestamp": jsonArray(t, arrow.FixedWidthTypes.Time32s, `["00:00:01", "00:00:02"]`)}, "entity_rows.columns[*]",
			[]string{"event_timestamp", "time32", "cast it"}},
		"null time": {map[string]arrow.Array{"user_id": users, "event_timestamp": jsonArray(t, seconds, "[1, null]")}, "", []string{"entity row 1", "time is null"}},
		"key of words": {map[string]arrow.Array{"user_id": jsonArray(t, arrow.BinaryTypes.String, `["1", "2"]`), "event_timestamp": times}, "entity_rows.columns[*]",
			[]string{"user_id", "must be INT64, not STRING"}},
		"key of floats": {map[string]arrow.Array{"user_id": jsonArray(t, arrow.PrimitiveTypes.Float64, `[1, 2]`), "event_timestamp": times}, "entity_rows.columns[*]",
			[]string{"user_id", "must be INT64, not DOUBLE"}},
		"key past 63 bits": {map[string]arrow.Array{"user_id": jsonArray(t, arrow.PrimitiveTypes.Uint64, `[1, 18446744073709551615]`), "event_timestamp": times}, "entity_rows.columns[*]",
			[]string{"user_id", "row 1"}},
		"key of lists": {map[string]arrow.Array{"user_id": jsonArray(t, arrow.ListOf(arrow.PrimitiveTypes.Int64), `[[1], [2]]`), "event_timestamp": times}, "entity_rows.columns[*]",
			[]string{"user_id", "INT64_LIST"}},
		"key of structs": {map[string]arrow.Array{"user_id": jsonArray(t, arrow.StructOf(arrow.Field{Name: "id", Type: arrow.PrimitiveTypes.Int64}), `[{"id": 1}, {"id": 2}]`), "event_timestamp": times},
			"entity_rows.columns[*]", []string{"user_id", "struct"}},
		"no key":  {map[string]arrow.Array{"user": users, "event_timestamp": times}, "entity_rows.columns", []string{`"user_id"`, "did you mean", `"user"`}},
		"no time": {map[string]arrow.Array{"user_id": users, "event_time": times}, "entity_rows.columns", []string{`"event_timestamp"`, "header.time_column", "did you mean"}},
	} {
		t.Run(name, func(t *testing.T) {
			record := arrowRecord(t, c.columns)
			field := c.field
			for _, name := range []string{"user_id", "event_timestamp"} {
				if at := record.Schema().FieldIndices(name); len(at) > 0 && len(c.words) > 0 && c.words[0] == name {
					field = strings.Replace(field, "*", fmt.Sprint(at[0]), 1)
				}
			}
			_, _, err := trainArrow(t, env, []string{"profile:name"}, record)
			t.Log(err)
			wantError(t, err, codes.InvalidArgument, field, c.words...)
		})
	}
}

// TestHistoricalTwoArrowStreams: all chunks together are one stream. Where each is one of its own, the rows of those after the first are not left out without a word.
func TestHistoricalTwoArrowStreams(t *testing.T) {
	env := start(t)
	record := arrowRecord(t, map[string]arrow.Array{
		"user_id": jsonArray(t, arrow.PrimitiveTypes.Int64, "[1, 1]"), "event_timestamp": jsonArray(t, &arrow.TimestampType{Unit: arrow.Second}, "[1, 2]"),
	})
	var stream bytes.Buffer
	w := ipc.NewWriter(&stream, ipc.WithSchema(record.Schema()))
	if err := w.Write(record); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	h := &header{Features: []string{"profile:name"}, Format: twofoldv1.HistoricalFormat_HISTORICAL_FORMAT_ARROW_IPC}
	if _, err := train(t.Context(), t, env.GRPCAddress, h, arrowChunk(stream.Bytes()), arrowChunk(nil)); err != nil {
		t.Errorf("a stream and an empty chunk: %v", err)
	}
	_, err := train(t.Context(), t, env.GRPCAddress, h, arrowChunk(stream.Bytes()), arrowChunk(stream.Bytes()))
	wantError(t, err, codes.InvalidArgument, "entity_rows.arrow_ipc", "after row 2", "one Arrow IPC stream")
}

// TestHistoricalArrowForms: compressed bodies, keys in dictionaries and small integers are all the same.
func TestHistoricalArrowForms(t *testing.T) {
	env := start(t)
	at := jsonArray(t, &arrow.TimestampType{Unit: arrow.Second}, fmt.Sprintf("[%d, %d, %d]", now.Unix(), now.Unix(), now.Unix()))
	dictionary := func(index arrow.DataType) arrow.Array {
		return jsonArray(t, &arrow.DictionaryType{IndexType: index, ValueType: arrow.BinaryTypes.String}, `["b", null, "a"]`)
	}
	keys := map[string]arrow.Array{
		"strings": jsonArray(t, arrow.BinaryTypes.String, `["b", null, "a"]`), "large strings": jsonArray(t, arrow.BinaryTypes.LargeString, `["b", null, "a"]`),
		"views": jsonArray(t, arrow.BinaryTypes.StringView, `["b", null, "a"]`), "dictionary": dictionary(arrow.PrimitiveTypes.Int32),
		"bytes of a dictionary": dictionary(arrow.PrimitiveTypes.Uint8), "runs": jsonArray(t, arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, arrow.BinaryTypes.String), `["b", null, "a"]`),
	}
	for name, key := range keys {
		for compression, options := range map[string][]ipc.Option{"plain": nil, "lz4": {ipc.WithLZ4()}, "zstd": {ipc.WithZstd()}} {
			cells, _, err := trainArrow(t, env, []string{"price:name"}, arrowRecord(t, map[string]arrow.Array{"item_id": key, "event_timestamp": at}), options...)
			if err != nil {
				t.Errorf("%s, %s: %v", name, compression, err)
				continue
			}
			if diff := cmp.Diff([]string{"bread", "NULL", "apple"}, cells["price:name"]); diff != "" {
				t.Errorf("%s, %s: -want +got:\n%s", name, compression, diff)
			}
		}
	}
	users := map[string]arrow.DataType{"int8": arrow.PrimitiveTypes.Int8, "int32": arrow.PrimitiveTypes.Int32, "uint64": arrow.PrimitiveTypes.Uint64}
	for name, dt := range users {
		cells, _, err := trainArrow(t, env, []string{"profile:name"}, arrowRecord(t, map[string]arrow.Array{"user_id": jsonArray(t, dt, "[1, null, 2]"), "event_timestamp": at}))
		if err != nil || fmt.Sprint(cells["profile:name"]) != "[Ann NULL Bob]" {
			t.Errorf("%s: %v, %v", name, cells, err)
		}
	}
}

// TestHistoricalDictionariesOfManyBatches: a dictionary that grows from batch to batch.
func TestHistoricalDictionariesOfManyBatches(t *testing.T) {
	env := start(t)
	dt := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}
	var stream bytes.Buffer
	var w *ipc.Writer
	for _, items := range []string{`["a"]`, `["a", "b"]`, `["b", "x", "a"]`} {
		record := array.NewRecordBatch(arrow.NewSchema([]arrow.Field{{Name: "item_id", Type: dt, Nullable: true}, {Name: "event_timestamp", Type: arrow.FixedWidthTypes.Timestamp_us}}, nil),
			[]arrow.Array{jsonArray(t, dt, items), jsonArray(t, arrow.FixedWidthTypes.Timestamp_us, fmt.Sprint("[", strings.Repeat(fmt.Sprint(ago(0), ","), strings.Count(items, ",")), ago(0), "]"))}, -1)
		if w == nil {
			w = ipc.NewWriter(&stream, ipc.WithSchema(record.Schema()), ipc.WithDictionaryDeltas(false))
		}
		if err := w.Write(record); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := mustTrain(t, env, &header{Features: []string{"price:name"}}, arrowChunk(stream.Bytes()))
	wantColumns(t, got.cells, map[string][]string{
		"item_id": {"a", "a", "b", "b", "x", "a"}, "price:name": {"apple", "apple", "bread", "bread", "NOT_FOUND", "apple"},
	})
	arrowOut, err := train(t.Context(), t, env.GRPCAddress, &header{Features: []string{"price:name"}, Format: twofoldv1.HistoricalFormat_HISTORICAL_FORMAT_ARROW_IPC}, arrowChunk(stream.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if cells := readArrow(t, arrowOut.arrow.Bytes()); fmt.Sprint(cells["item_id"], cells["price:name"]) != "[a a b b x a] [apple apple bread bread NULL apple]" {
		t.Errorf("got %v", cells)
	}
}

// TestHistoricalFewRows: none, one, and rows of entities that no feature knows.
func TestHistoricalFewRows(t *testing.T) {
	env := start(t)
	for _, users := range [][]any{{}, {1}, {99, 98, nil}} {
		var times []any
		for range users {
			times = append(times, ago(0))
		}
		rows := new(servertest.Table).Add("user_id", feature.Int64, users...).Add("event_timestamp", feature.Timestamp, times...)
		got := mustTrain(t, env, &header{Features: []string{"profile:name"}}, tableChunks(t, rows, 2)...)
		unmatched := len(users)
		if len(users) == 1 {
			unmatched = 0
			wantColumns(t, got.cells, map[string][]string{"profile:name": {"Ann"}})
		}
		if v := got.manifest.GetViews()[0]; got.rows() != len(users) || int(v.GetUnmatchedRows()) != unmatched || len(got.columns) != 3 {
			t.Errorf("%d rows: %d came back, %v", len(users), got.rows(), v)
		}
	}
}

// TestHistoricalStreamStopsHalfWay: a client that goes away or whose connection breaks leaves nothing behind.
func TestHistoricalStreamStopsHalfWay(t *testing.T) {
	env := start(t)
	var wire net.Conn
	dial := grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		var err error
		wire, err = new(net.Dialer).DialContext(ctx, "tcp", address)
		return wire, err
	})
	for name, halfWay := range map[string][]*twofoldv1.GetHistoricalFeaturesRequest{
		"after the header": nil, "columns": tableChunks(t, entityRows(), 1)[:2], "arrow": {arrowChunk(arrowBytes(t, entityRows().Record(t), 1)[:900])},
	} {
		for _, how := range []string{"cancelled", "cut"} {
			ctx, cancel := context.WithCancel(t.Context())
			stream, done, err := openHistorical(ctx, env.GRPCAddress, trainingHeader(), dial)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range halfWay {
				send(t, stream, m)
			}
			await(t, "the call to be taken", func() bool { return inFlight(t, env) == "1" })
			if how == "cut" {
				if err := wire.Close(); err != nil {
					t.Fatal(err)
				}
				_, err := stream.Recv()
				wantError(t, err, codes.Unavailable, "")
			}
			cancel()
			done()
			await(t, name+", "+how+": the call to end", func() bool { return inFlight(t, env) == "0" && !goroutinesOf("(*historicalCall)") })
		}
	}
	mustTrain(t, env, trainingHeader(), tableChunks(t, entityRows(), 1)...)
}

// goroutinesOf reports whether a goroutine is in a function whose name contains this.
func goroutinesOf(function string) bool {
	stacks := make([]byte, 4<<20)
	return bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte(function))
}

// TestHistoricalTenThousandFeatures of one view, where the limit allows it.
func TestHistoricalTenThousandFeatures(t *testing.T) {
	const features = 10_000
	var text strings.Builder
	text.WriteString("entities: [{name: item, keys: [{name: item_id, type: STRING}]}]\nfeature_views:\n  - name: wide\n    entity: item\n" +
		"    source: {path: wide.parquet, event_time_column: at}\n    features:\n")
	rows := new(servertest.Table).Add("item_id", feature.String, "a", "b", "a").Add("at", feature.Timestamp, ago(time.Hour), ago(time.Hour), ago(2*time.Hour))
	for i := range features {
		name := fmt.Sprintf("f%d", i)
		fmt.Fprintf(&text, "      - {name: %s, type: DOUBLE}\n", name)
		rows.Add(name, feature.Double, float64(i), float64(-i), 0.5)
	}
	dir := t.TempDir()
	rows.WriteParquet(t, filepath.Join(dir, "wide.parquet"))
	limit := 5000
	world := func() *servertest.Env {
		return servertest.Start(t, servertest.Config{Definitions: text.String(), Offline: offline.Config{Path: dir}, Change: func(o *server.Options) { o.MaxFeatures = limit }})
	}
	ask := columnChunk(client.Strings("item_id", "b", "a", "c"), client.Timestamps("event_timestamp", now, now, now))
	h := &header{Features: []string{"wide:*"}}
	_, err := train(t.Context(), t, world().GRPCAddress, h, ask)
	wantError(t, err, codes.ResourceExhausted, "header.features", "10000 features", "limit of 5000")
	limit = features + 2
	env := world()
	got := mustTrain(t, env, h, ask)
	for i := range features {
		name := fmt.Sprintf("wide:f%d", i)
		if want := []string{fmt.Sprint(float64(-i)), fmt.Sprint(float64(i)), "NOT_FOUND"}; i > 0 && !cmp.Equal(got.cells[name], want) {
			t.Fatalf("%s: %v, want %v", name, got.cells[name], want)
		}
	}
	if len(got.columns) != features+2 {
		t.Errorf("%d columns", len(got.columns))
	}
}

// manyRows is how many feature rows the one entity of TestHistoricalOneLargeEntity has.
func manyRows() int {
	if testing.Short() || raceEnabled {
		return 200_000
	}
	return 2_000_000
}

// TestHistoricalOneLargeEntity: one entity has all feature rows there are.
func TestHistoricalOneLargeEntity(t *testing.T) {
	features := manyRows()
	items, at, names := feature.NewColumn(feature.String, features), feature.NewColumn(feature.Timestamp, features), feature.NewColumn(feature.String, features)
	amounts := feature.NewColumn(feature.Double, features)
	for i := range features {
		items.AppendString("a")
		at.AppendInt64(int64(i) * 10)
		names.AppendString("x")
		amounts.AppendDouble(float64(i))
	}
	env := start(t, func(c *servertest.Config) {
		(&servertest.Table{Names: []string{"item_id", "at", "amount", "name"}, Columns: []*feature.Column{items, at, amounts, names}}).WriteParquet(t, filepath.Join(c.Offline.Path, "large.parquet"))
		c.Definitions = edit(t, "price.parquet", "large.parquet")
	})
	const rows = 10_000
	keys, times := feature.NewColumn(feature.String, rows), feature.NewColumn(feature.Timestamp, rows)
	for i := range rows {
		keys.AppendString("a")
		times.AppendInt64(int64(i*7919%features)*10 + 5)
	}
	got := mustTrain(t, env, &header{Features: []string{"price:amount"}},
		tableChunks(t, &servertest.Table{Names: []string{"item_id", "event_timestamp"}, Columns: []*feature.Column{keys, times}}, rows)...)
	for i, cell := range got.cells["price:amount"] {
		if want := fmt.Sprint(float64(i * 7919 % features)); cell != want {
			t.Fatalf("row %d: %s, want %s", i, cell, want)
		}
	}
	if got.rows() != rows {
		t.Errorf("%d rows", got.rows())
	}
}

// TestHistoricalManyChunks: rows that come one by one give what they give at once.
func TestHistoricalManyChunks(t *testing.T) {
	rows := 100_000
	if testing.Short() || raceEnabled {
		rows = 5_000
	}
	env := start(t)
	chunk := func(from, to int) *twofoldv1.GetHistoricalFeaturesRequest {
		var users []int64
		var times []time.Time
		for i := from; i < to; i++ {
			users, times = append(users, int64(i%4)), append(times, now.Add(-time.Duration(i)*time.Second))
		}
		return columnChunk(client.Int64s("user_id", users...), client.Timestamps("event_timestamp", times...))
	}
	h := &header{Features: []string{"profile:name"}}
	want := mustTrain(t, env, h, chunk(0, rows))
	stream, done, err := openHistorical(t.Context(), env.GRPCAddress, h)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	for i := range rows {
		if err := stream.Send(chunk(i, i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	got, err := receiveAll(t, stream)
	if err != nil {
		t.Fatal(err)
	}
	if got.rows() != rows || got.manifest.GetContentHash() != want.manifest.GetContentHash() {
		t.Errorf("%d rows, hash %s, want %s", got.rows(), got.manifest.GetContentHash(), want.manifest.GetContentHash())
	}
}
