package definition

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// maxDuration is the longest time that a definition may give, 100 years: no sum of them then overflows.
const maxDuration = 100 * 365 * 24 * time.Hour

// maxExpiredRetention bounds the default of expired_retention.
const maxExpiredRetention = 24 * time.Hour

// defaultHistoryVersions is the default of history_versions.
const defaultHistoryVersions = 10

// defaultBatchSize is the default of sync.batch_size.
const defaultBatchSize = 500

func (c *checker) checkDurations(v *twofoldv1.FeatureView) {
	s := v.GetSync()
	check := func(at spot, d *durationpb.Duration, mend string) {
		if d == nil || c.refused[at] {
			return
		}
		if err := d.CheckValid(); err != nil || d.AsDuration() > maxDuration {
			c.report(at, Error, fmt.Sprintf("feature view %q: %s is longer than 100 years", v.GetName(), at.field), mend)
		}
	}
	check(spot{message: v, field: "ttl"}, v.GetTtl(), "leave it out for rows that never expire")
	check(spot{message: v, field: "expired_retention"}, v.GetExpiredRetention(), "write a shorter time")
	if s != nil {
		check(spot{message: s, field: "interval"}, s.GetInterval(), "write a shorter time, or enabled: false not to sync")
		check(spot{message: s, field: "run_time"}, s.GetRunTime(), "write a shorter time")
	}
}

// schedule is how a view is synced, with every default filled in, in microseconds.
type schedule struct {
	ttl, interval, runTime int64
	missed                 int64
}

// need is the ttl that bridges the time between two runs that succeed.
func (s schedule) need() int64 { return s.interval*(s.missed+1) + s.runTime }

func scheduleOf(v *twofoldv1.FeatureView, defaults Defaults) schedule {
	return schedule{
		ttl:      micros(v.GetTtl()),
		interval: max(1, int64(syncInterval(v, defaults)/time.Microsecond)),
		runTime:  micros(v.GetSync().GetRunTime()),
		missed:   int64(v.GetSync().GetToleratedMissedRuns()),
	}
}

// micros rounds up, as feature.TTLOf does.
func micros(d *durationpb.Duration) int64 {
	return int64((d.AsDuration() + time.Microsecond - 1) / time.Microsecond)
}

// syncInterval is the view's own interval, else half its ttl, else the process's.
func syncInterval(v *twofoldv1.FeatureView, defaults Defaults) time.Duration {
	if d := v.GetSync().GetInterval().AsDuration(); d > 0 {
		return d
	}
	if ttl := v.GetTtl().AsDuration(); ttl > 0 {
		return max(ttl/2, time.Microsecond)
	}
	return defaults.SyncInterval
}

func hasOnlineFeature(v *twofoldv1.FeatureView) bool {
	for _, f := range v.GetFeatures() {
		if isOnline(f) {
			return true
		}
	}
	return false
}

// isSynced is whether the syncer carries the view: not where it is told not to, nor where nothing is online.
func isSynced(v *twofoldv1.FeatureView) bool {
	s := v.GetSync()
	return (s == nil || s.Enabled == nil || s.GetEnabled()) && hasOnlineFeature(v)
}

// checkSync checks that features do not vanish between two sync runs, and that there is something to sync.
func (c *checker) checkSync(v *twofoldv1.FeatureView) {
	s := v.GetSync()
	if s.GetEnabled() && len(v.GetFeatures()) > 0 && !hasOnlineFeature(v) {
		c.report(spot{message: s, field: "enabled"}, Error,
			fmt.Sprintf("feature view %q is to be synced, but none of its features is online", v.GetName()),
			"make a feature online (leave online: false out), or leave sync out")
		return
	}
	if !isSynced(v) || c.hasRefusedTime(v) {
		return
	}
	plan := scheduleOf(v, c.defaults)
	if plan.ttl == 0 || plan.ttl >= plan.need() {
		return
	}
	at := spot{message: v, field: "ttl"}
	if s.GetInterval() != nil {
		at = spot{message: s, field: "interval"}
	}
	severity := Error
	mend := plan.mend() + "; or accept the gap with sync.allow_gaps: true"
	if s.GetAllowGaps() {
		severity, mend = Warning, plan.mend()
	}
	c.report(at, severity, fmt.Sprintf("feature view %q: %s", v.GetName(), plan.gap()), mend)
}

func (c *checker) hasRefusedTime(v *twofoldv1.FeatureView) bool {
	s := v.GetSync()
	return c.refused[spot{message: v, field: "ttl"}] || (s != nil &&
		(c.refused[spot{message: s}] || c.refused[spot{message: s, field: "interval"}] || c.refused[spot{message: s, field: "run_time"}] ||
			c.refused[spot{message: s, field: "tolerated_missed_runs"}]))
}

// gap says in words how long features are absent, for example "ttl 2h, sync every 6h: absent 4h of every 6h".
func (s schedule) gap() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ttl %s, sync every %s", formatMicros(s.ttl), formatMicros(s.interval))
	if s.runTime > 0 {
		fmt.Fprintf(&b, ", a run takes %s", formatMicros(s.runTime))
	}
	b.WriteString(": ")
	absent := s.need() - s.ttl
	switch {
	case s.ttl < s.runTime:
		b.WriteString("always absent, because rows have expired before a run has ended")
	case s.missed > 0:
		runs := "runs"
		if s.missed == 1 {
			runs = "run"
		}
		fmt.Fprintf(&b, "absent %s after %d missed %s", formatMicros(absent), s.missed, runs)
	default:
		fmt.Fprintf(&b, "absent %s of every %s", formatMicros(min(absent, s.interval)), formatMicros(s.interval))
	}
	return b.String()
}

// mend names an interval, or a ttl, that leaves room for twice the time needed, so that one late run makes no gap.
func (s schedule) mend() string {
	ttl := fmt.Sprintf("ttl to at least %s", formatMicros(2*s.need()))
	interval := (s.ttl/2 - s.runTime) / (s.missed + 1)
	if interval <= 0 {
		interval = (s.ttl - s.runTime) / (s.missed + 1)
	}
	if second := int64(time.Second / time.Microsecond); interval > second {
		interval -= interval % second
	}
	if interval <= 0 {
		return "set " + ttl
	}
	return fmt.Sprintf("set sync.interval to at most %s or %s", formatMicros(interval), ttl)
}

// formatMicros writes a time as definitions do: 36h, 1h30m, 1m30s, 250ms.
func formatMicros(t int64) string {
	if t == 0 {
		return "0s"
	}
	units := []struct {
		name   string
		micros int64
	}{{"h", 3_600_000_000}, {"m", 60_000_000}, {"s", 1_000_000}, {"ms", 1000}, {"us", 1}}
	var b strings.Builder
	for _, unit := range units {
		if n := t / unit.micros; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, unit.name)
			t -= n * unit.micros
		}
	}
	return b.String()
}
