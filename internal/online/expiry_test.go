package online

import (
	"math"
	"testing"
	"time"

	"github.com/twofold-ml/twofold/internal/feature"
)

func TestExpireAtMillis(t *testing.T) {
	view := func(ttl, retention time.Duration) *feature.View {
		return &feature.View{TTL: feature.TTLOf(ttl), ExpiredRetention: retention}
	}
	kept := view(time.Second, time.Hour)
	kept.Sync = feature.Sync{Enabled: true, KeepLastGood: true}
	pushed := view(time.Second, 0)
	pushed.Sync.KeepLastGood = true
	for name, c := range map[string]struct {
		event feature.EventTime
		view  *feature.View
		ahead time.Duration
		want  int64
	}{
		"no ttl":                {5_000_000, view(0, time.Hour), time.Hour, 0},
		"kept by a sync":        {5_000_000, kept, 0, 0},
		"without any sync":      {5_000_000, pushed, 0, 6001},
		"whole milliseconds":    {5_000_000, view(time.Second, 0), 0, 6001},
		"rounded up":            {5_000_001, view(time.Second, 0), 0, 6002},
		"retention":             {5_000_000, view(time.Second, time.Minute), 0, 66_001},
		"replay of the past":    {5_000_000, view(time.Second, 0), 24 * time.Hour, 86_406_001},
		"clock of the future":   {5_000_000_000, view(time.Second, 0), -time.Second, 5_000_001},
		"before the epoch":      {-10_000_000, view(time.Second, 0), 0, 1},
		"the first moment":      {math.MinInt64, view(time.Hour, time.Hour), 0, 1},
		"the last moment":       {math.MaxInt64, view(time.Hour, time.Hour), time.Hour, 0},
		"a ttl of 290 years":    {math.MaxInt64 / 2, view(math.MaxInt64, math.MaxInt64), math.MaxInt64, 0},
		"never later than 9999": {farFuture, view(time.Second, 0), 0, 0},
	} {
		if got := expireAtMillis(c.event, c.view, c.ahead); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// TestClocks: without a logical clock the expiry of a row depends on the row only, so that writing it again changes nothing.
func TestClocks(t *testing.T) {
	if _, ahead := NewStore(nil, Options{}).clocks(); ahead != 0 {
		t.Errorf("the wall clock is ahead of itself by %v", ahead)
	}
	past := time.Now().Add(-time.Hour)
	now, ahead := NewStore(nil, Options{Now: func() time.Time { return past }}).clocks()
	if !now.Equal(past) || ahead < time.Hour || ahead > 2*time.Hour {
		t.Errorf("now %v, ahead %v", now, ahead)
	}
}
