// Package process starts the programs that a benchmark measures, ends them by their id, and reads what the kernel knows of them.
package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopTimeout is how long a program may take to end after it was asked to, before it is killed.
const stopTimeout = 5 * time.Second

// Process is a running program. It does not outlive the process that started it, and gets no signal of the terminal, so that its
// starter decides when it ends.
type Process struct {
	name    string
	command *exec.Cmd
	output  *output
	exited  chan struct{}
	err     error // how it ended; to be read once exited is closed
}

// Start starts the command. Its standard error, and its standard output unless the command has a place for it, are watched: Await
// looks for a line of them, and the last of them are part of the error when it fails.
func Start(name string, command *exec.Cmd) (*Process, error) {
	own(command)
	p := &Process{name: name, command: command, output: newOutput(), exited: make(chan struct{})}
	command.Stderr = p.output
	if command.Stdout == nil {
		command.Stdout = p.output
	}
	// What a child of ours left open does not keep Wait from returning.
	command.WaitDelay = time.Second
	started := make(chan error)
	go func() {
		// The kernel ends the program with the thread that started it, so this goroutine keeps the thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := command.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		p.err = command.Wait()
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// PID returns the process id.
func (p *Process) PID() int { return p.command.Process.Pid }

// Await waits for a line of output that found accepts and returns it. It fails where the program ends before, or after the timeout; the
// error holds what the program printed.
func (p *Process) Await(timeout time.Duration, found func(line string) bool) (string, error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	next := 0
	for {
		lines, changed := p.output.since(next)
		next += len(lines)
		for _, line := range lines {
			if found(line) {
				return line, nil
			}
		}
		select {
		case <-changed:
		case <-p.exited:
			if lines, _ := p.output.since(next); len(lines) > 0 {
				continue
			}
			return "", p.Failed()
		case <-timer.C:
			return "", fmt.Errorf("%s was not ready within %v and printed:\n%s", p.name, timeout, p.output)
		}
	}
}

// Failed returns an error where the program has ended, which is too early; nil while it runs.
func (p *Process) Failed() error {
	select {
	case <-p.exited:
		return fmt.Errorf("%s ended (%s) and printed:\n%s", p.name, p.command.ProcessState, p.output)
	default:
		return nil
	}
}

// Exited is closed when the program has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Ended returns how the program ended, nil while it runs.
func (p *Process) Ended() *os.ProcessState {
	select {
	case <-p.exited:
		return p.command.ProcessState
	default:
		return nil
	}
}

// Stop asks the program to end, kills it where it does not within some seconds, and returns when it has ended.
func (p *Process) Stop() {
	_ = p.command.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-p.exited:
		return
	case <-time.After(stopTimeout):
	}
	_ = p.command.Process.Kill() // as above
	<-p.exited
}

// Output returns the last lines that the program printed.
func (p *Process) Output() string { return p.output.String() }

// keptLines is how many of the last lines of output are kept.
const keptLines = 1000

// output keeps the last lines that were written to it.
type output struct {
	mu      sync.Mutex
	lines   []string
	dropped int // lines before lines[0]
	partial string
	changed chan struct{} // closed with the next line
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

// Write implements io.Writer.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	lines := strings.Split(o.partial+string(b), "\n")
	o.partial = lines[len(lines)-1]
	if len(lines) == 1 {
		return len(b), nil
	}
	o.lines = append(o.lines, lines[:len(lines)-1]...)
	if extra := len(o.lines) - keptLines; extra > 0 {
		o.lines = append([]string(nil), o.lines[extra:]...)
		o.dropped += extra
	}
	close(o.changed)
	o.changed = make(chan struct{})
	return len(b), nil
}

// since returns the lines from number next on that are still kept, and a channel that is closed when there are more.
func (o *output) since(next int) ([]string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	from := min(max(0, next-o.dropped), len(o.lines))
	return append([]string(nil), o.lines[from:]...), o.changed
}

// String returns the lines that are kept.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := strings.Join(o.lines, "\n")
	if o.partial != "" {
		text += "\n" + o.partial
	}
	return strings.TrimSpace(text)
}

// Find returns the path of a program: name itself where it holds a slash, else the one in PATH; install says how to get it.
func Find(name, install string) (string, error) {
	path, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("%s is not found in PATH; %s", name, install)
	}
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	return path, nil
}
