package offline

import (
	"maps"
	"slices"

	"github.com/twofold-ml/twofold/internal/fault"
)

// Pin makes the scan read exactly these versions of these files, whatever has come since. Call it before Fragments, which fails with kind Precondition
// where one of them was replaced or removed, or none is given. The files must lie where the table's do: others are not read, but reported as removed.
func (s *Scan) Pin(files []File) error {
	s.pinned = make(map[string]File, len(files))
	for _, f := range files {
		if _, twice := s.pinned[f.URL]; twice {
			return fault.New(fault.Invalid, "the file %s is listed twice", f.URL)
		}
		s.pinned[f.URL] = f
	}
	return nil
}

// choose returns those of the objects that are pinned; all of them where nothing is.
func (s *Scan) choose(objects []object) ([]object, error) {
	if s.pinned == nil {
		return objects, nil
	}
	if len(s.pinned) == 0 {
		return nil, fault.New(fault.Precondition, "no source file is listed for the view, so none may be read; give the manifest as it was written")
	}
	chosen := make([]object, 0, len(s.pinned))
	found := make(map[string]bool, len(s.pinned))
	for _, o := range objects {
		now := fileOf(o)
		then, ok := s.pinned[now.URL]
		if !ok {
			continue
		}
		if now != then {
			return nil, fault.New(fault.Precondition, "the source file %s was replaced: it has %d bytes and version %s, and had %d bytes and version %s; put the earlier one back, or make a new training set",
				now.URL, now.SizeBytes, now.ETag, then.SizeBytes, then.ETag)
		}
		found[now.URL] = true
		chosen = append(chosen, o)
	}
	for _, url := range slices.Sorted(maps.Keys(s.pinned)) {
		if !found[url] {
			f := s.pinned[url]
			return nil, fault.New(fault.Precondition, "the source file %s (%d bytes, version %s) is no longer there; put it back, or make a new training set", url, f.SizeBytes, f.ETag)
		}
	}
	return chosen, nil
}
