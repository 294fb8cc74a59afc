// Package sizing estimates what feature views take in the online store before anything is written: entities, bytes of a row, memory of Redis, rows a second
// and money. It reads the files' footers, the keys and times of the rows that a sync would read, and the values of a few of them. How the estimate
// is made, and how far it can be trusted, is in docs/reference/sizing.md.
package sizing

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/twofold-ml/twofold/internal/config"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
)

// sampledEntities is the most entities of a view that are looked at one by one. Of more, half as many at the least are, which tells their number within 1.2 %
// in 19 of 20 cases.
const sampledEntities = 1 << 16

// Options say what is estimated, and how closely.
type Options struct {
	// AsOf is the moment of the sync that is estimated. Required.
	AsOf feature.AsOf
	// Exact counts every entity; it takes about 50 bytes of memory for each, more for versions. Otherwise up to 65,536 entities of a view are counted, and more estimated.
	Exact bool
	// SampleRowGroups is the most row groups of a view whose keys are read; the others are estimated from them. Defaults to 0, which is all.
	SampleRowGroups int
	// ChangeShare is the share of the entities that change between two runs, 0 to 1. Defaults to nil: estimated from the event times.
	ChangeShare *float64
	// Replicas is how many copies of the memory there are besides the first. Defaults to 0.
	Replicas int
	// Redis is how the server is set.
	Redis Redis
	// Prices are what things cost.
	Prices Prices
}

// Check reports what is wrong with the options, without AsOf.
func (o Options) Check() error {
	switch {
	case o.SampleRowGroups < 0:
		return fault.New(fault.Invalid, "the number of row groups to read is negative (%d); 0 reads all", o.SampleRowGroups)
	case o.Exact && o.SampleRowGroups > 0:
		return fault.New(fault.Invalid, "an exact count reads all row groups: choose it or a sample of them")
	case o.Replicas < 0:
		return fault.New(fault.Invalid, "the number of replicas is negative (%d)", o.Replicas)
	case o.ChangeShare != nil && !(*o.ChangeShare >= 0 && *o.ChangeShare <= 1):
		return fault.New(fault.Invalid, "the share of the entities that change in a run is %v; it is from 0 to 1", *o.ChangeShare)
	}
	if err := o.Redis.check(); err != nil {
		return err
	}
	return o.Prices.check()
}

// Plan is what views take. Bytes are bytes of the store that is meant; a GB is 10^9 of them.
type Plan struct {
	// AsOf is the moment of the sync that is estimated.
	AsOf time.Time `json:"as_of"`
	// Views in the order in which they were asked for.
	Views []View `json:"views"`
	// Keys of Redis, one line for each kind.
	Keys []Keys `json:"keys"`
	// KeyTablesBytes is the memory of Redis' tables of all keys, which is no view's own.
	KeyTablesBytes int64 `json:"key_tables_bytes"`
	// MemoryBytes is the memory of Redis that all rows take, in one copy; PeakMemoryBytes while the largest snapshot is made anew.
	MemoryBytes     int64 `json:"memory_bytes"`
	PeakMemoryBytes int64 `json:"peak_memory_bytes"`
	// PackedMemoryBytes is MemoryBytes where hash-max-listpack-value and zset-max-listpack-value are 1024.
	PackedMemoryBytes int64 `json:"packed_memory_bytes"`
	// Replicas is how many copies there are besides the first; the cost has them.
	Replicas int `json:"replicas"`
	// Costs a month.
	Costs []Cost `json:"costs"`
	// CostPerMonth is the sum of them, in the currency of the prices.
	CostPerMonth float64 `json:"cost_per_month"`
	// Notes are what to know beside the figures, one sentence each.
	Notes []string `json:"notes,omitempty"`
}

// View is what one view takes.
type View struct {
	Name   string `json:"name"`
	Entity string `json:"entity"`
	// Layout is LATEST or HISTORY, Mode INCREMENTAL or SNAPSHOT.
	Layout string `json:"layout"`
	Mode   string `json:"mode"`
	// Files, their bytes and rows.
	Files     int   `json:"files"`
	FileBytes int64 `json:"file_bytes"`
	Rows      int64 `json:"rows"`
	// RowGroups that a first sync reads, and those that were read for the estimate; RowsRead are the rows in the latter.
	RowGroups     int   `json:"row_groups"`
	RowGroupsRead int   `json:"row_groups_read"`
	RowsRead      int64 `json:"rows_read"`
	// Entities with rows online.
	Entities Count `json:"entities"`
	// Versions is the mean number of rows of an entity that are online: 1, but for HISTORY.
	Versions float64 `json:"versions"`
	// RowBytes is the mean size of a stored row.
	RowBytes float64 `json:"row_bytes"`
	// OnlineBytes is all stored rows together, MemoryBytes what they take in Redis.
	OnlineBytes int64 `json:"online_bytes"`
	MemoryBytes int64 `json:"memory_bytes"`
	// IntervalSeconds is the time between two runs.
	IntervalSeconds float64 `json:"interval_seconds"`
	// FirstRunRows is how many rows the first run writes, and RunRows a later one; RowsPerSecond is RunRows spread over the interval.
	FirstRunRows  int64   `json:"first_run_rows"`
	RunRows       float64 `json:"run_rows"`
	RowsPerSecond float64 `json:"rows_per_second"`
	// What the first run and a later one read from the files, and send to Redis.
	FirstRunReadBytes int64 `json:"first_run_read_bytes"`
	FirstRunSendBytes int64 `json:"first_run_send_bytes"`
	RunReadBytes      int64 `json:"run_read_bytes"`
	RunSendBytes      int64 `json:"run_send_bytes"`
	// RunRequests is how many requests of S3 a later run makes, were the files there.
	RunRequests float64 `json:"run_requests"`
}

// Keys are the keys of Redis of one kind.
type Keys struct {
	// Type is hash or zset.
	Type   string `json:"type"`
	Entity string `json:"entity"`
	// View is empty for hashes, which all LATEST views of the entity share.
	View string `json:"view,omitempty"`
	Keys int64  `json:"keys"`
}

// Estimate estimates what the views take. Errors name the view that they are about and keep the kind that the files gave them; those of all views are joined.
func Estimate(ctx context.Context, views []*feature.View, store *offline.Store, o Options) (*Plan, error) {
	o.Redis = o.Redis.WithDefaults()
	if err := o.Check(); err != nil {
		return nil, err
	}
	readings := make([]*reading, len(views))
	var failures []error
	for i, view := range views {
		var err error
		if readings[i], err = read(ctx, view, store, o); err != nil {
			failures = append(failures, fmt.Errorf("feature view %q: %w", view.Name, err))
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(failures...); err != nil {
		return nil, err
	}
	return plan(readings, o), nil
}

// plan makes the figures of what was read.
func plan(readings []*reading, o Options) *Plan {
	m := measure(o.Redis, readings)
	packed := o.Redis
	packed.HashMaxListpackValue = max(packed.HashMaxListpackValue, packedValue)
	packed.ZsetMaxListpackValue = max(packed.ZsetMaxListpackValue, packedValue)
	p := &Plan{
		AsOf: time.UnixMicro(int64(o.AsOf)).UTC(), KeyTablesBytes: m.tables(), MemoryBytes: m.total(),
		PackedMemoryBytes: measure(packed, readings).total(), Replicas: o.Replicas,
	}
	snapshot := 0.0
	for _, r := range readings {
		p.Views = append(p.Views, r.figures(m, o))
		if r.view.Sync.Mode == feature.Snapshot {
			snapshot = max(snapshot, m.byView[r]/float64(generations(r.view)))
		}
	}
	p.PeakMemoryBytes = p.MemoryBytes + round(snapshot)
	p.addKeys(m, readings)
	p.addCosts(readings, o)
	p.addNotes(readings, o)
	return p
}

// packedValue is the limit in bytes that redisstore advises to set: rows up to it are kept packed.
const packedValue = 1024

// figures returns what one view takes.
func (r *reading) figures(m *memory, o Options) View {
	v := View{
		Name: r.view.Name, Entity: r.view.Entity.Name, Layout: "LATEST", Mode: r.view.Sync.Mode.String(), Files: len(r.files), Rows: r.rows,
		RowGroups: r.groups, RowGroupsRead: r.groupsRead, RowsRead: r.rowsRead, Entities: r.count(), Versions: 1, RowBytes: r.rowMean(),
		MemoryBytes: round(m.byView[r]), IntervalSeconds: r.view.Sync.Interval.Seconds(),
	}
	for _, f := range r.files {
		v.FileBytes += f.SizeBytes
	}
	if r.view.HistoryVersions > 0 {
		v.Layout, v.Versions = "HISTORY", r.versionsMean()
	}
	rows := float64(v.Entities.Value) * v.Versions
	v.OnlineBytes = round(rows * v.RowBytes * float64(generations(r.view)))
	v.FirstRunRows = round(rows)
	v.RunRows = r.runRows(rows, o.ChangeShare)
	if v.IntervalSeconds > 0 {
		v.RowsPerSecond = v.RunRows / v.IntervalSeconds
	}
	r.addTraffic(&v, o)
	return v
}

// versionsMean is the mean number of rows of an entity that are kept.
func (r *reading) versionsMean() float64 {
	if len(r.sample.entities) == 0 {
		return 0
	}
	sum := 0
	for hash := range r.sample.entities {
		versions, _ := r.kept(hash)
		sum += versions
	}
	return float64(sum) / float64(len(r.sample.entities))
}

// runRows is how many of the view's rows a run writes, but for the first: all of a snapshot, and of other views those that came since the run before. rows is
// how many there are online.
func (r *reading) runRows(rows float64, changeShare *float64) float64 {
	switch {
	case rows == 0:
		return 0
	case r.view.Sync.Mode == feature.Snapshot:
		return rows
	case changeShare != nil:
		return rows * *changeShare
	}
	came := r.cameInRun()
	if r.view.HistoryVersions > 0 || r.isOfOneRun() {
		return min(came, rows)
	}
	// Of an entity of which several rows came only the newest is written.
	return rows * (1 - math.Exp(-came/rows))
}

// cameInRun is the mean number of rows that come between two runs: by the rows in the time that they are from.
func (r *reading) cameInRun() float64 {
	usable := float64(r.usable) * float64(r.rowsWanted) / float64(max(1, r.rowsRead))
	if r.isOfOneRun() {
		return usable
	}
	return usable * float64(r.view.Sync.Interval.Microseconds()) / r.spanMicros()
}

// spanMicros is the time that the rows are from: until now for a view whose rows expire, else until the last of them.
func (r *reading) spanMicros() float64 {
	if r.usable == 0 {
		return 0
	}
	last := r.last
	if r.view.TTL > 0 {
		last = max(last, int64(r.asOf))
	}
	return float64(last) - float64(r.first)
}

// isOfOneRun reports whether all rows are from within one interval, so that it cannot be known how many come in the next: all of them are thought to.
func (r *reading) isOfOneRun() bool {
	return r.spanMicros() <= float64(r.view.Sync.Interval.Microseconds())
}

// addKeys adds a line for each kind of keys, in the order of the views.
func (p *Plan) addKeys(m *memory, readings []*reading) {
	added := map[kind]bool{}
	for _, r := range readings {
		k, line := kind{entity: r.view.Entity.Name}, Keys{Type: "hash", Entity: r.view.Entity.Name}
		if r.view.HistoryVersions > 0 {
			k.view, line.View, line.Type = r.view.Name, r.view.Name, "zset"
		}
		if !added[k] {
			added[k] = true
			line.Keys = round(m.byKind[k])
			p.Keys = append(p.Keys, line)
		}
	}
}

// addNotes adds what the figures do not say.
func (p *Plan) addNotes(readings []*reading, o Options) {
	note := func(format string, args ...any) { p.Notes = append(p.Notes, fmt.Sprintf(format, args...)) }
	for i, r := range readings {
		v := r.view
		switch {
		case r.rows == 0:
			note("%s: its files have no rows", v.Name)
		case p.Views[i].Entities.Value == 0 && v.TTL > 0:
			note("%s: no row is from the last %s (ttl and expired_retention as of %s), so a sync would write none", v.Name, config.FormatDuration(v.KeepFor().Duration()),
				p.AsOf.Format(time.RFC3339))
		case p.Views[i].Entities.Value == 0:
			note("%s: no row has a key and an event time until %s, so a sync would write none", v.Name, p.AsOf.Format(time.RFC3339))
		}
		if r.usable > 0 && r.isOfOneRun() && o.ChangeShare == nil && v.Sync.Mode != feature.Snapshot {
			note("%s: all rows that a sync carries are from within one interval (%s), so that all are thought to come anew in each run; --change-share says how many do",
				v.Name, config.FormatDuration(v.Sync.Interval))
		}
		if r.isPart() {
			note("%s: the keys of %d of %d row groups were read; its entities are at least %d and at most %d", v.Name, r.groupsRead, r.groups,
				p.Views[i].Entities.Least, p.Views[i].Entities.Most)
		}
		if v.KeepsLastGood() {
			note("%s: it keeps its last good rows (sync.keep_last_good), so memory is not given back while no run succeeds: entities that stop coming stay", v.Name)
		}
		if other := outlives(r, readings); other != nil && p.Views[i].Entities.Value > 0 {
			note("%s: its rows share hashes with those of %s, which are kept longer, and stay in memory as long: the estimate has only rows that are not older than %s",
				v.Name, other.view.Name, config.FormatDuration(v.KeepFor().Duration()))
		}
		if r.isPart() && v.HistoryVersions > 0 {
			note("%s: entities may have more versions than were seen in the row groups that were read, and take more memory", v.Name)
		} else if v.HistoryVersions > 0 && p.Views[i].Entities.Value > 0 && p.Views[i].Versions < float64(v.HistoryVersions) {
			note("%s: entities have %.1f of %d versions after the first run, and may come to have all of them", v.Name, p.Views[i].Versions, v.HistoryVersions)
		}
	}
	if p.PeakMemoryBytes > p.MemoryBytes {
		note("while a snapshot is made, its new generation is in memory too: up to %s in all", megabytes(p.PeakMemoryBytes))
	}
	if saved := p.MemoryBytes - p.PackedMemoryBytes; saved*20 > p.MemoryBytes {
		note("with hash-max-listpack-value and zset-max-listpack-value %d in Redis' configuration the memory would be %s, %d %% less", packedValue,
			megabytes(p.PackedMemoryBytes), round(100*float64(saved)/float64(p.MemoryBytes)))
	}
	if o.Replicas > 0 {
		note("memory is that of one copy; the cost has %d replicas more", o.Replicas)
	}
}

func megabytes(n int64) string { return strconv.FormatFloat(float64(n)/1e6, 'g', 3, 64) + " MB" }

// outlives returns another view in the same hashes whose rows are kept longer, nil where there is none.
func outlives(r *reading, readings []*reading) *reading {
	keep := r.view.KeepFor()
	if isLasting(r.view) || r.view.HistoryVersions > 0 {
		return nil
	}
	for _, o := range readings {
		other := o.view.KeepFor()
		if o.view.Entity == r.view.Entity && o.view.HistoryVersions == 0 && (isLasting(o.view) || other > keep) {
			return o
		}
	}
	return nil
}
