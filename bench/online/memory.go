package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/twofold-ml/twofold/bench/internal/process"
	"github.com/twofold-ml/twofold/bench/internal/redisserver"
	"github.com/twofold-ml/twofold/bench/internal/workload"
)

// memoryOptions are the flags of the memory command.
type memoryOptions struct {
	layouts  []string
	listpack []int
	entities int
	seed     uint64
	quick    bool
}

func memoryCommand() *cobra.Command {
	o := memoryOptions{}
	cmd := &cobra.Command{
		Use: "memory", Args: cobra.NoArgs,
		Short: "Measure what an entity costs in Redis, in our layout and in two others",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.quick && !cmd.Flags().Changed("entities") {
				o.entities = 3000
			}
			if !cmd.Flags().Changed("seed") {
				o.seed = uint64(rand.Uint32())
			}
			return runMemory(cmd.Context(), cmd.OutOrStdout(), o)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.layouts, "layouts", []string{"1x50", "5x10", "25x10"}, "layouts of an entity: views x features")
	f.IntSliceVar(&o.listpack, "hash-max-listpack-value", []int{64, 1024}, "values of that setting of redis-server; the first is that of the result line")
	f.IntVar(&o.entities, "entities", 20_000, "entities")
	f.Uint64Var(&o.seed, "seed", 0, "seed of the values (default: a random one, which is printed)")
	f.BoolVar(&o.quick, "quick", false, "fewer entities")
	return cmd
}

// storage is a way to keep features in Redis.
type storage struct {
	name string
	// is says what it is, in words.
	is string
	// hashes is whether hash-max-listpack-value matters to it.
	hashes bool
	// write stores every entity of the layout in an empty Redis.
	write func(ctx context.Context, server *redisserver.Server, data workload.Data, l workload.Layout) error
}

var storages = []storage{
	{"ours", "one hash an entity, one field a view, its value the packed row", true, writeOurs},
	{"strings", "one string an entity and view, its value the same packed row", false, writeStrings},
	{"field_per_feature", "one hash an entity, one field a feature and one a view for the event time, names of 4 bytes, values of 9 (as Feast has them)", true, writeFields},
}

// memoryResult is what one storage took.
type memoryResult struct {
	layout    workload.Layout
	storage   storage
	listpack  int     // 0 where it does not matter
	perEntity float64 // bytes of used_memory
}

// name is that of the result line.
func (r memoryResult) name(first int) string {
	name := fmt.Sprintf("mem_%v_%s", r.layout, r.storage.name)
	if r.listpack != 0 && r.listpack != first {
		name += fmt.Sprintf("_listpack%d", r.listpack)
	}
	return name
}

func runMemory(ctx context.Context, out io.Writer, o memoryOptions) error {
	layouts := make([]workload.Layout, len(o.layouts))
	for i, text := range o.layouts {
		shape, err := workload.ParseShape(text + "x1")
		if err != nil {
			return fmt.Errorf("--layouts: %q is not of the form views x features, for example 5x10", text)
		}
		layouts[i] = shape.Layout()
	}
	if o.entities < 1 || len(layouts) == 0 || len(o.listpack) == 0 {
		return errors.New("--layouts, --hash-max-listpack-value and --entities must not be empty or 0")
	}
	data := workload.Data{Seed: o.seed, Entities: o.entities, BaseMicros: time.Now().UnixMicro()}
	fmt.Fprintf(out, "Memory of Redis an entity: used_memory after loading %d entities less that before, each in a server of its own.\n", o.entities)
	fmt.Fprintf(out, "%s; seed %d; features are DOUBLE, 1 of 32 null; every key has an expiry\n", process.CPUModel(), o.seed)
	for _, s := range storages {
		fmt.Fprintf(out, "  %s: %s\n", s.name, s.is)
	}
	var results []memoryResult
	for _, l := range layouts {
		size, err := data.PackedSize(l)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "a packed row of %v has %.0f bytes\n", l, size)
		for _, s := range storages {
			for _, r := range variants(l, s, o.listpack) {
				if r.perEntity, err = measureMemory(ctx, out, r, data); err != nil {
					return fmt.Errorf("%v as %s: %w", l, s.name, err)
				}
				results = append(results, r)
			}
		}
	}
	reportMemory(out, results, o.listpack[0])
	return nil
}

// variants returns a storage once for each setting that matters to it.
func variants(l workload.Layout, s storage, listpack []int) []memoryResult {
	if !s.hashes {
		return []memoryResult{{layout: l, storage: s}}
	}
	all := make([]memoryResult, len(listpack))
	for i, value := range listpack {
		all[i] = memoryResult{layout: l, storage: s, listpack: value}
	}
	return all
}

// measureMemory loads one storage in a new Redis and returns the bytes an entity.
func measureMemory(ctx context.Context, out io.Writer, r memoryResult, data workload.Data) (float64, error) {
	var args []string
	if r.listpack != 0 {
		args = []string{"--hash-max-listpack-value", strconv.Itoa(r.listpack)}
	}
	server, err := redisserver.Start(args...)
	if err != nil {
		return 0, err
	}
	defer server.Stop()
	before, err := usedMemory(ctx, server)
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	if err := r.storage.write(ctx, server, data, r.layout); err != nil {
		return 0, err
	}
	if err := settle(ctx, server); err != nil {
		return 0, err
	}
	after, err := usedMemory(ctx, server)
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(out, "%s loaded in %.1f s\n", r.name(0), time.Since(begun).Seconds())
	return float64(after-before) / float64(data.Entities), nil
}

// usedMemory asks for used_memory over a connection of its own, so that buffers of those that load do not count.
func usedMemory(ctx context.Context, server *redisserver.Server) (int64, error) {
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer client.Close()
	info, err := redisserver.Info(ctx, client, "memory")
	if err != nil {
		return 0, err
	}
	return info.Int("used_memory")
}

// pipelined is how many commands are sent at once.
const pipelined = 1000

// settle lets Redis finish the growth of its tables, which it does a little with every command: meanwhile it has an old and a new one.
func settle(ctx context.Context, server *redisserver.Server) error {
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer client.Close()
	size, err := client.DBSize(ctx).Result()
	if err != nil {
		return fmt.Errorf("ask for the number of keys: %w", err)
	}
	return pipeline(ctx, client, 2*int(size)+pipelined, func(pipe redis.Pipeliner, _ int) { pipe.Exists(ctx, "nothing") })
}

// pipeline calls add n times and sends what it adds, some at a time.
func pipeline(ctx context.Context, client *redis.Client, n int, add func(pipe redis.Pipeliner, i int)) error {
	for from := 0; from < n; from += pipelined {
		pipe := client.Pipeline()
		for i := from; i < min(from+pipelined, n); i++ {
			add(pipe, i)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return fmt.Errorf("write to Redis: %w", err)
		}
	}
	return nil
}

// writeOurs writes by the same code that a sync uses.
func writeOurs(ctx context.Context, server *redisserver.Server, data workload.Data, l workload.Layout) error {
	return data.Load(ctx, server.URL(), []workload.Layout{l})
}

// expiry is when the keys of the other storages expire, as ours do.
func expiry(data workload.Data) time.Time { return time.UnixMicro(data.BaseMicros).Add(workload.TTL) }

// writeStrings writes packed rows that it takes from a store of ours.
func writeStrings(ctx context.Context, server *redisserver.Server, data workload.Data, l workload.Layout) error {
	source, err := redisserver.Start()
	if err != nil {
		return err
	}
	defer source.Stop()
	if err := writeOurs(ctx, source, data, l); err != nil {
		return err
	}
	from := redis.NewClient(&redis.Options{Addr: source.Addr})
	defer from.Close()
	to := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer to.Close()
	at := expiry(data)
	rows := make([]*redis.SliceCmd, data.Entities)
	err = pipeline(ctx, from, data.Entities, func(pipe redis.Pipeliner, entity int) {
		rows[entity] = pipe.HMGet(ctx, workload.StoredKey(l, entity), l.ViewNames()...)
	})
	if err != nil {
		return err
	}
	return pipeline(ctx, to, data.Entities*l.Views, func(pipe redis.Pipeliner, i int) {
		entity, view := i/l.Views, i%l.Views
		key := fmt.Sprintf("%s:%s:%s:%d", workload.RedisPrefix, l.Entity(), l.View(view), entity)
		pipe.SetArgs(ctx, key, rows[entity].Val()[view], redis.SetArgs{ExpireAt: at})
	})
}

// writeFields writes a field a feature.
func writeFields(ctx context.Context, server *redisserver.Server, data workload.Data, l workload.Layout) error {
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer client.Close()
	at := expiry(data)
	return pipeline(ctx, client, data.Entities, func(pipe redis.Pipeliner, entity int) {
		key := workload.StoredKey(l, entity)
		pipe.HSet(ctx, key, fields(data, l, entity)...)
		pipe.PExpireAt(ctx, key, at)
	})
}

// fields returns the names and values of an entity's hash: for each feature 4 bytes that stand for its name and a protobuf field
// with the value, empty where it is null; for each view its event time in seconds.
func fields(data workload.Data, l workload.Layout, entity int) []any {
	pairs := make([]any, 0, 2*l.Views*(l.Features+1))
	for v := range l.Views {
		for f := range l.Features {
			name := fnv.New32a()
			_, _ = io.WriteString(name, l.View(v)+":"+l.Feature(f)) // never fails
			value := []byte{}
			if number, null := data.Value(l, v, f, entity); !null {
				value = binary.LittleEndian.AppendUint64([]byte{5<<3 | 1}, math.Float64bits(number))
			}
			pairs = append(pairs, name.Sum(nil), value)
		}
		seconds := data.EventTimeMicros(l, v, entity) / 1_000_000
		pairs = append(pairs, "_ts:"+l.View(v), binary.AppendUvarint([]byte{1 << 3}, uint64(seconds)))
	}
	return pairs
}

// reportMemory prints the table and the result line.
func reportMemory(out io.Writer, results []memoryResult, first int) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "\nlayout\tstorage\thash-max-listpack-value\tbytes/entity\tbytes/row\tof ours\t\n")
	base := map[workload.Layout]float64{}
	var line strings.Builder
	line.WriteString("RESULT")
	for _, r := range results {
		if r.storage.name == ours && r.listpack == first {
			base[r.layout] = r.perEntity
		}
		listpack := "-"
		if r.listpack != 0 {
			listpack = strconv.Itoa(r.listpack)
		}
		fmt.Fprintf(w, "%v\t%s\t%s\t%.0f\t%.0f\t%.2f\t\n", r.layout, r.storage.name, listpack, r.perEntity, r.perEntity/float64(r.layout.Views), r.perEntity/base[r.layout])
		fmt.Fprintf(&line, " %s=%.0f", r.name(first), r.perEntity)
	}
	_ = w.Flush() // standard output that cannot be written to has no reader to tell
	fmt.Fprintf(out, "\n%s\n", line.String())
}
