package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
)

// benchCase is one training set to make.
type benchCase struct {
	// name begins its figures' names in the result line.
	name string
	// views are the histories, one for each feature view; entities refer to the first.
	views    []table
	entities entityTable
	// rounds is how often it is measured.
	rounds int
	// s3 is whether twofold serve also reads it through S3.
	s3 bool
	// times is whether DuckDB is also measured with a condition on the features' times that its user wrote by hand.
	times bool
}

// featureRows is the number of feature rows of all views.
func (c benchCase) featureRows() int64 {
	n := int64(0)
	for _, t := range c.views {
		n += t.rows
	}
	return n
}

// title says what is joined: "5 × 2M × 1M, time order".
func (c benchCase) title() string {
	views, order, when := "", "time order", ""
	if len(c.views) > 1 {
		views = fmt.Sprintf("%d × ", len(c.views))
	}
	if c.views[0].shuffled {
		order = "shuffled"
	}
	if c.entities.recent {
		when = fmt.Sprintf(" of the last %d days", recentDays)
	}
	return fmt.Sprintf("%s%s × %s%s, %s", views, short(c.views[0].rows), short(c.entities.rows), when, order)
}

// short writes a number of rows as people do: 10M, 200k, 7.
func short(n int64) string {
	switch {
	case n >= million && n%million == 0:
		return fmt.Sprintf("%dM", n/million)
	case n >= 1000 && n%1000 == 0:
		return fmt.Sprintf("%dk", n/1000)
	default:
		return fmt.Sprint(n)
	}
}

const million = 1_000_000

// Names of cases that are no more than rows × entity rows.
const (
	shuffledCase  = "shuffled"
	prunedCase    = "pruned"
	fiveViewsCase = "five_views"
)

const (
	recordRows         = 10 * million
	recordEntities     = million
	prunedEntities     = 19_000
	fiveViews          = 5
	fiveViewsRows      = 2 * million
	largestRepeatedRow = recordRows // cases of more rows are measured once
)

var sizes = regexp.MustCompile(`^([0-9]{1,6})([kM]?)x([0-9]{1,6})([kM]?)$`)

// settings of cases.
type caseOptions struct {
	seed   uint64
	rounds int
	s3     bool
	// rows of the case "pruned".
	prunedRows int64
}

// newCase returns the case of a name: one of the names above, or feature rows × entity rows as "10Mx1M".
func newCase(name string, o caseOptions) (benchCase, error) {
	t := table{seed: o.seed, rows: recordRows}
	entities := int64(recordEntities)
	c := benchCase{name: name, rounds: o.rounds, s3: o.s3, views: []table{t}}
	switch m := sizes.FindStringSubmatch(name); {
	case name == shuffledCase:
		c.views[0].shuffled = true
	case name == prunedCase:
		c.views[0].rows, entities, c.times = o.prunedRows, prunedEntities, true
	case name == fiveViewsCase:
		c.views = nil
		for v := range uint64(fiveViews) {
			c.views = append(c.views, table{seed: o.seed + v, rows: fiveViewsRows})
		}
	case m != nil:
		c.views[0].rows, entities = count(m[1], m[2]), count(m[3], m[4])
		if c.views[0].rows > largestRepeatedRow {
			c.rounds, c.s3 = 1, false
		}
	default:
		return c, fmt.Errorf("no case %q; there are %s, %s, %s, and feature rows x entity rows as 10Mx1M or 2Mx200k", name, shuffledCase, prunedCase, fiveViewsCase)
	}
	if c.views[0].rows == 0 || entities == 0 {
		return c, fmt.Errorf("case %q has no rows", name)
	}
	c.entities = entityTable{rows: entities, of: c.views[0], recent: name == prunedCase}
	c.entities.of.shuffled = false // the same rows, in whatever order they stand
	return c, nil
}

// count reads a number that was matched by sizes.
func count(digits, unit string) int64 {
	n, _ := strconv.ParseInt(digits, 10, 64) // up to six digits
	switch unit {
	case "k":
		n *= 1000
	case "M":
		n *= million
	}
	return n
}

const entityFile = "entities.parquet"

// files returns what an engine reads: with patterns relative to root, as twofold's sources are, or below it.
func (c benchCase) files(root string, relative bool) source {
	s := source{entities: filepath.Join(root, c.entities.name(), entityFile)}
	for _, t := range c.views {
		pattern := filepath.Join(t.name(), "*.parquet")
		if !relative {
			pattern = filepath.Join(root, pattern)
		}
		s.views = append(s.views, pattern)
	}
	return s
}
