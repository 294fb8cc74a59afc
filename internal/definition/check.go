package definition

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// eventTimestampName is what GetHistoricalFeatures names a view's event time, as in "weather:event_timestamp".
const eventTimestampName = "event_timestamp"

// named is a message with a name.
type named interface {
	proto.Message
	GetName() string
}

// checkUnique reports the second and every later element of the same name.
func checkUnique[T named](c *checker, what string, items []T) {
	first := make(map[string]T, len(items))
	for _, item := range items {
		name := item.GetName()
		if name == "" {
			continue
		}
		if other, ok := first[name]; ok {
			c.report(spot{message: item, field: "name"}, Error,
				fmt.Sprintf("%s %q is defined twice%s", what, name, c.where(spot{message: other, field: "name"})), "give one of them another name, or remove it")
			continue
		}
		first[name] = item
	}
}

// checkNames checks that what must be distinct is.
func (c *checker) checkNames() {
	checkUnique(c, "entity", c.defs.GetEntities())
	checkUnique(c, "feature view", c.defs.GetFeatureViews())
	checkUnique(c, "feature service", c.defs.GetFeatureServices())
	for _, e := range c.defs.GetEntities() {
		checkUnique(c, fmt.Sprintf("entity %q: key", e.GetName()), e.GetKeys())
	}
	for _, v := range c.defs.GetFeatureViews() {
		checkUnique(c, fmt.Sprintf("feature view %q: feature", v.GetName()), v.GetFeatures())
	}
}

func (c *checker) checkViews() {
	entities := make(map[string]*twofoldv1.Entity, len(c.defs.GetEntities()))
	names := make([]string, 0, len(entities))
	for _, e := range c.defs.GetEntities() {
		if _, ok := entities[e.GetName()]; !ok {
			entities[e.GetName()] = e
			names = append(names, e.GetName())
		}
	}
	for _, v := range c.defs.GetFeatureViews() {
		c.checkDurations(v)
		c.checkTimetable(v)
		c.checkMode(v)
		c.checkBadRows(v)
		c.checkLastGood(v)
		c.checkSync(v)
		c.checkTimeColumns(v)
		c.checkDeletedColumn(v)
		c.checkLayout(v)
		entity, ok := entities[v.GetEntity()]
		switch {
		case ok:
			c.checkKeyColumns(v, entity)
			c.checkFeatureNames(v, entity)
		case v.GetEntity() != "" && !c.incomplete:
			c.report(spot{message: v, field: "entity"}, Error,
				fmt.Sprintf("feature view %q: there is no entity %q", v.GetName(), v.GetEntity()), orDefine(nearest(v.GetEntity(), names), "the entity"))
		}
	}
}

// orDefine is the mend of a name that is not defined.
func orDefine(mend, what string) string {
	if mend == "" {
		return "define " + what
	}
	return mend
}

// checkLayout checks that the number of versions fits the layout. (That it is not too great is a rule of the message.)
func (c *checker) checkLayout(v *twofoldv1.FeatureView) {
	at := spot{message: v, field: "history_versions"}
	if v.GetHistoryVersions() == 0 || c.refused[at] || c.refused[spot{message: v, field: "layout"}] {
		return
	}
	if historyVersions(v) == 0 {
		c.report(at, Error, fmt.Sprintf("feature view %q: history_versions is given, and layout LATEST keeps one row of each entity", v.GetName()),
			"write layout: HISTORY, or leave history_versions out")
	} else if v.GetHistoryVersions() == 1 {
		c.report(at, Error, fmt.Sprintf("feature view %q: one version is no history", v.GetName()), "write 2 to 1000, or leave history_versions and layout out")
	}
}

func (c *checker) checkTimeColumns(v *twofoldv1.FeatureView) {
	s := v.GetSource()
	if s.GetCreatedTimeColumn() != "" && s.GetCreatedTimeColumn() == s.GetEventTimeColumn() {
		c.report(spot{message: s, field: "created_time_column"}, Error,
			fmt.Sprintf("feature view %q: column %q is both the event time and the created time", v.GetName(), s.GetCreatedTimeColumn()),
			"name the column that says when the row was written, or leave created_time_column out")
	}
}

func (c *checker) checkKeyColumns(v *twofoldv1.FeatureView, e *twofoldv1.Entity) {
	s := v.GetSource()
	if s == nil {
		return
	}
	keys := make([]string, 0, len(e.GetKeys()))
	for _, k := range e.GetKeys() {
		keys = append(keys, k.GetName())
	}
	for _, name := range sortedKeys(s.GetKeyColumns()) {
		at := spot{message: s, field: "key_columns", key: name}
		if !slices.Contains(keys, name) {
			c.report(at, Error, fmt.Sprintf("feature view %q: entity %q has no key %q", v.GetName(), e.GetName(), name), orDefine(nearest(name, keys), "the key"))
		} else if s.GetKeyColumns()[name] == "" {
			c.report(at, Error, fmt.Sprintf("feature view %q: the column of key %q is empty", v.GetName(), name), "name the column, or leave the key out where its column has its name")
		}
	}
	users := map[string]string{}
	for _, name := range keys {
		column := keyColumn(s, name)
		at := spot{message: s, field: "key_columns", key: name}
		if other, ok := users[column]; ok && other != name {
			c.report(at, Error, fmt.Sprintf("feature view %q: keys %q and %q are both read from column %q", v.GetName(), other, name, column), "name another column for one of them in key_columns")
		}
		users[column] = name
		if column == s.GetEventTimeColumn() || column == s.GetCreatedTimeColumn() {
			c.report(at, Error, fmt.Sprintf("feature view %q: column %q is a time column and holds key %q too", v.GetName(), column, name), "name the column of the key in key_columns")
		}
		if column == s.GetDeletedColumn() {
			c.reportDeletedColumn(v, fmt.Sprintf("holds key %q", name))
		}
	}
}

func keyColumn(s *twofoldv1.Source, key string) string {
	if column := s.GetKeyColumns()[key]; column != "" {
		return column
	}
	return key
}

func sortedKeys[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// checkFeatureNames checks that no feature is named like what stands beside it in a result.
func (c *checker) checkFeatureNames(v *twofoldv1.FeatureView, e *twofoldv1.Entity) {
	taken := make(map[string]string, len(e.GetKeys())+1)
	taken[eventTimestampName] = "the event time in training data"
	for _, k := range e.GetKeys() {
		taken[k.GetName()] = fmt.Sprintf("a key of entity %q", e.GetName())
	}
	for _, f := range v.GetFeatures() {
		if owner, ok := taken[f.GetName()]; ok {
			c.report(spot{message: f, field: "name"}, Error,
				fmt.Sprintf("feature view %q: feature %q has the name of %s", v.GetName(), f.GetName(), owner),
				fmt.Sprintf("give it another name and say column: %s, or remove it", columnOf(f)))
		}
	}
}

func columnOf(f *twofoldv1.Feature) string {
	if f.GetColumn() != "" {
		return f.GetColumn()
	}
	return f.GetName()
}

func isOnline(f *twofoldv1.Feature) bool { return f.Online == nil || f.GetOnline() }

// checkServices checks that what services name is there, once.
func (c *checker) checkServices() {
	views := make(map[string]*twofoldv1.FeatureView, len(c.defs.GetFeatureViews()))
	names := make([]string, 0, len(views))
	features := map[string]map[string]bool{}
	for _, v := range c.defs.GetFeatureViews() {
		if _, ok := views[v.GetName()]; ok {
			continue
		}
		views[v.GetName()] = v
		names = append(names, v.GetName())
		features[v.GetName()] = make(map[string]bool, len(v.GetFeatures()))
		for _, f := range v.GetFeatures() {
			features[v.GetName()][f.GetName()] = true
		}
	}
	for _, s := range c.defs.GetFeatureServices() {
		seen := map[string]int{}
		for i, ref := range s.GetFeatures() {
			at := spot{message: s, field: "features", element: i + 1}
			view, name, ok := strings.Cut(ref, ":")
			if c.refused[at] || !ok {
				continue
			}
			v, ok := views[view]
			if !ok {
				if !c.incomplete {
					c.report(at, Error, fmt.Sprintf("feature service %q: there is no feature view %q", s.GetName(), view), orDefine(nearest(view, names), "the feature view"))
				}
				continue
			}
			if name != "*" && !features[view][name] {
				if !c.refused[spot{message: v, field: "features"}] {
					c.report(at, Error, fmt.Sprintf("feature service %q: feature view %q has no feature %q", s.GetName(), view, name), orDefine(nearest(name, featureNames(v)), "the feature"))
				}
				continue
			}
			c.checkRepeat(s, at, v, name, seen)
			if name != "*" {
				continue
			}
			if offline := offlineFeatures(v); len(offline) > 0 {
				c.report(at, Warning, fmt.Sprintf("feature service %q can be used for training only: %s includes %q, which is not online", s.GetName(), ref, offline[0]),
					"name the features one by one, or let this one be online too")
			}
		}
	}
}

// offlineFeatures returns the names of the view's features that are not online.
func offlineFeatures(v *twofoldv1.FeatureView) []string {
	var names []string
	for _, f := range v.GetFeatures() {
		if f.Online != nil && !f.GetOnline() {
			names = append(names, f.GetName())
		}
	}
	return names
}

// checkRepeat reports a feature that a service names again, by itself or through view:*.
func (c *checker) checkRepeat(s *twofoldv1.FeatureServiceDefinition, at spot, v *twofoldv1.FeatureView, name string, seen map[string]int) {
	names := []string{name}
	if name == "*" {
		names = featureNames(v)
	}
	reported := false
	for _, n := range names {
		full := v.GetName() + ":" + n
		first, ok := seen[full]
		switch {
		case !ok:
			seen[full] = at.element
		case first != at.element && !reported:
			reported = true
			c.report(at, Error, fmt.Sprintf("feature service %q names %q twice%s", s.GetName(), full, c.where(spot{message: s, field: "features", element: first})), "remove one of them")
		}
	}
}

func featureNames(v *twofoldv1.FeatureView) []string {
	names := make([]string, 0, len(v.GetFeatures()))
	for _, f := range v.GetFeatures() {
		names = append(names, f.GetName())
	}
	return names
}
