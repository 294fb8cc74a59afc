package pit

import (
	"context"
	"fmt"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// winnerShare reads the winners of one fragment.
type winnerShare struct {
	winners  *Winners
	refs     []winnerRef // that are still to come
	features []int
	fragment Fragment
	first    int64 // position of the fragment's first row
	// batches gives the values of one batch after the other; nil where each is gathered by itself, and until it is known which.
	batches feature.Gatherer
	opened  bool
}

func (w *Winners) openShare(f int, features []int) *winnerShare {
	h := w.scan.history
	return &winnerShare{winners: w, refs: w.share(f), features: features, fragment: h.fragments[f], first: h.starts[f]}
}

// each calls read, which reads the next batch, until none is left.
func (s *winnerShare) each(read func(*winnerShare) error) error {
	defer func() {
		if s.batches != nil {
			s.batches.Close()
		}
	}()
	for len(s.refs) > 0 {
		if err := read(s); err != nil {
			return err
		}
	}
	return nil
}

// next replaces the contents of b by at most size winners, and returns those of them that are valid; see Winners.takeInvalid.
func (s *winnerShare) next(ctx context.Context, b *WinnerBatch, size int, invalid map[winnerRef]bool) (valid WinnerBatch, err error) {
	refs := s.refs[:min(size, len(s.refs))]
	err = fault.Guard(func() (err error) {
		if err = s.open(ctx, len(refs) < len(s.refs)); err != nil {
			return err
		}
		if err = s.fill(ctx, b, refs); err == nil {
			valid, err = s.winners.takeInvalid(*b, refs, invalid)
		}
		return err
	})
	if err != nil {
		return valid, fmt.Errorf("feature view %q: %w", s.winners.scan.history.view.Name, err)
	}
	s.refs = s.refs[len(refs):]
	return valid, nil
}

// open has the values read in one go where there are several batches and the fragment can do that.
func (s *winnerShare) open(ctx context.Context, several bool) (err error) {
	fragment, ok := s.fragment.(feature.BatchFragment)
	if s.opened || !several || !ok || len(s.features) == 0 {
		return nil
	}
	s.opened = true
	rows := s.liveRows()
	if len(rows) == 0 {
		return nil
	}
	s.batches, err = fragment.GatherBatches(ctx, rows, s.features)
	return err
}

// liveRows are the rows of those winners that are no tombstones.
func (s *winnerShare) liveRows() []int64 {
	rows := make([]int64, 0, len(s.refs))
	for _, r := range s.refs {
		if at := s.winners.scan.best(r).position; !at.isTombstone() {
			rows = append(rows, at.row()-s.first)
		}
	}
	return rows
}

// gather appends the values of the next winners, whose rows these are.
func (s *winnerShare) gather(ctx context.Context, rows []int64, dst []*feature.Column) error {
	if s.batches == nil {
		return gatherRows(ctx, s.fragment, rows, s.features, dst)
	}
	return checkedGather(ctx, rows, s.features, dst, func() error { return s.batches.Next(len(rows), dst) })
}
