package syncstate

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// TestGenerations takes random steps: each generation that was begun is in one place or was dropped; the live one is the one that was published or returned to last; none is retired while it is
// live, is one of those that are kept, or was replaced a moment ago; and numbers never come twice, even where all else was lost.
func TestGenerations(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	const rows, grace, keep = "user(INT64)", 5 * time.Minute, 2
	for range 200 {
		state, now := &twofoldv1.SyncState{}, time.Unix(1_000_000_000, 0)
		numbers := map[uint64]bool{}
		for range 40 {
			now = now.Add(time.Duration(r.IntN(200)) * time.Second)
			before := proto.CloneOf(state)
			switch r.IntN(5) {
			case 0, 1:
				g := BeginGeneration(state, rows, now)
				require.False(t, numbers[g.GetNumber()], "%d comes twice", g.GetNumber())
				numbers[g.GetNumber()] = true
				require.Equal(t, before.GetLive().GetNumber(), state.GetLive().GetNumber(), "not served yet")
				if r.IntN(2) == 0 {
					Publish(state, g, now)
					require.Equal(t, g.GetNumber(), state.GetLive().GetNumber())
				}
			case 2:
				err := Rollback(state, rows, 0, now)
				if err != nil {
					require.True(t, proto.Equal(before, state))
					continue
				}
				require.Less(t, state.GetLive().GetNumber(), before.GetLive().GetNumber())
				require.True(t, IsReturned(state))
				require.Equal(t, before.GetLive().GetNumber(), state.GetPrevious()[0].GetNumber())
			case 3:
				due := NextRetirement(state, keep, grace)
				Retire(state, keep, now.Add(-grace))
				require.Equal(t, !due.IsZero() && !due.After(now), len(state.GetRemoving()) > len(before.GetRemoving()), "due %v, now %v", due, now)
				require.Equal(t, before.GetLive().GetNumber(), state.GetLive().GetNumber())
				for _, g := range state.GetRemoving()[len(before.GetRemoving()):] {
					require.LessOrEqual(t, g.GetReplacedAtMicros(), now.Add(-grace).UnixMicro())
				}
			case 4:
				for _, g := range before.GetRemoving() {
					DropGeneration(state, g.GetNumber())
				}
				require.Empty(t, state.GetRemoving())
				if r.IntN(10) == 0 { // the store has lost all
					state, now = &twofoldv1.SyncState{}, now.Add(time.Hour)
				}
			}
			places := map[uint64]int{}
			for _, g := range append(append(state.GetPrevious(), state.GetRemoving()...), state.GetLive()) {
				if g != nil {
					places[g.GetNumber()]++
				}
			}
			for number, n := range places {
				require.Equal(t, 1, n, "generation %d", number)
			}
		}
	}
}

// TestRollbackToRowsElsewhere: a generation whose rows are kept by another definition cannot be served.
func TestRollbackToRowsElsewhere(t *testing.T) {
	state, now := &twofoldv1.SyncState{}, time.Unix(1_000_000_000, 0)
	require.ErrorContains(t, Rollback(state, "user(INT64)", 0, now), "no generation is live")
	first := BeginGeneration(state, "user(INT32)", now)
	Publish(state, first, now)
	Publish(state, BeginGeneration(state, "user(INT64)", now), now)
	require.ErrorContains(t, Rollback(state, "user(INT64)", 0, now), "no generation before")
	require.ErrorContains(t, Rollback(state, "user(INT64)", first.GetNumber(), now), "by another definition")
	require.NoError(t, Rollback(state, "user(INT32)", 0, now))
}
