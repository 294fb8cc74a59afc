package process

import (
	"os"
	"strings"
	"testing"
	"time"
)

// fields of a /proc/PID/stat from the third on, with utime 123 and stime 45.
const statTail = " S 1 77 77 0 -1 4194304 9 8 7 6 123 45 3 2 20 0 9 0 555 1 2 3"

func TestParseStat(t *testing.T) {
	for _, name := range []string{"redis-server", "a b", ") S 1 (", "((", ""} {
		got, err := parseStat("77 (" + name + ")" + statTail)
		if err != nil || got != 1680*time.Millisecond {
			t.Errorf("name %q: %v, %v; want 1.68s", name, got, err)
		}
	}
	for _, text := range []string{"", "77 redis S 1", "77 (redis) S 1 77", "77 (redis)" + strings.Replace(statTail, "123", "-5", 1),
		"77 (redis)" + strings.Replace(statTail, "45", "x", 1)} {
		if got, err := parseStat(text); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("77 (redis-server)" + statTail)
	f.Add("77 (a) b)")
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := parseStat(text); err == nil && d%tick != 0 {
			t.Errorf("%q was read as %v, which is no number of ticks", text, d)
		}
	})
}

func TestCPUTimeGrows(t *testing.T) {
	before, err := CPUTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	after := before
	for x := 1; after-before < 2*tick; { // spins until the kernel has seen it
		for range 1_000_000 {
			x = x*31 + 7
		}
		if after, err = CPUTime(os.Getpid()); err != nil {
			t.Fatal(err, x)
		}
	}
	if _, err := CPUTime(-1); err == nil {
		t.Error("a process that is not there has used CPU time")
	}
}

func TestParseCPUModel(t *testing.T) {
	text := "processor\t: 0\nvendor_id\t: X\nmodel\t\t: 1\nmodel name\t: Some CPU @ 2 GHz: fast\n\nprocessor\t: 1\nmodel name\t: other\n"
	if got := parseCPUModel(text); got != "Some CPU @ 2 GHz: fast" {
		t.Errorf("got %q", got)
	}
	if got := parseCPUModel("processor: 0\n"); got != "unknown processor" {
		t.Errorf("got %q", got)
	}
}

func TestParsePeak(t *testing.T) {
	text := "Name:\tVmHWM: 5\nVmPeak:\t   99 kB\nVmHWM:\t    1234 kB\nVmRSS:\t     7 kB\n"
	if got, err := parsePeak(text); err != nil || got != 1234<<10 {
		t.Errorf("%v, %v; want %d", got, err, 1234<<10)
	}
	for _, text := range []string{"", "VmRSS: 7 kB", "VmHWM: x kB", "VmHWM: -1 kB", "VmHWM:", "VmHWM: 99999999999999999 kB"} {
		if got, err := parsePeak(text); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

func FuzzParsePeak(f *testing.F) {
	f.Add("VmHWM:\t    1234 kB\n")
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := parsePeak(text); err == nil && (n < 0 || n%1024 != 0) {
			t.Errorf("%q was read as %v, which is no number of kB", text, n)
		}
	})
}

func TestPeakIsThatOfTheProcess(t *testing.T) {
	const size = 64 << 20
	memory := make([]byte, size)
	for i := 0; i < size; i += 4096 {
		memory[i] = 1
	}
	if got, err := PeakBytes(os.Getpid()); err != nil || got < size {
		t.Errorf("%v, %v; at least %d bytes were in use", got, err, len(memory))
	}
	if _, err := PeakBytes(-1); err == nil {
		t.Error("a process that is not there has used memory")
	}
}
