package sizing

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

// How many rows are read with their values, to be packed as they would be stored: of so many row groups, spread evenly, so many rows each.
const (
	packedGroups = 16
	packedRows   = 512
)

// rowGroup is a row group of a view's files, as offline.Fragment is one.
type rowGroup interface {
	feature.Fragment
	KeyBytes() int64
	FeatureBytes(columns []int) int64
}

// reading is what was read of one view's files.
type reading struct {
	view  *feature.View
	asOf  feature.AsOf
	files []offline.File
	// remote is whether the files are in S3.
	remote bool
	// rows is the number of rows in all files, rowsWanted of those in the row groups that a sync reads, rowsRead of those that were read.
	rows, rowsWanted, rowsRead int64
	// groups is the number of row groups that a sync reads, groupsRead of those that were read.
	groups, groupsRead int
	// keyBytes and featureBytes are what the columns of the row groups that a sync reads take in their files.
	keyBytes, featureBytes int64

	mu     sync.Mutex
	sample *sample
	// usable is the number of rows read that a sync may carry, first and last their least and greatest event time.
	usable      int64
	first, last int64
	// rowBytes are the sizes of some stored rows.
	rowBytes []int
}

// read reads what there is to know of a view.
func read(ctx context.Context, view *feature.View, store *offline.Store, o Options) (*reading, error) {
	scan := store.Table(view).Scan()
	scan.KeepBadRows()
	r := newReading(view, o)
	found, pruned, err := scan.RowGroups(ctx, r.within())
	if err != nil {
		return nil, err
	}
	r.files = scan.Files()
	if r.remote, err = scan.IsRemote(); err != nil {
		return nil, err
	}
	groups := make([]rowGroup, len(found))
	for i, f := range found {
		groups[i] = f
	}
	return r, r.readGroups(ctx, groups, pruned, o)
}

func newReading(view *feature.View, o Options) *reading {
	versions := 0
	if view.HistoryVersions > 0 {
		versions = view.HistoryVersions + 1
	}
	limit := sampledEntities
	if o.Exact {
		limit = math.MaxInt
	}
	return &reading{view: view, asOf: o.AsOf, sample: newSample(limit, versions), first: math.MaxInt64, last: math.MinInt64}
}

// within is the range of event times that a sync reads; see syncer.
func (r *reading) within() feature.TimeRange {
	within := feature.TimeRange{Min: math.MinInt64, Max: feature.EventTime(r.asOf)}
	if keep := int64(r.view.KeepFor()); keep > 0 && r.view.HistoryVersions == 0 && int64(r.asOf) > math.MinInt64+keep {
		within.Min = feature.EventTime(int64(r.asOf) - keep)
	}
	return within
}

func (r *reading) readGroups(ctx context.Context, groups []rowGroup, pruned int64, o Options) error {
	r.rows, r.groups = pruned, len(groups)
	features := r.view.OnlineFeatures()
	for _, g := range groups {
		r.rowsWanted += g.NumRows()
		r.keyBytes += g.KeyBytes()
		r.featureBytes += g.FeatureBytes(features)
	}
	r.rows += r.rowsWanted
	chosen := choose(groups, o.SampleRowGroups)
	r.groupsRead = len(chosen)
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(runtime.GOMAXPROCS(0))
	for i, g := range chosen {
		isPacked := i == 0 || i*packedGroups/len(chosen) != (i-1)*packedGroups/len(chosen)
		work.Go(func() error {
			return fault.Guard(func() error { return r.readGroup(ctx, g, uint64(i), isPacked) })
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	slices.Sort(r.rowBytes) // the order in which row groups were done is nobody's
	r.dropExpired()
	return nil
}

// choose returns at most n row groups, all for 0: the same ones each time, in their order.
func choose(groups []rowGroup, n int) []rowGroup {
	if n == 0 || n >= len(groups) {
		return groups
	}
	places := rand.New(rand.NewPCG(uint64(len(groups)), uint64(n))).Perm(len(groups))[:n]
	slices.Sort(places)
	chosen := make([]rowGroup, n)
	for i, place := range places {
		chosen[i] = groups[place]
	}
	return chosen
}

// part is what one row group adds to a reading.
type part struct {
	*reading
	sample      *sample
	usable      int64
	first, last int64
	// packed are the rows that are to be packed: some of the usable ones, each as likely as any other; nil where none are.
	packed []packedRow
	random *rand.Rand
	key    []byte
}

// packedRow is the position of a row, and whether it deletes its entity.
type packedRow struct {
	position int64
	deleted  bool
}

func (r *reading) readGroup(ctx context.Context, g rowGroup, number uint64, isPacked bool) error {
	p := &part{reading: r, sample: r.newSample(), first: math.MaxInt64, last: math.MinInt64}
	if isPacked {
		p.packed, p.random = make([]packedRow, 0, packedRows), rand.New(rand.NewPCG(number, 1))
	}
	err := g.Keys(ctx, r.within(), func(batch feature.KeyBatch) error {
		bad := invalidKeys(batch)
		for row := range batch.Len() {
			if !bad[row] {
				p.add(batch, row)
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	sizes, err := p.pack(ctx, g)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sample.merge(p.sample)
	r.rowsRead += g.NumRows()
	r.usable += p.usable
	r.first, r.last = min(r.first, p.first), max(r.last, p.last)
	r.rowBytes = append(r.rowBytes, sizes...)
	return nil
}

// newSample returns an empty sample of the entities that are looked at by now: others would be dropped by those who merge it.
func (r *reading) newSample() *sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := newSample(r.sample.limit, r.sample.versions)
	s.level = r.sample.level
	return s
}

// invalidKeys returns the rows whose keys are not UTF-8 where they should be: no sync carries them.
func invalidKeys(batch feature.KeyBatch) map[int]bool {
	var bad map[int]bool
	for _, key := range batch.Keys {
		for row := range key.InvalidText() {
			if bad == nil {
				bad = map[int]bool{}
			}
			bad[row] = true
		}
	}
	return bad
}

// add counts one row, unless a sync leaves it out.
func (p *part) add(batch feature.KeyBatch, row int) {
	if !batch.EventTimes.IsPresent(row) {
		return
	}
	event := batch.EventTimes.Int64s[row]
	within := p.within()
	if event < int64(within.Min) || event > int64(within.Max) {
		return
	}
	var ok bool
	if p.key, ok = feature.AppendKey(p.key[:0], batch.Keys, row); !ok {
		return
	}
	p.sample.add(hashOf(p.key), len(p.key), event)
	p.usable++
	p.first, p.last = min(p.first, event), max(p.last, event)
	if p.packed == nil {
		return
	}
	deleted := batch.Deleted != nil && batch.Deleted.IsPresent(row) && batch.Deleted.Bools[row]
	if one := (packedRow{batch.First + int64(row), deleted}); len(p.packed) < packedRows {
		p.packed = append(p.packed, one)
	} else if i := p.random.Int64N(p.usable); i < packedRows {
		p.packed[i] = one
	}
}

// pack returns the sizes of some rows as they would be stored.
func (p *part) pack(ctx context.Context, g rowGroup) ([]int, error) {
	if len(p.packed) == 0 {
		return nil, nil
	}
	slices.SortFunc(p.packed, func(a, b packedRow) int { return cmp.Compare(a.position, b.position) })
	rows := make([]int64, len(p.packed))
	for i, one := range p.packed {
		rows[i] = one.position
	}
	features := p.view.OnlineFeatures()
	columns := make([]*feature.Column, len(features))
	for i, f := range features {
		columns[i] = feature.NewColumn(p.view.Features[f].Type, len(p.packed))
	}
	if err := g.Gather(ctx, rows, features, columns); err != nil {
		return nil, err
	}
	schema := storedrow.SchemaOf(p.view)
	sizes := make([]int, len(p.packed))
	var packed []byte
	for row := range sizes {
		if p.packed[row].deleted {
			sizes[row] = len(storedrow.AppendTombstone(packed[:0], 0, 0))
			continue
		}
		var err error
		if packed, err = storedrow.AppendRow(packed[:0], schema, 0, 0, columns, row); err != nil {
			return nil, fmt.Errorf("row %d: %w", rows[row], err)
		}
		sizes[row] = len(packed)
	}
	return sizes, nil
}

// dropExpired leaves out the entities of a view with versions that have nothing left to be kept: no sync carries them.
func (r *reading) dropExpired() {
	keep := r.view.KeepFor()
	r.sample.drop(func(hash uint64) bool {
		times := r.sample.times[hash]
		return len(times) > 0 && keep.Expired(feature.EventTime(times[len(times)-1]), r.asOf)
	})
}

// count is the number of entities that a sync carries.
func (r *reading) count() Count {
	share := 1.0
	if r.rowsWanted > 0 {
		share = float64(r.rowsRead) / float64(r.rowsWanted)
	}
	return r.sample.count(r.groupsRead, share, r.rowsWanted-r.rowsRead)
}

// isPart reports whether some of the row groups were not read.
func (r *reading) isPart() bool { return r.groupsRead < r.groups }

// rowMean is the mean size of a stored row.
func (r *reading) rowMean() float64 {
	sum := 0
	for _, n := range r.rowBytes {
		sum += n
	}
	return float64(sum) / float64(max(1, len(r.rowBytes)))
}

// keyMean is the mean length of a key.
func (r *reading) keyMean() float64 {
	sum := 0.0
	for _, e := range r.sample.entities {
		sum += float64(e.keyBytes)
	}
	return sum / float64(max(1, len(r.sample.entities)))
}

// drawn is the size of a stored row of an entity: that of one of the rows that were packed, the same one for the same number each time.
func (r *reading) drawn(number uint64) int {
	if len(r.rowBytes) == 0 {
		return 0
	}
	return r.rowBytes[mix(number)%uint64(len(r.rowBytes))]
}

// kept is how many versions of an entity are stored, and whether the store knows that there were older ones.
func (r *reading) kept(hash uint64) (versions int, marked bool) {
	keep := r.view.KeepFor()
	times := r.sample.times[hash]
	for _, event := range times {
		if !keep.Expired(feature.EventTime(event), r.asOf) {
			versions++
		}
	}
	versions = min(versions, r.view.HistoryVersions)
	return versions, versions < len(times)
}
