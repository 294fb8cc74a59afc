package feature

import (
	"bytes"
	"math"
	"testing"

	"github.com/twofold-ml/twofold/internal/fault"
)

func decodeColumns(types ...Type) []*Column {
	columns := make([]*Column, len(types))
	for i, t := range types {
		columns[i] = NewColumn(t, 1)
	}
	return columns
}

func TestDecodeKeyRefusesWhatAppendKeyWouldNotWrite(t *testing.T) {
	for _, c := range []struct {
		stored string
		types  []Type
	}{
		{"", []Type{Int64}},
		{"+1", []Type{Int64}},
		{"01", []Type{Int64}},
		{"-0", []Type{Int64}},
		{"1 ", []Type{Int64}},
		{"2147483648", []Type{Int32}},
		{"9223372036854775808", []Type{Int64}},
		{"ab", []Type{String, String}},
		{"2:ab", []Type{String, String}},
		{"2:abc,", []Type{String, String}},
		{"02:ab,c", []Type{String, String}},
		{"-1:ab,c", []Type{String, String}},
		{"9999999999999999999:ab,c", []Type{String, String}},
		{"1:x,1", []Type{Int32, Int32}},
	} {
		if err := DecodeKey(decodeColumns(c.types...), []byte(c.stored)); fault.KindOf(err) != fault.Corrupt || err == nil {
			t.Errorf("%q as %v: got %v, want an error of kind Corrupt", c.stored, c.types, err)
		}
	}
}

func FuzzKeyRoundTrip(f *testing.F) {
	f.Add([]byte("1:a"), int64(math.MinInt64), int32(-1), []byte(""))
	f.Add([]byte(""), int64(0), int32(math.MaxInt32), []byte("a,b"))
	f.Add([]byte("\x00:,"), int64(math.MaxInt64), int32(0), []byte("3:abc,"))
	f.Fuzz(func(t *testing.T, a []byte, b int64, c int32, d []byte) {
		columns := decodeColumns(String, Int64, Int32, Bytes)
		columns[0].AppendBytes(a)
		columns[1].AppendInt64(b)
		columns[2].AppendInt32(c)
		columns[3].AppendBytes(d)
		// Every rotation, so that each type is first, in the middle and last; and each alone.
		for i := range columns {
			roundTrip(t, append(append([]*Column{}, columns[i:]...), columns[:i]...))
			roundTrip(t, columns[i:i+1])
		}
	})
}

func roundTrip(t *testing.T, columns []*Column) {
	t.Helper()
	stored, ok := AppendKey(nil, columns, 0)
	if !ok {
		t.Fatal("a key without nulls has no stored form")
	}
	back := make([]*Column, len(columns))
	for i, c := range columns {
		back[i] = NewColumn(c.Type, 1)
	}
	if err := DecodeKey(back, stored); err != nil {
		t.Fatal(err)
	}
	for i := range columns {
		if !back[i].Equal(columns[i]) {
			t.Fatalf("%q: key %d is %v, was %v", stored, i, back[i].ValueAt(0), columns[i].ValueAt(0))
		}
	}
}

// FuzzDecodeKey shows that any bytes are either refused or the one stored form of the key that they decode to.
func FuzzDecodeKey(f *testing.F) {
	f.Add([]byte("2:ab,1:7,c"))
	f.Add([]byte("2:ab,1:7"))
	f.Add([]byte("0:,2:-7,"))
	f.Add([]byte("99999999999:ab,1:7,c"))
	f.Fuzz(func(t *testing.T, stored []byte) {
		columns := decodeColumns(String, Int32, Bytes)
		if err := DecodeKey(columns, stored); err != nil {
			return
		}
		if again, _ := AppendKey(nil, columns, 0); !bytes.Equal(again, stored) {
			t.Fatalf("%q decodes to a key whose form is %q", stored, again)
		}
	})
}
