package server

import (
	"context"
	"errors"

	"github.com/twofold-ml/twofold/internal/definition"
)

// Reload makes the server answer by other definitions. The change is atomic: a call under
// way goes on by the definitions that it began with, and each later one goes by the new ones alone.
//
// A view that is new, and that the online store has no rows of yet, is answered with UNAVAILABLE until it is synced. The server stays ready
// meanwhile, for the sake of the other views. The store is asked once, within Options.PingInterval; if it does not answer, the
// new views count as not synced until it does.
func (s *Server) Reload(ctx context.Context, set *definition.Set) error {
	if set == nil {
		return errors.New("server: no definitions to reload")
	}
	s.reloading.Lock()
	defer s.reloading.Unlock()
	old := s.catalog.Load()
	if old.registry.Hash() == set.Hash() {
		return nil
	}
	next, err := newCatalog(set, s.metrics, s.o.Online, old)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.PingInterval)
	defer cancel()
	_, brought, err := next.unsynced.split(ctx)
	s.catalog.Store(next)
	if err != nil {
		s.o.Logger.Warn("whether new feature views are synced is not known yet; requests for them ask again", "error", err)
	}
	if len(brought) > 0 {
		s.o.Logger.Warn("new feature views are not synced yet; requests for them are answered with UNAVAILABLE until they are", "feature_views", brought)
	}
	return nil
}
