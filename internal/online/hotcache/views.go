package hotcache

import (
	"maps"
	"sync"
	"sync/atomic"
)

// view is what the cache knows of a feature view.
type view struct {
	name string
	// generation counts how often the view's rows were dropped. A row is served only in the generation in which it was asked for.
	generation atomic.Uint64
	// marker is the last that was seen, guarded by viewTable.mu.
	marker marker
}

// marker is the value that marks a view as synced, which is another one after each full sync.
type marker struct {
	// known is whether the store was ever asked for it.
	known bool
	// stored is whether the store has one.
	stored bool
	value  string
}

// viewTable has every view that was read or marked. Views come from definitions, so there are few; they are looked up without a lock.
type viewTable struct {
	byName atomic.Pointer[map[string]*view]
	mu     sync.Mutex // held to change byName and markers
}

// lookup returns a view, nil where it was neither read nor marked yet.
func (t *viewTable) lookup(name string) *view {
	if known := t.byName.Load(); known != nil {
		return (*known)[name]
	}
	return nil
}

// appendViews appends the views of these names to dst.
func (t *viewTable) appendViews(dst []*view, names []string) []*view {
	for _, name := range names {
		v := t.lookup(name)
		if v == nil {
			v = t.add(name)
		}
		dst = append(dst, v)
	}
	return dst
}

func (t *viewTable) add(name string) *view {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.addLocked(name)
}

func (t *viewTable) addLocked(name string) *view {
	if v := t.lookup(name); v != nil {
		return v
	}
	next := map[string]*view{}
	if known := t.byName.Load(); known != nil {
		next = maps.Clone(*known)
	}
	v := &view{name: name}
	next[name] = v
	t.byName.Store(&next)
	return v
}

// observe takes note of a view's marker, nil where the store has none, and drops the view's rows where it is not the one seen before. It reports whether one was
// seen before and has changed.
func (t *viewTable) observe(name string, value []byte) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.addLocked(name)
	if v.marker.known && v.marker.stored == (value != nil) && v.marker.value == string(value) {
		return false
	}
	changed = v.marker.known
	v.marker = marker{known: true, stored: value != nil, value: string(value)}
	v.generation.Add(1)
	return changed
}

// forget drops a view's rows, and takes the next marker for a change.
func (t *viewTable) forget(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.addLocked(name)
	v.marker = marker{}
	v.generation.Add(1)
}
