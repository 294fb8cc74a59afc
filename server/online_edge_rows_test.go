package server_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/storedrow"
	"github.com/twofold-ml/twofold/server/servertest"
)

// TestEdgeNames: a selection that was resolved before answers for no other request, whatever the names of that one hold.
func TestEdgeNames(t *testing.T) {
	e := startEdges(t)
	e.push(t, "users", now.UnixMicro(), client.Int64s("user_id", 1), client.Int64s("n", 10), client.Strings("s", "one"))
	users := client.Int64s("user_id", 1)
	request := func(service string, features ...string) *twofoldv1.GetOnlineFeaturesRequest {
		return &twofoldv1.GetOnlineFeaturesRequest{FeatureService: service, Features: features, Entities: []*twofoldv1.Column{users}}
	}
	for range 2 {
		for _, short := range []bool{false, true} {
			right := request("", "users:n", "users:s")
			right.ShortNames = short
			if _, err := e.ask(t, right); err != nil {
				t.Fatal(err)
			}
		}
		for _, wrong := range []*twofoldv1.GetOnlineFeaturesRequest{
			request("", "users:n\nusers:s"), request("\nusers:n\nusers:s"), request("\nusers:n", "users:s"), request("", "users:n", "users:s", ""),
			request("", "users:n\x00users:s"), request("", "Users:n", "users:s"), request("users:n", "users:s"), request("s\n\nusers:n\nusers:s"),
		} {
			if resp, err := e.ask(t, wrong); err == nil {
				t.Errorf("service %q, features %q: %v", wrong.GetFeatureService(), wrong.GetFeatures(), names(resp.GetColumns()))
			}
		}
	}
	// All online features of a view may be none, beside others.
	got, resp := e.read(t, online1("hidden:* users:*", users))
	wantCells(t, got, map[string][]string{"users:n": {"PRESENT 10"}, "users:s": {`PRESENT "one"`}})
	if len(resp.GetViews()) != 1 {
		t.Errorf("views: %v", resp.GetViews())
	}
}

// TestEdgeColumnsPassedThrough: columns that are no keys come back as they were sent, of every type, statuses and all.
func TestEdgeColumnsPassedThrough(t *testing.T) {
	e := startEdges(t)
	e.push(t, "users", now.UnixMicro(), client.Int64s("user_id", 1), client.Int64s("n", 10), client.Strings("s", "one"))
	entities := []*twofoldv1.Column{
		column("score", feature.Double, 1.5, nil, math.NaN()), client.Int32s("user_id", 1, 2, 1),
		column("tags", feature.StringList, []any{"é", ""}, nil, []any{}), column("at", feature.Timestamp, int64(1), nil, int64(-1)),
		column("users:n", feature.Bool, true, false, nil),
	}
	entities[1].Statuses = []twofoldv1.ValueStatus{0, twofoldv1.ValueStatus_VALUE_STATUS_PRESENT, 0} // UNSPECIFIED is PRESENT
	req := &twofoldv1.GetOnlineFeaturesRequest{Features: []string{"users:n"}, Entities: entities, ShortNames: true}
	resp, err := e.ask(t, req)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range entities {
		if !proto.Equal(want, resp.GetColumns()[i]) {
			t.Errorf("%v came back as %v", want, resp.GetColumns()[i])
		}
	}
	feature := resp.GetColumns()[len(entities)]
	if got, err := cells(feature); err != nil || feature.GetName() != "n" || strings.Join(got, " ") != "PRESENT 10 NOT_FOUND 0 PRESENT 10" {
		t.Errorf("%v: %v, %v", feature, got, err)
	}
	req.OmitEntities, req.ShortNames = true, false // then nothing is passed through, and nothing clashes
	got, _ := e.read(t, req)
	wantCells(t, got, map[string][]string{"users:n": {"PRESENT 10", "NOT_FOUND 0", "PRESENT 10"}})
}

// TestEdgeDamagedRows: bytes that are no row are DATA_LOSS that names the entity, or with allow_partial that row alone.
func TestEdgeDamagedRows(t *testing.T) {
	store := servertest.Memory(t)
	e := startEdges(t, func(c *servertest.Config) { c.Online = store })
	e.push(t, "items", now.UnixMicro(), client.Strings("item_id", "a", "c"), client.Int64s("n", 1, 3))
	schema := &storedrow.Schema{Features: []storedrow.Feature{{Name: "n", Type: feature.Int64}}}
	n := feature.NewColumn(feature.Int64, 1)
	n.AppendInt64(7)
	row, err := storedrow.AppendRow(nil, schema, feature.EventTime(now.UnixMicro()), 0, []*feature.Column{n}, 0)
	if err != nil {
		t.Fatal(err)
	}
	unknown := append([]byte{}, row...)
	unknown[20]++ // a schema that nobody has registered
	for name, c := range map[string]struct {
		row   []byte
		words string
	}{
		"cut":            {row[:len(row)-1], "damaged"},
		"a schema":       {unknown, "schema"},
		"too many slots": {append(append([]byte{}, row...), row[27:]...), "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			item := "broken " + name
			if _, err := store.Write(t.Context(), []driver.Row{{Entity: driver.Entity{Name: "item", Key: []byte(item)}, View: "items", Value: c.row}}); err != nil {
				t.Fatal(err)
			}
			req := online1("items:n", client.Strings("item_id", "a", item, "b", "c"))
			_, err := e.ask(t, req)
			wantError(t, err, codes.DataLoss, "", `view "items"`, fmt.Sprintf("entity item %q", item), c.words)
			req.AllowPartial = true
			got, resp := e.read(t, req)
			wantCells(t, got, map[string][]string{"items:n": {"PRESENT 1", "UNAVAILABLE 0", "NOT_FOUND 0", "PRESENT 3"}})
			if f := resp.GetViews()[0].GetFault(); codes.Code(f.GetCode()) != codes.DataLoss || !strings.Contains(f.GetMessage(), item) {
				t.Errorf("fault: %v", f)
			}
		})
	}
}

// TestEdgeNotUTF8: text that another writer stored, and that no message can carry, is DATA_LOSS at its row, and with allow_partial that row alone
// cannot be read.
func TestEdgeNotUTF8(t *testing.T) {
	e := startEdges(t)
	view, err := e.Definitions.Registry.View("lists")
	if err != nil {
		t.Fatal(err)
	}
	keys, events := feature.NewColumn(feature.String, 0), feature.NewColumn(feature.Timestamp, 0)
	features := feature.NewColumns([]feature.Type{feature.FloatList, feature.StringList, feature.String}, 3)
	for i, text := range []string{"good", "bad \xc3", "\xa9"} {
		keys.AppendString(fmt.Sprint(i))
		events.AppendInt64(now.UnixMicro())
		features[0].AppendList(func(*feature.Column) {})
		features[1].AppendList(func(elem *feature.Column) { elem.AppendString("a"); elem.AppendString(text) })
		features[2].AppendString(text)
	}
	if _, err := e.Online.Write(t.Context(), online.Rows{View: view, Keys: []*feature.Column{keys}, EventTimes: events, Features: features}); err != nil {
		t.Fatal(err)
	}
	items := client.Strings("item_id", "0", "1", "2", "0", "3")
	for _, ref := range []string{"lists:t", "lists:s"} {
		_, err := e.ask(t, online1(ref, items))
		wantError(t, err, codes.DataLoss, "", fmt.Sprintf("%q", ref), "not valid UTF-8", "BYTES")
	}
	got, _ := e.read(t, online1("lists:e", items)) // the text is not asked for
	wantCells(t, got, map[string][]string{"lists:e": {"PRESENT []", "PRESENT []", "PRESENT []", "PRESENT []", "NOT_FOUND []"}})
	e.push(t, "items", now.UnixMicro(), client.Strings("item_id", "1"), client.Int64s("n", 7))
	req := online1("lists:t lists:e items:n", items)
	req.AllowPartial, req.IncludeEventTimes = true, true
	got, resp := e.read(t, req)
	wantCells(t, got, map[string][]string{
		"lists:t": {`PRESENT "good"`, `UNAVAILABLE ""`, `UNAVAILABLE ""`, `PRESENT "good"`, `NOT_FOUND ""`},
		"lists:e": {"PRESENT []", "UNAVAILABLE []", "UNAVAILABLE []", "PRESENT []", "NOT_FOUND []"},
		"items:n": {"NOT_FOUND 0", "PRESENT 7", "NOT_FOUND 0", "NOT_FOUND 0", "NOT_FOUND 0"},
	})
	fault := resp.GetViews()[0].GetFault()
	if codes.Code(fault.GetCode()) != codes.DataLoss || !strings.Contains(fault.GetMessage(), `entity item "1"`) || resp.GetViews()[1].GetFault() != nil {
		t.Errorf("faults: %v", resp.GetViews())
	}
	at := now.UnixMicro()
	if diff := cmp.Diff([]int64{at, 0, 0, at, 0}, resp.GetViews()[0].GetEventTimesMicros()); diff != "" {
		t.Errorf("event times, -want +got:\n%s", diff)
	}
	only := online1("lists:t", client.Strings("item_id", "1", "2"))
	only.AllowPartial = true
	_, err = e.ask(t, only)
	wantError(t, err, codes.DataLoss, "", "UTF-8")
}
