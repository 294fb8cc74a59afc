package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/twofold-ml/twofold/internal/config"
	"github.com/twofold-ml/twofold/internal/fault"
)

// demoOptions are the flags of demo.
type demoOptions struct {
	example string
	dir     string
	exit    bool
}

func (a *app) demoCommand() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Serve the flights example and print requests to try",
		Long: `Serves the flights of 2013 from New York, with the process's clock at the end of that year: reads the definitions and
the Parquet files of examples/flights, syncs them into an embedded online store, serves, and prints three requests to
try: a grpcurl line, a "twofold get" and a "twofold train". It runs until it is stopped.

With --exit it makes the three requests itself, compares every answer with what pandas found on the same files
(examples/flights/expected.json), repeats the training set by its manifest, and exits 0, or 1 with the reason.`,
		Example: `  twofold demo
  twofold demo --exit`,
		GroupID: groupServe,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.demo(cmd, o) },
	}
	config.AddFlags(cmd.Flags(), "grpc_address", "http_address", "drain_timeout", "log")
	f := cmd.Flags()
	f.StringVar(&o.example, "example", filepath.Join("examples", "flights"), "`folder` of the example")
	f.StringVar(&o.dir, "dir", "", "`folder` for the online store and the training set (default a temporary one, removed at the end)")
	f.BoolVar(&o.exit, "exit", false, "make the requests, check their answers and exit")
	return cmd
}

// demo is one run of the example.
type demo struct {
	app      *app
	dir      string
	example  string
	expected *expectations
	// address of the server, for a client of this machine, and a connection to it.
	address string
	conn    *grpc.ClientConn
}

func (a *app) demo(cmd *cobra.Command, o demoOptions) error {
	loaded, err := a.load(cmd)
	if err != nil {
		return err
	}
	d := &demo{app: a, example: o.example}
	if d.expected, err = readExpectations(filepath.Join(o.example, "expected.json")); err != nil {
		return err
	}
	remove, err := d.makeDir(o.dir)
	if err != nil {
		return err
	}
	defer remove()
	return d.run(cmd.Context(), d.configuration(loaded, o.exit), o.exit)
}

// makeDir makes the folder of the run; remove removes it again if it is a temporary one.
func (d *demo) makeDir(dir string) (remove func(), err error) {
	if dir != "" {
		d.dir = dir
		return func() {}, os.MkdirAll(dir, 0o755)
	}
	if d.dir, err = os.MkdirTemp("", "twofold-demo-"); err != nil {
		return nil, err
	}
	return func() { _ = os.RemoveAll(d.dir) }, nil
}

// configuration is that of the example: whatever stores the environment names, the demo has its own.
func (d *demo) configuration(loaded *config.Loaded, exit bool) config.Config {
	c := loaded.Config
	c.Definitions = filepath.Join(d.example, "definitions")
	c.OfflineStorePath = filepath.Join(d.example, "offline")
	c.OnlineStore = config.Defaults().OnlineStore
	c.OnlineStore.Path = filepath.Join(d.dir, "online")
	c.SyncInProcess = config.On
	c.ClockStart = d.expected.ClockStart
	// A tour that nobody watches must not depend on a port that may be taken.
	if exit && loaded.Source("grpc_address") == config.FromDefault {
		c.GRPCAddress = "127.0.0.1:0"
	}
	if exit && loaded.Source("http_address") == config.FromDefault {
		c.HTTPAddress = "127.0.0.1:0"
	}
	if loaded.Source("log.level") == config.FromDefault {
		c.Log.Level = "warn"
	}
	return c
}

func (d *demo) run(ctx context.Context, c config.Config, exit bool) error {
	a := d.app
	p, set, err := a.openDefined(ctx, c)
	if err != nil {
		return err
	}
	defer p.close()
	r := set.Registry
	fmt.Fprintf(a.out, "Definitions: %s, %s, %s (%s)\n", count(len(r.Entities()), "entity", "entities"),
		count(len(r.Views()), "feature view", "feature views"), count(len(r.Services()), "feature service", "feature services"), c.Definitions)
	s, err := p.newServing(set)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "Sync of %s into the %s, as of %s:\n", c.OfflineStorePath, p.onlineName, c.ClockStart.Format(time.RFC3339))
	if err := a.syncOnce(ctx, s.syncer, &progressLine{}, syncOptions{}); err != nil {
		return errors.Join(err, s.grpc.Close(), s.http.Close())
	}
	d.address = localAddress(s.grpc)
	serving, stop := context.WithCancel(ctx)
	defer stop()
	served := make(chan error, 1)
	go func() {
		served <- s.run(serving)
		stop()
	}()
	err = d.tour(serving, s.http, exit)
	stop()
	return errors.Join(<-served, err)
}

// tour shows what to try, and tries it itself or waits until the process is told to stop.
func (d *demo) tour(ctx context.Context, http net.Listener, exit bool) error {
	var err error
	if d.conn, err = grpc.NewClient(d.address, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		return err
	}
	defer d.conn.Close()
	if err := waitHealthy(ctx, d.conn); err != nil {
		return fmt.Errorf("the server did not become healthy: %w", err)
	}
	fmt.Fprintf(d.app.out, "Serving gRPC on %s, health and metrics on http://%s\n\n", d.address, localAddress(http))
	if exit {
		return d.try(ctx)
	}
	d.print()
	<-ctx.Done()
	return nil
}

// print prints the requests to try, with this very program.
func (d *demo) print() {
	program, err := os.Executable()
	if err != nil {
		program = "twofold"
	}
	if cwd, err := os.Getwd(); err == nil {
		if near, err := filepath.Rel(cwd, program); err == nil && !strings.HasPrefix(near, "..") {
			program = near
		}
	}
	server := ""
	if d.address != config.Defaults().Server {
		server = " --server " + d.address
	}
	grpcurl := "grpcurl"
	if path, ok := findGrpcurl(); ok {
		grpcurl = path
	}
	fmt.Fprintf(d.app.out, `Try, in another terminal:

  %s -plaintext -d '%s' \
    %s %s

  %s get %s%s

  %s train %s%s

and once more from its manifest, to the byte, whatever has come since:

  %s train --manifest training.parquet%s%s

Ctrl-C stops.
`, grpcurl, onlineRequest(d.expected.Online[0].Keys), d.address, onlineMethod,
		program, strings.Join(getArgs(d.expected.Online), " "), server,
		program, strings.Join(trainArgs(d.flights(), "training.parquet"), " "), server,
		program, manifestSuffix, server)
}

// flights is the file of entity rows: every flight of the year.
func (d *demo) flights() string { return filepath.Join(d.example, "flights.parquet") }

// getArgs are the arguments of a get of all entities of the examples.
func getArgs(examples []onlineExpectation) []string {
	args := []string{demoService}
	for _, key := range demoKeys {
		var values []string
		for _, example := range examples {
			values = append(values, example.Keys[key])
		}
		args = append(args, key+"="+strings.Join(values, ","))
	}
	return append(args, "--event-times")
}

func trainArgs(flights, out string) []string {
	return []string{demoService, "--entities", flights, "--out", out, "--event-times"}
}

// missingExample explains an example that is not there.
func missingExample(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Invalid, "the example is not here: %s; run this in a clone of the repository, or name its examples/flights with --example", path)
	}
	return err
}
