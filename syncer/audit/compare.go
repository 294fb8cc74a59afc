package audit

import (
	"context"
	"math"
	"slices"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/pit"
)

// lookupRows is how many rows the store is asked for at a time.
const lookupRows = 1000

// pairs are some expected rows, each with what is stored in its place. Element i of every column and slice belongs to pair i.
type pairs struct {
	keys, features []*feature.Column
	events         []feature.EventTime
	created        []feature.CreatedTime
	tombstones     []bool
	stored         *online.Found
}

// compare looks up what is stored of the winners, and gives the pairs to see, some at a time.
func (a *auditor) compare(ctx context.Context, see func(context.Context, *pairs) error) error {
	progress := Progress{Step: "comparing", Total: a.winners.Stats().Winners}
	return a.winners.Batches(ctx, pit.GatherRows(a.View), a.View.OnlineFeatures(), func(batch pit.WinnerBatch) error {
		rows := make([]int, batch.Len())
		for row := range rows {
			rows[row] = row
		}
		for some := range slices.Chunk(rows, lookupRows) {
			p := newPairs(batch, some)
			var err error
			if p.stored, err = a.lookup(ctx, p.keys, p.events); err != nil {
				return err
			}
			if err := see(ctx, p); err != nil {
				return err
			}
			progress.Done += int64(len(some))
			a.Progress(progress)
		}
		return nil
	})
}

// newPairs takes some rows out of a batch.
func newPairs(batch pit.WinnerBatch, rows []int) *pairs {
	p := &pairs{keys: take(batch.Keys, rows), features: take(batch.Features, rows)}
	for _, row := range rows {
		p.events = append(p.events, feature.EventTime(batch.EventTimes.Int64s[row]))
		p.created = append(p.created, feature.CreatedTime(batch.CreatedTimes.Int64s[row]))
		p.tombstones = append(p.tombstones, batch.IsTombstone(row))
	}
	return p
}

func take(columns []*feature.Column, rows []int) []*feature.Column {
	out := make([]*feature.Column, len(columns))
	for i, c := range columns {
		out[i] = feature.NewColumn(c.Type, len(rows))
		out[i].Take(c, rows, feature.Null)
	}
	return out
}

// lookup asks for what is stored of entities, of versions those as of the event times.
func (a *auditor) lookup(ctx context.Context, keys []*feature.Column, events []feature.EventTime) (*online.Found, error) {
	asOf := make([]feature.AsOf, len(events))
	for i, event := range events {
		asOf[i] = feature.AsOf(event)
	}
	return a.Online.Lookup(ctx, a.View, a.Generation, keys, asOf)
}

func (a *auditor) keepsVersions() bool { return a.View.HistoryVersions > 0 }

// classOf says how a pair goes together.
func (a *auditor) classOf(p *pairs, i int) Class {
	s := p.stored
	storedEvent := feature.EventTime(s.EventTimes.Int64s[i])
	switch {
	case !s.Stored[i] && s.Errs[i] == nil, a.keepsVersions() && s.EventTimes.IsPresent(i) && storedEvent != p.events[i]:
		return Missing
	case s.Errs[i] != nil:
		return classOfErr(s.Errs[i])
	}
	storedCreated := createdTime(s, i)
	switch {
	case feature.Newer(p.events[i], p.created[i], storedEvent, storedCreated):
		return Stale
	case feature.Newer(storedEvent, storedCreated, p.events[i], p.created[i]):
		return Newer
	case s.Tombstones[i] != p.tombstones[i]:
		return Different
	case p.tombstones[i]:
		return Matching
	}
	for k, c := range p.features {
		if !sameValue(c, s.Features[k], i) {
			return Different
		}
	}
	return Matching
}

// classOfErr is the class of a stored row that cannot be read.
func classOfErr(err error) Class {
	if fault.KindOf(err) == fault.Precondition {
		return WrongType
	}
	return Unreadable
}

func createdTime(s *online.Found, i int) feature.CreatedTime {
	if !s.CreatedTimes.IsPresent(i) {
		return feature.NoCreatedTime
	}
	return feature.CreatedTime(s.CreatedTimes.Int64s[i])
}

// sameValue reports whether a value is stored as it should be. What the files do not have is stored as null.
func sameValue(expected, stored *feature.Column, i int) bool {
	if !expected.IsPresent(i) {
		return stored.Status[i] == feature.Null
	}
	return expected.EqualAt(i, stored, i)
}

// firstSight counts the pairs that match, and takes note of the others.
func (a *auditor) firstSight(_ context.Context, p *pairs) error {
	var key []byte
	for i := range p.events {
		key, _ = feature.AppendKey(key[:0], p.keys, i)
		a.index.read(key)
		a.compared++
		class := a.classOf(p, i)
		if class == Matching {
			a.report.Counts.Matching++
			continue
		}
		a.suspects[a.index.row(key, p.events[i])] = true
		if class == Unreadable || class == WrongType {
			a.unreadable[a.index.entity(key)] = true
		}
	}
	return nil
}

// judge looks once more at all that was found, and counts what still differs.
func (a *auditor) judge(ctx context.Context, strangers []stranger) error {
	moved, err := a.moved(ctx)
	if err != nil {
		return err
	}
	if moved && !a.last {
		return errMoved
	}
	a.report.FilesChanged = moved
	if len(a.suspects) > 0 {
		a.winners.Keep(func(key []byte, event feature.EventTime) bool { return a.suspects[a.index.row(key, event)] })
		if err := a.compare(ctx, a.settle); err != nil {
			return err
		}
	}
	return a.settleStrangers(ctx, strangers)
}

// settle counts pairs for good.
func (a *auditor) settle(ctx context.Context, p *pairs) error {
	superseded, err := a.superseded(ctx, p)
	if err != nil {
		return err
	}
	for i := range p.events {
		class := a.classOf(p, i)
		switch {
		case class == Matching:
			a.report.Counts.Matching++
		case a.mayBeDropped(p, i, class):
			a.report.Expired++
		case superseded[i]:
			a.report.Superseded++
		default:
			a.report.add(class, func() Finding { return a.describe(p, i, class) })
		}
	}
	return nil
}

// mayBeDropped reports whether a right store need not hold an expected row, because it may have dropped it for its age, or not taken it. Of versions it is so only with
// those that are older than all that are stored: they are dropped together.
func (a *auditor) mayBeDropped(p *pairs, i int, class Class) bool {
	if !a.isLapsed(p.events[i]) {
		return false
	}
	if a.keepsVersions() {
		return class == Missing && !p.stored.Stored[i] && p.stored.Errs[i] == nil
	}
	return class == Missing || class == Stale || class == Different
}

// superseded says of which pairs nothing is stored because so many newer versions are as the view keeps.
func (a *auditor) superseded(ctx context.Context, p *pairs) ([]bool, error) {
	superseded := make([]bool, len(p.events))
	if !a.keepsVersions() {
		return superseded, nil
	}
	// left are the missing ones, of each of which another version is looked at in each round, from the newest on.
	var left []int
	for i := range p.events {
		if a.classOf(p, i) == Missing {
			left = append(left, i)
		}
	}
	asOf := slices.Repeat([]feature.EventTime{math.MaxInt64}, len(p.events))
	for found := 1; len(left) > 0; found++ {
		events := make([]feature.EventTime, len(left))
		for k, i := range left {
			events[k] = asOf[i]
		}
		stored, err := a.lookup(ctx, take(p.keys, left), events)
		if err != nil {
			return nil, err
		}
		var next []int
		for k, i := range left {
			event := feature.EventTime(stored.EventTimes.Int64s[k])
			if !stored.EventTimes.IsPresent(k) || event <= p.events[i] {
				continue
			}
			if asOf[i] = event - 1; found == a.View.HistoryVersions {
				superseded[i] = true
			} else {
				next = append(next, i)
			}
		}
		left = next
	}
	return superseded, nil
}

// describe says what is wrong with a pair.
func (a *auditor) describe(p *pairs, i int, class Class) Finding {
	finding := Finding{Entity: entityText(a.View, p.keys, i), Expected: rowOf(p.events[i], p.created[i], p.tombstones[i])}
	if class == Missing {
		return finding
	}
	if err := p.stored.Errs[i]; err != nil {
		finding.Reason = err.Error()
		return finding
	}
	finding.Stored = storedRow(p.stored, i)
	if class != Different || p.tombstones[i] != p.stored.Tombstones[i] {
		return finding
	}
	for k, feature := range a.View.OnlineFeatures() {
		if expected, stored := p.features[k], p.stored.Features[k]; !sameValue(expected, stored, i) {
			finding.Features = append(finding.Features, Difference{a.View.Features[feature].Name, valueText(expected, i), valueText(stored, i)})
		}
	}
	return finding
}

func storedRow(s *online.Found, i int) *Row {
	return rowOf(feature.EventTime(s.EventTimes.Int64s[i]), createdTime(s, i), s.Tombstones[i])
}

func rowOf(event feature.EventTime, created feature.CreatedTime, deleted bool) *Row {
	r := &Row{EventTime: feature.TimeText(int64(event)), Deleted: deleted}
	if created != feature.NoCreatedTime {
		r.CreatedTime = feature.TimeText(int64(created))
	}
	return r
}
