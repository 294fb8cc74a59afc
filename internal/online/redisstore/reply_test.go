package redisstore

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTakeArray(t *testing.T) {
	for text, want := range map[string][][]byte{
		"*0\r\n":                           {},
		"*1\r\n$3\r\nabc\r\n":              {[]byte("abc")},
		"*2\r\n$0\r\n\r\n$-1\r\n":          {{}, nil},
		"*3\r\n_\r\n$2\r\n\r\n\r\n$-1\r\n": {nil, []byte("\r\n"), nil},
		"*2\r\n$10\r\n0123456789\r\n_\r\n": {[]byte("0123456789"), nil},
	} {
		rows, rest, ok := takeArray([][]byte{}, []byte(text+"*1\r\n"), len(want))
		if !ok || string(rest) != "*1\r\n" {
			t.Errorf("%q: %v, rest %q", text, ok, rest)
		}
		if diff := cmp.Diff(want, rows); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
	for _, text := range []string{
		"", "*", "*1", "*1\r", "*1\r\n", "*2\r\n$1\r\na\r\n", "*1\r\n$1\r\n", "*1\r\n$1\r\na", "*1\r\n$1\r\nab\r\n", "*1\r\n$1\r\na\n\n",
		"-ERR no\r\n", "-MOVED 1 host:1\r\n", "$1\r\na\r\n", "*1\r\n:1\r\n", "*1\r\n$-2\r\n", "*1\r\n$\r\n", "*-1\r\n", "*1\r\n$9999999999\r\n",
		"*1\r\n$x\r\n", "*\r\n", "%1\r\n+a\r\n+b\r\n", "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n", "*1\r\n$99999999999999999999\r\na\r\n",
	} {
		if rows, _, ok := takeArray(nil, []byte(text), 1); ok {
			t.Errorf("%q is taken for %q", text, rows)
		}
	}
}

// FuzzTakeArray: whatever is taken for an answer is one: written again in the same form, it is the same bytes.
func FuzzTakeArray(f *testing.F) {
	f.Add([]byte("*2\r\n$1\r\na\r\n$-1\r\n"), 2)
	f.Add([]byte("*1\r\n_\r\n-ERR"), 1)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		rows, rest, ok := takeArray(nil, b, n)
		if !ok {
			return
		}
		if len(rows) != n {
			t.Fatalf("%d rows where %d were asked for", len(rows), n)
		}
		if size := len(b) - len(rest); !bytes.Equal(b[size:], rest) {
			t.Fatalf("the rest is not the end of what was given")
		}
		var again []byte
		again = fmt.Appendf(again, "*%d\r\n", n)
		for _, row := range rows {
			if row == nil {
				again = append(again, "$-1\r\n"...)
			} else {
				again = fmt.Appendf(again, "$%d\r\n%s\r\n", len(row), row)
			}
		}
		second, rest, ok := takeArray(nil, again, n)
		if !ok || len(rest) != 0 || cmp.Diff(rows, second) != "" {
			t.Fatalf("%q is taken for %q, and that again for %q", b, rows, second)
		}
	})
}

func TestRepliesTakeLargeValuesInPieces(t *testing.T) {
	large := strings.Repeat("0123456789", 300_000)
	r := &replies{}
	for _, text := range []string{large, "", "small"} {
		before := len(r.bytes)
		n, err := io.CopyN(r, strings.NewReader(text+"more"), int64(len(text)))
		if err != nil || n != int64(len(text)) || string(r.bytes[before:]) != text {
			t.Fatalf("%d of %d bytes, %v", n, len(text), err)
		}
	}
	if _, err := io.CopyN(r, strings.NewReader("short"), 100); err == nil {
		t.Error("a value that ends early is no error")
	}
	if n, err := r.ReadFrom(strings.NewReader("all of it")); n != 9 || err != nil || !bytes.HasSuffix(r.bytes, []byte("all of it")) {
		t.Error(n, err)
	}
}
