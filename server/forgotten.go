package server

import (
	"context"
	"errors"
	"time"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/syncstate"
)

// Rows of entities that were forgotten (twofold forget) are left out of what is pushed. A server goes by the list as it was at most Options.ForgottenMaxAge before; a push that
// took longer looks again, and takes back what it should not have written. syncer.Forgetter removes rows a second time once all that must be over.

// takeBackTimeout bounds taking rows back.
const takeBackTimeout = 5 * time.Second

// forgottenList is the list of forgotten entities as the server knows it.
type forgottenList struct {
	state *syncstate.Store
	// turn has an element while somebody is at the fields below.
	turn  chan struct{}
	known *syncstate.Forgotten
	// asked is when known was asked for.
	asked time.Time
}

func newForgottenList(store *online.Store) *forgottenList {
	return &forgottenList{state: syncstate.New(store), turn: make(chan struct{}, 1)}
}

// get returns the list as it was no longer than maxAge ago, and when.
func (f *forgottenList) get(ctx context.Context, maxAge time.Duration) (*syncstate.Forgotten, time.Time, error) {
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	case <-ctx.Done():
		return nil, time.Time{}, fault.New(fault.Unavailable, "read the list of forgotten entities: %w", ctx.Err())
	}
	if now := time.Now(); f.known == nil || now.Sub(f.asked) >= maxAge {
		list, err := f.state.ForgottenSince(ctx, f.known)
		if err != nil {
			return nil, time.Time{}, err
		}
		f.known, f.asked = list, now
	}
	return f.known, f.asked, nil
}

// writePushed writes pushed rows but those of forgotten entities, whose number it returns.
func (s *Server) writePushed(ctx context.Context, rows online.Rows) (stats online.WriteStats, forgotten int, err error) {
	list, asked, err := s.forgotten.get(ctx, s.o.ForgottenMaxAge)
	if err != nil {
		return stats, 0, err
	}
	if matcher := list.Matcher(rows.View.Entity); matcher != nil {
		rows.LeaveOut = matcher.Match(rows.Keys)
	}
	for _, is := range rows.LeaveOut {
		if is {
			forgotten++
		}
	}
	stats, err = s.o.Online.Write(ctx, rows)
	if time.Since(asked) >= s.o.ForgottenMaxAge && fault.KindOf(err) != fault.Invalid {
		err = errors.Join(err, s.takeBack(ctx, rows))
	}
	return stats, forgotten, err
}

// takeBack removes those of the rows written whose entities were forgotten meanwhile. Then the push fails, and one that is sent again leaves them out.
func (s *Server) takeBack(ctx context.Context, rows online.Rows) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackTimeout)
	defer cancel()
	list, _, err := s.forgotten.get(ctx, 0)
	if err != nil {
		return err
	}
	matcher := list.Matcher(rows.View.Entity)
	if matcher == nil {
		return nil
	}
	var back []int
	for row, is := range matcher.Match(rows.Keys) {
		if is && (rows.LeaveOut == nil || !rows.LeaveOut[row]) {
			back = append(back, row)
		}
	}
	if len(back) == 0 {
		return nil
	}
	keys := make([]*feature.Column, len(rows.Keys))
	for i, key := range rows.Keys {
		keys[i] = feature.NewColumn(key.Type, len(back))
		keys[i].Take(key, back, feature.Null)
	}
	if _, err := s.o.Online.Remove(ctx, rows.View, rows.Generation, keys); err != nil {
		return err
	}
	return fault.New(fault.Unavailable, "entities of %d of the rows were forgotten while they were written; push the rows again, and those are left out", len(back))
}
