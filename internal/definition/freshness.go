package definition

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// maxDuration is the longest time that a definition may give, 100 years: no sum of them then overflows.
const maxDuration = 100 * 365 * 24 * time.Hour

// maxExpiredRetention bounds the default of expired_retention.
const maxExpiredRetention = 24 * time.Hour

// defaultHistoryVersions is the default of history_versions.
const defaultHistoryVersions = 10

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
		check(spot{message: s, field: "source_delay"}, s.GetSourceDelay(), "write a shorter time")
	}
	if b := s.GetBadRows(); b != nil {
		check(spot{message: b, field: "max_future"}, b.GetMaxFuture(), "leave it out for any time")
	}
}

// planOf returns how a view is synced, which is well defined only where none of its times is refused.
func (c *checker) planOf(v *twofoldv1.FeatureView) plan {
	s := v.GetSync()
	p := plan{
		ttl:      micros(v.GetTtl()),
		runTime:  micros(s.GetRunTime()),
		delay:    micros(s.GetSourceDelay()),
		missed:   int64(s.GetToleratedMissedRuns()),
		interval: max(1, int64(syncInterval(v, c.defaults)/time.Microsecond)),
	}
	if t := c.timetables.of(s); t != nil {
		p.timetable = t
		longest := t.longest(int(p.missed) + 1)
		p.start, p.stretch = longest.Start, longest.Seconds*int64(time.Second/time.Microsecond)
		return p
	}
	p.stretch = p.interval * (p.missed + 1)
	return p
}

// micros rounds up, as feature.TTLOf does.
func micros(d *durationpb.Duration) int64 {
	return int64((d.AsDuration() + time.Microsecond - 1) / time.Microsecond)
}

// syncInterval is the interval of a view without cron: its own, else half its ttl, else the process's.
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
	if !isSynced(v) || c.hasRefusedTime(v) || v.GetTtl().AsDuration() <= 0 {
		return
	}
	plan := c.planOf(v)
	if plan.absent() <= 0 {
		return
	}
	at := spot{message: v, field: "ttl"}
	switch {
	case s.GetCron() != "":
		at = spot{message: s, field: "cron"}
	case s.GetInterval() != nil:
		at = spot{message: s, field: "interval"}
	}
	severity := Error
	mend := plan.mend() + "; or accept the gap with sync.allow_gaps: true"
	if s.GetAllowGaps() {
		severity, mend = Warning, plan.mend()
	}
	gap := plan.gap()
	if s.GetKeepLastGood() {
		gap += "; with keep_last_good, absent is EXPIRED and never NOT_FOUND"
	}
	c.reportDrawn(at, severity, fmt.Sprintf("feature view %q: %s", v.GetName(), gap), mend, plan.timeline())
}

// hasRefusedTime reports whether something that the gap rule needs has an error already.
func (c *checker) hasRefusedTime(v *twofoldv1.FeatureView) bool {
	if c.refused[spot{message: v, field: "ttl"}] {
		return true
	}
	s := v.GetSync()
	if s == nil {
		return false
	}
	for _, field := range []protoreflect.Name{"", "interval", "run_time", "source_delay", "tolerated_missed_runs", "cron", "time_zone"} {
		if c.refused[spot{message: s, field: field}] {
			return true
		}
	}
	return false
}
