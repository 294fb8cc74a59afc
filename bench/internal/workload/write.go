package workload

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/twofold-ml/twofold/internal/definition"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/redisstore"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

const (
	// writeChunk is how many entities are written at a time, to all views of the layout.
	writeChunk = 2000
	// writers is how many chunks are written at once: more than Redis, one thread, can take.
	writers = 2
)

// Registry returns the checked definitions of the layouts.
func Registry(layouts []Layout) (*feature.Registry, error) {
	set, err := definition.Parse([]definition.File{{Name: "bench.yaml", Data: Definitions(layouts)}}, definition.Defaults{})
	if err != nil {
		return nil, fmt.Errorf("check the benchmark's definitions: %w", err)
	}
	return set.Registry, nil
}

// Load opens the Redis at a URL and writes the layouts into it, by the same code that a sync uses.
func (d Data) Load(ctx context.Context, url string, layouts []Layout) error {
	driver, err := redisstore.Open(redisstore.Options{URL: url, Timeout: time.Minute})
	if err != nil {
		return err
	}
	store := online.NewStore(driver, online.Options{})
	err = d.Write(ctx, store, layouts)
	if closeErr := store.Close(); err == nil {
		err = closeErr
	}
	return err
}

// Write stores the rows of every entity in all views of the layouts, and marks the views as synced.
func (d Data) Write(ctx context.Context, store *online.Store, layouts []Layout) error {
	registry, err := Registry(layouts)
	if err != nil {
		return err
	}
	for _, l := range layouts {
		if err := d.writeLayout(ctx, store, registry, l); err != nil {
			return fmt.Errorf("write the entities of %v: %w", l, err)
		}
		for _, name := range l.ViewNames() {
			if err := store.MarkSynced(ctx, name, time.UnixMicro(d.BaseMicros)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d Data) writeLayout(ctx context.Context, store *online.Store, registry *feature.Registry, l Layout) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for from := 0; from < d.Entities; from += writeChunk {
		to := min(from+writeChunk, d.Entities)
		group.Go(func() error {
			for v := range l.Views {
				view, err := registry.View(l.View(v))
				if err != nil {
					return err
				}
				stats, err := store.Write(ctx, d.rows(l, v, view, from, to))
				if err != nil {
					return err
				}
				if stats.Written != to-from {
					return fmt.Errorf("%d of %d rows were written, the store was not empty: %+v", stats.Written, to-from, stats)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// rows returns the rows of some entities in one view.
func (d Data) rows(l Layout, v int, view *feature.View, from, to int) online.Rows {
	n := to - from
	rows := online.Rows{
		View: view, Keys: []*feature.Column{feature.NewColumn(feature.Int64, n)}, EventTimes: feature.NewColumn(feature.Timestamp, n),
		Features: make([]*feature.Column, l.Features), BatchSize: n,
	}
	for entity := from; entity < to; entity++ {
		rows.Keys[0].AppendInt64(int64(entity))
		rows.EventTimes.AppendInt64(d.EventTimeMicros(l, v, entity))
	}
	for f := range rows.Features {
		rows.Features[f] = feature.NewColumn(feature.Double, n)
		for entity := from; entity < to; entity++ {
			if value, null := d.Value(l, v, f, entity); null {
				rows.Features[f].AppendMissing(feature.Null)
			} else {
				rows.Features[f].AppendDouble(value)
			}
		}
	}
	return rows
}

// PackedSize returns the mean size of a layout's packed rows in bytes, of the first entities.
func (d Data) PackedSize(l Layout) (float64, error) {
	registry, err := Registry([]Layout{l})
	if err != nil {
		return 0, err
	}
	view, err := registry.View(l.View(0))
	if err != nil {
		return 0, err
	}
	n := min(d.Entities, writeChunk)
	rows := d.rows(l, 0, view, 0, n)
	schema := storedrow.SchemaOf(view)
	var packed []byte
	for row := range n {
		event := feature.EventTime(rows.EventTimes.Int64s[row])
		if packed, err = storedrow.AppendRow(packed, schema, event, feature.NoCreatedTime, rows.Features, row); err != nil {
			return 0, err
		}
	}
	return float64(len(packed)) / float64(n), nil
}
