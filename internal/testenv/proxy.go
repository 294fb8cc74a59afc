package testenv

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy passes TCP connections on to a server, and makes them worse. Its methods may be called at any time.
type Proxy struct {
	// Addr is where it listens: "127.0.0.1:port".
	Addr string

	delay      atomic.Int64
	breakAfter atomic.Int64
	stuck      atomic.Int64 // connections up to this one pass nothing on
	made       atomic.Int64 // connections
}

// Delay keeps back whatever the server sends for that long, from now on.
func (p *Proxy) Delay(d time.Duration) { p.delay.Store(int64(d)) }

// BreakAfter breaks every connection after the server has sent that many bytes over it, in the middle of an answer or not; 0 breaks none.
func (p *Proxy) BreakAfter(bytes int64) { p.breakAfter.Store(bytes) }

// Stick makes the connections that there are pass nothing on any more, without closing them, as those to a host that is gone. New ones are well.
func (p *Proxy) Stick() { p.stuck.Store(p.made.Load()) }

// NewProxy starts a proxy in front of a server ("host:port"), which ends with the test.
func NewProxy(t testing.TB, server string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Addr: l.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			number := p.made.Add(1)
			wg.Go(func() { p.pass(ctx, c, server, number) })
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
func (p *Proxy) pass(ctx context.Context, c net.Conn, address string, number int64) {
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
	p.back(ctx, c, server, number)
	end()
	wg.Wait()
}

// back passes on what the server sends.
func (p *Proxy) back(ctx context.Context, c, server net.Conn, number int64) {
	buffer := make([]byte, 64<<10)
	sent := int64(0)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		p.hold(ctx, number)
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

// hold waits for the delay, which may change meanwhile, and as long as the connection is stuck.
func (p *Proxy) hold(ctx context.Context, number int64) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); time.Since(begun) < time.Duration(p.delay.Load()) || number <= p.stuck.Load(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
