// Package redisserver runs a redis-server for a benchmark: on the loopback network, on a free port, without persistence.
package redisserver

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/twofold-ml/twofold/bench/internal/process"
)

// startTimeout is how long a start may take on a busy machine.
const startTimeout = 20 * time.Second

// Server is a running redis-server.
type Server struct {
	// Addr is "host:port".
	Addr string

	process *process.Process
	folder  string
}

// Start starts the redis-server found in PATH, with more arguments of it: "--hash-max-listpack-value", "1024".
func Start(args ...string) (*Server, error) {
	program, err := process.Find("redis-server", `install it with the system's package manager (Debian: apt-get install redis-server)`)
	if err != nil {
		return nil, err
	}
	for range 5 { // somebody else may take the free port first
		var s *Server
		if s, err = start(program, args); err == nil {
			return s, nil
		}
	}
	return nil, err
}

func start(program string, args []string) (*Server, error) {
	addr, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "twofold-bench-redis-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for redis-server: %w", err)
	}
	host, port, _ := net.SplitHostPort(addr)
	args = append([]string{"--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--dir", folder}, args...)
	p, err := process.Start("redis-server", exec.Command(program, args...))
	if err != nil {
		_ = os.RemoveAll(folder) // the first error counts
		return nil, err
	}
	s := &Server{Addr: addr, process: p, folder: folder}
	if _, err := p.Await(startTimeout, func(line string) bool { return strings.Contains(line, "Ready to accept connections") }); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// URL returns "redis://host:port".
func (s *Server) URL() string { return "redis://" + s.Addr }

// PID returns the process id.
func (s *Server) PID() int { return s.process.PID() }

// Stop ends the server and removes its folder.
func (s *Server) Stop() {
	s.process.Stop()
	_ = os.RemoveAll(s.folder) // nothing was persisted
}

// Info asks a server for one section of INFO.
func Info(ctx context.Context, client *redis.Client, section string) (Fields, error) {
	text, err := client.Info(ctx, section).Result()
	if err != nil {
		return nil, fmt.Errorf("ask redis-server for INFO %s: %w", section, err)
	}
	return parseInfo(text), nil
}

// Fields are the fields of an INFO answer by name.
type Fields map[string]string

func parseInfo(text string) Fields {
	fields := Fields{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && !strings.HasPrefix(name, "#") {
			fields[name] = value
		}
	}
	return fields
}

// Int returns a field that is a whole number.
func (f Fields) Int(name string) (int64, error) {
	text, ok := f[name]
	if !ok {
		return 0, fmt.Errorf("INFO of redis-server has no field %s", name)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("INFO of redis-server: field %s: %w", name, err)
	}
	return n, nil
}
