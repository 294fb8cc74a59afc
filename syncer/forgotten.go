package syncer

import (
	"context"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// newest finds the newest row of a source that the store would keep of each entity, without those that were forgotten (see Forgetter). The list of these is read under
// the view's lease, or the shard's: who puts an entity there takes these leases afterwards, and removes what a run has written that read the list before.
func (s *Syncer) newest(ctx context.Context, view *feature.View, source pit.Source, asOf feature.AsOf, p *plan, bad *badRows) (*pit.Winners, error) {
	winners, err := s.newestOfAll(ctx, view, source, asOf, p, bad)
	if err != nil {
		return nil, err
	}
	return winners, s.state.LeaveOutForgotten(ctx, view.Entity, winners.Forget)
}
