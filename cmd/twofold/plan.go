package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/twofold-ml/twofold/internal/config"
	"github.com/twofold-ml/twofold/internal/definition"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/sizing"
)

func (a *app) planCommand() *cobra.Command {
	o := planOptions{sizing: sizing.Options{Prices: sizing.DefaultPrices(), Redis: sizing.Redis{}.WithDefaults()}}
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Estimate what features take online, before anything is written",
		Long: `For each feature view that is synced, estimates from the definitions and the Parquet files what the online store will hold after a sync now: entities, bytes of a
row, memory of Redis and keys; then rows and bytes that each run writes, and the cost of a month. It writes nothing and needs no Redis.

It reads the files' footers, the keys and times of the rows that a sync would read, and the values of a few thousand of them. With --sample it reads
the keys of some row groups only and says between what the number of entities lies. Up to 65,536 entities of a view it counts exactly, with --exact any number.

Prices are yours to set, in any currency; the defaults are examples. A GB is 10^9 bytes, a month 730 hours. How the model works and what it
leaves out is in docs/reference/sizing.md.`,
		Example: `  twofold plan --definitions features/ --offline-store-path s3://features
  twofold plan --view weather --view carrier_delays
  twofold plan --sample 20 -o json
  twofold plan --price-redis 0.02 --replicas 1 --hash-max-listpack-value 1024`,
		GroupID: groupDefine,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			loaded, err := a.load(cmd)
			if err != nil {
				return err
			}
			if loaded.Definitions == "" && loaded.Embedded() {
				return usagef(cmd, "which definitions? Name a file or folder with --definitions, or the Redis that they are published in with --online-store-redis")
			}
			return a.plan(cmd.Context(), loaded.Config, o)
		},
	}
	config.AddFlags(cmd.Flags(), "definitions", "offline_store_path", "s3", "online_store", "feature_sync_interval", "clock_start", "log")
	o.addFlags(cmd)
	return cmd
}

// planOptions are the flags of plan.
type planOptions struct {
	views       []string
	output      string
	changeShare float64
	sizing      sizing.Options
}

func (o *planOptions) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&o.views, "view", nil, "only these feature `views` (default all that are synced)")
	f.StringVarP(&o.output, "output", "o", "table", "table or json")
	f.BoolVar(&o.sizing.Exact, "exact", false, "count every entity, at about 50 bytes of memory for each")
	f.IntVar(&o.sizing.SampleRowGroups, "sample", 0, "read the keys of at most so many `row groups` of a view, and estimate the rest (default all)")
	f.Float64Var(&o.changeShare, "change-share", 0, "`share` of the entities that change between two runs, 0 to 1 (default estimated from the event times)")
	f.IntVar(&o.sizing.Replicas, "replicas", 0, "copies of Redis' memory to pay for besides the first")
	r := &o.sizing.Redis
	f.IntVar(&r.HashMaxListpackEntries, "hash-max-listpack-entries", r.HashMaxListpackEntries, "that setting of Redis")
	f.IntVar(&r.HashMaxListpackValue, "hash-max-listpack-value", r.HashMaxListpackValue, "that setting of Redis, in bytes")
	f.IntVar(&r.ZsetMaxListpackEntries, "zset-max-listpack-entries", r.ZsetMaxListpackEntries, "that setting of Redis")
	f.IntVar(&r.ZsetMaxListpackValue, "zset-max-listpack-value", r.ZsetMaxListpackValue, "that setting of Redis, in bytes")
	p := &o.sizing.Prices
	f.Float64Var(&p.RedisGBHour, "price-redis", p.RedisGBHour, "`price` of a GB of Redis' memory for an hour")
	f.Float64Var(&p.S3GBMonth, "price-s3-storage", p.S3GBMonth, "`price` of a GB of files for a month")
	f.Float64Var(&p.S3Per10k, "price-s3-requests", p.S3Per10k, "`price` of 10,000 requests of S3")
	f.Float64Var(&p.TransferGB, "price-transfer", p.TransferGB, "`price` of a GB that syncs read from the files")
}

// check refuses flags that are wrong in themselves.
func (o *planOptions) check(cmd *cobra.Command) error {
	if o.output != "table" && o.output != "json" {
		return usagef(cmd, "-o: %q is not known; write table or json", o.output)
	}
	r := o.sizing.Redis
	for flag, limit := range map[string]int{
		"hash-max-listpack-entries": r.HashMaxListpackEntries, "hash-max-listpack-value": r.HashMaxListpackValue,
		"zset-max-listpack-entries": r.ZsetMaxListpackEntries, "zset-max-listpack-value": r.ZsetMaxListpackValue,
	} {
		if limit < 1 {
			return usagef(cmd, "--%s: %d is not a limit of Redis; write 1 or more", flag, limit)
		}
	}
	if cmd.Flags().Changed("change-share") {
		o.sizing.ChangeShare = &o.changeShare
	}
	if err := o.sizing.Check(); err != nil {
		return usageError{cmd, err}
	}
	return nil
}

// plan prints what the views take.
func (a *app) plan(ctx context.Context, c config.Config, o planOptions) error {
	store, err := offline.Open(ctx, offline.Config{Path: c.OfflineStorePath, S3: s3Config(c)})
	if err != nil {
		return err
	}
	defer store.Close()
	set, err := a.planned(ctx, c, store)
	if err != nil {
		return err
	}
	views, err := plannedViews(set.Registry, o.views)
	if err != nil {
		return err
	}
	o.sizing.AsOf = feature.AsOf(clock(c.ClockStart)().UnixMicro())
	o.sizing.Redis.KeyPrefix = c.OnlineStore.RedisKeyPrefix
	plan, err := sizing.Estimate(ctx, views, store, o.sizing)
	if err != nil {
		return err
	}
	if o.output == "json" {
		out := json.NewEncoder(a.out)
		out.SetIndent("", "  ")
		return out.Encode(plan)
	}
	return a.printPlan(plan)
}

// planned reads the definitions: files, else those that were published, for which alone the online store is opened.
func (a *app) planned(ctx context.Context, c config.Config, store *offline.Store) (*definition.Set, error) {
	if c.Definitions == "" {
		p, err := a.open(ctx, c)
		if err != nil {
			return nil, err
		}
		defer p.close()
		return p.definitions(ctx)
	}
	found, err := (&definitionSource{path: c.Definitions, offline: store}).content(ctx)
	if err != nil {
		return nil, err
	}
	return found.parse(definition.Defaults{SyncInterval: c.FeatureSyncInterval})
}

// plannedViews returns the named views, or all that are synced.
func plannedViews(registry *feature.Registry, names []string) ([]*feature.View, error) {
	var views []*feature.View
	for _, name := range names {
		view, err := registry.View(name)
		if err != nil {
			return nil, err
		}
		if !view.IsSynced() {
			return nil, fault.New(fault.Precondition, "feature view %q takes nothing online: it is not synced (sync.enabled: false), or all its features are online: false", name)
		}
		views = append(views, view)
	}
	if len(names) > 0 {
		return views, nil
	}
	for _, view := range registry.Views() {
		if view.IsSynced() {
			views = append(views, view)
		}
	}
	if len(views) == 0 {
		return nil, fault.New(fault.Precondition, "the definitions have no feature view that is synced, so nothing is taken online")
	}
	return views, nil
}

// printPlan prints a plan for people.
func (a *app) printPlan(p *sizing.Plan) error {
	fmt.Fprintf(a.out, "After a sync at %s\n\n", p.AsOf.Format(time.RFC3339))
	for _, t := range []*textTable{onlineTable(p), keysTable(p), runsTable(p), costTable(p)} {
		if err := t.write(a.out); err != nil {
			return err
		}
		fmt.Fprintln(a.out)
	}
	for _, note := range p.Notes {
		fmt.Fprintln(a.out, "note: "+note)
	}
	return nil
}

// onlineTable is what the files have and what of it is online.
func onlineTable(p *sizing.Plan) *textTable {
	t := newTable("view", "layout", "files", "file size", "rows", "rows read", "entities", "rows each", "bytes a row", "rows online", "memory")
	online := int64(0)
	for _, v := range p.Views {
		online += v.OnlineBytes
		t.add(v.Name, v.Layout, grouped(int64(v.Files)), size(v.FileBytes), grouped(v.Rows), grouped(v.RowsRead), entities(v.Entities), decimal(v.Versions),
			decimal(v.RowBytes), size(v.OnlineBytes), size(v.MemoryBytes))
	}
	t.add("(table of all keys)", "", "", "", "", "", "", "", "", "", size(p.KeyTablesBytes))
	t.add("total", "", "", "", "", "", "", "", "", size(online), size(p.MemoryBytes))
	return t
}

func keysTable(p *sizing.Plan) *textTable {
	t := newTable("keys of Redis", "of entity", "of view", "number")
	total := int64(0)
	for _, k := range p.Keys {
		view := k.View
		if view == "" {
			view = "(all LATEST)"
		}
		total += k.Keys
		t.add(k.Type, k.Entity, view, grouped(k.Keys))
	}
	t.add("total", "", "", grouped(total))
	return t
}

// runsTable is what syncs read and write.
func runsTable(p *sizing.Plan) *textTable {
	t := newTable("view", "mode", "a run every", "first run: rows", "read", "sent", "later run: rows", "read", "sent", "rows/s")
	rate := 0.0
	for _, v := range p.Views {
		rate += v.RowsPerSecond
		t.add(v.Name, v.Mode, config.FormatDuration(time.Duration(v.IntervalSeconds*float64(time.Second))), grouped(v.FirstRunRows), size(v.FirstRunReadBytes),
			size(v.FirstRunSendBytes), decimal(v.RunRows), size(v.RunReadBytes), size(v.RunSendBytes), significant(v.RowsPerSecond))
	}
	t.add("total", "", "", "", "", "", "", "", "", significant(rate))
	return t
}

func costTable(p *sizing.Plan) *textTable {
	t := newTable("cost of a month", "amount", "unit", "price of one", "price")
	for _, c := range p.Costs {
		t.add(c.What, significant(c.Amount), c.Unit, strconv.FormatFloat(c.Price, 'g', -1, 64), money(c.PerMonth))
	}
	t.add("total", "", "", "", money(p.CostPerMonth))
	return t
}

// entities writes a number of entities with how far it may be off.
func entities(c sizing.Count) string {
	if c.IsExact() {
		return grouped(c.Value)
	}
	return fmt.Sprintf("%s (%s to %s)", grouped(c.Value), grouped(c.Least), grouped(c.Most))
}

// grouped writes a whole number with a comma between thousands.
func grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// decimal writes a number with one decimal where it is small, and none where it has none.
func decimal(x float64) string {
	if x >= 1000 || x == math.Trunc(x) {
		return grouped(int64(math.Round(x)))
	}
	return strconv.FormatFloat(x, 'f', 1, 64)
}

// significant writes a number with three digits that count.
func significant(x float64) string {
	if x >= 1000 {
		return decimal(x)
	}
	return strconv.FormatFloat(x, 'g', 3, 64)
}

// money writes an amount of money: cents, and more digits where they are all there is.
func money(x float64) string {
	if x > 0 && x < 0.01 {
		return significant(x)
	}
	return strconv.FormatFloat(x, 'f', 2, 64)
}

// size writes bytes in decimal units, as prices are for.
func size(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	x, unit := float64(n), 0
	for x >= 999.5 && unit < len(units)-1 {
		x /= 1000
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return significant(x) + " " + units[unit]
}
