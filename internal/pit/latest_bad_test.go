package pit_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// badSink keeps what is told of bad rows.
type badSink struct {
	mu   sync.Mutex
	rows []string
}

func (s *badSink) add(bad pit.BadRows) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	file, first := bad.Fragment.(feature.FileFragment).Origin()
	for _, row := range bad.Rows {
		s.rows = append(s.rows, badRow(file, first+row, bad.Reason))
	}
	return nil
}

func badRow(file string, row int64, reason pit.BadReason) string {
	return fmt.Sprintf("%s, row %d: %v", file, row, reason)
}

// String lists the rows in the order of their files.
func (s *badSink) String() string {
	slices.Sort(s.rows)
	var b strings.Builder
	for _, row := range s.rows {
		fmt.Fprintln(&b, row)
	}
	return b.String()
}

// check compares what was told with the rows of the source that cannot be carried: those that were read, and of winners with an invalid text as many as there are.
func (s *badSink) check(t *testing.T, source *memorySource, o pit.LatestOptions, features []int, counts pit.BadCounts) {
	t.Helper()
	want, winners := map[string]bool{}, map[string]bool{}
	for _, part := range source.readByLatest() {
		for row := range part.rows() {
			at := part.fragment.firstRow + int64(part.from+row)
			if reason, bad := oracleBad(part.table, row, o); bad {
				want[badRow(part.fragment.file, at, reason)] = true
			} else if len(withValidText(part.table, []int{row}, features)) == 0 {
				winners[badRow(part.fragment.file, at, pit.InvalidText)] = true
			}
		}
	}
	told := map[string]bool{}
	for _, row := range s.rows {
		if told[row] {
			t.Errorf("told twice of %s", row)
		}
		told[row] = true
		if !want[row] && !winners[row] {
			t.Errorf("told of %s, which is not bad", row)
		}
	}
	for row := range want {
		if !told[row] {
			t.Errorf("not told of %s", row)
		}
	}
	if len(told) != int(counts.Total()) {
		t.Errorf("told of %d rows, counted %v", len(told), counts)
	}
}

// oracleBad is why Latest cannot use a row, whatever the other rows are.
func oracleBad(t *table, row int, o pit.LatestOptions) (pit.BadReason, bool) {
	switch {
	case isOthers(t, row, o):
		return 0, false
	case identity(t.keys, row) == "":
		return pit.NullKey, true
	case !t.events.IsPresent(row):
		return pit.NullEventTime, true
	case slices.ContainsFunc(t.keys, func(c *feature.Column) bool { return !validText(c, row) }):
		return pit.InvalidText, true
	case o.MaxEventTime != 0 && t.events.Int64s[row] > int64(o.MaxEventTime):
		return pit.FutureEventTime, true
	}
	return 0, false
}

func validText(c *feature.Column, row int) bool {
	switch v := c.ValueAt(row).(type) {
	case string:
		return utf8.ValidString(v)
	case []any:
		return c.Type != feature.StringList || !slices.ContainsFunc(v, func(e any) bool { return !utf8.ValidString(e.(string)) })
	}
	return true
}

// withValidText returns the rows of which the given features are UTF-8; those of tombstones are not looked at.
func withValidText(t *table, rows, features []int) (valid []int) {
	for _, row := range rows {
		if t.isDeleted(row) || !slices.ContainsFunc(features, func(f int) bool { return !validText(t.features[f], row) }) {
			valid = append(valid, row)
		}
	}
	return valid
}

func countEntities(t *table, rows []int) int64 {
	all, distinct := identities(t.keys), map[string]bool{}
	for _, row := range rows {
		distinct[all[row]] = true
	}
	return int64(len(distinct))
}

// spoilText makes some of the texts of a table invalid, or none.
func spoilText(r *rand.Rand, t *table) {
	spoil := func(columns []*feature.Column) {
		for i, c := range columns {
			switch {
			case r.IntN(2) == 0:
			case c.Type == feature.String:
				columns[i] = spoiled(r, c)
			case c.Type == feature.StringList:
				c.Elem = spoiled(r, c.Elem)
			}
		}
	}
	spoil(t.keys)
	spoil(t.features)
}

func spoiled(r *rand.Rand, c *feature.Column) *feature.Column {
	d := feature.NewColumn(c.Type, c.Len())
	for i := range c.Len() {
		text := string(c.BytesAt(i))
		if r.IntN(6) == 0 && (c.Status == nil || c.IsPresent(i)) {
			text += []string{"\xff", "\xc3", "\xa9"}[r.IntN(3)]
		}
		d.AppendString(text)
	}
	d.Status = c.Status
	return d
}

// TestBadRowsEndLatest: where nobody takes the bad rows, they are not passed over.
func TestBadRowsEndLatest(t *testing.T) {
	view := newView("v", []feature.Key{{Name: "id", Type: feature.String}}, []feature.Feature{{Name: "f", Type: feature.String}}, false)
	full := errors.New("the disk is full")
	for reason, add := range map[pit.BadReason]func(rows *table){
		pit.NullKey:         func(rows *table) { rows.keys[0].AppendMissing(feature.Null); rows.events.AppendInt64(1) },
		pit.NullEventTime:   func(rows *table) { rows.keys[0].AppendString("a"); rows.events.AppendMissing(feature.Null) },
		pit.InvalidText:     func(rows *table) { rows.keys[0].AppendString("\xff"); rows.events.AppendInt64(1) },
		pit.FutureEventTime: func(rows *table) { rows.keys[0].AppendString("a"); rows.events.AppendInt64(11) },
	} {
		rows := newTable(view)
		add(rows)
		rows.keys[0].AppendString("good")
		rows.events.AppendInt64(1)
		rows.features[0].AppendString("x")
		rows.features[0].AppendString("x")
		source := &memorySource{fragments: []*memoryFragment{{table: rows, batch: 8}}}
		o := pit.LatestOptions{AsOf: 5, MaxEventTime: 10, Bad: func(bad pit.BadRows) error {
			if bad.Reason != reason {
				t.Errorf("%v is told as %v", reason, bad.Reason)
			}
			return full
		}}
		if _, err := pit.Latest(t.Context(), view, source, o); !errors.Is(err, full) || !strings.Contains(err.Error(), `feature view "v"`) {
			t.Errorf("%v: %v", reason, err)
		}
	}
}

// TestInvalidWinners: a winner with an invalid text is told when its values are read, once, and not before that was possible.
func TestInvalidWinners(t *testing.T) {
	view := newView("v", []feature.Key{{Name: "id", Type: feature.Int64}}, []feature.Feature{{Name: "f", Type: feature.String}, {Name: "g", Type: feature.Int64}}, false)
	rows := newTable(view)
	for id, text := range []string{"a", "\xff", "b", "\xff"} {
		for event := range int64(2) { // of each entity the second row wins
			rows.keys[0].AppendInt64(int64(id))
			rows.events.AppendInt64(event)
			rows.features[0].AppendString(text)
			rows.features[1].AppendInt64(event)
		}
	}
	source := &memorySource{fragments: []*memoryFragment{{table: rows, batch: 3, file: "file 1"}}}
	var bad badSink
	full := errors.New("the disk is full")
	isFull := true
	w, err := pit.Latest(t.Context(), view, source, pit.LatestOptions{AsOf: 5, Bad: func(rows pit.BadRows) error {
		if isFull {
			return full
		}
		return bad.add(rows)
	}})
	if err != nil {
		t.Fatal(err)
	}
	ignore := func(pit.WinnerBatch) error { return nil }
	if err := w.Batches(t.Context(), 2, []int{1}, ignore); err != nil || w.Stats().Winners != 4 {
		t.Fatalf("without the text: %v, %+v", err, w.Stats())
	}
	if err := w.Batches(t.Context(), 2, []int{0}, ignore); !errors.Is(err, full) || w.Stats().Winners != 4 {
		t.Fatalf("untold: %v, %+v", err, w.Stats())
	}
	isFull = false
	for range 2 {
		checkWinners(t, w, rows, []int{1, 5}, 2, []int{0, 1})
		want := pit.LatestStats{RowsRead: 8, Entities: 2, Winners: 2}
		want.RowsBad[pit.InvalidText] = 2
		if d := cmp.Diff(want, w.Stats()); d != "" {
			t.Errorf("stats (-want +got):\n%s", d)
		}
		if got := bad.String(); got != "file 1, row 3: invalid_text\nfile 1, row 7: invalid_text\n" {
			t.Errorf("told of:\n%s", got)
		}
	}
}

// TestNothingButBadRows: there is nothing to carry, and all is told.
func TestNothingButBadRows(t *testing.T) {
	view, _ := smallSource()
	for _, n := range []int{0, 1, 10_000} {
		rows := newTable(view)
		for range n {
			rows.keys[0].AppendMissing(feature.Null)
			rows.events.AppendMissing(feature.Null)
			rows.features[0].AppendInt64(1)
		}
		var bad badSink
		o := pit.LatestOptions{AsOf: 5, Bad: bad.add}
		w, err := pit.Latest(t.Context(), view, &memorySource{fragments: []*memoryFragment{{table: rows, batch: 8192}}}, o)
		if err != nil {
			t.Fatal(err)
		}
		checkWinners(t, w, rows, nil, 10, []int{0})
		// The source leaves a fragment without any event time unread.
		if s := w.Stats(); len(bad.rows) != int(s.RowsBad[pit.NullKey]) || s.RowsBad.Total()+s.RowsPruned != int64(n) {
			t.Errorf("%d rows: told of %d, %+v", n, len(bad.rows), s)
		}
	}
}
