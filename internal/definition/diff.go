package definition

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
)

// ChangeKind is what became of a definition.
type ChangeKind uint8

const (
	// Added is a definition that was not there.
	Added ChangeKind = iota + 1
	// Removed is one that is no longer there.
	Removed
	// Changed is one that is not as it was.
	Changed
)

// String returns "added", "removed" or "changed".
func (k ChangeKind) String() string {
	return [...]string{"", "added", "removed", "changed"}[k]
}

// Change is one difference between two sets of definitions.
type Change struct {
	// Kind is what happened.
	Kind ChangeKind
	// Subject is what it happened to, for example `feature view "weather"` or `feature "weather:wind_speed"`.
	Subject string
	// What says what is different, for example "type INT32 → INT64"; empty where it was added or removed.
	What string
	// Breaking is whether requests or models that worked before fail, or find no values, after the change.
	Breaking bool
	// Reason says why it is breaking; empty where it is not.
	Reason string
}

// String returns, for example, `changed feature "weather:wind": type INT32 → INT64 (breaking: …)`.
func (c Change) String() string {
	s := c.Kind.String() + " " + c.Subject
	if c.What != "" {
		s += ": " + c.What
	}
	if c.Breaking {
		s += " (breaking: " + c.Reason + ")"
	}
	return s
}

// Diff returns the differences from old to updated, in the order of the definitions, what was removed last. Either may be nil: nothing defined.
func Diff(old, updated *Set) []Change {
	d := &differ{before: columnsOf(old), after: columnsOf(updated)}
	before, after := protoOf(old), protoOf(updated)
	diffNamed(d, "entity", before.GetEntities(), after.GetEntities(), "requests that name it fail", d.entity)
	diffNamed(d, "feature view", before.GetFeatureViews(), after.GetFeatureViews(), "requests that name it fail", d.view)
	diffNamed(d, "feature service", before.GetFeatureServices(), after.GetFeatureServices(), "requests that name it fail", d.service)
	return d.changes
}

func protoOf(s *Set) *twofoldv1.Definitions {
	if s == nil {
		return nil
	}
	return s.Proto
}

type differ struct {
	changes []Change
	// before and after are the columns of each feature service, with view:* written out.
	before, after map[string][]string
}

func columnsOf(s *Set) map[string][]string {
	columns := map[string][]string{}
	if s == nil {
		return columns
	}
	for _, service := range s.Registry.Services() {
		for _, ref := range service.Features {
			columns[service.Name] = append(columns[service.Name], ref.Name())
		}
	}
	return columns
}

// changed adds a change of what was there before; reason is empty where it is not breaking.
func (d *differ) changed(subject, what, reason string) {
	d.changes = append(d.changes, Change{Kind: Changed, Subject: subject, What: what, Breaking: reason != "", Reason: reason})
}

// diffNamed pairs definitions by name.
func diffNamed[T named](d *differ, what string, before, after []T, removedReason string, compare func(subject string, before, after T)) {
	old := make(map[string]T, len(before))
	for _, item := range before {
		old[item.GetName()] = item
	}
	kept := make(map[string]bool, len(after))
	for _, item := range after {
		kept[item.GetName()] = true
		subject := fmt.Sprintf("%s %q", what, item.GetName())
		if other, ok := old[item.GetName()]; ok {
			compare(subject, other, item)
		} else {
			d.changes = append(d.changes, Change{Kind: Added, Subject: subject})
		}
	}
	for _, item := range before {
		if !kept[item.GetName()] {
			d.changes = append(d.changes, Change{
				Kind: Removed, Subject: fmt.Sprintf("%s %q", what, item.GetName()), Breaking: true, Reason: removedReason,
			})
		}
	}
}

func (d *differ) entity(subject string, before, after *twofoldv1.Entity) {
	if was, is := keysText(before), keysText(after); was != is {
		d.changed(subject, fmt.Sprintf("keys %s → %s", was, is), "rows stored under the old keys are not found until they are synced again, and requests must give the new keys")
	}
	d.notes(subject, before, after)
}

func keysText(e *twofoldv1.Entity) string {
	keys := make([]string, 0, len(e.GetKeys()))
	for _, k := range e.GetKeys() {
		keys = append(keys, fmt.Sprintf("%s %v", k.GetName(), feature.Type(k.GetType())))
	}
	return "(" + strings.Join(keys, ", ") + ")"
}

// noted is what every definition carries for people.
type noted interface {
	proto.Message
	GetDescription() string
	GetTags() map[string]string
}

// notes compares what is for people only.
func (d *differ) notes(subject string, before, after noted) {
	if before.GetDescription() != after.GetDescription() {
		d.changed(subject, "description", "")
	}
	b, hasOwner := before.(interface{ GetOwner() string })
	if a, ok := after.(interface{ GetOwner() string }); ok && hasOwner && a.GetOwner() != b.GetOwner() {
		d.changed(subject, fmt.Sprintf("owner %q → %q", b.GetOwner(), a.GetOwner()), "")
	}
	if !equalMaps(before.GetTags(), after.GetTags()) {
		d.changed(subject, "tags", "")
	}
}

func equalMaps(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

func (d *differ) view(subject string, before, after *twofoldv1.FeatureView) {
	if before.GetEntity() != after.GetEntity() {
		d.changed(subject, fmt.Sprintf("entity %q → %q", before.GetEntity(), after.GetEntity()), "rows stored for the old entity are not found until they are synced again, and requests must give the new entity's keys")
	}
	if was, is := sourceText(before.GetSource()), sourceText(after.GetSource()); was != is {
		d.changed(subject, fmt.Sprintf("source %s → %s", was, is), "")
	}
	if was, is := ttlText(before), ttlText(after); was != is {
		d.changed(subject, fmt.Sprintf("ttl %s → %s", was, is), "")
	}
	if !proto.Equal(before.GetExpiredRetention(), after.GetExpiredRetention()) {
		d.changed(subject, "expired_retention", "")
	}
	d.layout(subject, historyVersions(before), historyVersions(after))
	if !proto.Equal(before.GetSync(), after.GetSync()) {
		d.changed(subject, "sync", "")
	}
	d.notes(subject, before, after)
	diffNamed(d, "feature", withView(before), withView(after), "requests and feature services that name it fail", d.feature)
}

// layout tells what becomes of a view's versions; 0 is layout LATEST.
func (d *differ) layout(subject string, was, is int) {
	const unseen = "rows stored under the old layout are not found until they are synced again"
	switch {
	case was == is:
	case was == 0:
		d.changed(subject, fmt.Sprintf("layout LATEST → HISTORY of %d versions", is), unseen)
	case is == 0:
		d.changed(subject, fmt.Sprintf("layout HISTORY of %d versions → LATEST", was), unseen+", and requests for a moment in the past are refused")
	case is < was:
		d.changed(subject, fmt.Sprintf("history_versions %d → %d", was, is),
			fmt.Sprintf("requests for a moment before the last %d versions of an entity fail, once it is written again", is))
	default:
		d.changed(subject, fmt.Sprintf("history_versions %d → %d", was, is), "")
	}
}

func sourceText(s *twofoldv1.Source) string {
	columns := []string{s.GetEventTimeColumn()}
	if s.GetCreatedTimeColumn() != "" {
		columns = append(columns, s.GetCreatedTimeColumn())
	}
	if s.GetDeletedColumn() != "" {
		columns = append(columns, "deleted="+s.GetDeletedColumn())
	}
	for _, key := range sortedKeys(s.GetKeyColumns()) {
		columns = append(columns, key+"="+s.GetKeyColumns()[key])
	}
	return fmt.Sprintf("%s (%s)", s.GetPath(), strings.Join(columns, ", "))
}

func ttlText(v *twofoldv1.FeatureView) string {
	if ttl := micros(v.GetTtl()); ttl > 0 {
		return formatMicros(ttl)
	}
	return "for ever"
}

// viewFeature is a feature that is named "view:feature".
type viewFeature struct {
	*twofoldv1.Feature
	name string
}

func (f viewFeature) GetName() string { return f.name }

func withView(v *twofoldv1.FeatureView) []viewFeature {
	features := make([]viewFeature, 0, len(v.GetFeatures()))
	for _, f := range v.GetFeatures() {
		features = append(features, viewFeature{f, v.GetName() + ":" + f.GetName()})
	}
	return features
}

func (d *differ) feature(subject string, before, after viewFeature) {
	if before.GetType() != after.GetType() {
		reason := "models that were trained with it get values of another type"
		if isOnline(before.Feature) && isOnline(after.Feature) {
			reason += ", and stored rows hold the old type until they are synced again"
		}
		d.changed(subject, fmt.Sprintf("type %v → %v", feature.Type(before.GetType()), feature.Type(after.GetType())), reason)
	}
	switch was, is := isOnline(before.Feature), isOnline(after.Feature); {
	case was && !is:
		d.changed(subject, "no longer online", "online requests that name it are refused")
	case is && !was:
		d.changed(subject, "online; NOT_FOUND until its view is synced", "")
	}
	if was, is := columnOf(before.Feature), columnOf(after.Feature); was != is {
		d.changed(subject, fmt.Sprintf("column %q → %q", was, is), "")
	}
	d.notes(subject, before.Feature, after.Feature)
}

func (d *differ) service(subject string, before, after *twofoldv1.FeatureServiceDefinition) {
	was, is := d.before[before.GetName()], d.after[after.GetName()]
	switch {
	case slices.Equal(was, is):
	case len(is) > len(was) && slices.Equal(was, is[:len(was)]):
		d.changed(subject, "features appended: "+few(is[len(was):]), "")
	default:
		d.changed(subject, columnChanges(was, is),
			"a model that was trained with the old columns gets others; give the new list a name of its own, such as a next version")
	}
	d.notes(subject, before, after)
}

func columnChanges(was, is []string) string {
	var parts []string
	if removed := without(was, is); len(removed) > 0 {
		parts = append(parts, "features removed: "+few(removed))
	}
	if added := without(is, was); len(added) > 0 {
		parts = append(parts, "features added: "+few(added))
	}
	if len(parts) == 0 {
		parts = append(parts, "features in another order")
	}
	return strings.Join(parts, "; ")
}

// without returns the elements of list that others does not have.
func without(list, others []string) []string {
	have := make(map[string]bool, len(others))
	for _, name := range others {
		have[name] = true
	}
	return slices.DeleteFunc(slices.Clone(list), func(name string) bool { return have[name] })
}

// few joins names, and counts those past the fifth.
func few(names []string) string {
	if len(names) > 5 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:5], ", "), len(names)-5)
	}
	return strings.Join(names, ", ")
}
