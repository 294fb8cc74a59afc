package main

import (
	"fmt"
	"strings"

	"github.com/twofold-ml/twofold/bench/internal/workload"
	"github.com/twofold-ml/twofold/internal/definition"
	"github.com/twofold-ml/twofold/internal/feature"
)

// Names of the synced view and its entity.
const (
	loadedView   = "loaded"
	loadedEntity = "customer"
)

// loadedKeyPrefix begins the Redis keys of the synced view's entities.
const loadedKeyPrefix = workload.RedisPrefix + ":" + loadedEntity + ":"

// readShape is what online requests ask for, of a view that is not synced, so that there are always answers.
var readShape = workload.Shape{Views: 1, Features: 10, Rows: 10}

// definitions returns the YAML of the synced view, and of the view that is read. The ttl is so long that no row expires while data is kept.
func (h history) definitions() []byte {
	l := readShape.Layout()
	var b strings.Builder
	fmt.Fprintf(&b, "entities:\n  - {name: %s, keys: [{name: %s, type: INT64}]}\n  - {name: %s, keys: [{name: %s, type: INT64}]}\n",
		loadedEntity, keyColumn, l.Entity(), workload.KeyName)
	fmt.Fprintf(&b, "feature_views:\n  - name: %s\n    entity: %s\n    source: {path: '%s/*.parquet', event_time_column: %s, created_time_column: %s}\n    ttl: 87600h\n    features:\n",
		loadedView, loadedEntity, h.name(), timeColumn, createdColumn)
	for f := range loaded.Features {
		fmt.Fprintf(&b, "      - {name: %s, type: DOUBLE}\n", loaded.Feature(f))
	}
	fmt.Fprintf(&b, "  - name: %s\n    entity: %s\n    source: {path: none.parquet, event_time_column: %s}\n    ttl: %ds\n    sync: {enabled: false}\n    features:\n",
		l.View(0), l.Entity(), timeColumn, int(workload.TTL.Seconds()))
	for f := range l.Features {
		fmt.Fprintf(&b, "      - {name: %s, type: DOUBLE}\n", l.Feature(f))
	}
	fmt.Fprintf(&b, "feature_services:\n  - {name: %s, features: ['%s:*']}\n", l.Service(), l.View(0))
	return []byte(b.String())
}

// view returns the checked definition of the synced view.
func (h history) view() (*feature.View, error) {
	set, err := definition.Parse([]definition.File{{Name: "bench.yaml", Data: h.definitions()}}, definition.Defaults{})
	if err != nil {
		return nil, fmt.Errorf("check the benchmark's definitions: %w", err)
	}
	return set.Registry.View(loadedView)
}
