package wire

import (
	"bytes"
	"fmt"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// TestOnlineAnswerIsTheMessage: what is written by hand is byte for byte what protobuf writes.
func TestOnlineAnswerIsTheMessage(t *testing.T) {
	statuses := []feature.Status{feature.Present, feature.Present, feature.Null, feature.NotFound, feature.Expired, feature.Unavailable}
	answer := &OnlineAnswer{}
	rapid.Check(t, func(t *rapid.T) {
		answer.Reset()
		want := &twofoldv1.GetOnlineFeaturesResponse{AsOfMicros: rapid.Int64().Draw(t, "as of")}
		answer.AsOf = feature.AsOf(want.AsOfMicros)
		for range rapid.IntRange(0, 2).Draw(t, "entities") {
			c := drawColumn(t, rapid.SampledFrom(allTypes()).Draw(t, "key type"), statuses[:1])
			m, err := ColumnToProto("key", c, 0, c.Len())
			if err != nil {
				t.Fatal(err)
			}
			m.Statuses = nil
			want.Columns, answer.Entities = append(want.Columns, m), append(answer.Entities, m)
		}
		for i := range rapid.IntRange(0, 5).Draw(t, "columns") {
			c := drawColumn(t, rapid.SampledFrom(allTypes()).Draw(t, "type"), statuses)
			name := fmt.Sprint("view:", i)
			m, err := ColumnToProto(name, c, 0, c.Len())
			if err != nil {
				t.Fatal(err)
			}
			want.Columns = append(want.Columns, m)
			answer.AddColumn(name, c)
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "views") {
			m := &twofoldv1.ViewMetadata{Name: fmt.Sprint("view", i), EventTimesMicros: rapid.SliceOf(rapid.Int64()).Draw(t, "event times")}
			ttl := feature.TTL(rapid.Int64Range(0, 1<<52).Draw(t, "ttl"))
			if ttl != 0 {
				m.Ttl = durationpb.New(ttl.Duration())
			}
			if rapid.Bool().Draw(t, "fault") {
				m.Fault = &status.Status{Code: 14, Message: rapid.String().Draw(t, "message")}
			}
			want.Views = append(want.Views, m)
			answer.AddView(m.Name, m.EventTimesMicros, ttl, m.Fault)
		}
		wantBytes, err := proto.MarshalOptions{Deterministic: true}.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		size, err := answer.Size()
		if err != nil {
			t.Fatal(err)
		}
		got, err := answer.Append(make([]byte, 0, size))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, wantBytes) || size != len(got) {
			t.Fatalf("size %d, %d bytes written:\n%x\nwant %d:\n%x", size, len(got), got, len(wantBytes), wantBytes)
		}
	})
}

// TestOnlineAnswerIsUTF8: also where texts are UTF-8 only together, and within lists.
func TestOnlineAnswerIsUTF8(t *testing.T) {
	texts := func(values ...string) *feature.Column {
		c := feature.NewColumn(feature.String, 0)
		for _, v := range values {
			c.AppendString(v)
		}
		return c
	}
	list := feature.NewColumn(feature.StringList, 0)
	list.AppendList(func(*feature.Column) {})
	list.AppendList(func(e *feature.Column) { e.AppendString("a"); e.AppendString("\xff") })
	for name, c := range map[string]struct {
		column *feature.Column
		row    int
	}{
		"broken":              {texts("", "a\xff"), 1},
		"split in the middle": {texts("ok", "\xc3", "\xa9"), 1},
		"in a list":           {list, 1},
	} {
		a := &OnlineAnswer{}
		a.AddColumn("v:f", c.column)
		_, err := a.Size()
		_, want := ColumnToProto("v:f", c.column, 0, c.column.Len())
		if fault.KindOf(err) != fault.Corrupt || want == nil || err.Error() != want.Error() {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	a := &OnlineAnswer{}
	a.AddColumn("v:f", texts("é", "", "日本", ""))
	if _, err := a.Size(); err != nil {
		t.Error(err)
	}
}
