package hotcache

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
)

// view is what the cache knows of a feature view, or of one generation of its rows in the store, which has a name of its own.
type view struct {
	name string
	// added counts the views before it.
	added uint64
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
	mu     sync.Mutex // held to change byName, added and markers
	added  uint64
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
	t.added++
	v := &view{name: name, added: t.added}
	next[name] = v
	forgetOld(next, name)
	t.byName.Store(&next)
	return v
}

// keptNames is how many names of one view are kept: its own, and those of the generations that were read first most lately. A name that is read again after it was
// forgotten is another view, which has none of its rows.
const keptNames = 5

// forgetOld removes from views the oldest name of the generations of one view where there are too many names.
func forgetOld(views map[string]*view, name string) {
	var oldest *view
	names := 0
	for other, v := range views {
		if plainName(other) != plainName(name) {
			continue
		}
		names++
		if other != plainName(other) && (oldest == nil || v.added < oldest.added) {
			oldest = v
		}
	}
	if names > keptNames && oldest != nil {
		delete(views, oldest.name)
	}
}

// plainName returns the name of the view whose rows are stored under a name: "weather" for "weather@7", see online.StoredName.
func plainName(name string) string {
	plain, _, _ := strings.Cut(name, "@")
	return plain
}

// observe takes note of a view's marker, nil where the store has none, and drops the view's rows, of all generations, where it is not the one seen before. It reports whether one was
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
	t.dropLocked(name)
	return changed
}

// forget drops a view's rows, and takes the next marker for a change.
func (t *viewTable) forget(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.addLocked(name)
	v.marker = marker{}
	t.dropLocked(name)
}

// dropLocked drops the rows of a view, in whatever generation of the store.
func (t *viewTable) dropLocked(name string) {
	for _, v := range *t.byName.Load() {
		if plainName(v.name) == name {
			v.generation.Add(1)
		}
	}
}
