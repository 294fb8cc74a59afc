package syncer

import (
	"context"
	"slices"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/pit"
	"github.com/twofold-ml/twofold/internal/syncstate"
)

// plan is what one run has to read.
type plan struct {
	// all are the files of the source, in the canonical order; read those whose rows are to be carried.
	all, read []offline.File
	// carried are the files that have been carried by earlier runs.
	carried *syncstate.Files
	// mark is what every server of the store has that has not lost its data since every file was carried; empty before putMark, where this plan is to carry them.
	mark string
	// content is what the rows of the generation that is made of them are like; nil with mode INCREMENTAL.
	content *content
	// progress is how far the run is.
	progress *runProgress
	// shard is whose entities are carried.
	shard Shard
	// whole says that every file is read, whatever has been carried before; else only new, changed and due ones are.
	whole bool
}

// newPlan finds out which files have rows to carry: those that are not in the list of what was carried, by name, size and version, and those of which a row was
// not due then and is now. All of them are, where it is not certain that the store has what the list says: when it has lost the view, when the definition
// is another, when the list cannot be read, and for a view with versions that expire.
func (s *Syncer) newPlan(ctx context.Context, view *feature.View, state *twofoldv1.SyncState, asOf feature.AsOf, full bool) (*plan, error) {
	p := &plan{carried: syncstate.NewFiles()}
	var err error
	if p.all, err = s.o.Offline.Table(view).Files(ctx); err != nil {
		return nil, err
	}
	p.whole = full || readsAll(view)
	if !p.whole {
		holds, err := s.holds(ctx, view, state)
		if err != nil {
			return nil, err
		}
		p.whole = !holds
	}
	if !p.whole {
		p.mark = state.GetMark()
		if p.carried, err = s.state.Files(ctx, state); fault.KindOf(err) == fault.Corrupt {
			s.o.Logger.WarnContext(ctx, "the list of carried files is damaged; every file is read again", "feature_view", view.Name, "error", err)
			p.whole, p.mark, p.carried, err = true, "", syncstate.NewFiles(), nil
		}
		if err != nil {
			return nil, err
		}
	}
	p.choose(asOf)
	if view.Sync.Mode == feature.Snapshot && !p.whole && (len(p.read) > 0 || p.carried.Len() != len(p.all)) {
		p.whole, p.read, p.carried = true, p.all, syncstate.NewFiles() // a generation is made of every file
	}
	return p, nil
}

// readsAll reports whether each run reads every file of a view. Versions that have expired are left out as long as nothing newer of their entity is stored, and count again once
// there is.
func readsAll(view *feature.View) bool { return view.HistoryVersions > 0 && view.TTL > 0 }

// holds reports whether the store has what the view's state says was carried.
func (s *Syncer) holds(ctx context.Context, view *feature.View, state *twofoldv1.SyncState) (bool, error) {
	if state.GetFiles() == "" || state.GetDefinitionHash() != view.CarryHash() || state.GetCarryingHash() != view.CarryHash() {
		return false, nil
	}
	stored, _, err := s.o.Online.SyncStates(ctx, []*feature.View{view})
	if err != nil || stored[0] != online.Synced {
		return false, err
	}
	return s.isMarkedEverywhere(ctx, view.Name, state.GetMark())
}

// choose finds out which files are read.
func (p *plan) choose(asOf feature.AsOf) {
	for _, file := range p.all {
		if due, ok := p.carried.Due(file); p.whole || !ok || int64(due) <= int64(asOf) {
			p.read = append(p.read, file)
		}
	}
}

// done is the list of carried files after a run, due being the least event time of the rows of each file that were left for later.
func (p *plan) done(due map[string]feature.EventTime) *syncstate.Files {
	files := syncstate.NewFiles()
	for _, file := range p.all {
		if next, ok := p.carried.Due(file); ok {
			files.Add(file, next)
		}
	}
	for _, file := range p.read {
		next, ok := due[file.URL]
		if !ok {
			next = syncstate.NotDue
		}
		files.Add(file, next)
	}
	return files
}

// find finds the rows of a plan's files that are to be carried: those that the store would keep had it been given every row of the source. due is the
// least event time of the rows that were left for later, for each file that has some.
//
// Of two rows of an entity with equal times the one of the later file wins, by name. So where a file that was carried before comes after one
// that is read now, its rows of the same times are looked at again: else the row of the earlier file would be written last, and stay.
func (s *Syncer) find(ctx context.Context, view *feature.View, p *plan, asOf feature.AsOf, bad *badRows) (winners *pit.Winners, due map[string]feature.EventTime, err error) {
	scan, err := s.scan(view, p.read)
	if err != nil {
		return nil, nil, err
	}
	if winners, err = s.newest(ctx, view, scan, asOf, p, bad); err != nil {
		return nil, nil, err
	}
	due = winners.Due()
	both, within := withLater(p.all, p.read), winners.EventTimes()
	if len(both) == len(p.read) || within.Min > within.Max {
		return winners, due, nil
	}
	if scan, err = s.scan(view, both); err != nil {
		return nil, nil, err
	}
	if winners, err = s.newest(ctx, view, clipped{scan, within}, asOf, p, bad); err != nil {
		return nil, nil, err
	}
	// Rows from outside the range may have come as well, without those of equal times that stand in parts which were left unread. They were carried before.
	winners.Within(within)
	return winners, due, nil
}

// scan reads some files of a view, rows that cannot be carried included: they are counted.
func (s *Syncer) scan(view *feature.View, files []offline.File) (*offline.Scan, error) {
	scan := s.o.Offline.Table(view).Scan()
	scan.KeepBadRows()
	return scan, scan.Only(files)
}

// withLater returns the files to read and all that come after the first of them, in the canonical order.
func withLater(all, read []offline.File) []offline.File {
	return all[slices.Index(all, read[0]):]
}

// clipped is a source without rows from outside a range of event times, as far as its statistics tell.
type clipped struct {
	pit.Source
	within feature.TimeRange
}

// Fragments implements pit.Source.
func (c clipped) Fragments(ctx context.Context, within feature.TimeRange) ([]pit.Fragment, int64, error) {
	within.Min, within.Max = max(within.Min, c.within.Min), min(within.Max, c.within.Max)
	return c.Source.Fragments(ctx, within)
}
