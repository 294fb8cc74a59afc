package feature

import (
	"bytes"
	"math"
	"testing"
	"testing/quick"
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

// Two rows of the same number of keys share a stored form only where they are the same.
func TestAppendKeyIsInjective(t *testing.T) {
	same := func(a, b []*Column) bool {
		stored, _ := AppendKey(nil, a, 0)
		other, _ := AppendKey(nil, b, 0)
		return bytes.Equal(stored, other)
	}
	err := quick.Check(func(a1, a2, a3, b1, b2, b3 []byte) bool {
		// Few distinct bytes, those of the encoding itself, make near collisions likely.
		narrow := func(b []byte) string {
			out := make([]byte, len(b)%5)
			for i := range out {
				out[i] = "0123:,"[b[i]%6]
			}
			return string(out)
		}
		a, b := []string{narrow(a1), narrow(a2), narrow(a3)}, []string{narrow(b1), narrow(b2), narrow(b3)}
		equal := a[0] == b[0] && a[1] == b[1] && a[2] == b[2]
		return same(stringKeys(a...), stringKeys(b...)) == equal
	}, &quick.Config{MaxCount: 20_000})
	if err != nil {
		t.Error(err)
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
