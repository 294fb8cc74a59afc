package definition

import (
	"errors"
	"fmt"
	"strings"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/cron"
)

// checkTimetable checks cron and the time zone that it is read in.
func (c *checker) checkTimetable(v *twofoldv1.FeatureView) {
	s := v.GetSync()
	cronAt, zoneAt := spot{message: s, field: "cron"}, spot{message: s, field: "time_zone"}
	zone, err := zoneOf(s)
	if err != nil && !c.refused[zoneAt] {
		c.report(zoneAt, Error, fmt.Sprintf("feature view %q: there is no time zone %q", v.GetName(), shorten(s.GetTimeZone())),
			`write a name of the IANA database, such as "Europe/Berlin", or leave time_zone out for UTC`)
	}
	if s.GetCron() == "" {
		if s.GetTimeZone() != "" && err == nil {
			c.report(zoneAt, Error, fmt.Sprintf("feature view %q: time_zone is given, and there is no cron that is read in it", v.GetName()),
				`write cron: too, for example cron: "5 3 * * *", or leave time_zone out`)
		}
		return
	}
	if s.GetInterval() != nil {
		c.report(cronAt, Error, fmt.Sprintf("feature view %q: sync has both cron and interval", v.GetName()), "keep one of them: cron says at which times to run, interval how often")
	}
	if err != nil || c.refused[cronAt] {
		return
	}
	switch t := c.timetables.parse(s.GetCron(), zone); {
	case errors.Is(t.err, cron.ErrNever):
		c.report(cronAt, Error, fmt.Sprintf("feature view %q: cron is %q: %v", v.GetName(), s.GetCron(), t.err), "name a day that there is")
	case t.err != nil:
		c.report(cronAt, Error, fmt.Sprintf("feature view %q: %q is no cron expression: %v", v.GetName(), shorten(s.GetCron()), t.err),
			`write five fields (minute, hour, day of month, month, day of week), for example "5 3 * * *" for 03:05 every day or "*/10 * * * 1-5" for every 10 minutes from Monday to Friday`)
	}
}

// checkMode checks that what belongs to snapshots is given with them only.
func (c *checker) checkMode(v *twofoldv1.FeatureView) {
	s := v.GetSync()
	if s == nil || c.refused[spot{message: s, field: "mode"}] {
		return
	}
	if s.GetMode() == twofoldv1.SyncMode_SYNC_MODE_SNAPSHOT {
		if historyVersions(v) > 0 {
			c.report(spot{message: s, field: "mode"}, Error, fmt.Sprintf("feature view %q: mode SNAPSHOT cannot keep the versions of layout HISTORY", v.GetName()),
				"write mode: INCREMENTAL, or layout: LATEST")
		}
		if s.Enabled != nil && !s.GetEnabled() {
			c.report(spot{message: s, field: "mode"}, Error, fmt.Sprintf("feature view %q: mode SNAPSHOT with enabled: false would never have a row: no run makes a snapshot, and such a view cannot be pushed to", v.GetName()),
				"write mode: INCREMENTAL, or leave enabled out")
		}
		c.checkNullShares(v)
		return
	}
	if s.GetSnapshot() != nil && !c.refused[spot{message: s.GetSnapshot()}] {
		c.report(spot{message: s, field: "snapshot"}, Error, fmt.Sprintf("feature view %q: snapshot is given, and mode INCREMENTAL makes none", v.GetName()),
			"write mode: SNAPSHOT, or leave snapshot out")
	}
	if s.GetAudit() == twofoldv1.SyncAudit_SYNC_AUDIT_BEFORE_PUBLISH {
		c.report(spot{message: s, field: "audit"}, Error, fmt.Sprintf("feature view %q: audit is BEFORE_PUBLISH, and mode INCREMENTAL publishes row by row", v.GetName()),
			"write mode: SNAPSHOT, or leave audit out and run `twofold audit`")
	}
}

// checkNullShares checks that those of a snapshot are of features that it has.
func (c *checker) checkNullShares(v *twofoldv1.FeatureView) {
	checks := v.GetSync().GetSnapshot()
	online := make(map[string]bool, len(v.GetFeatures()))
	for _, f := range v.GetFeatures() {
		online[f.GetName()] = isOnline(f)
	}
	for _, name := range sortedKeys(checks.GetMaxNullShare()) {
		at := spot{message: checks, field: "max_null_share", key: name}
		if isOnline, ok := online[name]; !ok {
			c.report(at, Error, fmt.Sprintf("feature view %q: max_null_share names %q, which is no feature of it", v.GetName(), shorten(name)),
				orDefine(nearest(name, featureNames(v)), "the feature"))
		} else if !isOnline {
			c.report(at, Error, fmt.Sprintf("feature view %q: max_null_share names %q, which is not online, so that no snapshot holds it", v.GetName(), name),
				"leave it out, or let the feature be online")
		}
	}
}

// checkBadRows checks that what is said of bad rows belongs to their policy.
func (c *checker) checkBadRows(v *twofoldv1.FeatureView) {
	b := v.GetSync().GetBadRows()
	if b == nil || c.refused[spot{message: b, field: "policy"}] {
		return
	}
	if b.GetQuarantinePath() != "" && b.GetPolicy() != twofoldv1.BadRowPolicy_BAD_ROW_POLICY_QUARANTINE {
		c.report(spot{message: b, field: "quarantine_path"}, Error, fmt.Sprintf("feature view %q: quarantine_path is given, and policy %s writes no bad rows", v.GetName(), policyName(b)),
			"write policy: QUARANTINE, or leave quarantine_path out")
	}
	if b.MaxShare != nil && b.GetPolicy() == twofoldv1.BadRowPolicy_BAD_ROW_POLICY_FAIL {
		c.report(spot{message: b, field: "max_share"}, Error, fmt.Sprintf("feature view %q: max_share is given, and with policy FAIL the first bad row fails the run", v.GetName()),
			"write policy: SKIP or QUARANTINE, or leave max_share out")
	}
}

func policyName(b *twofoldv1.BadRows) string {
	if b.GetPolicy() == twofoldv1.BadRowPolicy_BAD_ROW_POLICY_UNSPECIFIED {
		return "SKIP"
	}
	return strings.TrimPrefix(b.GetPolicy().String(), "BAD_ROW_POLICY_")
}

// checkLastGood reports a protection of rows that need none.
func (c *checker) checkLastGood(v *twofoldv1.FeatureView) {
	s := v.GetSync()
	if !s.GetKeepLastGood() || c.refused[spot{message: v, field: "ttl"}] {
		return
	}
	if s.Enabled != nil && !s.GetEnabled() {
		c.report(spot{message: s, field: "keep_last_good"}, Warning, fmt.Sprintf("feature view %q: keep_last_good does nothing, because the view is not synced, and so no run can fail or be missed", v.GetName()),
			"leave it out, and write a longer expired_retention")
		return
	}
	if v.GetTtl().AsDuration() > 0 {
		return
	}
	c.report(spot{message: s, field: "keep_last_good"}, Warning, fmt.Sprintf("feature view %q: keep_last_good does nothing, because rows without a ttl stay anyway", v.GetName()),
		"leave it out, or give the view a ttl")
}

// checkDeletedColumn checks that the column of deletions holds nothing else. (That it holds no key is seen where the keys are.)
func (c *checker) checkDeletedColumn(v *twofoldv1.FeatureView) {
	s := v.GetSource()
	switch name := s.GetDeletedColumn(); name {
	case "":
		return
	case s.GetEventTimeColumn():
		c.reportDeletedColumn(v, "is the event time")
	case s.GetCreatedTimeColumn():
		c.reportDeletedColumn(v, "is the created time")
	default:
		for _, f := range v.GetFeatures() {
			if columnOf(f) == name {
				c.reportDeletedColumn(v, fmt.Sprintf("holds feature %q", f.GetName()))
			}
		}
	}
}

func (c *checker) reportDeletedColumn(v *twofoldv1.FeatureView, what string) {
	at := spot{message: v.GetSource(), field: "deleted_column"}
	if !c.refused[at] {
		c.report(at, Error, fmt.Sprintf("feature view %q: column %q says which rows delete their entity, and %s too", v.GetName(), v.GetSource().GetDeletedColumn(), what),
			"name a BOOL column that says nothing else, or leave deleted_column out")
	}
}
