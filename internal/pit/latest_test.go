package pit_test

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// oracleLatest returns the rows that Latest should find, ascending, and what it should count in the whole table: for each entity it goes through the
// event times from the newest on, and takes the newest row of each.
func oracleLatest(t *table, o pit.LatestOptions) (winners []int, stats pit.LatestStats) {
	usableRows := map[string][]int{}
	for row, id := range identities(t.keys) {
		stats.RowsRead++
		reason, bad := oracleBad(t, row, o)
		switch {
		case isOthers(t, row, o):
			stats.RowsOthers++
		case bad:
			stats.RowsBad[reason]++
		case t.events.Int64s[row] > int64(o.AsOf):
			stats.RowsFuture++
		case !usable(t, row, int64(o.AsOf), o.MaxAge, false):
			stats.RowsOld++
		default:
			usableRows[id] = append(usableRows[id], row)
		}
	}
	for _, rows := range usableRows {
		for range max(1, o.Versions) {
			if len(rows) == 0 {
				break
			}
			best := rows[0]
			for _, row := range rows {
				if !newer(t, best, row) {
					best = row
				}
			}
			winners = append(winners, best)
			rows = slices.DeleteFunc(rows, func(row int) bool { return t.events.Int64s[row] == t.events.Int64s[best] })
		}
	}
	slices.Sort(winners)
	stats.Entities, stats.Winners = int64(len(usableRows)), int64(len(winners))
	return winners, stats
}

// isOthers reports whether LatestOptions.Mine says no to a row.
func isOthers(t *table, row int, o pit.LatestOptions) bool {
	if o.Mine == nil {
		return false
	}
	key, ok := feature.AppendKey([]byte{}, t.keys, row)
	if !ok {
		key = nil
	}
	return !o.Mine(key)
}

// randomShare says yes to some of all entities, and perhaps to rows with a null key; or it is nil.
func randomShare(r *rand.Rand) func(key []byte) bool {
	if r.IntN(2) == 0 {
		return nil
	}
	of, index, nulls := uint32(1+r.IntN(3)), uint32(r.IntN(3)), r.IntN(2) == 0
	return func(key []byte) bool {
		if key == nil {
			return nulls
		}
		return crc32.ChecksumIEEE(key)%of == index
	}
}

func TestLatestEqualsOracle(t *testing.T) {
	eachCase(t, 1000, func(t *testing.T, r *rand.Rand) {
		keys := []feature.Key{{Name: "a", Type: keyTypes[r.IntN(4)]}, {Name: "b", Type: keyTypes[r.IntN(4)]}, {Name: "c", Type: keyTypes[r.IntN(4)]}}
		view := newView("v", keys[:1+r.IntN(3)], randomFeatures(r, 3), r.IntN(2) == 0)
		maybeDeletes(r, view)
		moment := moments(r)
		rows := randomTable(r, view, r.IntN(80), 1+r.IntN(6), moment)
		spoilText(r, rows)
		options := pit.LatestOptions{AsOf: feature.AsOf(moment()), MaxAge: randomTTL(r), Versions: r.IntN(5), Workers: r.IntN(4), Mine: randomShare(r)}
		if latest := moment(); r.IntN(2) == 0 && latest >= int64(options.AsOf) {
			options.MaxEventTime = feature.EventTime(latest)
		}
		var bad badSink
		options.Bad = bad.add
		source := fragmented(r, rows)
		w, err := pit.Latest(t.Context(), view, source, options)
		if err != nil {
			t.Fatal(err)
		}
		stats := oracleLatestStats(source, view, options)
		if d := cmp.Diff(stats, w.Stats()); d != "" {
			t.Errorf("stats of %s (-want +got):\n%s", view.Name, d)
		}
		if d := cmp.Diff(oracleDue(source, options), w.Due()); d != "" {
			t.Errorf("due (-want +got):\n%s", d)
		}
		features := r.Perm(3)[:r.IntN(4)]
		all, _ := oracleLatest(rows, options)
		want := withValidText(rows, all, features)
		checkWinners(t, w, rows, want, 1+r.IntN(9), features)
		checkWinners(t, w, rows, want, 0, features)
		stats.Winners, stats.Entities = int64(len(want)), countEntities(rows, want)
		stats.RowsBad[pit.InvalidText] += int64(len(all) - len(want))
		if d := cmp.Diff(stats, w.Stats()); d != "" {
			t.Errorf("stats after the values were read (-want +got):\n%s", d)
		}
		bad.check(t, source, options, features, stats.RowsBad)
	})
}

// checkWinners reads the winners and compares them with the rows of the table that should win.
func checkWinners(t *testing.T, w *pit.Winners, rows *table, want []int, batchSize int, features []int) {
	t.Helper()
	expected := &table{keys: rows.keys, events: rows.events, features: pick(withoutDeleted(rows), features)}
	next := 0
	err := w.Batches(t.Context(), batchSize, features, func(b pit.WinnerBatch) error {
		if b.Len() == 0 || (batchSize > 0 && b.Len() > batchSize) {
			t.Fatalf("a batch of %d rows, at most %d asked for", b.Len(), batchSize)
		}
		got := &table{keys: b.Keys, events: b.EventTimes, features: b.Features}
		for i := range b.Len() {
			if next == len(want) {
				t.Fatalf("more than the %d winners expected", len(want))
			}
			if d := cmp.Diff(rowOf(expected, want[next]), rowOf(got, i)); d != "" {
				t.Fatalf("winner %d, row %d (-want +got):\n%s", next, want[next], d)
			}
			if deleted := b.Tombstones != nil && b.Tombstones[i]; deleted != rows.isDeleted(want[next]) {
				t.Fatalf("winner %d, row %d: is a tombstone: %v", next, want[next], deleted)
			}
			created := int64(feature.NoCreatedTime)
			if rows.created != nil {
				created = createdOf(rows, want[next])
			}
			if !b.CreatedTimes.IsPresent(i) || b.CreatedTimes.Int64s[i] != created {
				t.Fatalf("winner %d: created time %v, want %d", next, b.CreatedTimes.ValueAt(i), created)
			}
			next++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if next != len(want) {
		t.Fatalf("%d winners, want %d", next, len(want))
	}
}

// rowOf copies one row of keys, event time and features as columns, so that NaN compares by its bits.
func rowOf(t *table, row int) []*feature.Column { return t.slice(row, row+1).columns() }

// withoutDeleted returns the features of a table, with nulls for those of tombstones.
func withoutDeleted(t *table) []*feature.Column {
	if t.deleted == nil {
		return t.features
	}
	out := make([]*feature.Column, len(t.features))
	for i, c := range t.features {
		out[i] = feature.NewColumn(c.Type, c.Len())
		for row := range c.Len() {
			if t.isDeleted(row) {
				out[i].AppendMissing(feature.Null)
			} else {
				out[i].AppendFrom(c, row)
			}
		}
	}
	return out
}

// readByLatest returns the batches that Latest reads: of the fragments that may hold rows it does not leave out what is not due yet.
func (s *memorySource) readByLatest() []openedPart {
	opened := s.opened.Load()
	return opened.parts(feature.TimeRange{Min: opened.within.Min, Max: math.MaxInt64})
}

// oracleDue is when each file has something new to give: a row that was read and is not bad, or any row that was not read.
func oracleDue(s *memorySource, o pit.LatestOptions) map[string]feature.EventTime {
	due, read := map[string]feature.EventTime{}, map[string]bool{}
	for _, part := range s.readByLatest() {
		for row := range part.rows() {
			read[fmt.Sprint(part.fragment.file, part.fragment.firstRow+int64(part.from+row))] = true
			if _, bad := oracleBad(part.table, row, o); !bad && !isOthers(part.table, row, o) && part.events.Int64s[row] > int64(o.AsOf) {
				addDue(due, part.fragment.file, feature.EventTime(part.events.Int64s[row]))
			}
		}
	}
	for _, f := range s.fragments {
		for row := range f.rows() {
			if at := f.events.Int64s[row]; !read[fmt.Sprint(f.file, f.firstRow+int64(row))] && f.events.IsPresent(row) && at > int64(o.AsOf) {
				addDue(due, f.file, feature.EventTime(at))
			}
		}
	}
	return due
}

// oracleLatestStats is what Latest should count of a source.
func oracleLatestStats(s *memorySource, view *feature.View, o pit.LatestOptions) pit.LatestStats {
	_, whole := oracleLatest(s.whole(view), o)
	want := pit.LatestStats{Entities: whole.Entities, Winners: whole.Winners}
	for _, f := range s.fragments {
		want.RowsPruned += f.NumRows()
	}
	for _, t := range s.readByLatest() {
		_, part := oracleLatest(t.table, o)
		want.RowsRead += part.RowsRead
		want.RowsPruned -= part.RowsRead
		for reason, n := range part.RowsBad {
			want.RowsBad[reason] += n
		}
		want.RowsFuture += part.RowsFuture
		want.RowsOld += part.RowsOld
		want.RowsOthers += part.RowsOthers
	}
	return want
}

func TestLatestManyEntities(t *testing.T) {
	view := newView("v", []feature.Key{{Name: "id", Type: feature.String}, {Name: "n", Type: feature.Int32}},
		[]feature.Feature{{Name: "f", Type: feature.Int64}}, false)
	rows := newTable(view)
	for i := range 30000 {
		rows.keys[0].AppendString(strings.Repeat("k", i%3))
		rows.keys[1].AppendInt32(int32(i % 10000))
		rows.events.AppendInt64(int64(i))
		rows.features[0].AppendInt64(int64(i))
	}
	source := &memorySource{}
	for from := 0; from < rows.rows(); from += 3000 {
		source.fragments = append(source.fragments, &memoryFragment{table: rows.slice(from, from+3000), batch: 700, prunes: true})
	}
	o := pit.LatestOptions{AsOf: 25000, Workers: 4}
	w, err := pit.Latest(t.Context(), view, source, o)
	if err != nil {
		t.Fatal(err)
	}
	want, stats := oracleLatest(rows, o)
	if w.Stats().Entities != stats.Entities || stats.Entities < 20000 {
		t.Fatalf("%d entities, want %d", w.Stats().Entities, stats.Entities)
	}
	checkWinners(t, w, rows, want, 1000, []int{0})
}

// TestWinnersInBatches: what a fragment reads in batches is let go of, however they end.
func TestWinnersInBatches(t *testing.T) {
	for name, broken := range map[string]error{"all read": nil, "a batch fails": errBroken, "the caller gives up": errors.New("enough")} {
		t.Run(name, func(t *testing.T) {
			view, source := smallSource()
			for _, f := range source.fragments {
				f.batches = true
				if errors.Is(broken, errBroken) {
					f.inNext = broken
				}
			}
			w, err := pit.Latest(t.Context(), view, source, pit.LatestOptions{AsOf: 2})
			if err != nil {
				t.Fatal(err)
			}
			came := 0
			err = w.Batches(t.Context(), 1, []int{0}, func(b pit.WinnerBatch) error {
				came += b.Len()
				if source.fragments[0].open.Load()+source.fragments[1].open.Load()+source.fragments[2].open.Load() > 1 {
					t.Error("two fragments are open at once")
				}
				return broken
			})
			if !errors.Is(err, broken) || (broken == nil && came != 4) {
				t.Errorf("%d winners and error %v", came, err)
			}
			for i, f := range source.fragments {
				if n := f.open.Load(); n != 0 {
					t.Errorf("fragment %d is still open: %d", i, n)
				}
			}
		})
	}
}

func TestLatestYieldErrorEnds(t *testing.T) {
	view, source := smallSource()
	w, err := pit.Latest(t.Context(), view, source, pit.LatestOptions{AsOf: 100})
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	calls := 0
	err = w.Batches(t.Context(), 1, []int{0}, func(pit.WinnerBatch) error { calls++; return stop })
	if err != stop || calls != 1 {
		t.Fatalf("error %v after %d calls", err, calls)
	}
}

func TestLatestRefusesNegativeNumbers(t *testing.T) {
	view, source := smallSource()
	_, err := pit.Latest(t.Context(), view, source, pit.LatestOptions{MaxAge: -1})
	if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), `feature view "small"`) {
		t.Fatalf("got %v", err)
	}
	if _, err = pit.Latest(t.Context(), view, source, pit.LatestOptions{AsOf: 3, MaxEventTime: 2}); fault.KindOf(err) != fault.Invalid ||
		!strings.Contains(err.Error(), "is before the moment asked about") {
		t.Fatalf("got %v", err)
	}
	if _, err = pit.Latest(t.Context(), view, source, pit.LatestOptions{Versions: -1}); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "versions") {
		t.Fatalf("got %v", err)
	}
}
