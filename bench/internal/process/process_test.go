package process

import (
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// timeout is for what takes milliseconds on a machine that is not busy.
const timeout = 30 * time.Second

func shell(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Start("script", exec.Command("sh", "-c", script))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

func has(text string) func(string) bool {
	return func(line string) bool { return strings.Contains(line, text) }
}

func TestAwaitAndStop(t *testing.T) {
	p := shell(t, "echo one; echo ready at 5 >&2; echo two; exec sleep 100")
	line, err := p.Await(timeout, has("ready"))
	if err != nil || line != "ready at 5" {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := p.Await(timeout, has("two")); err != nil {
		t.Fatal(err)
	}
	if err := p.Failed(); err != nil {
		t.Errorf("it still runs: %v", err)
	}
	p.Stop()
	if err := syscall.Kill(p.PID(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there: %v", p.PID(), err)
	}
	p.Stop() // once more does nothing
}

func TestAwaitTellsWhatAProgramThatEndedPrinted(t *testing.T) {
	_, err := shell(t, "echo no such port; printf unfinished; exit 3").Await(timeout, has("ready"))
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no such port\nunfinished") {
		t.Errorf("got %v", err)
	}
}

func TestAwaitFindsTheLastLineOfAProgramThatEnded(t *testing.T) {
	p := shell(t, "echo ready")
	<-p.Exited()
	if _, err := p.Await(timeout, has("ready")); err != nil {
		t.Error(err)
	}
}

func TestAwaitGivesUp(t *testing.T) {
	_, err := shell(t, "echo waiting; exec sleep 100").Await(time.Millisecond, has("ready"))
	if err == nil || !strings.Contains(err.Error(), "was not ready within 1ms") {
		t.Errorf("got %v", err)
	}
}

func TestStartOfNoProgram(t *testing.T) {
	if _, err := Start("nothing", exec.Command("/no/such/program")); err == nil || !strings.Contains(err.Error(), "start nothing") {
		t.Errorf("got %v", err)
	}
	if _, err := Find("no-such-program", "build it"); err == nil || err.Error() != "no-such-program is not found in PATH; build it" {
		t.Errorf("got %v", err)
	}
}

func TestOutputKeepsTheLastLines(t *testing.T) {
	o := newOutput()
	for range keptLines + 7 {
		_, _ = o.Write([]byte("li"))
		_, _ = o.Write([]byte("ne\nli"))
		_, _ = o.Write([]byte("ne 2\n"))
	}
	lines, _ := o.since(0)
	if len(lines) != keptLines || lines[0] != "line" || lines[1] != "line 2" {
		t.Errorf("%d lines: %q, …", len(lines), lines[:2])
	}
	if lines, _ := o.since(2*(keptLines+7) - 1); len(lines) != 1 || lines[0] != "line 2" {
		t.Errorf("the last line is %q", lines)
	}
}
