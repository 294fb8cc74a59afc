package sizing

import (
	"math"

	"github.com/twofold-ml/twofold/internal/feature"
)

// holder is an entity that stands for some: how long its key is, and which of the views that share a hash have a row of it.
type holder struct {
	keyBytes int
	has      []bool
	// seed draws the sizes of its rows.
	seed uint64
}

// eachHolder calls visit with entities of views that share a hash, and returns how many each of them stands for. What visit is given is valid until it returns.
func eachHolder(views []*reading, visit func(holder)) (each float64) {
	for _, v := range views {
		if v.isPart() {
			return eachLikelyHolder(views, visit)
		}
	}
	return eachSampledHolder(views, visit)
}

// eachSampledHolder is eachHolder where all row groups were read: the samples say which views share which entities.
func eachSampledHolder(views []*reading, visit func(holder)) float64 {
	level := commonLevel(views)
	h := holder{has: make([]bool, len(views))}
	for i, v := range views {
		for hash, e := range v.sample.entities {
			if !level.has(hash) || anyHas(views[:i], hash) {
				continue
			}
			h.keyBytes, h.seed = int(e.keyBytes), hash
			for k := range views {
				_, h.has[k] = views[k].sample.entities[hash]
			}
			visit(h)
		}
	}
	return level.scale()
}

// commonLevel returns an empty sample of the highest level of the views'.
func commonLevel(views []*reading) *sample {
	common := &sample{}
	for _, v := range views {
		common.level = max(common.level, v.sample.level)
	}
	return common
}

func anyHas(views []*reading, hash uint64) bool {
	for _, v := range views {
		if _, ok := v.sample.entities[hash]; ok {
			return true
		}
	}
	return false
}

// eachLikelyHolder is eachHolder where row groups were left unread, so that an entity that one view has may not have been seen in another: what share of a view's
// entities the largest view has too is estimated from those that were seen, and those that it has not are taken for the same ones in all views.
func eachLikelyHolder(views []*reading, visit func(holder)) float64 {
	totals, largest := make([]float64, len(views)), 0
	for i, v := range views {
		totals[i] = float64(v.count().Value)
		if totals[i] > totals[largest] {
			largest = i
		}
	}
	most := views[largest]
	if len(most.sample.entities) == 0 {
		return 1
	}
	each := totals[largest] / float64(len(most.sample.entities))
	within, outside, besides := make([]float64, len(views)), make([]float64, len(views)), 0
	for i := range views {
		shared := math.Min(totals[i]*sharedShare(views[i], most, totals[largest]), totals[largest])
		within[i], outside[i] = shared/totals[largest], totals[i]-shared
		if outside[i] > outside[besides] {
			besides = i
		}
	}
	h := holder{has: make([]bool, len(views))}
	for hash, e := range most.sample.entities {
		h.keyBytes, h.seed = int(e.keyBytes), hash
		h.draw(within)
		visit(h)
	}
	for i := range views {
		outside[i] /= math.Max(1, outside[besides]) // shares from here on
	}
	alone := math.Round((totals[besides] - within[besides]*totals[largest]) / each)
	h.keyBytes = int(math.Round(views[besides].keyMean()))
	for n := range uint64(math.Max(0, alone)) {
		h.seed = mix(n + 1)
		h.draw(outside)
		visit(h)
	}
	return each
}

// draw decides by the seed which views have a row, each with its likelihood.
func (h *holder) draw(likelihoods []float64) {
	for i, likelihood := range likelihoods {
		h.has[i] = float64(mix(h.seed+uint64(i)+1)>>11)/(1<<53) < likelihood
	}
}

// sharedShare is about the share of the entities of a view that another one has too, of which so many are thought to be there.
func sharedShare(v, other *reading, total float64) float64 {
	if v == other {
		return 1
	}
	level := commonLevel([]*reading{v, other})
	var seen, shared, others float64
	for hash := range v.sample.entities {
		if !level.has(hash) {
			continue
		}
		seen++
		if _, ok := other.sample.entities[hash]; ok {
			shared++
		}
	}
	for hash := range other.sample.entities {
		if level.has(hash) {
			others++
		}
	}
	if seen == 0 || others == 0 {
		return 0
	}
	return math.Min(1, shared/seen*total/(others*level.scale()))
}

// rowsOf returns the rows that a holder has, as fields of its hash, and by the view how many bytes they are. A snapshot has one for each generation.
func (h holder) rowsOf(views []*reading, fields []field, bytes []int) []field {
	for i, v := range views {
		bytes[i] = 0
		if !h.has[i] {
			continue
		}
		for g := range generations(v.view) {
			f := field{nameBytes(v.view), v.drawn(h.seed + uint64(i<<8+g))}
			fields = append(fields, f)
			bytes[i] += f.name + f.value
		}
	}
	return fields
}

// generations is how many generations of a view's rows are stored between two runs.
func generations(v *feature.View) int {
	if v.Sync.Mode == feature.Snapshot {
		return 1 + v.Sync.Snapshot.KeepGenerations
	}
	return 1
}

// nameBytes is the length of the name under which a view's rows are stored: a generation of a snapshot is view@1795437600.
func nameBytes(v *feature.View) int {
	if v.Sync.Mode == feature.Snapshot {
		return len(v.Name) + len("@1795437600")
	}
	return len(v.Name)
}
