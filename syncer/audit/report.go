package audit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// Class is how an expected row and what is stored go together.
type Class string

const (
	// Matching says that the row is stored as it should be.
	Matching Class = "matching"
	// Missing says that nothing is stored where a row should be.
	Missing Class = "missing"
	// Extra says that a row is stored where the files have none that would be kept: it was pushed, or its file is gone.
	Extra Class = "extra"
	// Stale says that an older row is stored, by event time, then created time.
	Stale Class = "stale"
	// Newer says that a newer row is stored: it was pushed, or its file is gone.
	Newer Class = "newer"
	// Different says that the stored row has the same times and another value, or is a deletion and should be none, or the reverse.
	Different Class = "different"
	// WrongType says that a feature was stored as a type that cannot be read as the one that it is defined with.
	WrongType Class = "wrong_type"
	// Unreadable says that the stored row is damaged, or was written under a schema that the store does not have.
	Unreadable Class = "unreadable"
)

// classes are all but Matching, the worst first.
var classes = []Class{Missing, Stale, Different, WrongType, Unreadable, Extra, Newer}

// Report is what an audit has found. A row is the newest one of an entity, or, of a view that keeps versions, one version. Its counts add up:
//
//	Expected + Unexpected = the sum of Counts + Expired + Superseded + Undecided
type Report struct {
	View string `json:"feature_view"`
	// Layout is LATEST or HISTORY.
	Layout string `json:"layout"`
	// Generation is the generation that was audited; 0 where the view has none.
	Generation uint64 `json:"generation,omitempty"`
	// AsOf is the moment as of which the files were asked, RFC 3339.
	AsOf string `json:"as_of"`
	// Files is the number of files that say what is right; RowsRead of the feature rows in them whose keys were read, and RowsBad of those among them that
	// no sync carries (null or future times, null keys, text that is not UTF-8).
	Files    int   `json:"files"`
	RowsRead int64 `json:"rows_read"`
	RowsBad  int64 `json:"rows_bad"`
	// FilesChanged says that the files changed, or rows came to their time, while they were compared, each time that it was tried: some of what differs may come
	// of that.
	FilesChanged bool `json:"files_changed,omitempty"`
	// Sample, SampleFrom and Seed say which entities were compared.
	Sample     float64 `json:"sample"`
	SampleFrom float64 `json:"sample_from,omitempty"`
	Seed       uint64  `json:"seed"`
	// CanBePushed says that rows may be pushed to the view, so that rows which the files do not have are no faults by themselves.
	CanBePushed bool `json:"can_be_pushed"`
	// Expected is the number of rows that the files say the store should hold; Unexpected that of stored rows beside them.
	Expected   int64 `json:"expected"`
	Unexpected int64 `json:"unexpected"`
	// Counts are these rows by class.
	Counts Counts `json:"counts"`
	// Expired are expected rows that the store may have dropped by now, or very soon, and does not hold.
	Expired int64 `json:"expired"`
	// Superseded are versions that the store does not hold because it holds as many newer ones as it keeps.
	Superseded int64 `json:"superseded"`
	// Undecided are rows that no sync carries for text that is not UTF-8: what was stored before stays, and nothing is right or wrong.
	Undecided int64 `json:"undecided"`
	// Examples are some findings of each class, the worst class first.
	Examples []Finding `json:"examples"`
	// ElapsedSeconds is how long the audit took.
	ElapsedSeconds float64 `json:"elapsed_seconds"`

	most int // of Examples, of each class
}

// Counts are numbers of rows by class.
type Counts struct {
	Matching   int64 `json:"matching"`
	Missing    int64 `json:"missing"`
	Extra      int64 `json:"extra"`
	Stale      int64 `json:"stale"`
	Newer      int64 `json:"newer"`
	Different  int64 `json:"different"`
	WrongType  int64 `json:"wrong_type"`
	Unreadable int64 `json:"unreadable"`
}

// Of is the number of rows of a class.
func (c *Counts) Of(class Class) int64 { return *c.of(class) }

func (c *Counts) of(class Class) *int64 {
	switch class {
	case Matching:
		return &c.Matching
	case Missing:
		return &c.Missing
	case Extra:
		return &c.Extra
	case Stale:
		return &c.Stale
	case Newer:
		return &c.Newer
	case Different:
		return &c.Different
	case WrongType:
		return &c.WrongType
	default:
		return &c.Unreadable
	}
}

// Finding is one row that is not as it should be.
type Finding struct {
	Class Class `json:"class"`
	// Entity is its keys, for example user_id=7; where they cannot be told, what is stored in their place, in quotes.
	Entity string `json:"entity"`
	// Expected and Stored are the two rows; nil where there is none, or where it cannot be read.
	Expected *Row `json:"expected,omitempty"`
	Stored   *Row `json:"stored,omitempty"`
	// Features are those that differ, where Class is Different.
	Features []Difference `json:"features,omitempty"`
	// Reason says why the stored row cannot be read.
	Reason string `json:"reason,omitempty"`
}

// Row is what a row says about itself. Times are RFC 3339; CreatedTime is empty where it has none.
type Row struct {
	EventTime   string `json:"event_time"`
	CreatedTime string `json:"created_time,omitempty"`
	// Deleted says that it is a deletion of its entity.
	Deleted bool `json:"deleted,omitempty"`
}

// Difference is a feature of which two rows have different values, as text: strings are in quotes, null and not_found are not.
type Difference struct {
	Feature  string `json:"feature"`
	Expected string `json:"expected"`
	Stored   string `json:"stored"`
}

// String says in one line what is wrong.
func (f Finding) String() string {
	text := f.Entity + ": "
	switch {
	case f.Reason != "":
		return text + f.Reason
	case f.Expected == nil:
		return text + f.Stored.String() + " is stored, and none is expected"
	case f.Stored == nil:
		return text + f.Expected.String() + " is not stored"
	case len(f.Features) == 0:
		return text + f.Stored.String() + " is stored in place of " + f.Expected.String()
	}
	var features []string
	for _, d := range f.Features {
		features = append(features, fmt.Sprintf("%s is %s and should be %s", d.Feature, d.Stored, d.Expected))
	}
	return text + f.Expected.String() + ": " + strings.Join(features, ", ")
}

func (r *Row) String() string {
	text := "the row of "
	if r.Deleted {
		text = "the deletion of "
	}
	text += r.EventTime
	if r.CreatedTime != "" {
		text += ", created " + r.CreatedTime
	}
	return text
}

// Faults is the number of rows that no right store would hold like that: all that differ, but for extra and newer rows of a view that can be pushed to.
func (r *Report) Faults() int64 {
	faults := r.Differences()
	if r.CanBePushed {
		faults -= r.Counts.Extra + r.Counts.Newer
	}
	return faults
}

// Differences is the number of rows that differ in any way.
func (r *Report) Differences() (rows int64) {
	for _, class := range classes {
		rows += r.Counts.Of(class)
	}
	return rows
}

// Err is nil where there are no faults; else an error of kind fault.Precondition that counts them and gives an example. What has been audited before it goes live may go
// live where it is nil.
func (r *Report) Err() error {
	if r.Faults() == 0 {
		return nil
	}
	var counts []string
	for _, class := range classes {
		if n := r.Counts.Of(class); n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, strings.ReplaceAll(string(class), "_", " ")))
		}
	}
	example := ""
	if len(r.Examples) > 0 {
		example = "; for example " + r.Examples[0].String()
	}
	return fault.New(fault.Precondition, "feature view %q: of %d rows that the files say should be online, and %d others that are, %s%s", r.View, r.Expected, r.Unexpected, strings.Join(counts, ", "), example)
}

func newReport(a *auditor) *Report {
	r := &Report{
		View: a.View.Name, Layout: "LATEST", Generation: a.Generation, AsOf: feature.TimeText(int64(a.AsOf)), Sample: a.Sample, SampleFrom: a.SampleFrom, Seed: a.Seed,
		CanBePushed: a.Generation == 0 && a.View.Sync.Mode != feature.Snapshot, Examples: []Finding{}, most: a.Examples,
	}
	if a.View.HistoryVersions > 0 {
		r.Layout = "HISTORY"
	}
	return r
}

func (r *Report) addRead(files int, stats pit.LatestStats) {
	r.Files, r.RowsRead, r.RowsBad = files, stats.RowsRead, stats.RowsBad.Total()
}

// add counts a finding, and keeps it where there is room. describe is called where it is kept.
func (r *Report) add(class Class, describe func() Finding) {
	n := r.Counts.of(class)
	if *n++; *n <= int64(r.most) {
		finding := describe()
		finding.Class = class
		r.Examples = append(r.Examples, finding)
	}
}

// finish puts the examples in order.
func (r *Report) finish(expected int64) {
	r.Expected = expected
	slices.SortStableFunc(r.Examples, func(a, b Finding) int { return slices.Index(classes, a.Class) - slices.Index(classes, b.Class) })
}

// entityText is an entity's keys, in the words of its definition.
func entityText(view *feature.View, keys []*feature.Column, row int) string {
	parts := make([]string, len(keys))
	for i, key := range view.Entity.Keys {
		parts[i] = key.Name + "=" + valueText(keys[i], row)
	}
	return strings.Join(parts, ", ")
}

// mostText is the most bytes of a value that a report shows.
const mostText = 200

// valueText is a value, or why there is none.
func valueText(c *feature.Column, row int) string {
	if !c.IsPresent(row) {
		return strings.ToLower(c.Status[row].String())
	}
	text, more := c.TextAt(row), ""
	if len(text) > mostText {
		end := mostText
		for !utf8.RuneStart(text[end]) {
			end--
		}
		text, more = text[:end], "…"
	}
	if c.Type == feature.String {
		return strconv.Quote(text) + more
	}
	return text + more
}
