package syncstate

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
)

// The generations of a view with mode SNAPSHOT, as its state lists them. Each is in one place: live, or among the previous ones, which are whole and may be
// returned to, or among those to be removed. These functions change a state in memory; Store.Update stores it.

// BeginGeneration returns a generation that is to be made of rows kept there. Until it is published it is listed as one to be removed, so that one that was given
// up half way is never served and leaves nothing behind.
func BeginGeneration(state *twofoldv1.SyncState, rows string, now time.Time) *twofoldv1.Generation {
	number := uint64(max(now.Unix(), 1))
	for _, g := range append(slices.Concat(state.GetPrevious(), state.GetRemoving()), state.GetLive()) {
		number = max(number, g.GetNumber()+1)
	}
	number = max(number, state.GetBegunGeneration()+1)
	state.BegunGeneration = number
	g := &twofoldv1.Generation{Number: number, Rows: rows}
	state.Removing = append(state.Removing, g)
	return proto.CloneOf(g)
}

// Publish has a generation served that was begun, in place of the live one.
func Publish(state *twofoldv1.SyncState, g *twofoldv1.Generation, now time.Time) {
	DropGeneration(state, g.GetNumber())
	setLive(state, proto.CloneOf(g), now)
}

// setLive makes a generation the live one, and the one that was the first of the previous ones.
func setLive(state *twofoldv1.SyncState, g *twofoldv1.Generation, now time.Time) {
	if old := state.GetLive(); old != nil {
		old.ReplacedAtMicros = now.UnixMicro()
		state.Previous = slices.Insert(state.Previous, 0, old)
	}
	g.PublishedAtMicros, g.ReplacedAtMicros = now.UnixMicro(), 0
	state.Live = g
}

// Rollback has a previous generation served again: the one of that number or, where it is 0, the newest of those that are older than the live one. Only generations whose rows are
// kept there count.
func Rollback(state *twofoldv1.SyncState, rows string, number uint64, now time.Time) error {
	at, best := -1, uint64(0)
	for i, g := range state.GetPrevious() {
		if !CanServe(g, rows) {
			continue
		}
		if number == 0 && g.GetNumber() < state.GetLive().GetNumber() && g.GetNumber() > best {
			at, best = i, g.GetNumber()
		}
		if number != 0 && g.GetNumber() == number {
			at = i
		}
	}
	switch {
	case state.GetLive() == nil:
		return fault.New(fault.Precondition, "no generation is live, so there is nothing to return from; run `twofold sync`")
	case number != 0 && number == state.GetLive().GetNumber():
		return fault.New(fault.Precondition, "generation %d is live already", number)
	case at < 0 && number != 0:
		return fault.New(fault.Precondition, "generation %d is not stored, or is kept by another definition of the view", number)
	case at < 0:
		return fault.New(fault.Precondition, "no generation before %d is stored; sync.snapshot.keep_generations says how many are kept", state.GetLive().GetNumber())
	}
	g := state.Previous[at]
	state.Previous = slices.Delete(state.Previous, at, at+1)
	setLive(state, g, now)
	return nil
}

// IsReturned reports whether the live generation is not the newest that was.
func IsReturned(state *twofoldv1.SyncState) bool {
	return state.GetLive() != nil && slices.ContainsFunc(state.GetPrevious(), func(g *twofoldv1.Generation) bool { return g.GetNumber() > state.GetLive().GetNumber() })
}

// CanServe reports whether a generation, one of a state's previous ones, could be live for a definition by which rows are kept there.
func CanServe(g *twofoldv1.Generation, rows string) bool {
	return g.GetNumber() != 0 && g.GetRows() == rows
}

// Retire lists for removal what is not kept any more: previous generations after the first keep ones, and rows of the mode that the view does not have any more, each only
// where another took its place before that moment.
func Retire(state *twofoldv1.SyncState, keep int, before time.Time) {
	old := func(g *twofoldv1.Generation) bool {
		return g.GetReplacedAtMicros() != 0 && g.GetReplacedAtMicros() <= before.UnixMicro()
	}
	kept := 0
	state.Previous = slices.DeleteFunc(state.Previous, func(g *twofoldv1.Generation) bool {
		if g.GetNumber() != 0 {
			if kept++; kept <= keep {
				return false
			}
		}
		if !old(g) {
			return false
		}
		state.Removing = append(state.Removing, g)
		return true
	})
	if live := state.GetLive(); live != nil && old(live) {
		state.Removing = append(state.Removing, live)
		state.Live = nil
	}
}

// NextRetirement is when Retire, given grace before that time, next has something to do; the zero time where it will not.
func NextRetirement(state *twofoldv1.SyncState, keep int, grace time.Duration) time.Time {
	next := time.Time{}
	consider := func(g *twofoldv1.Generation) {
		if at := g.GetReplacedAtMicros(); at != 0 {
			if t := time.UnixMicro(at).Add(grace); next.IsZero() || t.Before(next) {
				next = t
			}
		}
	}
	kept := 0
	for _, g := range state.GetPrevious() {
		if g.GetNumber() != 0 {
			if kept++; kept <= keep {
				continue
			}
		}
		consider(g)
	}
	consider(state.GetLive())
	return next
}

// ReplaceIncremental lists rows of mode INCREMENTAL, kept there, as what a snapshot took the place of.
func ReplaceIncremental(state *twofoldv1.SyncState, rows string, now time.Time) {
	isIncremental := func(g *twofoldv1.Generation) bool { return g.GetNumber() == 0 }
	if !slices.ContainsFunc(state.GetPrevious(), isIncremental) && !slices.ContainsFunc(state.GetRemoving(), isIncremental) {
		state.Previous = append(state.Previous, &twofoldv1.Generation{Rows: rows, ReplacedAtMicros: now.UnixMicro()})
	}
}

// ReplaceSnapshots says that rows of mode INCREMENTAL have taken the place of all generations.
func ReplaceSnapshots(state *twofoldv1.SyncState, now time.Time) {
	DropGeneration(state, 0)
	for _, g := range append(slices.Clone(state.GetPrevious()), state.GetLive()) {
		if g != nil && g.GetReplacedAtMicros() == 0 {
			g.ReplacedAtMicros = now.UnixMicro()
		}
	}
}

// KeepLive says that the live generation is served until another one is live: rows of mode INCREMENTAL that had taken its place are not served any more.
func KeepLive(state *twofoldv1.SyncState) {
	if live := state.GetLive(); live != nil {
		live.ReplacedAtMicros = 0
	}
}

// DropGeneration takes a generation off the lists of previous ones and of those to be removed.
func DropGeneration(state *twofoldv1.SyncState, number uint64) {
	is := func(g *twofoldv1.Generation) bool { return g.GetNumber() == number }
	state.Previous = slices.DeleteFunc(state.Previous, is)
	state.Removing = slices.DeleteFunc(state.Removing, is)
}
