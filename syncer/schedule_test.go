package syncer

import (
	"testing"
	"time"
)

func TestWait(t *testing.T) {
	for _, c := range []struct {
		interval, elapsed time.Duration
		failures          int
		want              time.Duration
	}{
		{time.Hour, 10 * time.Minute, 0, 50 * time.Minute},
		{time.Hour, 2 * time.Hour, 0, 0},
		{time.Hour, 10 * time.Minute, 1, 5 * time.Second},
		{time.Hour, 10 * time.Minute, 3, 20 * time.Second},
		{time.Hour, 10 * time.Minute, 1000, time.Hour},
		{time.Second, 0, 1, time.Second},
	} {
		if got := wait(c.interval, c.elapsed, c.failures); got != c.want {
			t.Errorf("wait(%v, %v, %d) = %v, want %v", c.interval, c.elapsed, c.failures, got, c.want)
		}
	}
}
