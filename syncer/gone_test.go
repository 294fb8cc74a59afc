package syncer_test

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/online/redisstore"
	"github.com/twofold-ml/twofold/internal/syncstate"
	"github.com/twofold-ml/twofold/internal/testenv"
	"github.com/twofold-ml/twofold/syncer"
)

// without returns definitions without the lines that define some views.
func without(definitions string, views ...string) string {
	var kept []string
	for line := range strings.Lines(definitions) {
		gone := false
		for _, view := range views {
			gone = gone || strings.Contains(line, "name: "+view+", entity:")
		}
		if !gone {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

const removalGrace = 10 * time.Minute

// goer is a store whose views come and go.
type goer struct{ *forgetting }

func newGoer(t *testing.T, r *rand.Rand, d driver.Driver) *goer {
	g := &goer{newForgetting(t, r, d)}
	g.sync()
	return g
}

func (g *goer) syncer(definitions string) *syncer.Syncer {
	s, err := syncer.New(syncer.Options{
		Registry: registry(g.T, definitions), Online: g.env.Online, Offline: g.env.Offline, Now: g.clock.Now, RemovedViewsGrace: removalGrace, LeaseDuration: 20 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	require.NoError(g, err)
	return s
}

// runAll runs a syncer of these definitions once.
func (g *goer) runAll(definitions string) {
	g.until(func() error {
		_, err := g.syncer(definitions).RunOnce(g.Context(), syncer.Request{Wait: true})
		return err
	})
}

// removeGone does it by definitions, and returns the views that were removed, with their numbers of entities.
func (g *goer) removeGone(definitions string) map[string]int {
	removed := map[string]int{}
	g.until(func() error {
		some, err := g.syncer(definitions).RemoveGone(g.Context(), false)
		for _, r := range some {
			removed[r.View] += r.Entities
		}
		return err
	})
	return removed
}

// checkViews compares views with the store that nothing was removed from.
func (g *goer) checkViews(views ...string) {
	for _, view := range views {
		require.Equal(g, g.stored(g.all, view), g.stored(g.env, view), view)
	}
}

// checkRemoved requires that nothing is left of views, whatever their generation, nor anything that tells of their syncs.
func (g *goer) checkRemoved(states map[string][]uint64, views ...string) {
	state := syncstate.New(g.env.Online)
	for _, name := range views {
		view, err := g.env.Definitions.Registry.View(name)
		require.NoError(g, err)
		for _, generation := range states[name] {
			require.NoError(g, g.env.Online.ScanKeys(g.Context(), view, generation, func(keys [][]byte) error {
				require.Empty(g, keys, "view %s, generation %d", name, generation)
				return nil
			}))
		}
		kept, err := state.States(g.Context(), []string{name})
		require.NoError(g, err)
		require.Empty(g, kept[0].GetFiles())
		require.Empty(g, kept[0].GetRemoving())
		require.Nil(g, kept[0].GetLive())
		require.NotZero(g, kept[0].GetLeaseNumber(), "a syncer that was cut off must not write it again")
		runs, err := state.Runs(g.Context(), []string{name})
		require.NoError(g, err)
		require.Empty(g, runs[0])
		values, err := g.env.Online.GetMeta(g.Context(), []string{"synced/" + name, "schema/" + name + "/" + strconv.FormatUint(online.Fingerprint(view), 16)})
		require.NoError(g, err)
		require.Equal(g, [][]byte{nil, nil}, values)
	}
	carried, err := state.Carried(g.Context())
	require.NoError(g, err)
	for _, c := range carried {
		require.NotContains(g, views, c.GetFeatureView())
	}
}

// generations are those of which views have rows.
func (g *goer) generations(views ...string) map[string][]uint64 {
	all := map[string][]uint64{}
	states, err := syncstate.New(g.env.Online).States(g.Context(), views)
	require.NoError(g, err)
	for i, view := range views {
		all[view] = []uint64{0}
		if live := states[i].GetLive().GetNumber(); live != 0 {
			all[view] = append(all[view], live)
		}
	}
	return all
}

var everyLayout = []string{"latest", "history", "snapshot"} // all of one entity

// TestGoneViews: the rows of views that go are removed once the grace is over, and no other view's, though they are stored together.
func TestGoneViews(t *testing.T) {
	for _, gone := range everyLayout {
		t.Run(gone, func(t *testing.T) {
			g := newGoer(t, rand.New(rand.NewPCG(1, 1)), inMemory(t))
			left, before := without(forgetDefinitions, gone), g.generations(gone)
			g.runAll(left)
			require.Empty(t, g.removeGone(left), "it is only noted")
			g.clock.Advance(removalGrace - time.Second)
			require.Empty(t, g.removeGone(left))
			g.checkViews(forgetViews...)

			// It is there again for a moment: the grace begins anew.
			require.Empty(t, g.removeGone(forgetDefinitions))
			require.Empty(t, g.removeGone(left))
			g.clock.Advance(2 * time.Second)
			require.Empty(t, g.removeGone(left))

			// So it does where another syncer, which has it defined, carries it.
			g.runAll(forgetDefinitions)
			g.clock.Advance(removalGrace)
			require.Empty(t, g.removeGone(left))
			g.checkViews(forgetViews...)

			g.clock.Advance(removalGrace)
			require.Equal(t, map[string]int{gone: len(g.stored(g.all, gone))}, g.removeGone(left))
			for _, view := range forgetViews {
				if view != gone {
					g.checkViews(view)
				}
			}
			g.checkRemoved(before, gone)
			view, err := g.env.Definitions.Registry.View(gone)
			require.NoError(t, err)
			states, _, err := g.env.Online.SyncStates(t.Context(), []*feature.View{view})
			require.NoError(t, err)
			require.Equal(t, online.Unsynced, states[0], "who still has it defined is told that it is not known who is in it")
			require.Empty(t, g.removeGone(left))

			g.runAll(forgetDefinitions)
			g.checkViews(forgetViews...)
		})
	}
}

// TestGoneViewsThatLookLikeAMistake: definitions of another system remove nothing, unless that is asked for; none at all never do.
func TestGoneViewsThatLookLikeAMistake(t *testing.T) {
	g := newGoer(t, rand.New(rand.NewPCG(1, 1)), inMemory(t))
	g.clock.Advance(time.Hour)
	other := without(forgetDefinitions, forgetViews...) + `
  - {name: another, entity: user, source: {path: latest, event_time_column: at}, features: [{name: x, type: INT64}]}
`
	empty := strings.Replace(without(forgetDefinitions, forgetViews...), "feature_views:\n", "", 1)
	g.runAll(other)
	for range 2 {
		for _, definitions := range []string{other, empty} {
			_, err := g.syncer(definitions).RemoveGone(t.Context(), false)
			require.Equal(t, fault.Precondition, fault.KindOf(err))
			require.ErrorContains(t, err, "looks like a mistake")
			require.ErrorContains(t, err, "devices, history, items, ")
		}
		g.clock.Advance(2 * removalGrace)
	}
	_, err := g.syncer(empty).RemoveGone(t.Context(), true)
	require.Equal(t, fault.Precondition, fault.KindOf(err))
	g.checkViews(forgetViews...)
	removed, err := g.syncer(other).RemoveGone(t.Context(), true)
	require.NoError(t, err)
	require.Len(t, removed, len(forgetViews))
	for _, view := range forgetViews {
		g.checkRemoved(map[string][]uint64{view: {0}}, view)
	}
}

// TestLeftPlaces: a view whose definition has its rows kept elsewhere leaves none behind, and can go back as long as they are there.
func TestLeftPlaces(t *testing.T) {
	for name, change := range map[string]struct{ view, old, new string }{
		"another layout": {"latest", "name: latest, entity: user,", "name: latest, layout: HISTORY, entity: user,"},
		"another entity": {"latest", "name: latest, entity: user,", "name: latest, entity: person,"},
		"a snapshot's":   {"snapshot", "name: snapshot, entity: user,", "name: snapshot, entity: person,"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGoer(t, rand.New(rand.NewPCG(1, 1)), inMemory(t))
			before := g.generations(change.view)
			changed := strings.Replace(forgetDefinitions, change.old, change.new, 1)
			changed = strings.Replace(changed, "entities:\n", "entities:\n  - {name: person, keys: [{name: user_id, type: INT64}]}\n", 1)
			g.runAll(changed)
			require.Empty(t, g.removeGone(changed))
			old, err := g.env.Definitions.Registry.View(change.view)
			require.NoError(t, err)
			require.NotEmpty(t, g.keysAt(old, before[change.view]), "a reader who has the old definition may still look there")
			g.clock.Advance(removalGrace)
			require.Equal(t, map[string]int{change.view: len(g.stored(g.all, change.view))}, g.removeGone(changed))
			require.Empty(t, g.keysAt(old, before[change.view]))
			now, err := registry(t, changed).View(change.view)
			require.NoError(t, err)
			require.NotEmpty(t, g.keysAt(now, g.generations(change.view)[change.view]))
			require.Empty(t, g.removeGone(changed))
			g.runAll(forgetDefinitions)
			g.checkViews(forgetViews...)
		})
	}
}

// keysAt are the keys of the entities that a view has rows of, in some generations.
func (g *goer) keysAt(view *feature.View, generations []uint64) (keys []string) {
	for _, generation := range generations {
		if generation != 0 && view.HistoryVersions > 0 {
			continue
		}
		require.NoError(g, g.env.Online.ScanKeys(g.Context(), view, generation, func(some [][]byte) error {
			for _, key := range some {
				keys = append(keys, string(key))
			}
			return nil
		}))
	}
	return keys
}

// TestKeysOfAnotherMeaning: where keys are given other types or another order, rows by the old ones would be taken for other entities', so that they go before the new ones come.
func TestKeysOfAnotherMeaning(t *testing.T) {
	g := newGoer(t, rand.New(rand.NewPCG(1, 1)), inMemory(t))
	push(t, g.env, "items", 77, "only pushed")
	view, err := g.env.Definitions.Registry.View("items")
	require.NoError(t, err)
	before := g.keysAt(view, []uint64{0})
	changed := strings.Replace(forgetDefinitions, "keys: [{name: item, type: STRING}, {name: user_id, type: INT64}]", "keys: [{name: user_id, type: STRING}, {name: item, type: STRING}]", 1)
	changed = strings.Replace(changed, "path: items, event_time_column: at", "path: renamed, event_time_column: at", 1) // whose users are strings
	g.runAll(changed)
	after := g.keysAt(view, []uint64{0})
	require.NotEmpty(t, after)
	for _, key := range before {
		require.NotContains(t, after, key)
	}
	for _, key := range after {
		require.Regexp(t, `^1:\d,(a|b,1)$`, key)
	}
	g.checkViews("latest", "history", "snapshot", "renamed", "devices")
}

// TestGoneViewsWhereverItDies kills what removes views at every call of the store: the next one makes it good, and nothing else is touched.
func TestGoneViewsWhereverItDies(t *testing.T) {
	eachSeed(t, 25, func(t *testing.T, r *rand.Rand) {
		d := inMemory(t)
		newGoer(t, r, d).dieAndRemove()
	})
}

// TestGoneViewsOnRedis is the same on a real Redis.
func TestGoneViewsOnRedis(t *testing.T) {
	url := testenv.Redis(t).URL
	eachSeed(t, 3, func(t *testing.T, r *rand.Rand) {
		d, err := redisstore.Open(redisstore.Options{URL: url, Prefix: "t" + strconv.FormatUint(r.Uint64(), 36)})
		require.NoError(t, err)
		newGoer(t, r, d).dieAndRemove()
	})
}

func (g *goer) dieAndRemove() {
	gone := slices.Clone(everyLayout)
	g.r.Shuffle(len(gone), func(i, k int) { gone[i], gone[k] = gone[k], gone[i] })
	gone = gone[:1+g.r.IntN(len(gone))]
	left, before := without(forgetDefinitions, gone...), g.generations(gone...)
	g.removeGone(left)
	g.clock.Advance(removalGrace)
	for range 1 + g.r.IntN(4) {
		g.driver.mu.Lock()
		g.driver.left, g.driver.after = g.r.IntN(40), g.r.IntN(2) == 0
		g.driver.mu.Unlock()
		_, _ = g.syncer(left).RemoveGone(g.Context(), false) // whatever it says
		g.driver.mu.Lock()
		g.driver.left, g.driver.after = -1, false
		g.driver.mu.Unlock()
	}
	if g.r.IntN(2) == 0 { // it is defined again before the removal is at its end
		g.runAll(forgetDefinitions)
		g.checkViews(forgetViews...)
		require.Empty(g, g.removeGone(left))
		g.clock.Advance(removalGrace)
		before = g.generations(gone...)
	}
	// The dead one's lease is taken over only once it has been seen not to beat: a call may leave a view for the next.
	for range 100 {
		g.removeGone(left)
	}
	g.checkRemoved(before, gone...)
	for _, view := range forgetViews {
		if !strings.Contains(strings.Join(gone, " "), view) {
			g.checkViews(view)
		}
	}
	g.runAll(forgetDefinitions)
	g.checkViews(forgetViews...)
}

// TestRunRemovesGoneViews: a syncer that runs on notes by itself that a view went, and removes it; one that is told to keep such rows does not.
func TestRunRemovesGoneViews(t *testing.T) {
	g := newGoer(t, rand.New(rand.NewPCG(1, 1)), inMemory(t))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := syncer.New(syncer.Options{Registry: registry(t, forgetDefinitions), Online: g.env.Online, Offline: g.env.Offline, RemovedViewsGrace: 20 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	require.NoError(t, err)
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	before := g.generations("latest")
	s.Reload(registry(t, without(forgetDefinitions, "latest")))
	state := syncstate.New(g.env.Online)
	require.Eventually(t, func() bool {
		carried, err := state.Carried(t.Context())
		return err == nil && len(carried) == len(forgetViews)-1
	}, time.Minute, time.Millisecond)
	cancel()
	require.NoError(t, <-done)
	g.checkRemoved(before, "latest")

	kept, err := syncer.New(syncer.Options{Registry: registry(t, without(forgetDefinitions, "history", "latest")), Online: g.env.Online, Offline: g.env.Offline, RemovedViewsGrace: -1})
	require.NoError(t, err)
	for range 3 {
		removed, err := kept.RemoveGone(t.Context(), false)
		require.NoError(t, err)
		require.Empty(t, removed)
	}
	g.checkViews("history")
}
