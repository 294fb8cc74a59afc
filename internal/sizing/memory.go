package sizing

import "github.com/twofold-ml/twofold/internal/feature"

// memory is what the rows of all views take in Redis.
type memory struct {
	redis Redis
	// byView is the memory of each view: of a hash that several share in proportion to the bytes of their rows.
	byView map[*reading]float64
	// keys and expiring are the numbers of keys, and of those that expire.
	keys, expiring float64
	// byKind is the number of keys of each kind.
	byKind map[kind]float64
}

// kind is what a key is of: all views of an entity that keep the newest row, or one view with versions.
type kind struct {
	entity string
	// view is empty for a hash.
	view string
}

// measure returns the memory of the rows of the views.
func measure(r Redis, readings []*reading) *memory {
	m := &memory{redis: r, byView: map[*reading]float64{}, byKind: map[kind]float64{}}
	hashes := map[*feature.Entity][]*reading{}
	var entities []*feature.Entity
	for _, v := range readings {
		if v.view.HistoryVersions > 0 {
			m.addHistory(v)
			continue
		}
		if hashes[v.view.Entity] == nil {
			entities = append(entities, v.view.Entity)
		}
		hashes[v.view.Entity] = append(hashes[v.view.Entity], v)
	}
	for _, e := range entities {
		m.addHashes(e, hashes[e])
	}
	return m
}

// addHashes adds the hashes of an entity: one field for each view.
func (m *memory) addHashes(e *feature.Entity, views []*reading) {
	sums, bytes := make([]float64, len(views)), make([]int, len(views))
	keys, expiring := 0.0, 0.0
	var fields []field
	each := eachHolder(views, func(h holder) {
		fields = h.rowsOf(views, fields[:0], bytes)
		if len(fields) == 0 {
			return
		}
		expires, all := true, 0
		for i, v := range views {
			expires = expires && !(h.has[i] && isLasting(v.view))
			all += bytes[i]
		}
		keys++
		if expires {
			expiring++
		}
		cost := float64(keyMemory(len(m.redis.KeyPrefix)+len(e.Name)+2+h.keyBytes, expires) + m.redis.hashMemory(fields))
		for i, n := range bytes {
			sums[i] += cost * float64(n) / float64(all)
		}
	})
	for i, v := range views {
		m.byView[v] += sums[i] * each
	}
	m.byKind[kind{entity: e.Name}] += keys * each
	m.keys += keys * each
	m.expiring += expiring * each
}

// historyMark stands in the key of a history, see redisstore.
const historyMark = "::history:"

// addHistory adds the sorted sets of a view with versions: one for each entity, and for each generation.
func (m *memory) addHistory(v *reading) {
	total, seen := float64(v.count().Value), float64(len(v.sample.entities))
	if seen == 0 {
		return
	}
	name := len(m.redis.KeyPrefix) + len(historyMark) + len(v.view.Entity.Name) + 1 + nameBytes(v.view) + 1
	sum, keys := 0.0, 0.0
	var sizes []int
	for hash, e := range v.sample.entities {
		versions, marked := v.kept(hash)
		sizes = sizes[:0]
		for i := range versions {
			sizes = append(sizes, v.drawn(hash+uint64(i)))
		}
		if versions == 0 {
			continue
		}
		keys++
		sum += float64(keyMemory(name+int(e.keyBytes), !isLasting(v.view)) + m.redis.zsetMemory(sizes, marked))
	}
	each := total / seen * float64(generations(v.view))
	m.byView[v] += sum * each
	m.byKind[kind{v.view.Entity.Name, v.view.Name}] += keys * each
	m.keys += keys * each
	if !isLasting(v.view) {
		m.expiring += keys * each
	}
}

// isLasting reports whether the store has no expiry for a view's rows.
func isLasting(v *feature.View) bool { return v.TTL == 0 || v.KeepsLastGood() }

// tables is the memory of the tables of all keys.
func (m *memory) tables() int64 { return keyTables(round(m.keys), round(m.expiring)) }

// total is all memory.
func (m *memory) total() int64 {
	sum := 0.0
	for _, bytes := range m.byView {
		sum += bytes
	}
	return round(sum) + m.tables()
}
