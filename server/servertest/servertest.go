// Package servertest runs a whole server inside a test: real stores, real gRPC over loopback, a clock of its own.
package servertest

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/twofold-ml/twofold/client"
	"github.com/twofold-ml/twofold/internal/definition"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/online/pebblestore"
	"github.com/twofold-ml/twofold/server"
	"github.com/twofold-ml/twofold/syncer"
)

// Config is what a test chooses. Every field but Definitions may be left out.
type Config struct {
	// Definitions is YAML, or a path with an @ before it.
	Definitions string
	// Offline says where Parquet files are. Defaults to an empty temporary folder.
	Offline offline.Config
	// Online is the store behind the server, closed with it. Defaults to an embedded store in memory.
	Online driver.Driver
	// Now is the clock. Defaults to time.Now.
	Now func() time.Time
	// Change may change the server's options before it starts.
	Change func(*server.Options)
}

// Env is a running server and what it is made of.
type Env struct {
	// Client is connected to the server.
	Client *client.Client
	// GRPCAddress and HTTPAddress are where the server listens: "127.0.0.1:port".
	GRPCAddress, HTTPAddress string
	Definitions              *definition.Set
	Online                   *online.Store
	Offline                  *offline.Store
	Syncer                   *syncer.Syncer
	// Server is the server itself.
	Server *server.Server
	// Stop tells the server to stop and returns what Serve returned; it may be called more than once.
	Stop func() error
}

// Start runs a server until the test ends.
func Start(t testing.TB, c Config) *Env {
	t.Helper()
	env := &Env{Definitions: parse(t, c.Definitions)}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Online == nil {
		c.Online = Memory(t)
	}
	if c.Offline.Path == "" {
		c.Offline.Path = t.TempDir()
	}
	env.Online = online.NewStore(c.Online, online.Options{Now: c.Now})
	var err error
	if env.Offline, err = offline.Open(t.Context(), c.Offline); err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	if env.Syncer, err = syncer.New(syncer.Options{Registry: env.Definitions.Registry, Online: env.Online, Offline: env.Offline, Now: c.Now, Logger: logger}); err != nil {
		t.Fatal(err)
	}
	options := server.Options{
		Definitions: env.Definitions, Online: env.Online, Offline: env.Offline, Now: c.Now, Logger: logger, DrainTimeout: 5 * time.Second,
		Sync: &syncer.Service{Syncer: env.Syncer, WatchInterval: 10 * time.Millisecond},
	}
	if c.Change != nil {
		c.Change(&options)
	}
	env.run(t, options)
	return env
}

// run starts the server and arranges for its end.
func (env *Env) run(t testing.TB, options server.Options) {
	t.Helper()
	s, err := server.New(options)
	if err != nil {
		t.Fatal(err)
	}
	env.Server = s
	grpcListener, httpListener := listen(t), listen(t)
	env.GRPCAddress, env.HTTPAddress = grpcListener.Addr().String(), httpListener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	var serveErr error
	go func() {
		defer close(done)
		serveErr = s.Serve(ctx, grpcListener, httpListener)
	}()
	env.Stop = func() error {
		cancel()
		<-done
		return serveErr
	}
	if env.Client, err = client.Dial(env.GRPCAddress); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = env.Client.Close() // the connection may have failed in the test
		if err := env.Stop(); err != nil {
			t.Errorf("server: %v", err)
		}
		if err := env.Online.Close(); err != nil {
			t.Errorf("online store: %v", err)
		}
		if err := env.Offline.Close(); err != nil {
			t.Errorf("offline store: %v", err)
		}
	})
}

// Memory returns an embedded store that lives in memory.
func Memory(t testing.TB) driver.Driver {
	t.Helper()
	d, err := pebblestore.Open(pebblestore.Options{InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Reload makes the server and the syncer go by other definitions, YAML or a path with an @ before it, and sets Definitions.
func (env *Env) Reload(t testing.TB, definitions string) {
	t.Helper()
	env.Definitions = parse(t, definitions)
	if err := env.Server.Reload(t.Context(), env.Definitions); err != nil {
		t.Fatal(err)
	}
	env.Syncer.Reload(env.Definitions.Registry)
}

func parse(t testing.TB, definitions string) *definition.Set {
	t.Helper()
	files := []definition.File{{Name: "definitions.yaml", Data: []byte(definitions)}}
	if definitions != "" && definitions[0] == '@' {
		var err error
		if files, err = definition.ReadFiles(definitions[1:]); err != nil {
			t.Fatal(err)
		}
	}
	set, err := definition.Parse(files, definition.Defaults{})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}
