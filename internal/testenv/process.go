package testenv

import (
	"bytes"
	"os/exec"
	"runtime"
	"sync"
)

// process is a program that ends, at the latest, when the test binary does.
type process struct {
	command *exec.Cmd
	// exited is closed when the program has ended; err then says how.
	exited chan struct{}
	err    error
}

// startProcess starts the program. The kernel is asked to end it with the thread that started it, so one goroutine keeps that
// thread until the program has ended.
func startProcess(command *exec.Cmd) (*process, error) {
	endWithParent(command)
	p := &process{command: command, exited: make(chan struct{})}
	started := make(chan error)
	go func() {
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
	return p, <-started
}

// stop ends the program and waits until it has ended.
func (p *process) stop() {
	_ = p.command.Process.Kill()
	<-p.exited
}

// lockedBuffer collects what a process prints.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends to what was printed.
func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String gives what was printed until now.
func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
