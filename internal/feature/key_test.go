package feature

import (
	"bytes"
	"math"
	"testing"
)

func stringKeys(parts ...string) []*Column {
	keys := make([]*Column, len(parts))
	for i, p := range parts {
		keys[i] = NewColumn(Bytes, 1)
		keys[i].AppendString(p)
	}
	return keys
}

func TestAppendKey(t *testing.T) {
	number := func(typ Type, v int64) *Column {
		c := NewColumn(typ, 1)
		if typ == Int32 {
			c.AppendInt32(int32(v))
		} else {
			c.AppendInt64(v)
		}
		return c
	}
	text := stringKeys("N14228")[0]
	for _, c := range []struct {
		keys []*Column
		want string
	}{
		{[]*Column{text}, "N14228"},
		{[]*Column{number(Int64, math.MinInt64)}, "-9223372036854775808"},
		{[]*Column{number(Int32, math.MinInt32), text}, "11:-2147483648,N14228"},
		{[]*Column{text, number(Int32, 7)}, "6:N14228,7"},
		{stringKeys("", ""), "0:,"},
		{stringKeys("ab", "c"), "2:ab,c"},
		{stringKeys("a", "bc"), "1:a,bc"},
		{stringKeys("a", "1:b", ","), "1:a,3:1:b,,"},
		{stringKeys("\x00\xff"), "\x00\xff"},
		{stringKeys(""), ""},
	} {
		got, ok := AppendKey([]byte("before "), c.keys, 0)
		if !ok || string(got) != "before "+c.want {
			t.Errorf("got %q, %v, want %q", got, ok, c.want)
		}
	}
}

func TestAppendKeyRefusesRowsWithoutAKey(t *testing.T) {
	for missing := range 2 {
		for _, s := range []Status{Null, NotFound, Expired} {
			keys := stringKeys("a", "b")
			keys[missing] = NewColumn(Int64, 1)
			keys[missing].AppendMissing(s)
			if got, ok := AppendKey(nil, keys, 0); ok {
				t.Errorf("key %d is %v, and the stored form %q", missing, s, got)
			}
		}
	}
}

func TestAppendKeyAllocatesNothing(t *testing.T) {
	keys := append(stringKeys("airport"), NewColumn(Int64, 1))
	keys[1].AppendInt64(math.MinInt64)
	keys = append(keys, stringKeys("x")...)
	buffer := make([]byte, 0, 100)
	if n := testing.AllocsPerRun(100, func() { buffer, _ = AppendKey(buffer[:0], keys, 0) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// Two rows of the same number of keys share a stored form only where they are the same: tried for all short keys of the bytes that the
// encoding itself uses.
func TestAppendKeyIsInjective(t *testing.T) {
	short := []string{""}
	for from, length := 0, 0; length < 3; length++ {
		to := len(short)
		for _, s := range short[from:to] {
			for _, b := range "012:," {
				short = append(short, s+string(b))
			}
		}
		from = to
	}
	seen := map[string][2]string{}
	for _, a := range short {
		for _, b := range short {
			stored, ok := AppendKey(nil, stringKeys(a, b), 0)
			if other, clash := seen[string(stored)]; clash || !ok {
				t.Fatalf("(%q, %q) and %q are both stored as %q", a, b, other, stored)
			}
			seen[string(stored)] = [2]string{a, b}
		}
	}
	if len(seen) != len(short)*len(short) || len(short) != 156 {
		t.Errorf("%d forms of %d keys", len(seen), len(short))
	}
}

// FuzzAppendKey: stored forms are equal only for equal keys.
func FuzzAppendKey(f *testing.F) {
	f.Add([]byte("ab"), []byte("c"), []byte("a"), []byte("bc"))
	f.Add([]byte("1:a"), []byte(""), []byte("1"), []byte("a,0:"))
	f.Add([]byte(""), []byte(""), []byte(""), []byte(","))
	f.Fuzz(func(t *testing.T, a1, a2, b1, b2 []byte) {
		a, _ := AppendKey(nil, stringKeys(string(a1), string(a2)), 0)
		b, _ := AppendKey(nil, stringKeys(string(b1), string(b2)), 0)
		if equal := bytes.Equal(a1, b1) && bytes.Equal(a2, b2); bytes.Equal(a, b) != equal {
			t.Fatalf("(%q, %q) is stored as %q and (%q, %q) as %q", a1, a2, a, b1, b2, b)
		}
	})
}

func TestKeyBatchLen(t *testing.T) {
	times := NewColumn(Timestamp, 0)
	times.AppendInt64(1)
	times.AppendInt64(2)
	if n := (KeyBatch{EventTimes: times}).Len(); n != 2 {
		t.Errorf("%d rows", n)
	}
}
