package storedrow

import (
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

func seedRows(f *testing.F) *Schema {
	features := allTypes()
	schema := &Schema{Features: features}
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		row, err := AppendRow(nil, schema, 1, 2, randomRow(r, features), 0)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(row)
	}
	f.Add(AppendTombstone(nil, -1, 0))
	f.Add([]byte{})
	f.Add([]byte{eventTag, 1, 2, 3})
	return schema
}

// FuzzHeader compares what ParseHeader and parse make of any bytes with what the generated stub makes of them.
func FuzzHeader(f *testing.F) {
	seedRows(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var m twofoldv1.StoredRow
		stubErr := proto.Unmarshal(b, &m)
		got, err := parse(b)
		if err != nil {
			if fault.KindOf(err) != fault.Corrupt {
				t.Fatalf("kind %v: %v", fault.KindOf(err), err)
			}
			if hasCanonicalHeader(b) {
				h := canonicalHeader(b)
				if int64(h.EventTime) != m.EventTimeMicros || int64(h.CreatedTime) != m.CreatedTimeMicros || h.Fingerprint != m.SchemaFingerprint {
					return // repeated header fields are refused
				}
			}
			if stubErr == nil && m.Tombstone == (m.SchemaFingerprint == 0) && (m.TailCompression == 0 || m.TailCompression == 1) {
				t.Fatalf("the stub reads %v, we say %v", &m, err)
			}
			return
		}
		if stubErr != nil {
			t.Fatalf("the stub says %v, we read %+v", stubErr, got)
		}
		want := Header{feature.EventTime(m.EventTimeMicros), feature.CreatedTime(m.CreatedTimeMicros), m.SchemaFingerprint, m.Tombstone}
		if got.Header != want || len(got.slots) != 8*len(m.Slots) || string(got.tail) != string(m.Tail) || string(got.nulls) != string(m.Nulls) || got.compression != int32(m.TailCompression) {
			t.Fatalf("the stub reads %v, we read %+v", &m, got)
		}
		h, err := ParseHeader(b)
		if err != nil || h != want {
			t.Fatalf("ParseHeader: %+v, %v; want %+v", h, err, want)
		}
	})
}

// FuzzAppend reads any bytes as a row of every type: it must not panic, and what it accepts must survive a second encoding.
func FuzzAppend(f *testing.F) {
	schema := seedRows(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := NewProjection("v", schema, schema.Features)
		if err != nil {
			t.Fatal(err)
		}
		cols := newColumns(schema.Features)
		if err := p.Append(b, cols); err != nil {
			if fault.KindOf(err) != fault.Corrupt {
				t.Fatalf("kind %v: %v", fault.KindOf(err), err)
			}
			return
		}
		h, err := ParseHeader(b)
		if err != nil || h.Tombstone {
			return
		}
		again, err := AppendRow(nil, schema, h.EventTime, h.CreatedTime, cols, 0)
		if err != nil {
			return // overlapping slots can make a tail that is larger than the limit
		}
		requireEqual(t, cols, decode(t, schema, schema.Features, again))
	})
}

// FuzzSchema compares what DecodeSchema accepts with the generated stub.
func FuzzSchema(f *testing.F) {
	f.Add((&Schema{Features: allTypes()}).AppendProto(nil))
	f.Add([]byte{0x0a, 0x02, 0x0a, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeSchema(b)
		if err != nil {
			if fault.KindOf(err) != fault.Corrupt {
				t.Fatalf("kind %v: %v", fault.KindOf(err), err)
			}
			return
		}
		again, err := DecodeSchema(s.AppendProto(nil))
		if err != nil || again.Fingerprint() != s.Fingerprint() {
			t.Fatalf("%v became %v: %v", s.Features, again, err)
		}
	})
}
