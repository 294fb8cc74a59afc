package testenv

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// RestartWith is Restart with more arguments, which replace earlier ones of the same name from now on: "--requirepass", "another".
func (s *RedisServer) RestartWith(t testing.TB, args ...string) {
	t.Helper()
	s.args = append(s.args, args...)
	s.Restart(t)
}

// RestartLoading ends the server and starts it again, and returns as soon as it answers that it is loading its data, which takes it that long
// for each key: it must have saved some ("SAVE").
func (s *RedisServer) RestartLoading(t testing.TB, perKey time.Duration) {
	t.Helper()
	ready, args := s.ready, s.args
	s.process.stop()
	// By default it looks for commands only every 2 MB of data.
	s.args = append(args[:len(args):len(args)], "--key-load-delay", strconv.FormatInt(perKey.Microseconds(), 10), "--loading-process-events-interval-bytes", "1024")
	s.ready = "RDB memory usage when created" // the first line that it prints when it begins to load
	defer func() { s.ready, s.args = ready, args }()
	if err := s.start(); err != nil {
		t.Fatalf("start %s again: %v", s.program, err)
	}
}

// Do gives the server a command, on a connection of its own, without user and password.
func (s *RedisServer) Do(t testing.TB, args ...any) any {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.Addr, Protocol: 2, DisableIdentity: true})
	defer c.Close()
	answer, err := c.Do(t.Context(), args...).Result()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return answer
}

// RedisReplica starts a replica of a server, and waits until it has its data.
func RedisReplica(t testing.TB, master *RedisServer, args ...string) *RedisServer {
	t.Helper()
	master.Do(t, "CONFIG", "SET", "repl-diskless-sync-delay", "0")
	masterHost, masterPort, _ := net.SplitHostPort(master.Addr)
	return startRedis(t, redisProgram(t), "MASTER <-> REPLICA sync: Finished with success", func(host, port string) []string {
		return append([]string{"--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--replicaof", masterHost + " " + masterPort}, args...)
	})
}

// AwaitReplicated waits until a replica has everything that was written to the server until now.
func (s *RedisServer) AwaitReplicated(t testing.TB) {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.Addr})
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), redisStartTimeout)
	defer cancel()
	// WAIT is about writes of its own connection.
	must(t, c.Watch(ctx, func(tx *redis.Tx) error {
		if err := tx.Set(ctx, "testenv:replicated", "", time.Second).Err(); err != nil {
			return err
		}
		return tx.Wait(ctx, 1, 0).Err()
	}))
}
