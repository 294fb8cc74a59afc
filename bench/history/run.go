package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/twofold-ml/twofold/bench/internal/s3gateway"
)

// options are the flags of the run command.
type options struct {
	twofold    string
	versitygw  string
	data       string
	cases      []string
	only       string
	rounds     int
	threads    int
	seed       uint64
	serveFlags string
	s3         bool
	quick      bool
	full       bool
	plot       string
	perf       string
	// budget is how long the whole run may take: no further round is begun that would not fit. 0 is no bound.
	budget time.Duration
}

// quickBudget leaves some seconds of the 50 for what is not foreseen.
const quickBudget = 44 * time.Second

// Cases by default, with --quick, and those that --full adds: the one case is of the record, the others are of the memory curve.
var (
	recordCases = []string{"10Mx1M", shuffledCase, prunedCase, fiveViewsCase}
	quickCases  = []string{"2Mx200k", prunedCase}
	fullCases   = []string{"25Mx1M", "50Mx1M", "100Mx1M"}
)

const quickPrunedRows = 2 * million

func runCommand() *cobra.Command {
	o := options{}
	cmd := &cobra.Command{
		Use: "run", Args: cobra.NoArgs,
		Short: "Measure GetHistoricalFeatures beside DuckDB on the same files",
		RunE: func(cmd *cobra.Command, _ []string) error {
			begun := time.Now()
			if !cmd.Flags().Changed("cases") {
				o.cases = o.usualCases()
			}
			if o.quick {
				o.budget = quickBudget
			}
			return o.run(cmd.Context(), cmd.OutOrStdout(), begun)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.twofold, "twofold", "bin/twofold", "the program to measure")
	f.StringVar(&o.versitygw, "versitygw", ".tools/versitygw", "the S3 service to read through")
	f.StringVar(&o.data, "data", "", "folder of generated data, kept and used again (default: a temporary one)")
	f.StringSliceVar(&o.cases, "cases", recordCases, "what to measure: shuffled, pruned, five_views, or feature rows x entity rows, as 10Mx1M; more than 10M are measured once")
	f.StringVar(&o.only, "only", "", "measure twofold or duckdb alone, so that there is nothing to compare")
	f.IntVar(&o.rounds, "rounds", 3, "times that every measurement is made; the median counts")
	f.IntVar(&o.threads, "threads", 2, "threads of DuckDB, and GOMAXPROCS of twofold serve")
	f.Uint64Var(&o.seed, "seed", 1, "seed of the data")
	f.StringVar(&o.serveFlags, "serve-flags", "", `more flags of twofold serve, as one text: --serve-flags="--log-level debug"`)
	f.BoolVar(&o.s3, "s3", true, "read through S3 as well")
	f.BoolVar(&o.quick, "quick", false, "end within 50 s: 2Mx200k, and pruned with 2M rows; no S3")
	f.BoolVar(&o.full, "full", false, "25Mx1M, 50Mx1M and 100Mx1M as well: needs 30 GB of disk")
	f.StringVar(&o.plot, "plot", "", "write the peak memory of the cases that differ in feature rows only into this SVG file")
	f.StringVar(&o.perf, "perf", "", "have perf record a profile of twofold serve during its call into this file; the last call's stays")
	cmd.MarkFlagsMutuallyExclusive("quick", "full")
	return cmd
}

// usualCases returns what is measured unless it was said.
func (o *options) usualCases() []string {
	switch {
	case o.quick:
		return quickCases
	case o.full:
		return slices.Concat(recordCases, fullCases)
	default:
		return recordCases
	}
}

// list returns the cases.
func (o *options) list() ([]benchCase, error) {
	if o.rounds < 1 || o.threads < 1 || len(o.cases) == 0 {
		return nil, errors.New("--rounds, --threads and --cases must not be empty or 0")
	}
	if o.only != "" && o.only != onlyTwofold && o.only != onlyDuckDB {
		return nil, fmt.Errorf("--only %s: it is %s or %s", o.only, onlyTwofold, onlyDuckDB)
	}
	c := caseOptions{seed: o.seed, rounds: o.rounds, s3: o.s3 && !o.quick && o.only != onlyDuckDB, prunedRows: recordRows}
	if o.quick {
		c.prunedRows = quickPrunedRows
	}
	cases := make([]benchCase, len(o.cases))
	for i, name := range o.cases {
		if slices.Contains(o.cases[:i], name) {
			return nil, fmt.Errorf("--cases has %s twice", name)
		}
		var err error
		if cases[i], err = newCase(name, c); err != nil {
			return nil, err
		}
	}
	return cases, nil
}

// Values of --only.
const (
	onlyTwofold = "twofold"
	onlyDuckDB  = "duckdb"
)

// bench is one run.
type bench struct {
	o       options
	out     io.Writer
	begun   time.Time
	folder  string // of everything that goes when the run ends
	data    string
	gateway *s3gateway.Gateway
	results []*result
}

// result is what was measured of a case.
type result struct {
	benchCase
	contenders []contender
	rounds     [][]measurement // of each contender
	// truth is the first exact result, which all others must equal.
	truth *tally
}

// contender is one of those that make the training set of a case.
type contender struct {
	// name is shown, key ends its figures' names in the result line.
	name, key string
	engine    engine
	run       func(context.Context) (measurement, error)
}

func (o options) run(ctx context.Context, out io.Writer, begun time.Time) (err error) {
	cases, err := o.list()
	if err != nil {
		return err
	}
	b := &bench{o: o, out: out, begun: begun}
	if b.folder, err = os.MkdirTemp("", "twofold-bench-history-"); err != nil {
		return fmt.Errorf("make a temporary folder: %w", err)
	}
	defer os.RemoveAll(b.folder)
	b.data = filepath.Join(b.folder, "data")
	if o.data != "" {
		if b.data, err = filepath.Abs(o.data); err != nil {
			return fmt.Errorf("find %s: %w", o.data, err)
		}
	}
	if err := b.describe(); err != nil {
		return err
	}
	defer b.stop()
	for i, group := range groups(cases) {
		if i > 0 {
			b.forget()
		}
		if err := b.measureGroup(ctx, group); err != nil {
			return err
		}
	}
	b.report()
	return b.plot()
}

// stop ends what was started.
func (b *bench) stop() {
	if b.gateway != nil {
		b.gateway.Stop()
	}
}

// groups returns the cases that are measured in the same rounds: all that are repeated, then each of the others by itself, so that no more
// of the large tables than one is on the disk.
func groups(cases []benchCase) [][]benchCase {
	var repeated []benchCase
	var single [][]benchCase
	for _, c := range cases {
		if c.views[0].rows > largestRepeatedRow {
			single = append(single, []benchCase{c})
		} else {
			repeated = append(repeated, c)
		}
	}
	if len(repeated) == 0 {
		return single
	}
	return append([][]benchCase{repeated}, single...)
}

// forget removes generated data that nobody asked to keep, before that of other cases is made.
func (b *bench) forget() {
	b.stop()
	b.gateway = nil
	if b.o.data == "" {
		_ = os.RemoveAll(b.data) // it goes with the run at last
	}
	_ = os.RemoveAll(b.gatewayFolder()) // as above
}

// gatewayFolder is where the S3 service keeps its objects.
func (b *bench) gatewayFolder() string { return filepath.Join(b.folder, "s3") }

// measureGroup makes the data of the cases and measures them round by round.
func (b *bench) measureGroup(ctx context.Context, cases []benchCase) error {
	if err := b.prepare(ctx, cases); err != nil {
		return err
	}
	var results []*result
	rounds := 0
	for _, c := range cases {
		r := &result{benchCase: c, contenders: b.contenders(c)}
		r.rounds = make([][]measurement, len(r.contenders))
		results = append(results, r)
		rounds = max(rounds, c.rounds)
	}
	b.results = append(b.results, results...)
	longest := time.Duration(0)
	for round := range rounds {
		if b.o.budget > 0 && round > 0 && time.Since(b.begun)+longest > b.o.budget {
			fmt.Fprintf(b.out, "no time for more rounds: %d of %d were made\n", round, rounds)
			return nil
		}
		begun := time.Now()
		for _, r := range results {
			if err := b.measureRound(ctx, r, round); err != nil {
				return fmt.Errorf("case %s: %w", r.name, err)
			}
		}
		longest = max(longest, time.Since(begun))
		fmt.Fprintf(b.out, "round %d of %d done after %.0f s\n", round+1, rounds, time.Since(b.begun).Seconds())
	}
	return nil
}

// prepare makes data, and puts it into S3 where a case asks for that.
func (b *bench) prepare(ctx context.Context, cases []benchCase) error {
	for _, c := range cases {
		begun := time.Now()
		for _, t := range c.views {
			if err := t.generate(ctx, b.data); err != nil {
				return fmt.Errorf("make the data of case %s: %w", c.name, err)
			}
		}
		if err := c.entities.generate(ctx, b.data); err != nil {
			return fmt.Errorf("make the data of case %s: %w", c.name, err)
		}
		fmt.Fprintf(b.out, "%s: data of %s is there after %.1f s\n", c.name, c.title(), time.Since(begun).Seconds())
		if !c.s3 {
			continue
		}
		if err := b.upload(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) upload(ctx context.Context, c benchCase) error {
	if b.gateway == nil {
		var err error
		if b.gateway, err = s3gateway.Start(ctx, b.o.versitygw, b.gatewayFolder(), bucket); err != nil {
			return err
		}
	}
	for _, t := range c.views {
		if err := t.upload(ctx, b.gateway, b.data); err != nil {
			return err
		}
	}
	return nil
}

// contenders returns those that make the training set of a case, ours first.
func (b *bench) contenders(c benchCase) []contender {
	var all []contender
	if b.o.only != onlyDuckDB {
		local := twofold{program: b.o.twofold, offlineStore: b.data, threads: b.o.threads, flags: strings.Fields(b.o.serveFlags), perf: b.o.perf}
		files := c.files(b.data, true)
		all = append(all, contender{name: "twofold", engine: ours, run: func(ctx context.Context) (measurement, error) { return local.measure(ctx, files) }})
		if c.s3 {
			remote := local
			remote.offlineStore, remote.environment = b.gateway.URL(), b.gateway.Environment()
			remote.flags = append(b.gateway.Flags(), local.flags...)
			all = append(all, contender{name: "twofold, S3", key: s3Key, engine: ours, run: func(ctx context.Context) (measurement, error) { return remote.measure(ctx, files) }})
		}
	}
	if b.o.only == onlyTwofold {
		return all
	}
	duck := func(name, key string, e engine, between string) {
		sql := c.files(b.data, false).sql(e, between)
		all = append(all, contender{name: name, key: key, engine: e, run: func(ctx context.Context) (measurement, error) {
			return measureDuck(ctx, sql, b.o.threads, b.folder)
		}})
	}
	duck("DuckDB, plain ASOF", asofKey, asof, "")
	duck("DuckDB, exact ASOF", exactKey, exact, "")
	duck("DuckDB, hash join", hashKey, hashed, "")
	if c.times {
		between := timesBetween(c.entities.bounds())
		duck("DuckDB, exact ASOF, times", exactKey+timesKey, exact, between)
		duck("DuckDB, hash join, times", hashKey+timesKey, hashed, between)
	}
	return all
}

// measureRound measures each contender once, another of them first each time.
func (b *bench) measureRound(ctx context.Context, r *result, round int) error {
	if round >= r.benchCase.rounds {
		return nil
	}
	for i := range r.contenders {
		who := (i + round) % len(r.contenders)
		c := r.contenders[who]
		m, err := c.run(ctx)
		if err == nil {
			err = r.verify(c, &m.tally)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		r.rounds[who] = append(r.rounds[who], m)
		fmt.Fprintf(b.out, "%s: %s: %.2f s, peak %d MB, CPU %.2f s\n", r.name, c.name, m.elapsed.Seconds(), m.peakBytes/million, m.cpu.Seconds())
	}
	return nil
}

// verify compares a result with that of those before it. A plain ASOF join takes any of the rows with the same key and event time, so
// that of it no more than the number of rows can be compared.
func (r *result) verify(c contender, t *tally) error {
	if t.Rows != r.entities.rows {
		return fmt.Errorf("WRONG RESULT: %d rows for %d entity rows", t.Rows, r.entities.rows)
	}
	if c.engine == asof {
		return nil
	}
	if r.truth == nil {
		r.truth = t
		return nil
	}
	if d := t.differences(r.truth); d != "" {
		return fmt.Errorf("WRONG RESULT: it differs from the exact ones before it: %s", d)
	}
	return nil
}
