package server_test

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/online/redisstore"
	"github.com/twofold-ml/twofold/internal/testenv"
	"github.com/twofold-ml/twofold/server/servertest"
)

const edgeDefinitions = `
entities:
  - {name: user, keys: [{name: user_id, type: INT64}]}
  - {name: item, keys: [{name: item_id, type: STRING}]}
  - {name: pair, keys: [{name: user_id, type: INT64}, {name: item_id, type: STRING}]}
  - {name: blob, keys: [{name: left, type: BYTES}, {name: right, type: BYTES}]}
  - {name: code, keys: [{name: code, type: INT32}]}
  - {name: alias, keys: [{name: user_id, type: STRING}]}
feature_views:
  - {name: users, entity: user, ttl: 1h, source: &source {path: none.parquet, event_time_column: at}, sync: &pushed {enabled: false},
     features: [{name: n, type: INT64}, {name: s, type: STRING}]}
  - {name: numbers, entity: user, source: *source, sync: *pushed,
     features: [{name: d, type: DOUBLE}, {name: f, type: FLOAT}, {name: ds, type: DOUBLE_LIST}, {name: fs, type: FLOAT_LIST}]}
  - {name: items, entity: item, source: *source, sync: *pushed, features: [{name: n, type: INT64}]}
  - {name: lists, entity: item, source: *source, sync: *pushed,
     features: [{name: e, type: FLOAT_LIST}, {name: s, type: STRING_LIST}, {name: t, type: STRING}]}
  - {name: pairs, entity: pair, ttl: 30m, source: *source, sync: *pushed, features: [{name: n, type: INT64}]}
  - {name: blobs, entity: blob, source: *source, sync: *pushed, features: [{name: n, type: INT64}]}
  - {name: codes, entity: code, source: *source, sync: *pushed, features: [{name: n, type: INT64}]}
  - {name: hidden, entity: user, source: *source, features: [{name: h, type: INT64, online: false}]}
  - {name: aliases, entity: alias, source: *source, sync: *pushed, features: [{name: n, type: INT64}]}
`

// edges is a server with views that are pushed, whose clock is now.
type edges struct {
	*servertest.Env
	stream *client.OnlineStream
}

func startEdges(t *testing.T, changes ...func(*servertest.Config)) *edges {
	t.Helper()
	config := servertest.Config{Definitions: edgeDefinitions, Now: func() time.Time { return now }}
	for _, change := range changes {
		change(&config)
	}
	env := servertest.Start(t, config)
	return &edges{env, env.Client.OnlineStream(t.Context())}
}

// push writes rows of a view that became true at a time.
func (e *edges) push(t *testing.T, view string, event int64, columns ...*twofoldv1.Column) {
	t.Helper()
	_, values, err := valuesOf(columns[0])
	if err != nil {
		t.Fatal(err)
	}
	rows := len(values)
	times := make([]any, rows)
	for i := range times {
		times[i] = event
	}
	req := &twofoldv1.PushFeaturesRequest{FeatureView: view, Columns: append(columns, column("event_timestamp", feature.Timestamp, times...))}
	resp, err := e.Client.Push(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.GetRowsWritten() != uint64(rows) {
		t.Fatalf("push of %d rows: %v", rows, resp)
	}
}

// ask asks by a call and over a stream, and expects both to say the same.
func (e *edges) ask(t *testing.T, req *twofoldv1.GetOnlineFeaturesRequest) (*twofoldv1.GetOnlineFeaturesResponse, error) {
	t.Helper()
	resp, err := e.Client.Online(t.Context(), req)
	streamed, streamedErr := e.stream.Online(t.Context(), req)
	if diff := cmp.Diff(status.Convert(err).Proto(), status.Convert(streamedErr).Proto(), protocmp.Transform()); diff != "" {
		t.Errorf("the error of a call and of a stream, -call +stream:\n%s", diff)
	}
	if !bytes.Equal(marshalled(t, resp), marshalled(t, streamed)) { // proto.Equal takes its time with millions of values
		t.Error("a call and a stream answer differently")
	}
	return resp, err
}

func marshalled(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// read returns the feature columns of an answer that must come, as cells.
func (e *edges) read(t *testing.T, req *twofoldv1.GetOnlineFeaturesRequest) (map[string][]string, *twofoldv1.GetOnlineFeaturesResponse) {
	t.Helper()
	resp, err := e.ask(t, req)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	columns := resp.GetColumns()
	if !req.GetOmitEntities() {
		columns = columns[len(req.GetEntities()):]
	}
	for _, c := range columns {
		if got[c.GetName()], err = cells(c); err != nil {
			t.Fatal(err)
		}
	}
	return got, resp
}

func online1(features string, entities ...*twofoldv1.Column) *twofoldv1.GetOnlineFeaturesRequest {
	return &twofoldv1.GetOnlineFeaturesRequest{Features: strings.Fields(features), Entities: entities}
}

func wantCells(t *testing.T, got, want map[string][]string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestEdgeManyEntities: users, items and pairs of them in one request, which share the columns of their keys.
func TestEdgeManyEntities(t *testing.T) {
	e := startEdges(t)
	e.push(t, "users", now.UnixMicro(), client.Int64s("user_id", 1, 2), client.Int64s("n", 10, 20), client.Strings("s", "one", "two"))
	e.push(t, "items", now.UnixMicro(), client.Strings("item_id", "a", "b"), client.Int64s("n", 100, 200))
	e.push(t, "pairs", now.UnixMicro(), client.Int64s("user_id", 1, 2), client.Strings("item_id", "a", "b"), client.Int64s("n", 1100, 2200))
	req := online1("pairs:n items:n users:n users:s", column("item_id", feature.String, "a", "b", "b", "a", nil), column("user_id", feature.Int64, int64(1), int64(2), int64(1), nil, int64(2)))
	req.IncludeEventTimes = true
	got, resp := e.read(t, req)
	wantCells(t, got, map[string][]string{
		"pairs:n": {"PRESENT 1100", "PRESENT 2200", "NOT_FOUND 0", "NOT_FOUND 0", "NOT_FOUND 0"},
		"items:n": {"PRESENT 100", "PRESENT 200", "PRESENT 200", "PRESENT 100", "NOT_FOUND 0"},
		"users:n": {"PRESENT 10", "PRESENT 20", "PRESENT 10", "NOT_FOUND 0", "PRESENT 20"},
		"users:s": {`PRESENT "one"`, `PRESENT "two"`, `PRESENT "one"`, `NOT_FOUND ""`, `PRESENT "two"`},
	})
	if diff := cmp.Diff([]string{"item_id", "user_id", "pairs:n", "items:n", "users:n", "users:s"}, names(resp.GetColumns())); diff != "" {
		t.Errorf("order, -want +got:\n%s", diff)
	}
	at := now.UnixMicro()
	want := []*twofoldv1.ViewMetadata{
		{Name: "pairs", EventTimesMicros: []int64{at, at, 0, 0, 0}, Ttl: durationpb.New(30 * time.Minute)},
		{Name: "items", EventTimesMicros: []int64{at, at, at, at, 0}},
		{Name: "users", EventTimesMicros: []int64{at, at, at, 0, at}, Ttl: durationpb.New(time.Hour)},
	}
	if diff := cmp.Diff(want, resp.GetViews(), protocmp.Transform()); diff != "" {
		t.Errorf("views, -want +got:\n%s", diff)
	}
}

// TestEdgeErrors: what is wrong with a request is said with its code, its field and how to mend it, by calls and streams alike.
func TestEdgeErrors(t *testing.T) {
	e := startEdges(t)
	status := func(c *twofoldv1.Column, statuses ...twofoldv1.ValueStatus) *twofoldv1.Column {
		c.Statuses = statuses
		return c
	}
	const present, expired = twofoldv1.ValueStatus_VALUE_STATUS_PRESENT, twofoldv1.ValueStatus_VALUE_STATUS_EXPIRED
	users, items := client.Int64s("user_id", 1, 2), client.Strings("item_id", "a", "b")
	stale := func(d *durationpb.Duration) *twofoldv1.GetOnlineFeaturesRequest {
		return &twofoldv1.GetOnlineFeaturesRequest{Features: []string{"users:n"}, Entities: []*twofoldv1.Column{users}, MaxStaleness: d}
	}
	asOf := func(micros int64) *twofoldv1.GetOnlineFeaturesRequest {
		return &twofoldv1.GetOnlineFeaturesRequest{Features: []string{"users:n"}, Entities: []*twofoldv1.Column{users}, AsOfMicros: &micros}
	}
	cases := map[string]struct {
		req   *twofoldv1.GetOnlineFeaturesRequest
		code  codes.Code
		field string
		words []string
	}{
		"no features":             {online1("", users), codes.InvalidArgument, "features", []string{"feature_service", "view:feature"}},
		"no entities":             {online1("users:n"), codes.InvalidArgument, "entities", []string{`"user_id"`, "INT64", `"user"`}},
		"key missing":             {online1("pairs:n", items), codes.InvalidArgument, "entities", []string{`no column "user_id" (INT64)`, `"pair"`, `did you mean "item_id"?`}},
		"key misspelt":            {online1("pairs:n", items, client.Int64s("userid", 1, 2)), codes.InvalidArgument, "entities", []string{`did you mean "userid"?`}},
		"STRING for INT64":        {online1("users:n", client.Strings("user_id", "1")), codes.InvalidArgument, "entities[0]", []string{`"user_id"`, "INT64", "STRING"}},
		"DOUBLE for INT64":        {online1("users:n", client.Doubles("user_id", 1)), codes.InvalidArgument, "entities[0]", []string{"INT64", "DOUBLE"}},
		"INT64 for INT32":         {online1("codes:n", client.Int64s("code", 1)), codes.InvalidArgument, "entities[0]", []string{"INT32", "INT64"}},
		"INT32 for STRING":        {online1("items:n users:n", users, client.Int32s("item_id", 1, 2)), codes.InvalidArgument, "entities[1]", []string{"STRING", "INT32"}},
		"STRING for BYTES":        {online1("blobs:n", client.Strings("left", "a"), client.Bytes("right", nil)), codes.InvalidArgument, "entities[0]", []string{"BYTES", "STRING"}},
		"a list":                  {online1("users:n", column("user_id", feature.Int64List, []any{int64(1)})), codes.InvalidArgument, "entities[0]", []string{"INT64_LIST"}},
		"keys of two types":       {online1("users:n aliases:n", users), codes.FailedPrecondition, "", []string{`"user_id"`, "INT64", "STRING", `"alias"`, "two requests"}},
		"uneven":                  {online1("pairs:n", users, client.Strings("item_id", "a")), codes.InvalidArgument, "entities[1]", []string{`"item_id" has 1 rows`, `"user_id" has 2`}},
		"uneven beside keys":      {online1("users:n", users, client.Strings("more", "a", "b", "c")), codes.InvalidArgument, "entities[1]", []string{`"more" has 3 rows`}},
		"an empty one":            {online1("pairs:n", users, client.Strings("item_id")), codes.InvalidArgument, "entities[1]", []string{"0 rows"}},
		"a column without name":   {online1("users:n", users, client.Strings("", "a", "b")), codes.InvalidArgument, "entities[1].name", []string{"needs a name"}},
		"statuses of other rows":  {online1("users:n", status(client.Int64s("user_id", 1, 2), present)), codes.InvalidArgument, "entities[0].statuses", []string{"1 statuses for 2 rows"}},
		"a status of answers":     {online1("users:n", status(client.Int64s("user_id", 1, 2), present, expired)), codes.InvalidArgument, "entities[0].statuses[1]", []string{"EXPIRED"}},
		"a status of nobody":      {online1("users:n", status(client.Int64s("user_id", 1), 99)), codes.InvalidArgument, "entities[0].statuses[0]", []string{"99"}},
		"lists that do not fit":   {online1("users:n", users, &twofoldv1.Column{Name: "more", Values: &twofoldv1.Column_Lists{Lists: &twofoldv1.ListArray{Lengths: []uint32{1, 1}}}}), codes.InvalidArgument, "entities[1].lists.elements", nil},
		"a feature twice":         {online1("users:n items:n users:n", users, items), codes.InvalidArgument, "features", []string{`"users:n" is named twice`}},
		"a feature and all":       {online1("users:n users:*", users), codes.InvalidArgument, "features", []string{`"users:n" is named twice`}},
		"an empty name":           {&twofoldv1.GetOnlineFeaturesRequest{Features: []string{""}, Entities: []*twofoldv1.Column{users}}, codes.InvalidArgument, "features", []string{`""`, "view:feature"}},
		"no view":                 {online1(":n", users), codes.NotFound, "", []string{`""`}},
		"no feature":              {online1("users:", users), codes.NotFound, "", []string{`"users"`, `""`}},
		"two colons":              {online1("users:n:s", users), codes.NotFound, "", []string{`"n:s"`}},
		"nothing online":          {online1("hidden:*", users), codes.FailedPrecondition, "", []string{"hidden:*", "online"}},
		"one not online":          {online1("users:* hidden:h", users), codes.FailedPrecondition, "", []string{`"hidden:h"`, "online: false"}},
		"two signs":               {stale(&durationpb.Duration{Seconds: 1, Nanos: -1}), codes.InvalidArgument, "max_staleness", nil},
		"a long time":             {stale(&durationpb.Duration{Seconds: 1 << 60}), codes.InvalidArgument, "max_staleness", nil},
		"before now":              {stale(&durationpb.Duration{Nanos: -1}), codes.InvalidArgument, "max_staleness", []string{"positive"}},
		"the future":              {asOf(now.UnixMicro() + 1), codes.InvalidArgument, "as_of_micros", []string{"later"}},
		"the past":                {asOf(now.UnixMicro()), codes.FailedPrecondition, "", []string{`"users"`, "layout: HISTORY"}},
		"named like a feature":    {online1("items:n", items, client.Strings("items:n", "x", "y")), codes.InvalidArgument, "entities[1].name", []string{`"items:n"`, "feature column", "omit_entities"}},
		"named like a short name": {&twofoldv1.GetOnlineFeaturesRequest{Features: []string{"items:n"}, ShortNames: true, Entities: []*twofoldv1.Column{client.Int64s("n", 1, 2), items}}, codes.InvalidArgument, "entities[0].name", []string{`"n"`, "short_names"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := e.ask(t, c.req)
			wantError(t, err, c.code, c.field, c.words...)
		})
	}
}

// TestEdgeRows: no rows, one entity a thousand times, as many rows as are allowed, and one more.
func TestEdgeRows(t *testing.T) {
	e := startEdges(t)
	e.push(t, "users", now.UnixMicro(), client.Int64s("user_id", 1, 2), column("n", feature.Int64, int64(10), nil), client.Strings("s", "one", "two"))
	none := online1("users:* numbers:fs", client.Int64s("user_id"))
	none.IncludeEventTimes = true
	got, resp := e.read(t, none)
	wantCells(t, got, map[string][]string{"users:n": {}, "users:s": {}, "numbers:fs": {}})
	if len(resp.GetViews()) != 2 || resp.GetViews()[0].GetEventTimesMicros() != nil || resp.GetAsOfMicros() != now.UnixMicro() {
		t.Errorf("no rows: %v", resp)
	}
	for _, rows := range []int{2, 1000, 10_000} {
		users := make([]int64, rows)
		want := map[string][]string{}
		for i := range users {
			users[i] = int64(1 + i%2)
			if rows == 10_000 {
				users[i] = int64(i)
			}
			switch users[i] {
			case 1:
				want["users:n"], want["users:s"] = append(want["users:n"], "PRESENT 10"), append(want["users:s"], `PRESENT "one"`)
			case 2:
				want["users:n"], want["users:s"] = append(want["users:n"], "NULL 0"), append(want["users:s"], `PRESENT "two"`)
			default:
				want["users:n"], want["users:s"] = append(want["users:n"], "NOT_FOUND 0"), append(want["users:s"], `NOT_FOUND ""`)
			}
		}
		got, _ = e.read(t, online1("users:n users:s", client.Int64s("user_id", users...)))
		wantCells(t, got, want)
	}
	_, err := e.ask(t, online1("users:n", client.Int64s("user_id", make([]int64, 10_001)...)))
	wantError(t, err, codes.ResourceExhausted, "entities[0]", "10001 rows", "limit of 10000", "several requests")
}

// TestEdgeKeys: every key is told from every other, whatever its bytes, in memory and on Redis.
func TestEdgeKeys(t *testing.T) {
	stores := map[string]func(t *testing.T) driver.Driver{
		"memory": func(t *testing.T) driver.Driver { return servertest.Memory(t) },
		"redis": func(t *testing.T) driver.Driver {
			store, err := redisstore.Open(redisstore.Options{URL: testenv.Redis(t).URL})
			if err != nil {
				t.Fatal(err)
			}
			return store
		},
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			e := startEdges(t, func(c *servertest.Config) { c.Online = open(t) })
			texts := append(keyValues[feature.String], "A", "é", "e\u0301", " ", "a ", "1:a,b", "a,b", "%00", "NULL", "items", "items:n", "\u202e", "\ufeff", strings.Repeat("k", 8<<10))
			e.checkKeys(t, "items:n", feature.Key{Name: "item_id", Type: feature.String}, texts)
			e.checkKeys(t, "codes:n", feature.Key{Name: "code", Type: feature.Int32}, keyValues[feature.Int32])
			e.checkKeys(t, "numbers:d", feature.Key{Name: "user_id", Type: feature.Int64}, append(keyValues[feature.Int64], int64(1)<<53, int64(1)<<53+1))
			e.checkPairs(t, append(keyValues[feature.Bytes], []byte(":"), []byte("1:"), []byte("0:,"), []byte(",0:"), []byte("{"), []byte("}"), []byte{0xc3, 0x28}))
		})
	}
	e := startEdges(t)
	_, err := e.ask(t, online1("items:n", client.Strings("item_id", "a", strings.Repeat("k", 8<<10+1))))
	wantError(t, err, codes.ResourceExhausted, "entities[0].strings.values[1]", "8193 bytes")
}

// checkKeys writes each key's place in the list and reads all in another order, with strangers among them.
func (e *edges) checkKeys(t *testing.T, ref string, key feature.Key, keys []any) {
	t.Helper()
	view, _, _ := strings.Cut(ref, ":")
	var places, backwards []any
	var want []string
	for i := range keys {
		places = append(places, int64(i))
		backwards = append(backwards, keys[len(keys)-1-i])
		want = append(want, fmt.Sprintf("PRESENT %d", len(keys)-1-i))
	}
	columns := []*twofoldv1.Column{column(key.Name, key.Type, keys...)}
	if view == "numbers" {
		for i := range places {
			places[i], want[len(want)-1-i] = float64(i), "PRESENT "+text(float64(i))
		}
		none := make([]any, len(keys))
		columns = append(columns, column("d", feature.Double, places...), column("f", feature.Float, none...), column("ds", feature.DoubleList, none...), column("fs", feature.FloatList, none...))
	} else {
		columns = append(columns, column("n", feature.Int64, places...))
	}
	e.push(t, view, now.UnixMicro(), columns...)
	got, _ := e.read(t, online1(ref, column(key.Name, key.Type, backwards...)))
	wantCells(t, got, map[string][]string{ref: want})
}

// checkPairs writes and reads every pair of the parts.
func (e *edges) checkPairs(t *testing.T, parts []any) {
	t.Helper()
	var left, right, places []any
	var want []string
	for i, l := range parts {
		for j, r := range parts {
			left, right, places = append(left, l), append(right, r), append(places, int64(i*100+j))
			want = append(want, fmt.Sprintf("PRESENT %d", i*100+j))
		}
	}
	l, r := column("left", feature.Bytes, left...), column("right", feature.Bytes, right...)
	e.push(t, "blobs", now.UnixMicro(), l, r, column("n", feature.Int64, places...))
	got, resp := e.read(t, online1("blobs:n", l, r))
	wantCells(t, got, map[string][]string{"blobs:n": want})
	if !proto.Equal(resp.GetColumns()[0], l) || !proto.Equal(resp.GetColumns()[1], r) {
		t.Error("the keys came back otherwise")
	}
}

// TestEdgeNumbers: every bit of a number comes back: a NaN's payload, quiet or signalling, the sign of zero.
func TestEdgeNumbers(t *testing.T) {
	e := startEdges(t)
	singles := []uint32{0, 1 << 31, 0x7f80_0000, 0xff80_0000, 0x7fc1_2345, 0xff80_0001, 0x7f80_0001, 1, math.MaxUint32}
	doubles := []uint64{0, 1 << 63, 0x7ff0_0000_0000_0000, 0xfff0_0000_0000_0000, 0x7ff8_0000_dead_beef, 0xfff0_0000_0000_0001, 0x7ff0_0000_0000_0001, 1, math.MaxUint64}
	rows := len(singles)
	var users []int64
	d, f := &twofoldv1.DoubleArray{}, &twofoldv1.FloatArray{}
	ones := make([]uint32, rows)
	for i := range rows {
		users, ones[i] = append(users, int64(i)), 1
		d.Values, f.Values = append(d.Values, math.Float64frombits(doubles[i])), append(f.Values, math.Float32frombits(singles[i]))
	}
	lists := func(name string, m *twofoldv1.ListArray) *twofoldv1.Column {
		return &twofoldv1.Column{Name: name, Values: &twofoldv1.Column_Lists{Lists: m}}
	}
	e.push(t, "numbers", now.UnixMicro(), client.Int64s("user_id", users...),
		&twofoldv1.Column{Name: "d", Values: &twofoldv1.Column_Doubles{Doubles: d}}, &twofoldv1.Column{Name: "f", Values: &twofoldv1.Column_Floats{Floats: f}},
		lists("ds", &twofoldv1.ListArray{Lengths: ones, Elements: &twofoldv1.ListArray_Doubles{Doubles: d}}),
		lists("fs", &twofoldv1.ListArray{Lengths: ones, Elements: &twofoldv1.ListArray_Floats{Floats: f}}))
	_, resp := e.read(t, online1("numbers:d numbers:f numbers:ds numbers:fs", client.Int64s("user_id", users...)))
	columns := resp.GetColumns()[1:]
	for i := range rows {
		if got := columns[0].GetDoubles().GetValues()[i]; math.Float64bits(got) != doubles[i] {
			t.Errorf("DOUBLE %x came back as %x", doubles[i], math.Float64bits(got))
		}
		if got := columns[2].GetLists().GetDoubles().GetValues()[i]; math.Float64bits(got) != doubles[i] {
			t.Errorf("an element DOUBLE %x came back as %x", doubles[i], math.Float64bits(got))
		}
		if got := columns[1].GetFloats().GetValues()[i]; math.Float32bits(got) != singles[i] {
			t.Errorf("FLOAT %x came back as %x", singles[i], math.Float32bits(got))
		}
		if got := columns[3].GetLists().GetFloats().GetValues()[i]; math.Float32bits(got) != singles[i] {
			t.Errorf("an element FLOAT %x came back as %x", singles[i], math.Float32bits(got))
		}
		for _, c := range columns {
			if c.GetStatuses()[i] != twofoldv1.ValueStatus_VALUE_STATUS_PRESENT {
				t.Errorf("%s, row %d: %v", c.GetName(), i, c.GetStatuses()[i])
			}
		}
	}
}

// TestEdgeLists: an empty text is not null, nor is an empty list; embeddings and long texts come back whole.
func TestEdgeLists(t *testing.T) {
	e := startEdges(t)
	long := strings.Repeat("é東京🛫", 400_000) // 4.8 MB
	e.push(t, "lists", now.UnixMicro(), client.Strings("item_id", "empty", "null", "some", "long"),
		column("e", feature.FloatList, []any{}, nil, []any{float32(1.5), float32(-2)}, []any{}),
		column("s", feature.StringList, []any{}, nil, []any{"", "a", ""}, []any{long, ""}),
		column("t", feature.String, "", nil, "x", long))
	got, _ := e.read(t, online1("lists:*", client.Strings("item_id", "some", "empty", "null", "nobody", "empty")))
	wantCells(t, got, map[string][]string{
		"lists:e": {"PRESENT " + text([]any{float32(1.5), float32(-2)}), "PRESENT []", "NULL []", "NOT_FOUND []", "PRESENT []"},
		"lists:s": {`PRESENT ["" "a" ""]`, "PRESENT []", "NULL []", "NOT_FOUND []", "PRESENT []"},
		"lists:t": {`PRESENT "x"`, `PRESENT ""`, `NULL ""`, `NOT_FOUND ""`, `PRESENT ""`},
	})
	resp, err := e.ask(t, online1("lists:t lists:s", client.Strings("item_id", "long", "some")))
	if err != nil {
		t.Fatal(err)
	}
	if resp.GetColumns()[1].GetStrings().GetValues()[0] != long || resp.GetColumns()[2].GetLists().GetStrings().GetValues()[0] != long {
		t.Error("a long text came back otherwise")
	}

	rows, width := 1000, 1536
	if raceEnabled {
		rows = 50 // compression is slow there
	}
	items, embeddings := make([]string, rows), make([]float32, rows*width)
	lengths, none := make([]uint32, rows), make([]any, rows)
	for i := range rows {
		items[i], lengths[i] = fmt.Sprint("item ", i), uint32(width)
	}
	for i := range embeddings {
		embeddings[i] = float32(i) / 7
	}
	e.push(t, "lists", now.UnixMicro(), client.Strings("item_id", items...), &twofoldv1.Column{Name: "e", Values: &twofoldv1.Column_Lists{Lists: &twofoldv1.ListArray{
		Lengths: lengths, Elements: &twofoldv1.ListArray_Floats{Floats: &twofoldv1.FloatArray{Values: embeddings}}}}},
		column("s", feature.StringList, none...), column("t", feature.String, none...))
	for _, times := range []int{1, 3} { // 6 MB, and 18 MB
		resp, err = e.ask(t, online1("lists:e", client.Strings("item_id", slices.Repeat(items, times)...)))
		if err != nil {
			t.Fatal(err)
		}
		list := resp.GetColumns()[1].GetLists()
		if !slices.Equal(list.GetLengths(), slices.Repeat(lengths, times)) || !slices.Equal(list.GetFloats().GetValues(), slices.Repeat(embeddings, times)) {
			t.Errorf("%d rows: the embeddings came back otherwise", times*rows)
		}
	}
}
