package sizing

import "math"

// Count is a number of entities.
type Count struct {
	// Value is the estimate. It lies between Least and Most: in any case as far as row groups were left unread, in 19 of 20 cases as far as entities were
	// sampled by their hashes.
	Value int64 `json:"value"`
	Least int64 `json:"least"`
	Most  int64 `json:"most"`
}

// IsExact reports whether there is nothing to doubt.
func (c Count) IsExact() bool { return c.Least == c.Most }

// count estimates the number of entities from a sample of some of the row groups: share is the share of the rows that were read, and unread the number of the others, each of
// which may be of an entity that was not seen.
func (s *sample) count(groups int, share float64, unread int64) Count {
	seen, scale := float64(len(s.entities)), s.scale()
	value := seen * scale
	if unread > 0 {
		value = scale * unseen(seen, s.seenIn(1), s.seenIn(2), float64(groups), share)
	}
	error95 := 0.0
	if s.level > 0 {
		error95 = 2 * math.Sqrt((1-1/scale)*max(seen, 1)) * scale
	}
	least := max(seen, seen*scale-error95)
	most := seen*scale + error95 + float64(unread)
	return Count{Value: round(min(max(value, least), most)), Least: round(least), Most: round(most)}
}

// unseen estimates how many entities there are where some row groups were read: once is the number of entities that were seen in one row group only, twice in two. It is the estimator
// of Chao and Lin (2012) for sampling without replacement: entities that all turn up in every row group are all seen, of entities that each are in one
// the share of the rows was.
func unseen(seen, once, twice, groups, share float64) float64 {
	if once == 0 || share <= 0 || share >= 1 {
		return seen
	}
	again := 2 * twice
	if groups > 1 {
		again *= groups / (groups - 1)
	}
	return seen + once*once/(again+share/(1-share)*once)
}

func round(x float64) int64 { return int64(math.Round(x)) }
