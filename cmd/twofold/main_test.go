package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// buildDir holds the program under test.
var buildDir string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if buildDir, err = os.MkdirTemp("", "twofold-test-"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(buildDir)
		return m.Run()
	}())
}

// program builds the program under test, once, and returns its path.
var program = sync.OnceValue(func() string {
	path := filepath.Join(buildDir, "twofold")
	args := append([]string{"build", "-o", path}, buildFlags...)
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		panic(string(out))
	}
	return path
})

const flights = "../../examples/flights"

// replay is the environment of a process that serves the flights example from its own files, on free ports.
func replay(t *testing.T) []string {
	return []string{
		"TWOFOLD_DEFINITIONS=" + flights + "/definitions", "OFFLINE_STORE_PATH=" + flights + "/offline", "TWOFOLD_CLOCK_START=2013-12-30T21:00:00Z",
		"TWOFOLD_ONLINE_STORE_PATH=" + t.TempDir(), "TWOFOLD_GRPC_ADDRESS=127.0.0.1:0", "TWOFOLD_HTTP_ADDRESS=127.0.0.1:0", "TWOFOLD_LOG_FORMAT=json",
	}
}

// command returns the program with an environment of its own: nothing of the developer's reaches it but PATH and folders.
func command(t *testing.T, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), program(), args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TMPDIR=" + t.TempDir(), "TWOFOLD_SYNC_GRPC_ADDRESS=127.0.0.1:0"}, env...)
	return cmd
}

// result is how one run of the program ended.
type result struct {
	code        int
	out, stderr string
}

// twofold runs the program to its end.
func twofold(t *testing.T, env []string, args ...string) result {
	t.Helper()
	return twofoldIn(t, env, nil, args...)
}

// twofoldIn runs the program with a standard input.
func twofoldIn(t *testing.T, env []string, in []byte, args ...string) result {
	t.Helper()
	cmd := command(t, env, args...)
	var out, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &stderr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	} else if ok && exit.ExitCode() < 0 {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	// No run dumps usage or a stack of causes at its user.
	require.NotContains(t, stderr.String(), "Usage:")
	require.NotContains(t, stderr.String(), "panic")
	require.NotContains(t, stderr.String(), "DATA RACE")
	require.NotContains(t, stderr.String(), "rpc error")
	return result{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// ok requires that a run succeeded, and returns what it printed.
func (r result) ok(t *testing.T) string {
	t.Helper()
	require.Zero(t, r.code, "%s%s", r.out, r.stderr)
	return r.out
}

// daemon is a running process of the program.
type daemon struct {
	cmd *exec.Cmd
	// grpc and http are its addresses.
	grpc, http string

	mu      sync.Mutex
	lines   []string
	changed chan struct{}
	ended   bool
	done    chan error
}

// start runs the program until it says that it is ready, and ends it with the test.
func start(t *testing.T, env []string, args ...string) *daemon {
	t.Helper()
	d := &daemon{cmd: command(t, env, args...), changed: make(chan struct{}), done: make(chan error, 1)}
	stderr, err := d.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, d.cmd.Start())
	go d.read(stderr)
	t.Cleanup(func() {
		if d.cmd.ProcessState == nil {
			_ = d.cmd.Process.Kill()
			<-d.done
		}
	})
	ready := d.wait(t, `"msg":"serving"`, `"msg":"syncing"`)
	var line struct{ GRPC, HTTP string }
	require.NoError(t, json.Unmarshal([]byte(ready), &line))
	d.grpc, d.http = line.GRPC, line.HTTP
	return d
}

func (d *daemon) read(stderr io.Reader) {
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		d.append(lines.Text(), false)
	}
	d.append("", true)
	d.done <- d.cmd.Wait()
}

func (d *daemon) append(line string, ended bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
	d.ended = ended
	close(d.changed)
	d.changed = make(chan struct{})
}

// wait returns the first log line that holds one of the texts, once it is there.
func (d *daemon) wait(t *testing.T, texts ...string) string {
	t.Helper()
	return d.waitAfter(t, 0, texts...)
}

// logged is the number of lines that the process has logged.
func (d *daemon) logged() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.lines)
}

// waitAfter is wait without the lines before that number.
func (d *daemon) waitAfter(t *testing.T, first int, texts ...string) string {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		d.mu.Lock()
		lines, changed, ended := d.lines, d.changed, d.ended
		d.mu.Unlock()
		for _, line := range lines[first:] {
			for _, text := range texts {
				if strings.Contains(line, text) {
					return line
				}
			}
		}
		if ended {
			t.Fatalf("the process ended without saying %q:\n%s", texts, strings.Join(lines, "\n"))
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("the process does not say %q:\n%s", texts, strings.Join(lines, "\n"))
		}
	}
}

// log returns what the process has logged.
func (d *daemon) log() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.lines, "\n")
}

// stop sends a signal and requires that the process then exits with code 0.
func (d *daemon) stop(t *testing.T, signal syscall.Signal) {
	t.Helper()
	require.NoError(t, d.cmd.Process.Signal(signal))
	d.exits(t)
}

// exits requires that the process exits with code 0.
func (d *daemon) exits(t *testing.T) {
	t.Helper()
	select {
	case err := <-d.done:
		require.NoError(t, err, d.log())
	case <-time.After(time.Minute):
		t.Fatalf("the process does not stop:\n%s", d.log())
	}
}

// synced waits until every view of the flights example has been synced.
func (d *daemon) synced(t *testing.T) {
	t.Helper()
	for _, view := range []string{"weather", "aircraft", "carrier_delays", "aircraft_delays"} {
		d.wait(t, `"msg":"synced","feature_view":"`+view+`"`)
	}
}
