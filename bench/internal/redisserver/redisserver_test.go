package redisserver

import (
	"strings"
	"testing"
)

const info = "# Memory\r\nused_memory:123456\r\nused_memory_human:120K\r\n\r\n# Server\r\nexecutable:/usr/bin/x:y\r\n"

func TestInfo(t *testing.T) {
	f := parseInfo(info)
	if n, err := f.Int("used_memory"); err != nil || n != 123456 {
		t.Errorf("used_memory is %d, %v", n, err)
	}
	if f["executable"] != "/usr/bin/x:y" || len(f) != 3 {
		t.Errorf("got %v", f)
	}
	if _, err := f.Int("used_memory_human"); err == nil || !strings.Contains(err.Error(), "used_memory_human") {
		t.Errorf("a field that is no number gave %v", err)
	}
	if _, err := f.Int("nothing"); err == nil {
		t.Error("a field that is not there was read")
	}
}

func FuzzInfo(f *testing.F) {
	f.Add(info)
	f.Fuzz(func(t *testing.T, text string) {
		for name := range parseInfo(text) {
			if strings.ContainsAny(name, ":\n") {
				t.Errorf("a field is called %q", name)
			}
		}
	})
}
