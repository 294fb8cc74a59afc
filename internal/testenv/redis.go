package testenv

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisServer is a redis-server on the loopback network, empty and without persistence unless its arguments say otherwise.
type RedisServer struct {
	// Addr is "host:port".
	Addr string
	// URL is "redis://host:port", without user and password.
	URL string

	program string
	args    []string
	ready   string
	process *process
	output  *awaitedOutput
}

// redisStartTimeout is how long a start may take; the server is ready in some milliseconds where the machine is not busy.
const redisStartTimeout = 30 * time.Second

// Redis starts a Redis server that belongs to this test alone, with more arguments of redis-server: "--maxmemory", "10mb".
// It ends with the test. The program is looked for in REDIS_SERVER, .tools and PATH; without it the test fails, or is
// skipped where TWOFOLD_TEST_SKIP names "redis".
func Redis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	program := redisProgram(t)
	return startRedis(t, program, "Ready to accept connections", func(host, port string) []string {
		return append([]string{"--bind", host, "--port", port, "--save", "", "--appendonly", "no"}, args...)
	})
}

func redisProgram(t testing.TB) string {
	t.Helper()
	skipUnwanted(t, "redis")
	return tool(t, "redis-server", "REDIS_SERVER", `run "make tools", or install it with the system's package manager (Debian: apt-get install redis-server)`)
}

// startRedis starts the program on a free port in a new folder. Somebody else may take the port first, so it tries again.
func startRedis(t testing.TB, program, ready string, arguments func(host, port string) []string) *RedisServer {
	t.Helper()
	var err error
	for range 5 {
		var addr string
		if addr, err = freeAddress(); err != nil {
			break
		}
		host, port, _ := net.SplitHostPort(addr)
		s := &RedisServer{Addr: addr, URL: "redis://" + addr, program: program, ready: ready, args: arguments(host, port)}
		s.args = append(s.args, "--dir", t.TempDir())
		if err = s.start(); err == nil {
			t.Cleanup(func() { s.process.stop() })
			return s
		}
	}
	t.Fatalf("start %s: %v", program, err)
	return nil
}

// start runs the program until it says that it is ready.
func (s *RedisServer) start() error {
	s.output = &awaitedOutput{text: s.ready, seen: make(chan struct{})}
	command := exec.Command(s.program, s.args...)
	command.Stdout, command.Stderr = s.output, s.output
	p, err := startProcess(command)
	if err != nil {
		return err
	}
	s.process = p
	timeout := time.NewTimer(redisStartTimeout)
	defer timeout.Stop()
	select {
	case <-s.output.seen:
		return nil
	case <-p.exited:
		return fmt.Errorf("it ended (%w) and printed:\n%s", p.err, s.output)
	case <-timeout.C:
		p.stop()
		return fmt.Errorf("it was not ready within %v and printed:\n%s", redisStartTimeout, s.output)
	}
}

// Freeze makes the server stop answering: connections stay open, and new ones are still accepted by the kernel.
func (s *RedisServer) Freeze(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGSTOP)
}

// Thaw lets a frozen server go on.
func (s *RedisServer) Thaw(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGCONT)
}

func (s *RedisServer) signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if err := s.process.command.Process.Signal(signal); err != nil {
		t.Fatalf("send %v to redis-server: %v", signal, err)
	}
}

// Kill ends the server at once, as a crash would.
func (s *RedisServer) Kill() { s.process.stop() }

// Restart ends the server and starts it again at the same address. What it did not persist is gone.
func (s *RedisServer) Restart(t testing.TB) {
	t.Helper()
	s.process.stop()
	if err := s.start(); err != nil {
		t.Fatalf("start %s again: %v", s.program, err)
	}
}

// RedisCluster starts a cluster of that many masters, which share the slots evenly, and waits until each of them serves.
func RedisCluster(t testing.TB, nodes int, args ...string) []*RedisServer {
	t.Helper()
	program := redisProgram(t)
	ctx, cancel := context.WithTimeout(t.Context(), redisStartTimeout)
	defer cancel()
	servers := make([]*RedisServer, nodes)
	clients := make([]*redis.Client, nodes)
	buses := make([]string, nodes)
	for i := range nodes {
		servers[i] = startRedis(t, program, "Ready to accept connections", func(host, port string) []string {
			bus, err := freeAddress()
			if err != nil {
				t.Fatal(err)
			}
			_, buses[i], _ = net.SplitHostPort(bus)
			return append([]string{"--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--cluster-enabled", "yes",
				"--cluster-port", buses[i], "--cluster-node-timeout", "5000"}, args...)
		})
		clients[i] = redis.NewClient(&redis.Options{Addr: servers[i].Addr})
		defer clients[i].Close()
		first, last := i*16384/nodes, (i+1)*16384/nodes-1
		must(t, clients[i].Do(ctx, "CLUSTER", "ADDSLOTSRANGE", first, last).Err())
		must(t, clients[i].Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err())
	}
	host, port, _ := net.SplitHostPort(servers[0].Addr)
	for _, c := range clients[1:] {
		must(t, c.Do(ctx, "CLUSTER", "MEET", host, port, buses[0]).Err())
	}
	for i, c := range clients {
		awaitCluster(ctx, t, c, nodes, servers[i])
	}
	return servers
}

// awaitCluster asks a node until it knows all nodes and every slot is served: gossip has no end that could be waited for.
func awaitCluster(ctx context.Context, t testing.TB, c *redis.Client, nodes int, s *RedisServer) {
	t.Helper()
	known := fmt.Sprintf("cluster_known_nodes:%d\r\n", nodes)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		info, err := c.ClusterInfo(ctx).Result()
		if err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, known) && strings.Contains(info, "cluster_slots_ok:16384") {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the Redis cluster did not form: %v\n%s\n%s", err, info, s.output)
		}
	}
}

// RedisSentinel starts a Sentinel that watches the master under a name, alone: its quorum is 1.
func RedisSentinel(t testing.TB, master *RedisServer, name string, lines ...string) *RedisServer {
	t.Helper()
	host, port, _ := net.SplitHostPort(master.Addr)
	return startRedis(t, redisProgram(t), "+monitor master "+name, func(ownHost, ownPort string) []string {
		file := filepath.Join(t.TempDir(), "sentinel.conf")
		config := fmt.Sprintf("bind %s\nport %s\nsentinel monitor %s %s %s 1\n%s\n", ownHost, ownPort, name, host, port, strings.Join(lines, "\n"))
		must(t, os.WriteFile(file, []byte(config), 0o600))
		return []string{file, "--sentinel"}
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// awaitedOutput collects what a process prints and closes seen when a text was among it.
type awaitedOutput struct {
	text string
	seen chan struct{}

	mu      sync.Mutex
	printed []byte
	done    bool
}

// Write appends to what was printed.
func (o *awaitedOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.printed = append(o.printed, p...)
	if !o.done && bytes.Contains(o.printed, []byte(o.text)) {
		o.done = true
		close(o.seen)
	}
	return len(p), nil
}

// String gives what was printed until now.
func (o *awaitedOutput) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(slices.Clone(o.printed))
}
