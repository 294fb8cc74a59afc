package server

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestFailureLog(t *testing.T) {
	f, start := &failureLog{}, time.Now()
	admit := func(text string, after time.Duration, leftOut int, ok bool) {
		t.Helper()
		if n, told := f.admit("method", text, start.Add(after)); n != leftOut || told != ok {
			t.Errorf("%q after %v: %d left out, told %v", text, after, n, told)
		}
	}
	admit("down", 0, 0, true)
	admit("down", time.Millisecond, 0, false)
	admit("other", time.Millisecond, 0, true)
	admit("down", 999*time.Millisecond, 0, false)
	admit("down", time.Second, 2, true)
	admit("down", 1500*time.Millisecond, 0, false)
	admit("down", time.Hour, 1, true)
	long := strings.Repeat("x", 2*failureText)
	admit(long+"1", 0, 0, true)
	admit(long+"2", 0, 0, false)
	for i := range 3 * failureKinds {
		f.admit("method", fmt.Sprint(i), start)
	}
	if len(f.kinds) > failureKinds {
		t.Errorf("%d kinds are kept", len(f.kinds))
	}
}
