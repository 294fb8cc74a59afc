package fault

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestKindOf(t *testing.T) {
	unavailable := New(Unavailable, "no answer from %s: %w", "redis", io.ErrUnexpectedEOF)
	for _, c := range []struct {
		err  error
		want Kind
	}{
		{nil, Internal},
		{io.EOF, Internal},
		{unavailable, Unavailable},
		{fmt.Errorf("read: %w", unavailable), Unavailable},
		{New(Corrupt, "outer: %w", unavailable), Corrupt}, // the outermost decides
		{errors.Join(io.EOF, unavailable), Unavailable},
		{InvalidField("a.b", "wrong"), Invalid},
	} {
		if got := KindOf(c.err); got != c.want {
			t.Errorf("%v is %v, want %v", c.err, got, c.want)
		}
	}
	if !errors.Is(fmt.Errorf("read: %w", unavailable), io.ErrUnexpectedEOF) {
		t.Error("the cause is lost")
	}
}

func TestErrorText(t *testing.T) {
	if got, want := New(Precondition, "view %q", "v").Error(), `view "v"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	err := InvalidField("entities[0]", "%d rows: %w", 3, io.EOF)
	if got, want := err.Error(), "entities[0]: 3 rows: EOF"; got != want || !errors.Is(err, io.EOF) {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestKindNames(t *testing.T) {
	seen := map[string]bool{}
	for k := Internal; k <= Corrupt; k++ {
		if name := k.String(); name == "" || seen[name] {
			t.Errorf("kind %d is named %q", uint8(k), name)
		}
		seen[k.String()] = true
	}
	if got := Kind(200).String(); got != "Kind(200)" {
		t.Errorf("kind 200 is %q", got)
	}
}
