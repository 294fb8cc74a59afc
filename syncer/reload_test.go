package syncer_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twofold-ml/twofold/internal/definition"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/syncer"
)

// registry reads definitions whose views without an interval are run every millisecond.
func registry(t *testing.T, text string) *feature.Registry {
	t.Helper()
	set, err := parseDefinitions(text)
	if err != nil {
		t.Fatal(err)
	}
	return set.Registry
}

func parseDefinitions(text string) (*definition.Set, error) {
	return definition.Parse([]definition.File{{Name: "d.yaml", Data: []byte(text)}}, definition.Defaults{SyncInterval: time.Millisecond})
}

// TestReload replaces the definitions while Run is under way: what is new or changed is carried at once, what is as it was keeps its
// time, and what is gone is left alone.
func TestReload(t *testing.T) {
	env, c, _ := environment(t)
	seen := make(chan string)
	s, err := syncer.New(syncer.Options{Registry: registry(t, definitions), Online: env.Online, Offline: env.Offline, Now: c.Now,
		OnReport: func(r syncer.Report) { seen <- r.View }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	// until returns the views that were run, up to the nth run of one.
	until := func(name string, n int) map[string]int {
		runs := map[string]int{}
		for runs[name] < n {
			runs[<-seen]++
		}
		return runs
	}
	until("short", 1)
	until("lasting", 3)

	renamed := strings.Replace(definitions, "name: lasting", "name: renamed", 1)
	s.Reload(registry(t, renamed))
	until("renamed", 1)
	if runs := until("renamed", 5); runs["lasting"] != 0 || runs["short"] != 0 {
		t.Errorf("after the view %q became %q: %v", "lasting", "renamed", runs)
	}
	if _, err := s.Views("lasting"); err == nil {
		t.Error("a view that is gone can be named")
	}

	s.Reload(registry(t, strings.Replace(renamed, "ttl: 2h", "ttl: 3h", 1)))
	until("short", 1)

	go func() {
		for range seen { // a run that is under way has its report taken
		}
	}()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	close(seen)
}
