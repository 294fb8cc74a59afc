package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

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
			m.Generation = rapid.Uint64().Draw(t, "generation")
			want.Views = append(want.Views, m)
			answer.AddView(m.Name, m.EventTimesMicros, ttl, m.Fault, m.Generation)
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

// TestOnlineAnswerSizes: also where lengths take two and three bytes.
func TestOnlineAnswerSizes(t *testing.T) {
	answer := &OnlineAnswer{}
	for _, rows := range []int{0, 1, 15, 16, 31, 32, 62, 63, 64, 126, 127, 128, 129, 2047, 2048, 4096, 16_383, 16_384, 16_385} {
		for _, typ := range allTypes() {
			c := feature.NewColumn(typ, rows)
			for i := range rows {
				appendOrdinal(c, i, rows)
			}
			name := strings.Repeat("n", rows%300)
			m, err := ColumnToProto(name, c, 0, rows)
			if err != nil {
				t.Fatal(err)
			}
			events := make([]int64, rows)
			for i := range events {
				events[i] = int64(i) << 20
			}
			fault := &status.Status{Code: 14, Message: name}
			view := &twofoldv1.ViewMetadata{Name: "v" + name, EventTimesMicros: events, Ttl: durationpb.New(1500 * time.Millisecond), Fault: fault}
			want, err := proto.MarshalOptions{Deterministic: true}.Marshal(&twofoldv1.GetOnlineFeaturesResponse{
				Columns: []*twofoldv1.Column{m, m}, Views: []*twofoldv1.ViewMetadata{view}, AsOfMicros: -1,
			})
			if err != nil {
				t.Fatal(err)
			}
			answer.Reset()
			answer.Entities, answer.AsOf = []*twofoldv1.Column{m}, -1
			answer.AddColumn(name, c)
			answer.AddView("v"+name, events, 1_500_000, fault, 0)
			size, err := answer.Size()
			if err != nil {
				t.Fatal(err)
			}
			got, err := answer.Append(nil)
			if err != nil || size != len(want) || !bytes.Equal(got, want) {
				t.Errorf("%d rows of %v: size %d, %d bytes written, %v; want %d bytes", rows, typ, size, len(got), err, len(want))
			}
		}
	}
}

// appendOrdinal appends a value of its own for each row; the first row's text or list is long.
func appendOrdinal(c *feature.Column, i, rows int) {
	switch c.Type {
	case feature.Bool:
		c.AppendBool(i%3 == 0)
	case feature.Int32:
		c.AppendInt32(int32(i) - 7)
	case feature.Int64, feature.Timestamp:
		c.AppendInt64(int64(i) << 33)
	case feature.Float:
		c.AppendFloat(float32(i) / 3)
	case feature.Double:
		c.AppendDouble(float64(i) / 3)
	case feature.String, feature.Bytes:
		c.AppendString(strings.Repeat("é", max(i%5, (rows-i)/rows*200)))
	default:
		c.AppendList(func(elem *feature.Column) {
			for k := range max(i%3, (rows-i)/rows*130) {
				appendOrdinal(elem, k, rows)
			}
		})
	}
}

// TestOnlineAnswerAfterAnError: memory in which an answer failed is as good as new.
func TestOnlineAnswerAfterAnError(t *testing.T) {
	bad, good := feature.NewColumn(feature.String, 0), feature.NewColumn(feature.String, 0)
	bad.AppendString("\xff")
	good.AppendString("é")
	answer := &OnlineAnswer{}
	answer.AddColumn("bad", bad)
	answer.AddColumn("good", good)
	if _, err := answer.Size(); fault.KindOf(err) != fault.Corrupt {
		t.Fatalf("got %v", err)
	}
	answer.Reset()
	answer.AddColumn("good", good)
	size, err := answer.Size()
	if err != nil {
		t.Fatal(err)
	}
	got, err := answer.Append(nil)
	resp := &twofoldv1.GetOnlineFeaturesResponse{}
	if err != nil || len(got) != size || proto.Unmarshal(got, resp) != nil || len(resp.GetColumns()) != 1 || resp.GetColumns()[0].GetStrings().GetValues()[0] != "é" {
		t.Errorf("%d bytes of %d, %v: %v", len(got), size, err, resp)
	}
}

// FuzzOnlineAnswer makes a column of any type of any bytes: what is written by hand is what protobuf writes, and both refuse the same text.
func FuzzOnlineAnswer(f *testing.F) {
	f.Add(uint8(feature.String), []byte("\x02\xc3\xa9\x01a\x00"), "v:f")
	f.Add(uint8(feature.String), []byte("\x01\xc3\x01\xa9"), "v:f")
	f.Add(uint8(feature.StringList), []byte("\x02\x01a\x00\x00\x01\x01\xff"), "")
	f.Add(uint8(feature.DoubleList), []byte("\x02abcdefgh\x01"), "v")
	f.Add(uint8(feature.Bool), []byte{0, 1, 2, 3, 4, 5}, "é")
	f.Fuzz(func(t *testing.T, kind uint8, content []byte, name string) {
		typ := feature.Bool + feature.Type(kind)%feature.TimestampList
		if !utf8.ValidString(name) {
			t.Skip() // definitions have no such names
		}
		c := feature.NewColumn(typ, 0)
		for len(content) > 0 {
			if content[0]%7 == 6 {
				c.AppendMissing(feature.Null + feature.Status(content[0]/7%4))
				content = content[1:]
				continue
			}
			content = appendContent(c, content)
		}
		answer := &OnlineAnswer{}
		answer.AddColumn(name, c)
		size, err := answer.Size()
		m, wantErr := ColumnToProto(name, c, 0, c.Len())
		if err != nil || wantErr != nil {
			if err == nil || wantErr == nil || err.Error() != wantErr.Error() {
				t.Fatalf("by hand: %v; as a message: %v", err, wantErr)
			}
			return
		}
		want, err := proto.Marshal(&twofoldv1.GetOnlineFeaturesResponse{Columns: []*twofoldv1.Column{m}})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := answer.Append(nil); err != nil || size != len(got) || !bytes.Equal(got, want) {
			t.Fatalf("%v: %x, want %x", err, got, want)
		}
	})
}

// appendContent appends one value made of the first bytes of content, and returns the rest.
func appendContent(c *feature.Column, content []byte) []byte {
	take := func(n int) []byte {
		n = min(n, len(content))
		taken := content[:n]
		content = content[n:]
		return taken
	}
	number := func() uint64 {
		return binary.LittleEndian.Uint64(append(append([]byte{}, take(8)...), make([]byte, 8)...))
	}
	switch c.Type {
	case feature.Bool:
		c.AppendBool(take(1)[0]%2 == 1)
	case feature.Int32:
		c.AppendInt32(int32(number()))
	case feature.Int64, feature.Timestamp:
		c.AppendInt64(int64(number()))
	case feature.Float:
		c.AppendFloat(math.Float32frombits(uint32(number())))
	case feature.Double:
		c.AppendDouble(math.Float64frombits(number()))
	case feature.String, feature.Bytes:
		c.AppendBytes(take(int(take(1)[0])))
	default:
		n := int(take(1)[0])
		c.AppendList(func(elem *feature.Column) {
			for range n {
				if len(content) > 0 {
					content = appendContent(elem, content)
				}
			}
		})
	}
	return content
}
