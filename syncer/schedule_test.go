package syncer

import (
	"testing"
	"time"

	"github.com/twofold-ml/twofold/internal/feature"
)

func TestWait(t *testing.T) {
	now := time.Date(2026, 3, 1, 2, 50, 0, 0, time.UTC)
	s := &Syncer{o: Options{Now: func() time.Time { return now }}}
	for _, c := range []struct {
		interval time.Duration
		cron     string
		elapsed  time.Duration
		failures int
		want     time.Duration
	}{
		{interval: time.Hour, elapsed: 10 * time.Minute, want: 50 * time.Minute},
		{interval: time.Hour, elapsed: 2 * time.Hour},
		{interval: time.Hour, elapsed: 10 * time.Minute, failures: 1, want: 5 * time.Second},
		{interval: time.Hour, elapsed: 10 * time.Minute, failures: 3, want: 20 * time.Second},
		{interval: time.Hour, elapsed: 10 * time.Minute, failures: 1000, want: 50 * time.Minute},
		{interval: time.Second, failures: 1, want: time.Second},
		{interval: time.Minute, elapsed: 2 * time.Minute, failures: 1, want: 5 * time.Second},
		{interval: time.Minute, elapsed: 2 * time.Minute, failures: 3, want: 20 * time.Second},
		{interval: time.Minute, elapsed: 2 * time.Minute, failures: 1000, want: time.Minute},
		{interval: time.Second, elapsed: 2 * time.Minute, failures: 1000, want: 5 * time.Second},
		{interval: 24 * time.Hour, cron: "0 3 * * *", elapsed: time.Minute, want: 10 * time.Minute},
		{interval: 24 * time.Hour, cron: "0 3 * * *", elapsed: time.Minute, failures: 2, want: 10 * time.Second},
		{interval: 24 * time.Hour, cron: "45 2 * * *", elapsed: 10 * time.Minute}, // it was due while it ran
	} {
		view := &feature.View{Sync: feature.Sync{Interval: c.interval, Cron: c.cron, TimeZone: time.UTC}}
		if got := s.wait(view, c.elapsed, c.failures); got != c.want {
			t.Errorf("%+v: waits %v", c, got)
		}
	}
}
