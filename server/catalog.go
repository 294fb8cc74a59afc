package server

import (
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/twofold-ml/twofold/internal/definition"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
)

// selectionCacheSize is how many distinct selections of features are kept resolved.
const selectionCacheSize = 1024

// catalog is one set of definitions and everything that depends on it alone, worked out once: when definitions change,
// a new catalog takes its place as a whole (see Server.Reload). A call loads it once and goes by it from beginning to end.
type catalog struct {
	definitions *definition.Set
	registry    *feature.Registry
	selections  *lru.Cache[string, *onlineSelection]
	metrics     *metrics
	unsynced    *unsyncedViews
}

// onlineSelection is a resolved selection with its plan for the online store.
type onlineSelection struct {
	*feature.Selection
	plan *online.Plan
	// firstColumn is the index in Columns of a column of each view.
	firstColumn []int
	// synced says of each view whether a sync fills it.
	synced []bool
	// snapshots says that a sync fills one of them by generations.
	snapshots bool
	// counters has each view's row counters.
	counters []*viewCounters
}

// newCatalog returns the catalog of definitions that take the place of previous, which is nil for the first.
func newCatalog(definitions *definition.Set, m *metrics, store *online.Store, previous *catalog) (*catalog, error) {
	selections, err := lru.New[string, *onlineSelection](selectionCacheSize)
	if err != nil {
		return nil, err
	}
	c := &catalog{definitions: definitions, registry: definitions.Registry, selections: selections, metrics: m}
	if previous == nil {
		c.unsynced = newUnsyncedViews(c.registry, store, nil)
	} else {
		c.unsynced = newUnsyncedViews(c.registry, store, previous.unsynced)
	}
	return c, nil
}

// online returns the resolved form of an online selection.
func (c *catalog) online(query feature.SelectionQuery) (*onlineSelection, error) {
	key := cacheKey(query)
	if found, ok := c.selections.Get(key); ok {
		return found, nil
	}
	selection, err := c.registry.Select(query)
	if err != nil {
		return nil, err
	}
	plan, err := online.NewPlan(selection)
	if err != nil {
		return nil, err
	}
	resolved := &onlineSelection{Selection: selection, plan: plan, firstColumn: make([]int, len(selection.Views))}
	for i := len(selection.Columns) - 1; i >= 0; i-- {
		resolved.firstColumn[selection.Columns[i].View] = i
	}
	for _, view := range selection.Views {
		resolved.synced = append(resolved.synced, view.View.IsSynced())
		resolved.snapshots = resolved.snapshots || (view.View.IsSynced() && view.View.Sync.Mode == feature.Snapshot)
		resolved.counters = append(resolved.counters, c.metrics.view(view.View.Name))
	}
	c.selections.Add(key, resolved)
	return resolved, nil
}

// cacheKey is injective whatever the names hold: each has its length before it.
func cacheKey(q feature.SelectionQuery) string {
	const lengthBytes = 4
	size := 1 + lengthBytes + len(q.Service)
	for _, f := range q.Features {
		size += lengthBytes + len(f)
	}
	var b strings.Builder
	b.Grow(size)
	short := byte('l')
	if q.ShortNames {
		short = 's'
	}
	b.WriteByte(short)
	add := func(name string) {
		n := len(name)
		b.WriteByte(byte(n >> 24))
		b.WriteByte(byte(n >> 16))
		b.WriteByte(byte(n >> 8))
		b.WriteByte(byte(n))
		b.WriteString(name)
	}
	add(q.Service)
	for _, f := range q.Features {
		add(f)
	}
	return b.String()
}
