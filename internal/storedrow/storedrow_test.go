package storedrow

import (
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

func encode(t testing.TB, schema *Schema, event feature.EventTime, created feature.CreatedTime, cols []*feature.Column) []byte {
	t.Helper()
	row, err := AppendRow(nil, schema, event, created, cols, 0)
	require.NoError(t, err)
	return row
}

// decode reads all wanted features of one row.
func decode(t testing.TB, stored *Schema, wanted []Feature, row []byte) []*feature.Column {
	t.Helper()
	p, err := NewProjection("v", stored, wanted)
	require.NoError(t, err)
	dst := newColumns(wanted)
	require.NoError(t, p.Append(row, dst))
	return dst
}

func requireEqual(t testing.TB, want, got []*feature.Column) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		require.Truef(t, want[i].Equal(got[i]), "column %d (%v): want %v %v, got %v %v",
			i, want[i].Type, want[i].Status, want[i].ValueAt(0), got[i].Status, got[i].ValueAt(0))
	}
}

// TestEncodingIsPinned shows the bytes of one row. If it fails, rows that are stored already may no longer be readable, and
// rows of two versions of Twofold no longer compare as equal.
func TestEncodingIsPinned(t *testing.T) {
	features := []Feature{{"age", feature.Int32}, {"name", feature.String}, {"score", feature.Float}, {"ids", feature.Int64List}, {"tags", feature.StringList}}
	schema := &Schema{Features: features}
	require.Equal(t, "c2db03e3c1604369", fmt.Sprintf("%016x", schema.Fingerprint()))
	cols := newColumns(features)
	cols[0].AppendInt32(-2)
	cols[1].AppendString("Ann")
	cols[2].AppendMissing(feature.Null)
	cols[3].AppendList(func(e *feature.Column) { e.AppendInt64(1); e.AppendInt64(-1) })
	cols[4].AppendList(func(e *feature.Column) { e.AppendString(""); e.AppendString("x") })
	want := strings.Join([]string{
		"09" + "0100000000000000", // event time
		"11" + "feffffffffffffff", // created time
		"19" + "694360c1e303dbc2", // fingerprint
		"22" + "01" + "04",        // nulls: feature 2
		"2a" + "28" + "feffffffffffffff" + "0300000000000000" + "0000000000000000" + "1000000003000000" + "0300000013000000",
		"32" + "16" + "416e6e" + "0100000000000000ffffffffffffffff" + "00" + "0178",
	}, "")
	require.Equal(t, want, hex.EncodeToString(encode(t, schema, 1, -2, cols)))
	require.Equal(t, "09"+"0100000000000000"+"11"+"0000000000000000"+"19"+"0000000000000000"+"3801", hex.EncodeToString(AppendTombstone(nil, 1, 0)))
}

func TestRoundTrip(t *testing.T) {
	r := newRand(t)
	for range 400 {
		features := randomFeatures(r)
		schema := &Schema{Features: features}
		cols := randomRow(r, features)
		event, created := int64(anyBits(r)), int64(anyBits(r))
		prefix := []byte("before")
		whole, err := AppendRow(prefix, schema, feature.EventTime(event), feature.CreatedTime(created), cols, 0)
		require.NoError(t, err)
		require.Equal(t, "before", string(whole[:len(prefix)]))
		row := whole[len(prefix):]

		h, err := ParseHeader(row)
		require.NoError(t, err)
		require.Equal(t, Header{feature.EventTime(event), feature.CreatedTime(created), schema.Fingerprint(), false}, h)
		requireEqual(t, cols, decode(t, schema, features, row))
		_, canonical := parseCanonical(row)
		require.True(t, canonical, "the encoder must write what the fast path reads")

		for _, other := range stubEncodings(t, r, row) {
			h, err := ParseHeader(other)
			require.NoError(t, err)
			require.EqualValues(t, event, h.EventTime)
			require.EqualValues(t, created, h.CreatedTime)
			requireEqual(t, cols, decode(t, schema, features, other))
		}
	}
}

// stubEncodings returns the row as a protobuf library would write it: fields left out where zero, and the same in another order,
// with unpacked slots, an earlier value that a later one replaces, and a field nobody knows.
func stubEncodings(t *testing.T, r *rand.Rand, row []byte) [][]byte {
	var m twofoldv1.StoredRow
	require.NoError(t, proto.Unmarshal(row, &m))
	require.Empty(t, m.ProtoReflect().GetUnknown())
	plain, err := proto.MarshalOptions{Deterministic: true}.Marshal(&m)
	require.NoError(t, err)
	if m.EventTimeMicros != 0 && m.CreatedTimeMicros != 0 {
		require.Equal(t, plain, row, "the canonical encoding is the deterministic one, zero times apart")
	}

	var fields [][]byte
	add := func(number protowire.Number, wire protowire.Type, value func([]byte) []byte) {
		fields = append(fields, value(protowire.AppendTag(nil, number, wire)))
	}
	fixed := func(v uint64) func([]byte) []byte {
		return func(b []byte) []byte { return protowire.AppendFixed64(b, v) }
	}
	add(1, protowire.Fixed64Type, fixed(uint64(m.EventTimeMicros)))
	add(2, protowire.Fixed64Type, fixed(uint64(m.CreatedTimeMicros)))
	add(3, protowire.Fixed64Type, fixed(m.SchemaFingerprint))
	add(4, protowire.BytesType, func(b []byte) []byte { return protowire.AppendBytes(b, append(m.Nulls, 0, 0)) })
	var slots []byte
	for _, s := range m.Slots {
		slots = protowire.AppendFixed64(protowire.AppendTag(slots, 5, protowire.Fixed64Type), s)
	}
	fields = append(fields, slots)
	add(6, protowire.BytesType, func(b []byte) []byte { return protowire.AppendBytes(b, m.Tail) })
	add(8, protowire.VarintType, func(b []byte) []byte { return protowire.AppendVarint(b, uint64(m.TailCompression)) })
	add(999, protowire.BytesType, func(b []byte) []byte { return protowire.AppendString(b, "from a later version") })
	r.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	shuffled := protowire.AppendFixed64(protowire.AppendTag(nil, 2, protowire.Fixed64Type), 12345)
	for _, f := range fields {
		shuffled = append(shuffled, f...)
	}
	return [][]byte{plain, shuffled}
}

func TestTombstone(t *testing.T) {
	stub, err := proto.Marshal(&twofoldv1.StoredRow{EventTimeMicros: 5, Tombstone: true})
	require.NoError(t, err)
	for _, row := range [][]byte{AppendTombstone(nil, 5, 0), stub} {
		h, err := ParseHeader(row)
		require.NoError(t, err)
		require.Equal(t, Header{EventTime: 5, Tombstone: true}, h)
		got := decode(t, &Schema{Features: allTypes()}, allTypes(), row)
		for _, c := range got {
			require.Equal(t, []feature.Status{feature.NotFound}, c.Status)
		}
	}
}

func TestReadByName(t *testing.T) {
	stored := &Schema{Features: []Feature{{"a", feature.Int32}, {"gone", feature.String}, {"b", feature.String}, {"f", feature.Float}, {"n", feature.Int32}}}
	cols := newColumns(stored.Features)
	cols[0].AppendInt32(math.MinInt32)
	cols[1].AppendString("not wanted")
	cols[2].AppendString("B")
	cols[3].AppendFloat(0.1)
	cols[4].AppendMissing(feature.Null)
	row := encode(t, stored, 1, 1, cols)

	wanted := []Feature{{"b", feature.String}, {"f", feature.Double}, {"new", feature.DoubleList}, {"a", feature.Int64}, {"n", feature.Int64}}
	got := decode(t, stored, wanted, row)
	var values []any
	var statuses []feature.Status
	for _, c := range got {
		values = append(values, c.ValueAt(0))
		statuses = append(statuses, c.Status...)
	}
	require.Equal(t, []any{"B", float64(float32(0.1)), nil, int64(math.MinInt32), nil}, values)
	require.Equal(t, []feature.Status{feature.Present, feature.Present, feature.NotFound, feature.Present, feature.Null}, statuses)
	require.Equal(t, float64(math.MinInt32), decode(t, stored, []Feature{{"a", feature.Double}}, row)[0].ValueAt(0))
}

func TestChangedTypeIsRefused(t *testing.T) {
	lossless := map[[2]feature.Type]bool{
		{feature.Int32, feature.Int64}: true, {feature.Int32, feature.Double}: true, {feature.Float, feature.Double}: true,
	}
	for from := feature.Bool; from <= feature.TimestampList; from++ {
		for to := feature.Bool; to <= feature.TimestampList; to++ {
			_, err := NewProjection("weather", &Schema{Features: []Feature{{"wind", from}}}, []Feature{{"wind", to}})
			if from == to || lossless[[2]feature.Type{from, to}] {
				require.NoErrorf(t, err, "%v as %v", from, to)
				continue
			}
			require.Equal(t, fault.Precondition, fault.KindOf(err))
			for _, part := range []string{"weather:wind", from.String(), to.String(), "sync"} {
				require.ErrorContains(t, err, part)
			}
		}
	}
}

func TestCompression(t *testing.T) {
	features := []Feature{{"text", feature.String}, {"n", feature.Int64}}
	schema := &Schema{Features: features}
	cols := newColumns(features)
	cols[0].AppendString(strings.Repeat("flight ", 1000))
	cols[1].AppendInt64(7)
	row := encode(t, schema, 1, 1, cols)
	require.Less(t, len(row), 300)
	requireEqual(t, cols, decode(t, schema, features, row))
	var m twofoldv1.StoredRow
	require.NoError(t, proto.Unmarshal(row, &m))
	require.Equal(t, twofoldv1.TailCompression_TAIL_COMPRESSION_ZSTD, m.TailCompression)
	d, err := zstd.NewReader(nil)
	require.NoError(t, err)
	tail, err := d.DecodeAll(m.Tail, nil)
	require.NoError(t, err)
	require.Equal(t, string(cols[0].BytesAt(0)), string(tail))

	r := newRand(t)
	embedding := []Feature{{"e", feature.FloatList}}
	cols = newColumns(embedding)
	cols[0].AppendList(func(e *feature.Column) {
		for range 1536 {
			e.AppendFloat(r.Float32())
		}
	})
	row = encode(t, &Schema{Features: embedding}, 1, 1, cols)
	require.NoError(t, proto.Unmarshal(row, &m))
	require.Equal(t, twofoldv1.TailCompression_TAIL_COMPRESSION_UNSPECIFIED, m.TailCompression, "random floats gain nothing")
	requireEqual(t, cols, decode(t, &Schema{Features: embedding}, embedding, row))
}

func TestSizeIsBounded(t *testing.T) {
	features := []Feature{{"a", feature.Bytes}, {"b", feature.Bytes}}
	schema := &Schema{Features: features}
	half := make([]byte, MaxTailBytes/2+1)
	cols := newColumns(features)
	cols[0].AppendBytes(half)
	cols[1].AppendBytes(half)
	row, err := AppendRow([]byte("x"), schema, 1, 1, cols, 0)
	require.Equal(t, fault.Exhausted, fault.KindOf(err))
	require.Equal(t, "x", string(row))

	e, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	bomb := e.EncodeAll(make([]byte, MaxTailBytes+1), nil)
	row = stubRow(t, &twofoldv1.StoredRow{SchemaFingerprint: schema.Fingerprint(), Slots: []uint64{1, 1}, Tail: bomb, TailCompression: 1})
	p, err := NewProjection("v", schema, features)
	require.NoError(t, err)
	err = p.Append(row, newColumns(features))
	require.Equal(t, fault.Corrupt, fault.KindOf(err), err)
}

func stubRow(t testing.TB, m *twofoldv1.StoredRow) []byte {
	b, err := proto.Marshal(m)
	require.NoError(t, err)
	return b
}

func TestDamagedRows(t *testing.T) {
	features := []Feature{{"flag", feature.Bool}, {"n", feature.Int32}, {"f", feature.Float}, {"s", feature.String}, {"l", feature.DoubleList}, {"t", feature.StringList}, {"bs", feature.BoolList}}
	schema := &Schema{Features: features}
	fp := schema.Fingerprint()
	good := func() *twofoldv1.StoredRow {
		return &twofoldv1.StoredRow{EventTimeMicros: 1, CreatedTimeMicros: 1, SchemaFingerprint: fp, Slots: make([]uint64, len(features)), Tail: []byte("12345678")}
	}
	p, err := NewProjection("view1", schema, features)
	require.NoError(t, err)
	require.NoError(t, p.Append(stubRow(t, good()), newColumns(features)))

	for name, damage := range map[string]func(*twofoldv1.StoredRow){
		"too few slots":           func(m *twofoldv1.StoredRow) { m.Slots = m.Slots[1:] },
		"too many slots":          func(m *twofoldv1.StoredRow) { m.Slots = append(m.Slots, 0) },
		"no slots":                func(m *twofoldv1.StoredRow) { m.Slots = nil },
		"bool of 2":               func(m *twofoldv1.StoredRow) { m.Slots[0] = 2 },
		"int32 too large":         func(m *twofoldv1.StoredRow) { m.Slots[1] = 1 << 31 },
		"float of 33 bits":        func(m *twofoldv1.StoredRow) { m.Slots[2] = 1 << 32 },
		"string past the tail":    func(m *twofoldv1.StoredRow) { m.Slots[3] = 1<<32 | 8 },
		"offset past the tail":    func(m *twofoldv1.StoredRow) { m.Slots[3] = math.MaxUint64 },
		"part of an element":      func(m *twofoldv1.StoredRow) { m.Slots[4] = 7 },
		"string list cut":         func(m *twofoldv1.StoredRow) { m.Slots[5] = 4 },
		"bool list of 49":         func(m *twofoldv1.StoredRow) { m.Slots[6] = 1 },
		"null past the slots":     func(m *twofoldv1.StoredRow) { m.Nulls = []byte{0x80} },
		"null far past the slots": func(m *twofoldv1.StoredRow) { m.Nulls = []byte{0, 0, 1} },
		"other schema":            func(m *twofoldv1.StoredRow) { m.SchemaFingerprint++ },
		"no schema":               func(m *twofoldv1.StoredRow) { m.SchemaFingerprint = 0 },
		"tombstone with a schema": func(m *twofoldv1.StoredRow) { m.Tombstone = true },
		"unknown compression":     func(m *twofoldv1.StoredRow) { m.TailCompression = 77 },
		"tail that is not zstd":   func(m *twofoldv1.StoredRow) { m.TailCompression = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			m := good()
			damage(m)
			err := p.Append(stubRow(t, m), newColumns(features))
			require.Equal(t, fault.Corrupt, fault.KindOf(err), "%v", err)
			require.ErrorContains(t, err, `"view1"`)
		})
	}
}

// TestRepeatedHeader: whoever looks at the first 27 bytes only and whoever reads every field must not disagree.
func TestRepeatedHeader(t *testing.T) {
	schema := &Schema{Features: []Feature{{"a", feature.Bool}}}
	cols := newColumns(schema.Features)
	cols[0].AppendBool(true)
	row := encode(t, schema, 1, 1, cols)
	p, err := NewProjection("v", schema, schema.Features)
	require.NoError(t, err)
	same := protowire.AppendFixed64(protowire.AppendTag(row[:len(row):len(row)], 1, protowire.Fixed64Type), 1)
	require.NoError(t, p.Append(same, newColumns(schema.Features)))
	other := protowire.AppendFixed64(protowire.AppendTag(row[:len(row):len(row)], 1, protowire.Fixed64Type), 2)
	require.Equal(t, fault.Corrupt, fault.KindOf(p.Append(other, newColumns(schema.Features))))
}

// TestCutRows cuts a row at every byte: each must be an error, for no prefix of a row is a row of the same schema.
func TestCutRows(t *testing.T) {
	r := newRand(t)
	features := allTypes()
	schema := &Schema{Features: features}
	cols := newColumns(features)
	for _, c := range cols {
		appendRandom(r, c)
	}
	cols[6].Reset()
	cols[6].AppendBytes([]byte("a tail that is never empty"))
	row := encode(t, schema, 1, 1, cols)
	p, err := NewProjection("v", schema, features)
	require.NoError(t, err)
	for n := range row {
		if bytesLeft := row[:n]; p.Append(bytesLeft, newColumns(features)) == nil {
			t.Fatalf("the first %d of %d bytes were read as a row", n, len(row))
		}
	}
}

func TestSchema(t *testing.T) {
	schema := &Schema{Features: allTypes()}
	b := schema.AppendProto(nil)
	var m twofoldv1.StoredSchema
	require.NoError(t, proto.Unmarshal(b, &m))
	require.Len(t, m.Features, len(schema.Features))
	for i, f := range m.Features {
		require.Equal(t, schema.Features[i].Name, f.Name)
		require.Equal(t, "VALUE_TYPE_"+schema.Features[i].Type.String(), f.Type.String())
	}
	stub, err := proto.Marshal(&m)
	require.NoError(t, err)
	require.Equal(t, stub, b)
	got, err := DecodeSchema(b)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(schema.Features, got.Features))
	require.Equal(t, schema.Fingerprint(), got.Fingerprint())

	for name, m := range map[string]*twofoldv1.StoredSchema{
		"no name":      {Features: []*twofoldv1.StoredFeature{{Type: 1}}},
		"no type":      {Features: []*twofoldv1.StoredFeature{{Name: "a"}}},
		"unknown type": {Features: []*twofoldv1.StoredFeature{{Name: "a", Type: 257}}},
		"twice":        {Features: []*twofoldv1.StoredFeature{{Name: "a", Type: 1}, {Name: "a", Type: 2}}},
		"line break":   {Features: []*twofoldv1.StoredFeature{{Name: "a\n", Type: 1}}},
	} {
		b, err := proto.Marshal(m)
		require.NoError(t, err)
		_, err = DecodeSchema(b)
		require.Equal(t, fault.Corrupt, fault.KindOf(err), "%s: %v", name, err)
	}
}

func TestFingerprintTellsSchemasApart(t *testing.T) {
	schemas := [][]Feature{
		nil,
		{{"a", feature.Int32}},
		{{"a", feature.Int64}},
		{{"b", feature.Int32}},
		{{"a", feature.Int32}, {"b", feature.Int32}},
		{{"b", feature.Int32}, {"a", feature.Int32}},
		{{"ab", feature.Int32}},
	}
	seen := map[uint64]int{}
	for i, features := range schemas {
		f := (&Schema{Features: features}).Fingerprint()
		require.NotZero(t, f)
		require.NotContains(t, seen, f)
		seen[f] = i
	}
}

func TestSchemaOf(t *testing.T) {
	view := &feature.View{Features: []feature.Feature{{Name: "x", Type: feature.Bool, Online: true}, {Name: "y", Type: feature.Int32}, {Name: "z", Type: feature.Bytes, Online: true}}}
	require.Equal(t, []Feature{{"x", feature.Bool}, {"z", feature.Bytes}}, SchemaOf(view).Features)
}

func TestNewer(t *testing.T) {
	row := func(event, created int64) Header {
		return Header{EventTime: feature.EventTime(event), CreatedTime: feature.CreatedTime(created), Fingerprint: 1}
	}
	dead := Header{EventTime: 5, CreatedTime: 5, Tombstone: true}
	require.True(t, row(6, 0).Newer(row(5, 9)))
	require.False(t, row(5, 9).Newer(row(6, 0)))
	require.True(t, row(5, 6).Newer(row(5, 5)))
	require.False(t, row(5, 4).Newer(row(5, 5)))
	require.True(t, row(5, 5).Newer(row(5, 5)))
	require.True(t, dead.Newer(row(5, 5)))
	require.True(t, dead.Newer(dead))
	require.False(t, row(5, 5).Newer(dead))
	require.True(t, row(5, 6).Newer(dead))
}
