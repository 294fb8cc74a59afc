package definition

import (
	"fmt"
	"slices"
	"strings"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

// CheckAgainst reports what these definitions would break if they took the place of others, which what names ("the published definitions"),
// sorted by place. A feature of another type is an error, because the rows that are stored hold the old one, unless they can be read as
// the new; every other breaking change of Diff is a warning.
func (s *Set) CheckAgainst(old *Set, what string) []Problem {
	c := &checker{places: s.places, refused: map[spot]bool{}}
	before := map[string]*twofoldv1.FeatureView{}
	for _, v := range old.Proto.GetFeatureViews() {
		before[v.GetName()] = v
	}
	for _, v := range s.Proto.GetFeatureViews() {
		c.checkTypes(v, before[v.GetName()], what)
	}
	for _, change := range Diff(old, s) {
		if change.Breaking && !strings.HasPrefix(change.What, typeChange) {
			c.problems = append(c.problems, Problem{
				Severity: Warning, Message: fmt.Sprintf("compared with %s: %s", what, change), Mend: "give what is new a name of its own, unless this is meant",
			})
		}
	}
	slices.SortStableFunc(c.problems, compareProblems)
	return c.problems
}

// typeChange begins what Diff says of a feature whose type has changed.
const typeChange = "type "

// checkTypes compares the types of one view's features; before is nil where the view is new.
func (c *checker) checkTypes(v, before *twofoldv1.FeatureView, what string) {
	types := map[string]feature.Type{}
	for _, f := range before.GetFeatures() {
		types[f.GetName()] = feature.Type(f.GetType())
	}
	for _, f := range v.GetFeatures() {
		was, ok := types[f.GetName()]
		is := feature.Type(f.GetType())
		if !ok || was == is {
			continue
		}
		at := spot{message: f, field: "type"}
		message := fmt.Sprintf("feature view %q: feature %q is %v here and %v in %s", v.GetName(), f.GetName(), is, was, what)
		if storedrow.CanRead(was, is) {
			c.report(at, Warning, message+"; rows stored as the one can be read as the other", "make sure that the models that use it take the new type")
			continue
		}
		c.report(at, Error, message+", and stored rows cannot be read as another type",
			fmt.Sprintf("keep the type, or give the changed feature a new name, for example %s_v2 with column: %s", f.GetName(), columnOf(f)))
	}
}
