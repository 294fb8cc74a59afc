package server_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/twofold-ml/twofold/internal/feature"
)

// world is random definitions, and what the online store must hold for them: the simplest model that one could write, a map a view.
type world struct {
	keys     []feature.Key // what entities are made of; entities that share a key share the request's column
	pool     map[string][]any
	entities []worldEntity
	views    []*worldView
	services []worldService
}

type worldEntity struct {
	name string
	keys []feature.Key
}

type worldView struct {
	name     string
	entity   worldEntity
	ttl      time.Duration
	retain   time.Duration
	versions int
	features []worldFeature
	rows     map[string]worldRow // by entity key
}

type worldFeature struct {
	name   string
	t      feature.Type
	online bool
}

type worldService struct {
	name     string
	features []string
}

// worldRow is the newest row of an entity.
type worldRow struct {
	event, created int64
	tombstone      bool
	values         map[string]any
}

// keyValues has, for each type, keys that are easily mistaken: for one another, for no key, for the stored form of several.
var keyValues = map[feature.Type][]any{
	feature.Int32:  {int32(0), int32(1), int32(-1), int32(math.MinInt32), int32(math.MaxInt32), int32(11)},
	feature.Int64:  {int64(0), int64(1), int64(-1), int64(math.MinInt64), int64(math.MaxInt64), int64(math.MaxInt32) + 1, int64(111)},
	feature.String: {"", "1", "-1", "1:1,1", "1:a,", "a", ":", "{a}b", "{}", "é東京🛫", "\x00", "a\r\nb", "$-1\r\n", "2:ab,c"},
	feature.Bytes:  {[]byte{}, []byte{0}, []byte{0, 0}, []byte{0xff, 0xfe}, []byte("1:a,"), []byte("a"), []byte("{a}"), []byte(",:{}\r\n"), []byte("1")},
}

func newWorld(r *rand.Rand) *world {
	w := &world{pool: map[string][]any{}}
	for i := range 2 + r.IntN(4) {
		key := feature.Key{Name: fmt.Sprintf("k%d", i), Type: pick(r, feature.Int32, feature.Int64, feature.String, feature.Bytes)}
		w.keys = append(w.keys, key)
		w.pool[key.Name] = sample(r, keyValues[key.Type], 4)
	}
	for i := range 1 + r.IntN(4) {
		w.entities = append(w.entities, worldEntity{fmt.Sprintf("entity_%d", i), sample(r, w.keys, 1+r.IntN(3))})
	}
	for i := range 1 + r.IntN(6) {
		w.views = append(w.views, newWorldView(r, i, pick(r, w.entities...)))
	}
	for i := range 2 {
		var names []string
		for _, v := range sample(r, w.views, 1+r.IntN(3)) {
			names = append(names, v.pickFeatures(r)...)
		}
		r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		w.services = append(w.services, worldService{fmt.Sprintf("service_%d.v1", i), names})
	}
	return w
}

func newWorldView(r *rand.Rand, i int, entity worldEntity) *worldView {
	v := &worldView{name: fmt.Sprintf("view_%d", i), entity: entity, rows: map[string]worldRow{}}
	if r.IntN(3) > 0 {
		v.ttl = pick(r, time.Hour, 90*time.Minute, 24*time.Hour, time.Hour+time.Microsecond)
		v.retain = pick(r, v.ttl, 2*time.Hour)
	}
	if r.IntN(4) == 0 {
		v.versions = 2 + r.IntN(4)
	}
	var types []feature.Type
	for t := feature.Bool; t <= feature.TimestampList; t++ {
		types = append(types, t)
	}
	if i > 0 { // the first view has all types
		types = sample(r, types, 1+r.IntN(8))
	}
	for j, t := range types {
		f := worldFeature{fmt.Sprintf("f%d", j), t, j == 0 || r.IntN(6) > 0}
		if r.IntN(2) == 0 { // else other views have a feature of that name
			f.name = fmt.Sprintf("v%d_f%d", i, j)
		}
		v.features = append(v.features, f)
	}
	return v
}

// pickFeatures names some of the view's online features, or, where that means online ones only, all of them.
func (v *worldView) pickFeatures(r *rand.Rand) []string {
	var names []string
	offline := false
	for _, f := range v.features {
		if f.online {
			names = append(names, v.name+":"+f.name)
		} else {
			offline = true
		}
	}
	if r.IntN(3) == 0 && !offline {
		return []string{v.name + ":*"}
	}
	return sample(r, names, 1+r.IntN(len(names)))
}

func (w *world) view(name string) *worldView {
	return w.views[slices.IndexFunc(w.views, func(v *worldView) bool { return v.name == name })]
}

// yaml writes the definitions down.
func (w *world) yaml() string {
	var b strings.Builder
	b.WriteString("entities:\n")
	for _, e := range w.entities {
		fmt.Fprintf(&b, "  - name: %s\n    keys:\n", e.name)
		for _, k := range e.keys {
			fmt.Fprintf(&b, "      - {name: %s, type: %v}\n", k.Name, k.Type)
		}
	}
	b.WriteString("feature_views:\n")
	for _, v := range w.views {
		fmt.Fprintf(&b, "  - name: %s\n    entity: %s\n    source: {path: %s.parquet, event_time_column: at}\n    sync: {enabled: false}\n", v.name, v.entity.name, v.name)
		if v.ttl > 0 {
			fmt.Fprintf(&b, "    ttl: %gs\n    expired_retention: %gs\n", v.ttl.Seconds(), v.retain.Seconds())
		}
		if v.versions > 0 {
			fmt.Fprintf(&b, "    layout: HISTORY\n    history_versions: %d\n", v.versions)
		}
		b.WriteString("    features:\n")
		for _, f := range v.features {
			fmt.Fprintf(&b, "      - {name: %s, type: %v, online: %v}\n", f.name, f.t, f.online)
		}
	}
	b.WriteString("feature_services:\n")
	for _, s := range w.services {
		fmt.Fprintf(&b, "  - {name: %s, features: [\"%s\"]}\n", s.name, strings.Join(s.features, `", "`))
	}
	return b.String()
}

// entityKey is one entity's key in the model; no two have the same.
func entityKey(values []any) string { return text(values) }

// outcomes are the counts that a push must answer with.
type outcomes struct{ written, older, unchanged, expired uint64 }

// push applies one row.
func (v *worldView) push(key string, row worldRow, now int64, o *outcomes) {
	if v.ttl > 0 && v.versions == 0 && now-row.event > (v.ttl+v.retain).Microseconds() {
		o.expired++
		return
	}
	stored, ok := v.rows[key]
	switch {
	case !ok:
	case row.event != stored.event:
		ok = row.event < stored.event
	case row.created != stored.created:
		ok = row.created < stored.created
	case stored.tombstone && !row.tombstone:
	case stored.tombstone == row.tombstone && (row.tombstone || sameValues(stored, row)):
		o.unchanged++
		return
	default:
		ok = false
	}
	if ok {
		o.older++
		return
	}
	o.written++
	v.rows[key] = row
}

func sameValues(a, b worldRow) bool {
	for name, v := range a.values {
		if o := b.values[name]; (v == nil) != (o == nil) || (v != nil && !same(v, o)) {
			return false
		}
	}
	return true
}

// read is what a feature of an entity must be at a moment: its status, the value that stands there, and the event time of the row.
func (v *worldView) read(key string, null bool, f worldFeature, ttl time.Duration, asOf int64, includeExpired bool) (status feature.Status, value any, event int64) {
	zero := zeroValue(f.t)
	row, ok := v.rows[key]
	if null || !ok || row.tombstone {
		return feature.NotFound, zero, 0
	}
	// An age past the largest number is an age.
	age := asOf - row.event
	expired := ttl > 0 && asOf > row.event && (age < 0 || age > ttl.Microseconds())
	value = row.values[f.name]
	switch {
	case expired && !includeExpired:
		return feature.Expired, zero, row.event
	case value == nil:
		return feature.Null, zero, row.event
	case expired:
		return feature.Expired, value, row.event
	default:
		return feature.Present, value, row.event
	}
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// sample returns up to n different ones, in any order.
func sample[T any](r *rand.Rand, from []T, n int) []T {
	out := slices.Clone(from)
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(n, len(out))]
}

// randomValue is any value of a type, null now and then, special ones often.
func randomValue(r *rand.Rand, t feature.Type) any {
	if r.IntN(6) == 0 {
		return nil
	}
	if !t.IsList() {
		return randomScalar(r, t)
	}
	list := []any{}
	for range pick(r, 0, 1, 2, 3, 40) {
		list = append(list, randomScalar(r, t.Elem()))
	}
	return list
}

func randomScalar(r *rand.Rand, t feature.Type) any {
	switch t {
	case feature.Bool:
		return r.IntN(2) == 0
	case feature.Int32:
		return pick[int32](r, 0, 1, -1, math.MinInt32, math.MaxInt32, int32(r.Uint32()))
	case feature.Int64, feature.Timestamp:
		return pick[int64](r, 0, -1, math.MinInt64, math.MaxInt64, int64(r.Uint64()))
	case feature.Float:
		return pick(r, 0, float32(math.Copysign(0, -1)), float32(math.Inf(1)), math.Float32frombits(0x7fc1_2345), r.Float32())
	case feature.Double:
		return pick(r, 0, math.Copysign(0, -1), math.Inf(-1), math.Float64frombits(0x7ff8_0000_dead_beef), math.Float64frombits(0xfff0_0000_0000_0001), r.NormFloat64())
	case feature.String:
		return pick(r, "", "\x00", "Zürich → 東京 🛫", strings.Repeat("compresses well ", 200), fmt.Sprint(r.Uint64()))
	default:
		b := make([]byte, r.IntN(40))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
}
