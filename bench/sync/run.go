package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/twofold-ml/twofold/bench/internal/redisserver"
	"github.com/twofold-ml/twofold/bench/internal/s3gateway"
	"github.com/twofold-ml/twofold/bench/internal/workload"
)

// options are the flags of the run command.
type options struct {
	twofold   string
	versitygw string
	data      string
	rows      int64
	entities  int64
	rounds    int
	readings  int
	rate      int
	depth     int
	seed      uint64
	syncFlags string
	quick     bool
	full      bool
	// budget is how long the whole run may take: no further round is begun that would not fit. 0 is no bound.
	budget time.Duration
}

const (
	million = 1_000_000
	// quickRows and quickEntities are what is measured within 50 s.
	quickRows, quickEntities = 2 * million, 200_000
	quickBudget              = 40 * time.Second
	// fullRows is what --full adds, of as many entities.
	fullRows = 50 * million
	// unchangedRuns are the runs over unchanged files of a round: one alone is too short to say much.
	unchangedRuns = 3
	// leastQuiet is how long latencies are measured without a sync at least.
	leastQuiet = 3 * time.Second
)

func runCommand() *cobra.Command {
	o := options{}
	cmd := &cobra.Command{
		Use: "run", Args: cobra.NoArgs,
		Short: "Measure twofold sync beside raw writes to Redis, and online reads meanwhile",
		RunE: func(cmd *cobra.Command, _ []string) error {
			begun := time.Now()
			if o.quick {
				o.hurry(cmd)
			}
			return o.run(cmd.Context(), cmd.OutOrStdout(), begun)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.twofold, "twofold", "bin/twofold", "the program to measure")
	f.StringVar(&o.versitygw, "versitygw", ".tools/versitygw", "the S3 service to read from")
	f.StringVar(&o.data, "data", "", "folder of generated data, kept and used again (default: a temporary one)")
	f.Int64Var(&o.rows, "rows", 10*million, "rows of the history")
	f.Int64Var(&o.entities, "entities", million, "entities that they are of")
	f.IntVar(&o.rounds, "rounds", 3, "times that loads are measured; the median counts. 0 measures none")
	f.IntVar(&o.readings, "readings", 3, "times that latencies are measured; the median counts. 0 measures none")
	f.IntVar(&o.rate, "rate", 200, "online requests a second while latencies are measured")
	f.IntVar(&o.depth, "depth", 500, "rows of a pipeline of the floor")
	f.Uint64Var(&o.seed, "seed", 1, "seed of the data")
	f.StringVar(&o.syncFlags, "sync-flags", "", `more flags of twofold sync, as one text: --sync-flags="--log-level debug"`)
	f.BoolVar(&o.quick, "quick", false, "end within 50 s: 2M rows of 200,000 entities, one round")
	f.BoolVar(&o.full, "full", false, "50M rows as well, for the peak memory: needs 6 GB of disk")
	cmd.MarkFlagsMutuallyExclusive("quick", "full")
	return cmd
}

// hurry sets what the quick run has otherwise, unless it was given.
func (o *options) hurry(cmd *cobra.Command) {
	set := func(name string, to func()) {
		if !cmd.Flags().Changed(name) {
			to()
		}
	}
	o.budget = quickBudget
	set("rows", func() { o.rows = quickRows })
	set("entities", func() { o.entities = quickEntities })
}

func (o *options) check() error {
	if o.rows < changedOneIn || o.entities < 1 || o.rounds < 0 || o.readings < 0 || o.rate < 1 || o.depth < 1 {
		return fmt.Errorf("--rows must be at least %d, --entities, --rate and --depth at least 1, --rounds and --readings not below 0", changedOneIn)
	}
	if o.rounds == 0 && o.readings == 0 && !o.full {
		return errors.New("--rounds 0 and --readings 0 leave nothing to measure")
	}
	return nil
}

// bench is one run.
type bench struct {
	o           options
	out         io.Writer
	begun       time.Time
	folder      string // of everything that goes when the run ends
	definitions string
	folders     folders
	history     history

	redis   *redisserver.Server
	client  *redis.Client
	gateway *s3gateway.Gateway

	rounds   []round
	reading  *run // keys, times and features, and nothing written
	keys     *run // keys and times only
	readings []readings
	full     *run
}

// round is what one round of loads came to.
type round struct {
	first                load
	changed              [addedFiles]load
	unchanged            []run
	floor                time.Duration
	floorRows, firstRows int
}

// load is a run of a sync with what the services beside it used.
type load struct {
	run
	redisCPU, gatewayCPU float64 // seconds
}

// readings are the latencies of one round.
type readings struct {
	quiet, busy *hdrhistogram.Histogram
	load        run
}

func (o options) run(ctx context.Context, out io.Writer, begun time.Time) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	b := &bench{o: o, out: out, begun: begun, history: history{seed: o.seed, rows: o.rows, entities: o.entities}}
	if b.folder, err = os.MkdirTemp("", "twofold-bench-sync-"); err != nil {
		return fmt.Errorf("make a temporary folder: %w", err)
	}
	defer os.RemoveAll(b.folder)
	b.folders.root = filepath.Join(b.folder, "data")
	if o.data != "" {
		if b.folders.root, err = filepath.Abs(o.data); err != nil {
			return fmt.Errorf("find %s: %w", o.data, err)
		}
	}
	defer b.stop()
	if err := b.start(ctx); err != nil {
		return err
	}
	if err := b.describe(ctx); err != nil {
		return err
	}
	if err := b.measure(ctx); err != nil {
		return err
	}
	b.report()
	return nil
}

// start starts Redis and the S3 service.
func (b *bench) start(ctx context.Context) (err error) {
	if err := os.MkdirAll(b.folders.root, 0o755); err != nil {
		return fmt.Errorf("make a folder for data: %w", err)
	}
	if b.redis, err = redisserver.Start(); err != nil {
		return err
	}
	b.client = redis.NewClient(&redis.Options{Addr: b.redis.Addr, ReadTimeout: time.Minute})
	b.gateway, err = s3gateway.Start(ctx, b.o.versitygw, b.folders.gateway(), bucket)
	return err
}

// stop ends what was started.
func (b *bench) stop() {
	if b.gateway != nil {
		b.gateway.Stop()
	}
	if b.client != nil {
		_ = b.client.Close() // nothing is under way
	}
	if b.redis != nil {
		b.redis.Stop()
	}
}

// use makes a history the one that is measured.
func (b *bench) use(ctx context.Context, h history) error {
	begun := time.Now()
	if err := h.put(ctx, b.gateway, b.folders); err != nil {
		return fmt.Errorf("make the data: %w", err)
	}
	if err := b.deleteAdded(ctx, h); err != nil { // which an interrupted run may have left
		return err
	}
	b.history, b.definitions = h, filepath.Join(b.folder, h.name()+".yaml")
	fmt.Fprintf(b.out, "%d rows of %d entities are in S3 after %.1f s\n", h.rows, h.entities, time.Since(begun).Seconds())
	return os.WriteFile(b.definitions, h.definitions(), 0o600)
}

func (b *bench) measure(ctx context.Context) error {
	if err := b.use(ctx, b.history); err != nil {
		return err
	}
	if err := b.measureLoads(ctx); err != nil {
		return err
	}
	if err := b.measureReadings(ctx); err != nil {
		return err
	}
	if !b.o.full {
		return nil
	}
	return b.measureFull(ctx)
}

// hasTime reports whether something that took so long before fits into the budget once more.
func (b *bench) hasTime(took time.Duration) bool {
	return b.o.budget == 0 || time.Since(b.begun)+took <= b.o.budget
}

func (b *bench) measureLoads(ctx context.Context) error {
	var rows []storedRow
	longest := time.Duration(0)
	for i := range b.o.rounds {
		if i > 0 && !b.hasTime(2*longest) { // the latencies are to have their turn as well
			fmt.Fprintf(b.out, "no time for more rounds: %d of %d were made\n", i, b.o.rounds)
			break
		}
		begun := time.Now()
		r := round{}
		err := b.loadFloor(ctx, &r, rows, i%2 == 1)
		if err == nil {
			rows, err = b.loadOurs(ctx, &r)
		}
		if err == nil {
			err = b.loadFloor(ctx, &r, rows, i%2 == 0)
		}
		if err != nil {
			return err
		}
		b.rounds = append(b.rounds, r)
		longest = max(longest, time.Since(begun))
		fmt.Fprintf(b.out, "round %d of %d: first %.2f s, %d MB; unchanged %.0f ms; 1 %% changed %.2f s, of 1 %% of the entities %.2f s; floor %.2f s\n", i+1, b.o.rounds,
			r.first.elapsed.Seconds(), r.first.peakBytes/million, 1000*unchangedSeconds(r), r.changed[ofAny].elapsed.Seconds(), r.changed[ofFew].elapsed.Seconds(), r.floor.Seconds())
	}
	if len(b.rounds) == 0 {
		return nil
	}
	keys, err := b.read(ctx, "--only-keys")
	if err != nil {
		return err
	}
	reading, err := b.read(ctx)
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(reading.printed); got != fmt.Sprint(b.rounds[0].firstRows) {
		return fmt.Errorf("WRONG RESULT: reading alone found %s newest rows, and %d are stored", got, b.rounds[0].firstRows)
	}
	b.keys, b.reading = &keys, &reading
	return nil
}

// loadFloor measures the floor, in the rounds in which it is its turn.
func (b *bench) loadFloor(ctx context.Context, r *round, rows []storedRow, turn bool) (err error) {
	if !turn {
		return nil
	}
	if err := b.client.FlushAll(ctx).Err(); err != nil {
		return fmt.Errorf("empty Redis: %w", err)
	}
	r.floor, err = b.floor(ctx, rows)
	r.floorRows = len(rows)
	return err
}

// loadOurs measures a first load, runs that find nothing new, and one for each file that is added. It returns the rows of the first load.
func (b *bench) loadOurs(ctx context.Context, r *round) ([]storedRow, error) {
	if err := b.client.FlushAll(ctx).Err(); err != nil {
		return nil, fmt.Errorf("empty Redis: %w", err)
	}
	var err error
	if r.first, err = b.load(ctx); err != nil {
		return nil, err
	}
	rows, err := b.check(ctx, b.history.newest(b.history.rows))
	if err != nil {
		return nil, err
	}
	r.firstRows = len(rows)
	for range unchangedRuns {
		again, err := b.sync(ctx)
		if err != nil {
			return nil, err
		}
		if !strings.Contains(again.printed, "nothing new") {
			return nil, fmt.Errorf("a run over unchanged files said %q", again.printed)
		}
		r.unchanged = append(r.unchanged, again)
	}
	for added := range addedFiles {
		if err := b.gateway.Put(ctx, b.folders.added(b.history, added), b.history.addedKey(added)); err != nil {
			return nil, err
		}
		if r.changed[added], err = b.load(ctx); err != nil {
			return nil, err
		}
		if _, err := b.check(ctx, b.history.newest(b.history.until(added))); err != nil {
			return nil, err
		}
	}
	return rows, b.deleteAdded(ctx, b.history)
}

// deleteAdded removes the files that were added to a history.
func (b *bench) deleteAdded(ctx context.Context, h history) error {
	for added := range addedFiles {
		if err := b.gateway.Delete(ctx, h.addedKey(added)); err != nil {
			return err
		}
	}
	return nil
}

// load runs a sync and looks at the services beside it.
func (b *bench) load(ctx context.Context, flags ...string) (l load, err error) {
	redisBefore, gatewayBefore := cpuOf(b.redis.PID()), cpuOf(b.gateway.PID())
	l.run, err = b.sync(ctx, flags...)
	l.redisCPU, l.gatewayCPU = cpuOf(b.redis.PID())-redisBefore, cpuOf(b.gateway.PID())-gatewayBefore
	return l, err
}

// measureReadings measures the latencies of online reads without a sync, and during one that fills an emptied view.
func (b *bench) measureReadings(ctx context.Context) error {
	if b.o.readings == 0 {
		return nil
	}
	if err := b.client.FlushAll(ctx).Err(); err != nil {
		return fmt.Errorf("empty Redis: %w", err)
	}
	data := workload.Data{Seed: b.o.seed, Entities: readEntities, BaseMicros: time.Now().Add(-time.Minute).UnixMicro()}
	if err := data.Load(ctx, b.redis.URL(), []workload.Layout{readShape.Layout()}); err != nil {
		return err
	}
	a, err := b.startAsker(ctx, data)
	if err != nil {
		return err
	}
	defer a.stop()
	longest, quiet := time.Duration(0), leastQuiet
	if len(b.rounds) > 0 {
		quiet = max(quiet, b.rounds[0].first.elapsed)
	}
	for i := range b.o.readings {
		if i > 0 && !b.hasTime(longest) {
			fmt.Fprintf(b.out, "no time for more latencies: %d of %d were measured\n", i, b.o.readings)
			return nil
		}
		begun := time.Now()
		r, err := b.readDuringLoad(ctx, a, quiet)
		if err != nil {
			return err
		}
		b.readings = append(b.readings, r)
		longest, quiet = max(longest, time.Since(begun)), max(quiet, r.load.elapsed)
		fmt.Fprintf(b.out, "latencies %d of %d: p50 %d and %d µs, p99 %d and %d µs; the sync took %.2f s\n", i+1, b.o.readings, r.quiet.ValueAtQuantile(50), r.busy.ValueAtQuantile(50),
			r.quiet.ValueAtQuantile(99), r.busy.ValueAtQuantile(99), r.load.elapsed.Seconds())
	}
	return nil
}

// readDuringLoad measures latencies for a while, and then during a sync of the whole view, which was emptied.
func (b *bench) readDuringLoad(ctx context.Context, a *asker, quiet time.Duration) (r readings, err error) {
	if err := b.empty(ctx); err != nil {
		return r, err
	}
	done := make(chan struct{})
	close(done)
	if r.quiet, err = a.measure(ctx, quiet, done); err != nil {
		return r, err
	}
	done = make(chan struct{})
	group, within := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		defer close(done)
		r.load, err = b.sync(within, "--full")
		return err
	})
	group.Go(func() (err error) {
		r.busy, err = a.measure(within, 0, done)
		return err
	})
	if err := group.Wait(); err != nil {
		return r, err
	}
	_, err = b.check(ctx, b.history.newest(b.history.rows))
	return r, err
}

// empty removes the rows of the synced view.
func (b *bench) empty(ctx context.Context) error {
	rows := b.client.Scan(ctx, 0, loadedKeyPrefix+"*", scanCount).Iterator()
	var keys []string
	for more := true; more; {
		if more = rows.Next(ctx); more {
			keys = append(keys, rows.Val())
		}
		if len(keys) == scanCount || (!more && len(keys) > 0) {
			if err := b.client.Unlink(ctx, keys...).Err(); err != nil {
				return fmt.Errorf("empty the view: %w", err)
			}
			keys = keys[:0]
		}
	}
	return rows.Err()
}

// measureFull loads a larger history of as many entities once, for its peak memory.
func (b *bench) measureFull(ctx context.Context) error {
	if err := b.use(ctx, history{seed: b.o.seed, rows: fullRows, entities: b.o.entities}); err != nil {
		return err
	}
	if err := b.client.FlushAll(ctx).Err(); err != nil {
		return fmt.Errorf("empty Redis: %w", err)
	}
	l, err := b.load(ctx)
	if err != nil {
		return err
	}
	if _, err := b.check(ctx, b.history.newest(b.history.rows)); err != nil {
		return err
	}
	b.full = &l.run
	return nil
}
