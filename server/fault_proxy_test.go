package server_test

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy passes connections on to a server, and makes them worse.
type proxy struct {
	// address is where it listens.
	address string
	// delay is how long what the server sends is kept back.
	delay atomic.Int64
	// breakAfter is after how many bytes that the server sent a connection breaks; 0 is never. It is looked at all the time.
	breakAfter atomic.Int64
}

// newProxy starts a proxy, which ends with the test.
func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{address: l.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.pass(ctx, c, server) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		wg.Wait()
	})
	return p
}

// pass joins a connection to one to the server until either ends.
func (p *proxy) pass(ctx context.Context, c net.Conn, address string) {
	server, err := net.Dial("tcp", address)
	if err != nil {
		_ = c.Close()
		return
	}
	end := func() { _, _ = c.Close(), server.Close() }
	stop := context.AfterFunc(ctx, end)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer end()
		_, _ = io.Copy(server, c)
	})
	p.back(ctx, c, server)
	end()
	wg.Wait()
}

// back passes on what the server sends.
func (p *proxy) back(ctx context.Context, c, server net.Conn) {
	buffer := make([]byte, 64<<10)
	sent := int64(0)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		p.hold(ctx)
		limit := p.breakAfter.Load()
		if limit > 0 && sent+int64(n) > limit {
			n = int(max(0, min(int64(n), limit-sent)))
			_, _ = c.Write(buffer[:n])
			return
		}
		sent += int64(n)
		if _, err := c.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// hold waits for the delay, which may change meanwhile.
func (p *proxy) hold(ctx context.Context) {
	for begun := time.Now(); time.Since(begun) < time.Duration(p.delay.Load()) && ctx.Err() == nil; {
		pause(ctx, 5*time.Millisecond)
	}
}
